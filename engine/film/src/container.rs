//! What a piece is by its bytes. A server that sends a login page, half of a piece or something else
//! with a status of success is found out here, before anything is stored.

use std::io::{self, Read as _};

/// As many bytes as tell what a file is.
const BEGINNING_BYTES: u64 = 4096;

/// The first bytes of a file, as [`Container::of_beginning`] takes them.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn beginning_of(file: impl io::Read) -> io::Result<Vec<u8>> {
    let mut beginning = Vec::new();
    file.take(BEGINNING_BYTES).read_to_end(&mut beginning)?;
    Ok(beginning)
}

/// How media is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    /// MPEG transport stream (ISO/IEC 13818-1).
    TransportStream,
    /// ISO base media, fragmented or not (ISO/IEC 14496-12).
    Mp4,
    /// WebM or Matroska.
    WebM,
    /// Sound without a container: ADTS, MP3, AC-3, perhaps after an ID3 tag.
    PackedAudio,
    /// WebVTT.
    Text,
}

pub(crate) const PACKET_BYTES: usize = 188;
pub(crate) const SYNC_BYTE: u8 = 0x47;
const BOX_HEADER_BYTES: usize = 8;
/// The boxes that a piece of a film may begin with.
const FIRST_BOXES: [&[u8; 4]; 13] = [
    b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"ssix", b"emsg", b"prft", b"free", b"skip",
    b"mdat", b"mfra", b"uuid",
];

impl Container {
    /// What these bytes are, which are all of a piece.
    ///
    /// # Errors
    /// What is wrong with them, as a clause about the piece.
    pub(crate) fn of_whole(bytes: &[u8]) -> Result<Self, String> {
        let container = Self::of_beginning(bytes)?;
        match container {
            Self::TransportStream => whole_packets(bytes)?,
            Self::Mp4 => whole_boxes(bytes)?,
            Self::WebM | Self::PackedAudio | Self::Text => {}
        }
        Ok(container)
    }

    /// What begins with these bytes: at least 16 of them, or all there are.
    ///
    /// # Errors
    /// As for [`Self::of_whole`].
    pub(crate) fn of_beginning(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("is empty".to_owned());
        }
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes[0] == SYNC_BYTE
            && (bytes.len() <= PACKET_BYTES || bytes[PACKET_BYTES] == SYNC_BYTE)
        {
            return Ok(Self::TransportStream);
        }
        if bytes
            .get(4..BOX_HEADER_BYTES)
            .is_some_and(|it| FIRST_BOXES.iter().any(|first| *first == it))
        {
            return Ok(Self::Mp4);
        }
        // The header of a file, and a cluster of one.
        if bytes.starts_with(b"\x1a\x45\xdf\xa3") || bytes.starts_with(b"\x1f\x43\xb6\x75") {
            return Ok(Self::WebM);
        }
        if text.starts_with(b"WEBVTT") {
            return Ok(Self::Text);
        }
        let is_frame = bytes.len() > 1 && bytes[0] == 0xff && bytes[1] & 0xe0 == 0xe0;
        if is_frame || bytes.starts_with(b"ID3") || bytes.starts_with(b"\x0b\x77") {
            return Ok(Self::PackedAudio);
        }
        let shown = text.trim_ascii_start();
        if shown.starts_with(b"<") {
            return Err(
                "is a page or a document, and no media: a login page or an error?".to_owned()
            );
        }
        let beginning: String = String::from_utf8_lossy(&shown[..shown.len().min(16)])
            .chars()
            .flat_map(char::escape_default)
            .collect();
        Err(format!("begins with `{beginning}`, which no media that haul knows does"))
    }

    /// What files of this kind are called.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::TransportStream => "ts",
            Self::Mp4 => "mp4",
            Self::WebM => "webm",
            Self::PackedAudio => "aac",
            Self::Text => "vtt",
        }
    }

    /// Its media type (RFC 6838), of sound alone or of pictures too.
    pub(crate) fn content_type(self, is_sound: bool) -> &'static str {
        match (self, is_sound) {
            (Self::TransportStream, _) => "video/mp2t",
            (Self::Mp4, false) => "video/mp4",
            (Self::Mp4, true) => "audio/mp4",
            (Self::WebM, false) => "video/webm",
            (Self::WebM, true) => "audio/webm",
            (Self::PackedAudio, _) => "audio/aac",
            (Self::Text, _) => "text/vtt",
        }
    }

    /// What it is called in sentences.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TransportStream => "MPEG-TS",
            Self::Mp4 => "MP4",
            Self::WebM => "WebM",
            Self::PackedAudio => "audio without a container",
            Self::Text => "WebVTT",
        }
    }
}

