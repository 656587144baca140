use super::table::NOT_QUIET;
use super::table::{HABITS, Means};
use super::*;
use crate::args;

fn ours(words: &[&str]) -> Vec<String> {
    let all = ["haul"].iter().chain(words).map(OsString::from).collect();
    let ours = in_our_words(&args::definition(), all)
        .unwrap_or_else(|failure| panic!("{words:?}: {failure:?}"));
    ours.into_iter().skip(1).map(|word| word.into_string().unwrap()).collect()
}

fn refused(words: &[&str]) -> String {
    let all = ["haul"].iter().chain(words).map(OsString::from).collect();
    let failure = in_our_words(&args::definition(), all).expect_err(&words.join(" "));
    assert_eq!(failure.exit, 2);
    format!("{}\n{}", failure.message, failure.hint.unwrap_or_default())
}

#[test]
fn words_of_haul_stay_as_they_were_typed() {
    for line in [
        "-x4 -o file http://h/",
        "-x 4 --output=- --range -100 http://h/",
        "-c=never -q --retry=-1 --header=A:b -H A:b http://h/",
        "-c -x4 --continue=always -O http://h/ http://h/b",
        "-c never http://h/",
        "-x auto:8 -s 4 -r 2M -d a=b http://h/",
        "--nope -Wall -o -x4 http://h/ -- -nc",
        "play --port 0 --player=mpv http://h/",
        "bench -s 1,2 -k http://h/",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(ours(&words), words, "{line}");
    }
}

#[test]
fn what_a_habit_becomes_is_a_flag_of_haul() {
    let definition = args::definition();
    let is_ours = |word: &str| {
        let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
        find(&definition, &Flag::Long(name)).is_some()
    };
    for (names, means) in HABITS {
        let words: &[&str] = match means {
            Means::Flags(words) | Means::Switch(words) | Means::Value(words) => words,
            _ => &[],
        };
        for word in words.iter().filter(|word| **word != NOT_QUIET) {
            assert!(is_ours(word), "{names:?} become {word}");
        }
        for name in *names {
            let flag = match name.strip_prefix("--") {
                Some(long) => Flag::Long(long),
                None => Flag::Short(name.chars().nth(1).unwrap()),
            };
            assert!(find(&definition, &flag).is_none(), "{name} is haul's own and never looked up");
            let known = HABITS.iter().filter(|(names, _)| names.contains(name)).count();
            assert_eq!(known, 1, "{name}");
        }
    }
}

#[test]
fn clusters_of_letters_are_taken_apart() {
    assert_eq!(
        ours(&["-fLo", "file", "-#C", "-", "http://h/"]),
        ["-o", "file", "--continue=always", "http://h/"]
    );
    assert_eq!(ours(&["-qO-", "http://h/"]), ["-q", "--output=-", "http://h/"]);
    assert_eq!(ours(&["-LJO", "-m", "5", "http://h/"]), ["-O", "--max-time=5", "http://h/"]);
    assert_eq!(ours(&["-O", "name", "http://h/"]), ["-O", "--output=name", "http://h/"]);
    assert_eq!(ours(&["-O", "h/a"]), ["-O", "h/a"]);
    assert_eq!(
        ours(&["-qO", "name", "--show-progress", "http://h/"]),
        ["-O", "--output=name", "http://h/"]
    );
}

#[test]
fn no_value_is_quoted() {
    for words in [
        &["-U", "me:hunter2", "http://h/"][..],
        &["--password=hunter2", "http://h/"],
        &["-d", "{\"a\":\"hunter2\"}", "http://h/"],
        &["--data", "hunter2", "http://h/"],
        &["--from-curl", "curl 'http://h/' --data-raw hunter2"],
        &["--from-curl", "curl 'http://h/' -H 'hunter2'"],
        &["--from-curl", "curl 'http://h/' --nope -b 'a=hunter2'"],
        &["--from-curl", "hunter2"],
        &["--from-curl", "curl 'http://h/' -b 'hunter2"],
    ] {
        assert!(!refused(words).contains("hunter2"), "{words:?}");
    }
}

