//! Tests of known bugs, seen to fail: a test that passes whatever the code does shows nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use amaters_cluster_core::planted::{Bug, with_bug};

/// Runs a test with a bug in every node that it makes: it must fail, and say what `says` says. The same test passes without the bug, or it would fail
/// where it stands.
///
/// # Panics
/// If the test passes, or fails for another reason.
pub fn seen_to_fail(bug: Bug, says: &str, test: fn()) {
    let Err(failure) = catch_unwind(AssertUnwindSafe(|| with_bug(bug, test))) else { panic!("with {bug:?} put in, nothing is found") };
    let text = failure.downcast_ref::<String>().map(String::as_str).or_else(|| failure.downcast_ref::<&str>().copied());
    let text = text.unwrap_or_default();
    assert!(text.contains(says), "with {bug:?} put in, the test should say {says:?}, and says: {text}");
}
