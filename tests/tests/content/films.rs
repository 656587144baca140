//! Films of many pieces: the right file, or none and a word about what is missing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use haul_tests::film::{
    PACKET_BYTES, PIECES, answer, film, number_of, piece, playlist, ranged, serving,
};
use haul_tests::prelude::*;

fn command(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).json().args(["--retry", "1"]).arg(origin.url("/big/index.m3u8"))
}

#[track_caller]
fn assert_film(sandbox: &Sandbox, name: &str) {
    let found = std::fs::read(sandbox.path(name)).unwrap();
    assert!(found == film(), "{} bytes of {}", found.len(), film().len());
    assert_eq!(sandbox.files(), [name]);
}

#[test]
fn the_pieces_become_one_file_whichever_comes_first() {
    let (sandbox, origin) = (
        Sandbox::new(),
        serving(|number, request| {
            // The first ones are the last to come.
            let wait = Duration::from_millis(if number % 5 == 0 { 300 } else { 0 });
            Some(ranged(&piece(number), request).delay(wait))
        }),
    );
    let outcome = command(&sandbox, &origin).run();
    outcome.expect(0);
    assert_film(&sandbox, "big.ts");
    assert_eq!(outcome.event("complete")["bytes"], film().len());
    assert_eq!(origin.requests().len(), PIECES + 1);
}

#[test]
fn a_hole_is_no_success_and_is_filled_by_the_next_run() {
    let healed = Arc::new(Mutex::new(false));
    let is_healed = Arc::clone(&healed);
    type Fault = fn(usize) -> Response;
    let broken: [(usize, Fault, &str); 5] = [
        (3, |_| Response::empty(404), "404"),
        (7, |_| answer(b"<html>Please log in</html>".to_vec(), "text/html"), "login page"),
        (11, |number| answer(piece(number)[..PACKET_BYTES * 20 + 5].to_vec(), "video/mp2t"), "cut"),
        (12, |_| answer(Vec::new(), "video/mp2t"), "empty"),
        (29, |_| answer(b"WEBVTT\n\n".to_vec(), "video/mp2t"), "WebVTT"),
    ];
    let origin = serving(move |number, _| {
        let fault = broken.iter().find(|(at, ..)| *at == number);
        fault.filter(|_| !*is_healed.lock().unwrap()).map(|(_, fault, _)| fault(number))
    });
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &origin).run();
    outcome.expect(7);
    let message = outcome.event("error")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("5 of 30 pieces"), "{message}");
    for (number, _, why) in broken {
        let named = format!("piece {} of the video", number + 1);
        assert!(message.contains(&named) && message.contains(why), "{named}, {why}: {message}");
    }
    assert!(!sandbox.path("big.ts").exists());
    *healed.lock().unwrap() = true;
    let asked = origin.requests().len();
    command(&sandbox, &origin).run().expect(0);
    assert_film(&sandbox, "big.ts");
    // One is fetched again, to show that it is still the same film.
    assert_eq!(origin.requests().len() - asked, 5 + 2, "what is here is not fetched again");
}

#[test]
fn holes_are_written_where_that_is_asked_for_and_told() {
    let origin = serving(|number, _| (number == 3).then(|| Response::empty(404)));
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &origin).arg("--allow-holes").run();
    outcome.expect(0).expect_notice("hole");
    let without: Vec<u8> = (0..PIECES).filter(|it| *it != 3).flat_map(piece).collect();
    assert!(std::fs::read(sandbox.path("big.ts")).unwrap() == without);
}

#[test]
fn a_killed_film_goes_on_with_what_it_has() {
    let origin = serving(|number, request| {
        let slow = Duration::from_millis(if number < 20 { 0 } else { 1500 });
        Some(ranged(&piece(number), request).delay(slow))
    });
    let sandbox = Sandbox::new();
    let mut running = command(&sandbox, &origin).start();
    running.wait_until("the first twenty pieces are here", |_| {
        let log = std::fs::read_to_string(sandbox.path("big.ts.film")).unwrap_or_default();
        log.matches("\"stored\"").count() >= 20
    });
    running.signal(Signal::KILL);
    running.finish();
    assert!(!sandbox.path("big.ts").exists());
    let asked = origin.requests().len();
    let outcome = command(&sandbox, &origin).run();
    outcome.expect(0);
    assert_film(&sandbox, "big.ts");
    let again = origin.requests().len() - asked;
    assert!(again <= PIECES - 20 + 2, "{again} requests");
    let first: usize = (0..20).map(|it| piece(it).len()).sum();
    assert_eq!(outcome.event("complete")["bytes"], film().len());
    assert!(
        outcome.event("complete")["fetched_bytes"].as_u64().unwrap() as usize
            <= film().len() - first
    );
}

