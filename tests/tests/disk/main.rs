//! Disks, file systems and files of other programs, and outputs that are no files.

mod disk_limits;
mod disks;
mod mapped;
mod own_files;
mod streaming;

use haul_tests::prelude::*;

/// What maps where that is possible, and what never does.
const STORAGES: [&str; 2] = ["auto", "pwrite"];

/// A download of `/file` over four connections, with one of [`STORAGES`].
fn command(sandbox: &Sandbox, origin: &Origin, storage: &str) -> Haul {
    haul!(sandbox)
        .args(["-x", "4", "-o", "file", "--segment-size", "1M", "--storage", storage])
        .arg(origin.url("/file"))
}
