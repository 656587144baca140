//! `hf` and `python-small`: programs in Python, which the race runs as scripts.
//!
//! `hf` is a repository as the Hugging Face hub has them, ten files over TLS: nginx plays the hub
//! with files that hold its answers. `python-small` is many small files, where haul too is called
//! from Python. A script that lacks a module is left out, which is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::bar::{Bar, fastest_peer, lane};
use super::small::{make_files, same_files};
use super::{Outcome, Venue, describe_place};
use crate::Failure;
use crate::contender::{Peer, Role, find_program, quiet, says};
use crate::origin::{COMMIT, ServedDirectory, make_object};
use crate::stats::Summary;
use crate::track::{Course, Entry, Lane, Patience, race};
use crate::verify;

/// A program in Python. Its arguments are the URL of the directory, the directory to write to, and
/// how many files there are.
struct Script {
    /// The name as typed after `--peers`.
    module: &'static str,
    title: &'static str,
    role: Role,
    code: &'static str,
}

/// The modules that peers in Python are, besides hf_transfer.
pub const MODULES: [&str; 4] = ["huggingface_hub", "aiohttp", "urllib", "fsspec"];

const REPOSITORY: &str = "race/files";
const LARGE_FILES: u32 = 10;
const SMALL_FILES: u32 = 500;
const SMALL_BYTES: u64 = 200_000;

const HF_TRANSFER: &str = "8 files by hf_transfer.download, 16 connections each";
const HUB_SCRIPTS: [Script; 3] = [
    Script {
        module: "hf_transfer",
        title: HF_TRANSFER,
        role: Role::Peer,
        code: "\
import sys, hf_transfer
from concurrent.futures import ThreadPoolExecutor
base, out, count = sys.argv[1:]
def fetch(i):
    hf_transfer.download(f'{base}/{i}.bin', f'{out}/{i}.bin', 16, 10485760, 3, 5)
list(ThreadPoolExecutor(8).map(fetch, range(int(count))))
",
    },
    Script {
        module: "huggingface_hub",
        title: "huggingface_hub.snapshot_download",
        role: Role::Peer,
        code: "import huggingface_hub as hub; hub.snapshot_download('race/files')",
    },
    Script {
        module: "aiohttp",
        title: "aiohttp, a connection for each file",
        role: Role::Peer,
        code: AIOHTTP_LARGE,
    },
];

const AIOHTTP_LARGE: &str = "\
import aiohttp, asyncio, sys
base, out, count = sys.argv[1:]
async def fetch(session, i):
    async with session.get(f'{base}/{i}.bin') as response:
        response.raise_for_status()
        with open(f'{out}/{i}.bin', 'wb') as file:
            async for part in response.content.iter_chunked(1 << 20):
                file.write(part)
async def main():
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(fetch(session, i) for i in range(int(count))))
asyncio.run(main())
";

/// The script of `haul.fetch_many`, with its `sync` as Python writes it.
macro_rules! fetch_many {
    ($sync:literal) => {
        concat!(
            "import haul, sys\n",
            "base, out, count = sys.argv[1:]\n",
            "urls = (f'{base}/file-{i:04}' for i in range(int(count)))\n",
            "for result in haul.fetch_many(urls, dir=out, sync=",
            $sync,
            "):\n    result.unwrap()\n",
        )
    };
}

const URLLIB: &str = "urllib.request, 32 threads";
const FETCH_MANY: &str = "haul.fetch_many, without a sync";
const SMALL_SCRIPTS: [Script; 5] = [
    Script { module: "haul", title: FETCH_MANY, role: Role::Haul, code: fetch_many!("False") },
    Script {
        module: "haul",
        title: "haul.fetch_many",
        role: Role::Haul,
        code: fetch_many!("True"),
    },
    Script {
        module: "urllib",
        title: URLLIB,
        role: Role::Peer,
        code: "\
import shutil, sys, urllib.request
from concurrent.futures import ThreadPoolExecutor
base, out, count = sys.argv[1:]
def fetch(i):
    with urllib.request.urlopen(f'{base}/file-{i:04}') as response:
        with open(f'{out}/file-{i:04}', 'wb') as file:
            shutil.copyfileobj(response, file, 1 << 20)
list(ThreadPoolExecutor(32).map(fetch, range(int(count))))
",
    },
    Script {
        module: "aiohttp",
        title: "aiohttp, 32 connections",
        role: Role::Peer,
        code: "\
import aiohttp, asyncio, sys
base, out, count = sys.argv[1:]
async def fetch(session, i):
    async with session.get(f'{base}/file-{i:04}') as response:
        response.raise_for_status()
        with open(f'{out}/file-{i:04}', 'wb') as file:
            file.write(await response.read())
async def main():
    connector = aiohttp.TCPConnector(limit=32)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(fetch(session, i) for i in range(int(count))))
asyncio.run(main())
",
    },
    Script {
        module: "fsspec",
        title: "fsspec's http, get",
        role: Role::Peer,
        code: "\
import fsspec, sys
base, out, count = sys.argv[1:]
names = [f'file-{i:04}' for i in range(int(count))]
http = fsspec.filesystem('http')
http.get([f'{base}/{name}' for name in names], [f'{out}/{name}' for name in names])
",
    },
];

