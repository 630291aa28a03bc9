//! Builds the consensus component and leaves it in `OUT_DIR`, where the library embeds it.
//!
//! - `UKEHI_COMPONENT=FILE` embeds that component instead.
//! - `UKEHI_SKIP_COMPONENT=1` embeds none, for `cargo check` and the like: such a host reports it when it is asked to run one.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use wit_component::ComponentEncoder;

#[path = "../xtask/src/guest.rs"]
mod guest;

fn main() -> Result<(), Box<dyn Error>> {
    for variable in ["UKEHI_COMPONENT", "UKEHI_SKIP_COMPONENT"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out_dir.join("ukehi-raft.wasm"), component(&out_dir)?)?;
    Ok(())
}

fn component(out_dir: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    if let Some(file) = env::var_os("UKEHI_COMPONENT") {
        let file = PathBuf::from(file);
        println!("cargo::rerun-if-changed={}", file.display());
        return fs::read(&file).map_err(|error| format!("UKEHI_COMPONENT names {}, which can't be read: {error}", file.display()).into());
    }
    if env::var_os("UKEHI_SKIP_COMPONENT").is_some_and(|skip| skip == "1") {
        return Ok(Vec::new());
    }
    let workspace = fs::canonicalize("..")?;
    for path in ["core/src", "core/Cargo.toml", "wit", "Cargo.toml", "Cargo.lock", "xtask/src/guest.rs", "host/build.rs"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    let toolchain = guest::Toolchain::find().ok_or(guest::HOW_TO_SET_UP)?;
    let module = toolchain.compile_core(&workspace, &guest_dir(out_dir))?;
    Ok(ComponentEncoder::default().module(&fs::read(module)?)?.validate(true).encode()?)
}

/// One folder for all profiles of the host: the guest is the same in each, and with it a standard library that takes a minute.
fn guest_dir(out_dir: &Path) -> PathBuf {
    let target_dir = out_dir.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).unwrap_or(out_dir);
    target_dir.join("guest")
}
