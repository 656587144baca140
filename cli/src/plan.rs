//! What the flags mean together: validated requests, outputs and voices, in
//! the engine's types. Nothing after this module sees a flag.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use haul_engine::{
    Allocation, Checksum, Connections, DownloadBuilder, Engine, EngineConfig, Existing, Resume,
    Selection, StorageKind, redact_url,
};
use url::Url;

use crate::args::{
    AllocationArg, ContinueArg, DownloadArgs, GetArgs, ListArgs, MetalinkArgs, ProgressArg,
    StorageArg, TalkArgs,
};
use crate::exec::Exec;
use crate::exit::Failure;
use crate::input::Item;
use crate::metalink;
use crate::refresh::RefreshCommand;
use crate::render::{Voice, escape, stderr_is_terminal, stdout_is_terminal};
use crate::request::{self, Request};
use crate::settings::{self, HostPattern};
use crate::share::{MaxFailures, Shard};
use crate::sink::Sink;
use crate::sums::{ChecksumArg, Sums};

/// Above this many connections most servers refuse and none gets faster.
const MANY_CONNECTIONS: usize = 16;

/// The segment sizes that the engine takes, in bytes.
const MIN_SEGMENT_BYTES: u64 = 1 << 20;

/// A `get` that can be run.
#[derive(Debug)]
pub(crate) struct GetPlan {
    /// What to download first.
    pub(crate) urls: Vec<String>,
    /// The list of what to download then; `-` is standard input.
    pub(crate) list: Option<PathBuf>,
    /// Metalinks whose files are downloaded after these URLs.
    pub(crate) metalinks: Vec<String>,
    /// Which part of all this is this run's.
    pub(crate) shard: Option<Shard>,
    /// Where the ends of items are recorded.
    pub(crate) results: Option<PathBuf>,
    /// When to start no more.
    pub(crate) max_failures: Option<MaxFailures>,
    /// The engine's settings.
    pub(crate) engine: EngineConfig,
    /// Downloads at a time, where that was said.
    pub(crate) jobs: Option<usize>,
    /// How to tell of it.
    pub(crate) voice: Voice,
    /// An output that exists counts as done.
    pub(crate) skip_existing: bool,
    /// How long one download may take.
    pub(crate) max_time: Option<Duration>,
    /// What is run on each complete file.
    pub(crate) exec: Option<Exec>,
    /// Print the plan and fetch nothing.
    pub(crate) dry_run: bool,
    /// Lines to tell before the start.
    pub(crate) warnings: Vec<String>,
    /// Where the bytes go that are not to be kept in a file.
    pub(crate) sink: Option<Sink>,
    request: Request,
    output: Output,
    /// What is other for the downloads of some hosts.
    hosts: Vec<(HostPattern, GetPlan)>,
}

impl GetPlan {
    /// Whether there may be several downloads.
    pub(crate) fn several(&self) -> bool {
        self.urls.len() > 1 || self.list.is_some() || !self.metalinks.is_empty()
    }

    /// Whether TLS is to be expected. Not of a list: what it holds is not known
    /// yet, and most are of small files.
    pub(crate) fn may_decrypt(&self) -> bool {
        self.urls.iter().any(|url| url.starts_with("https:"))
    }

    /// Has the downloads of these hosts go by another plan.
    pub(crate) fn add_host(&mut self, pattern: HostPattern, plan: GetPlan) {
        let rate = plan.engine.limit_rate_bytes_per_second;
        if let Some(rate) = rate.filter(|_| rate != self.engine.limit_rate_bytes_per_second) {
            self.engine.host_rates.push((pattern.as_str().to_owned(), rate));
        }
        self.hosts.push((pattern, plan));
    }

    /// Has segments of this size, where none was chosen.
    pub(crate) fn prefer_segment_size(&mut self, bytes: u64) {
        self.output.segment_size_bytes.get_or_insert(bytes);
    }

    /// The plan by which an object of this URL is downloaded.
    pub(crate) fn for_url(&self, url: &str) -> &Self {
        settings::best_fit(&self.hosts, url).map_or(self, |(_, plan)| plan)
    }

