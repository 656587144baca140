//! Defaults of the user's own: config.toml and HAUL_* variables.

use std::fs;
use std::path::PathBuf;

use haul_tests::prelude::*;

const SIZE: u64 = 3 * MIB + 21;

fn configure(sandbox: &Sandbox, text: &str) -> PathBuf {
    let dir = sandbox.root().join("home/.config/haul");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.toml"), text).unwrap();
    dir.join("config.toml")
}

fn download(sandbox: &Sandbox, origin: &Origin) -> Haul {
    haul!(sandbox).arg(origin.url("/film.bin"))
}

/// The files but for the settings.
fn fetched(sandbox: &Sandbox) -> Vec<String> {
    sandbox.files().into_iter().filter(|name| !name.ends_with("config.toml")).collect()
}

#[test]
fn settings_are_what_the_flags_would_be() {
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object(SIZE)));
    configure(
        &sandbox,
        "dir = \"films\"\nuser-agent = \"from the file\"\nheader = [\"X-A: 1\", \"X-B: 2\"]\n",
    );
    download(&sandbox, &origin).arg("-HX-C: 3").run().expect(0);
    assert_eq!(fetched(&sandbox), ["films/film.bin"]);
    let request = &origin.requests()[0].request;
    assert_eq!(request.header("User-Agent"), Some("from the file"));
    for (name, value) in [("X-A", "1"), ("X-B", "2"), ("X-C", "3")] {
        assert_eq!(request.header(name), Some(value), "lists add");
    }
}

#[test]
fn the_command_line_counts_more_than_variables_and_these_more_than_the_file() {
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object(SIZE)));
    configure(
        &sandbox,
        "dir = \"of-file\"\nuser-agent = \"of-file\"\nreferer = \"http://of-file/\"\n",
    );
    let typed = download(&sandbox, &origin)
        .env("HAUL_USER_AGENT", "of-environment")
        .env("HAUL_DIR", "of-environment")
        .args(["--dir", "typed"]);
    typed.run().expect(0);
    assert_eq!(fetched(&sandbox), ["typed/film.bin"]);
    let request = &origin.requests()[0].request;
    assert_eq!(request.header("User-Agent"), Some("of-environment"));
    assert_eq!(request.header("Referer"), Some("http://of-file/"));
}

#[test]
fn a_typed_flag_switches_off_the_settings_that_it_excludes() {
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object(SIZE)));
    configure(&sandbox, "overwrite = true\n");
    sandbox.write("film.bin", "older");
    download(&sandbox, &origin).arg("--no-clobber").run().expect(3);
    assert_eq!(fs::read(sandbox.path("film.bin")).unwrap(), b"older");
    download(&sandbox, &origin).arg("--no-config").run().expect(3);
    download(&sandbox, &origin).run().expect(0);
    assert_eq!(fetched(&sandbox), ["film.bin"]);
    object(SIZE).compare_file(&sandbox.path("film.bin")).unwrap();
}

#[test]
fn a_setting_that_cannot_be_used_fetches_nothing() {
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object(SIZE)));
    for (text, cause) in [
        ("conections = 8\n", "`conections`"),
        ("connections = \"many\"\n", "whole number"),
        ("dir = \n", "line 1"),
    ] {
        let path = configure(&sandbox, text);
        let outcome = download(&sandbox, &origin).run();
        outcome.expect(2);
        assert!(outcome.text().contains(cause), "{cause}\n{outcome}");
        assert!(outcome.text().contains(path.to_str().unwrap()), "the file is named\n{outcome}");
    }
    let outcome = download(&sandbox, &origin).arg("--no-config").env("HAUL_JOBS", "0").run();
    outcome.expect(0);
    assert_eq!(origin.requests().len(), 1, "{outcome}");
    let outcome = haul!(sandbox).args(["-o", "b"]).arg(origin.url("/b"));
    configure(&sandbox, "");
    let outcome = outcome.env("HAUL_JOBS", "0").run();
    outcome.expect(2);
    assert!(outcome.text().contains("HAUL_JOBS"), "{outcome}");
}

#[test]
fn other_commands_are_not_changed_by_settings() {
    let sandbox = Sandbox::new();
    configure(&sandbox, "this is no toml");
    haul!(sandbox, bare).arg("--version").run().expect(0);
    haul!(sandbox, bare).arg("status").run().expect(0);
}

