//! Documents that flags name: lists of digests and Metalinks, in a file or at a URL.

use std::fs::File;
use std::io::{self, Read as _};

use haul_engine::{Engine, redact_url};

use crate::address::{self, are_of_one_origin};
use crate::exit::Failure;
use crate::render::escape;
use crate::request::Request;
use crate::units::size;

/// Reads and fetches documents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Documents<'a> {
    pub(crate) engine: &'a Engine,
    /// The flags that shape requests.
    pub(crate) request: &'a Request,
    /// The URL whose origin the headers and the login of these flags are for. Without one they
    /// are for the documents themselves.
    pub(crate) object: Option<&'a str>,
}

impl Documents<'_> {
    /// The document at `place`, a file or a URL, and how to name it in a message.
    ///
    /// # Errors
    /// When it cannot be read or fetched, is longer than `most_bytes`, or its URL is not allowed.
    pub(crate) async fn read(
        &self,
        place: &str,
        most_bytes: usize,
    ) -> Result<(String, Vec<u8>), Failure> {
        if !is_remote(place) {
            return Ok((escape(place), file(place, most_bytes)?));
        }
        let url = address::url(place)?;
        self.request.allow(&url)?;
        let own = self.object.is_none_or(|object| are_of_one_origin(object, &url));
        let download = self.request.apply(self.engine.download(&url), &url, own);
        Ok((redact_url(&url), download.bytes(most_bytes).await?))
    }
}

/// Whether a document is at a URL.
pub(crate) fn is_remote(place: &str) -> bool {
    place.contains("://")
}

/// A file of at most so many bytes.
fn file(path: &str, most_bytes: usize) -> Result<Vec<u8>, Failure> {
    let shown = escape(path);
    let cannot = |error: io::Error| Failure::local(format!("cannot read {shown}: {error}"));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most_bytes as u64 + 1).read_to_end(&mut bytes))
        .map_err(cannot)?;
    if bytes.len() > most_bytes {
        return Err(Failure::local(format!("{shown} is longer than {}", size(most_bytes as u64))));
    }
    Ok(bytes)
}
