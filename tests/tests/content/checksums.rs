//! `--checksum` in all its forms.

use haul_tests::prelude::*;
use sha2::{Digest as _, Sha256, Sha512};

const SIZE: u64 = 2 * MIB + 77;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256() -> String {
    hex(&Sha256::digest(object(SIZE).bytes(0..SIZE)))
}

/// Serves the object as `/pool/film.bin` and this list as `/pool/SHA256SUMS`.
fn origin(list: &str) -> Origin {
    let list = list.to_owned();
    Origin::start(move |request, _| match request.path() {
        "/pool/SHA256SUMS" => Response::text(200, "text/plain", &list),
        "/moved" => Response::redirect(302, "/pool/SHA256SUMS"),
        "/pool/film.bin" | "/get" => standard(&object(SIZE), request),
        _ => Response::empty(404),
    })
}

fn command(sandbox: &Sandbox, checksum: &str) -> Haul {
    haul!(sandbox).json().args(["--checksum", checksum])
}

#[test]
fn a_digest_is_taken_with_its_algorithm_or_by_its_length() {
    let (origin, bytes) = (origin(""), object(SIZE).bytes(0..SIZE));
    let sha512 = hex(&Sha512::digest(&bytes));
    for checksum in [
        sha256(),
        sha256().to_uppercase(),
        format!("sha-256={}", sha256()),
        sha512.clone(),
        format!("SHA512={sha512}"),
        format!("blake3={}", object(SIZE).blake3_hex()),
    ] {
        let sandbox = Sandbox::new();
        command(&sandbox, &checksum).arg(origin.url("/pool/film.bin")).run().expect(0);
        sandbox.assert_published("film.bin", &object(SIZE));
    }
    // Whoever asked for it can read it.
    let sandbox = Sandbox::new();
    let haul = haul!(sandbox, bare).args(["--checksum", &sha256()]);
    let outcome = haul.arg(origin.url("/pool/film.bin")).run();
    outcome.expect(0);
    assert!(outcome.text().contains(&format!("sha256 {} is as asked for", sha256())), "{outcome}");
    let sandbox = Sandbox::new();
    command(&sandbox, &sha512.replace('a', "b")).arg(origin.url("/pool/film.bin")).run().expect(9);
    sandbox.assert_nothing_left();
}

#[test]
fn a_list_gives_the_digest_of_the_file_by_its_name() {
    let wrong = "0".repeat(64);
    let gnu = format!("{wrong}  other.bin\n{} *film.bin\n", sha256());
    let bsd = format!("SHA256 (other.bin) = {wrong}\nSHA256 (film.bin) = {}\n", sha256());
    for list in [gnu, bsd] {
        let origin = origin(&list);
        for place in [origin.url("/pool/SHA256SUMS"), origin.url("/moved"), "LOCAL".to_owned()] {
            let sandbox = Sandbox::new();
            sandbox.write("LOCAL", &list);
            let outcome = command(&sandbox, &place).arg(origin.url("/pool/film.bin")).run();
            outcome.expect(0);
            assert_eq!(outcome.event("complete")["sha256"], sha256(), "{outcome}");
            assert_eq!(object(SIZE).compare_file(&sandbox.path("film.bin")), Ok(()));
        }
        // By the output's name where the URL has another one.
        let sandbox = Sandbox::new();
        let haul = command(&sandbox, &origin.url("/pool/SHA256SUMS")).args(["-o", "film.bin"]);
        haul.arg(origin.url("/get?id=7")).run().expect(0);
    }
    let origin = origin(&format!("{wrong}  film.bin\n"));
    let sandbox = Sandbox::new();
    let haul = command(&sandbox, &origin.url("/pool/SHA256SUMS"));
    haul.arg(origin.url("/pool/film.bin")).run().expect(9);
    sandbox.assert_nothing_left();
}

#[test]
fn a_list_may_be_of_several_files() {
    let list = format!("{}  film.bin\n{}  get\n", sha256(), sha256());
    let origin = origin(&list);
    let sandbox = Sandbox::new();
    let haul = command(&sandbox, &origin.url("/pool/SHA256SUMS"));
    haul.args([origin.url("/pool/film.bin"), origin.url("/get")]).run().expect(0);
    sandbox.assert_only(&[("film.bin", &object(SIZE)), ("get", &object(SIZE))]);
}

#[test]
fn a_list_that_is_of_no_use_is_refused_before_anything_is_fetched() {
    let origin = origin("nothing here\n");
    let sandbox = Sandbox::new();
    sandbox.write("other", format!("{}  other\n", sha256()));
    sandbox.write("long", vec![b'\n'; 5 << 20]);
    for (place, code, why) in [
        (origin.url("/pool/SHA256SUMS"), 2, "no digest in it"),
        (origin.url("/pool/missing"), 8, "404"),
        ("other".to_owned(), 2, "`film.bin`"),
        ("long".to_owned(), 3, "longer"),
        ("absent".to_owned(), 2, "absent"),
    ] {
        let haul = haul!(sandbox).args(["--checksum", &place]).arg(origin.url("/pool/film.bin"));
        let outcome = haul.run();
        outcome.expect(code);
        let told = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert!(told.contains(why), "{outcome}");
    }
    let asked = |path: &str| origin.requests().iter().any(|it| it.request.path() == path);
    assert!(!asked("/pool/film.bin"), "{:?}", origin.requests());
}