/// The scripts that can run here and are wanted, and a sentence for each that cannot.
fn runnable<'a>(
    venue: &Venue<'_>,
    scripts: &'a [Script],
) -> (Option<PathBuf>, Vec<&'a Script>, Vec<String>) {
    let Some(python) = find_program("python3") else {
        return (None, Vec::new(), vec!["python3 is not installed".to_owned()]);
    };
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for script in scripts {
        let wanted = venue.args.peers.as_ref();
        if script.role == Role::Peer
            && wanted.is_some_and(|names| names.iter().all(|name| name != script.module))
        {
            continue;
        }
        let import = format!("import {}", script.module);
        match says(&python, &["-c", &import]) {
            Some(_) => found.push(script),
            None => missing.push(format!(
                "{} does not run: python3 has no module {}",
                script.title, script.module
            )),
        }
    }
    (Some(python), found, missing)
}

/// The entry of a script; `files` is what the hub's path to the files is, below the URL of a run.
fn entry<'a>(
    script: &'a Script,
    python: &'a Path,
    source: &'a ServedDirectory<'a>,
    (files, count): (&'a str, u32),
    output: &'a Path,
    ca: Option<PathBuf>,
) -> Entry<'a> {
    Entry {
        name: script.title.to_owned(),
        role: script.role,
        source,
        after: None,
        prepare: Box::new(move |url| {
            let mut command = quiet(python);
            command.args(["-c", script.code]).arg(format!("{url}{files}")).arg(output);
            command.arg(count.to_string());
            as_user_of_the_hub(&mut command, url, output);
            if let Some(ca) = &ca {
                command.env("SSL_CERT_FILE", ca).env("REQUESTS_CA_BUNDLE", ca);
            }
            Ok(command)
        }),
    }
}

fn as_user_of_the_hub(command: &mut Command, url: &str, output: &Path) {
    command.env("HF_ENDPOINT", url).env("HF_HUB_CACHE", output).env_remove("HF_TOKEN");
    for switch in ["XET", "TELEMETRY", "PROGRESS_BARS", "IMPLICIT_TOKEN"] {
        command.env(format!("HF_HUB_DISABLE_{switch}"), "1");
    }
}

const HUB_HAUL: [&str; 2] = ["-q --no-sync", "-q"];

pub(super) fn hub(venue: &Venue<'_>, shuffle: &mut fastrand::Rng) -> Result<Outcome, Failure> {
    let size = venue.args.size.unwrap_or(crate::size::GIB) / u64::from(LARGE_FILES);
    let served = venue.origin.served(&format!("{REPOSITORY}/resolve/{COMMIT}"));
    make_repository(venue, &served, size)?;
    let output = venue.work.join("out");
    let source = ServedDirectory { origin: venue.origin, name: "", tls: true };
    let (python, scripts, mut notes) = runnable(venue, &HUB_SCRIPTS);
    let (ca, files) = (venue.origin.ca(), format!("{REPOSITORY}/resolve/{COMMIT}"));
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for flags in HUB_HAUL {
        let (ca, to) = (&ca, &output);
        entries.push(Entry {
            name: hub_name(flags),
            role: Role::Haul,
            source: &source,
            after: None,
            prepare: Box::new(move |url| {
                let mut command = quiet(venue.haul);
                command.args(flags.split(' ')).arg("--cacert").arg(ca);
                command.arg(format!("hf://{REPOSITORY}"));
                as_user_of_the_hub(&mut command, url, to);
                Ok(command)
            }),
        });
    }
    if let Some(aria2c) = venue.peers.iter().find(|it| it.peer == Peer::Aria2) {
        let flags = "-q --no-conf -j10 -x16 -s16 -k1M --file-allocation=falloc";
        let (list, ca, files, to) = (venue.work.join("list"), &ca, &files, &output);
        entries.push(Entry {
            name: format!("aria2c {flags} -i LIST"),
            role: Role::Peer,
            source: &source,
            after: None,
            prepare: Box::new(move |url| {
                let lines = (0..LARGE_FILES).map(|i| format!("{url}{files}/{i}.bin\n"));
                fs::write(&list, lines.collect::<String>())?;
                let mut command = quiet(aria2c.program());
                command.args(flags.split(' ')).arg("-i").arg(&list).arg("-d").arg(to);
                command.arg(format!("--ca-certificate={}", ca.display()));
                Ok(command)
            }),
        });
    }
    if let Some(python) = &python {
        entries.extend(scripts.into_iter().map(|script| {
            entry(script, python, &source, (&files, LARGE_FILES), &output, Some(ca.clone()))
        }));
    }
    let names: Vec<String> = (0..LARGE_FILES).map(|number| format!("{number}.bin")).collect();
    let course = Course {
        guard: venue.origin.guard(),
        scenario: "hf",
        output: output.clone(),
        keep: false,
        check: &|round, directory| {
            // In the cache of the hub, or by itself.
            let cached = directory.join(format!("models--race--files/snapshots/{COMMIT}"));
            let here = if cached.exists() { cached.as_path() } else { directory };
            let same = if round == 1 { verify::same_whole } else { verify::same_sampled };
            names.iter().try_for_each(|name| same(&served.join(name), &here.join(name)))
        },
        then_sync: false,
        patience: Patience::USUAL,
    };
    let lanes = race(&course, &entries, venue.args.rounds, shuffle)?;
    notes.push(
        "haul compares each file with the SHA-256 that the hub tells; nobody else does".into(),
    );
    let mine = lane(&lanes, &hub_name(HUB_HAUL[0])).and_then(Lane::wall);
    let mut bars = Vec::new();
    let mut bar = |whose: &str, theirs: Option<Summary>, bound| {
        if theirs.is_some() {
            let what = format!("hf: wall of haul {} to that of {whose}", HUB_HAUL[0]);
            bars.push(Bar::ratio(what, mine, theirs, bound));
        }
    };
    bar("hf_transfer", lane(&lanes, HF_TRANSFER).and_then(Lane::wall), 0.5);
    let others: Vec<Lane> = lanes.iter().filter(|it| it.name != HF_TRANSFER).cloned().collect();
    if let Some((peer, theirs)) = fastest_peer(&others, Lane::wall) {
        bar(&peer.name, Some(theirs), 0.8);
    }
    fs::remove_dir_all(&served)?;
    Ok(Outcome {
        scenario: "hf",
        size_bytes: size * u64::from(LARGE_FILES),
        files: LARGE_FILES,
        output: describe_place(&output),
        limit_s: None,
        lanes,
        notes,
        bars,
    })
}

