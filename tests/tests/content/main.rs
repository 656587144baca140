//! Which bytes belong to the object, and which responses are believed.

mod checksums;
mod conditional;
mod digests;
mod films;
mod identity;
mod metalink;
mod mirrors;
mod no_digest;
mod pages;
mod range_semantics;
mod ranges;
mod refresh;
mod validators;
mod what_may_join;

use haul_tests::prelude::*;

/// A download of `/file` over four connections, with one retry.
fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-x", "4", "-o", "file", "--retry", "1"]).arg(origin.url("/file"))
}

/// Runs it; what it asked of the origin was right.
fn run(sandbox: &Sandbox, origin: &Origin) -> Outcome {
    let outcome = command(sandbox, origin).run();
    assert_well_asked(origin);
    outcome
}

/// A download of `url` over four connections, with two retries and JSON events.
fn haul(sandbox: &Sandbox, url: &str) -> Haul {
    haul!(sandbox).json().args(["-x", "4", "-o", "file", "--retry", "2"]).arg(url)
}
