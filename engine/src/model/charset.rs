//! Text in the encodings that servers write.

use encoding_rs::{Encoding, WINDOWS_1252};

/// UTF-8, else the encoding that browsers use for ISO-8859-1 (WHATWG Encoding,
/// "windows-1252"), in which every byte is a character.
pub(crate) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned(),
    }
}

/// Text in the encoding that `label` names; `None` for an unknown one, and for
/// bytes that are not valid in it.
pub(crate) fn in_charset(label: &str, bytes: &[u8]) -> Option<String> {
    let encoding = Encoding::for_label_no_replacement(label.trim().as_bytes())?;
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
    Some(text.into_owned())
}

/// Whether text in this encoding can be read.
pub(crate) fn is_known(label: &str) -> bool {
    Encoding::for_label_no_replacement(label.trim().as_bytes()).is_some()
}

/// A document: in the encoding of its byte order mark, else as [`text`].
pub(crate) fn document(bytes: &[u8]) -> String {
    match Encoding::for_bom(bytes) {
        Some((encoding, mark_bytes)) => {
            encoding.decode_without_bom_handling(&bytes[mark_bytes..]).0.into_owned()
        }
        None => text(bytes),
    }
}

/// Replaces each `%XX`; any other percent sign stays as it is.
pub(crate) fn percent_decode(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}