    /// Whether `--output` was given.
    pub(crate) fn names_one_file(&self) -> bool {
        self.output.file.is_some() || self.sink.is_some()
    }

    /// Reads the documents that the flags name: a list of digests, Metalinks,
    /// whose files it gives.
    ///
    /// # Errors
    /// When one cannot be had or used.
    pub(crate) async fn load(&mut self, engine: &Engine) -> Result<Vec<Item>, Failure> {
        if let Some(place) = &self.output.sums_place {
            let sums = Arc::new(Sums::load(place, self, engine).await?);
            for plan in self.hosts.iter_mut().map(|(_, plan)| plan) {
                plan.output.sums = Some(Arc::clone(&sums));
            }
            self.output.sums = Some(sums);
        }
        metalink::items(self, engine).await
    }

    /// The request for a document at `url`. What the flags say of the object's
    /// requests goes to the origin of the object alone.
    pub(crate) fn document(&self, engine: &Engine, url: &str) -> DownloadBuilder {
        // Without an object, the Metalink is what the flags are of.
        let own = self.urls.first().is_none_or(|first| are_of_one_origin(first, url));
        self.request.apply(engine.download(url), own)
    }

    /// The download of an item, with every option set.
    ///
    /// # Errors
    /// Exit 2 when the list of digests has none of it.
    pub(crate) fn download(
        &self,
        engine: &Engine,
        item: &Item,
    ) -> Result<DownloadBuilder, Failure> {
        let output = &self.output;
        let url = &item.urls[0];
        // A server that offers URLs of others gets nobody's secrets sent there.
        let own = item.offered_by.as_ref().is_none_or(|by| are_of_one_origin(by, url));
        let mut download = self
            .request
            .apply(engine.download(url), own)
            .connections(output.connections)
            .resume(output.resume)
            .existing(output.existing)
            .if_changed(output.if_changed)
            .in_place(output.in_place)
            .storage(output.storage)
            .allocation(output.allocation)
            .sync(output.sync)
            .digest(output.digest)
            .remote_time(output.remote_time)
            .small_all_or_nothing(self.several());
        for (name, value) in &item.headers {
            download = download.header(name, value);
        }
        if let Some(sink) = &self.sink {
            download = download.output(sink.name());
        } else if let Some(file) = item.out.as_ref().or(output.file.as_ref()) {
            download = download.output(file);
        }
        match (&output.directory, &item.dir) {
            (Some(directory), Some(inner)) => download = download.directory(directory.join(inner)),
            (Some(directory), None) | (None, Some(directory)) => {
                download = download.directory(directory);
            }
            (None, None) => {}
        }
        for mirror in item.urls[1..].iter().chain(&output.mirrors) {
            download = download.mirror(mirror);
        }
        if let Some(command) = &output.refresh {
            download = download.refresh(command.clone());
        }
        if let Some(checksum) = item.checksum.as_ref().or(output.checksum.as_ref()) {
            download = download.checksum(checksum.clone());
        } else if let Some(sums) = &output.sums {
            let file = item.out.as_ref().or(output.file.as_ref());
            download = download.checksum(sums.find(url, file.map(PathBuf::as_path))?.clone());
        }
        if let Some(pieces) = &item.pieces {
            download = download.pieces(pieces.clone());
        }
        if let Some(bytes) = output.max_size_bytes {
            download = download.max_size_bytes(bytes);
        }
        if let Some(bytes) = output.min_split_bytes {
            download = download.min_split_bytes(bytes);
        }
        if let Some(bytes) = item.size_bytes.or(output.expected_size_bytes) {
            download = download.expected_size_bytes(bytes);
        }
        if let Some(bytes) = output.segment_size_bytes {
            download = download.segment_size_bytes(bytes);
        }
        if let Some(selection) = &output.selection {
            download = download.range(selection.clone());
        }
        Ok(download)
    }
}

fn are_of_one_origin(one: &str, other: &str) -> bool {
    let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
    origin(one) == origin(other)
}

