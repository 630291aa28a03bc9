//! Compiling the core for the sandbox: which toolchain can, and how it is called.
//!
//! The host's build script and `cargo xtask` both include this file, so that what one finds the other finds too. It needs no
//! dependencies.
//!
//! The target is `wasm32-unknown-unknown`. Its standard library comes with the toolchain in use (`rustup target add`), or is compiled from
//! the sources that a distribution packages for its own compiler (Debian's `rust-web-src`).

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target that the core is compiled for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// What to do where no toolchain can compile for the sandbox.
pub(crate) const HOW_TO_SET_UP: &str = "\
no toolchain on this machine can build for wasm32-unknown-unknown. Run `cargo xtask setup`, or do one of these yourself:
  with rustup:  rustup target add wasm32-unknown-unknown
  on Debian:    sudo apt-get update && sudo apt-get install -y --no-install-recommends rustc-web rust-web-src cargo-web lld-22
  on Fedora:    sudo dnf install rust-std-static-wasm32-unknown-unknown
or name a component that is built already: UKEHI_COMPONENT=/path/to/ukehi-raft.wasm";

/// The oldest compiler that the workspace takes: `rust-version` of its manifest.
const OLDEST_MINOR_VERSION: u32 = 95;

/// A toolchain that can compile for the sandbox.
#[derive(Debug)]
pub(crate) struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    /// Where the toolchain has no linker for WebAssembly of its own.
    linker: Option<PathBuf>,
    /// Whether the standard library has to be compiled as well.
    build_std: bool,
}

impl Toolchain {
    /// The first that can: the one in use, then the system's; an installed standard library before one that must be compiled.
    pub(crate) fn find() -> Option<Self> {
        let in_use = (from_env("CARGO", "cargo"), from_env("RUSTC", "rustc"));
        let system = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
        let candidates = [in_use, system];
        let with_std = candidates.iter().find_map(|(cargo, rustc)| Self::with_installed_std(cargo, rustc));
        with_std.or_else(|| candidates.iter().find_map(|(cargo, rustc)| Self::with_std_sources(cargo, rustc)))
    }

    fn with_installed_std(cargo: &Path, rustc: &Path) -> Option<Self> {
        let libraries = PathBuf::from(ask(rustc, &["--print", "target-libdir", "--target", TARGET])?);
        let installed = fs::read_dir(libraries).ok()?.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"));
        installed.then(|| Self::linked(cargo, rustc, false)).flatten()
    }

    fn with_std_sources(cargo: &Path, rustc: &Path) -> Option<Self> {
        let sysroot = PathBuf::from(ask(rustc, &["--print", "sysroot"])?);
        let sources = sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml");
        sources.is_file().then(|| Self::linked(cargo, rustc, true)).flatten()
    }

    fn linked(cargo: &Path, rustc: &Path, build_std: bool) -> Option<Self> {
        if minor_version(&ask(rustc, &["--version"])?)? < OLDEST_MINOR_VERSION || ask(cargo, &["--version"]).is_none() {
            return None;
        }
        let host_libraries = PathBuf::from(ask(rustc, &["--print", "target-libdir"])?);
        let own_linker = host_libraries.with_file_name("bin").join("rust-lld").is_file();
        let linker = if own_linker { None } else { Some(packaged_linker()?) };
        Some(Self { cargo: cargo.to_owned(), rustc: rustc.to_owned(), linker, build_std })
    }

    /// Compiles the core to a WebAssembly module, below `target_dir`, and gives its path.
    ///
    /// # Errors
    /// Says which command failed. What the compiler said went to standard error.
    pub(crate) fn compile_core(&self, workspace: &Path, target_dir: &Path) -> Result<PathBuf, String> {
        self.compile(workspace, target_dir, &["--lib", "--features", "component"], "")?;
        Ok(target_dir.join(TARGET).join("component").join("amaters_cluster_core.wasm"))
    }

    /// Compiles an example of the core, as [`Self::compile_core`] does the core itself, but with the sandbox's vector instructions.
    ///
    /// # Errors
    /// As [`Self::compile_core`].
    #[allow(dead_code, reason = "of those that include this file, only xtask builds examples")]
    pub(crate) fn compile_example(&self, workspace: &Path, target_dir: &Path, name: &str) -> Result<PathBuf, String> {
        self.compile(workspace, target_dir, &["--example", name], "-Ctarget-feature=+simd128")?;
        Ok(target_dir.join(TARGET).join("component").join("examples").join(name).with_extension("wasm"))
    }

    fn compile(&self, workspace: &Path, target_dir: &Path, what: &[&str], flags: &str) -> Result<(), String> {
        let mut command = self.command(workspace, target_dir, what, flags);
        let status = command.status().map_err(|error| format!("{} can't be run: {error}", self.cargo.display()))?;
        if !status.success() {
            return Err(format!("compiling the core for {TARGET} ended with {status}: {command:?}"));
        }
        Ok(())
    }

    fn command(&self, workspace: &Path, target_dir: &Path, what: &[&str], flags: &str) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(workspace).args(["rustc", "--package", "amaters-cluster-core", "--crate-type", "cdylib"]).args(what);
        command.args(["--profile", "component", "--target", TARGET, "--target-dir"]).arg(target_dir);
        command.env("RUSTC", &self.rustc).stdout(Stdio::null());
        // What was meant for the outer build: flags for the host's processor, clippy in the compiler's place. Set, even if empty, the first
        // also hides flags from the user's configuration.
        command.env("CARGO_ENCODED_RUSTFLAGS", flags).env_remove("RUSTC_WORKSPACE_WRAPPER");
        for variable in ["RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_BUILD_DIR"] {
            command.env_remove(variable);
        }
        if let Some(linker) = &self.linker {
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        if self.build_std {
            // The sources are those of this very compiler, so the unstable flag is safe here.
            command.env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=std,panic_abort");
        }
        command
    }
}

fn from_env(variable: &str, default: &str) -> PathBuf {
    env::var_os(variable).unwrap_or_else(|| OsString::from(default)).into()
}

/// What a program prints on one line, if it runs and succeeds.
fn ask(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The 95 of `rustc 1.95.0 (59807616e 2026-04-14)`.
fn minor_version(banner: &str) -> Option<u32> {
    banner.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()
}

/// LLVM's linker as distributions name it: `wasm-ld`, or with the version at its end, of which the newest is taken.
fn packaged_linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/bin")]);
    let files = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    files.filter_map(|file| Some((linker_version(file.file_name().to_str()?)?, file.path()))).max().map(|(_, path)| path)
}

fn linker_version(name: &str) -> Option<u32> {
    match name.strip_prefix("wasm-ld")? {
        "" => Some(u32::MAX),
        rest => rest.strip_prefix('-')?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{linker_version, minor_version};

    #[test]
    fn versions_are_read_from_names_and_banners() {
        assert_eq!(minor_version("rustc 1.95.0 (59807616e 2026-04-14)"), Some(95));
        assert_eq!(minor_version("rustc 1.96.0-nightly"), Some(96));
        assert_eq!(minor_version("not a compiler"), None);
        assert_eq!(linker_version("wasm-ld"), Some(u32::MAX));
        assert_eq!(linker_version("wasm-ld-22"), Some(22));
        assert_eq!(linker_version("wasm-ld-22.bak"), None);
        assert_eq!(linker_version("ld.lld"), None);
    }
}
