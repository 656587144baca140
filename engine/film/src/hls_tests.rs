use super::*;

const BASE: &str = "https://example.org/films/one/index.m3u8?token=abc";

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn read(text: &str) -> Result<Film, ManifestError> {
    parse(text, &url(BASE))
}

fn track(text: &str) -> Track {
    let mut film = read(text).unwrap();
    assert_eq!(film.renditions.len(), 1);
    match film.renditions.remove(0) {
        Rendition { kind: Kind::Video, source: Source::Track(track), id, .. } if id == "video" => {
            track
        }
        other => panic!("{other:?}"),
    }
}

/// The pieces of a complete playlist of these lines.
fn pieces(lines: &str) -> Vec<Piece> {
    track(&format!("#EXTM3U\n#EXT-X-TARGETDURATION:6\n{lines}\n#EXT-X-ENDLIST\n")).pieces
}

fn renditions(lines: &str) -> Vec<Rendition> {
    read(&format!("#EXTM3U\n{lines}\n")).unwrap().renditions
}

/// The line and the message of a malformed playlist of these lines; the first of them is line 2.
#[track_caller]
fn malformed(lines: &str) -> (usize, String) {
    match read(&format!("#EXTM3U\n{lines}\n")) {
        Err(ManifestError::Malformed { line, message }) => (line.unwrap_or(0), message),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_malformed(lines: &str, line: usize, part: &str) {
    let (found, message) = malformed(lines);
    assert_eq!(found, line, "{message}");
    assert!(message.contains(part), "{message}");
}

#[track_caller]
fn protected_by(lines: &str) -> String {
    match read(&format!("#EXTM3U\n{lines}\n")) {
        Err(ManifestError::Protected { system }) => system,
        other => panic!("{other:?}"),
    }
}

/// Each piece's role and the last segment of its path.
fn roles(pieces: &[Piece]) -> Vec<(Role, &str)> {
    pieces.iter().map(|p| (p.role, p.url.path().rsplit('/').next().unwrap())).collect()
}

const SIMPLE: &str = "\
#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:10
#EXT-X-MEDIA-SEQUENCE:7794

#EXTINF:9.009,
first.ts
#EXTINF:9.009,
second.ts?a=1#part
# a comment
#EXTINF:3
https://cdn.example/third.ts
#EXT-X-ENDLIST
";

#[test]
fn a_simple_media_playlist_is_one_track_in_its_order() {
    let track = track(SIMPLE);
    assert!(track.is_complete);
    assert_eq!(track.target_duration, Some(Duration::from_secs(10)));
    let told: Vec<_> =
        track.pieces.iter().map(|p| (p.url.as_str(), p.sequence, p.duration)).collect();
    assert_eq!(
        told,
        [
            ("https://example.org/films/one/first.ts", 7794, Duration::from_millis(9009)),
            ("https://example.org/films/one/second.ts?a=1", 7795, Duration::from_millis(9009)),
            ("https://cdn.example/third.ts", 7796, Duration::from_secs(3)),
        ]
    );
    assert!(track.pieces.iter().all(|p| {
        p.role == Role::Media
            && p.range.is_none()
            && p.key.is_none()
            && p.part == 0
            && !p.is_gap
            && p.mirrors.is_empty()
    }));
}

#[test]
fn line_ends_of_windows_a_byte_order_mark_and_blanks_change_nothing() {
    let expected = read(SIMPLE);
    assert_eq!(read(&SIMPLE.replace('\n', "\r\n")), expected);
    assert_eq!(read(&format!("\u{feff}{SIMPLE}")), expected);
    assert_eq!(read(&format!("\n \r\n{SIMPLE}")), expected);
    assert_eq!(read(&SIMPLE.replace('\n', " \t\n  ")), expected);
    assert_eq!(read(&SIMPLE.replace(":", ": ").replace("https: ", "https:")), expected);
    assert_eq!(read(SIMPLE.trim_end()), expected);
}

#[test]
fn unknown_tags_and_comments_are_ignored() {
    let with = "#EXTM3U\n#EXT-X-CUE-OUT:30\n#EXT\n#EXT:\n#\n#EXTINF:1,\n#EXT-X-NEW:A=\"b\nx\n";
    let without = "#EXTM3U\n#EXTINF:1,\nx\n";
    assert_eq!(read(with), read(without));
}

#[test]
fn a_title_does_not_disturb_a_duration() {
    let pieces = pieces("#EXTINF:2.5 ,A title, with commas: and all\na\n#EXTINF:4,tvg-id=\"x\"\nb");
    let durations: Vec<_> = pieces.iter().map(|p| p.duration.as_millis()).collect();
    assert_eq!(durations, [2500, 4000]);
}

#[test]
fn invalid_durations_name_their_line() {
    for wrong in ["", "-1,channel", "nan,", "inf", "1e300,", "abc", "99999999999,"] {
        assert_malformed(&format!("#EXTINF:{wrong}\na"), 2, "EXTINF has");
    }
}

#[test]
fn uris_are_resolved_against_where_the_playlist_came_from() {
    let told = [
        ("a.ts", "https://example.org/films/one/a.ts"),
        ("../b.ts", "https://example.org/films/b.ts"),
        ("/c.ts?x=1&y=%2F", "https://example.org/c.ts?x=1&y=%2F"),
        ("//other.example/d.ts", "https://other.example/d.ts"),
        ("http://plain.example/e.ts#f", "http://plain.example/e.ts"),
        ("my piece.ts", "https://example.org/films/one/my%20piece.ts"),
        ("naïve/映画.ts", "https://example.org/films/one/na%C3%AFve/%E6%98%A0%E7%94%BB.ts"),
        ("?n=2", "https://example.org/films/one/index.m3u8?n=2"),
    ];
    for (uri, expected) in told {
        assert_eq!(pieces(&format!("#EXTINF:1,\n{uri}"))[0].url.as_str(), expected);
    }
}

#[test]
fn uris_that_are_not_of_http_are_refused() {
    assert_malformed("#EXTINF:1,\nfile:///etc/passwd", 3, "file:");
    assert_malformed("#EXTINF:1,\ndata:video/mp4;base64,AAAA", 3, "data:");
    assert_malformed("#EXT-X-MAP:URI=\"ftp://a/b\"\n#EXTINF:1,\na", 2, "ftp:");
    assert_malformed("#EXTINF:1,\nhttps://", 3, "not usable");
}

#[test]
fn messages_leave_out_the_query_of_a_uri() {
    let (_, message) = malformed("#EXTINF:1,\nhttps://a b/x?token=secret");
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn completeness_comes_from_endlist_or_vod() {
    let is_complete = |tags| track(&format!("#EXTM3U\n{tags}\n#EXTINF:1,\na\n")).is_complete;
    assert!(is_complete("#EXT-X-ENDLIST"));
    assert!(is_complete("#EXT-X-PLAYLIST-TYPE:VOD"));
    assert!(!is_complete("#EXT-X-PLAYLIST-TYPE:EVENT"));
    assert!(!is_complete(""));
}

#[test]
fn only_a_live_playlist_may_be_empty() {
    let live = track("#EXTM3U\n#EXT-X-TARGETDURATION:4\n");
    assert!(live.pieces.is_empty() && !live.is_complete);
    assert_malformed("#EXT-X-TARGETDURATION:4\n#EXT-X-ENDLIST", 0, "no pieces");
    assert_malformed("", 0, "neither pieces nor other playlists");
    assert_eq!(read(""), Err(ManifestError::whole("the playlist is empty")));
}

#[test]
fn each_discontinuity_begins_another_part() {
    let pieces = pieces(
        "#EXTINF:1,\na\n#EXT-X-DISCONTINUITY\n#EXTINF:1,\nb\n#EXTINF:1,\nc\n\
         #EXT-X-DISCONTINUITY\n#EXTINF:1,\nd",
    );
    assert_eq!(pieces.iter().map(|p| p.part).collect::<Vec<_>>(), [0, 1, 1, 2]);
}

#[test]
fn a_gap_is_one_piece_that_needs_no_key_and_no_map() {
    let pieces = pieces(
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXT-X-MAP:URI=\"init\"\n\
         #EXT-X-GAP\n#EXTINF:1,\na\n#EXTINF:1,\nb",
    );
    assert_eq!(roles(&pieces), [(Role::Media, "a"), (Role::Init, "init"), (Role::Media, "b")]);
    assert_eq!(pieces.iter().map(|p| p.is_gap).collect::<Vec<_>>(), [true, false, false]);
    assert!(pieces[0].key.is_none() && pieces[2].key.is_some());
    assert_eq!(pieces.iter().map(|p| p.sequence).collect::<Vec<_>>(), [0, 1, 1]);
}

#[test]
fn byte_ranges_are_half_open_and_follow_each_other() {
    let pieces = pieces(
        "#EXTINF:1,\n#EXT-X-BYTERANGE:100@20\nall\n#EXTINF:1,\n#EXT-X-BYTERANGE:30\nall\n\
         #EXTINF:1,\n#EXT-X-BYTERANGE:5@0\nother\n#EXT-X-BYTERANGE:6\n#EXTINF:1,\nother#x",
    );
    let ranges: Vec<_> = pieces.iter().map(|p| p.range.clone().unwrap()).collect();
    assert_eq!(ranges, [20..120, 120..150, 0..5, 5..11]);
}

#[test]
fn a_range_without_offset_needs_one_of_the_same_resource_before_it() {
    let part = "no offset";
    assert_malformed("#EXTINF:1,\n#EXT-X-BYTERANGE:30\nall", 3, part);
    assert_malformed("#EXTINF:1,\nall\n#EXTINF:1,\n#EXT-X-BYTERANGE:30\nall", 5, part);
    assert_malformed(
        "#EXTINF:1,\n#EXT-X-BYTERANGE:1@0\na\n#EXTINF:1,\n#EXT-X-BYTERANGE:30\nb",
        6,
        part,
    );
    // A map is not a media segment, so its range does not count.
    assert_malformed(
        "#EXT-X-MAP:URI=\"all\",BYTERANGE=\"9@0\"\n#EXTINF:1,\n#EXT-X-BYTERANGE:30\nall",
        4,
        part,
    );
}

#[test]
fn invalid_ranges_name_their_line() {
    for wrong in
        ["", "x", "0@5", "-1@0", "5@", "@5", "18446744073709551615@1", "1@99999999999999999999"]
    {
        let (line, message) = malformed(&format!("#EXTINF:1,\n#EXT-X-BYTERANGE:{wrong}\na"));
        assert_eq!(line, 3, "{message}");
        assert!(message.contains("EXT-X-BYTERANGE"), "{message}");
    }
}

#[test]
fn a_map_comes_once_before_the_media_that_need_it() {
    let pieces = pieces(
        "#EXT-X-MEDIA-SEQUENCE:5\n#EXTINF:1,\na\n#EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"720@10\"\n\
         #EXTINF:2,\nb\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"720@10\"\n\
         #EXTINF:1,\nc\n#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"720\"\n\
         #EXTINF:1,\nd\n#EXT-X-MAP:URI=\"never used\"",
    );
    assert_eq!(
        roles(&pieces),
        [
            (Role::Media, "a"),
            (Role::Init, "init.mp4"),
            (Role::Media, "b"),
            (Role::Media, "c"),
            (Role::Init, "init.mp4"),
            (Role::Media, "d"),
        ]
    );
    let inits: Vec<_> = pieces.iter().filter(|p| p.role == Role::Init).collect();
    assert_eq!((inits[0].range.clone(), inits[0].sequence, inits[0].part), (Some(10..730), 6, 0));
    assert_eq!((inits[1].range.clone(), inits[1].sequence, inits[1].part), (Some(0..720), 8, 2));
    assert!(inits.iter().all(|p| p.duration.is_zero()));
}

#[test]
fn a_map_returns_after_another_one() {
    let piece = |map, name| format!("#EXT-X-MAP:URI=\"{map}\"\n#EXTINF:1,\n{name}\n");
    let text = [piece("i", "a"), piece("j", "b"), piece("i", "c")].concat();
    let names: Vec<_> = roles(&pieces(&text)).iter().map(|(_, name)| name.to_string()).collect();
    assert_eq!(names, ["i", "a", "j", "b", "i", "c"]);
}

#[test]
fn a_map_without_uri_is_malformed() {
    assert_malformed("#EXT-X-MAP:BYTERANGE=\"1@0\"", 2, "no URI");
}

#[test]
fn a_key_with_an_iv_holds_until_the_next_one() {
    let pieces = pieces(
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k1\",IV=0x0102030405060708090A0b0c0d0e0f10\n\
         #EXTINF:1,\na\n#EXTINF:1,\nb\n#EXT-X-KEY:METHOD=AES-128,URI=\"/k2\",IV=0XfF\n\
         #EXTINF:1,\nc\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\nd",
    );
    let key = |n: usize| pieces[n].key.as_ref().map(|key| (key.url.as_str(), key.iv));
    let first = std::array::from_fn(|n| n as u8 + 1);
    assert_eq!(key(0), Some(("https://example.org/films/one/k1", first)));
    assert_eq!(key(1), key(0));
    let second = u128::to_be_bytes(255);
    assert_eq!(key(2), Some(("https://example.org/k2", second)));
    assert_eq!(key(3), None);
}

#[test]
fn without_an_iv_the_sequence_number_is_one_for_map_and_media() {
    let pieces = pieces(
        "#EXT-X-MEDIA-SEQUENCE:258\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\",KEYFORMAT=\"identity\"\n\
         #EXT-X-MAP:URI=\"init\"\n#EXTINF:1,\na\n#EXTINF:1,\nb",
    );
    let ivs: Vec<_> =
        pieces.iter().map(|p| u128::from_be_bytes(p.key.as_ref().unwrap().iv)).collect();
    assert_eq!(ivs, [258, 258, 259]);
}

#[test]
fn a_map_before_the_key_is_not_encrypted() {
    let pieces =
        pieces("#EXT-X-MAP:URI=\"init\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:1,\na");
    assert!(pieces[0].key.is_none() && pieces[1].key.is_some());
}

#[test]
fn a_map_repeated_under_another_key_comes_again() {
    let lines =
        "#EXT-X-KEY:METHOD=AES-128,URI=\"k1\",IV=0x1\n#EXT-X-MAP:URI=\"i\"\n#EXTINF:1,\na\n";
    let rotated = lines.replace("k1", "k2");
    assert_eq!(pieces(&[lines, &rotated].concat()).len(), 4);
    assert_eq!(pieces(&[lines, lines].concat()).len(), 3);
}

#[test]
fn a_key_may_be_a_data_url() {
    let pieces = pieces("#EXT-X-KEY:METHOD=AES-128,URI=\"data:;base64,AAAA\"\n#EXTINF:1,\na");
    assert_eq!(pieces[0].key.as_ref().unwrap().url.as_str(), "data:;base64,AAAA");
}

#[test]
fn invalid_keys_name_their_line() {
    let line = |attributes: &str| format!("#EXT-X-KEY:{attributes}\n#EXTINF:1,\na");
    assert_malformed(&line("METHOD=AES-128"), 2, "no URI");
    assert_malformed(&line("METHOD=AES-128,URI=\"\""), 2, "no URI");
    assert_malformed(&line("URI=\"k\""), 2, "no METHOD");
    assert_malformed(&line("METHOD=ROT-13,URI=\"k\""), 2, "ROT-13");
    assert_malformed(&line("METHOD=AES-128,URI=\"file:///k\""), 2, "file:");
    for iv in ["12", "0x", "0x+1", "0x123456789012345678901234567890123", "0xg"] {
        assert_malformed(&line(&format!("METHOD=AES-128,URI=\"k\",IV={iv}")), 2, "IV");
    }
}

#[test]
fn attributes_may_have_blanks_or_lack_quotes() {
    for attributes in [
        "METHOD=AES-128, URI=\"k\" ,IV=0x1,",
        "METHOD = AES-128,URI= k ,IV=\"0x1\"",
        "IV=0x1,X-NEW=\"a,b=c\",URI=k,METHOD=\"AES-128\"",
    ] {
        let pieces = pieces(&format!("#EXT-X-KEY:{attributes}\n#EXTINF:1,\na"));
        let key = pieces[0].key.as_ref().unwrap();
        assert!(key.url.path().ends_with("/k"), "{attributes}");
        assert_eq!(key.iv, u128::to_be_bytes(1));
    }
}

#[test]
fn invalid_attribute_lists_name_their_line() {
    let line = |attributes| format!("#EXT-X-KEY:{attributes}");
    assert_malformed(&line("METHOD=AES-128,URI=\"k"), 2, "no end of the quote of URI");
    assert_malformed(&line("METHOD"), 2, "\"METHOD\" without a value");
    assert_malformed(&line("METHOD=\"NONE\"x"), 2, "after a quote");
}

#[test]
fn a_drm_system_is_called_by_its_name() {
    let system = |attributes: &str| {
        protected_by(&format!("#EXT-X-KEY:{attributes}\n#EXTINF:1,\na\n#EXT-X-ENDLIST"))
    };
    let format = |format: &str| {
        system(&format!("METHOD=SAMPLE-AES-CTR,URI=\"data:,x\",KEYFORMAT=\"{format}\""))
    };
    assert_eq!(format("com.apple.streamingkeydelivery"), "FairPlay");
    assert_eq!(format("urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"), "Widevine");
    assert_eq!(format("urn:uuid:EDEF8BA9-79D6-4ACE-A3C8-27DCD51D21ED"), "Widevine");
    assert_eq!(format("com.widevine"), "Widevine");
    assert_eq!(format("com.microsoft.playready"), "PlayReady");
    assert_eq!(format("urn:uuid:9a04f079-9840-4286-ab92-e65be0885f95"), "PlayReady");
    assert_eq!(format("org.example.own"), "\"org.example.own\"");
    assert_eq!(system("METHOD=SAMPLE-AES,URI=\"k\""), "SAMPLE-AES");
    assert_eq!(system("METHOD=SAMPLE-AES,URI=\"k\",KEYFORMAT=\"identity\""), "SAMPLE-AES");
    assert_eq!(system("METHOD=AES-128,URI=\"SKD://a\""), "FairPlay");
    assert_eq!(system("METHOD=AES-128,URI=\"k\",KEYFORMAT=\"com.widevine\""), "Widevine");
}

const FAIRPLAY: &str =
    "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://a\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n";
const PLAIN: &str = "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n";
const PIECE: &str = "#EXTINF:1,\na\n";

#[test]
fn one_usable_key_at_a_place_is_enough() {
    for keys in [[FAIRPLAY, PLAIN], [PLAIN, FAIRPLAY]] {
        assert!(pieces(&(keys.concat() + PIECE))[0].key.is_some(), "{keys:?}");
    }
}

#[test]
fn a_key_of_another_place_does_not_help() {
    assert_eq!(protected_by(&[PLAIN, PIECE, FAIRPLAY, PIECE].concat()), "FairPlay");
    assert_eq!(protected_by(&["#EXT-X-KEY:METHOD=NONE\n", FAIRPLAY, PIECE].concat()), "FairPlay");
}

#[test]
fn drm_that_no_piece_needs_does_no_harm() {
    assert_eq!(pieces(&[PIECE, FAIRPLAY].concat()).len(), 1);
    assert_eq!(pieces(&[FAIRPLAY, "#EXT-X-KEY:METHOD=NONE\n", PIECE].concat()).len(), 1);
}

#[test]
fn drm_is_told_before_a_live_playlist_has_pieces() {
    assert_eq!(protected_by(FAIRPLAY), "FairPlay");
}

#[test]
fn sequence_numbers_do_not_overflow() {
    let last = format!("#EXT-X-MEDIA-SEQUENCE:{}\n{PIECE}", u64::MAX);
    assert_eq!(pieces(&last)[0].sequence, u64::MAX);
    assert_malformed(&[&last, PIECE].concat(), 6, "media sequence");
    assert_malformed("#EXT-X-MEDIA-SEQUENCE:18446744073709551616", 2, "EXT-X-MEDIA-SEQUENCE has");
    assert_malformed(&[PIECE, "#EXT-X-MEDIA-SEQUENCE:4"].concat(), 4, "after the first piece");
}

#[test]
fn pieces_and_their_tags_belong_together() {
    assert_malformed("#EXT-X-TARGETDURATION:4\na.ts", 3, "neither EXTINF");
    assert_malformed("#EXTINF:1,\n#EXTINF:2,\na", 2, "EXTINF has no URI");
    assert_malformed("#EXTINF:1,\na\n#EXTINF:2,\n#EXT-X-ENDLIST", 4, "EXTINF has no URI");
}

#[test]
fn low_latency_parts_are_ignored_but_not_delta_updates() {
    let pieces = pieces(
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-PART-INF:PART-TARGET=0.33\n\
         #EXT-X-PART:DURATION=0.33,URI=\"a.1\"\n#EXT-X-PART:DURATION=0.33,URI=\"a.2\"\n\
         #EXTINF:0.66,\na\n#EXT-X-PART:DURATION=0.33,URI=\"b.1\"\n\
         #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"b.2\"\n#EXT-X-RENDITION-REPORT:URI=\"../x\"",
    );
    assert_eq!(roles(&pieces), [(Role::Media, "a")]);
    assert_malformed("#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXTINF:1,\na", 2, "EXT-X-SKIP");
}

#[test]
fn key_frames_alone_are_no_film() {
    assert_malformed("#EXT-X-I-FRAMES-ONLY\n#EXTINF:1,\na", 2, "no moving pictures");
}

#[test]
fn text_that_is_no_playlist_is_quoted() {
    let message = |text| read(text).unwrap_err().to_string();
    let page = message("\n<!DOCTYPE html>\n<html>");
    assert_eq!(
        page,
        "line 2: this is a web page, not a playlist: it begins with \"<!DOCTYPE html>\""
    );
    assert!(message("<HTML lang=en>").contains("web page"));
    assert!(message("{\"error\": 1}").contains(r#"begins with "{\"error\": 1}""#));
    assert!(message("#EXTINF:1,\na").contains("#EXTINF"));
    assert!(message(&"é".repeat(1000)).len() < 250);
}

const MASTER: &str = r#"
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="English",LANGUAGE="en",DEFAULT=YES,URI="en.m3u8"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="aac",NAME="Deutsch",LANGUAGE="de",URI="de.m3u8?t=1"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="muxed",NAME="English",DEFAULT=YES
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="subs",NAME="Français",LANGUAGE="fr",URI="fr.m3u8"
#EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID="cc",NAME="CC",INSTREAM-ID="CC1"
#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="angles",NAME="Left",URI="left.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=1280000,RESOLUTION=640x360,CODECS="avc1.4d401e,mp4a.40.2",AUDIO="aac",SUBTITLES="subs"

low.m3u8?token=x#y
#EXT-X-STREAM-INF:PROGRAM-ID=1, BANDWIDTH=2560000
# a comment between
https://cdn.example/high.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="iframes.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=65000,CODECS="mp4a.40.5"
audio.m3u8"#;

#[test]
fn a_master_playlist_names_renditions_in_its_order() {
    let told = renditions(MASTER);
    let playlist =
        |name: &str| Source::Playlist(url(&format!("https://example.org/films/one/{name}")));
    let id = |kind, name| format!("{kind} https://example.org/films/one/{name}");
    let audio = |name: &str| Rendition {
        group: Some("aac".to_owned()),
        name: Some(name.to_owned()),
        ..Rendition::new(String::new(), Kind::Audio, Source::WithinVideo)
    };
    let expected = [
        Rendition {
            id: id("audio", "en.m3u8"),
            language: Some("en".to_owned()),
            is_default: true,
            source: playlist("en.m3u8"),
            ..audio("English")
        },
        Rendition {
            id: id("audio", "de.m3u8"),
            language: Some("de".to_owned()),
            source: playlist("de.m3u8?t=1"),
            ..audio("Deutsch")
        },
        Rendition {
            id: "audio muxed \"English\"".to_owned(),
            group: Some("muxed".to_owned()),
            is_default: true,
            ..audio("English")
        },
        Rendition {
            name: Some("Français".to_owned()),
            language: Some("fr".to_owned()),
            group: Some("subs".to_owned()),
            ..Rendition::new(id("subtitles", "fr.m3u8"), Kind::Subtitles, playlist("fr.m3u8"))
        },
        Rendition {
            bandwidth: Some(1_280_000),
            resolution: Some((640, 360)),
            codecs: Some("avc1.4d401e,mp4a.40.2".to_owned()),
            audio_group: Some("aac".to_owned()),
            subtitles_group: Some("subs".to_owned()),
            ..Rendition::new(id("video", "low.m3u8"), Kind::Video, playlist("low.m3u8?token=x"))
        },
        Rendition {
            bandwidth: Some(2_560_000),
            ..Rendition::new(
                "video https://cdn.example/high.m3u8".to_owned(),
                Kind::Video,
                Source::Playlist(url("https://cdn.example/high.m3u8")),
            )
        },
        Rendition {
            bandwidth: Some(65_000),
            codecs: Some("mp4a.40.5".to_owned()),
            ..Rendition::new(id("audio", "audio.m3u8"), Kind::Audio, playlist("audio.m3u8"))
        },
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_variant_is_sound_only_if_nothing_says_otherwise() {
    let kind =
        |attributes| renditions(&format!("#EXT-X-STREAM-INF:BANDWIDTH=1{attributes}\na"))[0].kind;
    assert_eq!(kind(",CODECS=\"ec-3, fLaC,Opus\""), Kind::Audio);
    assert_eq!(kind(",CODECS=\"mp4a.40.2,wvtt\""), Kind::Audio);
    assert_eq!(kind(",CODECS=\"mp4a.40.2\",RESOLUTION=1x1"), Kind::Video);
    assert_eq!(kind(",CODECS=\"mp4a.40.2,vvc1\""), Kind::Video);
    assert_eq!(kind(",CODECS=\"wvtt\""), Kind::Video);
    assert_eq!(kind(""), Kind::Video);
}

#[test]
fn equal_ids_are_numbered() {
    let told = renditions(
        "#EXT-X-STREAM-INF:BANDWIDTH=1\na?q=1\n#EXT-X-STREAM-INF:BANDWIDTH=2\na?q=2\n\
         #EXT-X-STREAM-INF:BANDWIDTH=3\na",
    );
    let ids: Vec<_> = told.iter().map(|r| r.id.as_str()).collect();
    let first = "video https://example.org/films/one/a";
    assert_eq!(ids, [first.to_owned(), format!("{first} 2"), format!("{first} 3")]);
}

#[test]
fn a_variant_without_uri_names_its_line() {
    let variant = "#EXT-X-STREAM-INF:BANDWIDTH=1\n";
    assert_malformed(variant, 2, "no URI after it");
    assert_malformed(&[variant, variant, "a"].concat(), 2, "no URI after it");
    assert_malformed(&[variant, "a\nb"].concat(), 4, "nor EXT-X-STREAM-INF");
}

#[test]
fn faults_of_a_master_playlist_name_their_line() {
    let media = |attributes| format!("#EXT-X-MEDIA:{attributes}");
    assert_malformed(&media("TYPE=SUBTITLES,GROUP-ID=\"s\",NAME=\"n\""), 2, "no URI");
    assert_malformed(&media("TYPE=AUDIO,NAME=\"n\""), 2, "no GROUP-ID");
    assert_malformed(&media("GROUP-ID=\"s\",NAME=\"n\""), 2, "no TYPE");
    let variant = |attributes| format!("#EXT-X-STREAM-INF:{attributes}\na");
    assert_malformed(&variant("BANDWIDTH=99999999999999999999"), 2, "whole number");
    assert_malformed(&variant("RESOLUTION=640"), 2, "width x height");
    assert_malformed(&variant("RESOLUTION=640x99999999999"), 2, "whole number");
    assert_malformed("#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i\"", 0, "no other playlists");
}

#[test]
fn tags_of_both_levels_do_not_mix() {
    assert_malformed("#EXT-X-TARGETDURATION:4\n#EXT-X-STREAM-INF:BANDWIDTH=1\na", 3, "master");
    assert_malformed("#EXT-X-STREAM-INF:BANDWIDTH=1\na\n#EXTINF:1,\nb", 4, "media");
}

#[test]
fn session_keys_of_drm_protect_a_master_playlist() {
    let variant = "#EXT-X-STREAM-INF:BANDWIDTH=1\na\n";
    let fairplay = FAIRPLAY.replace("X-KEY", "X-SESSION-KEY");
    let plain = PLAIN.replace("X-KEY", "X-SESSION-KEY");
    assert_eq!(protected_by(&[&fairplay, variant].concat()), "FairPlay");
    assert_eq!(renditions(&[&plain, variant].concat()).len(), 1);
    assert_eq!(renditions(&[&fairplay, &plain, variant].concat()).len(), 1);
}

#[test]
fn variables_are_expanded_in_uris_and_attributes() {
    let told = renditions(
        "#EXT-X-DEFINE:NAME=\"host\",VALUE=\"https://cdn.example\"\n\
         #EXT-X-DEFINE:NAME=\"path\",VALUE=\"{$host}/v_1\"\n#EXT-X-DEFINE:QUERYPARAM=\"token\"\n\
         #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"{$path\",URI=\"{$path}/a\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=1\n{$path}/v?t={$token}&x={$token}{}",
    );
    let Source::Playlist(sound) = &told[0].source else { panic!() };
    let Source::Playlist(video) = &told[1].source else { panic!() };
    assert_eq!(sound.as_str(), "https://cdn.example/v_1/a");
    assert_eq!(video.as_str(), "https://cdn.example/v_1/v?t=abc&x=abc{}");
    assert_eq!(told[0].name.as_deref(), Some("{$path"));
}

#[test]
fn a_query_parameter_keeps_its_plus_and_loses_its_percent() {
    let base = url("https://a.example/b?x=1&sig=a+b%2Fc%3D");
    let text = "#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM=\"sig\"\n#EXTINF:1,\nc?s={$sig}\n";
    let film = parse(text, &base).unwrap();
    let Source::Track(track) = &film.renditions[0].source else { panic!() };
    assert_eq!(track.pieces[0].url.as_str(), "https://a.example/c?s=a+b/c=");
}

#[test]
fn a_playlist_imports_what_the_one_that_led_to_it_defines() {
    let master = "#EXTM3U\n#EXT-X-DEFINE:NAME=\"cdn\",VALUE=\"https://cdn.example\"\n\
                  #EXT-X-DEFINE:QUERYPARAM=\"token\"\n\
                  #EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n";
    let base = url("https://a.example/b?token=s3cret");
    let master = parse(master, &base).unwrap();
    let text = "#EXTM3U\n#EXT-X-DEFINE:IMPORT=\"cdn\"\n#EXT-X-DEFINE:IMPORT=\"token\"\n\
                #EXTINF:1,\n{$cdn}/c?t={$token}\n";
    let film = parse_importing(text, &base, &master.variables).unwrap();
    let Source::Track(track) = &film.renditions[0].source else { panic!() };
    assert_eq!(track.pieces[0].url.as_str(), "https://cdn.example/c?t=s3cret");
    assert!(film.variables.is_empty(), "they go no further");
}

#[test]
fn faults_of_variables_name_their_line() {
    assert_malformed("#EXTINF:1,\n{$x}", 3, "\"x\" is not defined");
    assert_malformed("#EXT-X-DEFINE:IMPORT=\"x\"", 2, "imports \"x\"");
    assert_malformed("#EXT-X-DEFINE:QUERYPARAM=\"nope\"", 2, "\"nope\"");
    assert_malformed("#EXT-X-DEFINE:NAME=\"x\"", 2, "no VALUE");
    assert_malformed("#EXT-X-DEFINE:VALUE=\"x\"", 2, "no NAME");
    let define = "#EXT-X-DEFINE:NAME=\"x\",VALUE=\"\"\n";
    assert_malformed(&[define, define].concat(), 3, "again");
}

#[test]
fn variables_cannot_make_a_small_playlist_huge() {
    let mut text = "#EXT-X-DEFINE:NAME=\"a0\",VALUE=\"0123456789\"\n".to_owned();
    for n in 1..64 {
        let double = format!("{{$a{0}}}{{$a{0}}}", n - 1);
        text += &format!("#EXT-X-DEFINE:NAME=\"a{n}\",VALUE=\"{double}\"\n");
    }
    assert_malformed(&text, 15, "more than 65536 bytes");
}

#[test]
fn a_long_key_uri_cannot_be_repeated_without_end() {
    let key = format!("#EXT-X-KEY:METHOD=AES-128,URI=\"data:,{}\"\n", "k".repeat(16 << 20));
    assert_malformed(&(key + &PIECE.repeat(20)), 34, "more than 256 MiB");
}

#[test]
fn there_are_at_most_a_million_pieces() {
    let (line, message) = malformed(&PIECE.repeat(MAX_PIECES + 1));
    assert_eq!(line, 2 * MAX_PIECES + 3);
    assert!(message.contains("more than 1000000 pieces"), "{message}");
}

/// A generator of numbers that is the same in each run (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

#[test]
fn no_text_makes_it_panic() {
    const BITS: [&str; 24] = [
        "\"",
        ",",
        "=",
        ":",
        "@",
        "#",
        "\n",
        "\r",
        " ",
        "{$x}",
        "{$",
        "}",
        "0x",
        "-1",
        "é",
        "\u{feff}",
        "18446744073709551615",
        "1e308",
        "#EXT",
        "#EXTINF:1,\na\n",
        "URI=",
        "skd:",
        "//",
        "\0",
    ];
    let keys = [FAIRPLAY, PLAIN, "#EXT-X-MAP:URI=\"i\",BYTERANGE=\"5@6\"\n", PIECE].concat();
    let seeds = [
        SIMPLE.to_owned(),
        format!("#EXTM3U{MASTER}"),
        format!("#EXTM3U\n#EXT-X-DEFINE:NAME=\"x\",VALUE=\"y\"\n{keys}#EXT-X-BYTERANGE:7\n{PIECE}"),
    ];
    let base = url(BASE);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let mut text: Vec<char> = seeds[random.below(seeds.len())].chars().collect();
        for _ in 0..=random.below(6) {
            let at = random.below(text.len().max(1)).min(text.len());
            let end = (at + random.below(12)).min(text.len());
            match random.below(3) {
                0 => drop(text.drain(at..end)),
                1 => drop(text.splice(at..end, BITS[random.below(BITS.len())].chars())),
                _ => {
                    let again = text[at..end].to_vec();
                    text.splice(at..at, again);
                }
            }
        }
        let text: String = text.into_iter().collect();
        let _ = parse(&text, &base);
    }
}
