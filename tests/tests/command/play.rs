//! `haul play`: an object served on loopback while it downloads.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use haul_tests::origin::closed_port;
use haul_tests::prelude::*;
use serde_json::Value;

const SIZE: u64 = 16 * MIB + 4321;

fn object() -> Object {
    Object::new(1, SIZE).with_content_type("video/mp4")
}

fn play(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox, bare)
        .args(["play", "-x", "4", "--retry", "2", "--stall-timeout", "5s"])
        .arg(origin.url("/film.mp4"))
}

/// A `play` that runs, as its clients see it.
pub(crate) struct Playing {
    pub(crate) running: Running,
    port: u16,
    /// Of the object; the page is its parent.
    pub(crate) path: String,
}

impl Playing {
    pub(crate) fn start(haul: Haul) -> Self {
        Self::of(haul.start())
    }

    fn of(mut running: Running) -> Self {
        running.wait_until("it serves", |running| running.stdout().contains('\n'));
        let stdout = running.stdout();
        let endpoint = stdout.lines().next().unwrap();
        let (host, path) =
            endpoint.strip_prefix("http://127.0.0.1:").unwrap().split_once('/').unwrap();
        Self { port: host.parse().unwrap(), path: format!("/{path}"), running }
    }

    pub(crate) fn page(&self) -> &str {
        &self.path[..=self.path.rfind('/').unwrap()]
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Asks with the right `Host`, and these fields.
    pub(crate) fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let host = format!("127.0.0.1:{}", self.port);
        self.send(method, path, &[&[("Host", host.as_str())], fields].concat())
    }

    /// Asks with these fields and no others.
    fn send(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer to its end");
        Answer::read(&bytes)
    }

    pub(crate) fn range(&self, range: &str) -> Answer {
        self.ask("GET", &self.path, &[("Range", range)])
    }

    pub(crate) fn status(&self) -> Value {
        let answer = self.ask("GET", &format!("{}?status", self.page()), &[]);
        serde_json::from_slice(&answer.body).expect("JSON")
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1)
    }
}

#[test]
fn ranges_at_random_offsets_are_right_while_it_downloads() {
    let mut random = Random::new();
    let object = object();
    let throttle = Throttle::new(MIB).crawling_after(13 * MIB);
    let origin = Origin::throttled(&object, &throttle);
    let sandbox = Sandbox::new();
    let playing = Playing::start(play(&sandbox, &origin));
    for _ in 0..12 {
        let start = random.below(SIZE);
        let end = (start + 1 + random.below(200_000)).min(SIZE);
        let answer = playing.range(&format!("bytes={start}-{}", end - 1));
        assert_eq!(answer.status, 206, "{}", answer.head);
        assert!(answer.body == object.bytes(start..end), "{start}-{end}: {}", answer.head);
        let range = format!("bytes {start}-{}/{SIZE}", end - 1);
        assert_eq!(answer.field("content-range"), Some(range.as_str()));
        assert_eq!(answer.field("content-length"), Some((end - start).to_string().as_str()));
        assert_eq!(answer.field("content-type"), Some("video/mp4"));
        assert_eq!(answer.field("accept-ranges"), Some("bytes"));
        assert_eq!(answer.field("etag"), object.etag());
    }
    let status = playing.status();
    assert!(status["bytes"].as_u64().unwrap() < SIZE && status["complete"] == false, "{status}");
    throttle.lift();
    // The whole, by whoever reads it like a file.
    let whole = playing.ask("GET", &playing.path, &[]);
    assert_eq!((whole.status, whole.body.len() as u64), (200, SIZE));
    assert!(whole.body == object.bytes(0..SIZE));
    playing.running.finish().expect(0);
    sandbox.assert_published("film.mp4", &object);
}