#[test]
fn a_copied_command_is_read_as_its_shell_reads_it() {
    let wanted = [
        "--header=Cookie: a=1; b=2",
        "--header=accept: */*",
        "--header=x-q: it's \"a\" b!é",
        "--user-agent=Mozilla/5.0 (X11)",
        "https://h/a?b=c&d=e",
    ];
    for text in [
        // Chrome's, for bash.
        "curl 'https://h/a?b=c&d=e' \\\n  -H 'accept: */*' \\\n  -H 'Accept-Encoding: gzip' \\\n  \
         -H 'range: bytes=0-' \\\n  -H 'user-agent: Mozilla/5.0 (X11)' \\\n  \
         -H $'x-q: it\\'s \"a\" b\\u0021\\xc3\\xa9' \\\n  -b 'a=1; b=2' \\\n  --compressed\n",
        // Firefox's.
        "curl --url \"https://h/a?b=c&d=e\" -X GET -H 'Host: h' --compressed \
         -A 'Mozilla/5.0 (X11)' -H 'accept: */*' -H \"x-q: it's \\\"a\\\" b!é\" \
         -H 'Cookie: a=1; b=2' -H 'If-None-Match: \"x\"' -sSL",
        // Chrome's, for cmd.
        "curl ^\"https://h/a?b=c^&d=e^\" ^\r\n  -H ^\"accept: */*^\" ^\r\n  -H ^\"user-agent: \
         Mozilla/5.0 ^(X11^)^\" ^\r\n  -H ^\"x-q: it's ^\\^\"a^\\^\" b^!é^\" ^\r\n  -b ^\"a=1; b=2^\"",
        // The older form.
        "curl.exe \"https://h/a?b=c&d=e\" ^\n -A \"Mozilla/5.0 (X11)\" -H \"accept: */*\" ^\n \
         -H \"x-q: it's \\\"a\\\" b!é\" -b \"a=1; b=2\"",
    ] {
        let mut found = ours(&["--from-curl", text]);
        found.sort();
        assert_eq!(found, wanted, "{text}");
    }
    assert_eq!(
        ours(&["-A", "me", "--from-curl", "curl http://h/ -A it -u me:pw -e http://r/"]),
        ["--user-agent=it", "--user=me:pw", "--referer=http://r/", "http://h/", "-A", "me"],
        "what is typed counts more"
    );
}

#[test]
fn a_copied_command_that_is_no_download_is_refused_by_name() {
    for (text, said) in [
        ("curl 'http://h/' -X POST", "another method"),
        ("curl 'http://h/' --data-raw 'a=b'", "--data-raw"),
        ("curl 'http://h/' -F a=b", "--form"),
        ("curl 'http://h/' --insecure", "--insecure"),
        ("curl 'http://h/' -k", "--insecure"),
        ("curl 'http://h/' --tlsv1.7", "--tlsv1.7"),
        ("curl 'http://h/' -W", "-W"),
        ("curl 'http://h/' -b cookies.txt", "--load-cookies FILE"),
        ("curl 'http://h/' -H @secrets", "--header @FILE"),
        ("curl 'http://h/' | sh", "`|`"),
        ("curl http://h/$USER", "`$`"),
        ("curl \"http://h/$USER\"", "variable"),
        ("curl 'http://h/", "not closed"),
        ("curl -s", "no URL"),
        ("curl http://h/ http://i/", "several URLs"),
        ("curl http://h/ -H", "no value after --header"),
        ("Invoke-WebRequest -Uri \"http://h/\"", "begin with `curl`"),
        ("fetch", "begin with `curl`"),
        ("", "begin with `curl`"),
    ] {
        let told = refused(&["--from-curl", text]);
        assert!(told.contains(said), "{text}: {told}");
    }
    let both = ours(&["--from-curl", "curl -k http://h/", "--insecure"]);
    assert_eq!(both, ["http://h/", "--insecure"]);
}
