//! Disks, file systems and files of other programs, and outputs that are no files.

mod disk_limits;
mod disks;
mod mapped;
mod own_files;
mod streaming;
