//! A thousand downloads at once in one engine, and what they need of memory.
//!
//! The bound is that of docs/decisions/052-peak-memory.md. The origin is in the same process, so its own
//! memory is allowed for. A binary of its own, because the peak is the process's.

use std::time::Duration;

use haul_engine::{Connections, Download, Engine, EngineConfig};
use haul_tests::prelude::*;

const COUNT: usize = 1000;
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A value of /proc/self/status, in bytes.
fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * KIB
}

/// Forgets the peak so far.
fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak of this process");
}

fn start_all(engine: &Engine, origin: &Origin, sandbox: &Sandbox) -> Vec<Download> {
    (0..COUNT)
        .map(|number| {
            engine
                .download(&origin.url(&format!("/{number}")))
                .directory(sandbox.work())
                .output(format!("file-{number}"))
                .connections(Connections::Fixed(4))
                .sync(false)
                .start()
                .unwrap()
        })
        .collect()
}

async fn all_complete(running: Vec<Download>, sandbox: &Sandbox, object: &Object) {
    for running in running {
        running.wait().await.unwrap();
    }
    let names: Vec<String> = (0..COUNT).map(|number| format!("file-{number}")).collect();
    let expected: Vec<(&str, &Object)> = names.iter().map(|name| (name.as_str(), object)).collect();
    sandbox.assert_only(&expected);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_thousand_downloads_share_the_usual_budget() {
    leaks::guarded(|| {
        let object = Object::new(1, 300 * KIB as u64 + 7);
        let origin = Origin::serving(&object);
        let sandbox = Sandbox::new();
        let engine = leaks::watched(Engine::new(EngineConfig::default()).unwrap());
        reset_peak();
        let before = status("VmRSS");
        runtime().block_on(async {
            let running = start_all(&engine, &origin, &sandbox);
            all_complete(running, &sandbox, &object).await;
        });
        let used = status("VmHWM").saturating_sub(before);
        // 64 connections; those that wait have 24 KiB each. What the origin has for each
        // connection: a thread, and buffers.
        let bound = 16 * MIB + 64 * 2 * 256 * KIB + 64 * 128 * KIB + COUNT * 24 * KIB + 10 * MIB;
        let origins = 64 * 256 * KIB;
        assert!(used < bound + origins, "{used} bytes of at most {}", bound + origins);
        assert!(origin.most_open() <= 64 + 16, "{} connections", origin.most_open());
    });
}

#[test]
fn a_thousand_downloads_receive_at_the_same_time_where_the_budget_is_for_that() {
    leaks::guarded(|| {
        // Sockets at both ends, and a file, a lock and a directory each.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        let raised = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).is_ok();
        let room = limit.maximum.is_none_or(|most| most as usize >= 8 * COUNT);
        assert!(raised && room, "this test needs {} open files, not {limit:?}", 8 * COUNT);
        let object = Object::new(1, 64 * KIB as u64 + 7);
        let gate = Gate::new();
        let origin = {
            let (object, gate) = (object.clone(), gate.clone());
            Origin::start(move |request, _| standard(&object, request).stall(1000, &gate))
        };
        let sandbox = Sandbox::new();
        let mut config = EngineConfig::default();
        config.memory_budget_bytes = COUNT * 256 * KIB;
        let engine = leaks::watched(Engine::new(config).unwrap());
        reset_peak();
        let before = status("VmRSS");
        runtime().block_on(async {
            let running = start_all(&engine, &origin, &sandbox);
            let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
            while running.iter().any(|running| running.progress().bytes == 0) {
                assert!(tokio::time::Instant::now() < deadline, "not all receive");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let connections: usize = running.iter().map(|it| it.progress().connections).sum();
            assert_eq!(connections, COUNT, "all wait for the rest of their objects");
            gate.open();
            all_complete(running, &sandbox, &object).await;
        });
        let used = status("VmHWM").saturating_sub(before);
        let bound = COUNT * (256 + 2 * 256 + 128) * KIB + 10 * MIB;
        assert!(used < bound, "{used} bytes of at most {bound}");
    });
}
