//! Forms that servers really send.

use super::*;

#[test]
fn forms_of_the_standard() {
    for (value, name) in [
        ("attachment; filename=a.iso", "a.iso"),
        ("attachment; filename=\"a b.iso\"", "a b.iso"),
        ("attachment;FileName=\"a;b.iso\" ; size=3", "a;b.iso"),
        (r#"attachment; filename="a\"b.iso""#, "a\"b.iso"),
        ("attachment; filename=a.iso; filename*=UTF-8''na%C3%AFve%20%e2%82%ac.iso", "naïve €.iso"),
        ("attachment; filename*=utf-8'en'x.iso; filename=a.iso", "x.iso"),
        ("attachment; filename*=iso-8859-1''%A3.iso", "£.iso"),
        ("attachment; filename*=UTF-8''%ff.iso; filename=a.iso", "a.iso"),
        ("attachment; filename*=x-none''%ff.iso; filename=a.iso", "a.iso"),
        ("attachment; filename*=UTF-8''; filename=a.iso", "a.iso"),
        ("filename=a.iso", "a.iso"),
        ("attachment; filename=a b.iso ; x=y", "a b.iso"),
        ("attachment; filename=\"open.iso", "open.iso"),
        ("attachment; x=\"filename=no\"; filename=a.iso", "a.iso"),
        ("attachment; filename*0=\"very long \"; filename*1=name.mkv", "very long name.mkv"),
        ("attachment; filename*1*=%A3.mkv; filename*0*=iso-8859-1'en'a%20", "a £.mkv"),
    ] {
        assert_eq!(file_name(value).as_deref(), Some(name), "{value:?}");
    }
    let nameless = ["", "inline", "attachment; filename=\"\"", "attachment; filename=", ";;;=\"=;"];
    for value in nameless.into_iter().chain(["attachment; filename*1=b"]) {
        assert_eq!(file_name(value), None, "{value:?}");
    }
}

#[test]
fn forms_of_no_standard() {
    for (value, name) in [
        ("attachment; filename*=utf8''Caf%C3%A9.pdf", "Café.pdf"),
        ("attachment; filename*=\"utf-8''Caf%C3%A9.pdf\"", "Café.pdf"),
        ("attachment; filename*=UTF-8''John's%20Film.mp4", "John's Film.mp4"),
        ("attachment; filename*=UTF-8'Caf%C3%A9.pdf", "Café.pdf"),
        ("attachment; filename*=''Caf%C3%A9.pdf", "Café.pdf"),
        ("attachment; filename*=Caf%C3%A9.pdf", "Café.pdf"),
        ("attachment; filename*=John's.pdf", "John's.pdf"),
        ("attachment; filename*=UTF-8''Café.pdf", "Café.pdf"),
        ("attachment; filename*=GBK''%BC%BE%B6%C8.zip", "季度.zip"),
        ("attachment filename=\"film.mkv\"", "film.mkv"),
        ("attachment, filename=\"film.mkv\"", "film.mkv"),
        ("attachment; filename=\"a.mkv\" size=3", "a.mkv"),
        ("attachment; filename=a,b.mkv", "a,b.mkv"),
        ("attachment; filename=\"The \"Best\" film.mkv\"", "The \"Best\" film.mkv"),
        ("attachment; filename=\"The \"Best\" film.mkv\"; size=3", "The \"Best\" film.mkv"),
        (r#"attachment; filename="C:\Users\me\film.mkv""#, r"C:\Users\me\film.mkv"),
        (r#"attachment; filename="6.5\\film.mkv""#, r"6.5\film.mkv"),
        ("ATTACHMENT; FILENAME = \"film.mkv\";", "film.mkv"),
        ("attachment; filename='film.mkv'", "film.mkv"),
        ("attachment; filename=Rock 'n' Roll.mkv", "Rock 'n' Roll.mkv"),
    ] {
        assert_eq!(file_name(value).as_deref(), Some(name), "{value:?}");
    }
}

#[test]
fn percent_encoding_that_is_utf_8_is_decoded() {
    for (given, name) in [
        ("%EC%82%AC.jpg", "사.jpg"),
        ("a%20b.iso", "a b.iso"),
        ("100% sure.mp4", "100% sure.mp4"),
        ("50%de.mp4", "50%de.mp4"),
        ("a%FFb.mp4", "a%FFb.mp4"),
        ("é%20.mp4", "é%20.mp4"),
        ("a+b.mp4", "a+b.mp4"),
    ] {
        let value = format!("attachment; filename=\"{given}\"");
        assert_eq!(file_name(&value).as_deref(), Some(name), "{value:?}");
    }
}

#[test]
fn encoded_words_are_decoded() {
    for (given, name) in [
        ("=?UTF-8?B?w5xiZXJzaWNodCBNw6Ryei5wZGY=?=", "Übersicht März.pdf"),
        ("=?utf-8?b?w5xiZXJzaWNodCBNw6Ryei5wZGY?=", "Übersicht März.pdf"),
        ("=?utf-8?Q?=C3=9Cbersicht_M=C3=A4rz.pdf?=", "Übersicht März.pdf"),
        ("=?ISO-8859-1*de?q?=DCbersicht 100%.pdf?=", "Übersicht 100%.pdf"),
        ("=?gbk?B?vL62yA==?=.zip", "季度.zip"),
        ("=?utf-8?B?w5xi?= \t =?utf-8?Q?er?=.pdf", "Über.pdf"),
        ("=?utf-8?Q?=C3?= =?UTF-8?Q?=9C?=", "Ü"),
        ("a =?utf-8?Q?=C3=9C?= b =?koi8-r?Q?=C1?=", "a Ü b а"),
        // What cannot be read stays.
        ("=?utf-8?Q?=FF?=.pdf", "=?utf-8?Q?=FF?=.pdf"),
        ("=?none?Q?a?=", "=?none?Q?a?="),
        ("=?utf-8?Z?a?=", "=?utf-8?Z?a?="),
        ("=?utf-8?B?!?=", "=?utf-8?B?!?="),
        ("=?utf-8?Q?open", "=?utf-8?Q?open"),
    ] {
        let value = format!("attachment; filename=\"{given}\"");
        assert_eq!(file_name(&value).as_deref(), Some(name), "{value:?}");
    }
}
