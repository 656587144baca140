//! Proxies: which one is used, what it is told, and what it is not.

use haul_tests::origin::closed_port;
use haul_tests::prelude::*;
use haul_tests::proxy::{Proxy, ProxyBuilder};

/// Only a proxy that looks it up itself finds it.
const NAME: &str = "origin.test";
const LOGIN: (&str, &str) = ("me", "hunter2");

const SIZE: u64 = 4 * MIB + 321;

fn command(sandbox: &Sandbox) -> Haul {
    haul!(sandbox).args(["-x", "4", "-o", "file", "--segment-size", "1M"])
}

fn tls_origin(authority: &Authority) -> Origin {
    let identity = authority.issue(&[NAME, "localhost", "127.0.0.1"], Validity::Current);
    Origin::builder().tls(&identity).start(broken_off_once)
}

/// Serves the object, but no first response brings all of it.
fn broken_off_once(request: &Request, context: &Context) -> Response {
    let response = standard(&object(SIZE), request);
    if context.index == 0 { response.cut(MIB, End::Close) } else { response }
}

fn port(origin: &Origin) -> u16 {
    origin.port()
}

/// The file comes through `proxy` from an `http` and from an `https` origin of
/// this host.
#[track_caller]
fn comes_through(proxy: &str, host: &str, authority: &Authority) {
    let plain = Origin::start(broken_off_once);
    let secure = tls_origin(authority);
    for (origin, scheme) in [(&plain, "http"), (&secure, "https")] {
        let sandbox = Sandbox::new();
        let ca = sandbox.write("ca.pem", authority.pem());
        let url = format!("{scheme}://{host}:{}/file", port(origin));
        let outcome = command(&sandbox)
            .arg(format!("--proxy={proxy}"))
            .arg("--cacert")
            .arg(&ca)
            .arg(url)
            .run();
        outcome.expect(0);
        outcome.assert_free_of(LOGIN.1);
        std::fs::remove_file(ca).unwrap();
        sandbox.assert_published("file", &object(SIZE));
        assert_well_asked(origin);
        assert!(origin.requests().len() > 1, "segments come over several requests");
    }
}

#[test]
fn http_proxy_gets_absolute_forms_and_connects() {
    let proxy = Proxy::http().start();
    comes_through(&format!("http://{}", proxy.authority()), NAME, &Authority::new());
    let log = proxy.log();
    let (tunnels, plain): (Vec<_>, Vec<_>) =
        log.iter().partition(|head| head.starts_with("CONNECT "));
    assert!(!tunnels.is_empty() && !plain.is_empty(), "{log:?}");
    for head in plain {
        let first = head.lines().next().unwrap();
        assert!(first.starts_with(&format!("GET http://{NAME}:")), "{first}");
        let host = head.lines().find(|line| line.to_ascii_lowercase().starts_with("host:"));
        assert!(host.is_some_and(|host| host.contains(NAME)), "{head}");
    }
    for head in tunnels {
        assert!(head.starts_with(&format!("CONNECT {NAME}:")), "{head}");
    }
}

#[test]
fn scheme_may_be_left_out() {
    let proxy = Proxy::http().start();
    comes_through(&proxy.authority(), NAME, &Authority::new());
}

#[test]
fn https_proxy_is_spoken_to_inside_tls() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"], Validity::Current);
    let proxy = Proxy::http().tls(&identity).start();
    comes_through(&format!("https://{}", proxy.authority()), NAME, &authority);
    assert!(proxy.log().iter().any(|head| head.starts_with("CONNECT ")));

    let unknown = Authority::new().issue(&["127.0.0.1"], Validity::Current);
    let proxy = Proxy::http().tls(&unknown).start();
    let sandbox = Sandbox::new();
    let ca = sandbox.write("ca.pem", authority.pem());
    let url = format!("http://{NAME}:1/file");
    let outcome = command(&sandbox)
        .arg(format!("--proxy=https://{}", proxy.authority()))
        .arg("--cacert")
        .arg(ca)
        .arg(url)
        .run();
    outcome.expect(5).expect_message("the proxy");
    assert!(proxy.log().is_empty());
}

