//! What the simulated server answers, faults and all, in the words of HTTP/1.1.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest as _;
use tokio::time::{Instant, sleep};

use super::faults::Fault;
use super::world::{Shared, Version, World, lock};

/// The most requests that are served at once under [`Fault::ConnectionLimit`].
const MOST_BUSY: usize = 2;

/// The time of every response.
const NOW: &str = "Sun, 01 Feb 2026 00:00:00 GMT";

/// What a request says.
#[derive(Debug, Default)]
pub(super) struct Asked {
    method: String,
    pub(super) host: String,
    pub(super) path: String,
    /// First byte, and the one after the last.
    pub(super) range: Option<(u64, u64)>,
    if_match: Option<String>,
    if_unmodified_since: Option<String>,
    cookie: Option<String>,
    /// Whether its connection served another request before.
    pub(super) reused: bool,
}

impl Asked {
    pub(super) fn new(method: &str, reused: bool) -> Self {
        Self { method: method.to_owned(), reused, ..Self::default() }
    }

    /// Takes in a field of the request.
    pub(super) fn take(&mut self, name: &str, value: &str) {
        match name.to_ascii_lowercase().as_str() {
            "host" => self.host = value.to_owned(),
            "range" => {
                let (first, last) =
                    value.strip_prefix("bytes=").unwrap().split_once('-').expect("one range");
                let end = match last {
                    "" => u64::MAX,
                    last => last.parse::<u64>().expect("a last byte") + 1,
                };
                self.range = Some((first.parse().expect("a first byte"), end));
            }
            "if-match" => {
                assert!(!value.contains("W/"), "a weak tag in If-Match (fault 22): {value}");
                self.if_match = Some(value.to_owned());
            }
            "if-unmodified-since" => self.if_unmodified_since = Some(value.to_owned()),
            "if-range" => panic!("haul sends no If-Range"),
            "cookie" => self.cookie = Some(value.to_owned()),
            _ => {}
        }
    }

    pub(super) fn conditional(&self) -> bool {
        self.if_match.is_some() || self.if_unmodified_since.is_some()
    }

    /// Whether it carries the cookie of the host that it asks.
    pub(super) fn has_cookie(&self) -> bool {
        self.cookie.as_ref().is_some_and(|cookie| *cookie == self.own_cookie())
    }

    fn own_cookie(&self) -> String {
        format!("admitted={}", self.host)
    }

    /// How many bytes its range asks for, of an object of `total` bytes.
    fn range_bytes(&self, total: u64) -> Option<u64> {
        self.range.map(|(start, end)| end.min(total).saturating_sub(start))
    }
}

/// How a response ends, early or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All of it, and the connection stays.
    Whole,
    /// All of it, then the connection closes.
    Close,
    /// The connection closes without an answer.
    Hangup,
    /// This many bytes, then a clean close, a reset or silence.
    Cut(u64),
    Reset(u64),
    Silence(u64),
    /// This many bytes, then the end of a TLS stream without close_notify.
    Unnotified(u64),
    /// This many bytes, then a few a second.
    Crawl(u64),
    /// The stream is refused.
    Refused,
    /// All of it, and the connection takes no further stream.
    Leaves,
    /// This many bytes, then the connection and all its streams end.
    LeavesAtOnce(u64),
}

impl End {
    /// How many bytes of the body go out at its usual speed.
    pub(super) fn limit(self) -> u64 {
        match self {
            Self::Cut(at)
            | Self::Reset(at)
            | Self::Silence(at)
            | Self::Unnotified(at)
            | Self::LeavesAtOnce(at)
            | Self::Crawl(at) => at,
            Self::Whole | Self::Close | Self::Leaves => u64::MAX,
            Self::Hangup | Self::Refused => 0,
        }
    }
}

/// A response, ready to be sent.
pub(super) struct Reply {
    /// Up to the empty line, after any interim heads; empty if nothing is answered.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    pub(super) chunked: bool,
    pub(super) end: End,
}

/// The answer to a request, one latency after it came; `None` while the server is
/// down. The server counts as busy until the answer is sent.
pub(super) async fn take_up(asked: &Asked, world: &Shared) -> Option<Reply> {
    let latency = lock(world).link.latency;
    sleep(latency).await;
    let (reply, works) = {
        let mut world = lock(world);
        if world.is_down() {
            return None;
        }
        world.busy += 1;
        let reply = answer(asked, &mut world);
        (reply, std::mem::take(&mut world.works))
    };
    if !works.is_zero() {
        sleep(works).await;
    }
    Some(reply)
}

