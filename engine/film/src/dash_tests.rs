use std::time::Duration;

use super::*;
use crate::model::{Kind, Piece, Rendition, Role, Source, Track};

const ADDRESS: &str = "https://a.test/films/index.mpd?token=1#t=5";

fn parsed(text: &str) -> Result<Film, ManifestError> {
    parse(text, &Url::parse(ADDRESS).unwrap())
}

/// An MPD with these attributes and this content, which begins at line 2.
fn mpd(attributes: &str, content: &str) -> String {
    format!("<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" {attributes}>\n{content}</MPD>")
}

/// A film of one period with one video representation `v` that contains `segments`, at line 2.
fn one(segments: &str) -> String {
    mpd(
        "mediaPresentationDuration='PT40.0S'",
        &format!(
            "<Period><AdaptationSet contentType='video'>\
             <Representation id='v' bandwidth='900000'>{segments}</Representation>\
             </AdaptationSet></Period>"
        ),
    )
}

fn track(rendition: &Rendition) -> &Track {
    match &rendition.source {
        Source::Track(track) => track,
        other => panic!("{other:?} is not a track"),
    }
}

fn only(text: &str) -> Vec<Piece> {
    let film = parsed(text).unwrap();
    assert_eq!(film.renditions.len(), 1);
    track(&film.renditions[0]).pieces.clone()
}

/// Addresses without what most tests have in common, with the ranges.
fn places(pieces: &[Piece]) -> Vec<String> {
    pieces
        .iter()
        .map(|piece| {
            let url = piece.url.as_str().replace("https://a.test/films/", "");
            piece.range.as_ref().map_or(url.clone(), |range| format!("{url} {range:?}"))
        })
        .collect()
}

fn durations(pieces: &[Piece]) -> Vec<f64> {
    let media = pieces.iter().filter(|piece| piece.role == Role::Media);
    media.map(|piece| piece.duration.as_secs_f64()).collect()
}

fn failure(text: &str) -> String {
    parsed(text).unwrap_err().to_string()
}

#[track_caller]
fn assert_fails(text: &str, message: &str) {
    let failure = failure(text);
    assert!(failure.contains(message), "{failure}");
}

#[test]
fn a_template_with_a_duration_has_as_many_pieces_as_the_period_takes() {
    let pieces =
        only(&one("<SegmentTemplate timescale='1000000' duration='2000000' startNumber='7' \
         initialization='init-$RepresentationID$.mp4' \
         media='$RepresentationID$-$Bandwidth$-$Number%05d$$$.m4s'/>"));
    assert_eq!(pieces.len(), 21);
    assert_eq!(places(&pieces)[..2], ["init-v.mp4", "v-900000-00007$.m4s"]);
    assert_eq!(places(&pieces)[20], "v-900000-00026$.m4s");
    assert_eq!((pieces[0].role, pieces[0].sequence), (Role::Init, 0));
    assert_eq!((pieces[1].role, pieces[1].sequence), (Role::Media, 0));
    assert_eq!((pieces[20].role, pieces[20].sequence), (Role::Media, 19));
    assert!(pieces.iter().all(|piece| piece.part == 0 && piece.key.is_none() && !piece.is_gap));
}

#[test]
fn a_rounded_duration_does_not_add_a_piece() {
    // 20 pieces of 96256 / 48000 s are 40.10666… s.
    let film = |duration: &str, ticks: u64| {
        one(&format!("<SegmentTemplate timescale='48000' duration='{ticks}' media='$Number$'/>"))
            .replace("PT40.0S", duration)
    };
    assert_eq!(only(&film("PT40.107S", 96256)).len(), 20);
    assert_eq!(only(&film("PT0H0M40.1S", 96256)).len(), 20);
    assert_eq!(only(&film("PT40.2S", 96256)).len(), 21);
    assert_eq!(only(&film("PT40.0S", 96000)).len(), 20);
    let short = only(&film("PT5S", 96000));
    assert_eq!(durations(&short), [2.0, 2.0, 1.0]);
}

#[test]
fn an_end_number_counts_without_a_duration_of_the_period() {
    let text =
        one("<SegmentTemplate duration='2' startNumber='0' endNumber='2' media='$Number$'/>")
            .replace("mediaPresentationDuration='PT40.0S'", "");
    assert_eq!(places(&only(&text)), ["0", "1", "2"]);
    assert_fails(
        &text.replace("endNumber='2'", ""),
        "line 2: SegmentTemplate: the number of pieces is unknown",
    );
    assert_fails(&text.replace("startNumber='0'", "startNumber='3'"), "is before 3");
}

#[test]
fn a_template_without_a_duration_is_one_piece_if_its_address_says_so() {
    let pieces = only(&one("<SegmentTemplate media='all.vtt'/>"));
    assert_eq!(places(&pieces), ["all.vtt"]);
    assert_eq!(durations(&pieces), [40.0]);
    assert_fails(&one("<SegmentTemplate media='$Number$'/>"), "neither a duration nor");
    assert_fails(&one("<SegmentTemplate duration='2' media='a'/>"), "one address for 20 pieces");
}

#[test]
fn a_timeline_tells_times_and_repetitions() {
    let pieces = only(&one(
        "<SegmentTemplate timescale='10' media='$Time$-$Number$'><SegmentTimeline>\
         <S t='100' d='20' r='2'/><S d='15'/><S t='200' d='20'/></SegmentTimeline></SegmentTemplate>",
    ));
    assert_eq!(places(&pieces), ["100-1", "120-2", "140-3", "160-4", "200-5"]);
    assert_eq!(durations(&pieces), [2.0, 2.0, 2.0, 1.5, 2.0]);
}

#[test]
fn a_negative_repetition_lasts_until_the_next_time_or_the_end_of_the_period() {
    let pieces =
        only(&one("<SegmentTemplate timescale='10' presentationTimeOffset='1000' media='$Time$'>\
         <SegmentTimeline><S t='1000' d='20' r='-1'/><S t='1060' d='110' r='-1'/>\
         </SegmentTimeline></SegmentTemplate>"));
    assert_eq!(places(&pieces), ["1000", "1020", "1040", "1060", "1170", "1280", "1390"]);
}

#[test]
fn attributes_of_a_template_are_inherited_one_by_one() {
    let text = mpd(
        "",
        "<Period duration='PT4S'><SegmentTemplate timescale='10' duration='20' media='p$Number$'/>\
         <AdaptationSet mimeType='video/mp4' codecs='avc1.1' width='640' height='360'>\
         <SegmentTemplate startNumber='5' initialization='i'/>\
         <Representation id='a'><SegmentTemplate media='r$Number$'/></Representation>\
         <Representation id='b' height='180' width='320' codecs='avc1.2'/>\
         </AdaptationSet></Period>",
    );
    let film = parsed(&text).unwrap();
    let [a, b] = &film.renditions[..] else { panic!("{film:?}") };
    assert_eq!(places(&track(a).pieces), ["i", "r5", "r6"]);
    assert_eq!(places(&track(b).pieces), ["i", "p5", "p6"]);
    assert_eq!((a.resolution, b.resolution), (Some((640, 360)), Some((320, 180))));
    assert_eq!((a.codecs.as_deref(), b.codecs.as_deref()), (Some("avc1.1"), Some("avc1.2")));
    assert_eq!(track(a).target_duration, Some(Duration::from_secs(2)));
    assert!(track(a).is_complete);
}

#[test]
fn a_list_names_objects_or_ranges_of_one() {
    let pieces = only(&one("<SegmentList duration='30'><Initialization sourceURL='i.mp4'/>\
         <SegmentURL media='1.m4s'/><SegmentURL media='2.m4s'/></SegmentList>"));
    assert_eq!(places(&pieces), ["i.mp4", "1.m4s", "2.m4s"]);
    assert_eq!(durations(&pieces), [30.0, 10.0]);
    let pieces = only(&one(
        "<BaseURL>v.mp4</BaseURL><SegmentList timescale='2'><Initialization range='0-99'/>\
         <SegmentTimeline><S d='2' r='1'/></SegmentTimeline>\
         <SegmentURL mediaRange='100-199'/><SegmentURL mediaRange='200-200'/></SegmentList>",
    ));
    assert_eq!(places(&pieces), ["v.mp4 0..100", "v.mp4 100..200", "v.mp4 200..201"]);
    assert_eq!(durations(&pieces), [1.0, 1.0]);
}

#[test]
fn faulty_ranges_are_refused() {
    for range in ["5-4", "5-", "-5", "5", "a-b", "1-18446744073709551615", "0-1,3-4"] {
        let list =
            format!("<SegmentList>\n<SegmentURL media='a' mediaRange='{range}'/></SegmentList>");
        assert_fails(&one(&list), &format!("line 3: SegmentURL: mediaRange {range:?} is not a"));
    }
}

#[test]
fn an_object_with_an_index_is_one_piece() {
    for segments in [
        "<BaseURL>v.mp4</BaseURL>",
        "<BaseURL>v.mp4</BaseURL><SegmentBase indexRange='9-20'><Initialization range='0-8'/></SegmentBase>",
    ] {
        let pieces = only(&one(segments));
        assert_eq!(places(&pieces), ["v.mp4"]);
        assert_eq!((pieces[0].role, pieces[0].sequence), (Role::Media, 0));
        assert_eq!(durations(&pieces), [40.0]);
    }
    let apart =
        "<BaseURL>v.mp4</BaseURL><SegmentBase><Initialization sourceURL='i.mp4'/></SegmentBase>";
    assert_eq!(places(&only(&one(apart))), ["i.mp4", "v.mp4"]);
}

#[test]
fn a_representation_that_names_no_object_is_refused() {
    assert_fails(&one(""), "line 2: Representation: it has no address for its media");
    assert_fails(&one("<BaseURL>video/</BaseURL>"), "it has no address for its media");
}

#[test]
fn base_addresses_are_joined_and_the_others_are_mirrors() {
    let text = mpd(
        "",
        "<BaseURL>https://one.test/x/</BaseURL><BaseURL>https://two.test/</BaseURL>\
         <Period><BaseURL>p/</BaseURL><AdaptationSet mimeType='text/vtt' lang='en'>\
         <BaseURL>../s/</BaseURL><Representation id='t'><BaseURL>en.vtt#x</BaseURL></Representation>\
         </AdaptationSet></Period>",
    );
    let pieces = only(&text);
    assert_eq!(pieces[0].url.as_str(), "https://one.test/x/s/en.vtt");
    assert_eq!(pieces[0].mirrors, [Url::parse("https://two.test/s/en.vtt").unwrap()]);
}

#[test]
fn mirrors_are_limited_however_the_levels_multiply() {
    let level = |name: &str| -> String {
        (0..9).map(|i| format!("<BaseURL>https://{name}{i}.test/</BaseURL>")).collect()
    };
    let text = one(&format!("{}<SegmentTemplate duration='20' media='$Number$'/>", level("b")))
        .replace("<Period>", &format!("<Period>{}", level("a")));
    let pieces = only(&text);
    assert!(pieces.iter().all(|piece| piece.mirrors.len() == 8));
    assert_eq!(pieces[0].url.as_str(), "https://b0.test/1");
}

#[test]
fn only_http_addresses_are_taken() {
    assert_fails(
        &one("<BaseURL>ftp://a.test/v.mp4</BaseURL>"),
        "line 2: BaseURL: \"ftp://a.test/v.mp4\" is not an http or https address",
    );
    assert_fails(&one("<SegmentTemplate media='file:///etc/$RepresentationID$'/>"), "not an http");
    let error = parse(&one("<BaseURL>v</BaseURL>"), &Url::parse("data:,x").unwrap());
    assert!(error.unwrap_err().to_string().contains("not an http or https address"));
}

#[test]
fn patterns_are_checked() {
    for (pattern, message) in [
        ("$Number", "a $ is left over"),
        ("$Nomber$", "\"$Nomber$\" is not known"),
        ("$Number%x$", "a format other than %0Nd"),
        ("$Number%0999d$", "a format other than %0Nd"),
    ] {
        assert_fails(&one(&format!("<SegmentTemplate duration='2' media='{pattern}'/>")), message);
    }
    assert_fails(
        &one("<SegmentTemplate duration='2' media='$Number$' initialization='$Time$'/>"),
        "the initialization \"$Time$\" is not one address",
    );
}

/// A period in which each of these has ten seconds: an id, the attributes of its set, its own.
fn period(representations: &[(&str, &str, &str)]) -> String {
    let sets: String = representations
        .iter()
        .map(|(id, set, own)| {
            format!(
                "<AdaptationSet {set}><Representation id='{id}' {own}>\
                 <SegmentTemplate duration='5' initialization='i' media='{id}-$Number$'/>\
                 </Representation></AdaptationSet>"
            )
        })
        .collect();
    format!("<Period duration='PT10S'>{sets}</Period>")
}

#[test]
fn periods_are_parts_of_one_track() {
    let one = period(&[("v", "contentType='video'", "")]);
    let pieces = only(&mpd("", &format!("{one}{one}")));
    assert_eq!(places(&pieces), ["i", "v-1", "v-2", "i", "v-1", "v-2"]);
    let numbers: Vec<_> = pieces.iter().map(|piece| (piece.part, piece.sequence)).collect();
    assert_eq!(numbers, [(0, 0), (0, 0), (0, 1), (1, 2), (1, 2), (1, 3)]);
}

#[test]
fn representations_continue_by_id_or_by_likeness() {
    let video = "contentType='video'";
    let first = period(&[
        ("low", video, "height='360' width='640' bandwidth='1'"),
        ("high", video, "height='720' width='1280' bandwidth='9'"),
        ("en", "contentType='audio' lang='en'", ""),
    ]);
    let second = period(&[
        ("fr", "contentType='audio' lang='fr'", ""),
        ("english", "contentType='audio' lang='EN'", ""),
        ("high", video, "height='360' width='640' bandwidth='2'"),
        ("x", video, "height='240' width='320' bandwidth='1'"),
    ]);
    let film = parsed(&mpd("", &format!("{first}{second}"))).unwrap();
    let ends: Vec<_> = (film.renditions.iter())
        .map(|of| (of.id.as_str(), places(&track(of).pieces).pop().unwrap()))
        .collect();
    let expected = [("low", "high-2"), ("high", "high-2"), ("en", "english-2"), ("fr", "fr-2")];
    assert_eq!(ends, expected.map(|(id, end)| (id, end.to_owned())));
}

#[test]
fn a_short_period_does_not_decide_what_there_is_to_choose_from() {
    let advertisement = period(&[("ad", "contentType='video'", "")]).replace("PT10S", "PT5S");
    let film = period(&[
        ("a", "contentType='video'", ""),
        ("b", "contentType='video'", ""),
        ("t", "contentType='text' lang='en'", ""),
    ]);
    let film = parsed(&mpd("", &format!("{advertisement}{film}"))).unwrap();
    let [a, b, t] = &film.renditions[..] else { panic!("{film:?}") };
    assert_eq!(places(&track(a).pieces), ["i", "ad-1", "i", "a-1", "a-2"]);
    assert_eq!(places(&track(b).pieces), ["i", "ad-1", "i", "b-1", "b-2"]);
    let parts: Vec<_> = track(t).pieces.iter().map(|piece| (piece.part, piece.sequence)).collect();
    assert_eq!(parts, [(1, 0), (1, 0), (1, 1)]);
}

#[test]
fn a_period_lasts_until_the_next_one_or_the_end_of_the_film() {
    let text = mpd(
        "mediaPresentationDuration='P0DT1M'",
        &["start='PT0S'", "start='PT20S' duration='PT10S'", ""]
            .map(|times| {
                format!(
                    "<Period {times}><AdaptationSet contentType='video'><Representation id='v'>\
                     <SegmentTemplate duration='5' media='$Number$'/>\
                     </Representation></AdaptationSet></Period>"
                )
            })
            .concat(),
    );
    let pieces = only(&text);
    let in_part = |part: u32| pieces.iter().filter(|piece| piece.part == part).count();
    assert_eq!([0, 1, 2].map(in_part), [4, 2, 6]);
    assert_fails(&text.replace("P0DT1M", "PT25S"), "it ends before it starts");
    assert_fails(&text.replace("P0DT1M", "1M"), "line 1: MPD: mediaPresentationDuration \"1M\"");
}

#[test]
fn periods_that_are_parts_of_one_object_are_refused() {
    let period = "<Period><AdaptationSet contentType='video'><Representation id='v'>\
                  <BaseURL>v.mp4</BaseURL></Representation></AdaptationSet></Period>";
    assert_fails(
        &mpd("", &format!("{period}\n{period}")),
        "line 3: Representation: another period uses the same object",
    );
}

#[test]
fn elements_of_other_documents_are_refused() {
    let text = |href: &str| {
        mpd(
            "xmlns:xlink='http://www.w3.org/1999/xlink'",
            &format!(
                "\n<Period xlink:href='{href}'/>{}",
                period(&[("v", "contentType='video'", "")])
            ),
        )
    };
    assert_fails(&text("https://a.test/ad"), "line 3: Period: it is in another document");
    assert_eq!(only(&text("urn:mpeg:dash:resolve-to-zero:2013")).len(), 3);
}

#[test]
fn protected_films_name_the_systems() {
    let common = "<ContentProtection schemeIdUri='urn:mpeg:dash:mp4protection:2011'/>";
    let widevine =
        "<ContentProtection schemeIdUri='urn:uuid:EDEF8BA9-79D6-4ACE-A3C8-27DCD51D21ED'/>";
    let playready =
        "<ContentProtection schemeIdUri='urn:uuid:9a04f079-9840-4286-ab92-e65be0885f95'/>";
    let system = |set: &str, own: &str| {
        let text = one(&format!("{own}<BaseURL>v</BaseURL>"));
        match parsed(&text.replace("<Representation", &format!("{set}<Representation"))) {
            Err(ManifestError::Protected { system }) => system,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(system(common, ""), "Common Encryption");
    assert_eq!(system(common, widevine), "Widevine");
    assert_eq!(system("", &format!("{common}{playready}{widevine}")), "PlayReady, Widevine");
}

#[test]
fn kinds_come_from_the_content_type_then_the_mime_type_then_the_codecs() {
    let kind_of = |set: &str, own: &str| {
        let film = parsed(&mpd("", &period(&[("r", set, own)])));
        film.ok().map(|film| film.renditions[0].kind)
    };
    assert_eq!(kind_of("contentType='audio'", "mimeType='video/mp4'"), Some(Kind::Audio));
    assert_eq!(kind_of("mimeType='audio/mp4'", ""), Some(Kind::Audio));
    assert_eq!(kind_of("", "mimeType='video/webm'"), Some(Kind::Video));
    assert_eq!(kind_of("", "mimeType='application/mp4' codecs='stpp.ttml'"), Some(Kind::Subtitles));
    assert_eq!(kind_of("", "mimeType='application/ttml+xml'"), Some(Kind::Subtitles));
    assert_eq!(kind_of("mimeType='text/vtt'", ""), Some(Kind::Subtitles));
    assert_eq!(kind_of("", "codecs='ec-3'"), Some(Kind::Audio));
    assert_eq!(kind_of("contentType='audio'", "codecs='mp4a.40.2, avc1.1'"), Some(Kind::Video));
    assert_eq!(kind_of("contentType='image'", "mimeType='image/jpeg'"), None);
    assert_eq!(kind_of("", "mimeType='application/x-emsg'"), None);
}

#[test]
fn trick_play_video_is_left_out() {
    let text = one("<BaseURL>v</BaseURL>").replace(
        "<Representation",
        "<EssentialProperty schemeIdUri='http://dashif.org/guidelines/trickmode'/><Representation",
    );
    assert_fails(&text, "line 1: MPD: nothing in it can be downloaded");
}

#[test]
fn languages_names_and_roles_are_read() {
    let text = mpd(
        "",
        "<Period><AdaptationSet contentType='audio' lang='en-GB'><Label> English </Label>\
         <Role schemeIdUri='urn:mpeg:dash:role:2011' value='main'/>\
         <Representation id='1' bandwidth='96000'><BaseURL>1</BaseURL></Representation>\
         <Representation id='1' bandwidth='many'><BaseURL>2</BaseURL></Representation>\
         </AdaptationSet><AdaptationSet contentType='audio' lang='und'>\
         <Representation><BaseURL>3</BaseURL></Representation></AdaptationSet></Period>",
    );
    let film = parsed(&text).unwrap();
    let [a, b, c] = &film.renditions[..] else { panic!("{film:?}") };
    assert_eq!((a.language.as_deref(), a.name.as_deref()), (Some("en-GB"), Some("English")));
    assert_eq!((a.is_default, c.is_default), (true, false));
    assert_eq!((a.bandwidth, b.bandwidth), (Some(96_000), None));
    assert_eq!([&a.id, &b.id, &c.id], ["1", "1-2", "audio"]);
    assert_eq!((&c.language, &c.group, &c.audio_group), (&None, &None, &None));
}

#[test]
fn live_films_are_read_where_they_list_their_pieces() {
    let live = |segments: &str| one(segments).replace("<MPD", "<MPD type='dynamic'");
    let listed = "<SegmentTemplate media='$Time$'><SegmentTimeline><S t='9' d='2' r='1'/>\
                  </SegmentTimeline></SegmentTemplate>";
    let film = parsed(&live(listed)).unwrap();
    assert!(!track(&film.renditions[0]).is_complete);
    assert_eq!(places(&track(&film.renditions[0]).pieces), ["9", "11"]);
    assert_fails(
        &live("<SegmentTemplate duration='2' media='$Number$'/>"),
        "a live film by number",
    );
    assert_fails(&live(&listed.replace("r='1'", "r='-1'")), "a live film whose last S");
    assert_fails(&one(listed).replace("<MPD", "<MPD type='life'"), "type \"life\"");
}

#[test]
fn elements_of_other_namespaces_are_ignored() {
    let text = one("<BaseURL>v</BaseURL><x:BaseURL xmlns:x='urn:x'>ftp://no</x:BaseURL>");
    assert_eq!(places(&only(&text)), ["v"]);
}

#[test]
fn what_is_not_a_manifest_is_said_to_be_what_it_is() {
    assert_fails("<!DOCTYPE html><html><body>No</html>", "a web page (HTML)");
    assert_fails("<html xmlns='http://www.w3.org/1999/xhtml'/>", "a web page (HTML)");
    assert_fails("<rss/>", "line 1: the root element is \"rss\"");
    assert_fails("<MPD>\n\n<Period></MPD>", "line 3: not well-formed XML");
    assert_fails("<MPD>\n<Period>\n", "line 2: not well-formed XML");
    assert_fails("", "not well-formed XML");
    assert_fails("#EXTM3U", "not well-formed XML");
    assert_fails("<MPD/>", "nothing in it can be downloaded");
}

#[test]
fn small_manifests_cannot_ask_for_much() {
    let timeline = |entries: &str| {
        one(&format!(
            "<SegmentTemplate media='$Time$'>\n<SegmentTimeline>{entries}</SegmentTimeline>\
             </SegmentTemplate>"
        ))
    };
    for (text, message) in [
        (timeline("<S d='1' r='1000000'/>"), "line 3: S: the film has more than 1000000 pieces"),
        (timeline("<S d='1' r='9223372036854775807'/>"), "more than 1000000 pieces"),
        (timeline("<S t='0' d='1' r='-1'/><S t='18446744073709551615' d='1'/>"), "more than 1000"),
        (timeline("<S t='18446744073709551615' d='1'/>"), "a time is out of range"),
        (timeline("<S d='18446744073709551615' r='1'/>"), "a time is out of range"),
        (timeline("<S d='0' r='-1'/>"), "d is 0"),
        (timeline("<S t='0'/>"), "d is missing"),
        (
            one("<SegmentTemplate timescale='4294967295' duration='1' media='$Number$'/>"),
            "more than",
        ),
        (one("<SegmentTemplate timescale='0' duration='1' media='$Number$'/>"), "timescale 0"),
        (one("<SegmentTemplate timescale='4294967296' duration='1' media='a'/>"), "timescale 42"),
        (one("<SegmentTemplate duration='0' media='$Number$'/>"), "duration is 0"),
        (
            one(
                "<SegmentTemplate duration='9' startNumber='18446744073709551615' media='$Number$'/>",
            ),
            "the number of a piece is out of range",
        ),
        (
            one(
                "<SegmentTemplate duration='1' endNumber='18446744073709551615' media='$Number$'/>",
            ),
            "more than 1000000 pieces",
        ),
        (
            one(
                "<SegmentTemplate duration='1' startNumber='0' endNumber='18446744073709551615' media='$Number$'/>",
            ),
            "more than 1000000 pieces",
        ),
        (
            one(&format!(
                "<SegmentTemplate duration='9' media='$Number$?{}'/>",
                "x".repeat(17_000)
            )),
            "too long",
        ),
    ] {
        assert_fails(&text, message);
    }
    assert_eq!(
        only(&one("<SegmentTemplate duration='1' endNumber='1000' media='$Number$'/>")).len(),
        1000
    );
}

#[test]
fn the_pieces_and_addresses_of_all_renditions_count_together() {
    let text =
        mpd("", &period(&[("v", "contentType='video'", ""), ("a", "contentType='audio'", "")]));
    let document = Document::parse(&text).unwrap();
    let url = Url::parse(ADDRESS).unwrap();
    let manifest = Manifest::read(Element::root(&document), &url).unwrap();
    let failure = |pieces, bytes| {
        let error = periods::renditions(&manifest, Budget::new(pieces, bytes)).err();
        error.map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(failure(6, 1000), "");
    assert!(failure(5, 1000).contains("the film has more than"));
    assert!(failure(6, 100).contains("the addresses of the film take too much memory"));
}

#[test]
fn durations_are_those_of_xml_schema() {
    for (text, seconds) in [
        ("PT1H2M3.5S", Some(3723.5)),
        ("P1DT1S", Some(86_401.0)),
        ("P1Y1M1D", Some(396.0 * 86_400.0)),
        ("PT0.0000000001S", Some(0.0)),
        ("PT1.S", Some(1.0)),
        ("P", None),
        ("PT", None),
        ("P1DT", None),
        ("PT1", None),
        ("PTS", None),
        ("-PT1S", None),
        ("PT1S1M", None),
        ("PT1.5M", None),
        ("PT1.5.5S", None),
        ("PT1é", None),
        ("PT99999999999999999999S", None),
        ("P999999999999999999Y", None),
    ] {
        assert_eq!(time::parse_duration(text).map(|found| found.as_secs_f64()), seconds, "{text}");
    }
}

#[test]
fn no_mutation_of_a_manifest_makes_the_parser_panic() {
    let mut seeds = vec![
        one(
            "<BaseURL>é.mp4</BaseURL><SegmentBase indexRange='9-20'><Initialization range='0-8'/></SegmentBase>",
        ),
        one("<SegmentTemplate timescale='10' startNumber='3' initialization='i$Bandwidth$' \
             media='$RepresentationID$$Time%05d$-$Number$'><SegmentTimeline><S t='0' d='20' r='2'/>\
             <S d='5' r='-1'/></SegmentTimeline></SegmentTemplate>"),
        one("<SegmentTemplate timescale='9' duration='18' endNumber='30' media='$Number%03d$'/>"),
        one("<SegmentList duration='2'><SegmentURL media='a' mediaRange='1-2'/></SegmentList>"),
    ];
    let both =
        period(&[("v", "contentType='video'", "height='1'"), ("a", "lang='en'", "codecs='mp4a'")]);
    seeds.push(mpd(
        "type='static' mediaPresentationDuration='P1DT1H2M3.5S'",
        &format!("{both}{both}"),
    ));
    const TOKENS: [&str; 12] =
        ["-1", "0", "9", "184467440737", "'", "$", "%", "PT1S", "é", "<S d='1'/>", "r='-1' ", "/"];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    let mut read = 0;
    for _ in 0..4_000 {
        let mut text: Vec<char> = seeds[random(seeds.len())].chars().collect();
        for _ in 0..=random(3) {
            let at = random(text.len());
            let end = (at + random(4)).min(text.len());
            let token = TOKENS[random(TOKENS.len())];
            text.splice(at..end, token.chars().take(random(13)));
        }
        read += usize::from(parsed(&text.into_iter().collect::<String>()).is_ok());
    }
    assert!(read > 100, "only {read} mutations were manifests");
}