#[derive(Debug)]
struct Output {
    file: Option<PathBuf>,
    directory: Option<PathBuf>,
    connections: Connections,
    resume: Resume,
    existing: Existing,
    if_changed: bool,
    in_place: bool,
    checksum: Option<Checksum>,
    expected_size_bytes: Option<u64>,
    max_size_bytes: Option<u64>,
    /// Where a list of digests is, and what it says.
    sums_place: Option<String>,
    sums: Option<Arc<Sums>>,
    mirrors: Vec<String>,
    refresh: Option<RefreshCommand>,
    storage: StorageKind,
    allocation: Allocation,
    segment_size_bytes: Option<u64>,
    min_split_bytes: Option<u64>,
    selection: Option<Selection>,
    sync: bool,
    digest: bool,
    remote_time: bool,
}

/// Resolves the flags of `haul URL...`.
///
/// # Errors
/// Exit 2 for a value or a combination that cannot be; both flags are named.
pub(crate) fn resolve_get(args: GetArgs) -> Result<GetPlan, Failure> {
    resolve(&args.urls, args.list, args.metalinks, args.how)
}

/// Resolves the flags of the downloads of these URLs and this list.
///
/// # Errors
/// As [`resolve_get`].
pub(crate) fn resolve(
    urls: &[String],
    list: ListArgs,
    metalinks: MetalinkArgs,
    args: DownloadArgs,
) -> Result<GetPlan, Failure> {
    if let Some(value) = &args.transfer.k {
        return Err(unassigned_k(value));
    }
    let urls = urls.iter().map(|text| url(text)).collect::<Result<Vec<_>, _>>()?;
    let file = list.input_file.clone();
    let of_several = if file.is_some() { "--input-file" } else { "several URLs" };
    let several = urls.len() > 1 || file.is_some();
    if several && args.output.output.is_some() {
        let text = format!("--output names one file and cannot go with {of_several}");
        return Err(Failure::usage(text).hint("use --dir DIR, or one command for each URL"));
    }
    let (checksum, sums_place) = match args.integrity.checksum.clone() {
        None => (None, None),
        Some(ChecksumArg::Digest(checksum)) => (Some(checksum), None),
        Some(ChecksumArg::List(place)) => (None, Some(place)),
    };
    let metalinks = metalinks.metalink;
    let of_metalink = if metalinks.is_empty() { of_several } else { "--metalink" };
    let many = several || !metalinks.is_empty();
    let of_one = [
        (
            !args.alternatives.mirror.is_empty(),
            "--mirror",
            "a list has mirrors of its own: URLs with TABs between them, or `urls`",
        ),
        (args.alternatives.refresh_cmd.is_some(), "--refresh-cmd", "use one command for each URL"),
        (
            args.integrity.expect_size.is_some(),
            "--expect-size",
            "a list can have a `size` for each item",
        ),
        (checksum.is_some(), "--checksum", "use one command for each URL, or a list of digests"),
    ];
    if let Some((_, flag, hint)) = of_one.iter().find(|(given, ..)| many && *given) {
        let text = format!("{flag} is of one object and cannot go with {of_metalink}");
        return Err(Failure::usage(text).hint(*hint));
    }
    let mirrors = args.alternatives.mirror.iter().map(|text| url(text));
    let mirrors = mirrors.collect::<Result<Vec<_>, _>>()?;
    let sink = match &args.output.output {
        Some(name) => output_sink(name, args.output.dir.as_deref())?,
        None => None,
    };
    let mut voice = voice(&args.talk)?;
    if let Some(sink) = &sink {
        check_sink(sink, &args, &list, voice)?;
        // As curl has it: a bar and the bytes on one terminal would spoil both.
        if *sink == Sink::Stdout && stdout_is_terminal() && args.talk.progress.is_none() {
            voice = voice.without_progress();
        }
    }
    let (mut engine, request) = request::resolve(args.request)?;
    engine.limit_rate_bytes_per_second = args.transfer.limit_rate.filter(|rate| *rate > 0);
    engine.max_connections_per_host = args.transfer.per_host;
    let connections = args.transfer.connections.unwrap_or_default();
    let mut warnings = request.warnings.clone();
    if let Connections::Fixed(count) = connections
        && count > MANY_CONNECTIONS
    {
        warnings.push(format!(
            "{count} connections: many servers refuse more than {MANY_CONNECTIONS} and few get \
             faster"
        ));
    }
    let output = Output {
        file: args.output.output,
        directory: args.output.dir,
        connections,
        resume: match args.output.r#continue {
            None | Some(ContinueArg::Auto) => Resume::Auto,
            Some(ContinueArg::Always) => Resume::Always,
            Some(ContinueArg::Never) => Resume::Never,
        },
        existing: match (args.output.overwrite, args.output.auto_rename) {
            (true, _) => Existing::Replace,
            (_, true) => Existing::Rename,
            _ => Existing::Refuse,
        },
        if_changed: args.output.if_changed,
        in_place: args.output.no_part,
        checksum,
        sums_place,
        sums: None,
        mirrors,
        refresh: args.alternatives.refresh_cmd,
        storage: storage(args.file.storage.unwrap_or(StorageArg::Auto)),
        expected_size_bytes: args.integrity.expect_size,
        max_size_bytes: args.integrity.max_filesize,
        allocation: match args.file.file_allocation {
            None | Some(AllocationArg::Auto) => Allocation::Auto,
            Some(AllocationArg::None) => Allocation::Sparse,
            Some(AllocationArg::Falloc) => Allocation::Reserve,
        },
        min_split_bytes: args.transfer.min_split_size,
        segment_size_bytes: args.transfer.segment_size.map(segment_size).transpose()?,
        selection: args.transfer.range,
        sync: !args.file.no_sync,
        digest: !args.file.no_digest,
        remote_time: !args.file.no_remote_time,
    };
    let jobs = args.transfer.jobs;
    Ok(GetPlan {
        urls,
        list: file,
        metalinks,
        shard: list.shard,
        results: list.results,
        max_failures: list.max_failures,
        engine,
        jobs,
        voice,
        skip_existing: args.output.skip_existing,
        max_time: args.transfer.max_time.filter(|time| !time.is_zero()),
        exec: args.file.exec,
        dry_run: args.talk.dry_run,
        warnings,
        sink,
        request,
        output,
        hosts: Vec::new(),
    })
}

