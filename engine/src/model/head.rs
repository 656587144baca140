//! Response heads that are a little wrong, read as curl and browsers read them.
//!
//! A head that a strict parser refuses is rewritten as RFC 9112 wants it: folded
//! values become one line (section 5.2), lines that are no field are left out, blanks
//! around names and in the status line do not count. The length and coding of a body
//! are never guessed: a head whose framing is damaged stays as it is, for the parser
//! to refuse.

use std::borrow::Cow;

/// The result of reading a head.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading {
    /// The end of the head is not here yet.
    Incomplete,
    /// Not the head of a response, or one that cannot be mended.
    Unreadable,
    /// A complete head.
    Head {
        /// Its length in bytes.
        len: usize,
        /// The same head, as RFC 9112 wants it.
        text: Vec<u8>,
        /// Another head follows it (RFC 9110 section 15.2).
        interim: bool,
    },
}

/// Finds a head's end while its bytes arrive, and looks at each byte only once.
#[derive(Debug, Default)]
pub struct Reader {
    /// Where the incomplete line begins.
    line: usize,
    /// Up to where there is no further line end.
    scanned: usize,
    /// A line that is not empty was seen.
    begun: bool,
}

impl Reader {
    /// Reads the head at the beginning of `bytes`, which are those of the
    /// previous call and more.
    pub fn read(&mut self, bytes: &[u8]) -> Reading {
        if !may_be_head(bytes) {
            return Reading::Unreadable;
        }
        while let Some(found) = bytes[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let end = self.scanned + found;
            let is_empty = bytes[self.line..end].iter().all(|byte| *byte == b'\r');
            (self.line, self.scanned) = (end + 1, end + 1);
            if is_empty && self.begun {
                return mend(&bytes[..=end]);
            }
            self.begun |= !is_empty;
        }
        self.scanned = bytes.len();
        Reading::Incomplete
    }
}

/// Whether a status line begins here, as far as can be seen.
fn may_be_head(bytes: &[u8]) -> bool {
    /// Blanks and line ends before it.
    const MOST: usize = 64;
    let blank = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let begins = |with: &[u8]| {
        bytes[blank..].iter().zip(with).all(|(byte, with)| byte.eq_ignore_ascii_case(with))
    };
    blank <= MOST && (begins(b"HTTP") || begins(b"ICY "))
}

fn mend(bytes: &[u8]) -> Reading {
    let len = bytes.len();
    match written_anew(bytes) {
        Some((text, interim)) => Reading::Head { len, text, interim },
        None => Reading::Unreadable,
    }
}

/// A field; lines that are none keep their place, for their continuation lines.
struct Field<'a> {
    name: &'a [u8],
    value: Cow<'a, [u8]>,
}

/// More lines than these are an attack: that many fields are refused anyway.
const MOST_LINES: usize = 4096;

/// The head as RFC 9112 wants it, and whether it is an interim one.
fn written_anew(bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    // curl and browsers refuse a zero byte too.
    if bytes.contains(&0) {
        return None;
    }
    let mut lines = bytes.split(|byte| *byte == b'\n').map(trim_end);
    let status = lines.find(|line| !line.is_empty())?;
    let Status { mut minor, code, reason } = Status::of(status.trim_ascii_start())?;
    let mut fields: Vec<Option<Field<'_>>> = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            if let Some(Some(field)) = fields.last_mut() {
                let value = field.value.to_mut();
                if !value.is_empty() {
                    value.push(b' ');
                }
                value.extend(trim(line));
            }
            continue;
        }
        if fields.len() == MOST_LINES {
            return None;
        }
        fields.push(Field::of(line));
    }
    let mut text = Vec::with_capacity(bytes.len() + 32);
    let mut is_coded = false;
    for Field { name, value } in fields.into_iter().flatten() {
        let value = match Kind::of(name) {
            Kind::Coding => effective_codings(value),
            // An empty value says nothing.
            Kind::Length if value.is_empty() => None,
            _ => Some(value),
        };
        let Some(value) = value else { continue };
        let value = match (Kind::of(name), value.iter().any(is_control)) {
            (_, false) => value,
            (Kind::Coding | Kind::Length | Kind::Framing, true) => return None,
            (Kind::Location, true) => escaped(&value).into(),
            (Kind::Disposition, true) => {
                value.iter().map(|byte| if is_control(byte) { b' ' } else { *byte }).collect()
            }
            (Kind::Other, true) => continue,
        };
        is_coded |= matches!(Kind::of(name), Kind::Coding);
        for part in [name, b": ", &value, b"\r\n"] {
            text.extend(part);
        }
    }
    if is_coded && minor == 0 {
        // HTTP/1.0 has no transfer codings, but its servers use them.
        minor = 1;
        text.extend(b"Connection: close\r\n");
    }
    text.extend(b"\r\n");
    let mut head = format!("HTTP/1.{minor} {code} ").into_bytes();
    head.extend(reason.iter().filter(|byte| !is_control(byte)));
    head.extend(b"\r\n");
    head.append(&mut text);
    Some((head, (100..200).contains(&code)))
}