/// The answer to a request, and what it does to the world.
fn answer(asked: &Asked, world: &mut World) -> Reply {
    if asked.method != "GET" {
        world.other_methods += 1;
        return status(403, "");
    }
    if world.redirects_first && !asked.path.contains("there") {
        return status(302, "Location: /there?X-Amz-Signature=secret\r\n");
    }
    if world.moved && !asked.host.starts_with("mirror") {
        return status(302, MIRROR);
    }
    if world.wants_cookie && !asked.has_cookie() {
        return give_cookie(asked);
    }
    if asked.range_bytes(world.current().len).is_some_and(|bytes| bytes > world.longest_part) {
        world.long_parts += 1;
        return status([403, 413, 416][world.random.usize(0..3)], "");
    }
    let first = world.requests == 0;
    world.requests += 1;
    world.all_requests += 1;
    if !first && let Some(path) = world.foreign.take() {
        std::fs::write(path, "foreign").expect("a foreign file can be written");
    }
    let fault = world.strike(asked, first);
    let line = format!("#{} {:?} {fault:?}", world.all_requests, asked);
    world.log.push(line);
    match fault {
        Some(Fault::Changes | Fault::MalformedTag) => world.change(),
        Some(Fault::CookieWanted) => world.wants_cookie = true,
        Some(Fault::TwoMinutesGone) => gone(world, 120),
        Some(Fault::Restarts) => gone(world, 3),
        Some(Fault::SlowAnswer) => {
            world.works = Duration::from_secs(world.random.u64(40..160));
        }
        _ => {}
    }
    let mut reply = match version_for(fault, asked, world) {
        Ok(version) => answer_of(fault, asked, &version, world),
        Err(reply) => reply,
    };
    if fault == Some(Fault::OddHead) && !world.http2 {
        let odd = "\r\n http/1.1  ";
        let lines = "\r\npreload\r\nX Y : 1\r\n\tfolded\r\nX-Id: a\u{1}b\r\nX-Z : 1\n goes on\r\n";
        reply.head = reply.head.replacen("HTTP/1.1 ", odd, 1).replacen("\r\n", "\0", 1);
        reply.head = reply.head.replacen("\r\n", lines, 1).replacen('\0', "\r\n", 1);
    }
    if world.one_request_each && reply.end == End::Whole {
        reply.end = End::Close;
    }
    reply
}

/// The version that a request meets, or an answer without one.
fn version_for(fault: Option<Fault>, asked: &Asked, world: &mut World) -> Result<Version, Reply> {
    let mirror = world.mirror.as_ref().filter(|_| asked.host.starts_with("mirror"));
    let mut version = mirror.unwrap_or_else(|| world.current()).clone();
    match (fault, &mut version.etag) {
        // An edge also compares with tags of its own.
        (Some(Fault::OtherTag), Some(etag)) => *etag = etag.replace('v', "edge-v"),
        (Some(Fault::WeakTagOnly), etag) => {
            *etag = etag.take().map(|etag| format!("W/{}", etag.trim_start_matches("W/")));
            version.last_modified = None;
        }
        (Some(Fault::NoValidators), etag) => {
            *etag = None;
            version.last_modified = None;
        }
        (Some(Fault::FreshDate), etag) => {
            *etag = None;
            version.last_modified = Some(NOW);
        }
        (Some(Fault::DateIsNow), etag) => *etag = None,
        (Some(Fault::Unshown), etag) if asked.range.is_some() => {
            let foreign = world.has_foreign();
            version.seed = foreign;
            let shown = [None, Some("W/\"v1\""), Some("v1"), Some("\"v1\"\r\nETag: \"x\"")];
            *etag = shown[world.random.usize(0..shown.len())].map(str::to_owned);
            if world.random.bool() {
                version.last_modified = None;
            }
        }
        (Some(Fault::OtherTotal), Some(etag)) => *etag = etag.replace("v", "larger-v"),
        _ => {}
    }
    match fault.and_then(|fault| refusal(fault, asked, &version, world)) {
        Some(reply) => Err(reply),
        None => Ok(version),
    }
}

fn answer_of(fault: Option<Fault>, asked: &Asked, version: &Version, world: &mut World) -> Reply {
    let weak_or_none = version.etag.as_ref().is_none_or(|etag| etag.starts_with("W/"));
    let changed = asked.if_match.as_ref().is_some_and(|tag| Some(tag) != version.etag.as_ref())
        || (weak_or_none
            && asked
                .if_unmodified_since
                .as_ref()
                .is_some_and(|date| Some(date.as_str()) != version.last_modified));
    match asked.range {
        _ if fault == Some(Fault::ConditionFallsBack) => whole(fault, version, world),
        Some(range) if fault == Some(Fault::Unshown) => partial(fault, range, version, world),
        _ if changed => status(412, ""),
        Some(range) => partial(fault, range, version, world),
        None => whole(fault, version, world),
    }
}

