use super::*;

fn items(text: &str) -> Vec<Result<(u64, Item), Fault>> {
    Items::new(text.as_bytes()).collect()
}

fn good(text: &str) -> Vec<Item> {
    items(text).into_iter().map(|item| item.unwrap().1).collect()
}

/// The line and the texts of the only fault.
fn fault_of(text: &str) -> (u64, String) {
    let mut faults = items(text).into_iter().filter_map(Result::err);
    let Some(Fault::Line(line, failure)) = faults.next() else { panic!("{text:?} is good") };
    assert!(faults.next().is_none(), "{text:?}");
    assert_eq!(failure.exit, 2);
    (line, format!("{}\n{}", failure.message, failure.hint.unwrap()))
}

#[test]
fn a_line_is_a_url_and_the_rest_is_air() {
    let list = "\u{feff}http://h/a\n\n# http://h/no\n   \n  \nhttp://h/b";
    let found = items(list).into_iter().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(found[0], (1, Item::of_url("http://h/a".to_owned())));
    assert_eq!(found[1], (6, Item::of_url("http://h/b".to_owned())));
    assert_eq!(found.len(), 2);
    assert!(items("").is_empty() && items("\n# nothing\n").is_empty());
}

#[test]
fn tabs_part_mirrors() {
    let found = good("http://h/a\thttp://m/a\t \thttp://n/a\t\n");
    assert_eq!(found[0].urls, ["http://h/a", "http://m/a", "http://n/a"]);
}

