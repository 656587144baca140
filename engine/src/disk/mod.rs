//! Everything that lives on a disk: data, checkpoints, names, and how they outlive the process.

mod behind;
pub(crate) mod checkpoint_file;
pub(crate) mod conditional;
pub(crate) mod crew;
pub(crate) mod directory_sync;
pub(crate) mod fitting;
pub(crate) mod hasher;
pub(crate) mod holds;
pub(crate) mod keeper;
pub(crate) mod naming;
mod numbered;
pub(crate) mod output;
pub(crate) mod partial;
pub(crate) mod partials;
mod pieces;
pub(crate) mod place;
pub(crate) mod prove;
pub(crate) mod publish;
pub(crate) mod readable;
mod regular;
pub(crate) mod rehash;
pub(crate) mod resume;
pub(crate) mod storage;
pub(crate) mod unnamed;
pub(crate) mod verify;
pub(crate) mod writer;