#[test]
fn a_section_is_for_the_downloads_of_its_host() {
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object(SIZE)));
    let local = |path: &str| origin.url(path).replace("127.0.0.1", "localhost");
    configure(
        &sandbox,
        "referer = \"http://general/\"\nheader = [\"X-A: general\"]\noverwrite = true\n\n\
         [host.\"127.0.0.1\"]\nreferer = \"http://host/\"\nheader = [\"X-B: host\"]\n\
         no-clobber = true\ndir = \"of-host\"\n",
    );
    haul!(sandbox).args([origin.url("/a"), local("/b")]).run().expect(0);
    assert_eq!(fetched(&sandbox), ["b", "of-host/a"]);
    let requests = origin.requests();
    let field = |path: &str, name: &str| {
        let found = requests.iter().find(|it| it.request.path() == path).expect("it was asked for");
        found.request.header(name).map(str::to_owned)
    };
    assert_eq!(field("/a", "Referer").as_deref(), Some("http://host/"));
    assert_eq!(field("/b", "Referer").as_deref(), Some("http://general/"));
    assert_eq!(field("/a", "X-A").as_deref(), Some("general"), "lists add");
    assert_eq!(field("/a", "X-B").as_deref(), Some("host"));
    assert_eq!(field("/b", "X-B"), None, "it is nobody else's");
    let again = haul!(sandbox).args([origin.url("/a")]).run();
    assert_eq!(again.event("complete")["unchanged"], true, "it is not overwritten\n{again}");
    haul!(sandbox).args([local("/b")]).run().expect(0);
    haul!(sandbox).args(["--overwrite", "-d", "typed"]).arg(origin.url("/a")).run().expect(0);
    assert!(sandbox.path("typed/a").exists(), "the command line counts more");
}

#[test]
fn a_host_has_a_speed_of_its_own() {
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object(SIZE)));
    configure(&sandbox, "[host.\"127.0.0.1\"]\nlimit-rate = \"1M\"\n");
    // Both together: the limit is of the host, not of each download.
    let outcome = haul!(sandbox).args([origin.url("/a"), origin.url("/b")]).run();
    outcome.expect(0);
    let slowest = |outcome: &haul_tests::harness::Outcome| {
        let elapsed = outcome.all("complete").map(|event| event["elapsed_s"].as_f64().unwrap());
        elapsed.fold(0.0, f64::max)
    };
    assert!(slowest(&outcome) >= 5.0, "6 MiB at 1 MiB/s\n{outcome}");
    assert!(outcome.all("complete").any(|event| event["limited_by"] == "speed-limit"));
    let other = origin.url("/c").replace("127.0.0.1", "localhost");
    let outcome = haul!(sandbox).arg(other).run();
    outcome.expect(0);
    assert!(outcome.all("complete").all(|event| event["limited_by"] != "speed-limit"), "{outcome}");
    let outcome = haul!(sandbox).args(["-r", "0"]).arg(origin.url("/d")).run();
    outcome.expect(0);
    assert!(outcome.all("complete").all(|event| event["limited_by"] != "speed-limit"), "{outcome}");
}

#[test]
fn what_is_of_the_run_is_no_setting_of_a_host() {
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object(SIZE)));
    for (text, cause) in [
        ("[host.\"127.0.0.1\"]\njobs = 2\n", "applies to the whole run"),
        ("[host.\"127.0.0.1\"]\nconnections = 0\n", "[host.\"127.0.0.1\"]"),
        ("[hosts.\"127.0.0.1\"]\nretry = 1\n", "`hosts`"),
    ] {
        configure(&sandbox, text);
        let outcome = download(&sandbox, &origin).run();
        outcome.expect(2);
        assert!(outcome.text().contains(cause), "{cause}\n{outcome}");
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn a_section_is_for_what_is_played_too() {
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object(SIZE)));
    configure(&sandbox, "[host.\"127.0.0.1\"]\nreferer = \"http://host/\"\n");
    haul!(sandbox, bare).args(["play", "-o", "f"]).arg(origin.url("/a")).run().expect(0);
    assert_eq!(origin.requests()[0].request.header("Referer"), Some("http://host/"));
}
