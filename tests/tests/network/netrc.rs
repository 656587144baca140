//! `--netrc`: whose login goes where.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use haul_tests::prelude::*;

const SIZE: u64 = 3_000_000;

/// What a login looks like in a request (RFC 7617, RFC 4648).
fn basic(login: &str) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let encode = |chunk: &[u8]| -> String {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |at: usize| match at <= chunk.len() {
            true => char::from(digits[(word >> (18 - 6 * at)) as usize & 63]),
            false => '=',
        };
        (0..4).map(digit).collect()
    };
    format!("Basic {}", login.as_bytes().chunks(3).map(encode).collect::<String>())
}

/// A netrc outside of the sandbox, which no secret may reach.
struct Netrc(tempfile::TempDir);

impl Netrc {
    fn new(text: &str) -> Self {
        let netrc = Self(tempfile::tempdir().unwrap());
        fs::write(netrc.path(), text).unwrap();
        netrc.mode(0o600);
        netrc
    }

    fn home(&self) -> &Path {
        self.0.path()
    }

    fn path(&self) -> PathBuf {
        self.0.path().join(".netrc")
    }

    fn mode(&self, mode: u32) {
        fs::set_permissions(self.path(), fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// The same Authorization in all requests of this origin.
#[track_caller]
fn authorization(origin: &Origin) -> Option<String> {
    let requests = origin.requests();
    let of = |at: usize| requests[at].request.header("Authorization").map(str::to_owned);
    assert!((0..requests.len()).all(|at| of(at) == of(0)), "{requests:?}");
    of(0)
}

fn download(sandbox: &Sandbox, url: &str) -> Haul {
    haul!(sandbox).args(["-v", "-o", "file"]).arg(url).env("HAUL_LOG", "trace")
}

/// It succeeds and says nothing of the canary, encoded or not.
#[track_caller]
fn succeeds(haul: Haul, sandbox: &Sandbox) -> Outcome {
    let outcome = haul.run();
    outcome.expect(0);
    for user in ["here", "there", "any"] {
        outcome.assert_free_of(&basic(&format!("{user}:{CANARY}"))["Basic ".len()..]);
    }
    sandbox.assert_published("file", &object(SIZE));
    outcome
}

/// What two hosts get when 127.0.0.1 redirects to localhost.
#[track_caller]
fn on_a_redirect(netrc: &str, args: &[&str]) -> [Option<String>; 2] {
    let target = Origin::serving(&object(SIZE));
    let location = format!("http://localhost:{}/file", target.port());
    let origin = Origin::start(move |_, _| Response::redirect(302, &location));
    let netrc = Netrc::new(netrc);
    let sandbox = Sandbox::new();
    let haul = download(&sandbox, &origin.url("/file")).arg("--netrc-file").arg(netrc.path());
    succeeds(haul.args(args), &sandbox);
    [authorization(&origin), authorization(&target)]
}

#[test]
fn fault_080_each_host_gets_its_own_login_and_no_other() {
    let here = || format!("machine 127.0.0.1 login here password {CANARY}\n");
    let there = || format!("machine LOCALHOST login there password {CANARY}\n");
    let any = format!("default login any password {CANARY}\n");
    let sent = |user: &str| Some(basic(&format!("{user}:{CANARY}")));
    for (netrc, expected) in [
        (here(), [sent("here"), None]),
        (there(), [None, sent("there")]),
        (here() + &there(), [sent("here"), sent("there")]),
        (there() + &here(), [sent("here"), sent("there")]),
        // Whom a server names is not who the user meant by "any host".
        (any.clone(), [sent("any"), None]),
        (here() + &any, [sent("here"), None]),
        (there() + &any, [sent("any"), sent("there")]),
        ("machine 127.0.0.1\nmachine example.org login x password y".to_owned(), [None, None]),
    ] {
        assert_eq!(on_a_redirect(&netrc, &[]), expected, "{netrc}");
    }
}

#[test]
fn fault_080_a_redirect_back_gets_the_login_of_its_host() {
    let target = Origin::serving(&object(SIZE));
    let back = target.url("/file");
    let origin = Origin::start(move |_, _| Response::redirect(302, &back));
    let netrc = Netrc::new("machine 127.0.0.1 login here password 1");
    let sandbox = Sandbox::new();
    let url = format!("http://localhost:{}/file", origin.port());
    let haul = download(&sandbox, &url).arg("--netrc-file").arg(netrc.path());
    succeeds(haul, &sandbox);
    assert_eq!([authorization(&origin), authorization(&target)], [None, Some(basic("here:1"))]);
}

#[test]
fn fault_080_logins_do_not_follow_a_downgrade() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"], Validity::Current);
    let target = Origin::serving(&object(SIZE));
    let plain = target.url("/file");
    let secure =
        Origin::builder().tls(&identity).start(move |_, _| Response::redirect(302, &plain));
    let sandbox = Sandbox::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let cacert = elsewhere.path().join("ca.pem");
    fs::write(&cacert, authority.pem()).unwrap();
    let netrc = Netrc::new(&format!("machine 127.0.0.1 login here password {CANARY}"));
    let haul = download(&sandbox, &secure.url("/file")).arg("--cacert").arg(&cacert);
    succeeds(haul.arg("--allow-downgrade").arg("--netrc-file").arg(netrc.path()), &sandbox);
    let sent = Some(basic(&format!("here:{CANARY}")));
    assert_eq!([authorization(&secure), authorization(&target)], [sent, None]);
}

#[test]
fn login_given_otherwise_counts_more_at_its_origin() {
    let both = format!(
        "machine 127.0.0.1 login here password {CANARY}\n\
         machine localhost login there password {CANARY}\n"
    );
    let there = Some(basic(&format!("there:{CANARY}")));
    let user = on_a_redirect(&both, &["-u", "me:1"]);
    assert_eq!(user, [Some(basic("me:1")), there.clone()]);
    let header = on_a_redirect(&both, &["-H", "Authorization: Custom x"]);
    assert_eq!(header, [Some("Custom x".to_owned()), there]);

    let origin = Origin::serving(&object(SIZE));
    let netrc = Netrc::new(&both);
    let sandbox = Sandbox::new();
    let url = format!("http://me:1@127.0.0.1:{}/file", origin.port());
    let haul = download(&sandbox, &url).arg("--netrc-file").arg(netrc.path());
    succeeds(haul, &sandbox);
    assert_eq!(authorization(&origin), Some(basic("me:1")));
}

#[test]
fn netrc_is_read_only_when_asked_for_and_from_where_it_is() {
    let home = Netrc::new(&format!("machine 127.0.0.1 login here password {CANARY}"));
    let other = Netrc::new(&format!("machine 127.0.0.1 login any password {CANARY}"));
    let sent = |user: &str| Some(basic(&format!("{user}:{CANARY}")));
    for (flags, variable, expected) in [
        (&[][..], false, None),
        (&[], true, None),
        (&["-n"], false, sent("here")),
        (&["--netrc"], true, sent("any")),
    ] {
        let origin = Origin::start(|request, _| standard(&object(SIZE), request));
        let sandbox = Sandbox::new();
        let mut haul =
            download(&sandbox, &origin.url("/file")).args(flags).env("HOME", home.home());
        if variable {
            haul = haul.env("NETRC", other.path());
        }
        let outcome = succeeds(haul, &sandbox);
        assert!(!outcome.has_notice("warning"), "{outcome}");
        assert_eq!(authorization(&origin), expected, "{flags:?}");
    }
}

#[test]
fn netrc_that_others_may_read_is_used_with_a_warning() {
    let netrc = Netrc::new(&format!("machine 127.0.0.1 login here password {CANARY} stray"));
    netrc.mode(0o640);
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let haul = download(&sandbox, &origin.url("/file")).arg("--netrc-file").arg(netrc.path());
    let outcome = succeeds(haul, &sandbox);
    let warnings: Vec<_> =
        outcome.all("notice").map(|event| event["message"].to_string()).collect();
    assert!(warnings.iter().any(|text| text.contains("chmod 600")), "{outcome}");
    assert!(warnings.iter().any(|text| text.contains("line 1")), "{outcome}");
    outcome.assert_free_of("stray");
    assert_eq!(authorization(&origin), Some(basic(&format!("here:{CANARY}"))));
}

#[test]
fn netrc_that_cannot_be_used_is_told_before_anything_is_sent() {
    let origin = Origin::serving(&object(SIZE));
    let malformed = Netrc::new(&format!("machine 127.0.0.1\n login here password \"{CANARY}"));
    let missing = malformed.home().join("none");
    for (path, word) in [(malformed.path(), "line 2"), (missing.clone(), "none")] {
        for by_variable in [false, true] {
            let sandbox = Sandbox::new();
            let haul = download(&sandbox, &origin.url("/file"));
            let outcome = if by_variable {
                haul.arg("-n").env("NETRC", &path).run()
            } else {
                haul.arg("--netrc-file").arg(&path).run()
            };
            assert!(outcome.expect(3).text().contains(word), "{outcome}");
            sandbox.assert_nothing_left();
        }
    }
    assert_eq!(origin.connections(), 0);
    // That there is no ~/.netrc is worth a word, not a failure.
    let sandbox = Sandbox::new();
    let outcome = succeeds(download(&sandbox, &origin.url("/file")).arg("-n"), &sandbox);
    outcome.expect_notice("warning");
}
