//! The pure core: no sockets, files, threads or clocks.
//!
//! Time is an argument (`now`, since an arbitrary epoch), randomness a seed, and
//! every decision a function of what was put in, so that each fault and race is
//! an ordinary unit test. `.ci/check-rooms` holds this line.
#![allow(unreachable_pub)]

pub mod admission;
pub mod adoption;
pub mod aria2_control;
pub(crate) mod charset;
pub mod checkpoint;
pub mod concurrency;
pub mod config;
pub mod digest_claims;
pub mod digest_fields;
pub mod digest_tree;
mod disposition;
pub mod error;
pub mod event;
pub mod expiry;
pub mod head;
pub mod hint;
pub mod layout;
pub mod link_fields;
pub mod metalink;
pub mod name;
pub mod options;
pub(crate) mod panicked;
pub mod planner;
pub mod promise;
pub mod range;
pub mod rate;
pub mod redact;
pub mod resource;
pub mod response;
pub mod retry;
pub(crate) mod samples;
pub mod segment;
pub mod selection;
pub(crate) mod signature;
pub mod size;
pub mod validator;
