//! The engine inside another program: the API that the command stands on.

use std::time::Duration;

use haul_engine::{
    ClientCertificate, Connections, DigestAlgorithm, DownloadBuilder, DownloadOptions, Engine,
    EngineConfig, ErrorKind, Event, Existing, HttpVersion, IpFamily, Pieces, Resume, StorageKind,
    ValidatorKind,
};
use haul_tests::prelude::*;

const SIZE: u64 = 16 * MIB + 4321;

fn download(engine: &Engine, origin: &Origin, sandbox: &Sandbox) -> DownloadBuilder {
    engine
        .download(&origin.url("/file"))
        .directory(sandbox.work())
        .output("file")
        .connections(Connections::Fixed(4))
}

/// Waits until this many bytes of the object are here.
#[test]
fn summary_and_events_tell_of_the_download() {
    leaks::checked(async {
        let origin = Origin::serving(&object(SIZE));
        let sandbox = Sandbox::new();
        let running = download(&engine(), &origin, &sandbox).start().unwrap();
        let mut events = running.events();
        let summary = running.wait().await.unwrap();

        sandbox.assert_published("file", &object(SIZE));
        assert_eq!(summary.output, sandbox.path("file"));
        assert_eq!(summary.bytes, SIZE);
        assert_eq!(summary.resumed_bytes, 0);
        assert!(summary.fetched_bytes >= SIZE);
        origin.wait_until("all requests are seen", |origin| {
            origin.requests().len() as u64 == summary.requests
        });
        assert_eq!(summary.blake3_hex(), Some(object(SIZE).blake3_hex()));
        assert!(summary.connections <= 4);

        let mut names = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Event::Started(started) => {
                    assert_eq!(started.total_bytes, Some(SIZE));
                    assert_eq!(started.validator, ValidatorKind::StrongEtag);
                    assert!(started.segment_size_bytes.is_power_of_two());
                    assert!(started.segment_size_bytes >= MIB / 4);
                    names.push("started");
                }
                Event::Completed(_) => names.push("completed"),
                Event::Failed { .. } => names.push("failed"),
                _ => {}
            }
        }
        assert_eq!(names, ["started", "completed"]);
        let progress = running.progress();
        assert_eq!((progress.bytes, progress.total_bytes), (SIZE, Some(SIZE)));
    });
}

#[test]
fn clones_of_an_engine_download_at_the_same_time() {
    leaks::checked(async {
        let origin = Origin::serving(&object(SIZE));
        let engine = engine();
        let sandboxes: Vec<Sandbox> = (0..4).map(|_| Sandbox::new()).collect();
        let mut running: Vec<_> = sandboxes
            .iter()
            .map(|sandbox| download(&engine.clone(), &origin, sandbox).start().unwrap())
            .collect();
        drop(engine);
        for (running, sandbox) in running.iter_mut().zip(&sandboxes) {
            running.wait().await.unwrap();
            sandbox.assert_published("file", &object(SIZE));
        }
    });
}

