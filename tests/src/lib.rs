//! What the tests of haul stand on: objects whose bytes tell their position
//! ([`object`]), an HTTP origin that answers by script and can lie, cut, stall
//! and change ([`origin`]), file systems that fill up or lose power ([`disk`]),
//! random choices that can be repeated ([`random`]), and a harness that runs
//! the command with a deadline and judges what it left behind ([`harness`]).
//! An origin of HTTP/2 ([`http2`]) and a proxy
//! ([`proxy`]) can be scripted as well, on libraries that speak these protocols.
//! Every command carries a secret that must not show anywhere ([`canary`]).
//! A film of many pieces has a playlist that names them ([`film`]).
//! After a test nothing may be left of it ([`leaks`]).
//! What people type by habit of other programs is a table ([`habits`]).
//! Examples and the library for C programs are built when a test asks ([`built`]).
//! The names that nearly every test uses come at once ([`prelude`]).
//!
//! Nothing here shares code with the engine. The origin speaks HTTP over raw
//! sockets and threads of the standard library, so that a mistake in an HTTP
//! library cannot hide on both sides at once.

pub mod built;
pub mod canary;
pub mod disk;
pub mod faults;
pub mod film;
pub mod habits;
pub mod harness;
pub mod http2;
pub mod killed;
pub mod leaks;
mod loopback;
pub mod object;
pub mod origin;
pub mod prelude;
pub mod proxy;
pub mod random;
pub mod running;