fn gone(world: &mut World, seconds: u64) {
    world.down_until = Some(Instant::now() + Duration::from_secs(seconds));
}

fn status(code: u16, fields: &str) -> Reply {
    let head = format!("HTTP/1.1 {code} Said\r\n{fields}Content-Length: 0\r\n\r\n");
    Reply { head, body: Vec::new(), chunked: false, end: End::Whole }
}

fn no_answer(end: End) -> Reply {
    Reply { head: String::new(), body: Vec::new(), chunked: false, end }
}

/// Sets the cookie that is wanted, and redirects to the same place.
fn give_cookie(asked: &Asked) -> Reply {
    let (path, cookie) = (&asked.path, asked.own_cookie());
    status(302, &format!("Location: {path}\r\nSet-Cookie: {cookie}; Path=/; HttpOnly\r\n"))
}

/// The field that leads to the mirror.
const MIRROR: &str = "Location: https://mirror.test/film.mp4\r\n";

/// A response that is neither the object nor a part of it.
fn refusal(fault: Fault, asked: &Asked, version: &Version, world: &mut World) -> Option<Reply> {
    Some(match fault {
        Fault::PreconditionFails if asked.conditional() => status(412, ""),
        Fault::ConditionRefused if asked.conditional() => status(403, ""),
        Fault::SignedForGet if !asked.path.contains("X-Amz-Signature=secret") => status(403, ""),
        Fault::Expired => status([403, 410][world.random.usize(0..2)], ""),
        Fault::Unauthorized => status(401, "WWW-Authenticate: Basic realm=\"x\"\r\n"),
        Fault::RedirectElsewhere if !asked.path.contains("edge") => {
            let edge = world.random.u32(0..4);
            status(302, &format!("Location: https://edge{edge}.test/edge?sig={edge}\r\n"))
        }
        Fault::CookieWanted => give_cookie(asked),
        Fault::RedirectRaw if !asked.path.contains("edge") => {
            status(302, "Location: \t \\edge/gr\u{fc}n film.mp4?a b \r\n")
        }
        Fault::MirrorElsewhere if !asked.host.starts_with("mirror") => {
            world.has_mirror();
            status(302, MIRROR)
        }
        Fault::TwinElsewhere if !asked.host.starts_with("mirror") => {
            world.has_twin();
            status(302, MIRROR)
        }
        Fault::TwinAfterRefusal if !asked.host.starts_with("mirror") => {
            world.has_twin();
            world.moved = true;
            status([401, 403, 410][world.random.usize(0..3)], "")
        }
        Fault::RedirectInTheClear => status(302, "Location: http://origin.test/film.mp4\r\n"),
        Fault::Unsatisfiable => status(416, &format!("Content-Range: bytes */{}\r\n", version.len)),
        Fault::OtherTotalUnsatisfiable if asked.range.is_some() => {
            status(416, &format!("Content-Range: bytes */{}\r\n", version.len + 1))
        }
        // Its bytes are not the object's.
        Fault::TransferCoded => Reply {
            head: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned(),
            body: b"coded".repeat(1000),
            chunked: true,
            end: End::Whole,
        },
        Fault::RedirectLoop => status(302, "Location: /loop\r\n"),
        Fault::RetryAfter => {
            let code = [429, 503][world.random.usize(0..2)];
            status(code, "Retry-After: 7\r\n")
        }
        Fault::ConnectionLimit if world.busy > MOST_BUSY => status(503, ""),
        Fault::ServerError => status(500, ""),
        Fault::RangeRefused if asked.range.is_some() => {
            let codes = [400, 404, 405, 406, 413, 500, 501, 505];
            status(codes[world.random.usize(0..codes.len())], "")
        }
        Fault::RangeHangup if asked.range.is_some() => no_answer(End::Hangup),
        Fault::Refused => {
            let codes = [400, 404, 405, 409, 451, 501, 509];
            status(codes[world.random.usize(0..codes.len())], "")
        }
        Fault::AsksToWait => status([509, 530][world.random.usize(0..2)], "Retry-After: 7\r\n"),
        Fault::ForbidsForNow => status(403, "Retry-After: 7\r\n"),
        Fault::HeaderBomb => {
            let mut fields = String::new();
            for number in 0..10_000 {
                let _ = write!(fields, "X-{number}: y\r\n");
            }
            status(200, &fields)
        }
        Fault::LongHeader => status(200, &format!("X-Long: {}\r\n", "y".repeat(1 << 20))),
        Fault::SilentHead => no_answer(End::Silence(0)),
        Fault::ResetAtOnce => no_answer(End::Reset(0)),
        Fault::ClosesUnderRequest => no_answer(End::Hangup),
        Fault::RefusedStream => no_answer(End::Refused),
        Fault::Page => {
            let body = format!("<html>please log in, {}</html>", version.seed).into_bytes();
            world.pages.push(body.clone());
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            Reply { head, body, chunked: false, end: End::Whole }
        }
        _ => return None,
    })
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(sha2::Sha256::digest(bytes)))
}