#[test]
fn cancelled_download_returns_a_checkpoint_that_continues() {
    leaks::checked(async {
        let throttle = Throttle::new(4 * MIB).crawling_after(7 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let engine = engine();
        let running = download(&engine, &origin, &sandbox).start().unwrap();
        until_bytes(&running, 5 * MIB).await;
        let had = running.progress().bytes;
        let checkpoint = running.cancel().await.unwrap();
        assert_eq!(checkpoint, Some(sandbox.checkpoint("file")));
        sandbox.assert_kept("file");

        throttle.lift();
        let summary = download(&engine, &origin, &sandbox).start().unwrap().wait().await.unwrap();
        assert!(summary.resumed_bytes >= had, "{} of {had} bytes", summary.resumed_bytes);
        sandbox.assert_published("file", &object(SIZE));
    });
}

#[test]
fn download_cancelled_before_anything_came_keeps_nothing() {
    leaks::checked(async {
        let origin = Origin::start(|_, _| Response::empty(200).delay(Duration::from_secs(3600)));
        let sandbox = Sandbox::new();
        let running = download(&engine(), &origin, &sandbox).start().unwrap();
        while origin.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(running.cancel().await.unwrap(), None);
        sandbox.assert_nothing_left();
    });
}

/// Drops a running download, in a runtime or after the runtime is gone.
fn dropped_download_continues(drop_in_runtime: bool) {
    let throttle = Throttle::new(4 * MIB).crawling_after(7 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let engine = engine();
    let running = runtime.block_on(async {
        let running = download(&engine, &origin, &sandbox).start().unwrap();
        until_bytes(&running, 5 * MIB).await;
        running
    });
    let had = running.progress().bytes;
    if drop_in_runtime {
        runtime.block_on(async { drop(running) });
        drop(runtime);
    } else {
        drop(runtime);
        drop(running);
    }
    drop(engine);

    throttle.lift();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let engine = self::engine();
    // The lock is given back when the dropped download has written its checkpoint.
    let summary = runtime.block_on(async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let again = download(&engine, &origin, &sandbox).start().unwrap();
            match again.wait().await {
                Err(error)
                    if error.kind() == ErrorKind::Locked
                        && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => break other.unwrap(),
            }
        }
    });
    assert!(summary.resumed_bytes > 0, "nothing of {had} bytes was kept");
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn download_dropped_in_its_runtime_leaves_a_resumable_state() {
    leaks::guarded(|| dropped_download_continues(true));
}

#[test]
fn download_dropped_after_its_runtime_leaves_a_resumable_state() {
    leaks::guarded(|| dropped_download_continues(false));
}

#[test]
fn plan_asks_once_and_writes_nothing() {
    leaks::checked(async {
        let origin = Origin::serving(&object(SIZE));
        let sandbox = Sandbox::new();
        let plan = download(&engine(), &origin, &sandbox).plan().await.unwrap();
        assert_eq!(plan.total_bytes, Some(SIZE));
        assert!(plan.ranges);
        assert_eq!(plan.validator, ValidatorKind::StrongEtag);
        assert_eq!(plan.output, sandbox.path("file"));
        assert_eq!(plan.resumable_bytes, 0);
        assert_eq!(origin.requests().len(), 1);
        sandbox.assert_nothing_left();
    });
}

#[test]
fn errors_have_kinds_and_hold_no_secret() {
    leaks::checked(async {
        let origin = Origin::start(|request, _| match request.path() {
            "/403" => Response::empty(403),
            "/404" => Response::empty(404),
            _ => standard(&object(SIZE), request),
        });
        let sandbox = Sandbox::new();
        let engine = engine();
        for (path, kind, status) in [
            ("/403?canary", ErrorKind::AccessDenied, Some(403)),
            ("/404?canary", ErrorKind::HttpStatus, Some(404)),
        ] {
            let builder = engine.download(&origin.url(path)).directory(sandbox.work());
            let error = builder.start().unwrap().wait().await.unwrap_err();
            assert_eq!((error.kind(), error.http_status()), (kind, status), "{error}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
            assert!(!error.is_resumable());
        }
        sandbox.write("file", "precious");
        let error = download(&engine, &origin, &sandbox).start().unwrap().wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutputExists, "{error}");
        let replacing = download(&engine, &origin, &sandbox).existing(Existing::Replace);
        replacing.start().unwrap().wait().await.unwrap();
        sandbox.assert_published("file", &object(SIZE));
    });
}

#[test]
fn invalid_input_is_refused_before_anything_is_done() {
    leaks::checked(async {
        let origin = Origin::serving(&object(SIZE));
        let engine = engine();
        let url = origin.url("/file");
        for builder in [
            engine.download("ftp://127.0.0.1/x"),
            engine.download("not a url"),
            engine.download(&url).header("X", "a\r\nb"),
            engine.download(&url).header("X\n", "a"),
            engine.download(&url).segment_size_bytes(3 * MIB),
        ] {
            let error = builder.start().map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        assert_eq!(origin.connections(), 0);
    });
}

#[test]
fn null_storage_hashes_and_keeps_nothing() {
    leaks::checked(async {
        let (old, new) = (object(SIZE), Object::new(2, SIZE));
        let changing = {
            let (old, new) = (old.clone(), new.clone());
            Origin::start(move |request, context| match context.index {
                // So slow that the old version is not here before there is the new one.
                0 | 1 => standard(&old, request).rate(MIB),
                _ => standard(&new, request),
            })
        };
        for (origin, object) in [(Origin::serving(&old), &old), (changing, &new)] {
            let sandbox = Sandbox::new();
            // What is at the output is none of its business.
            sandbox.write("file", "mine");
            let checksum = format!("blake3={}", object.blake3_hex()).parse().unwrap();
            let running = download(&engine(), &origin, &sandbox)
                .storage(StorageKind::Null)
                .checksum(checksum)
                .start()
                .unwrap();
            let summary = running.wait().await.unwrap();
            assert_eq!((summary.bytes, summary.output.as_os_str().is_empty()), (SIZE, true));
            assert_eq!(summary.blake3_hex(), Some(object.blake3_hex()));
            assert!(summary.verified.is_some());
            assert_eq!(std::fs::read(sandbox.path("file")).unwrap(), b"mine");
            assert_eq!(sandbox.files(), ["file"]);
        }
    });
}

#[test]
fn null_storage_has_nothing_to_continue_and_no_other_digest() {
    leaks::checked(async {
        let throttle = Throttle::new(4 * MIB).crawling_after(2 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let engine = engine();
        let null = || download(&engine, &origin, &sandbox).storage(StorageKind::Null);
        let running = null().start().unwrap();
        until_bytes(&running, MIB).await;
        assert_eq!(running.cancel().await.unwrap(), None);
        let sha256 = format!("sha256={}", "0".repeat(64)).parse().unwrap();
        let error = null().checksum(sha256).start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("sha256") && error.hint().is_some(), "{error}");
        let wrong = format!("blake3={}", "0".repeat(64)).parse().unwrap();
        let honest = Origin::serving(&object(SIZE));
        let running = download(&engine, &honest, &sandbox)
            .storage(StorageKind::Null)
            .checksum(wrong)
            .start()
            .unwrap();
        assert_eq!(running.wait().await.unwrap_err().kind(), ErrorKind::DigestMismatch);
        sandbox.assert_nothing_left();
    });
}

#[test]
fn options_can_be_written_and_read() {
    let mut options = DownloadOptions::default();
    options.output = Some("film.mp4".into());
    options.connections = Connections::Fixed(8);
    options.headers.push(("A".to_owned(), "b".to_owned()));
    options.range = Some("0-99,-100".parse().unwrap());
    options.checksum = Some(format!("md5={}", "0a".repeat(16)).parse().unwrap());
    options.pieces = Some(Pieces::new(DigestAlgorithm::Sha1, 1 << 20, [[7; 20], [8; 20]]).unwrap());
    options.retry.max_time = Some(Duration::from_millis(1500));
    options.stall_timeout = Some(Duration::from_secs(5));
    let text = serde_json::to_string(&options).unwrap();
    assert_eq!(serde_json::from_str::<DownloadOptions>(&text).unwrap(), options);

    let text = r#"{"connections": {"fixed": 8}, "resume": "never", "stall_timeout": 2.5,
            "checksum": "blake3=xyz"}"#;
    let error = serde_json::from_str::<DownloadOptions>(text).unwrap_err().to_string();
    assert!(error.contains("blake3=xyz"), "{error}");
    let read: DownloadOptions = serde_json::from_str(r#"{"resume": "never"}"#).unwrap();
    let mut expected = DownloadOptions::default();
    expected.resume = Resume::Never;
    assert_eq!(read, expected);
    assert!(serde_json::from_str::<DownloadOptions>(r#"{"resumes": "never"}"#).is_err());
}

#[test]
fn settings_of_the_engine_can_be_written_and_read() {
    let mut config = EngineConfig::default();
    config.connect_timeout = Duration::from_millis(2500);
    config.max_active = Some(3);
    config.host_rates.push(("*.example.org".to_owned(), 1 << 20));
    config.ca_file = Some("ca.pem".into());
    config.client_certificate =
        Some(ClientCertificate { certificates: "c.pem".into(), key: "k.pem".into() });
    config.http_version = HttpVersion::Http2;
    config.interface = Some("eth0".parse().unwrap());
    config.ip_family = Some(IpFamily::V6);
    config.resolve.push("[2001:db8::1]:443:192.0.2.1,2001:db8::2".parse().unwrap());
    // Every character that a URL would read as something else.
    config.proxies.http = Some("socks5h://m%65%25%40:p%3A%2F%C3%A9%20@[::1]:9".parse().unwrap());
    config.proxies.https = Some("socks4://me@proxy".parse().unwrap());
    config.proxies = config.proxies.bypassing("localhost, 192.168.0.0/16");
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<EngineConfig>(&text).unwrap(), config, "{text}");

    let read: EngineConfig =
        serde_json::from_str(r#"{"proxies": {"https": "proxy:3128", "bypass": "*"}}"#).unwrap();
    let mut expected = EngineConfig::default();
    expected.proxies.https = Some("http://proxy:3128".parse().unwrap());
    expected.proxies = expected.proxies.bypassing("*");
    assert_eq!(read, expected);
    let wrong = r#"{"proxies": {"http": "ftp://me:hunter2@proxy"}}"#;
    let error = serde_json::from_str::<EngineConfig>(wrong).unwrap_err().to_string();
    assert!(error.contains("ftp") && !error.contains("hunter2"), "{error}");
    assert!(serde_json::from_str::<EngineConfig>(r#"{"proxy": "proxy"}"#).is_err());
}