/// A storage of the command line as the engine names it.
pub(crate) fn storage(arg: StorageArg) -> StorageKind {
    match arg {
        StorageArg::Auto => StorageKind::Auto,
        StorageArg::Mmap => StorageKind::Mmap,
        StorageArg::Pwrite => StorageKind::Pwrite,
    }
}

/// A URL that can be asked for, as it was given.
///
/// # Errors
/// Exit 2 with a hint. A query or a password in the text is not quoted.
pub(crate) fn url(text: &str) -> Result<String, Failure> {
    if text.chars().any(char::is_control) {
        return Err(Failure::usage("a URL has a line break or another control character in it")
            .hint("write it as %0D, %0A or %00 if it belongs there"));
    }
    let Some((scheme, _)) = text.split_once("://") else {
        let shown = redact_url(&format!("https://{text}"));
        let quoted = shown.strip_prefix("https://").unwrap_or(&shown);
        let quoted = if text.ends_with('/') { quoted } else { quoted.trim_end_matches('/') };
        let failure = Failure::usage(format!("not a URL: `{quoted}`"));
        return Err(if text == "help" {
            failure.hint("haul --help prints the common flags")
        } else if matches!(text, "auto" | "always" | "never") {
            failure.hint(format!("--continue takes its value after `=`: --continue={text}"))
        } else if matches!(
            text,
            "get" | "play" | "bench" | "verify" | "status" | "clean" | "completions" | "man"
        ) {
            failure.hint(format!("a command comes first: haul {text} [OPTIONS]"))
        } else {
            failure.hint(format!("http:// or https:// is missing: https://{quoted}"))
        });
    };
    let shown = || redact_url(text);
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Failure::usage(format!(
            "cannot download `{}`: its scheme is neither http nor https",
            shown()
        )));
    }
    match Url::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Failure::usage(format!("not a URL: `{}`: {error}", shown()))
            .hint("write http://HOST/PATH or https://HOST/PATH")),
    }
}

