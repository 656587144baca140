//! Films of many pieces: the right file, or none and a word about what is missing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use haul_tests::prelude::*;

pub(crate) const PIECES: usize = 30;
const PACKET_BYTES: usize = 188;

/// A piece of MPEG-TS: packets that tell which piece they are of. Every piece has another length.
pub(crate) fn piece(number: usize) -> Vec<u8> {
    let packets = 50 + number * 7 % 31;
    (0..packets)
        .flat_map(|packet| {
            let mut bytes = [0; PACKET_BYTES];
            bytes[0] = 0x47;
            bytes[1..9].copy_from_slice(&(number as u64).to_be_bytes());
            bytes[9..17].copy_from_slice(&(packet as u64).to_be_bytes());
            bytes
        })
        .collect()
}

pub(crate) fn film() -> Vec<u8> {
    (0..PIECES).flat_map(piece).collect()
}

pub(crate) fn playlist(link: impl Fn(usize) -> String) -> String {
    let head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:VOD\n".to_owned();
    let pieces = (0..PIECES).map(|number| format!("#EXTINF:2.0,\n{}\n", link(number)));
    head + &pieces.collect::<String>() + "#EXT-X-ENDLIST\n"
}

fn answer(bytes: Vec<u8>, content_type: &str) -> Response {
    Response::new(200)
        .header("Content-Type", content_type)
        .header("Content-Length", &bytes.len().to_string())
        .bytes(bytes)
}

/// The whole of these bytes, or the range of them that is asked for.
pub(crate) fn ranged(bytes: &[u8], request: &Request) -> Response {
    let size = bytes.len() as u64;
    match request.range().and_then(|asked| asked.within(size)) {
        None => answer(bytes.to_vec(), "video/mp2t"),
        Some(range) => {
            let part = bytes[range.start as usize..range.end as usize].to_vec();
            answer(part, "video/mp2t").status(206).content_range(&range, &size.to_string())
        }
    }
}

pub(crate) fn number_of(request: &Request) -> Option<usize> {
    request.path().strip_prefix("/big/s")?.strip_suffix(".ts")?.parse().ok()
}

/// The film, with pieces as `script` would have them.
fn serving(script: impl Fn(usize, &Request) -> Option<Response> + Send + Sync + 'static) -> Origin {
    Origin::start(move |request, _| match number_of(request) {
        Some(number) => script(number, request).unwrap_or_else(|| ranged(&piece(number), request)),
        None => answer(
            playlist(|number| format!("s{number}.ts")).into_bytes(),
            "application/vnd.apple.mpegurl",
        ),
    })
}

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
fn films_of_many_pieces_are_not_served_to_players() {
    let (sandbox, origin) = (Sandbox::new(), serving(|_, _| None));
    let outcome = haul!(sandbox, bare).arg("play").arg(origin.url("/big/index.m3u8")).run();
    outcome.expect(2).expect_message("many pieces");
    assert_eq!(origin.requests().len(), 0);
    sandbox.assert_nothing_left();
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