/// Flips one bit in the middle, after the digests were made.
fn alter(fault: Option<Fault>, body: &mut [u8]) {
    let middle = body.len() / 2;
    if fault == Some(Fault::AlteredBody)
        && let Some(byte) = body.get_mut(middle)
    {
        *byte ^= 1;
    }
}

fn fields_of(
    version: &Version,
    fault: Option<Fault>,
    (start, end): (u64, u64),
    world: &World,
) -> String {
    let second = world.all_requests % 60;
    let date = match fault {
        Some(Fault::DateIsNow) => NOW.replace(":00 GMT", &format!(":{second:02} GMT")),
        _ => NOW.to_owned(),
    };
    let mut fields = format!("Date: {date}\r\nContent-Type: {}\r\n", version.content_type);
    if let Some(etag) = &version.etag {
        let _ = write!(fields, "ETag: {etag}\r\n");
    }
    if fault == Some(Fault::DateIsNow) {
        let _ = write!(fields, "Last-Modified: {date}\r\n");
    } else if let Some(date) = version.last_modified {
        let _ = write!(fields, "Last-Modified: {date}\r\n");
    }
    if fault == Some(Fault::EncodingDiffers) {
        fields.push_str("Content-Encoding: br\r\n");
    }
    if fault == Some(Fault::WrongDigest) {
        let _ = write!(fields, "Repr-Digest: {}\r\n", digest_of(b"another object"));
    } else if version.digests {
        let whole = version.bytes(0, version.len);
        let _ = write!(fields, "Repr-Digest: {}\r\n", digest_of(&whole));
        let part = &whole[start as usize..end as usize];
        let _ = write!(fields, "Content-Digest: {}\r\n", digest_of(part));
    }
    fields
}

/// How a body that is otherwise right ends under this fault.
fn end_of(fault: Option<Fault>, len: u64) -> End {
    match fault {
        Some(Fault::ShortBody) => End::Cut(len.div_ceil(2)),
        Some(Fault::ResetMidway | Fault::CloseDelimitedReset) => End::Reset(len.div_ceil(2)),
        Some(Fault::UnnotifiedMidway | Fault::UnnotifiedDelimited) => {
            End::Unnotified(len.div_ceil(2))
        }
        Some(Fault::Unnotified) => End::Unnotified(len),
        Some(Fault::GoAway) => End::Leaves,
        Some(Fault::GoAwayMidway) => End::LeavesAtOnce(len.div_ceil(2)),
        Some(Fault::Stalls) => End::Silence(0),
        Some(Fault::Crawls) => End::Crawl(len / 2),
        Some(
            Fault::ClosesAfterwards
            | Fault::LongBody
            | Fault::CloseDelimited
            | Fault::InterimAndClose,
        ) => End::Close,
        _ => End::Whole,
    }
}

