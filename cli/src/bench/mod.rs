//! `haul bench`: the speed of a server by the number of connections, and the cost of this machine's
//! storage.
//!
//! There are two series of downloads through the engine, each with several rounds in shuffled
//! order. The first varies the number of connections and keeps nothing, so that only the network
//! counts; from a server it fetches no more than [`SURVEY_BYTES`] or [`SURVEY_TIME`] per run, and
//! less once the speed is steady. The second stores the embedded origin's object in each way, with
//! the number of connections that won, so that only the storage counts. With `--storage` there is a
//! single series: whole objects into the named storages.
//!
//! [`measure`] runs a download within a [`budget`], and its [`course`] shows the steady speed.
//! [`judge`] and [`limit`] draw the conclusions, [`report`] and [`chart`] show them, and [`machine`]
//! tells who else was busy here.

mod budget;
mod chart;
mod course;
mod judge;
mod limit;
mod machine;
mod measure;
mod report;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use haul_engine::{
    Connections, Engine, EngineConfig, HttpVersion, Proxies, StorageKind, redact_url,
};

use self::budget::Budget;
use self::judge::Point;
use self::machine::Ticks;
use self::measure::{Ended, Limits, Sample};
use self::report::Report;
use crate::address;
use crate::args::{BenchArgs, MeasuredStorage};
use crate::blocking;
use crate::exit::{self, Failure};
use crate::origin::Origin;
use crate::render::{self, View, Voice, to_stderr, to_stdout};
use crate::request::{self, Request};
use crate::scratch::Scratch;
use crate::signals::Stop;
use crate::units::{duration, plural, size};

/// The numbers of connections that are tried.
const TRIED: [usize; 5] = [1, 2, 4, 8, 16];

/// The size of the embedded origin's object in bytes.
const DEFAULT_SIZE_BYTES: u64 = 256 << 20;

/// The most that one run of the first series fetches from somebody's server.
const SURVEY_BYTES: u64 = 64 << 20;
/// The same, from a server that sends a burst first, within what all runs may fetch without one.
const SURVEY_BYTES_AFTER_BURST: u64 = 4 * SURVEY_BYTES;
const SURVEY_TIME: Duration = Duration::from_secs(5);

const DEFAULT_ROUNDS: usize = 3;

/// A `bench` that can be run.
#[derive(Debug)]
pub(crate) struct BenchPlan {
    url: Option<String>,
    /// The size of the embedded origin's object.
    object_bytes: u64,
    limits: Limits,
    directory: PathBuf,
    connections: Vec<Connections>,
    /// The named storages; without any there are two series.
    storages: Vec<StorageKind>,
    rounds: usize,
    sync: bool,
    json: bool,
    voice: Voice,
    markdown: Option<PathBuf>,
    svg: Option<PathBuf>,
    engine: EngineConfig,
    request: Request,
}

impl BenchPlan {
    /// Whether TLS is to be expected.
    pub(crate) fn may_decrypt(&self) -> bool {
        self.url.as_ref().is_some_and(|url| url.starts_with("https:"))
    }
}

/// Resolves the flags of `haul bench`.
///
/// # Errors
/// Exit 2, as for `haul URL...`.
pub(crate) fn resolve(args: BenchArgs) -> Result<BenchPlan, Failure> {
    let url = args.url.as_deref().map(address::url).transpose()?;
    let (mut engine, request) = request::resolve(args.request)?;
    if url.is_none() {
        // Nothing stands between this process and the origin inside it.
        engine.proxies = Proxies::default();
        engine.http_version = HttpVersion::Auto;
    }
    let named = !args.storage.is_empty();
    let mut counts = args.connections;
    counts.sort_unstable();
    counts.dedup();
    let connections = match (counts.is_empty(), named) {
        (true, false) => TRIED.map(Connections::Fixed).to_vec(),
        (true, true) => vec![Connections::Auto],
        (false, _) => counts.into_iter().map(Connections::Fixed).collect(),
    };
    // Named storages get whole objects, unless a limit is given too.
    let survey = url.is_some() && !named;
    let limits = Limits {
        bytes: args.size.filter(|_| url.is_some()).or(survey.then_some(SURVEY_BYTES)),
        bytes_after_burst: (survey && args.size.is_none()).then_some(SURVEY_BYTES_AFTER_BURST),
        time: args.time.or(survey.then_some(SURVEY_TIME)),
        settles: survey && args.time.is_none(),
    };
    let rounds = if url.is_some() && named { 1 } else { DEFAULT_ROUNDS };
    Ok(BenchPlan {
        object_bytes: args.size.unwrap_or(DEFAULT_SIZE_BYTES),
        url,
        limits,
        directory: args.dir.unwrap_or_else(std::env::temp_dir),
        connections,
        storages: args.storage.into_iter().map(storage).collect(),
        rounds: args.rounds.unwrap_or(rounds),
        sync: !args.no_sync,
        json: args.json,
        voice: if args.quiet || args.json { Voice::Quiet } else { Voice::Meter },
        markdown: args.export_markdown,
        svg: args.export_svg,
        engine,
        request,
    })
}

