//! Films of many pieces, HLS and DASH, downloaded by [`haul_engine`] into one file.
//!
//! A manifest becomes [`model::Film`], renditions to choose from ([`choice`]), whatever its format
//! ([`hls`], [`dash`]). A chosen rendition is a track of pieces, and a track is one reel or, where it
//! has breaks, several (`reel`). [`download`] fetches the pieces of all reels with one engine, as
//! many at once as fit into memory (`film`), judges each by its bytes (`fetch`, `container`), and
//! stores it at its place in its reel's file (`store`), which a log beside it describes
//! (`checkpoint`). When all are there, the reels become the output (`join`). A reel that is one
//! object, such as adjacent ranges of a file, is an ordinary download of the engine.
//!
//! While it is fetched, a film can be watched ([`Viewer`]): what a viewer reads is fetched first.
//!
//! A film with a hole is an error, unless holes were allowed: [`FilmError::Holes`].

#![deny(missing_docs)]

mod checkpoint;
pub mod choice;
mod cipher;
mod container;
pub mod dash;
mod disk;
mod error;
mod fetch;
mod film;
pub mod hls;
mod join;
pub mod model;
mod mp4;
mod name;
mod partials;
mod private;
mod publish;
mod reel;
mod source;
mod store;
mod subtitles;
mod timestamp;
mod viewer;
mod watch;

pub use error::{FilmError, Hole, PieceName};
pub use film::{FilmOptions, FilmSummary, download, download_found};
pub use partials::{PartialFilm, find_partial_films, partial_film, remove_partial_film};
pub use source::{Finder, Finding, Requests, read_manifest};
pub use viewer::{FilmReader, Shown, Viewer};
pub use watch::{FilmMonitor, FilmProgress, Phase};
