//! `hf://`: repositories of the Hugging Face hub, from an origin that speaks its API.

use std::fs;
use std::path::{Path, PathBuf};

use haul_tests::prelude::*;
use sha1::Digest as _;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = CANARY;

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file of the repository.
#[derive(Clone)]
struct Entry {
    path: &'static str,
    object: Object,
    /// Whether the repository has only a pointer to it.
    is_large: bool,
    /// What the API says of it.
    etag: String,
}

fn entry(path: &'static str, object: Object, is_large: bool) -> Entry {
    let bytes = object.bytes(0..object.size_bytes());
    let etag = if is_large {
        hex(sha2::Sha256::digest(&bytes))
    } else {
        let prefix = format!("blob {}\0", bytes.len());
        hex(sha1::Sha1::new_with_prefix(prefix).chain_update(&bytes).finalize())
    };
    Entry { path, object, is_large, etag }
}

fn files() -> Vec<Entry> {
    vec![
        entry("config.json", Object::new(1, 700), false),
        entry("model.bin", Object::new(2, 9 << 20), true),
        entry("data/a b%2F?#.txt", Object::new(3, 3_000), false),
        entry("data/part/0.parquet", Object::new(4, 2 << 20), true),
        // The same bytes as another file has.
        entry("copy.bin", Object::new(2, 9 << 20), true),
    ]
}

/// Two servers: the hub, which wants a token where one is given, and where its large files are,
/// which takes none.
struct Hub {
    api: Origin,
    store: Origin,
}

impl Hub {
    fn of(files: Vec<Entry>, token: Option<&'static str>) -> Self {
        let objects = files.clone();
        let store = Origin::start(move |request, _| {
            if request.header("authorization").is_some() {
                return Response::empty(400);
            }
            let file = objects.iter().find(|it| request.path() == format!("/{}", it.etag));
            file.map_or(Response::empty(404), |file| standard(&file.object, request))
        });
        let at = store.url("");
        let api = Origin::start(move |request, _| {
            let given = request.header("authorization");
            if token.is_some_and(|token| given != Some(&format!("Bearer {token}"))) {
                return Response::empty(401).header("X-Error-Code", "RepoNotFound");
            }
            answer(&files, &at, request)
        });
        Self { api, store }
    }

    fn haul(&self, sandbox: &Sandbox) -> Haul {
        haul!(sandbox).env("HF_ENDPOINT", self.api.url("")).json()
    }
}

/// As the hub answers: pages of two entries, links to the store, other files by itself.
fn answer(files: &[Entry], store: &str, request: &Request) -> Response {
    let json = |text: String| Response::text(200, "application/json", &text);
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    if path == "/api/models/o/r/revision/main" || path == "/api/models/o/r/revision/a%2Fb" {
        return json(format!(r#"{{"id":"o/r","sha":"{COMMIT}"}}"#));
    }
    if let Some(inner) = path.strip_prefix(&format!("/api/models/o/r/tree/{COMMIT}")) {
        let inner = inner.trim_start_matches('/');
        let deep = query.contains("recursive=true");
        let mut entries = Vec::new();
        for file in files {
            let Some(rest) = file.path.strip_prefix(inner) else { continue };
            let rest = rest.trim_start_matches('/');
            match rest.split_once('/').filter(|_| !deep) {
                Some((directory, _)) => {
                    let path = format!("{inner}/{directory}");
                    let path = path.trim_start_matches('/');
                    entries.push(format!(
                        r#"{{"type":"directory","oid":"{COMMIT}","size":0,"path":"{path}"}}"#
                    ));
                }
                None => entries.push(listed(file)),
            }
        }
        entries.dedup();
        if entries.is_empty() {
            return Response::empty(404).header("X-Error-Code", "EntryNotFound");
        }
        let at = query.split("cursor=").nth(1).map_or(0, |at| at.parse().unwrap());
        let page = entries[at..].iter().take(2).cloned().collect::<Vec<_>>().join(",");
        let answer = json(format!("[{page}]"));
        return match at + 2 < entries.len() {
            true => {
                // A mirror passes on the hub's own links, where this run must not send its token.
                let next = format!(
                    "<https://hub.invalid{path}?recursive={deep}&cursor={}>; rel=\"next\"",
                    at + 2
                );
                answer.header("Link", &next)
            }
            false => answer,
        };
    }
    let plain = path.replace("%20", " ").replace("%3F", "?").replace("%23", "#");
    let plain = plain.replace("%25", "%");
    let name = plain.strip_prefix(&format!("/o/r/resolve/{COMMIT}/"));
    match files.iter().find(|file| name == Some(file.path)) {
        Some(file) if file.is_large => Response::redirect(302, &format!("{store}/{}", file.etag)),
        Some(file) => standard(&file.object, request),
        None => Response::empty(404),
    }
}

fn listed(file: &Entry) -> String {
    let Entry { path, object, is_large, etag } = file;
    let size = object.size_bytes();
    if *is_large {
        format!(
            r#"{{"type":"file","oid":"{COMMIT}","size":{size},"path":"{path}",
                "lfs":{{"oid":"{etag}","size":{size},"pointerSize":134}}}}"#
        )
    } else {
        format!(r#"{{"type":"file","oid":"{etag}","size":{size},"path":"{path}"}}"#)
    }
}

fn cache(sandbox: &Sandbox) -> PathBuf {
    sandbox.root().join("home/.cache/huggingface/hub/models--o--r")
}

/// Compares the snapshot of the cache with these files, and looks for anything else.
#[track_caller]
fn assert_snapshot(cache: &Path, files: &[Entry]) {
    let blobs = fs::read_dir(cache.join("blobs")).unwrap();
    let mut blobs: Vec<_> =
        blobs.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    let mut expected: Vec<_> = files.iter().map(|it| it.etag.clone()).collect();
    blobs.sort();
    expected.sort();
    expected.dedup();
    assert_eq!(blobs, expected);
    for file in files {
        let link = cache.join("snapshots").join(COMMIT).join(file.path);
        let up = "../".repeat(file.path.matches('/').count() + 2);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new(&format!("{up}blobs/{}", file.etag)));
        assert_eq!(file.object.compare_file(&link), Ok(()));
    }
}

