//! Files that exist already: refused, replaced, skipped, or left beside a numbered one.

use std::fs;

use haul_tests::prelude::*;

const SIZE: u64 = 5 * MIB + 7;

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).arg(origin.url("/film.mp4"))
}

#[test]
fn of_flags_for_existing_files_only_one_can_be_given() {
    let sandbox = Sandbox::new();
    let flags = ["--overwrite", "--no-clobber", "--skip-existing", "--auto-rename"];
    for (at, first) in flags.iter().enumerate() {
        for second in &flags[at + 1..] {
            for pair in [[first, second], [second, first]] {
                let outcome = haul!(sandbox, bare).args(pair).arg("http://127.0.0.1:9/").run();
                outcome.expect(2);
                let text = outcome.text();
                assert!(text.contains(first) && text.contains(second), "{outcome}");
            }
        }
    }
}

#[test]
fn skipped_files_count_as_done_and_are_left_alone() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    sandbox.write("film.mp4", "older");
    let named = command(&sandbox, &origin).args(["-o", "film.mp4", "--skip-existing"]).run();
    named.expect(0).expect_notice("skipped");
    assert!(origin.requests().is_empty(), "a name that is known needs no request");
    let unnamed = command(&sandbox, &origin).arg("--skip-existing").run();
    unnamed.expect(0).expect_notice("skipped");
    assert_eq!(fs::read(sandbox.path("film.mp4")).unwrap(), b"older");
    assert_eq!(sandbox.files(), ["film.mp4"]);
    fs::remove_file(sandbox.path("film.mp4")).unwrap();
    command(&sandbox, &origin).arg("--skip-existing").run().expect(0);
    sandbox.assert_published("film.mp4", &object(SIZE));
}

#[test]
fn of_a_list_what_exists_is_skipped_and_the_rest_fetched() {
    let sandbox = Sandbox::new();
    let origin = Origin::start(|request, _| match request.path() {
        "/a" | "/b" => standard(&object(SIZE), request),
        _ => Response::empty(404),
    });
    sandbox.write("a", "older");
    let list = sandbox.write("list", format!("{}\n{}\n", origin.url("/a"), origin.url("/b")));
    let outcome = haul!(sandbox).arg("-i").arg(list).arg("--skip-existing").run();
    outcome.expect(0);
    assert_eq!(sandbox.files(), ["a", "b", "list"]);
    object(SIZE).compare_file(&sandbox.path("b")).unwrap();
    assert_eq!(fs::read(sandbox.path("a")).unwrap(), b"older");
}

#[test]
fn a_numbered_name_is_chosen_beside_what_exists() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    for expected in ["film.mp4", "film (1).mp4", "film (2).mp4"] {
        let outcome = command(&sandbox, &origin).arg("--auto-rename").run();
        outcome.expect(0);
        let output = outcome.event("complete")["output"].as_str().unwrap();
        assert!(output.ends_with(expected), "{output}");
        object(SIZE).compare_file(&sandbox.path(expected)).unwrap();
    }
    let dry = command(&sandbox, &origin).args(["--auto-rename", "--dry-run"]).run();
    dry.expect(0);
    assert!(dry.text().contains("film (3).mp4"), "{dry}");
    assert_eq!(sandbox.files(), ["film (1).mp4", "film (2).mp4", "film.mp4"]);
}

#[test]
fn an_interrupted_download_continues_under_its_number() {
    let throttle = Throttle::new(2 * MIB).crawling_after(2 * MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    sandbox.write("film.mp4", "older");
    let haul = || command(&sandbox, &origin).args(["-o", "film.mp4", "--auto-rename"]);
    interrupt(haul(), MIB);
    assert_eq!(sandbox.files(), ["film (1).mp4.haul", "film (1).mp4.part", "film.mp4"]);
    throttle.lift();
    let outcome = haul().run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() > 0, "{outcome}");
    object(SIZE).compare_file(&sandbox.path("film (1).mp4")).unwrap();
    assert_eq!(sandbox.files(), ["film (1).mp4", "film.mp4"]);
    assert_eq!(fs::read(sandbox.path("film.mp4")).unwrap(), b"older");
}

