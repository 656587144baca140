//! Films of pages, which yt-dlp finds and haul downloads. Here a script stands in for yt-dlp.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use haul_tests::film::{PIECES, film, number_of, piece, playlist, ranged};
use haul_tests::harness::write_program;
use haul_tests::prelude::*;
use serde_json::{Value, json};

const SIZE: u64 = 12 * MIB + 4321;

/// Writes a yt-dlp that prints this, with `@` for how often it was asked, and keeps what it was
/// asked: the words before the page, which may hold the canary.
fn answers(sandbox: &Sandbox, info: &Value) {
    sandbox.write("info.json", info.to_string());
    says(sandbox, "sed \"s/@/$n/g\" info.json\n");
}

/// Writes a yt-dlp that runs this.
fn says(sandbox: &Sandbox, script: &str) {
    let count = "n=$(cat asked.count 2>/dev/null || echo 0)\necho $((n + 1)) >asked.count\n";
    let keep = "for word; do [ \"$word\" = -- ] && break; echo \"$word\"; done >asked.words\n\
                for last; do :; done\n";
    write_program(&sandbox.work().join("fake-yt-dlp"), &format!("{count}{keep}{script}"));
}

fn asked(sandbox: &Sandbox) -> usize {
    let count = std::fs::read_to_string(sandbox.path("asked.count")).unwrap_or_default();
    count.trim().parse().unwrap_or(0)
}

fn words(sandbox: &Sandbox) -> Vec<String> {
    let words = std::fs::read_to_string(sandbox.path("asked.words")).unwrap();
    words.lines().map(str::to_owned).collect()
}

/// The files that are not the script's.
fn files(sandbox: &Sandbox) -> Vec<String> {
    let ours = ["asked.count", "asked.words", "fake-yt-dlp", "info.json"];
    sandbox.files().into_iter().filter(|name| !ours.contains(&name.as_str())).collect()
}

fn page(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox, bare)
        .arg("page")
        .json()
        .args(["--retry", "1", "--yt-dlp", "./fake-yt-dlp"])
        .arg(origin.url("/watch"))
}

/// A page with one film of this format.
fn one(format: &Value, name: &str) -> Value {
    let mut download = format.clone();
    download["filename"] = json!(name);
    json!({ "title": "t", "id": "i", "formats": [format], "requested_downloads": [download] })
}

fn object_at(url: &str) -> Value {
    json!({
        "format_id": "0", "url": url, "protocol": "http", "ext": "mp4", "vcodec": "avc1",
        "acodec": "mp4a", "height": 720,
    })
}

/// The film as fragments, with this query.
fn fragments_at(origin: &Origin, query: &str) -> Value {
    let fragments: Vec<Value> = (0..PIECES)
        .map(|number| json!({ "path": format!("s{number}.ts{query}"), "duration": 2.0 }))
        .collect();
    json!({
        "format_id": "v", "url": origin.url("/film.mpd"), "protocol": "http_dash_segments",
        "fragment_base_url": origin.url("/big/"), "fragments": fragments, "vcodec": "avc1",
    })
}

fn serves(request: &Request) -> Response {
    match number_of(request) {
        Some(number) => ranged(&piece(number), request),
        None if request.path() == "/big/index.m3u8" => {
            let text = playlist(|number| format!("s{number}.ts"));
            Response::new(200).header("Content-Length", &text.len().to_string()).bytes(text.into())
        }
        None => standard(&object(SIZE), request),
    }
}

#[test]
fn a_playlist_that_yt_dlp_names_is_downloaded_as_its_film() {
    let (sandbox, origin) = (Sandbox::new(), Origin::start(|request, _| serves(request)));
    let format = json!({
        "format_id": "hls-720", "url": origin.url("/big/index.m3u8"), "protocol": "m3u8_native",
        "height": 720, "vcodec": "avc1", "acodec": "mp4a",
        "http_headers": { "User-Agent": "Player/9", "X-Site": "yes", "Cookie": "never=1" },
        "cookies": "session=\"a\\054b\"; Domain=127.0.0.1; Path=/big",
    });
    answers(&sandbox, &one(&format, "A film [id].ts"));
    page(&sandbox, &origin).run().expect(0);
    assert_eq!(files(&sandbox), ["A film [id].ts"]);
    assert!(std::fs::read(sandbox.path("A film [id].ts")).unwrap() == film());
    assert_eq!(asked(&sandbox), 1);
    assert_eq!(
        words(&sandbox),
        [
            "--dump-single-json",
            "--simulate",
            "--no-playlist",
            "--flat-playlist",
            "--ignore-no-formats-error"
        ]
    );
    let requests = origin.requests();
    assert_eq!(requests.len(), PIECES + 1, "the page itself is yt-dlp's");
    for Record { request, .. } in &requests {
        assert_eq!(request.header("User-Agent"), Some("Player/9"));
        assert_eq!(request.header("X-Site"), Some("yes"));
        assert_eq!(request.header("Cookie"), Some("session=a,b"));
    }
}

