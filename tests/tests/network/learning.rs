//! What one run has shown of a server, and the next one starts with.

use std::fs;

use haul_tests::harness::{Outcome, Running};
use haul_tests::origin::{Throttle, date};
use haul_tests::prelude::*;

const SIZE: u64 = 24 * MIB;

/// Lets it go on at full speed once it has found the server's limit.
fn when_limited(mut running: Running, throttle: &Throttle) -> Outcome {
    running.wait_until("the limit is found", |running| {
        running.events().iter().any(|event| event["code"] == "connection-limit")
    });
    throttle.lift();
    running.finish()
}

#[test]
fn a_servers_limit_is_told_and_not_run_into_again_once_it_is_remembered() {
    let object = Object::new(1, SIZE);
    let (served, throttle) = (object.clone(), Throttle::new(2 * MIB));
    let pace = throttle.clone();
    let origin = Origin::builder()
        .limit(2, Refusal::Status(503))
        .start(move |request, _| pace.apply(standard(&served, request)));
    let sandbox = Sandbox::new();
    let run = |name: &str| {
        let url = origin.url("/private/path?X-Amz-Signature=secret");
        haul!(sandbox).args(["-o", name]).arg(&url).start()
    };
    let first = when_limited(run("first"), &throttle);
    first.expect(0).expect_notice("connection-limit");
    sandbox.assert_published("first", &object);
    // A refusal that no second one confirmed, seconds later, may have been of a bad moment.
    let hosts = sandbox.root().join("home/.local/state/haul/hosts");
    let text = fs::read_to_string(&hosts).unwrap_or_default();
    assert!(!text.contains("server") && !text.contains("secret"), "{text}");
    fs::create_dir_all(hosts.parent().expect("a directory")).unwrap();
    let line = format!("127.0.0.1:{} 2 server {}", origin.port(), date::now_unix());
    fs::write(&hosts, format!("haul hosts 1\n{line}\n")).unwrap();

    let before = origin.requests().len();
    run("second").finish().expect(0);
    sandbox.assert_only(&[("first", &object), ("second", &object)]);
    assert!(origin.requests().len() > before);
    assert!(origin.most_open() <= 2);

    fs::write(&hosts, b"\xffgarbage").unwrap();
    run("third").finish().expect(0);
    fs::remove_file(&hosts).unwrap();
    run("fourth").finish().expect(0);
    let names = ["first", "fourth", "second", "third"];
    sandbox.assert_only(&names.map(|name| (name, &object)));
}

#[test]
fn what_a_limit_of_ones_own_shows_is_not_laid_to_the_server() {
    let object = Object::new(1, SIZE);
    let origin = Origin::serving(&object);
    let sandbox = Sandbox::new();
    let hosts = sandbox.root().join("home/.local/state/haul/hosts");
    let run = |name: &str, flags: &[&str]| {
        haul!(sandbox).args(["-o", name]).args(flags).arg(origin.url("/file")).run().expect(0);
    };
    run("limited", &["-r", "12M"]);
    assert!(!hosts.exists(), "{:?}", fs::read_to_string(&hosts));
}
