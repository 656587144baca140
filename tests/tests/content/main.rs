//! Which bytes belong to the object, and which responses are believed.

mod checksums;
mod conditional;
mod digests;
mod identity;
mod metalink;
mod mirrors;
mod no_digest;
mod range_semantics;
mod ranges;
mod refresh;
mod validators;
mod what_may_join;