fn storage(named: MeasuredStorage) -> StorageKind {
    match named {
        MeasuredStorage::Null => StorageKind::Null,
        MeasuredStorage::Pwrite => StorageKind::Pwrite,
        MeasuredStorage::Mmap => StorageKind::Mmap,
        MeasuredStorage::Auto => StorageKind::Auto,
    }
}

/// Why a measurement ends without a report.
enum Halt {
    Failure(Failure),
    /// The failure was reported; the exit code.
    Told(u8),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Measures, prints, and returns the exit code.
pub(crate) async fn run(plan: BenchPlan, stop: Stop) -> u8 {
    let report = match measure(&plan, &stop).await {
        Ok(report) => report,
        Err(Halt::Told(code)) => return code,
        Err(Halt::Failure(failure)) => {
            render::tell(&failure);
            return failure.exit;
        }
    };
    match publish(&plan, &report) {
        Ok(()) => exit::OK,
        Err(failure) => {
            render::tell(&failure);
            failure.exit
        }
    }
}

async fn measure(plan: &BenchPlan, stop: &Stop) -> Result<Report, Halt> {
    let scratch = Scratch::create_below(&plan.directory, "bench", stop)
        .map_err(|failure| failure.hint("name another with --dir DIR"))?;
    // The origin is needed without a URL, and for the cost of storage.
    let needs_origin = plan.url.is_none() || plan.storages.is_empty();
    let origin = if needs_origin { Some(Embedded::start(plan.object_bytes).await?) } else { None };
    let embedded = origin.as_ref().map(|origin| &origin.source);
    let source = match (&plan.url, embedded) {
        (Some(url), _) => Source { url: url.clone(), expected: None, limits: plan.limits },
        (None, Some(embedded)) => Source { limits: plan.limits, ..embedded.clone() },
        (None, None) => return Err(Failure::internal("nothing to measure with").into()),
    };
    let bench = Bench { plan, scratch: &scratch, stop, view: render::view(plan.voice, false) };
    bench.view.begin(1, &source.url);
    plan.request.warnings.iter().for_each(|text| bench.view.warning(text));

    let before = Ticks::now();
    let kept = if plan.storages.is_empty() { &[StorageKind::Null][..] } else { &plan.storages };
    let settings: Vec<Setting> = kept
        .iter()
        .flat_map(|&storage| {
            plan.connections.iter().map(move |&connections| Setting { connections, storage })
        })
        .collect();
    bench.announce(&source, &settings);
    let survey = bench.series(&source, settings).await?;
    let mut report = Report::of(redact_url(&source.url), &survey);
    let mut samples = survey.into_samples();
    if let (true, Some(embedded)) = (plan.storages.is_empty(), embedded) {
        let connections = report.recommended_connections.unwrap_or(1);
        let setting = |storage| Setting { connections: Connections::Fixed(connections), storage };
        let settings = [StorageKind::Null, StorageKind::Pwrite, StorageKind::Mmap].map(setting);
        let storages = bench.series(embedded, settings.to_vec()).await?;
        report.add_storages(&storages);
        samples.extend(storages.into_samples());
    }
    let load = before.and_then(|before| before.until(Ticks::now()?));
    report.conclude(&samples, load);
    Ok(report)
}

/// Prints the report and writes its files.
fn publish(plan: &BenchPlan, report: &Report) -> Result<(), Failure> {
    if plan.json {
        to_stdout(&[serde_json::to_string(report).unwrap_or_default()]);
    } else {
        to_stdout(&report.lines());
        let view = render::view(plan.voice, false);
        report.warnings.iter().for_each(|text| view.warning(text));
    }
    let write = |flag: &str, file: &Option<PathBuf>, text: &dyn Fn() -> String| match file {
        None => Ok(()),
        Some(file) => fs::write(file, text()).map_err(|error| {
            let file = render::escape(&file.to_string_lossy());
            Failure::local(format!("{flag} cannot write `{file}`: {error}"))
        }),
    };
    write("--export-markdown", &plan.markdown, &|| report.markdown())?;
    write("--export-svg", &plan.svg, &|| chart::svg(report))?;
    if report.blake3_ok == Some(false) {
        return Err(Failure::new(
            exit::DIGEST,
            "digest-mismatch",
            "a downloaded object is not the one that was served: its BLAKE3 differs",
        )
        .hint("run it again; if this persists, report it with the output of haul --version"));
    }
    Ok(())
}

/// What is downloaded.
#[derive(Debug, Clone)]
struct Source {
    url: String,
    /// BLAKE3 of the object, if it is known.
    expected: Option<[u8; 32]>,
    limits: Limits,
}

/// The embedded origin as a source.
struct Embedded {
    source: Source,
    _origin: Origin,
}

impl Embedded {
    async fn start(object_bytes: u64) -> Result<Self, Failure> {
        let origin = Origin::start(object_bytes)?;
        let object = origin.object().clone();
        let expected = Some(blocking(move || object.blake3()).await?);
        let source = Source { url: origin.url("object.bin"), expected, limits: Limits::default() };
        Ok(Self { source, _origin: origin })
    }
}

/// The parameters that vary.
#[derive(Debug, Clone, Copy)]
struct Setting {
    connections: Connections,
    storage: StorageKind,
}

/// The rounds of some settings.
struct Series {
    /// The rounds of each setting, in the order of the settings.
    samples: Vec<Vec<Sample>>,
    /// Whether every whole object was the right one; `None` if there was none.
    right: Option<bool>,
}

impl Series {
    fn points(&self) -> Vec<Point> {
        self.samples.iter().filter_map(|rounds| Point::of(rounds)).collect()
    }

