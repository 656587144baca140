//! The examples of the engine, as programs of their own.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use haul_tests::built::built;
use haul_tests::prelude::*;

const SIZE: u64 = 8 * MIB + 4321;

fn object() -> Object {
    Object::new(1, SIZE).with_content_type("video/mp4")
}

/// An origin of the object, at 8 MiB/s a connection.
fn slow(object: &Object) -> Origin {
    Origin::throttled(object, &Throttle::new(8 * MIB))
}

/// Where an example is, built.
fn example(name: &str) -> std::path::PathBuf {
    static BUILT: OnceLock<std::path::PathBuf> = OnceLock::new();
    BUILT.get_or_init(built).join("examples").join(name)
}

/// Runs an example; what it printed and told.
#[track_caller]
fn run(sandbox: &Sandbox, name: &str, succeeds: bool, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = Command::new("timeout")
        .arg("60")
        .arg(example(name))
        .args(arguments)
        .current_dir(sandbox.work())
        .output()
        .expect("the example runs");
    let told = String::from_utf8([stdout, stderr].concat()).expect("text");
    assert_eq!(status.success(), succeeds, "{name} {arguments:?}: {status}\n{told}");
    assert!(!told.contains("secret"), "{told}");
    told
}

/// `what` is in what it told.
#[track_caller]
fn says(told: &str, what: &str) {
    assert!(told.contains(what), "no {what:?} in:\n{told}");
}

#[test]
fn fetch() {
    let sandbox = Sandbox::new();
    let origin = slow(&object());
    let told = run(&sandbox, "fetch", true, &[&origin.url("/film.mp4?secret")]);
    says(&told, &format!("{SIZE} bytes in "));
    sandbox.assert_published("film.mp4", &object());
}

#[test]
fn plan() {
    let sandbox = Sandbox::new();
    let origin = Origin::serving(&object());
    let told = run(&sandbox, "plan", true, &[&origin.url("/film.mp4?secret")]);
    says(&told, &format!("0 of {SIZE} bytes are here already"));
    assert_eq!(origin.requests().len(), 1);
    sandbox.assert_nothing_left();
}

#[test]
fn steering() {
    let sandbox = Sandbox::new();
    let origin = slow(&object());
    let told = run(&sandbox, "steering", true, &[&origin.url("/film?secret"), "film.mp4"]);
    says(&told, "bytes over 1 connections\npaused: ");
    says(&told, "bytes over 0 connections\ncomplete: ");
    sandbox.assert_published("film.mp4", &object());
}

#[test]
fn read_while_downloading() {
    let sandbox = Sandbox::new();
    let origin = slow(&object());
    let arguments = [&*origin.url("/film?secret"), "film.mp4"];
    let told = run(&sandbox, "read_while_downloading", true, &arguments);
    let bytes = object().bytes(SIZE - 16..SIZE);
    says(&told, &format!("{bytes:02x?} at {}", SIZE - 16));
    sandbox.assert_published("film.mp4", &object());
}

#[test]
fn blocking() {
    let sandbox = Sandbox::new();
    let origin = slow(&object());
    let told = run(&sandbox, "blocking", true, &[&origin.url("/film?secret"), "film.mp4"]);
    let breaks = object().bytes(0..SIZE).iter().filter(|byte| **byte == b'\n').count() as u64;
    let lines = breaks + u64::from(object().byte_at(SIZE - 1) != b'\n');
    says(&told, &format!("{SIZE} bytes, {lines} lines"));
    sandbox.assert_published("film.mp4", &object());
}

#[test]
fn many() {
    let sandbox = Sandbox::new();
    let objects: Vec<Object> = (0..5).map(|seed| Object::new(seed, MIB * (seed + 1))).collect();
    let origin = {
        let objects = objects.clone();
        Origin::start(move |request, _| {
            let number = request.path().trim_start_matches('/').parse::<usize>().ok();
            number
                .and_then(|number| objects.get(number))
                .map_or_else(|| Response::empty(404), |object| standard(object, request))
        })
    };
    let urls: Vec<String> = (0..5).map(|number| origin.url(&format!("/{number}?secret"))).collect();
    let mut arguments = vec!["."];
    arguments.extend(urls.iter().map(String::as_str));
    run(&sandbox, "many", true, &arguments);
    let names: Vec<String> = (0..5).map(|number| number.to_string()).collect();
    let expected: Vec<(&str, &Object)> = names.iter().map(String::as_str).zip(&objects).collect();
    sandbox.assert_only(&expected);

    let missing = origin.url("/missing?secret");
    let told = run(&sandbox, "many", false, &[".", &missing]);
    says(&told, "404");
    says(&told, "1 failed");
}

