//! Programs that are built by a test: the examples of the engine, and callers of its C interface.

mod capi;
mod examples;
