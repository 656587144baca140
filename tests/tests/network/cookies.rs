//! Cookie files, and cookies that servers set on the way.

use haul_tests::prelude::*;

const SIZE: u64 = 9 * MIB + 77;

/// The file lies outside of what the harness searches for secrets.
fn download(sandbox: &Sandbox, url: &str, cookies: &str) -> (Haul, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), cookies).unwrap();
    let haul = haul!(*sandbox).args(["-x", "4", "-o", "file", "-b"]).arg(file.path()).arg(url);
    (haul, file)
}

fn cookies(origin: &Origin) -> Vec<Option<String>> {
    let records = origin.requests();
    records.iter().map(|record| record.request.header("Cookie").map(str::to_owned)).collect()
}

#[test]
fn fault_079_a_cookie_goes_to_its_host_on_every_request_and_to_no_other() {
    let target = Origin::serving(&object(SIZE));
    let location = format!("http://localhost:{}/file", target.port());
    let origin = Origin::start(move |_, _| Response::redirect(302, &location));
    let sandbox = Sandbox::new();
    let (haul, _file) = download(
        &sandbox,
        &origin.url("/file"),
        &format!(
            "127.0.0.1\tFALSE\t/\tFALSE\t0\there\t{CANARY}\n\
             #HttpOnly_localhost\tFALSE\t/\tFALSE\t0\tthere\t{CANARY}\n\
             localhost\tFALSE\t/other\tFALSE\t0\tother_path\t{CANARY}\n\
             example.org\tTRUE\t/\tFALSE\t0\tforeign\t{CANARY}\n"
        ),
    );
    let outcome = haul.run();
    outcome.expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert!(cookies(&origin).iter().all(|sent| *sent == Some(format!("here={CANARY}"))));
    let there = cookies(&target);
    assert!(there.len() > 1, "every range has them");
    assert!(there.iter().all(|sent| *sent == Some(format!("there={CANARY}"))), "{there:?}");
    sandbox.assert_free_of(CANARY);
    outcome.assert_free_of(CANARY);
}

#[test]
fn what_a_server_sets_on_the_way_is_sent_to_it_from_then_on() {
    let origin = Origin::start(|request, _| {
        if request.header("Cookie").is_some_and(|cookie| cookie.contains("admitted=yes")) {
            return standard(&object(SIZE), request);
        }
        Response::redirect(302, "/file").header("Set-Cookie", "admitted=yes; Path=/; HttpOnly")
    });
    let sandbox = Sandbox::new();
    let (haul, file) = download(&sandbox, &origin.url("/file"), "");
    haul.run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert_eq!(std::fs::read(file.path()).unwrap(), b"", "the file is not changed");
}

#[test]
fn fault_103_a_redirect_that_wants_its_cookie_needs_no_cookie_file() {
    let origin = Origin::start(|request, _| {
        let cookies = request.header("Cookie").unwrap_or_default();
        let pairs: Vec<&str> = cookies.split("; ").collect();
        match request.path() {
            "/file" if pairs.contains(&"admitted=yes") => standard(&object(SIZE), request),
            "/other" if pairs.contains(&"admitted=yes") => Response::redirect(302, "/file"),
            "/wall" => Response::redirect(302, "/other")
                .header("Set-Cookie", "admitted=yes; Path=/; HttpOnly"),
            "/file" => Response::redirect(302, "/file")
                .header("Set-Cookie", "admitted=yes; Path=/; HttpOnly"),
            _ => Response::empty(403),
        }
    });
    // To itself, to another URL, and beside a cookie that was given.
    for (path, given) in [("/file", None), ("/wall", None), ("/wall", Some("Cookie: mine=1"))] {
        let sandbox = Sandbox::new();
        let haul = haul!(sandbox).args(["-o", "file"]);
        let haul = given.into_iter().fold(haul, |haul, given| haul.args(["-H", given]));
        let before = origin.requests().len();
        haul.arg(origin.url(path)).run().expect(0);
        sandbox.assert_published("file", &object(SIZE));
        let ours = |sent: &Option<String>| sent.as_ref().is_some_and(|it| it.contains("mine=1"));
        assert!(cookies(&origin)[before..].iter().all(|sent| ours(sent) == given.is_some()));
    }
}

#[test]
fn fault_103_a_cookie_of_one_host_is_not_sent_to_another() {
    let target = Origin::serving(&object(SIZE));
    let location = format!("http://localhost:{}/file", target.port());
    let origin = Origin::start(move |_, _| {
        Response::redirect(302, &location)
            .header("Set-Cookie", "sid=1; Path=/")
            .header("Set-Cookie", "foreign=2; Path=/; Domain=localhost")
            .header("Set-Cookie", "__Host-x=3; Path=/")
    });
    let sandbox = Sandbox::new();
    haul!(sandbox).args(["-o", "file"]).arg(origin.url("/file")).run().expect(0);
    sandbox.assert_published("file", &object(SIZE));
    assert!(cookies(&target).iter().all(Option::is_none), "{:?}", cookies(&target));
}

#[test]
fn a_file_that_holds_no_cookies_is_refused_without_being_quoted() {
    let origin = Origin::serving(&object(SIZE));
    let sandbox = Sandbox::new();
    let (haul, _file) = download(&sandbox, &origin.url("/file"), &format!("{CANARY}\n"));
    let outcome = haul.run();
    outcome.expect(3);
    assert!(outcome.text().contains("line 1"), "{outcome}");
    outcome.assert_free_of(CANARY);
    haul!(sandbox).args(["-b", "no-such-file"]).arg(origin.url("/file")).run().expect(3);
    assert!(origin.requests().is_empty());
}
