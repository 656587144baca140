//! `--if-changed`: a file is fetched again only when the server has another one.
//! `--no-part`: the data has its final name from the start.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use haul_tests::prelude::*;

const SIZE: u64 = 6 * MIB + 4321;

fn old() -> Object {
    Object::new(1, SIZE).with_etag(Some("\"old\"")).with_last_modified(Some(1_600_000_000))
}

fn new() -> Object {
    Object::new(2, 4 * MIB).with_etag(Some("\"new\"")).with_last_modified(Some(1_700_000_000))
}

/// Serves the one object, then, after the switch, the other.
fn changing(old: Object, new: Object) -> (Origin, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(false));
    let changed = Arc::clone(&switch);
    let origin = Origin::start(move |request, _| {
        standard(if changed.load(Ordering::SeqCst) { &new } else { &old }, request)
    });
    (origin, switch)
}

fn if_changed(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["--if-changed", "-o", "file"]).arg(origin.url("/file"))
}

/// Whether files in the sandbox can have extended attributes.
fn has_attributes(sandbox: &Sandbox) -> bool {
    let file = fs::File::create(sandbox.path("probe")).unwrap();
    let set = rustix::fs::fsetxattr(&file, "user.probe", b"1", rustix::fs::XattrFlags::empty());
    fs::remove_file(sandbox.path("probe")).unwrap();
    set.is_ok()
}

#[test]
fn an_unchanged_file_is_left_alone() {
    let (origin, changed) = changing(old(), new());
    let sandbox = Sandbox::new();
    let first = if_changed(&sandbox, &origin).run();
    first.expect(0);
    sandbox.assert_published("file", &old());
    let inode = fs::metadata(sandbox.path("file")).unwrap().ino();
    let asked = origin.requests().len();

    let second = if_changed(&sandbox, &origin).run();
    second.expect(0);
    assert_eq!(second.event("complete")["unchanged"], true, "{second}");
    assert_eq!(second.fetched_bytes(), 0, "{second}");
    assert_eq!(fs::metadata(sandbox.path("file")).unwrap().ino(), inode);
    sandbox.assert_published("file", &old());
    let requests = origin.requests();
    assert_eq!(requests.len(), asked + 1);
    let request = &requests[asked].request;
    assert_eq!(request.header("If-Modified-Since"), Some("Sun, 13 Sep 2020 12:26:40 GMT"));
    let tag = has_attributes(&sandbox).then_some("\"old\"");
    assert_eq!(request.header("If-None-Match"), tag);

    let plain =
        haul!(sandbox, bare).args(["--if-changed", "-o", "file"]).arg(origin.url("/file")).run();
    plain.expect(0);
    assert!(String::from_utf8_lossy(&plain.stderr).contains("file is already complete"), "{plain}");

    changed.store(true, Ordering::SeqCst);
    let third = if_changed(&sandbox, &origin).run();
    third.expect(0);
    assert!(third.event("complete")["unchanged"].is_null(), "{third}");
    sandbox.assert_published("file", &new());
    if_changed(&sandbox, &origin).run().expect(0);
    sandbox.assert_published("file", &new());
}

#[test]
fn without_a_file_it_is_an_ordinary_download() {
    let (origin, _) = changing(old(), new());
    let sandbox = Sandbox::new();
    let outcome = haul!(sandbox).arg("--if-changed").arg(origin.url("/file")).run();
    outcome.expect(0);
    assert!(origin.requests().iter().all(|it| it.request.header("If-Modified-Since").is_none()));
    // Named by the URL, as before.
    let outcome = haul!(sandbox).arg("--if-changed").arg(origin.url("/file")).run();
    assert_eq!(outcome.event("complete")["unchanged"], true, "{outcome}");
    sandbox.assert_published("file", &old());
}

#[test]
fn a_server_that_ignores_conditions_is_judged_by_its_validator() {
    for etag in [Some("\"old\""), None] {
        let served = old().with_etag(etag);
        let origin = Origin::start(move |request, _| {
            let range = request.range().and_then(|asked| asked.within(SIZE));
            range.map_or_else(|| Response::full(&served), |it| Response::partial(&served, it))
        });
        let sandbox = Sandbox::new();
        if_changed(&sandbox, &origin).run().expect(0);
        let outcome = if_changed(&sandbox, &origin).run();
        assert_eq!(outcome.event("complete")["unchanged"], true, "{outcome}");
        sandbox.assert_published("file", &old());
    }
}

#[test]
fn a_file_that_somebody_changed_is_replaced() {
    let (origin, _) = changing(old(), new());
    let sandbox = Sandbox::new();
    if !has_attributes(&sandbox) {
        return;
    }
    if_changed(&sandbox, &origin).run().expect(0);
    // Of the same size: the server would say that nothing changed since.
    sandbox.write("file", vec![7; SIZE as usize]);
    let outcome = if_changed(&sandbox, &origin).run();
    outcome.expect(0);
    assert!(outcome.event("complete")["unchanged"].is_null(), "{outcome}");
    sandbox.assert_published("file", &old());
}