struct Status<'a> {
    minor: u8,
    code: u16,
    reason: &'a [u8],
}

impl<'a> Status<'a> {
    /// `HTTP/1.1 200 OK`; with more blanks, in lower case, without a version or a
    /// reason, and `ICY 200 OK`.
    fn of(line: &'a [u8]) -> Option<Self> {
        let (first, rest) = line.split_at(line.iter().position(|byte| is_blank(*byte))?);
        let first = first.to_ascii_uppercase();
        let minor = match &first[..] {
            b"HTTP" | b"ICY" | b"HTTP/1.0" | b"HTTP/0.9" => 0,
            b"HTTP/2" | b"HTTP/2.0" => 1,
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => 1,
            _ => return None,
        };
        let rest = trim(rest);
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (code, reason) = rest.split_at(digits);
        let code = std::str::from_utf8(code).ok().filter(|code| code.len() == 3)?.parse().ok()?;
        // The other end of an upgrade that nobody asked for does not speak HTTP.
        let usable = (100..1000).contains(&code) && code != 101;
        usable.then_some(Self { minor, code, reason: trim(reason) })
    }
}

impl<'a> Field<'a> {
    /// `None` for a line that is no field.
    fn of(line: &'a [u8]) -> Option<Self> {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        let name = trim_end(name);
        let value = Cow::Borrowed(trim(&value[1..]));
        (!name.is_empty() && name.iter().all(is_token)).then_some(Self { name, value })
    }
}

/// What a field is about, where it cannot just be left out for its control bytes.
enum Kind {
    Coding,
    Length,
    /// Which bytes the body has, and in which coding.
    Framing,
    Location,
    Disposition,
    Other,
}

impl Kind {
    fn of(name: &[u8]) -> Self {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        if is(b"transfer-encoding") {
            Self::Coding
        } else if is(b"content-length") {
            Self::Length
        } else if is(b"content-range") || is(b"content-encoding") || is(b"connection") {
            Self::Framing
        } else if is(b"location") {
            Self::Location
        } else if is(b"content-disposition") {
            Self::Disposition
        } else {
            Self::Other
        }
    }
}

/// The codings that change anything; `identity` used to mean none.
fn effective_codings(value: Cow<'_, [u8]>) -> Option<Cow<'_, [u8]>> {
    let is_none = |coding: &&[u8]| {
        let coding = trim(coding);
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    };
    if !value.split(|byte| *byte == b',').any(|coding| is_none(&coding)) {
        return Some(value);
    }
    let left: Vec<&[u8]> =
        value.split(|byte| *byte == b',').filter(|coding| !is_none(coding)).collect();
    (!left.is_empty()).then(|| left.join(&b',').into())
}

/// Control bytes as the URL parser treats them (URL Standard section 1.3).
fn escaped(value: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len() + 16);
    for byte in value {
        if is_control(byte) {
            text.extend(format!("%{byte:02X}").bytes());
        } else {
            text.push(*byte);
        }
    }
    text
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// A TAB is not one of the control bytes that matter here.
fn is_control(byte: &u8) -> bool {
    byte.is_ascii_control() && *byte != b'\t'
}

fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// Without the blanks and the carriage returns at its end.
fn trim_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| !is_blank(*byte) && *byte != b'\r');
    &line[..end.map_or(0, |end| end + 1)]
}