#[test]
fn requests_are_answered_as_http_wants_it() {
    let object = object();
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let playing = Playing::start(play(&sandbox, &origin));
    let path = playing.path.clone();
    let head = playing.ask("HEAD", &path, &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.field("content-length"), Some(SIZE.to_string().as_str()));
    let head = playing.ask("HEAD", &path, &[("Range", "bytes=0-9")]);
    assert_eq!((head.status, head.field("content-length")), (206, Some("10")));
    assert!(playing.range("bytes=-77").body == object.bytes(SIZE - 77..SIZE));
    let from = format!("bytes={}-", SIZE - 10);
    assert!(playing.range(&from).body == object.bytes(SIZE - 10..SIZE));
    let beyond = playing.range(&format!("bytes={SIZE}-"));
    assert_eq!((beyond.status, beyond.body.len()), (416, 0));
    assert_eq!(beyond.field("content-range"), Some(format!("bytes */{SIZE}").as_str()));
    // What a server may ignore is ignored.
    for range in ["bytes=0-1,5-6", "bytes=5-1", "items=0-1", "bytes=x"] {
        assert_eq!(playing.ask("HEAD", &path, &[("Range", range)]).status, 200, "{range}");
    }
    let range = ("Range", "bytes=0-9");
    for (version, status) in [(object.etag().unwrap(), 206), ("\"other\"", 200), ("W/\"x\"", 200)] {
        let answer = playing.ask("HEAD", &path, &[range, ("If-Range", version)]);
        assert_eq!(answer.status, status, "{version}");
    }
    let post = playing.ask("POST", &path, &[("Content-Length", "0")]);
    assert_eq!((post.status, post.field("allow")), (405, Some("GET, HEAD")));
    // Two requests on one connection.
    let mut stream = playing.connect();
    for last in [false, true] {
        let close = if last { "Connection: close\r\n" } else { "" };
        let host = format!("Host: 127.0.0.1:{}\r\n", playing.port);
        let request = format!("HEAD {path} HTTP/1.1\r\n{host}{close}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
    }
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("200 OK").count(), 2);
    playing.running.finish().expect(0);
}

