//! What a run says without a terminal. What a terminal shows is `tests/system/terminal`'s.

use haul_tests::prelude::*;

const SIZE: u64 = 4 * MIB;

fn plain(sandbox: &Sandbox) -> Haul {
    haul!(sandbox, bare).args(["--retry", "1", "-x", "2"])
}

fn stderr(outcome: &Outcome) -> Vec<String> {
    String::from_utf8(outcome.stderr.clone()).unwrap().lines().map(str::to_owned).collect()
}

/// Two that come, and two that are not there.
fn half_of_them() -> Origin {
    Origin::start(|request, _| match request.path().contains("missing") {
        true => Response::empty(404),
        false => standard(&object(SIZE), request),
    })
}

#[test]
fn several_downloads_end_with_a_count_and_the_cause_of_each_failure() {
    let origin = half_of_them();
    let urls = ["/a", "/missing?key=hunter2", "/b", "/missing2"].map(|path| origin.url(path));
    let sandbox = Sandbox::new();
    let outcome = plain(&sandbox).args(&urls).run();
    outcome.expect(8);
    outcome.assert_free_of("hunter2");
    let lines = stderr(&outcome);
    let at = lines.iter().position(|line| line == "2 of 4 downloaded, 8 MiB, 2 failed:");
    let at = at.unwrap_or_else(|| panic!("no count\n{outcome}"));
    let failures = &lines[at + 1..];
    for path in ["/missing?", "/missing2"] {
        let told = failures.iter().any(|line| line.contains(path) && line.contains("404"));
        assert!(told, "{path} is not told\n{outcome}");
        assert_eq!(outcome.text().matches(path).count(), 1, "{path}\n{outcome}");
    }
    let hints = lines.iter().filter(|line| line.contains("hint: ")).count();
    assert_eq!((failures.len(), hints), (3, 1), "the hint of both is told once\n{outcome}");
    // Who hears nothing at the end hears of each as it comes.
    for (quiet, sandbox) in [("--quiet", Sandbox::new()), ("--json", Sandbox::new())] {
        let outcome = plain(&sandbox).arg(quiet).args(&urls).run();
        outcome.expect(8);
        let errors = stderr(&outcome).iter().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 2, "{outcome}");
    }
    // Nor is anything counted of a list with one line.
    let sandbox = Sandbox::new();
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), &urls[3]).unwrap();
    let outcome = plain(&sandbox).arg("-i").arg(list.path()).run();
    outcome.expect(8).expect_message("404");

    let sandbox = Sandbox::new();
    let outcome = plain(&sandbox).json().args(&urls).run();
    outcome.expect(8);
    let summary = outcome.event("summary");
    assert_eq!(outcome.events.last(), Some(summary), "{outcome}");
    assert_eq!(
        (&summary["downloaded"], &summary["failed"], &summary["skipped"], &summary["bytes"]),
        (&2.into(), &2.into(), &0.into(), &(8 * MIB).into())
    );
    assert!(summary["elapsed_s"].is_f64() && summary["id"] == 0, "{summary}");

    // One is told of by itself.
    let sandbox = Sandbox::new();
    let outcome = plain(&sandbox).json().arg(&urls[0]).run();
    outcome.expect(0);
    assert_eq!(outcome.all("summary").count(), 0, "{outcome}");
}

#[test]
fn several_downloads_have_a_total_among_the_plain_lines() {
    let origin = Origin::throttled(&object(SIZE), &Throttle::new(2 * MIB));
    let sandbox = Sandbox::new();
    let urls = ["/a", "/b", "/c"].map(|path| origin.url(path));
    let outcome = plain(&sandbox).args(["-j", "1"]).args(&urls).run();
    outcome.expect(0);
    let lines = stderr(&outcome);
    let totals: Vec<&String> = lines.iter().filter(|line| line.contains("/3 done, ")).collect();
    let is_second = |line: &&&String| line.starts_with("1/3 done, 1 running, 1 waiting: ");
    assert!(totals.iter().any(|line| is_second(&line)), "{outcome}");
    assert!(totals.len() <= 10, "at most one for each tenth\n{outcome}");
    assert!(lines.last().unwrap().starts_with("3 of 3 downloaded, 12 MiB in "), "{outcome}");

    let sandbox = Sandbox::new();
    let outcome = plain(&sandbox).arg(&urls[0]).run();
    outcome.expect(0);
    assert!(!outcome.text().contains(" done, "), "{outcome}");
    let sandbox = Sandbox::new();
    let outcome = plain(&sandbox).args(["-j", "1", "--progress=none"]).args(&urls[..2]).run();
    outcome.expect(0);
    assert!(!outcome.text().contains(" done, "), "{outcome}");
}

#[test]
fn a_list_counts_what_is_skipped() {
    let origin = half_of_them();
    let sandbox = Sandbox::new();
    sandbox.write("b", "mine");
    sandbox.write("list", format!("{}\n{}\n", origin.url("/a"), origin.url("/b")));
    let outcome = plain(&sandbox).json().args(["--skip-existing", "-i", "list"]).run();
    outcome.expect(0);
    let summary = outcome.event("summary");
    assert_eq!((&summary["downloaded"], &summary["skipped"]), (&1.into(), &1.into()), "{outcome}");
}