fn trim(text: &[u8]) -> &[u8] {
    let begin = text.iter().position(|byte| !is_blank(*byte)).unwrap_or(text.len());
    trim_end(&text[begin..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &[u8]) -> Option<(String, bool)> {
        match Reader::default().read(head) {
            Reading::Head { len, text, interim } => {
                assert_eq!(len, head.len(), "{}", head.escape_ascii());
                let text: String = text.iter().copied().map(char::from).collect();
                Some((text.replace("\r\n", "|"), interim))
            }
            Reading::Unreadable => None,
            Reading::Incomplete => panic!("incomplete: {}", head.escape_ascii()),
        }
    }

    /// The fields, after a status line and before the end.
    fn fields(lines: &[u8]) -> Option<String> {
        let head = [b"HTTP/1.1 200 OK\r\n", lines, b"\r\n"].concat();
        let (text, _) = read(&head)?;
        Some(text.strip_prefix("HTTP/1.1 200 OK|").unwrap().strip_suffix('|').unwrap().to_owned())
    }

    #[test]
    fn good_heads_stay_as_they_are() {
        for head in [
            &b"HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Length: 3\r\n\r\n"[..],
            b"HTTP/1.1 200 \r\nX: \xfc\xff\r\nY: \r\n\r\n",
            b"HTTP/1.0 404 Not Found\r\nTransfer-Encodin: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        ] {
            match Reader::default().read(head) {
                Reading::Head { text, .. } => assert_eq!(text, head),
                other => panic!("{other:?} of {}", head.escape_ascii()),
            }
        }
    }

    #[test]
    fn status_lines_are_read_as_others_read_them() {
        for (line, wanted) in [
            (&b"HTTP/1.1 200"[..], "HTTP/1.1 200 "),
            (b"http/1.1 200 ok", "HTTP/1.1 200 ok"),
            (b"HTTP/1.1  \t206   Partial  Content ", "HTTP/1.1 206 Partial  Content"),
            (b" HTTP/1.1 200 OK", "HTTP/1.1 200 OK"),
            (b"\r\n\r\nHTTP/1.1 200 OK", "HTTP/1.1 200 OK"),
            (b"HTTP/1.1 200 Gr\xfc\x01n\r", "HTTP/1.1 200 Gr\u{fc}n"),
            (b"HTTP/1.1 200OK", "HTTP/1.1 200 OK"),
            (b"HTTP/1.2 200 OK", "HTTP/1.1 200 OK"),
            (b"HTTP/2 200", "HTTP/1.1 200 "),
            (b"HTTP 200 OK", "HTTP/1.0 200 OK"),
            (b"ICY 200 OK", "HTTP/1.0 200 OK"),
        ] {
            let head = [line, b"\r\n\r\n"].concat();
            assert_eq!(read(&head), Some((format!("{wanted}||"), false)));
        }
        assert!(read(b"HTTP/1.1 103 Early Hints\r\n\r\n").unwrap().1);
        for line in [
            &b"HTTP/1.1"[..],
            b"HTTP/1.1 20",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 OK",
            b"HTTP/3 200",
            b"HTTP/1.1 101 Switching Protocols",
            b"SSH-2.0-OpenSSH",
            b"<html>",
            b"\x15\x03\x01\x00\x02",
        ] {
            assert_eq!(read(&[line, b"\r\n\r\n"].concat()), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn fields_are_read_as_others_read_them() {
        for (lines, wanted) in [
            (&b"X: a\r\n  b\r\n\tc\r\n"[..], "X: a b c|"),
            (b"X:\r\n a; f=\"b\"\r\n", "X: a; f=\"b\"|"),
            (b" X: folded into nothing\r\nY: 1\r\n", "Y: 1|"),
            (b"PHP Warning: a\r\n goes on\r\nY: 1\r\n", "Y: 1|"),
            (b"preload\r\n: nothing\r\n<!-- x -->\r\nX Y: 1\r\nGr\xc3\xb6: 1\r\nY: 2\r\n", "Y: 2|"),
            (b"X \t: a\r\n", "X: a|"),
            (b"X: a\r\r\nY: b\n", "X: a|Y: b|"),
            (b"X: a\x01\r\nY: b\r\nSet-Cookie: a=b\x7f\r\nETag: \"\x02\"\r\n", "Y: b|"),
            (b"X: a\rb\r\nY: a\tb\r\n", "Y: a\tb|"),
            (b"Location: /a\x7f\x01b\r\n", "Location: /a%7F%01b|"),
            (b"Content-Disposition: a;\x02 f\r\n", "Content-Disposition: a;  f|"),
            (b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "Content-Length: 5|"),
            (b"Transfer-Encoding:\r\nContent-Length: \r\n", ""),
            (b"Transfer-Encoding: Identity, chunked,\r\n", "Transfer-Encoding:  chunked|"),
            (b"Transfer-Encoding : chunked\r\n", "Transfer-Encoding: chunked|"),
            (b"Content-Length: 1\r\n 0\r\n", "Content-Length: 1 0|"),
        ] {
            assert_eq!(fields(lines).as_deref(), Some(wanted), "{}", lines.escape_ascii());
        }
        let old = read(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().0;
        assert_eq!(old, "HTTP/1.1 200 OK|Transfer-Encoding: chunked|Connection: close||");
    }

    #[test]
    fn damaged_framing_is_not_mended() {
        for lines in [
            &b"Content-Length: 1\x010\r\n"[..],
            b"Transfer-Encoding: chunked\x0b\r\n",
            b"Content-Range: bytes 0-1/\x7f2\r\n",
            b"Content-Encoding: gzip\x01\r\n",
            b"X: a\0b\r\n",
            b"a\0b\r\n",
        ] {
            assert_eq!(fields(lines), None, "{}", lines.escape_ascii());
        }
    }

    #[test]
    fn a_head_may_come_in_any_pieces() {
        let head = b"\r\n HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n";
        let whole = Reader::default().read(head);
        let mut reader = Reader::default();
        for end in 1..head.len() {
            assert_eq!(reader.read(&head[..end]), Reading::Incomplete, "{end}");
        }
        assert_eq!(reader.read(&[&head[..], b"body\r\n\r\n"].concat()), whole);
        // Bytes that begin no head are refused at once.
        assert_eq!(Reader::default().read(b"S"), Reading::Unreadable);
        assert_eq!(Reader::default().read(&[b' '; 65]), Reading::Unreadable);
    }
}
