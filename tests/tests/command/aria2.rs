//! `haul-aria2c`: the words of aria2c as its callers write them.

use haul_tests::prelude::*;

const SIZE: u64 = 12 * MIB + 77;

fn aria2c(sandbox: &Sandbox) -> Haul {
    Haul::new(env!("CARGO_BIN_EXE_haul-aria2c-under-test"), sandbox)
}

/// As yt-dlp 2025 calls it, but for the cookies.
fn as_yt_dlp(sandbox: &Sandbox, origin: &Origin) -> Haul {
    aria2c(sandbox)
        .args("-c --no-conf --console-log-level=warn --summary-interval=0".split(' '))
        .args("--download-result=hide --http-accept-gzip=true --file-allocation=none".split(' '))
        .args("-x16 -j16 -s16 --min-split-size 1M --check-certificate=true".split(' '))
        .args(["--header", "User-Agent: Mozilla/5.0", "--header", "Accept-Language: en-us"])
        .args("--remote-time=true --show-console-readout=false --dir ./films/".split(' '))
        .args(["--out", "./film.mp4.part", "--auto-file-renaming=false", "--"])
        .arg(origin.url("/film.mp4"))
}

#[test]
fn a_call_of_yt_dlp_downloads() {
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object(SIZE)));
    let cookies = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(cookies.path(), format!("127.0.0.1\tFALSE\t/\tFALSE\t0\ta\t{CANARY}\n"))
        .unwrap();
    let option = format!("--load-cookies={}", cookies.path().display());
    let haul = aria2c(&sandbox).arg(option).args(["-o", "a.part", "--"]).arg(origin.url("/a"));
    haul.run().expect(0);
    as_yt_dlp(&sandbox, &origin).run().expect(0);
    sandbox.assert_only(&[("a.part", &object(SIZE)), ("films/film.mp4.part", &object(SIZE))]);
    let requests = origin.requests();
    assert_eq!(requests[0].request.header("Cookie"), Some(&*format!("a={CANARY}")));
    let last = &requests.last().unwrap().request;
    assert_eq!(last.header("User-Agent"), Some("Mozilla/5.0"));
    assert_eq!(last.header("Cookie"), None);
}

#[test]
fn an_interrupted_call_continues() {
    let throttle = Throttle::new(2 * MIB).crawling_after(6 * MIB);
    let (sandbox, origin) = (Sandbox::new(), Origin::throttled(&object(SIZE), &throttle));
    let mut running = as_yt_dlp(&sandbox, &origin).start();
    running.wait_until("some of it came", |_| origin.sent_bytes() >= 5 * MIB);
    running.signal(Signal::INT);
    assert_eq!(running.finish().code, 7, "aria2's code for what is unfinished");
    let before = origin.sent_bytes();
    throttle.lift();
    as_yt_dlp(&sandbox, &origin).run().expect(0);
    sandbox.assert_only(&[("films/film.mp4.part", &object(SIZE))]);
    let again = origin.sent_bytes() - before;
    assert!(again < SIZE, "{again} bytes: it began again");
}

#[test]
fn failures_have_the_codes_of_aria2() {
    let sandbox = Sandbox::new();
    let answering = |status| Origin::start(move |_, _| Response::empty(status));
    let (missing, gone, busy) = (answering(404), answering(410), answering(503));
    let odd = answering(418);
    let denied = Origin::start(|_, _| Response::empty(403));
    let good = Origin::serving(&object(SIZE));
    let wrong = format!("--checksum=sha-256={}", "0".repeat(64));
    for (args, origin, code) in [
        (&["-o", "a"][..], &missing, 3),
        (&["-o", "a"], &gone, 3),
        (&["-o", "a", "-m1"], &busy, 29),
        (&["-o", "a"], &odd, 22),
        (&["-o", "a", "-d/dev/null/none"], &good, 17),
        (&["-o", "a"], &denied, 24),
        (&["-o", "a", &wrong], &good, 32),
        (&["-x", "many"], &good, 28),
        (&["--continue=true", "-o", "a", "-x2"], &good, 0),
        (&["-o", "a", "--auto-file-renaming=false"], &good, 13),
    ] {
        let outcome = aria2c(&sandbox).args(args).arg(origin.url("/file")).run();
        assert_eq!(outcome.code, code, "{args:?}\n{outcome}");
    }
    sandbox.assert_only(&[("a", &object(SIZE))]);
}

#[test]
fn what_is_not_known_is_no_reason_to_fail() {
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object(SIZE)));
    let outcome = aria2c(&sandbox)
        .args(["--bt-max-peers", "5", "--enable-rpc=false", "-o", "a"])
        .arg(origin.url("/file"))
        .run();
    outcome.expect(0);
    assert!(outcome.text().contains("--bt-max-peers is not known"), "{outcome}");
    assert!(outcome.text().contains("--enable-rpc is not known"), "{outcome}");
    let version = aria2c(&sandbox).arg("-v").run();
    version.expect(0);
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("haul-aria2c version "));
}

#[test]
fn haul_called_by_that_name_is_the_same() {
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object(SIZE)));
    let links = tempfile::tempdir().unwrap();
    let named = |name: &str| {
        let link = links.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_haul-under-test"), &link).unwrap();
        Haul::new(link.to_str().unwrap(), &sandbox)
    };
    let aria2c = named("haul-aria2c");
    aria2c.args(["--summary-interval=0", "-x4", "-o", "a"]).arg(origin.url("/a")).run().expect(0);
    sandbox.assert_only(&[("a", &object(SIZE))]);
    let again = Haul::new(links.path().join("haul-aria2c").to_str().unwrap(), &sandbox);
    let again = again.args(["--auto-file-renaming=false", "-o", "a"]).arg(origin.url("/a"));
    again.run().expect(13);
    // By any other one it is haul, whose `-v` is to say more.
    let other = named("haul-1").arg("-v").run();
    other.expect(2);
    assert!(!String::from_utf8_lossy(&other.stdout).contains("haul-aria2c"), "{other}");
}