    fn into_samples(self) -> Vec<Sample> {
        self.samples.into_iter().flatten().collect()
    }
}

struct Bench<'a> {
    plan: &'a BenchPlan,
    scratch: &'a Scratch,
    stop: &'a Stop,
    view: Arc<dyn View>,
}

impl Bench<'_> {
    /// Announces what will be fetched, before the first byte.
    fn announce(&self, source: &Source, settings: &[Setting]) {
        if self.plan.voice != Voice::Meter {
            return;
        }
        let runs = self.runs(source, settings);
        let bytes = |bytes| match source.limits.bytes_after_burst {
            Some(more) => format!("{} ({} after a burst)", size(bytes), size(more)),
            None => size(bytes),
        };
        let each = match (source.limits.bytes, source.limits.time) {
            (Some(most), Some(time)) => {
                format!("at most {} or {} each", bytes(most), duration(time))
            }
            (Some(most), None) => format!("at most {} each", bytes(most)),
            (None, Some(time)) => format!("at most {} each", duration(time)),
            (None, None) => "the whole object each".to_owned(),
        };
        let in_all = source.limits.bytes.map_or_else(String::new, |bytes| {
            format!(", {} in all", size(bytes.saturating_mul(runs)))
        });
        to_stderr(&[format!(
            "measuring {}: {}, {each}{in_all}",
            redact_url(&source.url),
            plural(runs, "run", "runs")
        )]);
    }

    /// Whether the caches are filled by a first run, so that no setting pays for it. Whole objects
    /// of somebody's server are not fetched for that.
    fn warms_up(&self, source: &Source) -> bool {
        source.expected.is_some() || source.limits.bytes.is_some() || source.limits.time.is_some()
    }

    /// How many downloads a series has.
    fn runs(&self, source: &Source, settings: &[Setting]) -> u64 {
        let first = if self.warms_up(source) { each_storage(settings).len() } else { 0 };
        (settings.len() * self.plan.rounds + first) as u64
    }

    async fn series(&self, source: &Source, mut settings: Vec<Setting>) -> Result<Series, Halt> {
        let mut budget = Budget::new(source.limits, self.runs(source, &settings));
        if self.warms_up(source) {
            let mut ranges = true;
            for mut setting in each_storage(&settings) {
                if source.limits.bytes.is_some() {
                    // One response shows how a server begins, and costs it least.
                    setting.connections = Connections::Fixed(1);
                }
                let first = self.one(source, setting, source.limits).await?;
                budget.spend(first.bytes);
                budget.learn(&first);
                ranges &= first.ranges;
            }
            if !ranges {
                one_connection(&mut settings);
            }
        }
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); settings.len()];
        let mut round_bytes = 0;
        for _ in 0..self.plan.rounds {
            if !budget.allows(round_bytes) {
                break;
            }
            let spent_bytes = budget.spent_bytes();
            // A setting that always came after the same one would profit or suffer from it.
            let mut order: Vec<usize> = (0..settings.len()).collect();
            fastrand::shuffle(&mut order);
            for (done, index) in order.into_iter().enumerate() {
                let limits = budget.next(settings.len() - done - 1);
                let sample = self.one(source, settings[index], limits).await?;
                budget.spend(sample.bytes);
                samples[index].push(sample);
            }
            round_bytes = budget.spent_bytes() - spent_bytes;
        }
        // Without a known object, all must at least agree.
        let mut hashes = samples.iter().flatten().filter_map(|sample| sample.hash).peekable();
        let right = source.expected.or(hashes.peek().copied());
        let right = hashes.map(|hash| Some(hash) == right).reduce(|a, b| a && b);
        Ok(Series { samples, right })
    }

    async fn one(&self, source: &Source, setting: Setting, limits: Limits) -> Result<Sample, Halt> {
        // A new engine for each run, so that no connection is reused.
        let engine = Engine::new(self.plan.engine.clone()).map_err(Failure::from)?;
        let builder = self
            .plan
            .request
            .apply(engine.download(&source.url), &source.url, true)
            .sync(self.plan.sync);
        let into = (self.scratch.path(), setting.storage);
        let run = measure::run(builder, into, setting.connections, limits, &*self.view, self.stop);
        match run.await? {
            Ended::Sample(sample) => Ok(sample),
            Ended::Early(code) => Err(Halt::Told(code)),
        }
    }
}