#[test]
fn indented_lines_are_options_of_the_url_above() {
    let digits = "ab".repeat(32);
    let list = format!(
        "http://h/a\n  out=sub/./film.mp4\n\tdir=x\n# a comment between\n checksum=sha-256={digits}\n  \
         header=X-A: b=c\n header=Cookie: d\n referer=http://r/\n user-agent=me\n split=5\n gid=1\n\
         http://h/b\n"
    );
    let found = good(&list);
    let item = &found[0];
    assert_eq!(item.out, Some(PathBuf::from("sub/film.mp4")));
    assert_eq!(item.dir, Some(PathBuf::from("x")));
    assert_eq!(item.checksum.as_ref().unwrap().to_string(), format!("sha256={digits}"));
    let headers = [("X-A", "b=c"), ("Cookie", "d"), ("Referer", "http://r/"), ("User-Agent", "me")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(item.headers, headers);
    assert_eq!(item.ignored, ["split", "gid"]);
    assert_eq!(found[1], Item::of_url("http://h/b".to_owned()));
}

#[test]
fn a_json_line_is_an_item() {
    let digits = "ab".repeat(32);
    let list = format!(
        r#"{{"id":"film-1","url":"http://h/a","urls":["http://m/a"],"out":"a/b","size":7,"digest":"sha256:{digits}","headers":{{"X-A":"b"}},"priority":1}}
{{"id":7,"urls":["http://h/b","http://m/b"],"out":null}}
http://h/c
"#
    );
    let found = good(&list);
    assert_eq!(found[0].id.as_deref(), Some("film-1"));
    assert_eq!(found[0].urls, ["http://h/a", "http://m/a"]);
    assert_eq!(found[0].out, Some(PathBuf::from("a/b")));
    assert_eq!(found[0].size_bytes, Some(7));
    assert!(found[0].checksum.is_some());
    assert_eq!(found[0].headers, [("X-A".to_owned(), "b".to_owned())]);
    assert_eq!(found[0].ignored, ["priority"]);
    assert_eq!((found[1].id.as_deref(), found[1].urls.len()), (Some("7"), 2));
    assert_eq!(found[2], Item::of_url("http://h/c".to_owned()));
}

#[test]
fn bad_lines_are_told_with_their_number_and_the_grammar() {
    for (text, line, told) in [
        ("http://h/a\nexample.org/b\n", 2, "https://example.org/b"),
        ("\nftp://h/a\n", 2, "ftp://h/a"),
        ("http://h/a\tnonsense\n", 1, "nonsense"),
        ("http://h/\0a\n", 1, "NUL"),
        ("  out=x\nhttp://h/a\n", 1, "no URL above it"),
        ("http://h/a\n  out\nhttp://h/b\n", 2, "no `=`"),
        ("http://h/a\n  out=../x\n", 2, "upwards"),
        ("http://h/a\n  out=/etc/x\n", 2, "absolute"),
        ("http://h/a\n  dir=a/../../x\n", 2, "upwards"),
        ("http://h/a\n  out=a/\n", 2, "names no file"),
        ("http://h/a\n  out=.\n", 2, "names no file"),
        ("http://h/a\n  checksum=sha-256=12\n", 2, "64 digits"),
        ("http://h/a\n  header=None\n", 2, "Name: value"),
        ("http://h/a\n\n\n  header=: x\n", 4, "not a header name"),
        ("{\"url\":\"http://h/a\"", 1, "column"),
        ("{\"id\":\"x\"}", 1, "no `url`"),
        ("{\"url\":[]}", 1, "`url` is not a string"),
        ("{\"url\":\"http://h/\\n\"}", 1, "control character"),
        ("{\"url\":\"http://h/\",\"out\":\"a\\u0000\"}", 1, "control character"),
        ("{\"url\":\"http://h/\",\"size\":-1}", 1, "`size` is not a whole number"),
        ("{\"url\":\"http://h/\",\"headers\":{\"A\":\"b\\r\\nC: d\"}}", 1, "line break"),
        ("{\"url\":\"http://h/\",\"headers\":{\"A: b\\nC\":\"d\"}}", 1, "line break"),
        ("{\"url\":\"http://h/\"} x", 1, "column 21"),
    ] {
        let (at, message) = fault_of(text);
        assert_eq!(at, line, "{text:?}: {message}");
        assert!(message.contains(told), "{text:?}: {message}");
        assert!(!message.split('\n').any(|line| line.chars().any(char::is_control)), "{message}");
    }
}

#[test]
fn long_lines_are_refused_and_other_encodings_read() {
    let long = format!("http://h/{}\nhttp://h/b\n", "x".repeat(200_000));
    let found = items(&long);
    assert!(matches!(&found[0], Err(Fault::Line(1, _))));
    assert_eq!(found[1].as_ref().unwrap().0, 2);
    assert_eq!(found.len(), 2);
    let found: Vec<_> =
        Items::new(&b"http://h/\xff\r\nhttp://h/b\r"[..]).map(Result::unwrap).collect();
    assert_eq!(found[0], (1, Item::of_url("http://h/ÿ".to_owned())));
    assert_eq!(found[1], (2, Item::of_url("http://h/b".to_owned())));
}

#[test]
fn options_of_a_refused_url_are_refused_with_it() {
    let found = items("nonsense\n  out=a\n  also nonsense\nhttp://h/b\n");
    assert!(matches!(&found[0], Err(Fault::Line(1, _))));
    assert_eq!(found[1].as_ref().unwrap().1, Item::of_url("http://h/b".to_owned()));
    assert_eq!(found.len(), 2);
}

#[test]
fn no_secret_of_a_line_is_quoted() {
    for text in [
        "h/a?sig=hunter2\n",
        "http://h/\t me:hunter2@h/a\n",
        "http://me:hunter2@h/a?sig=hunter2\0\n",
        "http://h/a\n  header=Authorization: hunter2\0\n",
        "http://h/a\n  header=hunter2\n",
        "http://h/a\n  Authorization: hunter2\n",
        "http://h/a\n  checksum hunter2\n",
        "{\"url\":\"http://me:hunter2@h/a?hunter2\",\"headers\":{\"Cookie\":\"hunter2\"}",
        "{\"headers\":{\"Cookie\":\"hunter2\"}}",
        "{\"url\":\"http://h/\",\"headers\":\"hunter2\"}",
        "{\"url\":\"http://h/\",\"cookie\":\"hunter2",
        "{\"url\":\"http://h/\",\"cookie\":hunter2}",
    ] {
        let (_, message) = fault_of(text);
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn identity_has_no_login_and_keeps_what_tells_items_apart() {
    let identity = |text: &str| good(text)[0].identity();
    assert_eq!(identity("http://me:pw@h/a?b#c\thttp://m/a\n"), "http://h/a?b");
    assert_eq!(identity("http://h/a\n out=x\n dir=d\n"), "http://h/a\td\tx");
    assert_eq!(identity(r#"{"id":"7","url":"http://h/a","out":"x"}"#), "7");
}