#[test]
fn socks_proxies_look_up_names_or_get_addresses() {
    for (scheme, host, asked) in [
        ("socks4", "localhost", "socks4 address:127.0.0.1:"),
        ("socks4a", NAME, "socks4 name:origin.test:"),
        ("socks4a", "127.0.0.1", "socks4 address:127.0.0.1:"),
        ("socks5", "127.0.0.1", "socks5 address:127.0.0.1:"),
        ("socks5h", NAME, "socks5 name:origin.test:"),
        ("socks5h", "127.0.0.1", "socks5 address:127.0.0.1:"),
    ] {
        let proxy = Proxy::socks().start();
        comes_through(&format!("{scheme}://{}", proxy.authority()), host, &Authority::new());
        let log = proxy.log();
        assert!(!log.is_empty() && log.iter().all(|line| line.starts_with(asked)), "{log:?}");
    }
    // With `socks5` the lookup is ours.
    let proxy = Proxy::socks().start();
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox)
        .arg(format!("--proxy=socks5://{}", proxy.authority()))
        .args(["--resolve", &format!("{NAME}:9:192.0.2.7"), "--retry", "0"])
        .arg(format!("http://{NAME}:9/file"))
        .run();
    outcome.expect(4);
    let log = proxy.log();
    assert!(!log.is_empty() && log.iter().all(|l| l == "socks5 address:192.0.2.7:9"), "{log:?}");
}

fn builders() -> [(ProxyBuilder, &'static str); 4] {
    [
        (Proxy::http(), "http"),
        (Proxy::socks(), "socks4"),
        (Proxy::socks(), "socks5"),
        (Proxy::socks(), "socks5h"),
    ]
}

#[test]
fn logins_are_told_to_the_proxy() {
    for (builder, scheme) in builders() {
        let (name, password) = if scheme == "socks4" { (LOGIN.0, "") } else { LOGIN };
        let proxy = builder.login(name, password).start();
        let login = if password.is_empty() { name.to_owned() } else { format!("{name}:h%75nter2") };
        let url = format!("{scheme}://{login}@{}", proxy.authority());
        comes_through(&url, "127.0.0.1", &Authority::new());
    }
}

#[test]
fn refused_login_is_exit_6_and_names_the_proxy_without_it() {
    let origin = Origin::serving(&object(SIZE));
    let authority = Authority::new();
    let secure = tls_origin(&authority);
    for (builder, scheme) in builders() {
        for login in ["", "me:wr0ng@"] {
            let login = if scheme == "socks4" && !login.is_empty() { "wr0ng@" } else { login };
            for url in [origin.url("/file"), secure.url("/file")] {
                let proxy = builder.clone().login(LOGIN.0, LOGIN.1).start();
                let sandbox = Sandbox::new();
                let outcome = command(&sandbox)
                    .arg(format!("--proxy={scheme}://{login}{}", proxy.authority()))
                    .args(["--insecure", &url])
                    .run();
                outcome.expect(6).expect_message(&format!("{scheme}://{}", proxy.authority()));
                assert!(outcome.text().contains("NAME:PASS@HOST:PORT"), "{outcome}");
                assert_eq!(outcome.event("error")["code"], "proxy-refused");
                outcome.assert_free_of("wr0ng");
                sandbox.assert_nothing_left();
                assert!(proxy.log().len() <= 2, "it was asked again: {:?}", proxy.log());
            }
        }
    }
    assert!(origin.requests().is_empty() && secure.requests().is_empty());
}

#[test]
fn proxy_that_leads_nowhere_is_named() {
    let forbidding = [(Proxy::http(), "http", 403, 6), (Proxy::socks(), "socks5h", 2, 6)];
    let failing = [(Proxy::http(), "http", 502, 4), (Proxy::socks(), "socks5h", 5, 4)];
    for (builder, scheme, status, exit) in forbidding.into_iter().chain(failing) {
        let proxy = builder.answering(status).start();
        let sandbox = Sandbox::new();
        let outcome = command(&sandbox)
            .arg(format!("--proxy={scheme}://{}", proxy.authority()))
            .args(["--retry", "0"])
            .arg(format!("https://{NAME}:9/file"))
            .run();
        outcome.expect(exit).expect_message(&format!("{scheme}://{}", proxy.authority()));
        assert!(outcome.text().contains(NAME), "{outcome}");
    }
    let gone = format!("127.0.0.1:{}", closed_port());
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox)
        .arg(format!("--proxy=http://me:hunter2@{gone}"))
        .args(["--retry", "0"])
        .arg(format!("http://{NAME}/file"))
        .run();
    outcome.expect(4).expect_message(&format!("the proxy http://{gone}"));
    outcome.assert_free_of(LOGIN.1);
}