#[test]
fn two_runs_at_once_and_a_file_that_appears_have_names_of_their_own() {
    let throttle = Throttle::new(MIB).crawling_after(MIB);
    let origin = Origin::throttled(&object(SIZE), &throttle);
    let sandbox = Sandbox::new();
    let mut first = command(&sandbox, &origin).arg("--auto-rename").start();
    first.wait_until("it has begun", |running| running.bytes() > 0);
    let mut second = command(&sandbox, &origin).arg("--auto-rename").start();
    second.wait_until("it has begun", |running| running.bytes() > 0);
    assert!(sandbox.part("film.mp4").exists() && sandbox.part("film (1).mp4").exists());
    sandbox.write("film.mp4", "somebody else's");
    throttle.lift();
    second.finish().expect(0);
    let outcome = first.finish();
    outcome.expect(0);
    let output = outcome.event("complete")["output"].as_str().unwrap();
    assert!(output.ends_with("film (2).mp4"), "{output}");
    assert_eq!(sandbox.files(), ["film (1).mp4", "film (2).mp4", "film.mp4"]);
    assert_eq!(fs::read(sandbox.path("film.mp4")).unwrap(), b"somebody else's");
    for name in ["film (1).mp4", "film (2).mp4"] {
        object(SIZE).compare_file(&sandbox.path(name)).unwrap();
    }
}

/// The one that comes second makes no file, not even a partial that nothing can continue.
#[test]
fn of_two_downloads_of_one_run_with_one_name_one_is_refused_before_it_stores() {
    let sizes = [(SIZE, SIZE - 1), (200_000, 100_000), (SIZE, 100_000), (100_000, SIZE)];
    for (first, second) in sizes {
        let objects = [Object::new(1, first), Object::new(2, second)];
        let gate = Gate::new();
        let (served, stalled) = (objects.clone(), gate.clone());
        let origin = Origin::start(move |request, _| {
            let number = usize::from(request.path() == "/b");
            standard(&served[number], request)
                .header("Content-Disposition", "attachment; filename=film.mp4")
                .stall(1000, &stalled)
        });
        let sandbox = Sandbox::new();
        let running = haul!(sandbox).args([origin.url("/a"), origin.url("/b")]).start();
        let answered = |path| {
            move |origin: &Origin| {
                origin
                    .requests()
                    .iter()
                    .any(|it| it.request.path() == path && it.status().is_some())
            }
        };
        origin.wait_until("the first is answered", answered("/a"));
        origin.wait_until("the second is answered", answered("/b"));
        gate.open();
        let outcome = running.finish();
        outcome.expect(3).expect_message("film.mp4");
        assert_eq!(sandbox.files(), ["film.mp4"], "{first} and {second}\n{outcome}");
        let path = sandbox.path("film.mp4");
        assert!(objects.iter().any(|it| it.compare_file(&path).is_ok()), "{outcome}");
    }
}

#[test]
fn a_name_without_an_extension_gets_that_of_its_type_and_continues() {
    let film = object(SIZE).with_content_type("video/mp4");
    let throttle = Throttle::new(2 * MIB).crawling_after(2 * MIB);
    let origin = Origin::throttled(&film, &throttle);
    let sandbox = Sandbox::new();
    interrupt(haul!(sandbox).arg(origin.url("/watch")), MIB);
    sandbox.assert_kept("watch.mp4");
    throttle.lift();
    let outcome = haul!(sandbox).arg(origin.url("/watch")).run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() > 0, "{outcome}");
    sandbox.assert_published("watch.mp4", &film);
}

#[test]
fn a_page_in_the_place_of_an_object_without_an_extension_is_not_published() {
    let film = object(SIZE).with_content_type("video/mp4");
    let throttle = Throttle::new(2 * MIB).crawling_after(2 * MIB);
    let (slow, logged_out) = (throttle.clone(), Gate::new());
    let out = logged_out.clone();
    let origin = Origin::start(move |request, _| match out.is_open() {
        false => slow.apply(standard(&film, request)),
        true => Response::text(200, "text/html", "log in"),
    });
    let sandbox = Sandbox::new();
    interrupt(haul!(sandbox).arg(origin.url("/watch")), MIB);
    logged_out.open();
    haul!(sandbox).args(["--retry", "1"]).arg(origin.url("/watch")).run().expect_one_of(&[6, 7]);
    assert_eq!(sandbox.files(), ["watch.mp4.haul", "watch.mp4.part"]);
}

#[test]
fn a_directory_given_as_the_file_is_told_apart() {
    let (origin, sandbox) = (Origin::serving(&object(SIZE)), Sandbox::new());
    fs::create_dir(sandbox.path("films")).unwrap();
    let outcome = command(&sandbox, &origin).args(["-o", "films"]).run();
    outcome.expect(3).expect_message("films is a directory");
    assert!(outcome.text().contains("--dir"), "{outcome}");
    assert!(origin.requests().is_empty());
}
