//! The page that plays the object and shows the download's progress.

use haul_engine::Progress;
use serde::Serialize;

use super::served::Facts;

/// One file that loads nothing from anywhere else.
const PAGE: &str = include_str!("page.html");

/// A map has no more cells.
const MAX_CELLS: usize = 240;

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
    pub(super) fn of(facts: &'a Facts, progress: &Progress) -> Self {
        let cell = |cell: &haul_engine::MapCell| {
            // The value is rounded down, so that only complete cells look complete.
            (cell.done * 100.0).floor().clamp(0.0, 100.0) as u16 + 1000 * u16::from(cell.active)
        };
        Self {
            name: &facts.name,
            content_type: &facts.content_type,
            bytes: progress.bytes,
            total: facts.total_bytes,
            bps: progress.bytes_per_second as u64,
            connections: progress.connections,
            eta_s: progress.eta.map(|eta| eta.as_secs_f64()),
            complete: facts.total_bytes == Some(progress.bytes),
            map: progress.map.iter().map(cell).collect(),
        }
    }

    /// Shows a film by its pieces.
    pub(super) fn of_pieces(&mut self, pieces: &[bool]) {
        self.complete = !pieces.is_empty() && pieces.iter().all(|there| *there);
        let each = pieces.len().div_ceil(MAX_CELLS).max(1);
        let cell = |cell: &[bool]| {
            let there = cell.iter().filter(|there| **there).count();
            u16::try_from(there * 100 / cell.len()).unwrap_or(100)
        };
        self.map = pieces.chunks(each).map(cell).collect();
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