#[test]
fn pieces_elsewhere_get_none_of_what_may_be_secret() {
    let (sandbox, cdn) = (Sandbox::new(), Origin::start(|request, _| serves(request)));
    let away = cdn.url("/big/");
    let origin = Origin::start(move |_, _| {
        let text = playlist(|number| format!("{away}s{number}.ts"));
        Response::new(200).header("Content-Length", &text.len().to_string()).bytes(text.into())
    });
    let format = json!({
        "format_id": "0", "url": origin.url("/index.m3u8"), "protocol": "m3u8_native",
        "http_headers": { "Referer": "https://site.example/", "Authorization": "Bearer s3cr3t" },
    });
    answers(&sandbox, &one(&format, "film.ts"));
    let outcome = page(&sandbox, &origin).run();
    outcome.expect(0).assert_free_of("s3cr3t");
    assert!(std::fs::read(sandbox.path("film.ts")).unwrap() == film());
    assert_eq!(origin.requests()[0].request.header("Authorization"), Some("Bearer s3cr3t"));
    for Record { request, .. } in cdn.requests() {
        assert_eq!(request.header("Referer"), Some("https://site.example/"));
        assert_eq!(request.header("Authorization"), None);
        assert_eq!(request.header("X-Canary"), None);
    }
}

#[test]
fn fragments_become_one_file() {
    let (sandbox, origin) = (Sandbox::new(), Origin::start(|request, _| serves(request)));
    answers(&sandbox, &one(&fragments_at(&origin, ""), "film.ts"));
    page(&sandbox, &origin).run().expect(0);
    assert!(std::fs::read(sandbox.path("film.ts")).unwrap() == film());
    assert_eq!(origin.requests().len(), PIECES);
}

#[test]
fn one_object_is_an_ordinary_download() {
    let throttle = Throttle::new(400_000);
    let pace = throttle.clone();
    let origin = Origin::start(move |request, _| match request.target.contains("token=@") {
        true => Response::empty(403),
        false => pace.apply(standard(&object(SIZE), request)),
    });
    let sandbox = Sandbox::new();
    // Its link is another one each time.
    answers(&sandbox, &one(&object_at(&origin.url("/f?token=@")), "The film.mp4"));
    let killed = kill(page(&sandbox, &origin).args(["-x", "4", "--segment-size", "1M"]), 4 * MIB);
    assert!(sandbox.path("The film.mp4.haul").exists(), "{killed}");
    throttle.lift();
    let outcome = page(&sandbox, &origin).args(["-x", "4"]).run();
    outcome.expect(0);
    assert_eq!(object(SIZE).compare_file(&sandbox.path("The film.mp4")), Ok(()));
    assert_eq!(asked(&sandbox), 2);
    assert!(outcome.resumed_bytes() > 0 && outcome.fetched_bytes() < SIZE, "{outcome}");
    assert!(origin.most_open() >= 3, "{}", origin.most_open());
}

#[test]
fn the_link_of_an_object_is_had_again_once_for_all_connections() {
    let served = Arc::new(AtomicUsize::new(0));
    let throttle = Throttle::new(300_000);
    let count = Arc::clone(&served);
    let origin = Origin::start(move |request, _| {
        let is_first = request.target.contains("link=0");
        if is_first && (count.fetch_add(1, Ordering::SeqCst) >= 3 || request.is_conditional()) {
            return Response::empty(403);
        }
        if !is_first {
            throttle.lift();
        }
        throttle.apply(standard(&object(SIZE), request))
    });
    let sandbox = Sandbox::new();
    answers(&sandbox, &one(&object_at(&origin.url("/f?link=@&Signature=s3cr3t")), "film.mp4"));
    let outcome = page(&sandbox, &origin).args(["-x", "4", "--segment-size", "1M"]).run();
    outcome.expect(0);
    assert_eq!(object(SIZE).compare_file(&sandbox.path("film.mp4")), Ok(()));
    assert!(outcome.has_notice("refreshed"), "{outcome}");
    assert_eq!(asked(&sandbox), 2);
    outcome.assert_free_of("s3cr3t");
}

