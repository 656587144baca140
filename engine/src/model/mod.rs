//! The pure core: no sockets, files, threads or clocks.
//!
//! Time is an argument (`now`, since an arbitrary epoch), randomness a seed, and
//! every decision a function of what was put in, so that each fault and race is
//! an ordinary unit test. `.ci/check-model-pure` holds this line.
#![allow(unreachable_pub, dead_code)]

pub mod admission;
pub mod checkpoint;
pub mod concurrency;
pub mod digest_claims;
pub mod digest_fields;
pub mod digest_tree;
pub mod expiry;
pub mod link_fields;
pub mod metalink;
pub mod name;
pub mod planner;
pub mod range;
pub mod rate;
pub mod redact;
pub mod resource;
pub mod response;
pub mod retry;
pub mod segment;
pub mod selection;
pub mod validator;
