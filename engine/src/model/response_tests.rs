use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const SENT: &str = "Mon, 07 Nov 1994 08:49:37 GMT";
const OTHER_DAY: &str = "Sat, 05 Nov 1994 08:49:37 GMT";

const ASKED: Asked = Asked::Range(ByteRange::new(100, 200));

type Fields<'a> = &'a [(&'a str, &'a str)];

fn headers(fields: Fields<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// The object so far: 1000 bytes, as told by a 206 with `fields`.
fn object(fields: &[(&str, &str)]) -> Resource {
    let mut fields = fields.to_vec();
    fields.push(("content-range", "bytes 100-199/1000"));
    match classify(ASKED, 206, &headers(&fields), None) {
        Verdict::Partial { resource, .. } => resource,
        other => panic!("{other:?}"),
    }
}

fn tagged() -> Resource {
    object(&[
        ("etag", "\"v1\""),
        ("last-modified", MODIFIED),
        ("date", SENT),
        ("content-type", "application/octet-stream"),
    ])
}

fn judge(status: u16, fields: &[(&str, &str)], expected: Option<&Resource>) -> Verdict {
    classify(ASKED, status, &headers(fields), expected)
}

fn lie(status: u16, fields: &[(&str, &str)]) -> Lie {
    match judge(status, fields, None) {
        Verdict::Lie(lie) => lie,
        other => panic!("{status} {fields:?} was taken for {other:?}"),
    }
}

#[test]
fn a_partial_tells_the_object() {
    let verdict = judge(
        206,
        &[
            ("content-range", "bytes 100-199/1000"),
            ("content-length", "100"),
            ("etag", "\"v1\""),
            ("content-type", "Text/Plain; charset=x"),
            ("content-encoding", "GZIP"),
            ("content-disposition", "attachment"),
        ],
        None,
    );
    let Verdict::Partial { range, resource } = verdict else { panic!("{verdict:?}") };
    assert_eq!(range, ByteRange::new(100, 200));
    assert_eq!((resource.total, resource.ranges), (Some(1000), true));
    assert_eq!(resource.encoding.as_deref(), Some("gzip"));
    assert_eq!(resource.media_type().as_deref(), Some("text/plain"));
    assert_eq!(resource.content_disposition.as_deref(), Some("attachment"));
    assert_eq!(
        judge(
            206,
            &[
                ("content-range", "bytes 100-199/1000"),
                ("etag", "\"v1\""),
                ("content-encoding", "gzip")
            ],
            Some(&resource)
        ),
        Verdict::Partial {
            range,
            resource: Resource {
                content_type: None,
                content_disposition: None,
                ..resource.clone()
            }
        }
    );
}

#[test]
fn a_shorter_or_chunked_partial_is_accepted() {
    for fields in [
        &[("content-range", "bytes 100-149/1000"), ("content-length", "50")][..],
        &[("content-range", "bytes 100-149/1000"), ("transfer-encoding", "chunked")],
        &[("content-range", "bytes 100-149/1000"), ("content-length", "50, 50")],
        &[("content-range", "bytes 100-149/1000"), ("content-encoding", "identity")],
    ] {
        let verdict = judge(206, fields, None);
        let Verdict::Partial { range, resource } = verdict else { panic!("{verdict:?}") };
        assert_eq!(range, ByteRange::new(100, 150));
        assert_eq!(resource.encoding, None);
    }
}

#[test]
fn each_lie_has_its_variant_and_remedy() {
    use Remedy::{Fatal, Retry, Sequential};
    let span = ByteRange::new(100, 200);
    let ok = ("content-range", "bytes 100-199/1000");
    let bad = |value: &str| Lie::BadContentRange(value.to_owned());
    let elsewhere =
        |start, end| Lie::StartsElsewhere { asked: span, got: ByteRange::new(start, end) };
    let cases: &[(u16, Fields<'_>, Lie, Remedy)] = &[
        (200, &[ok], Lie::WholeHasContentRange, Sequential),
        (206, &[("content-range", "bytes 0-99/1000")], elsewhere(0, 100), Retry),
        (206, &[("content-range", "bytes 101-199/1000")], elsewhere(101, 200), Retry),
        (206, &[("content-range", "bytes 0-999/1000")], elsewhere(0, 1000), Retry),
        (
            206,
            &[("content-range", "bytes 100-200/1000")],
            Lie::EndsBeyond { asked: span, got: ByteRange::new(100, 201) },
            Retry,
        ),
        (206, &[], Lie::NoContentRange, Sequential),
        (206, &[("content-range", "bytes 100-")], bad("bytes 100-"), Sequential),
        (206, &[("content-range", "bytes */1000")], bad("bytes */1000"), Sequential),
        (
            206,
            &[ok, ("content-range", "bytes 0-1/2")],
            bad("bytes 100-199/1000, bytes 0-1/2"),
            Sequential,
        ),
        (206, &[("content-type", "Multipart/ByteRanges; boundary=x")], Lie::Multipart, Sequential),
        (206, &[("content-range", "bytes 100-199/*")], Lie::UnknownTotal, Sequential),
        (
            206,
            &[ok, ("content-length", "101")],
            Lie::LengthMismatch { range_bytes: 100, length_bytes: 101 },
            Retry,
        ),
        (206, &[ok, ("content-length", "100, 99")], Lie::TooLarge("100, 99".into()), Fatal),
        (206, &[ok, ("content-length", "+100")], Lie::TooLarge("+100".into()), Fatal),
        (200, &[("content-length", "-1")], Lie::TooLarge("-1".into()), Fatal),
        // White space for Unicode, not for HTTP.
        (200, &[("content-length", "5\u{85}")], Lie::TooLarge("5\u{85}".into()), Fatal),
        (
            200,
            &[("content-length", "9223372036854775808")],
            Lie::TooLarge("9223372036854775808".into()),
            Fatal,
        ),
        (
            206,
            &[("content-range", "bytes 100-199/18446744073709551716")],
            Lie::TooLarge("bytes 100-199/18446744073709551716".into()),
            Fatal,
        ),
        (416, &[ok], bad("bytes 100-199/1000"), Sequential),
        (416, &[("content-range", "x")], bad("x"), Sequential),
        (302, &[], Lie::NoLocation, Fatal),
        (101, &[], Lie::UnexpectedStatus(101), Retry),
        (204, &[], Lie::UnexpectedStatus(204), Retry),
        (205, &[], Lie::UnexpectedStatus(205), Retry),
        (226, &[], Lie::UnexpectedStatus(226), Retry),
        (304, &[], Lie::UnexpectedStatus(304), Retry),
    ];
    for (status, fields, expected, remedy) in cases {
        let lie = lie(*status, fields);
        assert_eq!(lie, *expected, "{status} {fields:?}");
        assert_eq!(lie.remedy(), *remedy, "{lie}");
    }
    assert_eq!(Lie::PartialUnasked.remedy(), Retry);
    let mut latin = HeaderMap::new();
    latin.insert(header::LOCATION, HeaderValue::from_bytes(b"/\xe9").unwrap());
    let location = "/%E9".to_owned();
    assert_eq!(classify(ASKED, 301, &latin, None), Verdict::Redirect { location });
    latin.insert(header::LOCATION, HeaderValue::from_static(" "));
    assert_eq!(classify(ASKED, 301, &latin, None), Verdict::Lie(Lie::NoLocation));
}

#[test]
fn another_coding_is_rejected() {
    let plain = tagged();
    for (status, fields) in [
        (206, &[("content-range", "bytes 100-199/999"), ("content-encoding", "gzip")][..]),
        (200, &[("content-length", "999"), ("content-encoding", "gzip"), ("etag", "\"v2\"")]),
    ] {
        let verdict = judge(status, fields, Some(&plain));
        let Verdict::Lie(lie) = verdict else { panic!("{verdict:?}") };
        assert_eq!(lie, Lie::EncodingDiffers { expected: None, got: Some("gzip".into()) });
        assert_eq!(lie.remedy(), Remedy::Retry);
    }
}

#[test]
fn a_strong_tag_with_another_total_is_a_lie() {
    let tagged = tagged();
    let tag = ("etag", "\"v1\"");
    for (status, fields, got) in [
        (206, &[("content-range", "bytes 100-199/1001"), tag][..], 1001),
        (206, &[("content-range", "bytes 100-198/199"), tag], 199),
        (200, &[("content-length", "999"), tag], 999),
        (416, &[("content-range", "bytes */999"), tag], 999),
    ] {
        let lie = Lie::OtherTotal { expected: 1000, got };
        assert_eq!(judge(status, fields, Some(&tagged)), Verdict::Lie(lie.clone()));
        assert_eq!(lie.remedy(), Remedy::Retry);
    }
    // Equal dates are no such promise.
    let dated = object(&[("last-modified", MODIFIED), ("date", SENT)]);
    let other =
        [("content-range", "bytes 100-199/1001"), ("last-modified", MODIFIED), ("date", SENT)];
    assert!(matches!(judge(206, &other, Some(&dated)), Verdict::Changed { .. }));
}

#[test]
fn a_total_that_is_the_parts_end_is_a_lie() {
    let part = ("content-range", "bytes 100-199/200");
    let lie = Lie::TotalOfPart { expected: 1000, got: 200 };
    for (expected, fields) in [(object(&[]), &[part][..]), (tagged(), &[part, ("etag", "\"v1\"")])]
    {
        assert_eq!(judge(206, fields, Some(&expected)), Verdict::Lie(lie.clone()));
    }
    assert_eq!(lie.remedy(), Remedy::Sequential);
    let other = [part, ("etag", "\"v2\"")];
    assert!(matches!(judge(206, &other, Some(&tagged())), Verdict::Changed { .. }));
    // It ends there before the part does: it has become shorter.
    let shorter = [("content-range", "bytes 100-149/150")];
    assert!(matches!(judge(206, &shorter, Some(&object(&[]))), Verdict::Changed { .. }));
}

#[test]
fn only_chunked_is_a_transfer_coding() {
    let range = ("content-range", "bytes 100-199/1000");
    let te = |value| ("transfer-encoding", value);
    for fields in [
        &[te("gzip, chunked")][..],
        &[te("gzip")],
        &[te("xchunked")],
        &[te("chunked, gzip")],
        &[te("chunked, identity")],
        &[te("chunked;q=1")],
        &[te("gzip"), te("chunked")],
        &[te("chunked"), te("")],
    ] {
        for status in [200, 206] {
            let mut all = fields.to_vec();
            all.push(range);
            let Lie::TransferCoding(value) = lie(status, &all) else { panic!("{fields:?}") };
            assert_eq!(value, text(&headers(fields), &header::TRANSFER_ENCODING));
            assert_eq!(Lie::TransferCoding(value).remedy(), Remedy::Retry);
        }
    }
    for (fields, total) in [
        (&[te("chunked")][..], None),
        (&[te("Chunked")], None),
        (&[te("chunked, chunked")], None),
        (&[te("chunked"), te("chunked")], None),
        (&[te("identity, chunked")], None),
        (&[te("identity")], Some(7)),
        (&[te("")], Some(7)),
        (&[te("Identity, ")], Some(7)),
    ] {
        let mut all = fields.to_vec();
        all.push(("content-length", "7"));
        let verdict = judge(200, &all, None);
        let Verdict::Whole { resource } = verdict else { panic!("{fields:?}: {verdict:?}") };
        assert_eq!(resource.total, total, "{fields:?}");
    }
}

#[test]
fn a_content_range_may_say_the_whole() {
    let length = ("content-length", "1000");
    let range = |value| ("content-range", value);
    for (fields, total) in [
        (&[range("bytes 0-999/1000"), length][..], Some(1000)),
        (&[range("bytes=0-999/1000"), length], Some(1000)),
        (&[range("bytes 0-999/*"), length], Some(1000)),
        (&[range("bytes 0-999"), length], Some(1000)),
        (&[range("0-999/1000"), length], Some(1000)),
        (&[range("bytes */1000"), length], Some(1000)),
        (&[range("bytes"), length], Some(1000)),
        (&[range(""), length], Some(1000)),
        (&[range("bytes 0-999/1000")], None),
        (&[range("bytes")], None),
    ] {
        for (asked, status) in [(ASKED, 200), (Asked::Whole, 200), (Asked::Whole, 206)] {
            let verdict = classify(asked, status, &headers(fields), None);
            let Verdict::Whole { resource } = verdict else { panic!("{fields:?}: {verdict:?}") };
            assert_eq!((resource.total, resource.ranges), (total, false), "{fields:?}");
        }
    }
    for fields in [
        &[range("bytes 100-999/1000"), ("content-length", "900")][..],
        &[range("bytes 0-899/1000"), ("content-length", "900")],
        &[range("bytes 0-999/1000"), ("content-length", "900")],
        &[range("bytes 0-999/*"), ("content-length", "900")],
        &[range("bytes 0-999/*")],
        &[range("bytes */1000"), ("content-length", "900")],
        &[range("bytes 100-"), length],
        &[range("bytes 0-18446744073709551615/*"), length],
        &[range("bytes 0-999/1000"), range("bytes 0-1/2"), length],
    ] {
        assert_eq!(lie(200, fields), Lie::WholeHasContentRange, "{fields:?}");
        let unasked = classify(Asked::Whole, 206, &headers(fields), None);
        assert_eq!(unasked, Verdict::Lie(Lie::PartialUnasked), "{fields:?}");
    }
    let bare = classify(Asked::Whole, 206, &headers(&[length]), None);
    assert!(matches!(bare, Verdict::Whole { .. }));
    let multipart = headers(&[("content-type", "multipart/byteranges; boundary=x"), length]);
    assert_eq!(classify(Asked::Whole, 206, &multipart, None), Verdict::Lie(Lie::Multipart));
}

#[test]
fn a_200_as_long_as_the_part_is_not_the_whole() {
    let long = ("content-length", "100");
    for fields in [&[long][..], &[long, ("content-range", "bytes 0-99/100")]] {
        let lie = lie(200, fields);
        assert_eq!(lie, Lie::PartAsWhole { length_bytes: 100 });
        assert_eq!(lie.remedy(), Remedy::Sequential);
        let plain = classify(Asked::Whole, 200, &headers(fields), None);
        assert!(matches!(plain, Verdict::Whole { .. }), "{plain:?}");
    }
    let known = Resource { total: Some(100), ..object(&[]) };
    assert!(matches!(judge(200, &[long], Some(&known)), Verdict::Whole { .. }));
}

#[test]
fn words_are_escaped() {
    let text = Lie::BadContentRange(format!("\u{9b}{}", "x".repeat(500))).to_string();
    assert!(text.contains("\\u{9b}x") && text.len() < 200, "{text}");
    let verdict = judge(
        200,
        &[("content-type", "text/\u{202e}html"), ("content-length", "5")],
        Some(&tagged()),
    );
    let Verdict::Imposter { why } = verdict else { panic!("{verdict:?}") };
    assert!(why.contains("\\u{202e}") && why.contains("0.98 KiB"), "{why}");
}

#[test]
fn a_partial_of_another_version_is_seen() {
    let expected = tagged();
    let verdict = |total: &str, etag: &str, modified: &str| {
        let range = format!("bytes 100-199/{total}");
        let fields = [
            ("content-range", range.as_str()),
            ("etag", etag),
            ("last-modified", modified),
            ("date", SENT),
        ];
        judge(206, &fields, Some(&expected))
    };
    assert!(matches!(verdict("1000", "\"v1\"", MODIFIED), Verdict::Partial { .. }));
    assert!(matches!(verdict("1000", "\"v1\"", OTHER_DAY), Verdict::Partial { .. }));
    assert!(matches!(verdict("1001", "\"v2\"", MODIFIED), Verdict::Changed { .. }));
    assert!(matches!(verdict("1000", "\"v2\"", OTHER_DAY), Verdict::Changed { .. }));
    let Verdict::TagDiffers { seen } = verdict("1000", "\"v2\"", MODIFIED) else { panic!() };
    assert_eq!(seen.total, Some(1000));
    let dated = object(&[("last-modified", MODIFIED), ("date", SENT)]);
    let other =
        [("content-range", "bytes 100-199/1000"), ("last-modified", OTHER_DAY), ("date", SENT)];
    assert!(matches!(judge(206, &other, Some(&dated)), Verdict::Changed { .. }));
}

#[test]
fn the_total_is_learnt_when_it_was_not_known() {
    let expected = Resource { total: None, ..tagged() };
    let fields = [("content-range", "bytes 100-199/1000"), ("etag", "\"v1\"")];
    assert!(matches!(judge(206, &fields, Some(&expected)), Verdict::Partial { .. }));
}

#[test]
fn a_first_whole_body_tells_the_object() {
    for (fields, total) in [
        (&[("content-length", "1000")][..], Some(1000)),
        (&[], None),
        (&[("content-length", "7"), ("transfer-encoding", "chunked")], None),
    ] {
        for asked in [ASKED, Asked::Whole] {
            let verdict = classify(asked, 200, &headers(fields), None);
            let Verdict::Whole { resource } = verdict else { panic!("{verdict:?}") };
            assert_eq!((resource.total, resource.ranges), (total, false));
        }
    }
}

#[test]
fn a_later_whole_body_must_be_the_object() {
    let tagged = tagged();
    let plain = object(&[("content-type", "application/zip")]);
    let bare = object(&[]);
    let dated = object(&[("last-modified", MODIFIED), ("date", SENT)]);
    let zip = ("content-type", "application/zip; x=y");
    let html = ("content-type", "text/html");
    let ours = ("content-length", "1000");
    let other = ("content-length", "1001");
    let is = |verdict: Verdict| match verdict {
        Verdict::Whole { .. } => "whole",
        Verdict::Changed { .. } => "changed",
        Verdict::TagDiffers { .. } => "tag differs",
        Verdict::Imposter { .. } => "imposter",
        Verdict::Lie(Lie::OtherLength { .. }) => "another length",
        _ => "something else",
    };
    let cases: &[(&Resource, Fields<'_>, &str)] = &[
        (&tagged, &[ours, ("etag", "\"v1\"")], "whole"),
        (&tagged, &[("etag", "\"v1\"")], "whole"),
        (&tagged, &[ours, ("etag", "W/\"v1\"")], "whole"),
        (&tagged, &[ours, ("last-modified", MODIFIED)], "whole"),
        (&tagged, &[ours, ("content-type", "application/octet-stream")], "whole"),
        (&tagged, &[other, ("etag", "\"v2\"")], "changed"),
        (&tagged, &[("etag", "\"v2\"")], "changed"),
        (&tagged, &[ours, ("etag", "\"v2\"")], "tag differs"),
        (&tagged, &[ours, ("etag", "\"v2\""), ("last-modified", OTHER_DAY)], "changed"),
        (&tagged, &[ours, ("last-modified", OTHER_DAY)], "changed"),
        // A login page, with and without a validator of its own.
        (&tagged, &[other, html], "imposter"),
        (&tagged, &[other, html, ("etag", "\"page\"")], "imposter"),
        (&tagged, &[html], "imposter"),
        (&tagged, &[ours], "imposter"),
        (&tagged, &[], "imposter"),
        (&plain, &[ours, zip], "whole"),
        (&plain, &[ours], "whole"),
        (&plain, &[other, zip], "another length"),
        (&plain, &[other], "another length"),
        (&plain, &[other, html], "imposter"),
        (&plain, &[ours, html], "imposter"),
        (&plain, &[html], "imposter"),
        (&plain, &[zip], "whole"),
        (&bare, &[ours, html], "whole"),
        (&bare, &[other, html], "imposter"),
        (&bare, &[other], "another length"),
        (&dated, &[other, ("last-modified", MODIFIED)], "another length"),
        (&dated, &[other, ("last-modified", OTHER_DAY)], "changed"),
    ];
    for (expected, fields, verdict) in cases {
        assert_eq!(is(judge(200, fields, Some(expected))), *verdict, "{fields:?} {expected:?}");
    }
    let stream = Resource { total: None, ..plain };
    assert_eq!(is(judge(200, &[zip], Some(&stream))), "whole");
    assert_eq!(is(judge(200, &[ours, zip], Some(&stream))), "whole");
    assert_eq!(is(judge(200, &[html], Some(&stream))), "imposter");
}

#[test]
fn unsatisfied_ranges_tell_the_total() {
    for (fields, total) in [
        (&[("content-range", "bytes */0")][..], Some(0)),
        (&[("content-range", "bytes */1000")], Some(1000)),
        (&[("content-range", "bytes */*")], None),
        (&[], None),
    ] {
        assert_eq!(judge(416, fields, None), Verdict::Unsatisfied { total });
    }
    let unasked = classify(Asked::Whole, 416, &headers(&[]), None);
    assert!(matches!(unasked, Verdict::Status { status: 416, transient: false, .. }));
}

#[test]
fn redirects_carry_the_location_as_sent() {
    for status in [301, 302, 303, 307, 308] {
        let verdict = judge(status, &[("location", "../b?x=1")], None);
        assert_eq!(verdict, Verdict::Redirect { location: "../b?x=1".into() });
    }
    let two = [("location", "/a"), ("location", "/b")];
    assert_eq!(judge(302, &two, None), Verdict::Lie(Lie::NoLocation));
}

#[test]
fn refusals_and_errors() {
    for status in [401, 403, 407, 410] {
        assert_eq!(judge(status, &[], None), Verdict::Denied { status });
    }
    assert_eq!(judge(412, &[], None), Verdict::PreconditionFailed);
    for (status, transient) in [
        (408, true),
        (425, true),
        (500, true),
        (502, true),
        (504, true),
        (509, true),
        (520, true),
        (529, true),
        (530, true),
        (300, false),
        (400, false),
        (404, false),
        (501, false),
        (505, false),
        (507, false),
        (999, false),
    ] {
        let expected = Verdict::Status { status, transient, retry_after: None };
        assert_eq!(judge(status, &[], None), expected);
    }
}

#[test]
fn retry_after_in_both_forms() {
    let after = |value: &str, date: Option<&str>| {
        let mut fields = vec![("retry-after", value)];
        fields.extend(date.map(|date| ("date", date)));
        match judge(503, &fields, None) {
            Verdict::Throttled { status: 503, retry_after } => retry_after,
            other => panic!("{other:?}"),
        }
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(after("7", None), seconds(7));
    assert_eq!(after("0", None), seconds(0));
    assert_eq!(after("99999999999999999999999", None), seconds(u64::MAX));
    assert_eq!(after(SENT, Some(MODIFIED)), seconds(86_400));
    assert_eq!(after(MODIFIED, Some(SENT)), seconds(0));
    for (value, date) in
        [(SENT, None), ("-1", None), ("+1", None), ("1.5", None), ("", None), (SENT, Some("noon"))]
    {
        assert_eq!(after(value, date), None, "{value:?}");
    }
    assert!(matches!(judge(429, &[], None), Verdict::Throttled { status: 429, retry_after: None }));
}

proptest! {
    #[test]
    fn no_head_passes_a_byte_that_was_not_asked_for(
start in 99u64..102, len in 1u64..300,
        total in prop_oneof![Just(1000u64), 0u64..1200],
        length in proptest::option::of(0u64..300), etag in "(\"v[12]\")?", known: bool,
    ) {
        let range = format!("bytes {start}-{}/{total}", start + len - 1);
        let length = length.map(|length| length.to_string());
        let mut fields = vec![("content-range", range.as_str()), ("etag", &etag)];
        fields.extend(length.as_deref().map(|length| ("content-length", length)));
        let expected = tagged();
        let verdict = judge(206, &fields, known.then_some(&expected));
        if let Verdict::Partial { range, resource } = verdict {
            prop_assert!(range.start() == 100 && range.end() <= 200 && range.len() == len);
            prop_assert!(length.is_none_or(|length| length == len.to_string()));
            prop_assert!(resource.total == Some(total) && range.end() <= total);
            if known {
                prop_assert!(total == 1000 && etag != "\"v2\"");
            }
        }
    }
}