#[test]
fn the_links_of_a_film_are_had_again_once_for_all_pieces() {
    let (sandbox, refused) = (Sandbox::new(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&refused);
    let origin = Origin::start(move |request, _| {
        let first = request.target.contains("token=0");
        match number_of(request) {
            Some(number) if first && number >= 10 => {
                count.fetch_add(1, Ordering::SeqCst);
                Response::empty(403).delay(Duration::from_millis(100))
            }
            _ => serves(request),
        }
    });
    answers(&sandbox, &one(&fragments_at(&origin, "?token=@"), "film.ts"));
    page(&sandbox, &origin).run().expect(0);
    assert!(std::fs::read(sandbox.path("film.ts")).unwrap() == film());
    assert!(refused.load(Ordering::SeqCst) > 1);
    assert_eq!(asked(&sandbox), 2);
}

#[test]
fn links_that_stay_expired_end_the_download() {
    let origin = Origin::start(|_, _| Response::empty(403));
    for (format, name) in [
        (object_at(&origin.url("/f?link=@")), "film.mp4"),
        (
            json!({ "format_id": "v", "url": origin.url("/f.mpd"), "vcodec": "avc1",
                    "protocol": "http_dash_segments",
                    "fragments": [{ "path": "a?@", "duration": 1 }, { "path": "b?@", "duration": 1 }] }),
            "film.ts",
        ),
    ] {
        let sandbox = Sandbox::new();
        answers(&sandbox, &one(&format, name));
        page(&sandbox, &origin).run().expect(6);
        assert!((2..=11).contains(&asked(&sandbox)), "{}", asked(&sandbox));
        assert!(!sandbox.path(name).exists());
    }
}

#[test]
fn a_hostile_title_stays_within_the_directory() {
    let origin = Origin::start(|request, _| serves(request));
    for (given, name) in [
        ("../../x.mp4", "x.mp4"),
        ("-rf $(touch y) `z`;.mp4", "_-rf $(touch y) `z`;.mp4"),
        ("/etc/passwd", "passwd"),
        ("./films/of/x.mp4", "films/of/x.mp4"),
        ("a\u{1b}[31m\nb.mp4", "a[31mb.mp4"),
    ] {
        let sandbox = Sandbox::new();
        answers(&sandbox, &one(&object_at(&origin.url("/f.mp4")), given));
        let outcome = page(&sandbox, &origin).run();
        outcome.expect(0).assert_harmless();
        assert_eq!(files(&sandbox), [name], "{given:?}");
    }
    let sandbox = Sandbox::new();
    let long = format!("{}.mp4", "\u{e4}".repeat(300));
    answers(&sandbox, &one(&object_at(&origin.url("/f.mp4")), &long));
    page(&sandbox, &origin).run().expect(0);
    answers(&sandbox, &one(&object_at(&origin.url("/f.mp4")), "x.mp4"));
    page(&sandbox, &origin).args(["-d", "films", "-o", "mine.mp4"]).run().expect(0);
    assert_eq!(object(SIZE).compare_file(&sandbox.path("films/mine.mp4")), Ok(()));
}

#[test]
fn wishes_are_yt_dlps_to_fulfil_and_what_is_not_there_is_told() {
    let (sandbox, origin) = (Sandbox::new(), Origin::start(|request, _| serves(request)));
    let mut info = one(&object_at(&origin.url("/f.mp4")), "f.mp4");
    answers(&sandbox, &info);
    let haul = page(&sandbox, &origin).args([
        "--no-config",
        "--proxy",
        "",
        "-A",
        "Me/1",
        "--quality",
        "<=720p",
    ]);
    haul.args(["--insecure", "-4"]).run().expect(0);
    let given = words(&sandbox).join(" ");
    let selector = "--format bv*[height<=720]+ba/b[height<=720]/bv*[height<=720]";
    for expected in [
        "--ignore-config",
        selector,
        "--no-check-certificates",
        "--force-ipv4",
        "--user-agent Me/1",
    ] {
        assert!(given.contains(expected), "{expected}: {given}");
    }
    info["requested_downloads"] = json!([{ "filename": "f.NA" }]);
    answers(&sandbox, &info);
    let outcome = page(&sandbox, &origin).args(["--quality", "480p"]).run();
    outcome.expect(2).expect_message("no video of 480p, only of 720p");
    let outcome = page(&sandbox, &origin).args(["--audio", "de]"]).run();
    outcome.expect(2).expect_message("not the tag of a language");
    let outcome = page(&sandbox, &origin).arg("--list").run();
    outcome.expect(0);
    assert_eq!(outcome.event("renditions")["renditions"][0]["height"], 720);
    assert_eq!(files(&sandbox), ["f.mp4"]);
}

#[test]
fn subtitles_come_beside_the_film() {
    let text = "WEBVTT\n\n00:00.000 --> 00:02.000\nHello\n";
    let origin = Origin::start(move |request, _| match request.path() {
        "/en.vtt" => {
            Response::new(200).header("Content-Length", &text.len().to_string()).bytes(text.into())
        }
        _ => serves(request),
    });
    let sandbox = Sandbox::new();
    let format = json!({ "format_id": "0", "url": origin.url("/big/index.m3u8"), "protocol": "m3u8_native" });
    let mut info = one(&format, "film.ts");
    info["requested_subtitles"] = json!({ "en": { "url": origin.url("/en.vtt"), "ext": "vtt" } });
    answers(&sandbox, &info);
    page(&sandbox, &origin).args(["--subs", "en"]).run().expect(0);
    assert_eq!(files(&sandbox), ["film.en.vtt", "film.ts"]);
    assert_eq!(std::fs::read_to_string(sandbox.path("film.en.vtt")).unwrap(), text);
    let outcome = page(&sandbox, &origin).args(["--subs", "fr", "-o", "other.ts"]).run();
    outcome.expect(2).expect_message("no subtitles \"fr\", only en");
}

#[test]
fn what_is_no_single_film_is_refused_in_words() {
    let (sandbox, origin) = (Sandbox::new(), Origin::start(|request, _| serves(request)));
    let entries = [1, 2].map(|number| {
        json!({ "_type": "url", "url": format!("https://site.example/watch?v={number}"), "title": "T\u{1b}" })
    });
    let list = json!({ "_type": "playlist", "entries": entries });
    let object = object_at(&origin.url("/f.mp4"));
    let mut live = object.clone();
    live["protocol"] = json!("rtmp");
    let mut protected = object.clone();
    protected["has_drm"] = json!(true);
    for (info, exit, why) in [
        (list.clone(), 2, "a list of 2 films"),
        (json!({ "_type": "multi_video", "entries": entries }), 2, "one film in 2 parts"),
        (json!({ "_type": "playlist", "entries": [] }), 7, "found nothing to download"),
        (json!({ "formats": [], "_has_drm": true }), 14, "DRM"),
        (one(&protected, "f.mp4"), 14, "DRM"),
        (one(&live, "f.mp4"), 7, "`rtmp`"),
        (json!({ "formats": [] }), 7, "found nothing to download"),
    ] {
        answers(&sandbox, &info);
        page(&sandbox, &origin).run().expect(exit).expect_message(why);
    }
    answers(&sandbox, &list);
    let outcome = page(&sandbox, &origin).arg("--list").run();
    outcome.expect(0);
    assert_eq!(outcome.event("entries")["entries"][1]["url"], "https://site.example/watch?v=2");
    let outcome = haul!(sandbox, bare)
        .args(["page", "--yt-dlp", "./fake-yt-dlp", "--list"])
        .arg(origin.url("/watch"))
        .run();
    outcome.expect(0).assert_harmless();
    assert!(outcome.text().contains("2  https://site.example/watch?v=2  T"), "{outcome}");
    page(&sandbox, &origin).arg("--as-is").run().expect(2);
    assert_eq!(origin.requests().len(), 0);
    assert_eq!(files(&sandbox), Vec::<String>::new());
}

#[test]
fn a_list_of_one_is_that_film() {
    let (sandbox, origin) = (Sandbox::new(), Origin::start(|request, _| serves(request)));
    let film = one(&object_at(&origin.url("/f.mp4")), "f.mp4");
    let there = origin.url("/there");
    let list = json!({ "_type": "playlist", "entries": [{ "_type": "url", "url": there }] });
    sandbox.write("info.json", film.to_string());
    sandbox.write("list.json", list.to_string());
    says(&sandbox, "case $last in */there) cat info.json;; *) cat list.json;; esac");
    page(&sandbox, &origin).run().expect(0);
    assert_eq!(object(SIZE).compare_file(&sandbox.path("f.mp4")), Ok(()));
    assert_eq!(asked(&sandbox), 2);
}

#[test]
fn what_yt_dlp_complains_of_is_told_without_secrets() {
    let (sandbox, origin) = (Sandbox::new(), Origin::start(|request, _| serves(request)));
    says(
        &sandbox,
        "echo 'WARNING: [x] old' >&2\n\
         echo 'ERROR: [x] a: No video at https://u:s3cr3t@h/p?q=s3cr3t; please report this' >&2\n\
         echo null; exit 1",
    );
    let outcome = page(&sandbox, &origin).run();
    outcome.expect(7).expect_message("[x] a: No video at https://h/p").assert_free_of("s3cr3t");
    for (script, why) in [
        ("echo '{\"formats\":'", "cannot be read"),
        ("echo hello; exit 3", "printed nothing"),
        ("kill -9 $$", "printed nothing"),
    ] {
        says(&sandbox, script);
        page(&sandbox, &origin).run().expect(7).expect_message(why);
    }
    // Its own configuration may make it print more.
    says(&sandbox, "echo A title; cat info.json; echo; echo bye");
    sandbox.write("info.json", one(&object_at(&origin.url("/f.mp4")), "f.mp4").to_string());
    page(&sandbox, &origin).run().expect(0);
}

#[test]
fn without_yt_dlp_it_is_said_how_to_get_it() {
    let (sandbox, origin) = (Sandbox::new(), Origin::start(|request, _| serves(request)));
    let outcome = haul!(sandbox, bare)
        .arg("page")
        .args(["--yt-dlp", "/no/such/yt-dlp"])
        .arg(origin.url("/watch"))
        .run();
    outcome.expect(3);
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(said.contains("is not installed") && said.contains("pipx install yt-dlp"), "{said}");
    assert_eq!(origin.requests().len(), 0);
}

/// Whether the process that the script has started is there no more.
fn is_gone(sandbox: &Sandbox) -> bool {
    let pid = std::fs::read_to_string(sandbox.path("child.pid")).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    // A child that nobody waits for stays as a zombie.
    stat.map_or(true, |stat| stat.contains(") Z"))
}

#[test]
fn ending_haul_ends_yt_dlp_and_what_it_started() {
    let (sandbox, origin) = (Sandbox::new(), Origin::start(|request, _| serves(request)));
    // A signal takes its time.
    let has_ended = || {
        let deadline = Instant::now() + Duration::from_secs(20);
        std::iter::repeat_with(|| std::thread::sleep(Duration::from_millis(5)))
            .take_while(|()| Instant::now() < deadline)
            .any(|()| is_gone(&sandbox))
    };
    says(&sandbox, "sleep 600 & echo $! >child.new; mv child.new child.pid; wait");
    let outcome = page(&sandbox, &origin).args(["--max-time", "1"]).run();
    outcome.expect(12);
    assert!(has_ended());
    std::fs::remove_file(sandbox.path("child.pid")).unwrap();
    let mut running = page(&sandbox, &origin).start();
    running.wait_until("yt-dlp runs", |_| sandbox.path("child.pid").exists());
    running.signal(Signal::INT);
    running.finish().expect(130);
    assert!(has_ended());
    std::fs::remove_file(sandbox.path("child.pid")).unwrap();
}

#[test]
fn a_page_that_is_downloaded_as_it_is_is_told_once() {
    let origin = Origin::start(|request, _| {
        let page = format!("<html>{}</html>", request.path());
        Response::new(200)
            .header("Content-Type", "text/html; charset=utf-8")
            .header("Content-Length", &page.len().to_string())
            .bytes(page.into())
    });
    let sandbox = Sandbox::new();
    answers(&sandbox, &json!({}));
    let run = |ytdlp: &str, paths: &[&str], words: &[&str]| {
        let haul = haul!(sandbox).args(["--yt-dlp", ytdlp]).args(words);
        let outcome = haul.args(paths.iter().map(|path| origin.url(path))).run();
        outcome.expect(0);
        outcome.all("notice").filter(|event| event["code"] == "page").count()
    };
    let here = "./fake-yt-dlp";
    assert_eq!(run(here, &["/watch", "/look", "/see"], &[]), 1);
    assert_eq!(run(here, &["/a.html"], &[]), 0);
    assert_eq!(run(here, &["/b"], &["-o", "b.HTM"]), 0);
    assert_eq!(run(here, &["/c"], &["--as-is"]), 0);
    assert_eq!(run("/no/such/yt-dlp", &["/d"], &[]), 0);
    assert_eq!(asked(&sandbox), 0, "it is not run for that");
}
