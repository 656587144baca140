//! `--metalink`: the files that Metalink documents describe, as items to download.

use std::path::Path;

use haul_engine::MetalinkFile;

use crate::address;
use crate::document::{Documents, is_remote};
use crate::exit::{self, Failure};
use crate::input::Item;

/// A longer document is refused, in bytes.
const MOST_BYTES: usize = 8 << 20;

/// The items of the documents at these places, in order, and lines for the user. If `--output`
/// names one file, there can be only one item.
///
/// # Errors
/// When a document cannot be read; exit 2 for a file that is no Metalink, and exit 7 for a server's
/// answer that is none.
pub(crate) async fn items(
    places: &[String],
    names_one_file: bool,
    documents: &Documents<'_>,
) -> Result<(Vec<Item>, Vec<String>), Failure> {
    let (mut items, mut notes) = (Vec::new(), Vec::new());
    for place in places {
        let remote = is_remote(place);
        let (shown, bytes) = documents.read(place, MOST_BYTES).await?;
        let files = MetalinkFile::parse(&bytes).map_err(|error| {
            let mut failure = Failure::from(error);
            failure.message = format!("--metalink {shown}: {}", failure.message);
            if remote {
                // What is no Metalink is the server's failure then.
                (failure.exit, failure.word) = (exit::PROTOCOL, "protocol");
            }
            failure
        })?;
        for file in files {
            notes.extend(file.notes.iter().map(|note| format!("--metalink {shown}: {note}")));
            for url in &file.urls {
                address::url(url)?;
            }
            items.push(Item { offered_by: remote.then(|| place.clone()), ..item(file) });
        }
    }
    if items.len() > 1 && names_one_file {
        let text = "--output names one file and cannot be combined with a --metalink of several";
        return Err(Failure::usage(text).hint("use --dir DIR"));
    }
    if names_one_file {
        items.iter_mut().for_each(|item| (item.out, item.dir) = (None, None));
    }
    Ok((items, notes))
}

fn item(file: MetalinkFile) -> Item {
    let mut item = Item {
        size_bytes: file.size_bytes,
        checksum: file.checksum,
        pieces: file.pieces,
        urls: file.urls,
        ..Item::default()
    };
    item.set_path(Path::new(&file.name));
    item
}
