//! Outputs that are written in order while they come: stdout, FIFOs, devices.

use std::fs::File;
use std::io::{PipeReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use haul_tests::harness::make_fifo;
use haul_tests::prelude::*;

const SIZE: u64 = 40 * MIB + 4321;

fn to_stdout(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox, bare)
        .args(["--retry", "2", "--stall-timeout", "5s", "-x", "8", "-o", "-"])
        .arg(origin.url("/film.tar"))
}

/// Starts it with a pipe for its stdout.
fn piped(haul: Haul) -> (Running, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    (haul.stdout(writer).start(), reader)
}

fn said(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.stderr).into_owned()
}

fn read_to_end(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn stdout_gets_the_object_in_order_from_several_connections() {
    let served = object(SIZE);
    // A latency for each request, so that the connections overlap.
    let origin = Origin::start(move |request, _| {
        standard(&served, request).delay(Duration::from_millis(5)).rate(12 * MIB)
    });
    let sandbox = Sandbox::new();
    let (running, reader) = piped(to_stdout(&sandbox, &origin).arg("-v"));
    assert!(read_to_end(reader) == object(SIZE).bytes(0..SIZE));
    let outcome = running.finish();
    outcome.expect(0);
    assert!(said(&outcome).contains(&object(SIZE).blake3_hex()), "{outcome}");
    assert!((5..=8).contains(&origin.most_open()), "{} connections", origin.most_open());
    assert_well_asked(&origin);
    sandbox.assert_nothing_left();
}

#[test]
fn sizes_around_a_segment_come_whole() {
    for size in [0, 1, 255 << 10, 256 << 10, (256 << 10) + 1, 4 * MIB, 4 * MIB + 1] {
        let object = Object::new(2, size);
        let origin = Origin::serving(&object);
        let sandbox = Sandbox::new();
        let (running, reader) = piped(to_stdout(&sandbox, &origin));
        assert!(read_to_end(reader) == object.bytes(0..size), "{size} bytes");
        running.finish().expect(0);
    }
}

#[test]
fn a_program_that_reads_stdout_gets_what_it_needs() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let (running, reader) = piped(to_stdout(&sandbox, &origin).arg("-q"));
    let sum = Command::new("sha256sum").stdin(reader).stdout(Stdio::piped()).spawn().unwrap();
    let outcome = running.finish();
    outcome.expect(0);
    assert_eq!(said(&outcome), "", "{outcome}");
    let sum = sum.wait_with_output().unwrap();
    let expected = sandbox.write("expected", object(SIZE).bytes(0..SIZE));
    let expected = Command::new("sha256sum").arg(expected).output().unwrap();
    assert_eq!(sum.stdout[..64], expected.stdout[..64]);
}

#[test]
fn a_slow_reader_costs_no_memory_and_loses_nothing() {
    let large = Object::new(3, 192 * MIB);
    let origin = Origin::serving(&large);
    let sandbox = Sandbox::new();
    let haul = to_stdout(&sandbox, &origin).args(["--stall-timeout", "2s"]);
    let (mut running, mut reader) = piped(haul);
    // Longer than the stall timeout: nothing is asked of the server meanwhile.
    origin.wait_until("the window is full", |origin| origin.sent_bytes() > 32 * MIB);
    std::thread::sleep(Duration::from_secs(3));
    let mut beginning = vec![0; 170 * MIB as usize];
    reader.read_exact(&mut beginning).unwrap();
    assert!(beginning == large.bytes(0..170 * MIB), "the beginning");
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 100 << 10, "{peak_kib} KiB at its peak");
    assert!(!running.has_ended());
    assert!(read_to_end(reader) == large.bytes(170 * MIB..192 * MIB), "the rest");
    let outcome = running.finish();
    outcome.expect(0);
    assert!(!said(&outcome).contains("retry"), "{outcome}");
    // A connection that another takes over from may have something on its way.
    let sent = origin.sent_bytes();
    assert!(sent <= 200 * MIB, "{sent} bytes were sent: something was fetched twice");
}

#[test]
fn fault_074_a_reader_that_goes_away_ends_it_quietly() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let (running, mut reader) = piped(to_stdout(&sandbox, &origin).arg("-q"));
    reader.read_exact(&mut [0; 1000]).unwrap();
    drop(reader);
    let outcome = running.finish();
    outcome.expect(3);
    assert_eq!(said(&outcome), "", "{outcome}");
    sandbox.assert_nothing_left();
}

#[test]
fn devices_and_fifos_are_written_in_order() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox).args(["-o", "/dev/null"]).arg(origin.url("/f")).run();
    outcome.expect(0);
    assert_eq!(outcome.event("complete")["blake3"], object(SIZE).blake3_hex(), "{outcome}");
    assert_eq!(outcome.event("complete")["output"], "/dev/null", "{outcome}");
    assert!(std::fs::metadata("/dev/null").unwrap().len() == 0);

    let fifo = sandbox.path("fifo");
    make_fifo(&fifo);
    let running = haul!(sandbox).args(["-o", "fifo"]).arg(origin.url("/f")).start();
    assert!(read_to_end(File::open(&fifo).unwrap()) == object(SIZE).bytes(0..SIZE));
    running.finish().expect(0);
    assert_eq!(sandbox.files(), ["fifo"], "it is still there, and nothing else");

    let outcome = haul!(sandbox).args(["-o", "/dev/full"]).arg(origin.url("/f")).run();
    outcome.expect(11).expect_message("/dev/full");
}