/// What a kill while the film is published leaves is made by hand, since no kill could hit it: the
/// film could not get its name, and then its name came, as it would have.
#[test]
fn a_film_that_was_killed_while_it_was_published_is_complete() {
    let steps: [fn(&Sandbox); 3] = [
        |_| {},
        |sandbox| {
            std::fs::hard_link(sandbox.path("big.ts.part"), sandbox.path("big.ts")).unwrap();
        },
        |sandbox| std::fs::rename(sandbox.path("big.ts.part"), sandbox.path("big.ts")).unwrap(),
    ];
    for step in steps {
        let sandbox = Sandbox::new();
        let in_the_way = sandbox.path("big.ts");
        let origin = serving(move |number, _| {
            if number == 29 {
                std::fs::write(&in_the_way, "my own").unwrap();
            }
            None
        });
        command(&sandbox, &origin).run().expect(3);
        assert_eq!(sandbox.files(), ["big.ts", "big.ts.film", "big.ts.part"]);
        std::fs::remove_file(sandbox.path("big.ts")).unwrap();
        step(&sandbox);
        let asked = origin.requests().len();
        let outcome = command(&sandbox, &origin).run();
        outcome.expect(0);
        assert_film(&sandbox, "big.ts");
        assert_eq!(outcome.event("complete")["bytes"], film().len());
        assert_eq!(outcome.event("complete")["fetched_bytes"], 0);
        assert_eq!(origin.requests().len() - asked, 1, "the playlist alone is fetched");
    }
}