#[test]
fn environment_is_read_as_curl_reads_it() {
    let origin = Origin::serving(&object(SIZE));
    let authority = Authority::new();
    let secure = tls_origin(&authority);
    // Each variable with whether its value is the proxy or the hosts without one.
    type Variables = &'static [(&'static str, bool)];
    let cases: &[(Variables, &Origin, bool)] = &[
        (&[("http_proxy", true)], &origin, true),
        (&[("HTTP_PROXY", true)], &origin, false),
        (&[("https_proxy", true)], &origin, false),
        (&[("https_proxy", true)], &secure, true),
        (&[("HTTPS_PROXY", true)], &secure, true),
        (&[("http_proxy", true)], &secure, false),
        (&[("all_proxy", true)], &origin, true),
        (&[("ALL_PROXY", true)], &secure, true),
        (&[("http_proxy", true), ("no_proxy", false)], &origin, false),
        (&[("ALL_PROXY", true), ("NO_PROXY", false)], &secure, false),
    ];
    for (variables, origin, through) in cases {
        let proxy = Proxy::http().start();
        let sandbox = Sandbox::new();
        let mut haul = command(&sandbox).arg("--insecure").arg(origin.url("/file"));
        for (name, is_proxy) in *variables {
            let value = if *is_proxy { proxy.authority() } else { "127.0.0.0/8".to_owned() };
            haul = haul.env(name, value);
        }
        haul.run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
        assert_eq!(!proxy.log().is_empty(), *through, "{variables:?}");
    }
}

#[test]
fn flags_count_more_than_the_environment() {
    let origin = Origin::serving(&object(SIZE));
    let (used, unused) = (Proxy::http().start(), Proxy::http().start());
    let run = |flags: &[&str]| {
        let sandbox = Sandbox::new();
        let haul = command(&sandbox).env("http_proxy", unused.authority()).args(flags);
        haul.arg(origin.url("/file")).run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
    };
    run(&[&format!("--proxy=http://{}", used.authority())]);
    assert!(!used.log().is_empty());
    run(&["--proxy="]);
    run(&["--no-proxy", "127.0.0.1"]);
    run(&["--no-proxy", "*"]);
    assert!(unused.log().is_empty());
}

#[test]
fn what_is_no_proxy_is_refused_with_the_grammar() {
    for (flag, env) in [(Some("ftp://me:hunter2@proxy"), None), (None, Some("me:hunter2@"))] {
        let sandbox = Sandbox::new();
        let mut haul = command(&sandbox).arg("http://127.0.0.1:9/file");
        if let Some(flag) = flag {
            haul = haul.arg(format!("--proxy={flag}"));
        }
        if let Some(value) = env {
            haul = haul.env("all_proxy", value);
        }
        let outcome = haul.run();
        outcome.expect(2);
        assert!(outcome.text().contains("socks5h"), "{outcome}");
        assert!(outcome.text().contains(if env.is_some() { "all_proxy" } else { "--proxy" }));
        outcome.assert_free_of(LOGIN.1);
    }
}

#[test]
fn fault_086_proxy_never_gets_what_is_for_the_origin_behind_a_tunnel() {
    let authority = Authority::new();
    let origin = tls_origin(&authority);
    let proxies = [(Proxy::http(), "http"), (Proxy::socks(), "socks5h")];
    for (builder, scheme) in proxies {
        let proxy = builder.login(LOGIN.0, LOGIN.1).start();
        let sandbox = Sandbox::new();
        let outcome = command(&sandbox)
            .arg(format!("--proxy={scheme}://{}:{}@{}", LOGIN.0, LOGIN.1, proxy.authority()))
            .args(["--insecure", "-u", "you:0r1g1n"])
            .arg(format!("https://{NAME}:{}/secret-path?secret-query", origin.port()))
            .run();
        outcome.expect(0);
        let told = proxy.log().join("\n");
        // "you:0r1g1n" in base64.
        for secret in ["0r1g1n", "eW91OjByMWcxbg", "\nauthorization", "secret-path", "secret-query"]
        {
            assert!(!told.to_ascii_lowercase().contains(&secret.to_ascii_lowercase()), "{told}");
        }
        outcome.assert_free_of("0r1g1n");
        outcome.assert_free_of(LOGIN.1);
        sandbox.assert_free_of(LOGIN.1);
    }
    for record in origin.requests() {
        assert_eq!(record.request.header("Authorization"), Some("Basic eW91OjByMWcxbg=="));
        assert_eq!(record.request.header("Proxy-Authorization"), None);
        assert!(!format!("{:?}", record.request).contains("bWU6aHVudGVyMg"));
    }
}