/// The first setting of each storage.
fn each_storage(settings: &[Setting]) -> Vec<Setting> {
    let mut firsts: Vec<Setting> = Vec::new();
    for &setting in settings {
        if firsts.iter().all(|first| first.storage != setting.storage) {
            firsts.push(setting);
        }
    }
    firsts
}

/// Without byte ranges, all numbers of connections amount to one.
fn one_connection(settings: &mut Vec<Setting>) {
    settings.iter_mut().for_each(|setting| setting.connections = Connections::Fixed(1));
    settings.dedup_by_key(|setting| setting.storage);
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::args::{self, Command};

    fn resolved(words: &[&str]) -> BenchPlan {
        let words = ["haul", "bench"].iter().chain(words).map(OsString::from);
        match args::parse(words).unwrap() {
            Command::Bench(args) => resolve(args).unwrap(),
            other => panic!("not a bench: {other:?}"),
        }
    }

    #[test]
    fn somebodys_server_is_asked_for_little_unless_told_otherwise() {
        let survey = resolved(&["http://h/"]);
        assert_eq!(survey.limits.bytes, Some(SURVEY_BYTES));
        assert_eq!(survey.limits.time, Some(SURVEY_TIME));
        assert_eq!((survey.connections.len(), survey.rounds), (TRIED.len(), DEFAULT_ROUNDS));
        let chosen = resolved(&["http://h/", "--size", "1M", "--time", "500ms"]).limits;
        assert_eq!((chosen.bytes, chosen.time), (Some(1 << 20), Some(Duration::from_millis(500))));
        assert!(chosen.bytes_after_burst.is_none() && !chosen.settles, "it was told");
        assert_eq!(survey.limits.bytes_after_burst, Some(SURVEY_BYTES_AFTER_BURST));
        let own = resolved(&["--size", "1M"]);
        assert_eq!((own.limits.bytes, own.limits.time, own.object_bytes), (None, None, 1 << 20));
    }

    #[test]
    fn named_storage_gets_the_whole_object_once() {
        let plan = resolved(&["--storage", "null", "http://h/"]);
        assert_eq!((plan.limits.bytes, plan.limits.time, plan.rounds), (None, None, 1));
        assert_eq!(plan.connections, [Connections::Auto]);
        assert_eq!(plan.storages, [StorageKind::Null]);
        let plan = resolved(&["--storage", "pwrite,mmap", "-x", "4,1,4", "--rounds", "5"]);
        assert_eq!(plan.connections, [Connections::Fixed(1), Connections::Fixed(4)]);
        assert_eq!((plan.storages.len(), plan.rounds), (2, 5));
    }

    #[test]
    fn without_ranges_each_storage_is_measured_once() {
        let setting = |count, storage| Setting { connections: Connections::Fixed(count), storage };
        let mut settings = vec![
            setting(1, StorageKind::Null),
            setting(4, StorageKind::Null),
            setting(1, StorageKind::Pwrite),
            setting(4, StorageKind::Pwrite),
        ];
        assert_eq!(each_storage(&settings).len(), 2);
        one_connection(&mut settings);
        let left: Vec<StorageKind> = settings.iter().map(|setting| setting.storage).collect();
        assert_eq!(left, [StorageKind::Null, StorageKind::Pwrite]);
    }
}
