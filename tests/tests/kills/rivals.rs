//! Two to eight hauls on one target (fault 67): one proceeds, the others exit 3
//! and name the holder; when it is killed, another takes over.

use std::thread;
use std::time::Duration;

use haul_tests::prelude::*;

const ROUNDS: u64 = 100;
const WORKERS: u64 = 4;
const SIZE: u64 = 3 * MIB + 4321;

/// The same target, named in different ways and fetched from different URLs.
fn command(sandbox: &Sandbox, origin: &Origin, rival: u64) -> Haul {
    let absolute = sandbox.path("file").display().to_string();
    let above = sandbox.root().display().to_string();
    let target: [&str; 4] = match rival % 5 {
        0 => ["-d", ".", "-o", "file"],
        1 => ["-d", "./", "-o", "./file"],
        2 => ["-d", "../work", "-o", ".//file"],
        3 => ["-d", "/", "-o", &absolute],
        _ => ["-d", &above, "-o", "work/file"],
    };
    let path = match rival % 3 {
        0 => "/file",
        1 => "/file?signature=other",
        _ => "/other",
    };
    haul!(sandbox).args(["-x", "2", "--segment-size", "1M"]).args(target).arg(origin.url(path))
}

/// Starts so many at once and returns the one that has the target, after all
/// others were refused in its favour.
fn the_one_of(rivals: u64, sandbox: &Sandbox, origin: &Origin, random: &mut Random) -> Running {
    let first = random.below(15);
    let rivals: Vec<Running> =
        (0..rivals).map(|rival| command(sandbox, origin, first + rival).start()).collect();
    let mut refused = Vec::new();
    let mut holders = Vec::new();
    for mut rival in rivals {
        let started =
            |rival: &Running| rival.events().iter().any(|event| event["event"] == "start");
        while !started(&rival) && !rival.has_ended() {
            thread::sleep(Duration::from_millis(1));
        }
        if rival.has_ended() { refused.push(rival.finish()) } else { holders.push(rival) }
    }
    let holder = holders.pop().unwrap_or_else(|| panic!("nobody proceeds: {refused:?}"));
    assert!(holders.is_empty(), "{} and {holder:?} have the target", holders.len());
    for outcome in refused {
        assert_refused_for(&holder, &outcome);
    }
    holder
}

#[track_caller]
fn assert_refused_for(holder: &Running, outcome: &Outcome) {
    assert_eq!(outcome.code, 3, "{outcome}");
    let named = format!("(process {})", holder.pid());
    assert!(outcome.text().contains(&named), "it should say {named}\n{outcome}");
    assert_eq!(outcome.all("start").count(), 0, "it had begun\n{outcome}");
}

/// One round. Every third holder is killed, up to two times.
fn round(number: u64, random: &mut Random) {
    let object = Object::new(1, SIZE);
    // Slow enough that no holder is done before the throttle is lifted.
    let throttle = Throttle::new(64 << 10);
    let origin = Origin::throttled(&object, &throttle);
    let sandbox = Sandbox::new();
    let mut holder = the_one_of(2 + random.below(7), &sandbox, &origin, random);
    if number.is_multiple_of(3) {
        for _ in 0..=random.below(2) {
            thread::sleep(Duration::from_millis(random.below(300)));
            holder.signal(Signal::KILL);
            assert_eq!(holder.finish().code, 137);
            assert!(!sandbox.path("file").exists(), "published although it was killed");
            holder = the_one_of(2 + random.below(4), &sandbox, &origin, random);
        }
    }
    throttle.lift();
    let outcome = holder.finish();
    outcome.expect(0);
    sandbox.assert_published("file", &object);
}

#[test]
fn fault_067_of_many_hauls_one_proceeds_and_is_named() {
    let random = Random::new();
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let random = &random;
            scope.spawn(move || {
                for number in (worker..ROUNDS).step_by(WORKERS as usize) {
                    round(number, &mut random.part(number));
                }
            });
        }
    });
}