#[test]
fn a_film_that_has_changed_is_not_joined_with_what_it_was() {
    let state = Arc::new(Mutex::new((0, true)));
    let now = Arc::clone(&state);
    let origin = serving(move |number, request| {
        let (version, is_broken) = *now.lock().unwrap();
        if number == 29 && is_broken {
            return Some(Response::empty(404));
        }
        let mut bytes = piece(number);
        bytes[100] = version;
        Some(ranged(&bytes, request))
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).run().expect(7);
    let kept = std::fs::read(sandbox.path("big.ts.part")).unwrap();
    *state.lock().unwrap() = (1, false);
    command(&sandbox, &origin).run().expect(3).expect_message("changed");
    assert!(std::fs::read(sandbox.path("big.ts.part")).unwrap() == kept);
    *state.lock().unwrap() = (0, false);
    command(&sandbox, &origin).run().expect(0);
    assert_film(&sandbox, "big.ts");
}

#[test]
fn a_damaged_part_is_fetched_again() {
    let broken = Arc::new(Mutex::new(true));
    let is_broken = Arc::clone(&broken);
    let origin = serving(move |number, _| {
        (number == 29 && *is_broken.lock().unwrap()).then(|| Response::empty(404))
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).run().expect(7);
    let part = sandbox.path("big.ts.part");
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[piece(0).len() + 20] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    *broken.lock().unwrap() = false;
    command(&sandbox, &origin).run().expect(0);
    assert_film(&sandbox, "big.ts");
}

#[test]
fn links_that_expire_are_had_again_from_the_playlist() {
    // A token is good for ten pieces.
    let tokens = Arc::new(Mutex::new((0_usize, 0_usize)));
    let origin = Origin::start(move |request, _| {
        let mut tokens = tokens.lock().unwrap();
        let Some(number) = number_of(request) else {
            *tokens = (tokens.0 + 1, 0);
            let token = tokens.0;
            let text = playlist(|number| format!("s{number}.ts?token={token}"));
            return answer(text.into_bytes(), "application/vnd.apple.mpegurl");
        };
        tokens.1 += 1;
        let is_good = request.target.ends_with(&format!("token={}", tokens.0)) && tokens.1 <= 10;
        if is_good { ranged(&piece(number), request) } else { Response::empty(403) }
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).run().expect(0);
    assert_film(&sandbox, "big.ts");
    let manifests =
        origin.requests().iter().filter(|it| it.request.path().ends_with("m3u8")).count();
    assert!((3..=8).contains(&manifests), "{manifests} playlists");
}

#[test]
fn the_playlists_token_goes_to_pieces_of_its_origin_alone() {
    let elsewhere = Origin::start(|request, _| ranged(&piece(PIECES - 1), request));
    let last = elsewhere.url("/last.ts");
    let origin = Origin::start(move |request, _| {
        if !request.target.contains("token=s3cr3t") {
            return Response::empty(403);
        }
        match number_of(request) {
            Some(number) => ranged(&piece(number), request),
            None => {
                let link = |number| match number == PIECES - 1 {
                    true => last.clone(),
                    false => format!("s{number}.ts"),
                };
                answer(playlist(link).into_bytes(), "application/vnd.apple.mpegurl")
            }
        }
    });
    let sandbox = Sandbox::new();
    let url = origin.url("/big/index.m3u8?token=s3cr3t");
    let outcome = haul!(sandbox).json().args(["--retry", "1"]).arg(url).run();
    outcome.expect(0).assert_free_of("s3cr3t");
    assert_film(&sandbox, "big.ts");
    for record in elsewhere.requests() {
        assert!(!record.request.target.contains("s3cr3t"), "{}", record.request.target);
    }
}

#[test]
fn adjacent_ranges_of_one_file_are_one_download() {
    let origin = Origin::start(|request, _| {
        if request.path().ends_with(".ts") {
            return ranged(&film(), request);
        }
        let range = |number| {
            let from = if number == 0 { "@0" } else { "" };
            format!("#EXT-X-BYTERANGE:{}{from}\nall.ts", piece(number).len())
        };
        let text = playlist(range);
        answer(text.into_bytes(), "application/vnd.apple.mpegurl")
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).run().expect(0);
    assert_film(&sandbox, "big.ts");
    assert!(origin.requests().len() < 10, "{} requests", origin.requests().len());
}

#[test]
fn a_live_film_is_followed_to_its_end() {
    let fetched = AtomicUsize::new(0);
    let origin = Origin::start(move |request, _| {
        if let Some(number) = number_of(request) {
            return ranged(&piece(number), request);
        }
        let count = fetched.fetch_add(1, Ordering::SeqCst);
        // An outage, and then a window that has moved on.
        if count == 2 {
            return Response::empty(503);
        }
        let (first, end) = ((count * 4).min(PIECES - 8), (count * 4 + 8).min(PIECES));
        let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
        for number in first..end {
            text.push_str(&format!("#EXTINF:1,\ns{number}.ts\n"));
        }
        if end == PIECES {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        answer(text.into_bytes(), "application/vnd.apple.mpegurl")
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).run().expect(0);
    assert_film(&sandbox, "big.ts");
}

/// The playlist of a live film that has pieces `first..end` now.
fn live(first: usize, end: usize) -> Response {
    let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n");
    for number in first..end {
        text.push_str(&format!("#EXTINF:1,\ns{number}.ts\n"));
    }
    if end == PIECES {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    answer(text.into_bytes(), "application/vnd.apple.mpegurl")
}

/// A live film whose playlist is as `window` has it.
fn live_origin(window: &Arc<Mutex<(usize, usize)>>) -> Origin {
    let window = Arc::clone(window);
    Origin::start(move |request, _| match number_of(request) {
        Some(number) => ranged(&piece(number), request),
        None => {
            let (first, end) = *window.lock().unwrap();
            live(first, end)
        }
    })
}

fn stored(sandbox: &Sandbox) -> usize {
    let log = std::fs::read_to_string(sandbox.path("big.ts.film")).unwrap_or_default();
    log.matches("\"stored\"").count()
}

/// Kills a download once so many pieces are stored.
fn kill_with(sandbox: &Sandbox, origin: &Origin, pieces: usize) {
    let mut running = command(sandbox, origin).start();
    running.wait_until("the pieces are here", |_| stored(sandbox) == pieces);
    running.signal(Signal::KILL);
    running.finish();
}

#[test]
fn a_live_film_goes_on_although_its_playlist_has_dropped_what_is_recorded() {
    let window = Arc::new(Mutex::new((0, 8)));
    let origin = live_origin(&window);
    let sandbox = Sandbox::new();
    kill_with(&sandbox, &origin, 8);
    // What was seen last is the first that there is now; and the second time, just gone.
    for (first, end) in [(7, 15), (15, PIECES)] {
        *window.lock().unwrap() = (first, end);
        if end == PIECES {
            command(&sandbox, &origin).run().expect(0);
        } else {
            kill_with(&sandbox, &origin, end);
        }
    }
    assert_film(&sandbox, "big.ts");
    let asked = |number: usize| {
        let path = format!("/big/s{number}.ts");
        origin.requests().iter().filter(|it| it.request.path() == path).count()
    };
    assert!((0..7).all(|number| asked(number) == 1), "what is recorded is not fetched again");
}

#[test]
fn what_a_live_film_lost_while_nobody_recorded_is_a_hole() {
    let window = Arc::new(Mutex::new((0, 8)));
    let origin = live_origin(&window);
    let sandbox = Sandbox::new();
    kill_with(&sandbox, &origin, 8);
    *window.lock().unwrap() = (20, PIECES);
    let outcome = command(&sandbox, &origin).run();
    outcome.expect(7).expect_message("12 pieces were gone");
    assert!(outcome.event("error")["message"].as_str().unwrap().contains("piece 9 of the video"));
    assert!(!sandbox.path("big.ts").exists());
    // It is still one where the film goes on after that.
    command(&sandbox, &origin).run().expect(7).expect_message("12 pieces were gone");
    // Without ffmpeg, which these pieces mean nothing to.
    let nothing = sandbox.path("nothing");
    let outcome = command(&sandbox, &origin).arg("--allow-holes").env("PATH", &nothing).run();
    outcome.expect(0).expect_notice("hole");
    let kept: Vec<u8> = (0..8).chain(20..PIECES).flat_map(piece).collect();
    assert!(std::fs::read(sandbox.path("big.ts")).unwrap() == kept);
    assert_eq!(sandbox.files(), ["big.ts"]);
}

#[test]
fn a_live_film_begins_where_its_playlist_does_or_where_players_do() {
    for (flag, first) in
        [(None, 10), (Some("--live-from-start"), 10), (Some("--live-from-now"), 15)]
    {
        let window = Arc::new(Mutex::new((10, 18)));
        let origin = live_origin(&window);
        let sandbox = Sandbox::new();
        let mut running = command(&sandbox, &origin).args(flag).start();
        running.wait_until("what there is has come", |_| stored(&sandbox) == 18 - first);
        *window.lock().unwrap() = (12, PIECES);
        running.finish().expect(0);
        let kept: Vec<u8> = (first..PIECES).flat_map(piece).collect();
        assert!(std::fs::read(sandbox.path("big.ts")).unwrap() == kept, "{flag:?}");
    }
}

#[test]
fn a_slow_live_playlist_does_not_hold_up_the_pieces() {
    let polls = AtomicUsize::new(0);
    let origin = Origin::start(move |request, _| match number_of(request) {
        // All of them take longer than the first playlist lasts.
        Some(number) => ranged(&piece(number), request).delay(Duration::from_millis(800)),
        None => match polls.fetch_add(1, Ordering::SeqCst) {
            0 => live(0, 8),
            _ => live(0, PIECES).delay(Duration::from_secs(4)),
        },
    });
    let sandbox = Sandbox::new();
    let started = std::time::Instant::now();
    let mut running = command(&sandbox, &origin).start();
    running.wait_until("eight pieces are here", |_| stored(&sandbox) == 8);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    running.finish().expect(0);
    assert_film(&sandbox, "big.ts");
}

#[test]
fn links_of_an_object_that_expire_are_had_again_from_the_playlist() {
    // What is adjacent is one object, beyond some size. The first token is good for a part of it.
    const LEN: usize = 3 << 20;
    let bytes = |number: usize| -> Vec<u8> {
        piece(number).into_iter().cycle().take(LEN / PACKET_BYTES * PACKET_BYTES).collect()
    };
    let whole: Arc<Vec<u8>> = Arc::new((0..8).flat_map(bytes).collect());
    let tokens = Arc::new(Mutex::new((0_usize, 0_usize)));
    let served = Arc::clone(&whole);
    let origin = Origin::start(move |request, _| {
        let mut tokens = tokens.lock().unwrap();
        if request.path().ends_with(".ts") {
            tokens.1 += 1;
            let whole = ranged(&served, request).header("ETag", "\"one\"");
            let is_newest = request.target.ends_with(&format!("token={}", tokens.0));
            return match *tokens {
                (1, 1) => whole.cut(5 << 20, End::Close),
                (2.., _) if is_newest => whole,
                _ => Response::empty(403),
            };
        }
        *tokens = (tokens.0 + 1, 0);
        let each = LEN / PACKET_BYTES * PACKET_BYTES;
        let text = playlist(|number| match number < 8 {
            true => format!("#EXT-X-BYTERANGE:{each}@{}\nall.ts?token={}", number * each, tokens.0),
            false => String::new(),
        });
        let end = text.match_indices("#EXTINF").nth(8).unwrap().0;
        let text = text[..end].to_owned() + "#EXT-X-ENDLIST\n";
        answer(text.into_bytes(), "application/vnd.apple.mpegurl")
    });
    let sandbox = Sandbox::new();
    let outcome = command(&sandbox, &origin).run();
    outcome.expect(0);
    assert!(std::fs::read(sandbox.path("big.ts")).unwrap() == *whole);
    assert_eq!(sandbox.files(), ["big.ts"]);
    let asked = origin.requests();
    let playlists = asked.iter().filter(|it| it.request.path().ends_with("m3u8"));
    assert_eq!(playlists.count(), 2, "once for all connections");
}

#[test]
fn a_piece_that_is_cut_for_ever_is_a_hole_and_not_waited_for() {
    // Each answer brings half of what is missing.
    let origin = serving(|number, request| {
        let size = piece(number).len() as u64;
        let asked = request.range().and_then(|asked| asked.within(size)).unwrap_or(0..size);
        let whole = ranged(&piece(number), request);
        let half = (asked.end - asked.start) / 2;
        Some(if number == 20 { whole.cut(half, End::Close) } else { whole })
    });
    let sandbox = Sandbox::new();
    let started = std::time::Instant::now();
    let outcome = command(&sandbox, &origin).args(["--retry-max-time", "2s"]).run();
    outcome.expect(7).expect_message("piece 21 of the video");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[test]
fn an_interrupted_film_is_listed_and_removed() {
    let origin = serving(|number, _| (number == 29).then(|| Response::empty(404)));
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).run().expect(7);
    sandbox.write("other.film", "my own notes\n");
    let listed = haul!(sandbox, bare).args(["status", "--json"]).run();
    listed.expect(0);
    let partial: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let stored: usize = (0..29).map(|number| piece(number).len()).sum();
    assert_eq!((&partial["output"], &partial["stored_bytes"]), (&"big.ts".into(), &stored.into()));
    assert_eq!((&partial["running"], &partial["total"]), (&false.into(), &serde_json::Value::Null));
    assert!(partial["disk_bytes"].as_u64().unwrap() as usize >= stored);
    let told = haul!(sandbox, bare).args(["status", "big.ts"]).run();
    told.expect(0);
    assert!(
        told.text().contains("big.ts: ") && told.text().contains("of a film"),
        "{}",
        told.text()
    );
    let cleaned = haul!(sandbox, bare).args(["clean", "--older-than", "0s"]).run();
    cleaned.expect(0);
    assert!(cleaned.text().contains("removed big.ts: "), "{}", cleaned.text());
    assert_eq!(sandbox.files(), ["other.film"]);
}

#[test]
fn a_film_that_is_being_downloaded_is_not_removed() {
    let gate = Gate::new();
    let waits = gate.clone();
    let origin = serving(move |number, request| {
        let whole = ranged(&piece(number), request);
        Some(if number == 29 { whole.stall(10, &waits) } else { whole })
    });
    let sandbox = Sandbox::new();
    let mut running = command(&sandbox, &origin).start();
    running.wait_until("some pieces are here", |_| stored(&sandbox) > 5);
    let told = haul!(sandbox, bare).args(["status"]).run();
    assert!(told.text().contains("running now"), "{}", told.text());
    haul!(sandbox, bare).args(["clean", "--older-than", "0s"]).run().expect(0);
    gate.open();
    running.finish().expect(0);
    assert_film(&sandbox, "big.ts");
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_a_film_before_it_is_there() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let healed = Arc::new(Mutex::new(false));
    let is_healed = Arc::clone(&healed);
    let origin = serving(move |number, _| {
        (number == 29 && !*is_healed.lock().unwrap()).then(|| Response::empty(404))
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).run().expect(7);
    for name in ["big.ts.part", "big.ts.film"] {
        assert_eq!(mode(&sandbox.path(name)), 0o600, "{name}");
    }
    *healed.lock().unwrap() = true;
    command(&sandbox, &origin).run().expect(0);
    sandbox.write("new", "");
    assert_eq!(mode(&sandbox.path("big.ts")), mode(&sandbox.path("new")), "as the umask gives");
    let secret = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(sandbox.path("big.ts"), secret).unwrap();
    command(&sandbox, &origin).arg("--overwrite").run().expect(0);
    assert_eq!(mode(&sandbox.path("big.ts")), 0o640, "as the file that it replaces");
}

#[test]
fn a_film_of_which_nothing_comes_is_not_tried_to_its_end() {
    let origin = serving(|_, _| Some(Response::empty(404)));
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).args(["-x", "2"]).run().expect(7);
    let asked = origin.requests();
    let is_last = |record: &Record| record.request.path() == "/big/s29.ts";
    assert!(!asked.iter().any(is_last), "{} requests", asked.len());
}

#[test]
fn protected_films_are_refused_by_name_before_anything_is_fetched() {
    for (key, system) in [
        (
            "METHOD=SAMPLE-AES,URI=\"skd://key\",KEYFORMAT=\"com.apple.streamingkeydelivery\"",
            "FairPlay",
        ),
        ("METHOD=SAMPLE-AES,URI=\"key\"", "SAMPLE-AES"),
    ] {
        let origin = Origin::start(move |_, _| {
            let text = playlist(|number| format!("s{number}.ts"));
            let text = text.replacen("#EXTINF", &format!("#EXT-X-KEY:{key}\n#EXTINF"), 1);
            answer(text.into_bytes(), "application/vnd.apple.mpegurl")
        });
        let sandbox = Sandbox::new();
        let outcome = command(&sandbox, &origin).run();
        outcome.expect(14).expect_message(system);
        assert_eq!(origin.requests().len(), 1);
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_playlist_that_makes_no_sense_is_told_by_its_line() {
    let origin = Origin::start(|_, _| {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:soon,\ns0.ts\n#EXT-X-ENDLIST\n";
        answer(text.as_bytes().to_vec(), "application/vnd.apple.mpegurl")
    });
    let sandbox = Sandbox::new();
    command(&sandbox, &origin).run().expect(7).expect_message("line 3");
    sandbox.assert_nothing_left();
    command(&sandbox, &origin).arg("--as-is").run().expect(0);
    assert_eq!(sandbox.files(), ["index.m3u8"]);
}

/// A film in two qualities, the pieces of which are the first and the second half, with subtitles.
fn master() -> Origin {
    Origin::start(|request, _| {
        let hls = |text: String| answer(text.into_bytes(), "application/vnd.apple.mpegurl");
        let of = |numbers: std::ops::Range<usize>| {
            let pieces = numbers.map(|number| format!("#EXTINF:2,\ns{number}.ts\n"));
            format!("#EXTM3U\n{}#EXT-X-ENDLIST\n", pieces.collect::<String>())
        };
        match request.path() {
            "/big/master.m3u8" => hls(
                "#EXTM3U\n\
                 #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"English\",LANGUAGE=\"en\",URI=\"subs.m3u8\"\n\
                 #EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=640x360,SUBTITLES=\"s\"\nlow.m3u8\n\
                 #EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=1280x720,SUBTITLES=\"s\"\nhigh.m3u8\n"
                    .to_owned(),
            ),
            "/big/low.m3u8" => hls(of(0..15)),
            "/big/high.m3u8" => hls(of(15..PIECES)),
            "/big/subs.m3u8" => hls("#EXTM3U\n#EXTINF:2,\na.vtt\n#EXTINF:2,\nb.vtt\n#EXT-X-ENDLIST\n".to_owned()),
            "/big/a.vtt" | "/big/b.vtt" => {
                let name = &request.path()[5..6];
                let text = format!("WEBVTT\n\n00:00.000 --> 00:02.000\n{name}\n");
                answer(text.into_bytes(), "text/vtt")
            }
            _ => ranged(&piece(number_of(request).unwrap()), request),
        }
    })
}

#[test]
fn the_quality_and_the_subtitles_are_those_that_are_asked_for() {
    let origin = master();
    let (low, high): (Vec<u8>, Vec<u8>) =
        ((0..15).flat_map(piece).collect(), (15..PIECES).flat_map(piece).collect());
    for (quality, wanted) in
        [(None, &high), (Some("best"), &high), (Some("360p"), &low), (Some("<=600p"), &low)]
    {
        let sandbox = Sandbox::new();
        let command = haul!(sandbox).args(["--subs", "en"]).arg(origin.url("/big/master.m3u8"));
        command.args(quality.iter().flat_map(|it| ["--quality", it])).run().expect(0);
        assert!(std::fs::read(sandbox.path("big.ts")).unwrap() == *wanted, "{quality:?}");
        let text = std::fs::read_to_string(sandbox.path("big.en.vtt")).unwrap();
        assert_eq!(text.matches("WEBVTT").count(), 1, "{text}");
        assert!(text.contains("\na\n") && text.contains("\nb\n"), "{text}");
        assert_eq!(sandbox.files(), ["big.en.vtt", "big.ts"]);
    }
}

#[test]
fn what_there_is_to_choose_from_is_listed_and_nothing_else_is_chosen() {
    let origin = master();
    let sandbox = Sandbox::new();
    let command = || haul!(sandbox).arg(origin.url("/big/master.m3u8"));
    let listed = command().arg("--list").run();
    listed.expect(0);
    let renditions = listed.event("renditions")["renditions"].as_array().unwrap();
    let heights: Vec<_> = renditions.iter().map(|it| it["height"].as_u64()).collect();
    assert_eq!(heights, [Some(720), Some(360), None]);
    assert_eq!(
        (&renditions[2]["kind"], &renditions[2]["language"]),
        (&"subtitles".into(), &"en".into())
    );
    for (flag, value) in [("--quality", "480p"), ("--audio", "fr"), ("--subs", "fr")] {
        let outcome = command().args([flag, value]).run();
        outcome.expect(2);
        let told = outcome.text();
        assert!(told.contains(value) && told.contains("--list"), "{told}");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn a_playlist_at_a_url_that_does_not_say_so_is_a_film_too() {
    let origin = Origin::start(|request, _| match number_of(request) {
        Some(number) => ranged(&piece(number), request),
        None => {
            let text = playlist(|number| format!("/big/s{number}.ts"));
            answer(text.into_bytes(), "application/vnd.apple.mpegurl")
        }
    });
    let sandbox = Sandbox::new();
    let url = origin.url("/watch/big");
    haul!(sandbox).json().arg(&url).run().expect(0);
    assert_film(&sandbox, "big.ts");
    haul!(sandbox).json().args(["--as-is", "-o", "list"]).arg(&url).run().expect(0);
    assert_eq!(sandbox.files(), ["big.ts", "list"]);
}

#[test]
fn what_is_there_already_is_not_replaced_unasked() {
    let (sandbox, origin) = (Sandbox::new(), serving(|_, _| None));
    sandbox.write("big.ts", "my own");
    command(&sandbox, &origin).run().expect(3);
    assert_eq!(std::fs::read(sandbox.path("big.ts")).unwrap(), b"my own");
    assert_eq!(sandbox.files(), ["big.ts"]);
    assert_eq!(origin.requests().len(), 1);
    command(&sandbox, &origin).arg("--overwrite").run().expect(0);
    assert_film(&sandbox, "big.ts");
}
