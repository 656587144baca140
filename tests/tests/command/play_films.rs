//! `haul play` for films of many pieces: one stream of them, which fetches first what is read.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use haul_tests::film::{PIECES, answer, film, number_of, piece, playlist, ranged, serving};
use haul_tests::prelude::*;

use super::play::Playing;

fn play(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox, bare)
        .args(["play", "--retry", "1", "-o", "film.ts"])
        .arg(origin.url("/film/index.m3u8"))
}

/// Whether a request is for a piece itself, and not for its length.
fn is_whole(request: &Request) -> bool {
    request.range().and_then(|asked| asked.within(u64::MAX)).is_none_or(|it| it.end > 1)
}

#[test]
fn a_film_is_one_stream_with_ranges_while_its_pieces_are_fetched() {
    let gate = Arc::new(Mutex::new(true));
    let held = Arc::clone(&gate);
    // Only the first five come before the ranges have been read.
    let origin = serving(move |number, request| {
        let is_late = number >= 5 && *held.lock().unwrap() && is_whole(request);
        is_late.then(|| ranged(&piece(number), request).delay(Duration::from_secs(2)))
    });
    let sandbox = Sandbox::new();
    let playing = Playing::start(play(&sandbox, &origin));
    let size = film().len();
    let first = playing.range("bytes=100-20000");
    assert_eq!(first.status, 206, "{}", first.head);
    assert_eq!(first.field("content-range"), Some(format!("bytes 100-20000/{size}").as_str()));
    assert_eq!(first.field("content-type"), Some("video/mp2t"));
    assert!(first.body == film()[100..=20000]);
    *gate.lock().unwrap() = false;
    let last = playing.range("bytes=-1000");
    assert!(last.body == film()[size - 1000..], "{}", last.head);
    let whole = playing.ask("GET", &playing.path, &[]);
    assert_eq!(whole.status, 200);
    assert!(whole.body == film(), "{} bytes of {size}", whole.body.len());
    let head = playing.ask("HEAD", &playing.path, &[]);
    assert_eq!(head.field("content-length"), Some(size.to_string().as_str()));
    assert_eq!(playing.range(&format!("bytes={size}-")).status, 416);
    playing.running.finish().expect(0);
    assert!(std::fs::read(sandbox.path("film.ts")).unwrap() == film());
    assert_eq!(sandbox.files(), ["film.ts"]);
}

#[test]
fn the_piece_under_a_seek_is_fetched_before_those_that_come_first() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let origin = serving(move |number, request| {
        if !is_whole(request) {
            return None;
        }
        seen.lock().unwrap().push(number);
        Some(ranged(&piece(number), request).delay(Duration::from_millis(300)))
    });
    let sandbox = Sandbox::new();
    let playing = Playing::start(play(&sandbox, &origin).args(["-x", "2"]));
    let before: usize = (0..24).map(|number| piece(number).len()).sum();
    let answer = playing.range(&format!("bytes={before}-{}", before + 99));
    assert!(answer.body == piece(24)[..100], "{}", answer.head);
    let order = asked.lock().unwrap().clone();
    let place = order.iter().position(|number| *number == 24).expect("it was asked for");
    assert!(place < 12, "{order:?}");
    // What follows is needed next.
    let next = playing.range(&format!(
        "bytes={}-{}",
        before + piece(24).len(),
        before + piece(24).len() + 9
    ));
    assert!(next.body == piece(25)[..10]);
    let order = asked.lock().unwrap().clone();
    assert!(order.iter().position(|number| *number == 25).is_some_and(|at| at < 14), "{order:?}");
    playing.running.finish().expect(0);
    assert!(std::fs::read(sandbox.path("film.ts")).unwrap() == film());
}

#[test]
fn a_film_whose_lengths_nobody_tells_is_streamed_without_ranges() {
    let origin = serving(|number, _| {
        let wait = Duration::from_millis(if number > 3 { 400 } else { 0 });
        let response = Response::new(200).header("Content-Type", "video/mp2t");
        Some(response.bytes(piece(number)).chunked(true).delay(wait))
    });
    let sandbox = Sandbox::new();
    let playing = Playing::start(play(&sandbox, &origin).args(["-x", "2"]));
    let answer = playing.range("bytes=0-");
    assert_eq!((answer.status, answer.field("accept-ranges")), (200, Some("none")));
    playing.running.finish().expect(0);
    assert!(std::fs::read(sandbox.path("film.ts")).unwrap() == film());
}

#[test]
fn a_missing_piece_ends_the_stream_before_its_length_and_the_run_with_7() {
    let origin = serving(|number, _| (number == 20).then(|| Response::empty(404)));
    let sandbox = Sandbox::new();
    let playing = Playing::start(play(&sandbox, &origin));
    let before: usize = (0..20).map(|number| piece(number).len()).sum();
    let answer = playing.ask("GET", &playing.path, &[]);
    assert!(answer.body.len() <= before, "{} bytes of {before}", answer.body.len());
    assert!(answer.body == film()[..answer.body.len()]);
    let outcome = playing.running.finish();
    outcome.expect(7);
    assert!(outcome.text().contains("piece 21 of the video"), "{}", outcome.text());
    assert!(!sandbox.path("film.ts").exists());
}

#[test]
fn films_with_sound_apart_are_a_playlist_where_they_make_no_stream() {
    let origin = Origin::start(|request, _| match number_of(request) {
        Some(number) => ranged(&piece(number), request),
        None if request.path().ends_with("master.m3u8") => {
            let text = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"n\",LANGUAGE=\"de\",\
                        URI=\"sound.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=9,AUDIO=\"a\"\nvideo.m3u8\n";
            answer(text.as_bytes().to_vec(), "application/vnd.apple.mpegurl")
        }
        None => answer(
            playlist(|number| format!("s{number}.ts")).into_bytes(),
            "application/vnd.apple.mpegurl",
        ),
    });
    let sandbox = Sandbox::new();
    let haul = haul!(sandbox, bare)
        .args(["play", "--retry", "1", "-o", "film.ts"])
        .arg(origin.url("/film/master.m3u8"));
    let playing = Playing::start(haul);
    assert!(playing.path.ends_with("/film.m3u8"), "{}", playing.path);
    let read = |name: &str| {
        let answer = playing.ask("GET", &format!("{}{name}", playing.page()), &[]);
        assert_eq!(answer.status, 200, "{name}: {}", answer.head);
        answer.body
    };
    let master = String::from_utf8(read("film.m3u8")).unwrap();
    assert!(master.contains("LANGUAGE=\"de\"") && master.contains("track-1.m3u8"), "{master}");
    for track in ["track-0.m3u8", "track-1.m3u8"] {
        let text = String::from_utf8(read(track)).unwrap();
        let names: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(names.len(), PIECES, "{text}");
        let bytes: Vec<u8> = names.iter().flat_map(|name| read(name)).collect();
        assert!(bytes == film());
    }
    assert_eq!(playing.ask("GET", &format!("{}9-9.ts", playing.page()), &[]).status, 404);
    // ffmpeg, where it is there, makes nothing of such packets.
    playing.running.finish().expect_one_of(&[0, 3]);
}