#[test]
fn silence_is_told_in_place_of_a_speed() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin =
        Origin::start(move |request, _| standard(&object(SIZE), request).stall(MIB, &held));
    let sandbox = Sandbox::new();
    let mut running = plain(&sandbox)
        .args(["-x", "1", "--stall-timeout", "60s"])
        .arg(origin.url("/film"))
        .start();
    // The next line of progress is due ten seconds after the last.
    running.wait_until("the silence is told", |running| {
        let told = running.stderr();
        let line = told.lines().find(|line| line.contains("no data for "));
        line.is_some_and(|line| line.ends_with(" s (gives up at 1m00s)") && !line.contains("/s,"))
    });
    gate.open();
    running.finish().expect(0);
    sandbox.assert_published("film", &object(SIZE));
}

#[test]
fn the_end_says_where_the_file_is_and_nothing_that_was_not() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let outcome = plain(&sandbox).args(["-d", "films"]).arg(origin.url("/film.bin")).run();
    outcome.expect(0);
    let lines = stderr(&outcome);
    assert!(lines[0] == "film.bin: 4 MiB", "{outcome}");
    let complete = lines.iter().find(|line| line.contains("complete")).expect("it is told");
    assert!(complete.starts_with("films/film.bin: complete, 4 MiB in "), "{outcome}");
    for noise in ["retries", "blake3", "segment", "connection", "\x1b", "\x07"] {
        assert!(!complete.contains(noise) && !lines[0].contains(noise), "{noise}\n{outcome}");
    }
    assert!(!outcome.text().contains(&object(SIZE).blake3_hex()), "{outcome}");

    let outcome = plain(&sandbox).args(["-v", "--notify"]).arg(origin.url("/other.bin")).run();
    outcome.expect(0);
    assert!(outcome.text().contains(&format!("blake3 {}", object(SIZE).blake3_hex())), "{outcome}");
    assert!(!outcome.text().contains('\x07'), "a log is not rung\n{outcome}");
}

#[test]
fn a_playlist_is_named_for_what_it_is() {
    let hls = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\na.ts\n#EXT-X-ENDLIST\n";
    let dash = "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"></MPD>\n";
    let songs = "#EXTM3U\n#EXTINF:123,A song\nsong.mp3\n";
    for (path, kind, text, named) in [
        ("/film.m3u8", "application/vnd.apple.mpegurl", hls, Some("an HLS playlist")),
        ("/film.mp4", "video/mp4", hls, Some("an HLS playlist")),
        ("/watch", "application/dash+xml", dash, Some("a DASH manifest")),
        ("/songs.m3u", "audio/mpegurl", songs, None),
    ] {
        let origin = Origin::start(move |_, _| Response::text(200, kind, text));
        let sandbox = Sandbox::new();
        let outcome = haul!(sandbox).arg("--as-is").arg(origin.url(path)).run();
        outcome.expect(0);
        assert_eq!(outcome.has_notice("playlist"), named.is_some(), "{path}\n{outcome}");
        if let Some(named) = named {
            for part in [named, "pieces of a film"] {
                assert!(outcome.text().contains(part), "{path}: {part}\n{outcome}");
            }
        }
    }
}

#[test]
fn a_misspelt_variable_is_named() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let outcome = plain(&sandbox).env("HAUL_CONECTIONS", "8").arg(origin.url("/film")).run();
    outcome.expect(0);
    assert!(outcome.text().contains("did you mean HAUL_CONNECTIONS?"), "{outcome}");
}

#[test]
fn clean_leaves_nothing_of_ours() {
    let throttled = || {
        Origin::throttled(
            &Object::new(1, 12 * MIB),
            &Throttle::new(4 * MIB).crawling_after(6 * MIB),
        )
    };
    let sandbox = Sandbox::new();
    // Data with its final name, and a checkpoint whose data somebody removed.
    let leave = |name: &str, flag: &[&str]| {
        let origin = throttled();
        let haul = haul!(sandbox).args(["-x", "2", "-o", name]).args(flag);
        interrupt(haul.arg(origin.url("/film")), 4 * MIB);
    };
    leave("placed", &["--no-part"]);
    leave("lone", &[]);
    std::fs::remove_file(sandbox.part("lone")).unwrap();
    leave("other", &["--no-part"]);
    // A file of this name that is not the one that was begun.
    std::fs::remove_file(sandbox.path("other")).unwrap();
    sandbox.write("other", "mine");
    sandbox.write("mine", "not haul's");
    let status = haul!(sandbox, bare).arg("status").run();
    let told = String::from_utf8(status.stdout.clone()).unwrap();
    assert!(told.contains("placed: ") && told.contains("lone: only its checkpoint"), "{status}");
    haul!(sandbox, bare).args(["clean", "--older-than", "0"]).run().expect(0);
    assert_eq!(sandbox.files(), ["mine", "other"]);
}
