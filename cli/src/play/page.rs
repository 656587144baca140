//! The page that plays the object and shows the download's progress.

use haul_engine::{Metadata, Progress};
use serde::Serialize;

/// One file that loads nothing from anywhere else.
const PAGE: &str = include_str!("page.html");

/// The page, whose script and style carry this nonce.
pub(super) fn html(nonce: &str) -> String {
    PAGE.replace("NONCE", nonce)
}

/// What the page may do: play the object and ask for the progress, and nothing else.
pub(super) fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; media-src \
         'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The state of a download.
#[derive(Debug, Serialize)]
pub(super) struct Status<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    content_type: &'a str,
    bytes: u64,
    total: Option<u64>,
    bps: u64,
    connections: usize,
    eta_s: Option<f64>,
    complete: bool,
    /// The object in equal cells, each with the percentage that is stored, plus 1000 while it is
    /// being fetched.
    map: Vec<u16>,
}

impl<'a> Status<'a> {
    pub(super) fn of(metadata: &'a Metadata, content_type: &'a str, progress: &Progress) -> Self {
        let cell = |cell: &haul_engine::MapCell| {
            // The value is rounded down, so that only complete cells look complete.
            (cell.done * 100.0).floor().clamp(0.0, 100.0) as u16 + 1000 * u16::from(cell.active)
        };
        Self {
            name: &metadata.name,
            content_type,
            bytes: progress.bytes,
            total: metadata.total_bytes,
            bps: progress.bytes_per_second as u64,
            connections: progress.connections,
            eta_s: progress.eta.map(|eta| eta.as_secs_f64()),
            complete: metadata.total_bytes == Some(progress.bytes),
            map: progress.map.iter().map(cell).collect(),
        }
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
