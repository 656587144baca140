//! Films of many pieces, HLS and DASH, downloaded by [`haul_engine`] into one file.

#![deny(missing_docs)]

pub mod dash;
pub mod hls;
pub mod model;
