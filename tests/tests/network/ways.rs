//! How connections are made and who they say we are: each flag that shapes
//! them, as a server sees it.

use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::thread;

use haul_tests::prelude::*;

const NAME: &str = "origin.test";

const SIZE: u64 = 2 * MIB + 321;

fn command(sandbox: &Sandbox) -> Haul {
    haul!(sandbox).args(["-x", "2", "-o", "file", "--retry", "0"])
}

/// From which address haul connects to `listener`; it gets no answer.
fn comes_from(listener: TcpListener, haul: Haul) -> IpAddr {
    let accepting = thread::spawn(move || listener.accept().map(|(_, peer)| peer.ip()));
    haul.run().expect(4);
    accepting.join().unwrap().unwrap()
}

#[test]
fn connections_start_at_the_interface() {
    for address in ["127.0.0.1", "127.0.0.7"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let sandbox = Sandbox::new();
        let haul = command(&sandbox).args(["--interface", address]).arg(url);
        assert_eq!(comes_from(listener, haul), address.parse::<IpAddr>().unwrap());
    }
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    command(&sandbox).args(["--interface", "lo"]).arg(origin.url("/file")).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
    let requests = origin.requests().len();
    for (interface, exit) in [("haul-none0", 4), ("192.0.2.1", 4), ("::1", 4), ("a b", 2)] {
        let sandbox = Sandbox::new();
        let outcome =
            command(&sandbox).args(["--interface", interface]).arg(origin.url("/file")).run();
        outcome.expect(exit);
        sandbox.assert_nothing_left();
    }
    assert_eq!(origin.requests().len(), requests, "nothing came another way");
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox).args(["-4", "--interface", "::1", "http://h/"]).run();
    outcome.expect(2).expect_message("::1");
}

#[test]
fn families_of_addresses_are_kept_to() {
    let origin = Origin::serving(&object(SIZE));
    let both = format!("{NAME}:{}:[::1],127.0.0.1", origin.port());
    let url = format!("http://{NAME}:{}/file", origin.port());
    let sandbox = Sandbox::new();
    command(&sandbox).args(["-4", "--resolve", &both]).arg(&url).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
    // Without it the first that answers is taken, whichever it is.
    let sandbox = Sandbox::new();
    command(&sandbox).args(["--resolve", &both]).arg(&url).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
    for (flag, url) in [("-6", origin.url("/file")), ("-4", "http://[::1]:9/file".to_owned())] {
        let sandbox = Sandbox::new();
        let outcome = command(&sandbox).arg(flag).arg(url).run();
        outcome.expect(4).expect_message(&format!("no IPv{} address", &flag[1..]));
    }
    // Where the machine has IPv6 at all.
    if let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        let port = listener.local_addr().unwrap().port();
        let both = format!("{NAME}:{port}:127.0.0.1,[::1]");
        let url = format!("http://{NAME}:{port}/file");
        let sandbox = Sandbox::new();
        let haul = command(&sandbox).args(["-6", "--resolve", &both]).arg(url);
        assert_eq!(comes_from(listener, haul), IpAddr::V6(Ipv6Addr::LOCALHOST));
    }
}

#[test]
fn hosts_are_resolved_as_told() {
    let authority = Authority::new();
    let identity = authority.issue(&[NAME], Validity::Current);
    let origin =
        Origin::builder().tls(&identity).start(|request, _| standard(&object(SIZE), request));
    let given = format!("{NAME}:{}:127.0.0.1", origin.port());
    let sandbox = Sandbox::new();
    let ca = sandbox.write("ca.pem", authority.pem());
    let url = format!("https://{NAME}:{}/file", origin.port());
    command(&sandbox)
        .args(["--resolve", "unrelated:1:192.0.2.1", "--resolve", &given, "--cacert"])
        .arg(&ca)
        .arg(url)
        .run()
        .expect(0);
    std::fs::remove_file(ca).unwrap();
    sandbox.assert_published("file", &object(SIZE));
    for record in origin.requests() {
        let host = record.request.header("Host").unwrap();
        assert!(host.starts_with(NAME), "{host}");
    }
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox).args(["--resolve", "host:80:name", "http://host/"]).run();
    outcome.expect(2);
    assert!(outcome.text().contains("host:80:name") && outcome.text().contains("HOST:PORT:ADDR"));
}