fn whole(fault: Option<Fault>, version: &Version, world: &mut World) -> Reply {
    let len = if fault == Some(Fault::OtherLength) { world.other_len } else { version.len };
    let mut body = version.bytes(0, len);
    alter(fault, &mut body);
    let fields = fields_of(version, fault, (0, version.len), world);
    if fault == Some(Fault::EncodingDiffers) {
        // Without an identity to compare with, a client takes coded bytes for the object.
        world.pages.push(body.clone());
    }
    let (close_delimited, chunked) = match fault {
        Some(Fault::CloseDelimited | Fault::CloseDelimitedReset | Fault::UnnotifiedDelimited) => {
            (true, false)
        }
        Some(Fault::Chunked) => (false, true),
        Some(Fault::BreaksMidway) => (false, !world.tells_length),
        Some(Fault::OtherLength) => {
            [(true, false), (false, true), (false, false)][world.random.usize(0..3)]
        }
        _ => (false, false),
    };
    let interim = match fault {
        Some(Fault::InterimAndClose) => "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        _ => "",
    };
    let code = if fault == Some(Fault::WholeAsPartial) { "206 Partial Content" } else { "200 OK" };
    let mut head = format!("{interim}HTTP/1.1 {code}\r\n{fields}");
    if fault == Some(Fault::WholeWithRange) && version.len > 0 {
        let (last, total) = (version.len - 1, version.len);
        let _ = write!(head, "Content-Range: bytes 0-{last}/{total}\r\n");
    }
    if close_delimited {
        head.push_str("Connection: close\r\n\r\n");
    } else if chunked {
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
    } else if fault == Some(Fault::ImpossibleSize) {
        head.push_str("Content-Length: 99999999999999999999999\r\n\r\n");
    } else {
        let _ = write!(head, "Content-Length: {len}\r\n\r\n");
    }
    let end = match fault {
        Some(Fault::BreaksMidway) => End::Reset(world.breaks_at),
        Some(Fault::OtherLength) if close_delimited => End::Close,
        _ => end_of(fault, len),
    };
    Reply { head, body, chunked, end }
}

fn partial(
    fault: Option<Fault>,
    (start, end): (u64, u64),
    version: &Version,
    world: &mut World,
) -> Reply {
    let total = version.len;
    if matches!(
        fault,
        Some(
            Fault::RangeIgnored
                | Fault::Chunked
                | Fault::CloseDelimited
                | Fault::CloseDelimitedReset
                | Fault::UnnotifiedDelimited
                | Fault::WholeWithRange
                | Fault::WholeAsPartial
                | Fault::BreaksMidway
                | Fault::OtherLength
        )
    ) {
        return whole(fault, version, world);
    }
    if start >= total {
        return status(416, &format!("Content-Range: bytes */{total}\r\n"));
    }
    let asked_end = end;
    let mut end = end.min(total).min(start.saturating_add(world.most_bytes));
    world.furthest = world.furthest.max(end);
    let mut start = start;
    let mut told_total = total.to_string();
    let asked_end = asked_end.min(total);
    let mut code = "206 Partial Content";
    match fault {
        Some(Fault::Capped) => end = end.min(start + 10_000),
        // The length is what was asked for, so that only the place tells.
        Some(Fault::StartsElsewhere) if start > 0 => (start, end) = (start - 1, end - 1),
        Some(Fault::StartsElsewhere) => (start, end) = (1.min(end - 1), (end + 1).min(total)),
        Some(Fault::EndsBeyond) => end = (end + 4096).min(total),
        Some(Fault::SlicePosing) => code = "200 OK",
        Some(Fault::TotalOfPart) => told_total = asked_end.to_string(),
        Some(Fault::OtherTotal | Fault::OtherTotalSameTag) => told_total = (total + 1).to_string(),
        Some(Fault::UnknownTotal) => told_total = "*".to_owned(),
        Some(Fault::ImpossibleSize) => told_total = "99999999999999999999999".to_owned(),
        _ => {}
    }
    let mut body = version.bytes(start, end);
    alter(fault, &mut body);
    let mut length = body.len();
    match fault {
        Some(Fault::LengthMismatch) => {
            body.push(0);
            length += 1;
        }
        Some(Fault::LongBody) => body.extend_from_slice(b"beyond the end"),
        _ => {}
    }
    let mut fields = fields_of(version, fault, (start, end), world);
    if fault == Some(Fault::Multipart) {
        let date = fields.find("Content-Type").expect("it has one");
        fields.truncate(date);
        fields.push_str("Content-Type: multipart/byteranges; boundary=x\r\n");
    }
    let interim = match fault {
        Some(Fault::InterimAndClose) => "HTTP/1.1 100 Continue\r\n\r\n",
        _ => "",
    };
    // A length would end the body before the bytes beyond it.
    let chunked = fault == Some(Fault::LongBody);
    let framing = if chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {length}")
    };
    let mut head = format!("{interim}HTTP/1.1 {code}\r\n{fields}{framing}\r\n");
    if fault != Some(Fault::NoContentRange) {
        let _ = write!(head, "Content-Range: bytes {start}-{}/{told_total}\r\n", end - 1);
    }
    if fault == Some(Fault::InterimAndClose) {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    let end = end_of(fault, body.len() as u64);
    Reply { head, body, chunked, end }
}