#[test]
fn fault_087_foreign_hosts_origins_and_guessed_paths_are_refused() {
    let object = object();
    let throttle = Throttle::new(4 * MIB).crawling_after(8 * MIB);
    let origin = Origin::throttled(&object, &throttle);
    let sandbox = Sandbox::new();
    let playing = Playing::start(play(&sandbox, &origin));
    let (path, port) = (playing.path.clone(), playing.port);
    let token = path.split('/').nth(1).unwrap();
    assert!(token.len() >= 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let few = ("Range", "bytes=0-9");
    // A name of the attacker's that was rebound to this address.
    let (evil, any) = (format!("evil.test:{port}"), format!("0.0.0.0:{port}"));
    for host in [&*evil, &*any, "127.0.0.1", "127.0.0.1:1", "localhost"] {
        for target in [&path, playing.page()] {
            let answer = playing.send("GET", target, &[("Host", host), few]);
            assert_eq!((answer.status, answer.body.len()), (421, 0), "{host}");
        }
    }
    assert!(matches!(playing.send("GET", &path, &[few]).status, 400 | 421), "no Host at all");
    let twice = playing.ask("GET", &path, &[("Host", &evil), few]);
    assert!(matches!(twice.status, 400 | 421) && twice.body.is_empty(), "{}", twice.head);
    let absolute = format!("http://evil.test:{port}{path}");
    assert_eq!(playing.ask("GET", &absolute, &[few]).status, 421);
    // A page of another site that knows the path.
    for foreign in [
        ("Origin", "http://evil.test"),
        ("Origin", "null"),
        ("Origin", "http://127.0.0.1:1"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        let answer = playing.ask("GET", &path, &[few, foreign]);
        assert_eq!((answer.status, answer.body.len()), (403, 0), "{foreign:?}");
    }
    let own = format!("http://127.0.0.1:{port}");
    for (name, value) in [("Origin", own.as_str()), ("Sec-Fetch-Site", "same-origin")] {
        let answer = playing.ask("GET", &path, &[few, (name, value)]);
        assert_eq!(answer.status, 206, "its own page may");
        assert_eq!(answer.field("access-control-allow-origin"), None);
        assert_eq!(answer.field("cross-origin-resource-policy"), Some("same-origin"));
        // Whatever the server calls it, it is no page here and has no script.
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
        let policy = answer.field("content-security-policy");
        assert_eq!(policy, Some("sandbox; default-src 'none'"));
        // The path is a secret.
        assert_eq!(answer.field("referrer-policy"), Some("no-referrer"));
        assert!(answer.body == object.bytes(0..10));
    }
    // Nothing else is here, and nothing tells how near a guess was.
    let other = format!("/{}/film.mp4", "0".repeat(token.len()));
    let above = format!("/{token}/../../../../etc/passwd");
    let shorter = format!("/{}/film.mp4", &token[1..]);
    let beginning = format!("/{}/film.mp4", &token[..token.len() - 1]);
    let sibling = format!("/{token}/film.mp4.haul");
    let guesses = ["/", "/film.mp4", "//film.mp4", "/favicon.ico", &other, &above];
    for guess in guesses.into_iter().chain([&*shorter, &*beginning, &*sibling]) {
        let answer = playing.ask("GET", guess, &[few]);
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{guess}");
    }
    // Loopback only, as the kernel tells it.
    let listening = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let listening: Vec<&str> = listening
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .filter(|local| local.ends_with(&format!(":{port:04X}")))
        .collect();
    assert!(listening.iter().all(|local| local.starts_with("0100007F:")), "{listening:?}");
    throttle.lift();
    let outcome = playing.running.finish();
    outcome.expect(0);
    sandbox.assert_published("film.mp4", &object);
}

#[test]
fn fault_087_half_open_connections_do_not_keep_a_player_out() {
    let object = object();
    let throttle = Throttle::new(MIB).crawling_after(8 * MIB);
    let origin = Origin::throttled(&object, &throttle);
    let sandbox = Sandbox::new();
    let playing = Playing::start(play(&sandbox, &origin));
    // Somebody watches, over the oldest connection.
    let mut watching = playing.connect();
    let request = format!("GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n", playing.path, playing.port);
    watching.write_all(format!("{request}Connection: close\r\n\r\n").as_bytes()).unwrap();
    let mut watched = vec![0];
    watching.read_exact(&mut watched).expect("an answer begins");
    let half_open: Vec<TcpStream> = (0..500)
        .map(|number| {
            let mut stream = playing.connect();
            // Some say nothing, some begin a request and never end it.
            if number % 2 == 0 {
                let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-");
            }
            stream
        })
        .collect();
    let answer = playing.range("bytes=1000000-1000999");
    assert_eq!(answer.status, 206);
    assert!(answer.body == object.bytes(1_000_000..1_001_000));
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", playing.running.pid())).unwrap();
    let descriptors = descriptors.count();
    assert!(descriptors < 64 + 40, "{descriptors} descriptors for 500 connections");
    throttle.lift();
    let whole = playing.ask("GET", &playing.path, &[]);
    assert!(whole.body == object.bytes(0..SIZE), "the download is unharmed");
    watching.read_to_end(&mut watched).expect("an answer to its end");
    assert!(Answer::read(&watched).body == object.bytes(0..SIZE), "and who watched goes on");
    drop(half_open);
    playing.running.finish().expect(0);
    sandbox.assert_published("film.mp4", &object);
}

#[test]
fn fault_087_half_open_connections_do_not_keep_it_running() {
    let object = object();
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let playing = Playing::start(play(&sandbox, &origin));
    let silent = playing.connect();
    let mut begun = playing.connect();
    begun.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-").unwrap();
    // Both stay open on this side.
    playing.running.finish().expect(0);
    sandbox.assert_published("film.mp4", &object);
    drop((silent, begun));
}

#[test]
fn fault_087_path_of_a_killed_run_is_no_path_of_the_next() {
    let object = object();
    let throttle = Throttle::new(2 * MIB).crawling_after(8 * MIB);
    let origin = Origin::throttled(&object, &throttle);
    let sandbox = Sandbox::new();
    let mut killed = Playing::start(play(&sandbox, &origin));
    let checkpoint = sandbox.checkpoint("film.mp4");
    killed.running.wait_until("there is a checkpoint", |_| checkpoint.exists());
    let of_killed = killed.path.clone();
    killed.running.signal(Signal::KILL);
    killed.running.finish();

    let playing = Playing::start(play(&sandbox, &origin));
    let few = ("Range", "bytes=0-9");
    assert_ne!(playing.path, of_killed);
    assert_eq!(playing.ask("GET", &of_killed, &[few]).status, 404);
    let evil = ("Host", "evil.test");
    assert_eq!(playing.send("GET", &playing.path, &[evil, few]).status, 421);
    let foreign = ("Origin", "http://evil.test");
    assert_eq!(playing.ask("GET", &playing.path, &[few, foreign]).status, 403);
    assert!(playing.ask("GET", &playing.path, &[few]).body == object.bytes(0..10));
    throttle.lift();
    playing.running.finish().expect(0);
    sandbox.assert_published("film.mp4", &object);
}

/// A film as far as its boxes go, with `moov` at the end.
fn film() -> Vec<u8> {
    let moov = 3 * MIB as usize;
    let media = 48 * MIB as usize;
    let mut film = Vec::new();
    let head = |kind: &[u8; 4], size: usize| {
        let size = u32::try_from(size).unwrap().to_be_bytes();
        [&size[..], kind].concat()
    };
    film.extend(head(b"ftyp", 24));
    film.extend(b"isom\0\0\x02\0isomiso2");
    film.extend(head(b"mdat", media + 8));
    film.extend(Object::new(5, media as u64).bytes(0..media as u64));
    film.extend(head(b"moov", moov + 8));
    film.extend(vec![0; moov]);
    film
}

#[test]
fn moov_at_the_end_is_requested_before_the_media() {
    let film = Arc::new(film());
    let size = film.len() as u64;
    let throttle = Throttle::new(MIB);
    let origin = {
        let (film, throttle) = (Arc::clone(&film), throttle.clone());
        Origin::start(move |request, _| {
            let Some(range) = request.range().and_then(|range| range.within(size)) else {
                return Response::unsatisfiable(size);
            };
            let body = film[range.start as usize..range.end as usize].to_vec();
            let response = Response::new(206)
                .header("ETag", "\"film\"")
                .header("Content-Length", &body.len().to_string())
                .content_range(&range, &size.to_string())
                .bytes(body);
            throttle.apply(response)
        })
    };
    let sandbox = Sandbox::new();
    let playing = Playing::start(play(&sandbox, &origin));
    let moov = size - 3 * MIB - 8;
    // Nobody asked for it yet.
    playing_until(&origin, |starts| starts.iter().any(|start| *start + 2 * MIB > moov));
    // By the order in which it connected, whichever request was read first.
    let mut requests = origin.requests();
    requests.sort_by_key(|it| (it.connection, it.request_on_connection));
    let starts: Vec<u64> = requests.iter().map(|it| it.request.start()).collect();
    let early = starts.iter().position(|start| *start + 2 * MIB > moov).unwrap();
    assert_eq!(early, 1, "after the start, and beside nothing else: {starts:?}");
    let answer = playing.range(&format!("bytes={moov}-"));
    assert!(answer.body == film[moov as usize..]);
    assert!(origin.sent_bytes() < size / 2, "long before the media came");
    throttle.lift();
    let media = playing.range("bytes=1000000-1999999");
    assert!(media.body == film[1_000_000..2_000_000]);
    playing.running.finish().expect(0);
    assert!(std::fs::read(sandbox.path("film.mp4")).unwrap() == *film);
}

fn playing_until(origin: &Origin, condition: impl Fn(&[u64]) -> bool) {
    origin.wait_until("what is waited for is requested", |origin| {
        let requests = origin.requests();
        let starts: Vec<u64> = requests.iter().map(|it| it.request.start()).collect();
        condition(&starts)
    });
}

#[test]
fn the_page_is_self_contained_and_the_status_tells_how_it_goes() {
    let object = object();
    let throttle = Throttle::new(MIB);
    let origin = Origin::throttled(&object, &throttle);
    let sandbox = Sandbox::new();
    let playing = Playing::start(play(&sandbox, &origin));
    let page = playing.ask("GET", playing.page(), &[]);
    assert_eq!(page.status, 200);
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'nonce-"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"));
    let text = String::from_utf8(page.body).unwrap();
    assert!(text.contains("<video") && text.contains("<canvas"));
    for outside in ["http:", "https:", "//cdn", "@import", "url(", "NONCE"] {
        assert!(!text.contains(outside), "{outside} is in the page");
    }
    let status = playing.status();
    assert_eq!(status["name"], "film.mp4");
    assert_eq!(status["total"], SIZE);
    assert_eq!(status["type"], "video/mp4");
    assert!(status["map"].as_array().unwrap().len() >= 8, "{status}");
    throttle.lift();
    playing.ask("GET", &playing.path, &[]);
    let mut running = playing;
    loop {
        let status = running.status();
        if status["complete"] == true {
            assert!(status["map"].as_array().unwrap().iter().all(|cell| cell == 100));
            break;
        }
        assert!(!running.running.has_ended());
        thread::sleep(Duration::from_millis(20));
    }
    running.running.finish().expect(0);
}

#[test]
fn a_player_is_started_on_the_endpoint_and_the_end_is_its_end() {
    let object = object();
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let seen = sandbox.root().join("home/seen");
    let script = sandbox.root().join("home/player.sh");
    std::fs::write(&script, "echo noise; printf %s \"$2\" > \"$1\"").unwrap();
    let player = format!("/bin/sh {} {}", script.display(), seen.display());
    let mut playing = Playing::start(play(&sandbox, &origin).args(["--player", &player]));
    let endpoint = format!("http://127.0.0.1:{}{}", playing.port, playing.path);
    playing.running.wait_until("player and download have ended", |_| {
        seen.exists() && sandbox.path("film.mp4").exists()
    });
    let both_ended = Instant::now();
    let outcome = playing.running.finish();
    outcome.expect(0);
    let waited = both_ended.elapsed();
    assert!(waited < Duration::from_secs(5), "nobody is waited for: {waited:?}, {outcome:?}");
    assert_eq!(std::fs::read_to_string(&seen).unwrap(), endpoint);
    let told = String::from_utf8(outcome.stdout.clone()).unwrap();
    assert_eq!(told, format!("{endpoint}\n"), "and nothing of the player");
    std::fs::remove_file(seen).unwrap();
    std::fs::remove_file(script).unwrap();
    sandbox.assert_published("film.mp4", &object);

    let sandbox = Sandbox::new();
    // Asked to, it ends though nobody ever came; how to use it is told beside the address.
    let ended = Sandbox::new();
    let outcome = play(&ended, &origin).arg("--end-when-complete").run();
    outcome.expect(0);
    assert!(outcome.text().contains("open that address in a player"), "{outcome}");
    ended.assert_published("film.mp4", &object);

    let asked = origin.requests().len();
    for player in ["no-such-player", "./no-such-player"] {
        let outcome = play(&sandbox, &origin).args(["--player", player]).run();
        outcome.expect(2).expect_message("there is no program");
        assert!(outcome.stdout.is_empty(), "{outcome}");
    }
    assert_eq!(origin.requests().len(), asked, "nothing was started for it");
    sandbox.assert_nothing_left();
}

#[test]
fn an_interrupted_play_continues_as_a_download() {
    let object = object();
    let throttle = Throttle::new(MIB).crawling_after(8 * MIB);
    let origin = Origin::throttled(&object, &throttle);
    let sandbox = Sandbox::new();
    let playing = Playing::start(play(&sandbox, &origin));
    let answer = playing.range("bytes=9000000-9000009");
    assert_eq!(answer.status, 206);
    // A reader that waits does not hold it up.
    let mut waiting = playing.connect();
    let request =
        format!("GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", playing.path, playing.port);
    waiting.write_all(request.as_bytes()).unwrap();
    playing.running.signal(Signal::INT);
    let outcome = playing.running.finish();
    outcome.expect(130);
    assert!(outcome.elapsed < Duration::from_secs(30));
    sandbox.assert_kept("film.mp4");
    throttle.lift();
    let outcome = haul!(sandbox).args(["-o", "film.mp4"]).arg(origin.url("/film.mp4")).run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() > 0);
    sandbox.assert_published("film.mp4", &object);
}

#[test]
fn a_file_that_is_complete_is_played_without_being_fetched_again() {
    let object = object().with_last_modified(Some(1_600_000_000));
    let (origin, sandbox) = (Origin::serving(&object), Sandbox::new());
    haul!(sandbox).args(["-o", "film.mp4"]).arg(origin.url("/film.mp4")).run().expect(0);
    let (asked, sent) = (origin.requests().len(), origin.sent_bytes());
    let playing = Playing::start(play(&sandbox, &origin));
    let answer = playing.range("bytes=9000000-9000099");
    assert!(answer.status == 206 && answer.body == object.bytes(9_000_000..9_000_100));
    assert_eq!(playing.status()["complete"], true);
    let outcome = playing.running.finish();
    outcome.expect(0);
    assert!(outcome.text().contains("film.mp4 is already complete (16 MiB)"), "{outcome}");
    assert_eq!(origin.requests().len(), asked + 1);
    assert!(origin.sent_bytes() <= sent + 1, "one byte tells as much as all of them");
    sandbox.assert_published("film.mp4", &object);
}

#[test]
fn another_haul_is_waited_for_and_its_file_played() {
    let object = object().with_last_modified(Some(1_600_000_000));
    let throttle = Throttle::new(2 * MIB).crawling_after(2 * MIB);
    let (origin, sandbox) = (Origin::throttled(&object, &throttle), Sandbox::new());
    let first = haul!(sandbox).args(["-o", "film.mp4"]).arg(origin.url("/film.mp4"));
    let mut first = first.start();
    first.wait_until("it has begun", |running| running.bytes() > 0);
    play(&sandbox, &origin).run().expect(3).expect_message("another haul");
    // Each look listens on the same port.
    let port = closed_port();
    let words = ["--locked=wait", "--port", &port.to_string()];
    let mut waiting = play(&sandbox, &origin).args(words).start();
    waiting.wait_until("it waits", |running| running.stderr().contains("note: waiting: "));
    throttle.lift();
    first.finish().expect(0);
    let playing = Playing::of(waiting);
    assert_eq!(playing.port, port);
    let answer = playing.range("bytes=9000000-9000099");
    assert!(answer.body == object.bytes(9_000_000..9_000_100), "{}", answer.head);
    let outcome = playing.running.finish();
    outcome.expect(0);
    assert_eq!(outcome.text().matches("waiting: ").count(), 1, "it is told once\n{outcome}");
    sandbox.assert_published("film.mp4", &object);
}

#[test]
fn what_cannot_be_played_is_told_as_by_a_download() {
    let sandbox = Sandbox::new();
    let origin = Origin::start(|_, _| Response::empty(404));
    let outcome = play(&sandbox, &origin).run();
    outcome.expect(8);
    assert!(outcome.stdout.is_empty());
    let origin = Origin::start(move |request, _| standard(&object(), request));
    let taken = origin.port().to_string();
    let outcome = play(&sandbox, &origin).args(["--port", &taken]).run();
    outcome.expect(3).expect_message("cannot serve on port");
    assert!(origin.requests().is_empty(), "nothing was fetched for it");
    sandbox.assert_nothing_left();
    haul!(sandbox, bare).args(["play", "film.mp4"]).run().expect(2);
}