#[test]
fn refresh() {
    let links = std::sync::Mutex::new(0);
    let throttle = Throttle::new(8 * MIB);
    // Each link is good for five or six requests, two of which may prove that it leads to
    // the same object, and the service gives the next one. No six responses bring everything.
    let origin = Origin::start(move |request, _| {
        let mut number = links.lock().unwrap();
        if request.path() == "/sign" {
            *number += 1;
            let host = request.header("Host").unwrap_or_default();
            let link = format!("http://{host}/film?secret={}\n", *number / 6);
            return Response::text(200, "text/plain", &link);
        }
        let good = request.target.ends_with(&format!("secret={}", *number / 6));
        if !good || request.is_conditional() {
            return Response::empty(403);
        }
        *number += 1;
        throttle.apply(standard(&object(), request)).cut(5 * MIB / 4, End::Close)
    });
    let sandbox = Sandbox::new();
    let (url, service) = (origin.url("/film?secret=0"), origin.url("/sign"));
    let told = run(&sandbox, "refresh", true, &[&url, &service, "film.mp4"]);
    says(&told, &format!("{SIZE} bytes with "));
    assert!(!told.contains("with 0 fresh"), "{told}");
    sandbox.assert_published("film.mp4", &object());
}

/// Killed midway, and continued from another URL of the same object.
#[test]
fn own_file() {
    let object = object();
    let throttle = Throttle::new(MIB / 16);
    let origin = Origin::throttled(&object, &throttle);
    let sandbox = Sandbox::new();
    let checkpoint = sandbox.path("film.mp4.checkpoint");
    let saved = || std::fs::read(&checkpoint).ok();
    let mut killed = Command::new(example("own_file"))
        .args([&*origin.url("/film.mp4?secret1"), "film.mp4"])
        .current_dir(sandbox.work())
        .spawn()
        .expect("the example runs");
    origin.wait_until("there is a checkpoint", |_| saved().is_some());
    // What the next one says was stored before it.
    let first = saved();
    origin.wait_until("there is another", |_| saved() != first);
    killed.kill().expect("a child of ours");
    killed.wait().expect("a child of ours");
    assert!(saved().is_some(), "killed before it was complete");

    throttle.lift();
    let sent = origin.sent_bytes();
    let told = run(&sandbox, "own_file", true, &[&origin.url("/mirror?secret2"), "film.mp4"]);
    says(&told, &format!("blake3 {}", object.blake3_hex()));
    let here = told.split(" bytes, of which ").nth(1).and_then(|rest| rest.split(' ').next());
    let here: u64 = here.expect("a number").parse().expect("a number");
    assert!(here > 0, "{told}");
    // The first response gave way to the segment that proved it the same object.
    let again = origin.sent_bytes() - sent;
    assert!(again < 2 * (SIZE - here) + MIB, "{again} bytes; {told}");
    assert!(std::fs::read(sandbox.path("film.mp4")).unwrap() == object.bytes(0..SIZE));
    assert_eq!(saved(), None, "it is complete");
}

#[test]
fn verify() {
    let sandbox = Sandbox::new();
    let origin = Origin::serving(&object());
    let url = origin.url("/film?secret");
    let wrong = format!("blake3={}", "0".repeat(64));
    let told = run(&sandbox, "verify", false, &[&url, "film.mp4", &wrong]);
    says(&told, "film.mp4 was not written");
    sandbox.assert_unpublished("film.mp4");
    let right = format!("blake3={}", object().blake3_hex());
    let told = run(&sandbox, "verify", true, &[&url, "film.mp4", &right]);
    says(&told, "published with blake3");
    says(&told, &format!("read again: blake3 {}", object().blake3_hex()));
    sandbox.assert_published("film.mp4", &object());
}

