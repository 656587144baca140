//! The race: haul against the downloaders people use today, end to end, on one machine.
//!
//! A number from one machine says nothing on another, so the race measures ratios. Everybody
//! fetches the same object from the same server over loopback into the same directory, in an order
//! shuffled in every round: fresh page cache is many times dearer than recycled page cache, and a
//! fixed order would hand that bill to whoever runs first. A floor made of raw sockets runs along
//! and shows what the machine allows.
//!
//! Nobody is judged by time. The bars of the project are printed with `pass` or `miss`; only a
//! wrong file is an error.
//!
//! ```text
//! cargo build --release -p haul
//! cargo run --release -p haul-benches --bin race -- --rounds 5 plain
//! ```
//!
//! How the parts depend on each other: [`size`], [`verify`], [`stats`] and [`floor`] stand alone;
//! [`guard`] owns nginx, the temporary directories and the [`namespace`]s, so that they go even
//! when the race is killed; a [`helper`] is a process that plays a part; [`servers`] has the race's
//! own servers, for what nginx cannot do, and what a server has to tell; [`origin`] configures and
//! watches that nginx; [`contender`] knows the command lines; [`film`] has what is other where the
//! object is a film in pieces; [`measure`] runs one of them;
//! [`track`] runs all of them in rounds; [`scenario`] says which, on what, and what counts as a
//! pass; [`links`] has scenarios of its own, on shaped links instead of loopback; [`report`] prints
//! and [`chart`] draws.
#![deny(missing_docs)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal: results on stdout, talk on stderr"
)]

pub mod args;
pub mod chart;
pub mod contender;
pub mod film;
pub mod floor;
pub mod guard;
pub mod helper;
pub mod links;
pub mod measure;
pub mod namespace;
pub mod origin;
pub mod report;
pub mod scenario;
pub mod servers;
pub mod size;
pub mod stats;
pub mod track;
pub mod verify;

/// What the race fails with: a sentence for a person, already complete.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
