//! Interruption by signals.

use std::time::{Duration, Instant};

use haul_tests::prelude::*;

const SIZE: u64 = 24 * MIB + 4321;

/// The contract says two seconds; one more is for a busy machine.
const PROMPT: Duration = Duration::from_secs(3);

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["-x", "4", "-o", "file"]).arg(origin.url("/file"))
}

#[test]
fn fault_073_signals_record_what_was_stored() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let throttle = Throttle::new(4 * MIB).crawling_after(7 * MIB);
        let origin = Origin::throttled(&object(SIZE), &throttle);
        let sandbox = Sandbox::new();
        let mut running = command(&sandbox, &origin).start();
        running.wait_until("enough bytes are here", |running| running.bytes() >= 5 * MIB);
        let had = running.bytes();
        let asked = Instant::now();
        running.signal(signal);
        let outcome = running.finish();
        outcome.expect(code);
        assert!(asked.elapsed() < PROMPT, "it took {:?}", asked.elapsed());
        sandbox.assert_kept("file");

        throttle.lift();
        let outcome = command(&sandbox, &origin).run();
        outcome.expect(0);
        let resumed = outcome.resumed_bytes();
        assert!(resumed >= had, "{resumed} of {had} bytes were recorded\n{outcome}");
        sandbox.assert_published("file", &object(SIZE));
    }
}

#[test]
fn fault_073_signals_do_not_wait_for_a_stalled_server() {
    let stalled = Origin::start(|request, context| {
        let honest = standard(&object(SIZE), request);
        match context.index {
            0 => honest.stall(MIB, &Gate::new()),
            _ => honest.stall(100, &Gate::new()),
        }
    });
    let sandbox = Sandbox::new();
    let mut running = command(&sandbox, &stalled).args(["--stall-timeout", "60s"]).start();
    running.wait_until("it stalls", |running| running.bytes() > 0);
    let asked = Instant::now();
    running.signal(Signal::INT);
    running.finish().expect(130);
    assert!(asked.elapsed() < PROMPT, "it took {:?}", asked.elapsed());
    sandbox.assert_kept("file");
}

#[test]
fn fault_073_signal_before_the_first_response_leaves_nothing() {
    let silent = Origin::start(|_, _| Response::empty(200).delay(Duration::from_secs(3600)));
    let sandbox = Sandbox::new();
    let running = command(&sandbox, &silent).args(["--stall-timeout", "60s"]).start();
    silent.wait_until("it has asked", |origin| origin.requests().len() == 1);
    let asked = Instant::now();
    running.signal(Signal::INT);
    running.finish().expect(130);
    assert!(asked.elapsed() < PROMPT, "it took {:?}", asked.elapsed());
    sandbox.assert_nothing_left();
}

#[test]
fn fault_073_signal_during_backoff() {
    let origin = Origin::start(|_, _| Response::empty(503).header("Retry-After", "60"));
    let sandbox = Sandbox::new();
    let mut running = command(&sandbox, &origin).start();
    running.wait_until("it waits", |r| r.events().iter().any(|e| e["event"] == "retry"));
    let asked = Instant::now();
    running.signal(Signal::TERM);
    running.finish().expect(143);
    assert!(asked.elapsed() < PROMPT, "it took {:?}", asked.elapsed());
}

#[test]
fn fault_073_second_interrupt_ends_at_once() {
    let throttle = Throttle::new(4 * MIB).crawling_after(2 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    let mut running = command(&sandbox, &origin).start();
    running.wait_until("it is under way", |running| running.bytes() >= MIB);
    running.signal(Signal::INT);
    running.signal(Signal::INT);
    assert_eq!(running.finish().code, 130);
    sandbox.assert_unpublished_at_once("file");
    throttle.lift();
    command(&sandbox, &origin).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}

#[test]
fn fault_075_stopped_and_continued() {
    let throttle = Throttle::new(4 * MIB).crawling_after(2 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    let mut running = command(&sandbox, &origin).args(["--stall-timeout", "1s"]).start();
    running.wait_until("it is under way", |running| running.bytes() >= MIB);
    running.signal(Signal::STOP);
    // Longer than the stall timeout: the time asleep is not the server's fault.
    std::thread::sleep(Duration::from_millis(1500));
    running.signal(Signal::CONT);
    throttle.lift();
    running.finish().expect(0);
    sandbox.assert_published("file", &object(SIZE));
}
