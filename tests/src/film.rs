//! A film of many pieces, as its tests serve it.

use crate::prelude::*;

/// How many pieces it has.
pub const PIECES: usize = 30;
/// The length of a packet of MPEG-TS.
pub const PACKET_BYTES: usize = 188;

/// A piece of MPEG-TS: packets that tell which piece they are of. Every piece has another length.
pub fn piece(number: usize) -> Vec<u8> {
    let packets = 50 + number * 7 % 31;
    (0..packets)
        .flat_map(|packet| {
            let mut bytes = [0; PACKET_BYTES];
            bytes[0] = 0x47;
            bytes[1..9].copy_from_slice(&(number as u64).to_be_bytes());
            bytes[9..17].copy_from_slice(&(packet as u64).to_be_bytes());
            bytes
        })
        .collect()
}

/// All pieces, one after the other.
pub fn film() -> Vec<u8> {
    (0..PIECES).flat_map(piece).collect()
}

/// The playlist, with these links to the pieces.
pub fn playlist(link: impl Fn(usize) -> String) -> String {
    let head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:VOD\n".to_owned();
    let pieces = (0..PIECES).map(|number| format!("#EXTINF:2.0,\n{}\n", link(number)));
    head + &pieces.collect::<String>() + "#EXT-X-ENDLIST\n"
}

/// An answer of all these bytes.
pub fn answer(bytes: Vec<u8>, content_type: &str) -> Response {
    Response::new(200)
        .header("Content-Type", content_type)
        .header("Content-Length", &bytes.len().to_string())
        .bytes(bytes)
}

/// The whole of these bytes, or the range of them that is asked for.
pub fn ranged(bytes: &[u8], request: &Request) -> Response {
    let size = bytes.len() as u64;
    match request.range().and_then(|asked| asked.within(size)) {
        None => answer(bytes.to_vec(), "video/mp2t"),
        Some(range) => {
            let part = bytes[range.start as usize..range.end as usize].to_vec();
            answer(part, "video/mp2t").status(206).content_range(&range, &size.to_string())
        }
    }
}

/// Which piece a request is for, in whatever directory.
pub fn number_of(request: &Request) -> Option<usize> {
    let name = request.path().rsplit('/').next()?;
    name.strip_prefix('s')?.strip_suffix(".ts")?.parse().ok()
}

/// The film, with pieces as `script` would have them; every other path is the playlist.
pub fn serving(
    script: impl Fn(usize, &Request) -> Option<Response> + Send + Sync + 'static,
) -> Origin {
    Origin::start(move |request, _| match number_of(request) {
        Some(number) => script(number, request).unwrap_or_else(|| ranged(&piece(number), request)),
        None => answer(
            playlist(|number| format!("s{number}.ts")).into_bytes(),
            "application/vnd.apple.mpegurl",
        ),
    })
}
