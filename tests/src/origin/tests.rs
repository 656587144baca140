use std::io::{Read, Write};
use std::sync::mpsc;

use super::*;

const SIZE: u64 = 3_000_000;

fn connect(origin: &Origin) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, origin.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, headers: &str) {
    write!(stream, "GET /file HTTP/1.1\r\nHost: h\r\n{headers}\r\n").unwrap();
}

/// Reads one head; what follows it stays in the socket.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn honest_ranges_on_one_connection() {
    let object = Object::new(1, SIZE);
    let origin = Origin::serving(&object);
    let mut stream = connect(&origin);
    for range in [0..SIZE, 1_000_001..2_000_000, SIZE - 1..SIZE] {
        ask(&mut stream, &format!("Range: bytes={}-{}\r\n", range.start, range.end - 1));
        let head = head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
        assert_eq!(object.compare_reader(&mut stream, range).unwrap(), None);
    }
    assert_eq!(origin.connections(), 1);
    origin.wait_until("the counts are in", |origin| {
        origin.requests().last().is_some_and(Record::is_finished)
    });
    let requests = origin.requests();
    assert_eq!(requests[1].request_on_connection, 1);
    assert_eq!(requests[1].status(), Some(206));
    assert_eq!(requests[1].sent_bytes(), 999_999);
    assert_eq!(origin.sent_bytes(), SIZE + 999_999 + 1);
}

#[test]
fn cut_sends_exactly_so_much_and_ends() {
    let object = Object::new(1, SIZE);
    for end in [End::Close, End::Reset] {
        let object = object.clone();
        let origin = Origin::start(move |request, _| standard(&object, request).cut(12_345, end));
        let mut stream = connect(&origin);
        ask(&mut stream, "");
        assert!(head(&mut stream).contains("Content-Length: 3000000"));
        let mut body = Vec::new();
        let result = stream.read_to_end(&mut body);
        if end == End::Close {
            assert_eq!((result.unwrap(), body.len()), (12_345, 12_345));
        } else {
            assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
}

#[test]
fn stall_holds_until_its_gate_opens() {
    let gate = Gate::new();
    let (object, held) = (Object::new(1, SIZE), gate.clone());
    let script = object.clone();
    let origin = Origin::start(move |request, _| standard(&script, request).stall(1000, &held));
    let mut stream = connect(&origin);
    ask(&mut stream, "");
    head(&mut stream);
    assert_eq!(object.compare_reader(&mut stream, 0..1000).unwrap(), None);
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(stream.read(&mut [0]).is_err(), "a byte came through the gate");
    gate.open();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(object.compare_reader(&mut stream, 1000..SIZE).unwrap(), None);
}

#[test]
fn stalled_response_ends_when_the_peer_goes() {
    let object = Object::new(1, SIZE);
    let origin =
        Origin::start(move |request, _| standard(&object, request).stall(10, &Gate::new()));
    let mut stream = connect(&origin);
    ask(&mut stream, "");
    head(&mut stream);
    drop(stream);
    origin.wait_until("the response has ended", |origin| {
        origin.shared.in_flight.load(Ordering::Acquire) == 0
    });
    assert!(!origin.requests()[0].is_finished());
}

#[test]
fn drop_ends_stalled_slow_and_blocked_responses() {
    let object = Object::new(1, 1 << 40);
    let origin = Origin::start(move |request, context| {
        let honest = standard(&object, request);
        match context.index {
            0 => honest.stall(10, &Gate::new()),
            1 => honest.rate(1),
            2 => honest.delay(Duration::from_secs(3600)),
            _ => honest,
        }
    });
    let mut streams: Vec<_> = (0..4).map(|_| connect(&origin)).collect();
    for (count, stream) in streams.iter_mut().enumerate() {
        ask(stream, "");
        origin.wait_until("the request is there", |origin| origin.requests().len() > count);
    }
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        drop(origin);
        let _ = done.send(());
    });
    is_done.recv_timeout(Duration::from_secs(10)).expect("the origin stops");
}

#[test]
fn chunks_with_and_without_the_last_one() {
    for terminated in [true, false] {
        let origin = Origin::start(move |_, _| {
            Response::new(200).bytes(vec![b'x'; 300_000]).chunked(terminated)
        });
        let mut stream = connect(&origin);
        ask(&mut stream, "Connection: close\r\n");
        let head = head(&mut stream);
        assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
        let mut body = Vec::new();
        stream.read_to_end(&mut body).unwrap();
        assert_eq!(body.ends_with(b"\r\n0\r\n\r\n"), terminated);
        assert_eq!(body.iter().filter(|byte| **byte == b'x').count(), 300_000);
    }
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    for refusal in [Refusal::Reset, Refusal::Status(503)] {
        let object = Object::new(1, SIZE);
        let origin =
            Origin::builder().limit(1, refusal).start(move |request, _| standard(&object, request));
        let mut first = connect(&origin);
        ask(&mut first, "Range: bytes=0-0\r\n");
        assert!(head(&mut first).starts_with("HTTP/1.1 206 "));
        let mut second = connect(&origin);
        let written = write!(second, "GET / HTTP/1.1\r\n\r\n");
        let mut answer = String::new();
        let read = second.read_to_string(&mut answer);
        match refusal {
            Refusal::Reset => assert!(written.is_err() || read.is_err()),
            Refusal::Status(_) => assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}"),
        }
        assert_eq!(origin.most_open(), 1);
    }
}

#[test]
fn silence_interim_responses_and_repeats() {
    let origin = Origin::start(|_, context| match context.repeat {
        0 => Response::empty(204).interim("HTTP/1.1 103 Early Hints\r\n\r\n"),
        _ => Response::hang_up(End::Close),
    });
    let mut stream = connect(&origin);
    ask(&mut stream, "");
    assert_eq!(head(&mut stream), "HTTP/1.1 103 Early Hints\r\n\r\n");
    assert!(head(&mut stream).starts_with("HTTP/1.1 204 "));
    ask(&mut stream, "");
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    assert_eq!(origin.requests()[1].status(), None);
}

#[test]
fn origin_comes_back_on_its_port() {
    let object = Object::new(1, 10);
    let first = Origin::serving(&object);
    let port = first.port();
    ask(&mut connect(&first), "");
    drop(first);
    let second = Origin::builder().port(port).start(move |request, _| standard(&object, request));
    let mut stream = connect(&second);
    ask(&mut stream, "");
    assert!(head(&mut stream).starts_with("HTTP/1.1 200 "));
}

#[test]
fn tls_is_spoken_under_the_own_authority() {
    let authority = Authority::new();
    let identity = authority.issue(&["localhost", "127.0.0.1"], Validity::Current);
    let object = Object::new(9, SIZE);
    let script = object.clone();
    let origin =
        Origin::builder().tls(&identity).start(move |request, _| standard(&script, request));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "127.0.0.1".try_into().unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(session, connect(&origin));
    write!(stream, "GET / HTTP/1.1\r\nRange: bytes=100-\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert_eq!(object.compare_reader(&mut stream, 100..SIZE).unwrap(), None);
    assert!(origin.url("/").starts_with("https://127.0.0.1:"));
}

#[test]
#[should_panic(expected = "1 connections' scripts panicked")]
fn panic_of_a_script_is_not_lost() {
    let origin = Origin::start(|_, _| panic!("on purpose"));
    let mut stream = connect(&origin);
    ask(&mut stream, "");
    let _ = stream.read(&mut [0]);
}