#[test]
fn a_snapshot_is_where_programs_for_the_hub_look_for_it() {
    let (hub, sandbox) = (Hub::of(files(), None), Sandbox::new());
    let outcome = hub.haul(&sandbox).arg("hf://o/r").run();
    outcome.expect(0).expect_notice("snapshot");
    assert_snapshot(&cache(&sandbox), &files());
    assert_eq!(fs::read_to_string(cache(&sandbox).join("refs/main")).unwrap(), COMMIT);
    // What is told of a file has its name, not that of its bytes.
    let told: Vec<_> =
        outcome.all("complete").map(|event| event["output"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told.iter().all(|output| output.contains(&format!("snapshots/{COMMIT}/"))), "{told:?}");
    assert!(sandbox.files().iter().all(|it| it.starts_with("../home/.cache/huggingface/hub/")));
    // Once more: nothing is fetched but a look at each.
    let before = hub.store.sent_bytes();
    hub.haul(&sandbox).arg("hf://o/r").run().expect(0).expect_notice("snapshot");
    assert_snapshot(&cache(&sandbox), &files());
    assert!(
        hub.store.sent_bytes() < before + (1 << 20),
        "{} more",
        hub.store.sent_bytes() - before
    );
}

#[test]
fn a_file_a_directory_and_a_pattern_are_parts_of_it() {
    let hub = Hub::of(files(), None);
    for (address, paths) in [
        ("hf://o/r/config.json", &["config.json"][..]),
        ("hf://o/r@a%2Fb/model.bin", &["model.bin"]),
        ("hf://o/r/data", &["data/a b%2F?#.txt", "data/part/0.parquet"]),
        ("hf://o/r/**/*.parquet", &["data/part/0.parquet"]),
        ("hf://o/r/data/*", &["data/a b%2F?#.txt"]),
        ("hf://o/r/data/part/0.parquet", &["data/part/0.parquet"]),
    ] {
        let (sandbox, elsewhere) = (Sandbox::new(), tempfile::tempdir().unwrap());
        let chosen: Vec<_> =
            files().into_iter().filter(|file| paths.contains(&file.path)).collect();
        let haul = hub.haul(&sandbox).env("HF_HUB_CACHE", elsewhere.path());
        haul.arg(address).run().expect(0).expect_notice("snapshot");
        let repository = elsewhere.path().join("models--o--r");
        assert_snapshot(&repository, &chosen);
        let revision = if address.contains('@') { "a/b" } else { "main" };
        let noted = fs::read_to_string(repository.join("refs").join(revision)).unwrap();
        assert_eq!(noted, COMMIT, "{address}");
        // The same into a directory, as ordinary files.
        let sandbox = Sandbox::new();
        hub.haul(&sandbox).args([address, "-d", "out"]).run().expect(0);
        let out: Vec<_> =
            chosen.iter().map(|it| (format!("out/{}", it.path), &it.object)).collect();
        let out: Vec<_> = out.iter().map(|(path, object)| (&**path, *object)).collect();
        sandbox.assert_only(&out);
        assert!(!cache(&sandbox).exists());
    }
    let sandbox = Sandbox::new();
    hub.haul(&sandbox).args(["hf://o/r/config.json", "-o", "mine"]).run().expect(0);
    sandbox.assert_only(&[("mine", &files()[0].object)]);
}

#[test]
fn the_token_is_for_the_hub_alone() {
    let hub = Hub::of(files(), Some(TOKEN));
    let ways: [fn(&Path, Haul) -> Haul; 4] = [
        |_, haul| haul.env("HF_TOKEN", format!("{TOKEN}\n")),
        |_, haul| haul.env("HUGGING_FACE_HUB_TOKEN", TOKEN),
        |home, haul| {
            fs::write(home.join("token"), TOKEN).unwrap();
            haul.env("HF_TOKEN_PATH", home.join("token"))
        },
        |_, haul| haul.args(["-H", &format!("Authorization: Bearer {TOKEN}")]),
    ];
    for with_token in ways {
        let (sandbox, home) = (Sandbox::new(), tempfile::tempdir().unwrap());
        let outcome = with_token(home.path(), hub.haul(&sandbox)).arg("hf://o/r").run();
        outcome.expect(0);
        outcome.assert_free_of(TOKEN);
        assert_snapshot(&cache(&sandbox), &files());
    }
    // The store refuses whoever sends it, and nobody did.
    assert!(hub.store.requests().iter().all(|record| record.status() != Some(400)));
    // Without it the hub says that there is no such repository, and a token may be what is missing.
    let sandbox = Sandbox::new();
    let told = hub.haul(&sandbox).arg("hf://o/r").run();
    told.expect(6).expect_message("hf://o/r");
    assert!(told.text().contains("HF_TOKEN"), "{}", told.text());
    let silent = hub.haul(&sandbox).env("HF_TOKEN", TOKEN);
    silent.env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1").arg("hf://o/r").run().expect(6);
    assert!(!cache(&sandbox).exists());
}

#[test]
fn bytes_that_the_hub_did_not_promise_get_no_name() {
    for which in [0, 1] {
        let mut wrong = files();
        wrong[which].object = Object::new(99, wrong[which].object.size_bytes());
        let (hub, sandbox) = (Hub::of(wrong.clone(), None), Sandbox::new());
        hub.haul(&sandbox).args(["hf://o/r", "--retry", "0"]).run().expect(9);
        let cache = cache(&sandbox);
        assert!(!cache.join("blobs").join(&wrong[which].etag).exists());
        assert!(!cache.join("snapshots").join(COMMIT).join(wrong[which].path).exists());
        assert!(!cache.join("refs").exists(), "whoever works offline would take it for whole");
        // The others are there.
        let other = &wrong[3];
        let link = cache.join("snapshots").join(COMMIT).join(other.path);
        assert_eq!(other.object.compare_file(&link), Ok(()));
    }
}

#[test]
fn a_download_that_is_killed_continues() {
    let (hub, sandbox) = (Hub::of(files(), None), Sandbox::new());
    let command = || hub.haul(&sandbox).args(["hf://o/r/model.bin", "-o", "model.bin"]);
    kill(command().args(["--limit-rate", "2M"]), 2 << 20);
    let outcome = command().run();
    outcome.expect(0);
    assert!(outcome.resumed_bytes() > 0);
    sandbox.assert_published("model.bin", &files()[1].object);
}

#[test]
fn what_cannot_be_is_told_before_anything_is_fetched() {
    let (hub, sandbox) = (Hub::of(files(), None), Sandbox::new());
    for (args, code, cause) in [
        (&["hf://o/r/nothing"][..], 8, "no such file"),
        (&["hf://o/r/no/such/directory"], 8, "no such file"),
        (&["hf://o/r/model.bin", "--range", "0-9"], 2, "--range"),
        (&["hf://o/other"], 8, "hf://o/other"),
        (&["hf://o/r@gone"], 8, "hf://o/r@gone"),
        (&["hf://o"], 8, "hf://o"),
        (&["hf://o/../r"], 2, "hf://o/../r"),
        (&["hf://o/r", "-o", "one"], 2, "--output"),
        (&["hf://o/r", "--checksum", &"0".repeat(64)], 2, "--checksum"),
        (&["page", "hf://o/r"], 2, "haul page"),
        (&["hf://o/r", "--https-only"], 2, "https"),
    ] {
        let outcome = hub.haul(&sandbox).args(args).args(["--retry", "0"]).run();
        outcome.expect(code).expect_message(cause);
    }
    let offline = hub.haul(&sandbox).env("HF_HUB_OFFLINE", "1").arg("hf://o/r").run();
    offline.expect(2).expect_message("HF_HUB_OFFLINE");
    assert_eq!(hub.store.requests().len(), 0);
    assert!(!cache(&sandbox).exists());
    sandbox.assert_nothing_left();
}

/// The cache has whole blobs under their names and nothing else, whatever flags say of files.
#[test]
fn flags_about_files_do_not_break_the_cache() {
    for flag in ["--no-part", "--skip-existing", "--auto-rename", "--overwrite", "--no-sync"] {
        let (hub, sandbox) = (Hub::of(files(), None), Sandbox::new());
        // A blob that is there without a link, as from another revision.
        let file = &files()[1];
        let blobs = cache(&sandbox).join("blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(&file.etag), file.object.bytes(0..file.object.size_bytes())).unwrap();
        let outcome = hub.haul(&sandbox).args(["hf://o/r", flag]).run();
        outcome.expect(0).expect_notice("snapshot");
        assert_snapshot(&cache(&sandbox), &files());
    }
}

#[test]
fn a_blob_that_has_changed_is_no_part_of_a_snapshot() {
    let (hub, sandbox) = (Hub::of(files(), None), Sandbox::new());
    hub.haul(&sandbox).arg("hf://o/r").run().expect(0);
    let (cache, file) = (cache(&sandbox), &files()[1]);
    let blob = cache.join("blobs").join(&file.etag);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[4_000_000] ^= 1;
    fs::write(&blob, bytes).unwrap();
    fs::remove_dir_all(cache.join("refs")).unwrap();
    let outcome = hub.haul(&sandbox).arg("hf://o/r").run();
    outcome.expect(3).expect_message(&file.etag);
    assert!(!outcome.has_notice("snapshot") && !cache.join("refs").exists());
    let outcome = hub.haul(&sandbox).args(["hf://o/r", "--overwrite"]).run();
    outcome.expect(0).expect_notice("snapshot");
    assert_snapshot(&cache, &files());
}

#[test]
fn records_are_of_files_wherever_the_cache_is() {
    let hub = Hub::of(files(), None);
    let keys = |run: &dyn Fn(&Sandbox, &Path) -> Haul| {
        let (sandbox, elsewhere) = (Sandbox::new(), tempfile::tempdir().unwrap());
        let results = elsewhere.path().join("results.jsonl");
        run(&sandbox, elsewhere.path()).arg("--results").arg(&results).run().expect(0);
        let text = fs::read_to_string(results).unwrap();
        let record = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let mut keys: Vec<_> = text.lines().map(|it| record(it)["key"].to_string()).collect();
        keys.sort();
        keys
    };
    let here = keys(&|sandbox, _| hub.haul(sandbox).arg("hf://o/r"));
    let there = keys(&|sandbox, elsewhere| {
        hub.haul(sandbox).env("HF_HUB_CACHE", elsewhere.join("cache")).arg("hf://o/r")
    });
    assert_eq!((here.len(), &here), (4, &there));
    // Two files that are one blob: that one is recorded says nothing of the other's name.
    let sandbox = Sandbox::new();
    let recorded = |address: &str| {
        let haul = hub.haul(&sandbox).args([address, "--results", "results.jsonl"]);
        haul.run().expect(0).expect_notice("snapshot");
    };
    recorded("hf://o/r/copy.bin");
    recorded("hf://o/r/model.bin");
    recorded("hf://o/r");
    assert_snapshot(&cache(&sandbox), &files());
}

#[test]
fn a_directory_needs_no_place_for_the_cache() {
    let (hub, sandbox) = (Hub::of(files(), None), Sandbox::new());
    let homeless = || hub.haul(&sandbox).env("HOME", "");
    homeless().args(["hf://o/r/config.json", "-d", "out"]).run().expect(0);
    sandbox.assert_only(&[("out/config.json", &files()[0].object)]);
    homeless().arg("hf://o/r").run().expect(3).expect_message("home directory");
}
