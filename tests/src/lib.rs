//! What the tests of haul stand on: objects whose bytes tell their position
//! ([`object`]), an HTTP origin that answers by script and can lie, cut, stall
//! and change ([`origin`]), and a harness that runs the command with a deadline
//! and judges what it left behind ([`harness`]).
//!
//! Nothing here shares code with the engine. The origin speaks HTTP over raw
//! sockets and threads of the standard library, so that a mistake in an HTTP
//! library cannot hide on both sides at once.

pub mod harness;
pub mod object;
pub mod origin;