fn hub_name(flags: &str) -> String {
    format!("haul {flags} hf://{REPOSITORY}")
}

/// The files, and what the hub's API says of them, as files.
fn make_repository(venue: &Venue<'_>, served: &Path, size: u64) -> Result<(), Failure> {
    fs::create_dir_all(served)?;
    let (mut siblings, mut tree) = (Vec::new(), Vec::new());
    for number in 0..LARGE_FILES {
        let name = format!("{number}.bin");
        // No two of them are of one size, and so alike.
        let size = size + u64::from(number);
        make_object(&served.join(&name), size)?;
        let said = Command::new("openssl")
            .args(["dgst", "-sha256", "-r"])
            .arg(served.join(&name))
            .output()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let digest = said.split(' ').next().unwrap_or_default();
        siblings.push(serde_json::json!({ "rfilename": name }));
        tree.push(serde_json::json!({
            "type": "file", "path": name, "size": size, "oid": COMMIT,
            "lfs": { "oid": digest, "size": size, "pointerSize": 134 },
        }));
    }
    let api = venue.origin.served(&format!("api/models/{REPOSITORY}"));
    let info = serde_json::json!({
        "id": REPOSITORY, "sha": COMMIT, "private": false, "tags": [], "downloads": 0, "likes": 0,
        "siblings": siblings,
    });
    for (place, answer) in [("revision/main", info), (&*format!("tree/{COMMIT}"), tree.into())] {
        let file = api.join(place);
        fs::create_dir_all(file.parent().unwrap_or(&api))?;
        fs::write(file, answer.to_string())?;
    }
    Ok(())
}

pub(super) fn small(venue: &Venue<'_>, shuffle: &mut fastrand::Rng) -> Result<Outcome, Failure> {
    let served = venue.origin.served("python-small");
    let names: Vec<String> = (0..SMALL_FILES).map(|number| format!("file-{number:04}")).collect();
    make_files(&served, &names, SMALL_BYTES)?;
    let output = venue.work.join("out");
    let source = ServedDirectory { origin: venue.origin, name: "python-small", tls: false };
    let (python, scripts, notes) = runnable(venue, &SMALL_SCRIPTS);
    let python = python.unwrap_or_default();
    let entries: Vec<Entry<'_>> = scripts
        .into_iter()
        .map(|script| entry(script, &python, &source, ("", SMALL_FILES), &output, None))
        .collect();
    let course = Course {
        guard: venue.origin.guard(),
        scenario: "python-small",
        output: output.clone(),
        keep: true,
        check: &|_, directory| same_files(&served, &names, directory),
        then_sync: false,
        patience: Patience::USUAL,
    };
    let lanes = race(&course, &entries, venue.args.rounds, shuffle)?;
    let wall = |name: &str| lane(&lanes, name).and_then(Lane::wall);
    let what = format!("python-small: wall of {FETCH_MANY} to that of {URLLIB}");
    let bars = vec![Bar::ratio(what, wall(FETCH_MANY), wall(URLLIB), 1.0)];
    fs::remove_dir_all(&served)?;
    Ok(Outcome {
        scenario: "python-small",
        size_bytes: u64::from(SMALL_FILES) * SMALL_BYTES,
        files: SMALL_FILES,
        output: describe_place(&output),
        limit_s: None,
        lanes,
        notes,
        bars,
    })
}