#[test]
fn the_old_file_stays_until_the_new_one_is_complete() {
    let throttle = Throttle::new(2 * MIB).crawling_after(8 * MIB);
    let slow = throttle.clone();
    let (old, large) = (old(), Object::new(2, 24 * MIB).with_last_modified(Some(1_700_000_000)));
    let (first, then) = (old.clone(), large.clone());
    let changed = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&changed);
    let origin = Origin::start(move |request, _| match switch.load(Ordering::SeqCst) {
        false => standard(&first, request),
        true => slow.apply(standard(&then, request)),
    });
    let sandbox = Sandbox::new();
    if_changed(&sandbox, &origin).run().expect(0);
    changed.store(true, Ordering::SeqCst);
    kill(if_changed(&sandbox, &origin).args(["-x", "4"]), 6 * MIB);
    old.compare_file(&sandbox.path("file")).unwrap();
    assert_eq!(sandbox.files(), ["file", "file.haul", "file.part"]);
    throttle.lift();
    let outcome = if_changed(&sandbox, &origin).run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() >= 2 * MIB, "{outcome}");
    sandbox.assert_published("file", &large);
}

#[test]
fn what_cannot_go_with_it_is_named() {
    let origin = Origin::serving(&old());
    let sandbox = Sandbox::new();
    for flag in ["--no-clobber", "--overwrite", "--no-part", "--range=0-9", "-o-"] {
        let outcome =
            haul!(sandbox, bare).args(["--if-changed", flag]).arg(origin.url("/file")).run();
        outcome.expect(2);
        let said = String::from_utf8_lossy(&outcome.stderr);
        let name = if flag == "-o-" { "--output" } else { flag.split('=').next().unwrap() };
        assert!(said.contains("--if-changed") && said.contains(name), "{flag}: {outcome}");
    }
    assert!(origin.requests().is_empty());
}

fn no_part(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).args(["--no-part", "-x", "4", "-o", "file"]).arg(origin.url("/file"))
}

#[test]
fn without_a_part_the_data_has_its_name_from_the_start() {
    let object = Object::new(1, 24 * MIB + 4321);
    for killed in [false, true] {
        let throttle = Throttle::new(2 * MIB).crawling_after(10 * MIB);
        let origin = Origin::throttled(&object, &throttle);
        let sandbox = Sandbox::new();
        let first = no_part(&sandbox, &origin);
        let outcome = if killed { kill(first, 8 * MIB) } else { interrupt(first, 8 * MIB) };
        outcome.expect_notice("no-part");
        assert_eq!(sandbox.files(), ["file", "file.haul"]);
        let mode = fs::metadata(sandbox.path("file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "not to be read by others yet");
        // Somebody who knows nothing of this leaves it alone.
        haul!(sandbox).args(["-o", "file"]).arg(origin.url("/file")).run().expect(3);

        throttle.lift();
        let outcome = no_part(&sandbox, &origin).run();
        outcome.expect(0);
        assert!(outcome.resumed_bytes() >= 4 * MIB, "killed {killed}: {outcome}");
        sandbox.assert_published("file", &object);
        let mode = fs::metadata(sandbox.path("file")).unwrap().permissions().mode();
        assert_ne!(mode & 0o777, 0o600, "as any other file");
    }
}

#[test]
fn without_a_part_a_finished_file_is_refused_or_overwritten() {
    let origin = Origin::serving(&old());
    let sandbox = Sandbox::new();
    sandbox.write("file", "mine");
    no_part(&sandbox, &origin).run().expect(3);
    assert_eq!(fs::read(sandbox.path("file")).unwrap(), b"mine");
    assert_eq!(sandbox.files(), ["file"]);
    no_part(&sandbox, &origin).arg("--overwrite").run().expect(0);
    sandbox.assert_published("file", &old());
    // An empty one, such as mktemp makes, is nobody's.
    sandbox.write("file", "");
    no_part(&sandbox, &origin).run().expect(0);
    sandbox.assert_published("file", &old());
}

#[test]
fn without_a_part_wrong_data_does_not_stay() {
    let origin = Origin::serving(&old());
    let sandbox = Sandbox::new();
    let wrong = format!("sha256={}", "ab".repeat(32));
    no_part(&sandbox, &origin).args(["--checksum", &wrong]).run().expect(9);
    sandbox.assert_nothing_left();
}

#[test]
fn without_a_part_two_hauls_do_not_write_to_one_file() {
    let object = Object::new(1, 24 * MIB);
    let throttle = Throttle::new(2 * MIB).crawling_after(2 * MIB);
    let origin = Origin::throttled(&object, &throttle);
    let sandbox = Sandbox::new();
    let mut first = no_part(&sandbox, &origin).start();
    first.wait_until("it has begun", |running| running.bytes() > MIB);
    let second = no_part(&sandbox, &origin).run();
    second.expect(3).expect_message("another haul");
    throttle.lift();
    first.finish().expect(0);
    sandbox.assert_published("file", &object);
}