fn whole_packets(bytes: &[u8]) -> Result<(), String> {
    if !bytes.len().is_multiple_of(PACKET_BYTES) {
        return Err(format!(
            "ends within a packet of MPEG-TS: {} bytes are no multiple of {PACKET_BYTES}, so it is \
             cut",
            bytes.len()
        ));
    }
    match bytes.iter().step_by(PACKET_BYTES).position(|first| *first != SYNC_BYTE) {
        None => Ok(()),
        Some(packet) => Err(format!(
            "is damaged at byte {}: no packet of MPEG-TS begins there",
            packet * PACKET_BYTES
        )),
    }
}

fn whole_boxes(bytes: &[u8]) -> Result<(), String> {
    let mut at = 0;
    while at < bytes.len() {
        let cut = || format!("ends within the MP4 box that begins at byte {at}, so it is cut");
        let header = bytes.get(at..at + BOX_HEADER_BYTES).ok_or_else(cut)?;
        let (size, name) = header.split_at(4);
        if !name.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == 0xa9) {
            return Err(format!("is damaged at byte {at}: no MP4 box begins there"));
        }
        let rest = (bytes.len() - at) as u64;
        let size = match u32::from_be_bytes(size.try_into().map_err(|_| cut())?) {
            0 => rest,
            1 => {
                let long = bytes.get(at + 8..at + 16).ok_or_else(cut)?;
                u64::from_be_bytes(long.try_into().map_err(|_| cut())?)
            }
            size => u64::from(size),
        };
        if size < BOX_HEADER_BYTES as u64 {
            return Err(format!("is damaged at byte {at}: a box of {size} bytes cannot be"));
        }
        if size > rest {
            return Err(cut());
        }
        // It fits, since the rest does.
        at += usize::try_from(size).map_err(|_| cut())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count * PACKET_BYTES];
        bytes.iter_mut().step_by(PACKET_BYTES).for_each(|byte| *byte = SYNC_BYTE);
        bytes
    }

    fn boxed(name: &[u8; 4], content_bytes: usize) -> Vec<u8> {
        let size = u32::try_from(BOX_HEADER_BYTES + content_bytes).unwrap();
        [&size.to_be_bytes()[..], name, &vec![7; content_bytes]].concat()
    }

    #[test]
    fn media_is_known_by_its_first_bytes() {
        for (bytes, container) in [
            (packets(3), Container::TransportStream),
            (boxed(b"styp", 4), Container::Mp4),
            (b"\x1a\x45\xdf\xa3rest".to_vec(), Container::WebM),
            (b"ID3\x04".to_vec(), Container::PackedAudio),
            (b"\xff\xf1\x50".to_vec(), Container::PackedAudio),
            (b"\xef\xbb\xbfWEBVTT\n".to_vec(), Container::Text),
        ] {
            assert_eq!(Container::of_whole(&bytes), Ok(container));
        }
    }

    #[test]
    fn pages_and_unknown_things_are_refused() {
        for (bytes, told) in [
            (&b""[..], "empty"),
            (b"  <html>", "login page"),
            (b"{\"error\": 1}", "{\\\"error"),
            (b"token", "token"),
        ] {
            let why = Container::of_whole(bytes).unwrap_err();
            assert!(why.contains(told), "{why}");
        }
    }

    #[test]
    fn what_is_cut_or_damaged_is_refused() {
        let good = [boxed(b"moof", 20), boxed(b"mdat", 100)].concat();
        assert_eq!(Container::of_whole(&good), Ok(Container::Mp4));
        for kept in [1, 7, 8, 27, 29, 40, good.len() - 1] {
            assert!(Container::of_whole(&good[..kept]).is_err(), "{kept}");
        }
        let good = packets(20);
        for kept in [1, 187, 189, good.len() / 2 + 1, good.len() - 1] {
            assert!(Container::of_whole(&good[..kept]).is_err(), "{kept}");
        }
        let mut damaged = packets(20);
        damaged[4 * PACKET_BYTES] = 0;
        assert!(Container::of_whole(&damaged).unwrap_err().contains("byte 752"));
        let mut endless = boxed(b"moof", 20);
        endless.extend([0, 0, 0, 0]);
        endless.extend(b"mdatrest");
        assert_eq!(Container::of_whole(&endless), Ok(Container::Mp4));
    }
}
