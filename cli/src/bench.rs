//! `haul bench`: downloads one object with different numbers of connections,
//! through the engine and to a real file, and says which number pays.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use haul_engine::{
    Connections, Engine, EngineConfig, Existing, Resume, StorageKind, Summary, redact_url,
};
use serde::Serialize;

use crate::args::{BenchArgs, StorageArg};
use crate::exit::{self, Failure};
use crate::jobs::{self, Outcome};
use crate::origin::Origin;
use crate::plan;
use crate::render::{self, View, Voice, to_stderr, to_stdout};
use crate::request::{self, Request};
use crate::signals::{Interrupt, Stop};
use crate::units::{rate, size};

/// The numbers of connections that are tried.
const TRIED: [usize; 4] = [1, 4, 8, 16];

/// The size of the embedded origin's object in bytes.
const DEFAULT_SIZE_BYTES: u64 = 256 << 20;

/// A smaller number of connections is recommended when it reaches this part of
/// the best speed: the rest is noise, and connections are the server's cost.
const GOOD_ENOUGH: f64 = 0.95;

/// A `bench` that can be run.
#[derive(Debug)]
pub(crate) struct BenchPlan {
    url: Option<String>,
    size_bytes: u64,
    directory: PathBuf,
    connections: Vec<usize>,
    storages: Vec<StorageKind>,
    sync: bool,
    json: bool,
    voice: Voice,
    markdown: Option<PathBuf>,
    engine: EngineConfig,
    request: Request,
}

/// Resolves the flags of `haul bench`.
///
/// # Errors
/// Exit 2, as for `haul URL...`.
pub(crate) fn resolve(args: BenchArgs) -> Result<BenchPlan, Failure> {
    let url = args.url.as_deref().map(plan::url).transpose()?;
    let (engine, request) = request::resolve(args.request)?;
    let storages = if args.storage.is_empty() { vec![StorageArg::Auto] } else { args.storage };
    Ok(BenchPlan {
        url,
        size_bytes: args.size.unwrap_or(DEFAULT_SIZE_BYTES),
        directory: args.dir.unwrap_or_else(std::env::temp_dir),
        connections: args.connections.map_or_else(|| TRIED.to_vec(), |count| vec![count]),
        storages: storages.into_iter().map(plan::storage).collect(),
        sync: !args.no_sync,
        json: args.json,
        voice: if args.quiet || args.json { Voice::Quiet } else { Voice::Meter },
        markdown: args.export_markdown,
        engine,
        request,
    })
}

/// One measured download.
#[derive(Debug, Clone, Serialize)]
struct Run {
    connections: usize,
    storage: &'static str,
    seconds: f64,
    bytes_per_second: f64,
    ttfb_s: Option<f64>,
}

/// All of them, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    url: String,
    bytes: u64,
    runs: Vec<Run>,
    recommended_connections: Option<usize>,
    blake3_ok: bool,
}

/// Measures, prints, and returns the exit code.
pub(crate) async fn run(plan: BenchPlan, stop: Stop) -> u8 {
    match measure(&plan, &stop).await {
        Ok(code) => code,
        Err(failure) => {
            render::tell(&failure);
            failure.exit
        }
    }
}

async fn measure(plan: &BenchPlan, stop: &Stop) -> Result<u8, Failure> {
    let origin = match &plan.url {
        Some(_) => None,
        None => Some(Origin::start(plan.size_bytes).map_err(|error| {
            Failure::internal(format!("the embedded origin cannot listen on 127.0.0.1: {error}"))
        })?),
    };
    let url = match (&plan.url, &origin) {
        (Some(url), _) => url.clone(),
        (None, Some(origin)) => origin.url(),
        (None, None) => return Err(Failure::internal("nothing to measure with")),
    };
    let expected = match &origin {
        Some(origin) => {
            let object = origin.object().clone();
            Some(blocking(move || object.blake3()).await?)
        }
        None => None,
    };
    let scratch = Scratch::create(&plan.directory, stop)?;
    let bench = Bench { plan, url: &url, scratch: &scratch, stop, expected };
    let report = match bench.runs().await? {
        Ended::Measured(report) => report,
        Ended::Early(code) => return Ok(code),
    };
    if plan.json {
        to_stdout(&[serde_json::to_string(&report).unwrap_or_default()]);
    } else {
        to_stdout(&conclusion(&report));
    }
    if let Some(file) = &plan.markdown {
        fs::write(file, markdown(&report)).map_err(|error| {
            let file = render::escape(&file.to_string_lossy());
            Failure::local(format!("--export-markdown cannot write `{file}`: {error}"))
        })?;
    }
    if !report.blake3_ok {
        return Err(Failure::new(
            exit::DIGEST,
            "digest-mismatch",
            "a downloaded file is not the object that was served: its BLAKE3 differs",
        )
        .hint("run it again; if it stays so, report it with the output of haul --version"));
    }
    Ok(exit::OK)
}

