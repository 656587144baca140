//! Downloads that go on after an earlier run, and the files that an earlier run left.

mod adopted;
mod already;
mod checkpoint_damage;
mod existing;
mod hints;
mod local;
mod on_resume;
mod on_resume_network;
mod resume;
mod stale;
mod verify;