#[test]
fn fault_086_origin_never_gets_what_is_for_the_proxy() {
    // A proxy that strips nothing: only what haul sends directly counts.
    let origin = Origin::serving(&object(SIZE));
    let proxy = Proxy::http().login(LOGIN.0, LOGIN.1).start();
    let url = format!("--proxy=http://{}:{}@{}", LOGIN.0, LOGIN.1, proxy.authority());
    let sandbox = Sandbox::new();
    command(&sandbox)
        .arg(&url)
        .args(["-u", "you:0r1g1n"])
        .arg(format!("http://{NAME}:{}/file", origin.port()))
        .run()
        .expect(0);
    for head in proxy.log() {
        let fields = |name: &str| -> Vec<String> {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let found = lines.filter(|(have, _)| have.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_owned()).collect()
        };
        // It forwards the origin's login, and must not take it for its own.
        assert_eq!(fields("Authorization"), ["Basic eW91OjByMWcxbg=="], "{head}");
        assert_eq!(fields("Proxy-Authorization"), ["Basic bWU6aHVudGVyMg=="], "{head}");
    }
    // Directly, neither the proxy's login nor a field that is meant for one is sent.
    let sandbox = Sandbox::new();
    command(&sandbox)
        .arg(&url)
        .args(["--no-proxy", "127.0.0.1", "-H", "Proxy-Authorization: Basic bWU6aHVudGVyMg=="])
        .arg(origin.url("/file"))
        .run()
        .expect(0);
    for record in origin.requests() {
        assert_eq!(record.request.header("Proxy-Authorization"), None, "{:?}", record.request);
    }
}

#[test]
fn fault_086_redirect_to_another_host_takes_no_login_through_the_proxy() {
    let target = Origin::serving(&object(SIZE));
    let location = format!("http://other.test:{}/file", target.port());
    let origin = Origin::start(move |_, _| haul_tests::origin::Response::redirect(302, &location));
    let proxy = Proxy::http().start();
    let sandbox = Sandbox::new();
    command(&sandbox)
        .arg(format!("--proxy=http://{}", proxy.authority()))
        .args(["-u", "you:0r1g1n"])
        .arg(format!("http://{NAME}:{}/file", origin.port()))
        .run()
        .expect(0);
    sandbox.assert_published("file", &object(SIZE));
    for head in proxy.log() {
        let to_other = head.starts_with("GET http://other.test");
        let has_login = head.to_ascii_lowercase().contains("\nauthorization:");
        assert_ne!(to_other, has_login, "{head}");
    }
}

#[test]
fn fault_086_secrets_stay_apart_on_resume_after_a_kill() {
    let throttle = Throttle::new(MIB).crawling_after(3 * MIB);
    let authority = Authority::new();
    let identity = authority.issue(&[NAME], Validity::Current);
    let limit = throttle.clone();
    let serve = move |request: &haul_tests::origin::Request, _: &_| {
        limit.apply(standard(&object(SIZE), request))
    };
    let origin = Origin::builder().tls(&identity).start(serve);
    let proxy = Proxy::http().login(LOGIN.0, LOGIN.1).start();
    let sandbox = Sandbox::new();
    let again = || {
        command(&sandbox)
            .arg(format!("--proxy=http://{}:{}@{}", LOGIN.0, LOGIN.1, proxy.authority()))
            .args(["--insecure", "-u", "you:0r1g1n"])
            .arg(format!("https://{NAME}:{}/file", origin.port()))
    };
    kill(again(), 2 * MIB);
    for secret in [LOGIN.1, "0r1g1n", "eW91OjByMWcxbg", "bWU6aHVudGVyMg"] {
        sandbox.assert_free_of(secret);
    }
    throttle.lift();
    let outcome = again().run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() > 0, "{outcome}");
    outcome.assert_free_of(LOGIN.1);
    outcome.assert_free_of("0r1g1n");
    sandbox.assert_published("file", &object(SIZE));
    let told = proxy.log().join("\n");
    assert!(!told.contains("eW91OjByMWcxbg"), "{told}");
    for record in origin.requests() {
        assert_eq!(record.request.header("Proxy-Authorization"), None);
    }
}