/// How the runs ended.
enum Ended {
    Measured(Report),
    Early(u8),
}

struct Bench<'a> {
    plan: &'a BenchPlan,
    url: &'a str,
    scratch: &'a Scratch,
    stop: &'a Stop,
    expected: Option<[u8; 32]>,
}

impl Bench<'_> {
    async fn runs(&self) -> Result<Ended, Failure> {
        let plan = self.plan;
        let view = render::view(plan.voice, false);
        view.begin(1, self.url);
        plan.request.warnings.iter().for_each(|text| view.warning(text));
        if plan.voice == Voice::Meter {
            let directory = render::escape(&self.scratch.path.to_string_lossy());
            to_stderr(&[format!("measuring {} into {directory}", redact_url(self.url))]);
        }
        let mut report = Report {
            url: redact_url(self.url),
            bytes: 0,
            runs: Vec::new(),
            recommended_connections: None,
            blake3_ok: true,
        };
        // What the file system and the page cache do on first use is not part of
        // any one number of connections.
        if self.expected.is_some()
            && let Measured::Ended(code) = self.one(1, plan.storages[0], &*view).await?
        {
            return Ok(Ended::Early(code));
        }
        let mut hash = self.expected;
        for &storage in &plan.storages {
            for &connections in &plan.connections {
                let download = match self.one(connections, storage, &*view).await? {
                    Measured::Ended(code) => return Ok(Ended::Early(code)),
                    Measured::Download(download) => download,
                };
                if !plan.json {
                    if report.runs.is_empty() {
                        to_stdout(&[TABLE_HEAD.to_owned()]);
                    }
                    to_stdout(&[row(&download.run)]);
                }
                report.bytes = download.bytes;
                report.runs.push(download.run);
                // Without a known object all runs must at least agree.
                report.blake3_ok &= *hash.get_or_insert(download.hash) == download.hash;
                if !download.ranges {
                    break;
                }
            }
        }
        report.recommended_connections = recommended(&report.runs);
        Ok(Ended::Measured(report))
    }

    async fn one(
        &self,
        connections: usize,
        storage: StorageKind,
        view: &dyn View,
    ) -> Result<Measured, Failure> {
        // A new engine each time: no connection of the run before is reused.
        let engine = Engine::new(self.plan.engine.clone())?;
        let download = self
            .plan
            .request
            .apply(engine.download(self.url))
            .directory(&self.scratch.path)
            .output(Path::new("object"))
            .connections(Connections::Fixed(connections))
            .storage(storage)
            .resume(Resume::Never)
            .existing(Existing::Replace)
            .remote_time(false)
            .sync(self.plan.sync)
            .start()?;
        let (started, summary) = match jobs::drive(download, 1, view, self.stop.clone()).await {
            Outcome::Completed(completed) => (completed.started, completed.summary),
            Outcome::Failed(failure) => {
                view.failed(1, &failure);
                return Ok(Measured::Ended(failure.exit));
            }
            Outcome::Interrupted { .. } | Outcome::Planned => {
                to_stderr(&["interrupted: the measurement is incomplete".to_owned()]);
                let interrupt = self.stop.now().map_or(exit::INTERNAL, Interrupt::exit_code);
                return Ok(Measured::Ended(interrupt));
            }
        };
        let file = summary.output.clone();
        let hash = blocking(move || hash_and_remove(&file)).await?.map_err(|error| {
            Failure::local(format!("the downloaded file cannot be read again: {error}"))
        })?;
        let storage = started.as_ref().map_or("unknown", |started| started.storage);
        let ranges = started.is_some_and(|started| started.ranges);
        let mut run = measured(&summary, storage);
        run.connections = connections;
        Ok(Measured::Download(Measurement { run, bytes: summary.bytes, hash, ranges }))
    }
}

enum Measured {
    Download(Measurement),
    Ended(u8),
}

struct Measurement {
    run: Run,
    bytes: u64,
    /// BLAKE3 of the file as it is on the disk.
    hash: [u8; 32],
    ranges: bool,
}

fn measured(summary: &Summary, storage: &'static str) -> Run {
    let seconds = summary.elapsed.as_secs_f64();
    Run {
        connections: summary.connections,
        storage,
        seconds,
        bytes_per_second: summary.bytes as f64 / seconds.max(1e-9),
        ttfb_s: summary.time_to_first_byte.map(|time| time.as_secs_f64()),
    }
}

/// Reads the file, because the engine's own hash is of the bytes received and
/// says nothing of where they were put.
fn hash_and_remove(file: &Path) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(file)?)?;
    fs::remove_file(file)?;
    Ok(hasher.finalize().into())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::internal(format!("a worker thread failed: {error}")))
}

/// The fewest connections that are as fast as any, or nearly so.
fn recommended(runs: &[Run]) -> Option<usize> {
    let best = runs.iter().map(|run| run.bytes_per_second).fold(0.0, f64::max);
    runs.iter()
        .filter(|run| run.bytes_per_second >= best * GOOD_ENOUGH)
        .map(|run| run.connections)
        .min()
}

