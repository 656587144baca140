//! Defaults of the user's own: config.toml and HAUL_* variables.

use std::fs;
use std::path::PathBuf;

use haul_tests::harness::{Haul, Sandbox};
use haul_tests::haul;
use haul_tests::object::{MIB, Object};
use haul_tests::origin::Origin;

const SIZE: u64 = 3 * MIB + 21;

fn object() -> Object {
    Object::new(1, SIZE)
}

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
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object()));
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
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object()));
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
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object()));
    configure(&sandbox, "overwrite = true\n");
    sandbox.write("film.bin", "older");
    download(&sandbox, &origin).arg("--no-clobber").run().expect(3);
    assert_eq!(fs::read(sandbox.path("film.bin")).unwrap(), b"older");
    download(&sandbox, &origin).arg("--no-config").run().expect(3);
    download(&sandbox, &origin).run().expect(0);
    assert_eq!(fetched(&sandbox), ["film.bin"]);
    object().compare_file(&sandbox.path("film.bin")).unwrap();
}

#[test]
fn a_setting_that_cannot_be_used_fetches_nothing() {
    let (sandbox, origin) = (Sandbox::new(), Origin::serving(&object()));
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
