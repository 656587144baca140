//! Many downloads in one engine: bounds, turns, priorities, and engines side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use haul_engine::{
    Connections, Download, DownloadBuilder, Engine, ErrorKind, Event, Notice, NoticeCode,
};
use haul_tests::prelude::*;

fn download(engine: &Engine, origin: &Origin, sandbox: &Sandbox, name: &str) -> DownloadBuilder {
    engine
        .download(&origin.url("/file"))
        .directory(sandbox.work())
        .output(name)
        .connections(Connections::Fixed(4))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "in vain until {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// The most connections of this process to a port that were open at once, as the kernel
/// lists them, while it is watched.
struct Sockets {
    most: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sockets {
    fn to(port: u16) -> Self {
        let (most, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, ends) = (Arc::clone(&most), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let port = format!(":{port:04X}");
            while !ends.load(Ordering::Relaxed) {
                let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
                let open = table.lines().filter(|line| {
                    let mut fields = line.split_whitespace().skip(2);
                    // The far end, and that it is established.
                    fields.next().is_some_and(|far| far.ends_with(&port))
                        && fields.next() == Some("01")
                });
                seen.fetch_max(open.count(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { most, over, thread: Some(thread) }
    }

    fn most(mut self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.most.load(Ordering::Relaxed)
    }
}

/// The port of an origin's URL.
fn port(origin: &Origin) -> u16 {
    let url = origin.url("/");
    url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap()
}

async fn a_host_gets_no_more_connections_than_allowed() {
    let object = Object::new(1, 6 * MIB + 5);
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let engine = engine_with(|config| config.max_connections_per_host = Some(3));
    let sockets = Sockets::to(port(&origin));
    let names: Vec<String> = (0..8).map(|number| format!("file-{number}")).collect();
    let mut running: Vec<Download> = names
        .iter()
        .map(|name| download(&engine, &origin, &sandbox, name).start().unwrap())
        .collect();
    for running in &mut running {
        let mut events = running.events();
        let summary = running.wait().await.unwrap();
        assert_eq!(summary.retries, 0);
        while let Some(event) = events.next().await {
            if let Event::Notice(Notice { code, message, .. }) = event {
                assert_ne!(code, NoticeCode::ConnectionLimit, "{message}");
            }
        }
    }
    let most = sockets.most();
    assert!((1..=3).contains(&most), "{most} connections at once");
    let expected: Vec<(&str, &Object)> =
        names.iter().map(|name| (name.as_str(), &object)).collect();
    sandbox.assert_only(&expected);
}

#[test]
fn a_host_gets_no_more_connections_than_allowed_in_one_thread() {
    leaks::checked(a_host_gets_no_more_connections_than_allowed());
}

#[test]
fn a_host_gets_no_more_connections_than_allowed_in_threads() {
    leaks::checked_in_threads(a_host_gets_no_more_connections_than_allowed());
}

#[test]
fn one_connection_to_a_host_is_enough_also_for_a_partial_of_another_url() {
    leaks::checked(async {
        let object = Object::new(1, 12 * MIB + 5);
        let throttle = Throttle::new(8 * MIB).crawling_after(8 * MIB);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = Sandbox::new();
        let engine = engine_with(|config| config.max_connections_per_host = Some(1));
        let running = download(&engine, &origin, &sandbox, "file").start().unwrap();
        until("some is here", || running.progress().bytes > 6 * MIB).await;
        assert!(running.cancel().await.unwrap().is_some());
        throttle.lift();
        let elsewhere = engine.download(&origin.url("/another/path")).output("file");
        let running = elsewhere.directory(sandbox.work()).start().unwrap();
        let summary = running.wait().await.unwrap();
        assert!(summary.resumed_bytes > 0);
        sandbox.assert_published("file", &object);
    });
}

#[test]
fn so_many_run_at_once_and_the_others_are_told_that_they_wait() {
    leaks::checked(async {
        let object = Object::new(1, 2 * MIB);
        let throttle = Throttle::new(MIB / 64);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = Sandbox::new();
        let engine = engine_with(|config| config.max_active = Some(2));
        let start = |name: &str, priority| {
            let builder = download(&engine, &origin, &sandbox, name).priority(priority);
            builder.start().unwrap()
        };
        let mut all = vec![start("a", 0), start("b", 0), start("c", 0), start("d", 0)];
        let urgent = start("urgent", 1);
        until("two have begun", || all[..2].iter().all(|it| it.progress().bytes > 0)).await;
        for waiting in all[2..].iter().chain([&urgent]) {
            let progress = waiting.progress();
            assert!(progress.queued && progress.bytes == 0 && progress.connections == 0);
        }
        let told = urgent.events().next().await;
        assert!(matches!(told, Some(Event::Queued)), "{told:?}");
        assert_eq!(sandbox.files().iter().filter(|it| it.ends_with(".part")).count(), 2);

        // A pause makes room for the next one, which is the one of the higher priority.
        all[0].pause();
        until("the urgent one runs", || urgent.progress().bytes > 0).await;
        assert!(all[2].progress().queued);
        // Resumed, it waits again.
        all[0].resume();
        until("it waits", || all[0].progress().queued).await;
        assert!(!all[0].progress().paused);

        // Who waits can be stopped, and removed.
        let fourth = all.pop().unwrap();
        fourth.cancel_and_remove().await.unwrap();
        throttle.lift();
        urgent.wait().await.unwrap();
        for running in &mut all {
            running.wait().await.unwrap();
        }
        let names = ["a", "b", "c", "urgent"].map(|name| (name, &object));
        sandbox.assert_only(&names);
    });
}

#[test]
fn a_queued_download_that_is_stopped_keeps_what_an_earlier_run_left() {
    leaks::checked(async {
        let object = Object::new(1, 4 * MIB);
        let throttle = Throttle::new(MIB).crawling_after(2 * MIB);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = Sandbox::new();
        let engine = engine_with(|config| config.max_active = Some(1));
        let earlier = download(&engine, &origin, &sandbox, "file").start().unwrap();
        until("some is here", || earlier.progress().bytes > MIB).await;
        let kept = earlier.cancel().await.unwrap();
        assert_eq!(kept, Some(sandbox.checkpoint("file")));
        let first = download(&engine, &origin, &sandbox, "other").start().unwrap();
        let queued = download(&engine, &origin, &sandbox, "file").start().unwrap();
        until("it waits", || queued.progress().queued).await;
        assert_eq!(queued.cancel().await.unwrap(), kept);
        let queued = download(&engine, &origin, &sandbox, "file").start().unwrap();
        queued.cancel_and_remove().await.unwrap();
        first.cancel_and_remove().await.unwrap();
        sandbox.assert_nothing_left();
    });
}

#[test]
fn the_higher_priority_has_the_connections_and_the_lower_goes_on_after_it() {
    leaks::checked(async {
        let object = Object::new(1, 64 * MIB);
        let throttle = Throttle::new(MIB);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = Sandbox::new();
        let engine = engine_with(|config| config.max_connections = Some(4));
        let low = download(&engine, &origin, &sandbox, "low").start().unwrap();
        until("the low one runs", || low.progress().bytes > MIB).await;
        let high = download(&engine, &origin, &sandbox, "high").start().unwrap();
        high.set_priority(3);
        until("the connections changed hands", || {
            high.progress().connections == 4 && low.progress().connections == 0
        })
        .await;
        // The other way round, while both run.
        low.set_priority(4);
        until("and back", || low.progress().connections == 4 && high.progress().connections == 0)
            .await;
        throttle.lift();
        high.wait().await.unwrap();
        low.wait().await.unwrap();
        sandbox.assert_only(&[("high", &object), ("low", &object)]);
    });
}

#[test]
fn equal_ones_share_the_connections() {
    leaks::checked_in_threads(async {
        let object = Object::new(1, 16 * MIB);
        let throttle = Throttle::new(MIB);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = Sandbox::new();
        let engine = engine_with(|config| config.max_connections = Some(8));
        let mut all: Vec<Download> = (0..4)
            .map(|number| {
                let name = format!("file-{number}");
                let builder = download(&engine, &origin, &sandbox, &name);
                builder.connections(Connections::Fixed(8)).start().unwrap()
            })
            .collect();
        until("each has two", || all.iter().all(|it| it.progress().connections == 2)).await;
        throttle.lift();
        for running in &mut all {
            running.wait().await.unwrap();
        }
    });
}

#[test]
fn engines_with_other_settings_live_side_by_side_and_leave_no_global_state() {
    let both = async {
        let object = Object::new(1, 3 * MIB);
        let origin = Origin::serving(&object);
        let sandbox = Sandbox::new();
        let one = engine_with(|config| "one/1".clone_into(&mut config.user_agent));
        let other = engine_with(|config| {
            "other/2".clone_into(&mut config.user_agent);
            config.max_connections_per_host = Some(1);
            config.insecure = true;
        });
        let first = download(&one, &origin, &sandbox, "first").start().unwrap();
        let second = download(&other, &origin, &sandbox, "second").start().unwrap();
        first.wait().await.unwrap();
        second.wait().await.unwrap();
        sandbox.assert_only(&[("first", &object), ("second", &object)]);
        let agents = ["one/1", "other/2"].map(|agent| {
            origin.requests().iter().any(|it| it.request.header("User-Agent") == Some(agent))
        });
        assert_eq!(agents, [true; 2]);
        // TLS was set up twice, and nothing was installed for the process.
        let tls = one.download("https://127.0.0.1:1/").directory(sandbox.work());
        let retry = haul_engine::RetryPolicy { max_attempts: 1, ..Default::default() };
        let error = tls.retry(retry).start().unwrap().wait().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network);
        assert!(rustls::crypto::CryptoProvider::get_default().is_none());
        assert!(!tracing::dispatcher::has_been_set(), "a subscriber was installed");
    };
    leaks::checked(both);
}