#[test]
fn bearer_token_goes_to_the_origin_of_the_url_only() {
    let other = Origin::serving(&object(SIZE));
    let location = other.url("/file");
    let origin = Origin::start(move |_, _| Response::redirect(302, &location));
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox).args(["--bearer", "t0k3n"]).arg(origin.url("/file")).run();
    outcome.expect(0);
    outcome.assert_free_of("t0k3n");
    sandbox.assert_free_of("t0k3n");
    for record in origin.requests() {
        assert_eq!(record.request.header("Authorization"), Some("Bearer t0k3n"));
    }
    for record in other.requests() {
        assert_eq!(record.request.header("Authorization"), None);
    }
    for flags in [&["-u", "a:b"][..], &["-H", "authorization: x"]] {
        let sandbox = Sandbox::new();
        let outcome =
            command(&sandbox).args(["--bearer", "t0k3n"]).args(flags).arg("http://h/").run();
        outcome.expect(2);
        outcome.assert_free_of("t0k3n");
        assert!(outcome.text().contains("--bearer"), "{outcome}");
    }
}

#[test]
fn headers_come_from_a_file() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let file = sandbox.write("headers", "X-First: 1\r\n\nX-Second:  two words \n");
    command(&sandbox)
        .args(["-H", "@headers", "-H", "X-Third: 3"])
        .arg(origin.url("/file"))
        .run()
        .expect(0);
    for record in origin.requests() {
        let field = |name| record.request.header(name);
        assert_eq!(field("X-First"), Some("1"));
        assert_eq!(field("X-Second"), Some("two words"));
        assert_eq!(field("X-Third"), Some("3"));
    }
    std::fs::write(&file, "X-First: 1\nhunter2\n").unwrap();
    let outcome = command(&sandbox).args(["-H", "@headers", "http://h/"]).run();
    outcome.expect(2).expect_message("line 2 of headers");
    outcome.assert_free_of("hunter2");
    let outcome = command(&sandbox).args(["-H", "@missing", "http://h/"]).run();
    outcome.expect(3).expect_message("missing");
}

#[test]
fn client_certificate_is_shown_to_who_asks() {
    let authority = Authority::new();
    let identity = authority.issue_demanding(&["127.0.0.1"]);
    let origin =
        Origin::builder().tls(&identity).start(|request, _| standard(&object(SIZE), request));
    let (certificate, key) = authority.issue_client();
    let (_, foreign_key) = authority.issue_client();
    let (stranger, stranger_key) = Authority::new().issue_client();
    let run = |certificate: &str, key: Option<&str>| {
        let sandbox = Sandbox::new();
        let mut haul = command(&sandbox).arg("--insecure").arg(origin.url("/file"));
        if !certificate.is_empty() {
            haul = haul.arg("--cert").arg(sandbox.write("cert.pem", certificate));
        }
        if let Some(key) = key {
            haul = haul.arg("--key").arg(sandbox.write("key.pem", key));
        }
        let outcome = haul.run();
        (outcome, sandbox)
    };
    for (certificate, key) in
        [(certificate.clone(), Some(key.as_str())), (format!("{certificate}{key}"), None)]
    {
        let (outcome, sandbox) = run(&certificate, key);
        outcome.expect(0);
        object(SIZE).compare_file(&sandbox.path("file")).unwrap();
    }
    run("", None).0.expect(5);
    run(&stranger, Some(&stranger_key)).0.expect(5);
    run(&certificate, Some(&foreign_key)).0.expect(2).expect_message("client certificate");
    run(&certificate, None).0.expect(2).expect_message("no private key");
    run("nothing", Some(&key)).0.expect(2).expect_message("no certificate");
    let outcome = command(&Sandbox::new()).args(["--key", "key.pem", "http://h/"]).run();
    outcome.expect(2);
    assert!(outcome.text().contains("--cert"), "{outcome}");
}

#[test]
fn a_certificate_that_signs_itself_is_told_in_words() {
    let authority = Authority::new();
    let origin = Origin::builder().tls(&authority.identity());
    let origin = origin.start(|request, _| standard(&object(SIZE), request));
    let sandbox = Sandbox::new();
    let file = sandbox.write("ca.pem", Authority::new().pem());
    let haul = command(&sandbox).arg("--cacert").arg(&file).arg(origin.url("/file"));
    haul.run().expect(5).expect_message("it is signed by itself");
}

#[test]
fn ssl_cert_file_is_the_trust_store() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"], Validity::Current);
    let origin =
        Origin::builder().tls(&identity).start(|request, _| standard(&object(SIZE), request));
    let sandbox = Sandbox::new();
    command(&sandbox).arg(origin.url("/file")).run().expect(5);
    let ca = sandbox.write("ca.pem", authority.pem());
    command(&sandbox).env("SSL_CERT_FILE", &ca).arg(origin.url("/file")).run().expect(0);
    std::fs::remove_file(ca).unwrap();
    sandbox.assert_published("file", &object(SIZE));
}