fn unassigned_k(value: &str) -> Failure {
    let aria2 = crate::units::parse_size(value).is_ok();
    let failure = Failure::usage("-k has no meaning here, because curl and aria2 give it two");
    if aria2 {
        failure.hint(format!(
            "aria2's -k is `--min-split-size {value}`; curl's is `--insecure`, which accepts any \
             certificate"
        ))
    } else {
        failure.hint(
            "curl's -k is `--insecure`, which accepts any certificate; `--cacert FILE` trusts \
             one; aria2's is `--min-split-size`",
        )
    }
}

/// What `--output` names, if that is no ordinary file.
fn output_sink(file: &Path, directory: Option<&Path>) -> Result<Option<Sink>, Failure> {
    let quoted = escape(&file.to_string_lossy());
    if quoted.is_empty() || quoted.ends_with('/') {
        return Err(Failure::usage(format!("--output `{quoted}` names no file"))
            .hint("use --dir for a directory"));
    }
    match directory.filter(|_| file != Path::new("-")) {
        Some(directory) => Sink::of(&directory.join(file)),
        None => Sink::of(file),
    }
}

/// Refuses what is about files, or about stdout, beside a sink.
fn check_sink(
    sink: &Sink,
    args: &DownloadArgs,
    list: &ListArgs,
    voice: Voice,
) -> Result<(), Failure> {
    let shown = format!("--output {}", escape(&sink.name().to_string_lossy()));
    let on_stdout = *sink == Sink::Stdout;
    let in_the_way = [
        (on_stdout && args.talk.json, "--json"),
        (on_stdout && voice == Voice::Json, "--progress json"),
        (list.results.is_some(), "--results"),
        (args.output.no_part, "--no-part"),
        (args.output.if_changed, "--if-changed"),
        (args.file.storage.is_some(), "--storage"),
        (args.file.exec.is_some(), "--exec"),
    ];
    match in_the_way.iter().find(|(given, _)| *given) {
        Some((_, flag)) => {
            Err(Failure::usage(format!("{shown} and {flag} cannot be given together"))
                .hint("write to a file to have both"))
        }
        None => Ok(()),
    }
}

fn voice(talk: &TalkArgs) -> Result<Voice, Failure> {
    let asked = talk.progress.unwrap_or(ProgressArg::Auto);
    let cannot = |flag: &str| {
        let asked = format!("{asked:?}").to_lowercase();
        Err(Failure::usage(format!("{flag} and --progress {asked} cannot go together")))
    };
    if talk.json {
        return match asked {
            ProgressArg::Auto | ProgressArg::Json => Ok(Voice::Json),
            _ => cannot("--json"),
        };
    }
    if talk.quiet && matches!(asked, ProgressArg::Bar | ProgressArg::Plain) {
        return cannot("--quiet");
    }
    let terminal = stderr_is_terminal();
    let (verbose, plain) = (talk.verbose, Voice::Plain { verbose: talk.verbose, progress: true });
    Ok(match asked {
        ProgressArg::Json => Voice::Json,
        _ if talk.quiet => Voice::Quiet,
        ProgressArg::None => Voice::Plain { verbose, progress: false },
        ProgressArg::Plain => plain,
        // A bar that was asked for needs a terminal all the same.
        ProgressArg::Auto | ProgressArg::Bar if terminal => Voice::Bar { verbose },
        ProgressArg::Auto | ProgressArg::Bar => plain,
    })
}

fn segment_size(bytes: u64) -> Result<u64, Failure> {
    if bytes.is_power_of_two() && bytes >= MIN_SEGMENT_BYTES {
        return Ok(bytes);
    }
    Err(Failure::usage(format!("--segment-size: {bytes} bytes are not a power of two from 1M"))
        .hint("write 1M, 2M, 4M and so on"))
}

#[cfg(test)]
mod tests;
