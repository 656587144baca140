//! As much HTTP/1.1 as a file server needs: one head in, one head out. Pure.

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The path as sent, without the query.
    pub path: String,
    /// Without a body.
    pub head: bool,
    /// The Range field, when it is one that this server understands.
    pub range: Option<Asked>,
    /// Whether the connection stays open afterwards.
    pub keep_alive: bool,
}

/// A single range as asked (RFC 9110, section 14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// From a first byte to a last one, inclusive, or to the end.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

/// A half-open span of the object, or a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200.
    Whole,
    /// 206 with `start..end`.
    Part(u64, u64),
    /// 416.
    Unsatisfiable,
}

impl Request {
    /// Reads a head that ends with an empty line; `None` when it is none of GET and HEAD.
    #[must_use]
    pub fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if !matches!(method, "GET" | "HEAD") {
            return None;
        }
        let mut request = Self {
            path: target.split('?').next().unwrap_or_default().to_owned(),
            head: method == "HEAD",
            range: None,
            keep_alive: version == "HTTP/1.1",
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("range") {
                request.range = parse_range(value);
            } else if name.eq_ignore_ascii_case("connection") {
                // Keep-alive in an HTTP/1.0 request is honoured: wget2 and axel send it.
                request.keep_alive = !value.eq_ignore_ascii_case("close");
            }
        }
        Some(request)
    }

    /// What an object of `size` bytes has to answer.
    #[must_use]
    pub fn answer(&self, size: u64) -> Answer {
        match self.range {
            None => Answer::Whole,
            Some(Asked::Last(0)) => Answer::Unsatisfiable,
            Some(Asked::Last(count)) => Answer::Part(size.saturating_sub(count), size),
            Some(Asked::From(first, _)) if first >= size => Answer::Unsatisfiable,
            Some(Asked::From(first, last)) => {
                Answer::Part(first, last.map_or(size, |last| last.saturating_add(1).min(size)))
            }
        }
    }
}

/// A range that is malformed or a list is ignored, as RFC 9110 allows.
fn parse_range(value: &str) -> Option<Asked> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return Some(Asked::Last(last.parse().ok()?));
    }
    let first = first.parse().ok()?;
    let last: Option<u64> = if last.is_empty() { None } else { Some(last.parse().ok()?) };
    (last.is_none_or(|last| last >= first)).then_some(Asked::From(first, last))
}

impl Answer {
    /// The span of body bytes, half-open.
    #[must_use]
    pub fn span(self, size: u64) -> (u64, u64) {
        match self {
            Self::Whole => (0, size),
            Self::Part(start, end) => (start, end),
            Self::Unsatisfiable => (0, 0),
        }
    }

    /// The head of a response about an object of `size` bytes and this media type.
    #[must_use]
    pub fn head(self, size: u64, media_type: &str, keep_alive: bool) -> String {
        let (start, end) = self.span(size);
        let status = match self {
            Self::Whole => "200 OK".to_owned(),
            Self::Part(..) => {
                let last = end - 1;
                format!("206 Partial Content\r\nContent-Range: bytes {start}-{last}/{size}")
            }
            Self::Unsatisfiable => {
                format!("416 Range Not Satisfiable\r\nContent-Range: bytes */{size}")
            }
        };
        let connection = if keep_alive { "keep-alive" } else { "close" };
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Type: {media_type}\r\n\
             Accept-Ranges: bytes\r\nETag: \"race-{size:x}\"\r\n\
             Last-Modified: Sat, 01 Jan 2022 00:00:00 GMT\r\nConnection: {connection}\r\n\r\n",
            end - start
        )
    }
}

/// The media type of the file at `path`, by its extension: some programs tell by it what a playlist
/// is.
#[must_use]
pub fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("m3u8") => "application/vnd.apple.mpegurl",
        Some("mpd") => "application/dash+xml",
        Some("ts") => "video/mp2t",
        Some("mp4") => "video/mp4",
        Some("m4s") => "video/iso.segment",
        _ => "application/octet-stream",
    }
}

/// What a request for a file gets that is not there.
pub const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\
                             Connection: close\r\n\r\n";

/// What a connection too many gets.
pub const TOO_MANY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\
                            Connection: close\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fields: &str) -> Option<Request> {
        Request::parse(&format!("GET /object?run=1 HTTP/1.1\r\nHost: x\r\n{fields}\r\n"))
    }

    #[test]
    fn ranges_are_answered_as_the_standard_says() {
        for (range, answer) in [
            ("", Answer::Whole),
            ("Range: bytes=0-0\r\n", Answer::Part(0, 1)),
            ("RANGE: bytes=10-19\r\n", Answer::Part(10, 20)),
            ("Range: bytes=90-\r\n", Answer::Part(90, 100)),
            ("Range: bytes=90-500\r\n", Answer::Part(90, 100)),
            ("Range: bytes=-30\r\n", Answer::Part(70, 100)),
            ("Range: bytes=-300\r\n", Answer::Part(0, 100)),
            ("Range: bytes=-0\r\n", Answer::Unsatisfiable),
            ("Range: bytes=100-\r\n", Answer::Unsatisfiable),
            ("Range: bytes=5-4\r\n", Answer::Whole),
            ("Range: bytes=0-1,5-6\r\n", Answer::Whole),
            ("Range: lines=0-1\r\n", Answer::Whole),
        ] {
            assert_eq!(parse(range).expect(range).answer(100), answer, "{range}");
        }
    }

    #[test]
    fn a_head_says_its_method_and_whether_the_connection_stays() {
        let plain = parse("").expect("plain");
        assert!(plain.keep_alive);
        assert_eq!(plain.path, "/object");
        assert!(!parse("Connection: close\r\n").expect("close").keep_alive);
        assert!(!Request::parse("GET / HTTP/1.0\r\n\r\n").expect("1.0").keep_alive);
        assert!(Request::parse("HEAD / HTTP/1.1\r\n\r\n").expect("head").head);
        assert_eq!(Request::parse("POST / HTTP/1.1\r\n\r\n"), None);
        assert_eq!(Request::parse("nonsense\r\n\r\n"), None);
    }

    #[test]
    fn the_response_names_the_part_inclusively() {
        let head = Answer::Part(10, 20).head(100, media_type("/film/s1.ts"), true);
        assert!(head.starts_with("HTTP/1.1 206 Partial Content\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Range: bytes 10-19/100\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Length: 10\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: video/mp2t\r\n"), "{head}");
        let head = Answer::Unsatisfiable.head(100, media_type("/object"), false);
        assert!(head.contains("bytes */100\r\n"), "{head}");
    }
}
