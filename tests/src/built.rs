//! What cargo builds of other packages for a test: the library for C programs,
//! the examples.
//!
//! They are no binaries of this package, so that a change of the engine does not
//! link them all again for every test. Cargo is asked for them when a test needs
//! them, for the whole workspace and with what examples need: the engine then has
//! the features that it has in `cargo test --workspace`, and is not built twice.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Where cargo puts what it builds in the profile of the running test, after
/// building all libraries and examples.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn built() -> PathBuf {
    // One at a time; the others find it built.
    static CARGO: Mutex<()> = Mutex::new(());
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("a test is in target/PROFILE/deps");
    let name = profile.file_name().and_then(|name| name.to_str()).expect("the profile's name");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--workspace", "--lib", "--examples"])
        .args(["--profile", if name == "debug" { "dev" } else { name }])
        .arg("--target-dir")
        .arg(profile.parent().expect("target/PROFILE has a parent"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let _alone = CARGO.lock();
    let output = cargo.output().expect("cargo runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "examples and libraries cannot be built:\n{told}");
    profile.to_owned()
}