const TABLE_HEAD: &str = "connections  storage   seconds         speed  first byte";

fn row(run: &Run) -> String {
    format!(
        "{:>11}  {:<7}  {:>8.3}  {:>12}  {:>10}",
        run.connections,
        run.storage,
        run.seconds,
        rate(run.bytes_per_second),
        first_byte(run)
    )
}

fn first_byte(run: &Run) -> String {
    run.ttfb_s.map_or_else(|| "-".to_owned(), |seconds| format!("{:.1} ms", seconds * 1e3))
}

fn conclusion(report: &Report) -> Vec<String> {
    let verdict = if report.blake3_ok { "correct" } else { "WRONG" };
    let mut lines = vec![format!("{} a run, every file's BLAKE3 {verdict}", size(report.bytes))];
    if let Some(connections) = report.recommended_connections {
        lines.push(format!("recommended: -x {connections}"));
    }
    lines
}

fn markdown(report: &Report) -> String {
    let mut text = format!(
        "`haul bench` of {} from {}\n\n\
         | connections | storage | seconds | speed | first byte |\n\
         |---:|---|---:|---:|---:|\n",
        size(report.bytes),
        report.url.replace('|', "%7C")
    );
    for run in &report.runs {
        text += &format!(
            "| {} | {} | {:.3} | {} | {} |\n",
            run.connections,
            run.storage,
            run.seconds,
            rate(run.bytes_per_second),
            first_byte(run)
        );
    }
    text.push('\n');
    for line in conclusion(report) {
        text += &line;
        text.push('\n');
    }
    text
}

/// A directory that is gone when this is dropped, and when a second Ctrl-C ends
/// the process at once.
struct Scratch {
    path: PathBuf,
    stop: Stop,
}

impl Scratch {
    fn create(parent: &Path, stop: &Stop) -> Result<Self, Failure> {
        fs::create_dir_all(parent).map_err(|error| Self::refused(parent, &error))?;
        // Made and not opened: a name that someone else put there is an error.
        for attempt in 0..100 {
            let path = parent.join(format!("haul-bench-{}-{attempt}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    stop.set_scratch(Some(path.clone()));
                    return Ok(Self { path, stop: stop.clone() });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Self::refused(parent, &error)),
            }
        }
        Err(Self::refused(parent, &io::ErrorKind::AlreadyExists.into()))
    }

    fn refused(parent: &Path, error: &io::Error) -> Failure {
        let parent = render::escape(&parent.to_string_lossy());
        Failure::local(format!("no temporary directory can be made in `{parent}`: {error}"))
            .hint("name another with --dir DIR")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        self.stop.set_scratch(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_run(connections: usize, bytes_per_second: f64) -> Run {
        Run { connections, storage: "mmap", seconds: 0.5, bytes_per_second, ttfb_s: Some(0.001) }
    }

    #[test]
    fn fewest_connections_of_nearly_the_best_speed_are_recommended() {
        let runs = [a_run(1, 60.0), a_run(4, 96.0), a_run(8, 100.0), a_run(16, 90.0)];
        assert_eq!(recommended(&runs), Some(4));
        assert_eq!(recommended(&[a_run(16, 1.0)]), Some(16));
        assert_eq!(recommended(&[]), None);
    }

    #[test]
    fn report_has_the_contracts_fields() {
        let report = Report {
            url: "http://127.0.0.1:1/object.bin".to_owned(),
            bytes: 256,
            runs: vec![a_run(4, 512.0)],
            recommended_connections: Some(4),
            blake3_ok: true,
        };
        assert_eq!(
            serde_json::to_value(&report).unwrap(),
            serde_json::json!({
                "url": "http://127.0.0.1:1/object.bin",
                "bytes": 256,
                "runs": [{"connections": 4, "storage": "mmap", "seconds": 0.5,
                          "bytes_per_second": 512.0, "ttfb_s": 0.001}],
                "recommended_connections": 4,
                "blake3_ok": true
            })
        );
        assert_eq!(row(&report.runs[0]).len(), TABLE_HEAD.len());
        let text = markdown(&report);
        assert!(text.contains("| 4 | mmap | 0.500 | 512 B/s | 1.0 ms |\n"), "{text}");
    }

    #[test]
    fn file_is_hashed_from_the_disk_and_gone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("object");
        fs::write(&file, b"bytes").unwrap();
        assert_eq!(hash_and_remove(&file).unwrap(), <[u8; 32]>::from(blake3::hash(b"bytes")));
        assert!(!file.exists());
    }

    #[test]
    fn scratch_directory_is_removed_and_private() {
        use std::os::unix::fs::PermissionsExt as _;

        let parent = tempfile::tempdir().unwrap();
        let stop = Stop::never();
        let scratch = Scratch::create(&parent.path().join("new"), &stop).unwrap();
        let path = scratch.path.clone();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(path.join("object.part"), b"x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