#[test]
fn what_cannot_go_with_stdout_is_named() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let url = origin.url("/f");
    let list = sandbox.write("list", format!("{url}\n"));
    for (flags, named) in [
        (&["--json"][..], "--json"),
        (&["--progress", "json"], "--progress json"),
        (&["--storage", "mmap"], "--storage"),
        (&["--results", "r"], "--results"),
        (&["-i", list.to_str().unwrap()], "--input-file"),
        (&[&url], "several URLs"),
    ] {
        let outcome = haul!(sandbox, bare).args(["-o", "-"]).args(flags).arg(&url).run();
        outcome.expect(2);
        assert!(
            said(&outcome).contains("--output") && said(&outcome).contains(named),
            "{flags:?}: {outcome}"
        );
    }
    assert!(origin.requests().is_empty());
}

/// What is served, until the switch is thrown.
fn changing(first: Object, then: Object) -> (Origin, Arc<AtomicBool>, Throttle) {
    let changed = Arc::new(AtomicBool::new(false));
    let (switch, throttle) = (Arc::clone(&changed), Throttle::new(2 * MIB));
    let slow = throttle.clone();
    let origin = Origin::start(move |request, _| {
        let now = if switch.load(Ordering::SeqCst) { &then } else { &first };
        slow.apply(standard(now, request))
    });
    (origin, changed, throttle)
}

#[test]
fn fault_025_a_change_midway_cannot_be_taken_back() {
    let other = Object::new(9, SIZE).with_etag(Some("\"other\""));
    let (origin, changed, throttle) = changing(object(SIZE), other);
    let sandbox = Sandbox::new();
    let (running, mut reader) = piped(to_stdout(&sandbox, &origin));
    let mut got = vec![0; MIB as usize];
    reader.read_exact(&mut got).unwrap();
    changed.store(true, Ordering::SeqCst);
    throttle.lift();
    got.extend(read_to_end(reader));
    let outcome = running.finish();
    outcome.expect(10);
    assert!(said(&outcome).contains("given out"), "{outcome}");
    assert!((got.len() as u64) < SIZE);
    assert!(got == object(SIZE).bytes(0..got.len() as u64), "bytes of one version only");
}

#[test]
fn fault_045_a_plain_stream_goes_on_only_if_it_is_provably_the_same() {
    for (etag, whole) in [(Some("\"strong\""), true), (Some("W/\"weak\""), false), (None, false)] {
        let object = object(SIZE).with_etag(etag).with_last_modified(None);
        let served = object.clone();
        let origin = Origin::start(move |_, context| {
            let full = Response::full(&served);
            if context.index == 0 { full.cut(10 * MIB, End::Reset) } else { full }
        });
        let sandbox = Sandbox::new();
        let (running, reader) = piped(to_stdout(&sandbox, &origin).arg("-v"));
        let got = read_to_end(reader);
        let outcome = running.finish();
        assert!(got == object.bytes(0..got.len() as u64), "{etag:?}: {} bytes", got.len());
        if whole {
            outcome.expect(0);
            assert_eq!(got.len() as u64, SIZE);
            assert!(said(&outcome).contains(&object.blake3_hex()), "{outcome}");
        } else {
            outcome.expect(4);
            assert!((got.len() as u64) < SIZE && !got.is_empty());
        }
    }
}

#[test]
fn digests_are_compared_when_the_bytes_are_out() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let file = sandbox.write("expected", object(SIZE).bytes(0..SIZE));
    let sum = Command::new("sha256sum").arg(file).output().unwrap().stdout;
    let right = String::from_utf8_lossy(&sum[..64]).into_owned();
    for (digest, code) in [
        (format!("sha256={right}"), 0),
        (format!("blake3={}", object(SIZE).blake3_hex()), 0),
        (format!("sha256={}", "ab".repeat(32)), 9),
        (format!("blake3={}", "ab".repeat(32)), 9),
    ] {
        let haul = to_stdout(&sandbox, &origin).args(["--checksum", &digest]);
        let (running, reader) = piped(haul);
        assert!(read_to_end(reader) == object(SIZE).bytes(0..SIZE));
        let outcome = running.finish();
        outcome.expect(code);
        let told = said(&outcome).contains("given out");
        assert_eq!(told, code == 9, "{outcome}");
    }
}

#[test]
fn a_signal_ends_it_though_nobody_reads() {
    let origin = Origin::serving(&Object::new(3, 192 * MIB));
    let sandbox = Sandbox::new();
    let (running, reader) = piped(to_stdout(&sandbox, &origin));
    origin.wait_until("the window is full", |origin| origin.sent_bytes() > 32 * MIB);
    let asked = Instant::now();
    running.signal(Signal::INT);
    running.finish().expect(130);
    assert!(asked.elapsed() < Duration::from_secs(2), "it took {:?}", asked.elapsed());
    drop(reader);
    sandbox.assert_nothing_left();
}
