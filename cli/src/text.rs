//! Text as users and servers write it: lists of downloads and of digests, netrc, cookies, headers,
//! settings.
//!
//! Such a file is in UTF-8, in UTF-16 if PowerShell or Notepad wrote it, or in an older encoding of
//! one byte per character. A byte order mark may begin it, and its lines end with LF, CR and LF, or
//! CR. [`Lines`] reads all of these, and never holds more than one line.

use std::io::{self, BufRead, BufReader, Read};

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Text(String),
    /// The line is longer than allowed, and was skipped.
    TooLong,
}

/// The lines of a text.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: BufReader<Narrow<R>>,
    longest_bytes: usize,
    /// The last line ended with CR, so an LF that follows is part of that end.
    after_return: bool,
}

impl<R: Read> Lines<R> {
    /// The lines in what `reader` reads, of at most so many bytes each.
    pub(crate) fn new(reader: R, longest_bytes: usize) -> Self {
        let reader = BufReader::new(Narrow { reader, state: State::Unread });
        Self { reader, longest_bytes, after_return: false }
    }

    /// The next line; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let (mut some, mut too_long) = (false, false);
        loop {
            let buffer = self.reader.fill_buf()?;
            let Some(&first) = buffer.first() else {
                return Ok(some.then(|| line(&bytes, too_long)));
            };
            if std::mem::take(&mut self.after_return) && first == b'\n' {
                self.reader.consume(1);
                continue;
            }
            some = true;
            let end = buffer.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let taken = &buffer[..end.unwrap_or(buffer.len())];
            too_long |= bytes.len() + taken.len() > self.longest_bytes;
            if !too_long {
                bytes.extend_from_slice(taken);
            }
            let used = taken.len();
            match end.map(|at| buffer[at]) {
                Some(ending) => {
                    self.after_return = ending == b'\r';
                    self.reader.consume(used + 1);
                    return Ok(Some(line(&bytes, too_long)));
                }
                None => self.reader.consume(used),
            }
        }
    }
}

/// Decodes a line as UTF-8, or else in the encoding that browsers assume. The bytes of one line
/// affect no other.
fn line(bytes: &[u8], too_long: bool) -> Line {
    if too_long {
        return Line::TooLong;
    }
    Line::Text(match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned(),
    })
}

/// Decodes a whole text, with LF at the end of each line but the last.
pub(crate) fn decode(bytes: &[u8]) -> String {
    let mut lines = Lines::new(bytes, usize::MAX);
    let mut text = String::with_capacity(bytes.len());
    // Reading from a slice cannot fail.
    while let Ok(Some(line)) = lines.next() {
        if let Line::Text(line) = line {
            text += &line;
        }
        text.push('\n');
    }
    text
}

/// Bytes in which a line end is one byte: UTF-16 becomes UTF-8, and everything else stays as it is,
/// without a byte order mark.
struct Narrow<R> {
    reader: R,
    state: State,
}

enum State {
    Unread,
    /// The bytes pass unchanged; these come first.
    Plain(Vec<u8>),
    Wide {
        /// `None` once everything is decoded.
        decoder: Option<Box<Decoder>>,
        /// The bytes read and not decoded yet.
        raw: Vec<u8>,
        ended: bool,
    },
}

impl<R> std::fmt::Debug for Narrow<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Narrow")
    }
}

impl<R: Read> Narrow<R> {
    /// Reads enough to recognise the encoding.
    fn begin(&mut self) -> io::Result<()> {
        const ENOUGH: usize = 4;
        let mut start = Vec::with_capacity(ENOUGH);
        (&mut self.reader).take(ENOUGH as u64).read_to_end(&mut start)?;
        let told = Encoding::for_bom(&start);
        // Without a mark, the first two characters tell, since every encoding has them.
        let guessed = match start[..] {
            [low, 0, next, 0] if low != 0 && next != 0 => Some(UTF_16LE),
            [0, low, 0, next] if low != 0 && next != 0 => Some(UTF_16BE),
            _ => None,
        };
        let mark_bytes = told.map_or(0, |(_, bytes)| bytes);
        start.drain(..mark_bytes);
        self.state = match told.map(|(encoding, _)| encoding).or(guessed) {
            Some(encoding) if encoding != UTF_8 => State::Wide {
                decoder: Some(Box::new(encoding.new_decoder_without_bom_handling())),
                raw: start,
                ended: false,
            },
            _ => State::Plain(start),
        };
        Ok(())
    }
}

impl<R: Read> Read for Narrow<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if matches!(self.state, State::Unread) {
            self.begin()?;
        }
        match &mut self.state {
            State::Unread => Ok(0),
            State::Plain(first) if first.is_empty() => self.reader.read(into),
            State::Plain(first) => {
                let count = first.len().min(into.len());
                into[..count].copy_from_slice(&first[..count]);
                first.drain(..count);
                Ok(count)
            }
            State::Wide { decoder, raw, ended } => loop {
                let Some(decoding) = decoder else { return Ok(0) };
                if raw.is_empty() && !*ended {
                    let mut chunk = [0; 8192];
                    let count = self.reader.read(&mut chunk)?;
                    *ended = count == 0;
                    raw.extend_from_slice(&chunk[..count]);
                }
                let (result, used, written, _) = decoding.decode_to_utf8(raw, into, *ended);
                raw.drain(..used);
                let over = *ended && result == CoderResult::InputEmpty;
                if over {
                    *decoder = None;
                }
                if written > 0 || over {
                    return Ok(written);
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(text: &str, big: bool) -> Vec<u8> {
        let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(bytes).collect()
    }

    /// Yields one byte at a time, as a pipe may.
    struct Dripping<'a>(&'a [u8]);

    impl Read for Dripping<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(1).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn one_text_in_every_encoding_and_with_every_line_end() {
        let text = "é http\n\nü\u{1f600}\n";
        let mut forms = Vec::new();
        for end in ["\n", "\r\n", "\r"] {
            let text = text.replace('\n', end);
            forms.push(text.clone().into_bytes());
            let with_mark = "\u{feff}".to_owned() + &text;
            forms.push(wide(&with_mark, false));
            forms.push(wide(&with_mark, true));
            forms.push(with_mark.into_bytes());
        }
        for bytes in forms {
            assert_eq!(decode(&bytes), text, "{bytes:?}");
            let mut lines = Lines::new(Dripping(&bytes), 100);
            let mut count = 0;
            while lines.next().unwrap().is_some() {
                count += 1;
            }
            assert_eq!(count, 3, "{bytes:?}");
        }
        assert_eq!(decode(&wide("ab\r\nc", false)), "ab\nc\n");
        assert_eq!(decode(&wide("ab\r\nc", true)), "ab\nc\n");
        assert_eq!(decode(b"a\r\rb"), "a\n\nb\n");
        assert_eq!(decode(b""), "");
        assert_eq!(decode(b"\xff\xfe"), "");
        assert_eq!(decode(b"\xff\xfea"), "\u{fffd}\n");
    }

    #[test]
    fn another_encoding_in_one_line_changes_no_other() {
        assert_eq!(decode(b"caf\xe9\ncaf\xc3\xa9\n\x80\n"), "café\ncafé\n€\n");
    }

    #[test]
    fn long_lines_are_skipped() {
        let mut lines = Lines::new(&b"12345\n1234\r\n123456"[..], 4);
        let mut next = || lines.next().unwrap();
        assert_eq!(next(), Some(Line::TooLong));
        assert_eq!(next(), Some(Line::Text("1234".to_owned())));
        assert_eq!(next(), Some(Line::TooLong));
        assert_eq!(next(), None);
    }
}