/// Three processes and three signatures of the same URL, the second expired.
#[test]
fn film() {
    let object = object();
    let throttle = Throttle::new(2 * MIB).crawling_after(11 * MIB / 2);
    let fresh = Arc::new(AtomicBool::new(true));
    let origin = {
        let (object, throttle, fresh) = (object.clone(), throttle.clone(), Arc::clone(&fresh));
        Origin::start(move |request, _| {
            let signed = |by: &str| request.target.ends_with(&format!("?signature={by}"));
            match (fresh.load(Ordering::Acquire), signed("secret1"), signed("secret3")) {
                (true, true, _) | (false, _, true) => throttle.apply(standard(&object, request)),
                _ => Response::empty(403),
            }
        })
    };
    let sandbox = Sandbox::new();
    let url = |signature: u32| origin.url(&format!("/film.mp4?signature=secret{signature}"));

    let told = run(&sandbox, "film", true, &[&url(1), "film.mp4", "50"]);
    says(&told, "paused at ");
    says(&told, "the rest another day, from ");
    sandbox.assert_kept("film.mp4");
    let had = haul_engine::partial_info(&sandbox.path("film.mp4")).unwrap().state.unwrap();
    assert!(had.stored_bytes >= SIZE / 2 - 100, "{} bytes", had.stored_bytes);
    assert!(had.stored_bytes < SIZE, "all of them");

    // The first link expires, and the second had before.
    fresh.store(false, Ordering::Release);
    for signature in [1, 2] {
        let told = run(&sandbox, "film", false, &[&url(signature), "film.mp4"]);
        says(&told, &format!("{} bytes are here, from 127.0.0.1\n", had.stored_bytes));
        says(&told, "the link has expired: give a fresh one, what is here is kept");
        sandbox.assert_kept("film.mp4");
    }

    throttle.lift();
    let sent = origin.sent_bytes();
    let told = run(&sandbox, "film", true, &[&url(3), "film.mp4"]);
    says(&told, &format!("complete: {} of {SIZE} bytes came today", SIZE - had.stored_bytes));
    sandbox.assert_published("film.mp4", &object);
    assert!(origin.sent_bytes() - sent < SIZE * 3 / 4, "what was here is not sent again");
}

#[test]
fn pipe() {
    let sandbox = Sandbox::new();
    let origin = slow(&object());
    let output = Command::new("timeout")
        .arg("60")
        .arg(example("pipe"))
        .arg(origin.url("/film.mp4?secret"))
        .current_dir(sandbox.work())
        .output()
        .expect("the example runs");
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{told}");
    assert!(output.stdout == object().bytes(0..SIZE));
    says(&told, &format!("{SIZE} bytes, blake3 {}", object().blake3_hex()));
    sandbox.assert_nothing_left();
}

#[test]
fn resume() {
    let sandbox = Sandbox::new();
    let throttle = Throttle::new(8 * MIB).crawling_after(6 * MIB);
    let origin = Origin::throttled(&object(), &throttle);
    interrupt(haul!(sandbox).json().args(["-o", "film"]).arg(origin.url("/film")), 3 * MIB);
    throttle.lift();
    let base = origin.url("");
    let told = run(&sandbox, "resume", true, &[".", base.trim_end_matches('/')]);
    says(&told, &format!("of {SIZE} bytes were here"));
    assert!(!told.contains("film: 0 of"), "{told}");
    sandbox.assert_published("film", &object());
}

/// A ZIP archive with one stored file, of which a reader of the directory needs no byte.
fn archive(name: &str, len: usize) -> Vec<u8> {
    let (name, number) = (name.as_bytes(), |value: usize| (value as u32).to_le_bytes());
    // The versions, flags, method, times and sum of both heads; nobody here checks them.
    let common = [&[0; 16][..], &number(len), &number(len), &[name.len() as u8, 0, 0, 0]].concat();
    let local = [b"PK\x03\x04", &common[2..], name].concat();
    let entry = [b"PK\x01\x02", &common[..], &[0; 14], name].concat();
    let count = [0, 0, 0, 0, 1, 0, 1, 0];
    let directory = [number(entry.len()), number(local.len() + len)].concat();
    [local, vec![7; len], entry, b"PK\x05\x06".to_vec(), count.to_vec(), directory, vec![0; 2]]
        .concat()
}

#[test]
fn zip_directory() {
    let sandbox = Sandbox::new();
    let bytes = archive("film.mp4", 3 * MIB as usize);
    let size = bytes.len();
    let origin = Origin::start(move |request, _| {
        let range = request.range().and_then(|asked| asked.within(size as u64));
        let Some(range) = range else { return Response::unsatisfiable(size as u64) };
        Response::new(206)
            .header("ETag", "\"one\"")
            .header("Content-Length", &(range.end - range.start).to_string())
            .content_range(&range, &size.to_string())
            .bytes(bytes[range.start as usize..range.end as usize].to_vec())
    });
    let told = run(&sandbox, "zip_directory", true, &[&origin.url("/films.zip?secret")]);
    says(&told, &format!("{} film.mp4", 3 * MIB));
    says(&told, &format!(" of {size} bytes fetched"));
    assert!(origin.sent_bytes() < MIB / 2, "{} bytes", origin.sent_bytes());
    sandbox.assert_nothing_left();
}
