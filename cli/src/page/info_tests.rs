use haul_film::choice::{Wanted, choose};
use serde_json::json;

use super::*;

fn film(info: &Value) -> Found {
    match Answer::of(info) {
        Some(Answer::Film(found)) => *found,
        other => panic!("not a film: {other:?}"),
    }
}

fn named(given: &str) -> String {
    let info = json!({ "requested_downloads": [{ "filename": given }], "title": "t", "id": "i" });
    film(&info).name.to_str().unwrap().to_owned()
}

/// What of it would be downloaded: the ids, and for each its pieces or its playlist.
fn wanted(found: &Found) -> Vec<String> {
    let of = |it: &Rendition| match &it.source {
        Source::Track(track) => {
            let one = |piece: &Piece| format!("{:?} {} {}", piece.role, piece.sequence, piece.url);
            format!("{}: {}", it.id, track.pieces.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        Source::Playlist(url) => format!("{}: playlist {url}", it.id),
        Source::WithinVideo => format!("{}: nothing", it.id),
    };
    found.wanted().renditions.iter().map(of).collect()
}

#[test]
fn pictures_and_sound_that_come_apart_are_two_tracks() {
    let video = json!({
        "format_id": "0", "url": "https://h/i.mpd", "protocol": "http_dash_segments",
        "fragment_base_url": "https://h/dash/", "vcodec": "avc1", "acodec": "none",
        "width": 320, "height": 180, "tbr": 661.076,
        "fragments": [
            { "path": "init.m4s" }, { "path": "1.m4s?a", "duration": 1.5 },
            { "url": "https://o/2.m4s", "duration": null },
        ],
    });
    let audio = json!({
        "format_id": "1", "url": "https://h/a.m3u8", "protocol": "m3u8_native",
        "vcodec": "none", "acodec": "mp4a", "language": "en",
    });
    let info = json!({
        "formats": [{ "format_id": "sb", "protocol": "mhtml", "vcodec": "none", "acodec": "none" },
                    audio, video],
        "requested_downloads": [{ "requested_formats": [video, audio], "filename": "A film.mp4" }],
    });
    let found = film(&info);
    assert_eq!(
        wanted(&found),
        [
            "0: Init 0 https://h/dash/init.m4s, Media 0 https://h/dash/1.m4s?a, \
             Media 1 https://o/2.m4s",
            "1: playlist https://h/a.m3u8",
        ]
    );
    let chosen = found.wanted();
    let chosen = choose(&chosen, &Wanted::default()).unwrap();
    assert_eq!((chosen.video.unwrap().id.as_str(), chosen.audio.unwrap().id.as_str()), ("0", "1"));
    let everything = found.everything();
    assert_eq!(everything.renditions.len(), 2, "pictures of a storyboard are no film");
    let video = &everything.renditions[1];
    assert_eq!((video.bandwidth, video.resolution), (Some(661_076), Some((320, 180))));
    assert_eq!(video.codecs.as_deref(), Some("avc1"));
}

#[test]
fn a_film_whose_sound_may_be_apart_is_not_silent() {
    let sound = |id: &str, tbr: Value| {
        json!({
            "format_id": id, "url": "https://h/a.m3u8", "manifest_url": "https://h/m.m3u8",
            "protocol": "m3u8_native", "vcodec": "none", "tbr": tbr,
        })
    };
    let pictures = |acodec: Value| {
        json!({
            "format_id": "v", "url": "https://h/v.m3u8", "manifest_url": "https://h/m.m3u8",
            "protocol": "m3u8_native", "acodec": acodec, "height": 180,
        })
    };
    let chosen = |sound: Value, pictures: Value| {
        film(&json!({ "formats": [sound, pictures], "requested_downloads": [pictures] })).chosen
    };
    assert_eq!(chosen(sound("a", json!(null)), pictures(json!(null))), ["v", "a"]);
    assert_eq!(chosen(sound("a", json!(64)), pictures(json!(null))), ["v"]);
    assert_eq!(chosen(sound("a", json!(null)), pictures(json!("mp4a"))), ["v"]);
}

#[test]
fn one_object_is_told_from_a_film_of_pieces() {
    let object = json!({ "format_id": "a", "url": "http://h/f.mp4", "protocol": "http" });
    assert!(film(&object).chosen().all(|it| it.is_object));
    let playlist = json!({ "format_id": "a", "url": "http://h/f.m3u8", "protocol": "m3u8" });
    assert!(film(&playlist).chosen().all(|it| !it.is_object && it.problem.is_none()));
}

#[test]
fn what_haul_cannot_fetch_has_a_reason() {
    for (format, why) in [
        (json!({ "url": "rtmp://h/x", "protocol": "rtmp" }), "no http or https URL"),
        (json!({ "url": "https://h/x", "protocol": "ism" }), "`ism`"),
        (json!({ "url": "file:///etc/passwd", "protocol": "http" }), "no http or https URL"),
        (json!({ "url": "https://h/x", "protocol": "m3u8", "hls_aes": { "key": "0" } }), "hls_aes"),
        (json!({ "url": "https://h/x", "protocol": "http_dash_segments" }), "no fragments"),
        (
            json!({ "url": "https://h/x", "protocol": "http_dash_segments",
                    "fragments": [{ "path": "a" }, { "duration": 1 }] }),
            "fragment 2",
        ),
        (
            json!({ "url": "https://h/x", "protocol": "http_dash_segments", "is_live": true }),
            "live",
        ),
    ] {
        let found = film(&format);
        let problem = found.chosen().next().unwrap().problem.clone().unwrap();
        assert!(problem.contains(why), "{why}: {problem}");
        assert_eq!(found.wanted().renditions.len(), 0);
    }
}

#[test]
fn nothing_in_it_has_to_be_there_or_to_be_what_it_should_be() {
    for info in [
        json!(null),
        json!([]),
        json!("film"),
        json!({ "_type": "url" }),
        json!({ "_type": "url", "url": "  " }),
    ] {
        assert!(Answer::of(&info).is_none(), "{info}");
    }
    for info in [
        json!({}),
        json!({ "_type": 7, "formats": null, "requested_downloads": {} }),
        json!({ "formats": [null, 1, "x", []], "requested_downloads": [null] }),
        json!({ "requested_formats": [null], "subtitles": [], "requested_subtitles": 3 }),
    ] {
        let found = film(&info);
        assert_eq!(found.wanted().renditions.len(), 0, "{info}");
        assert_eq!(found.name.components().count(), 1, "{info}");
    }
    let odd = film(&json!({
        "formats": [{
            "format_id": 22, "url": "http://h/f", "protocol": "http_dash_segments",
            "vcodec": null, "acodec": 5, "tbr": 1e300, "width": -5, "height": 1e40,
            "language": ["en"], "format_note": "", "cookies": {}, "has_drm": "maybe",
            "http_headers": {
                "X-Ok": "1", "X-Break": "a\r\nX: b", "Bad Name": "c", "Cookie": "d=e",
                "Host": "other", "Range": "bytes=0-", "X-None": null, "X-Number": 5, "": "f",
            },
            "fragments": [{ "url": "/a" }, { "url": "/b", "duration": 1e300 }, { "url": "/c", "duration": -1 }],
        }],
        "requested_downloads": [{ "format_id": "22", "url": "http://h/f" }],
    }));
    let format = odd.chosen().next().unwrap();
    assert_eq!(format.headers, [("X-Ok".to_owned(), "1".to_owned())]);
    assert_eq!(format.rendition.bandwidth, Some(u64::MAX));
    assert_eq!(format.rendition.resolution, Some((0, u32::MAX)));
    assert!(!format.is_protected && format.cookies.is_none());
    let Source::Track(track) = &format.rendition.source else { panic!("{format:?}") };
    assert!(track.pieces.iter().all(|piece| piece.duration <= MAX_FRAGMENT));
}

#[test]
fn a_title_is_a_name_as_any() {
    for (given, name) in [
        ("A film [id].mp4", "A film [id].mp4"),
        ("../../x.mp4", "x.mp4"),
        ("/etc/cron.d/x.mp4", "x.mp4"),
        ("a/../b.mp4", "b.mp4"),
        ("./films/b.mp4", "films/b.mp4"),
        ("films/.hidden/-rf.mp4", "films/_.hidden/_-rf.mp4"),
        ("-rf", "_-rf"),
        (".bashrc", "_.bashrc"),
        ("..", "download"),
        ("a\u{1b}[2J\n\u{202e}b.mp4", "a[2Jb.mp4"),
        ("x.part", "x.part_"),
        ("..\u{29f8}..\u{29f8}x.mp4", "_..\u{29f8}..\u{29f8}x.mp4"),
    ] {
        assert_eq!(named(given), name, "{given:?}");
    }
    let long = named(&format!("{}.mp4", "\u{fc}".repeat(400)));
    assert!(long.len() <= MAX_NAME_BYTES && long.ends_with("\u{fc}.mp4"), "{long}");
    assert!(named(&format!("a.{}", "x".repeat(400))).len() <= MAX_NAME_BYTES);
    let made = film(&json!({ "title": "../a/b", "id": "../c", "ext": "webm" })).name;
    assert_eq!(made, Path::new("_.._a_b [.._c].webm"));
}

#[test]
fn the_name_is_the_one_of_the_download() {
    let info = json!({
        "_filename": "old.mp4", "requested_downloads": [{ "_filename": "older.mp4", "filename": "new.mp4" }],
    });
    assert_eq!(film(&info).name, Path::new("new.mp4"));
    assert_eq!(film(&json!({ "_filename": "old.mp4" })).name, Path::new("old.mp4"));
}

#[test]
fn texts_are_those_that_were_asked_for_and_those_on_offer() {
    let found = film(&json!({
        "requested_subtitles": { "en": { "url": "https://h/en.vtt", "ext": "vtt" } },
        "subtitles": {
            "en": [{ "url": "https://h/other.vtt", "ext": "vtt" }],
            "de": [{ "url": "https://h/de.ttml", "ext": "ttml" },
                   { "url": "https://h/de.m3u8", "ext": "vtt", "protocol": "m3u8_native" }],
            "fr": [{ "url": "https://h/fr.srt", "ext": "srt" }],
            "odd": null,
        },
    }));
    let of = |language: &str| {
        found.texts.iter().find(|it| it.rendition.language.as_deref() == Some(language)).unwrap()
    };
    assert_eq!(of("en").url.as_ref().unwrap().as_str(), "https://h/en.vtt");
    assert!(matches!(of("de").rendition.source, Source::Playlist(_)));
    assert!(of("fr").problem.as_ref().unwrap().contains("srt"));
    assert_eq!(found.texts.len(), 3);
}

#[test]
fn a_list_of_films_is_counted() {
    let one =
        json!({ "_type": "playlist", "entries": [null, { "_type": "url", "url": "https://h/1" }] });
    assert!(matches!(Answer::of(&one), Some(Answer::Elsewhere(url)) if url == "https://h/1"));
    let several = json!({
        "_type": "playlist", "playlist_count": 40,
        "entries": [{ "_type": "url", "url": "https://h/1", "title": "One" },
                    { "url": "https://h/2.mp4", "webpage_url": "https://h/2" }],
    });
    let Some(Answer::Several(several)) = Answer::of(&several) else { panic!() };
    assert_eq!((several.count, several.are_parts), (40, false));
    assert_eq!(several.entries[1], Entry { title: None, url: Some("https://h/2".to_owned()) });
    let none = Answer::of(&json!({ "_type": "playlist" }));
    assert!(matches!(none, Some(Answer::Several(Several { count: 0, .. }))));
}
