//! What the flags mean together: validated requests, outputs and voices, in the engine's types. No
//! module after this one sees a flag.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use haul_engine::{Connections, DownloadBuilder, Engine, EngineConfig, Existing};
use haul_film::FilmOptions;

use crate::address::{self, are_of_one_origin};
use crate::args::{
    ChecksumArg, DownloadArgs, ExistingArg, FilmArgs, GetArgs, ListArgs, LockedArg, MetalinkArgs,
    PageArgs, ProgressArg, TalkArgs,
};
use crate::document::Documents;
use crate::exec::Exec;
use crate::exit::Failure;
use crate::film::FilmRequests;
use crate::hub::{self, Snapshot};
use crate::input::Item;
use crate::metalink;
use crate::page::PagePlan;
use crate::render::{
    Voice, escape, stderr_is_terminal, stdout_is_terminal, stdout_waits_for_bytes,
};
use crate::request::{self, Request};
use crate::settings::{self, HostPattern};
use crate::share::{MaxFailures, Shard};
use crate::sink::Sink;
use crate::sums::Sums;

mod download;

use download::{Output, options};

/// Most servers refuse more connections than this, and few get faster.
const MANY_CONNECTIONS: usize = 16;

/// A `get` that can be run.
#[derive(Debug)]
pub(crate) struct GetPlan {
    /// The URLs to download first.
    pub(crate) urls: Vec<String>,
    /// The list of further downloads; `-` is standard input.
    pub(crate) list: Option<PathBuf>,
    /// Addresses of the hub, whose files are downloaded after these URLs.
    pub(crate) hub: Vec<hub::Place>,
    /// What is concluded of them once the downloads have ended.
    pub(crate) snapshots: Vec<Snapshot>,
    /// Metalinks whose files are downloaded after these URLs.
    pub(crate) metalinks: Vec<String>,
    /// The part of all this that belongs to this run.
    pub(crate) shard: Option<Shard>,
    /// The file that records how items end.
    pub(crate) results: Option<PathBuf>,
    /// When to start no more items.
    pub(crate) max_failures: Option<MaxFailures>,
    /// The engine's settings.
    pub(crate) engine: EngineConfig,
    /// Downloads at a time, if given.
    pub(crate) jobs: Option<usize>,
    /// How the run is reported.
    pub(crate) voice: Voice,
    /// Whether an existing output counts as done.
    pub(crate) skip_existing: bool,
    /// Whether to wait for another haul that downloads to the same name.
    pub(crate) waits_for_others: bool,
    /// Whether to end when the process that started this one has ended.
    pub(crate) dies_with_parent: bool,
    /// How long one download may take.
    pub(crate) max_time: Option<Duration>,
    /// The command to run on each complete file.
    pub(crate) exec: Option<Exec>,
    /// Whether to print the plan and fetch nothing.
    pub(crate) dry_run: bool,
    /// Whether to ring and notify at the end.
    pub(crate) notify: bool,
    /// Whether to print the head of the response with the plan.
    pub(crate) head: bool,
    /// Lines to print before the start.
    pub(crate) warnings: Vec<String>,
    /// Where the bytes go if they are not kept in a file.
    pub(crate) sink: Option<Sink>,
    /// What becomes of playlists and manifests.
    pub(crate) film: FilmArgs,
    /// How the URLs are pages whose films are downloaded, if they are.
    pub(crate) page: Option<PagePlan>,
    request: Request,
    output: Output,
    /// Per-host overrides.
    hosts: Vec<(HostPattern, GetPlan)>,
}

impl GetPlan {
    /// Whether there may be several downloads.
    pub(crate) fn several(&self) -> bool {
        self.urls.len() > 1
            || self.list.is_some()
            || !self.metalinks.is_empty()
            || !self.hub.is_empty()
    }

    /// Whether TLS is to be expected. A list does not count, because its contents are not known yet
    /// and most lists are of small files.
    pub(crate) fn may_decrypt(&self) -> bool {
        self.urls.iter().any(|url| url.starts_with("https:"))
            || !self.hub.is_empty() && hub::endpoint().is_ok_and(|it| it.scheme() == "https")
    }

    /// Sets another plan for the downloads of these hosts.
    pub(crate) fn add_host(&mut self, pattern: HostPattern, plan: GetPlan) {
        // A section without a rate sets an unlimited one, because a wider section's rate does not
        // apply to its hosts.
        let rate = plan.engine.limit_rate_bytes_per_second.unwrap_or(0);
        self.engine.host_rates.push((pattern.as_str().to_owned(), rate));
        self.hosts.push((pattern, plan));
    }

    /// Sets the segment size, unless one was chosen.
    pub(crate) fn prefer_segment_size(&mut self, bytes: u64) {
        self.output.options.segment_size_bytes.get_or_insert(bytes);
    }

    /// The plan for downloading an object of this URL.
    pub(crate) fn for_url(&self, url: &str) -> &Self {
        settings::best_fit(&self.hosts, url).map_or(self, |(_, plan)| plan)
    }

    /// The requests for the pieces of a film whose manifest is at `url`.
    pub(crate) fn film_requests(&self, engine: &Engine, url: &str, item: &Item) -> FilmRequests {
        let own = item.offered_by.as_ref().is_none_or(|by| are_of_one_origin(by, url));
        FilmRequests {
            engine: engine.clone(),
            request: self.request.clone(),
            of_item: item.headers.clone(),
            manifest: own.then(|| url.to_owned()),
        }
    }

    /// How the film at `url` is downloaded.
    ///
    /// # Errors
    /// Exit 2 for flags that mean nothing for a film.
    pub(crate) fn film_options(&self, item: &Item) -> Result<FilmOptions, Failure> {
        self.output.film_options(item, &self.film, self.sink.as_ref())
    }

    /// Whether a playlist at a URL that does not say so stands for its film. Where it may have
    /// replaced a file already, it does not: that file would be lost for nothing if the film fails.
    pub(crate) fn takes_films(&self) -> bool {
        !self.film.as_is && self.output.options.existing != Existing::Replace
    }

    /// Whether a file that is there counts as complete if it is the object, and is in the way if not.
    pub(crate) fn verifies_existing(&self) -> bool {
        self.output.options.existing == Existing::Verify
    }

    /// Whether `--output` was given.
    pub(crate) fn names_one_file(&self) -> bool {
        self.output.options.output.is_some() || self.sink.is_some()
    }

    /// Reads what the flags and addresses name: a list of digests, Metalinks, and repositories of the
    /// hub. Returns the items of these, with lines for the user.
    ///
    /// # Errors
    /// When one cannot be fetched, read or used.
    pub(crate) async fn load(
        &mut self,
        engine: &Engine,
    ) -> Result<(Vec<Item>, Vec<String>), Failure> {
        let hub = (!self.hub.is_empty()).then(hub::endpoint).transpose()?.map(String::from);
        let object = self.urls.first().or(hub.as_ref()).map(String::as_str);
        let documents = Documents { engine, request: &self.request, object };
        if let Some(place) = &self.output.sums_place {
            let sums = Arc::new(Sums::load(place, &documents).await?);
            for plan in self.hosts.iter_mut().map(|(_, plan)| plan) {
                plan.output.sums = Some(Arc::clone(&sums));
            }
            self.output.sums = Some(sums);
        }
        let one_file = self.names_one_file();
        let (mut items, notes) = metalink::items(&self.metalinks, one_file, &documents).await?;
        let of_hub = hub.as_ref().map_or(&*self, |endpoint| self.for_url(endpoint));
        let target = match (one_file, &of_hub.output.directory) {
            (true, _) => hub::Target::File,
            (false, Some(_)) => hub::Target::Directory,
            (false, None) => hub::Target::Cache,
        };
        let found = hub::find(&self.hub, target, engine, &of_hub.request).await?;
        items.extend(found.items);
        if one_file && self.urls.len() + items.len() > 1 {
            let text = "--output names one file, and there are several to download";
            return Err(Failure::usage(text).hint("use --dir DIR"));
        }
        self.snapshots = found.snapshots;
        Ok((items, notes))
    }

    /// The download of an item, with every option set.
    ///
    /// # Errors
    /// Exit 2 when the list of digests has none for it, or one of its URLs is not allowed.
    pub(crate) fn download(
        &self,
        engine: &Engine,
        item: &Item,
    ) -> Result<DownloadBuilder, Failure> {
        for url in &item.urls {
            self.request.allow(url)?;
        }
        let url = &item.urls[0];
        // If a server offers URLs of other origins, the user's secrets are not sent there.
        let own = item.offered_by.as_ref().is_none_or(|by| are_of_one_origin(by, url));
        let download = engine.download_with(url, self.output.options.clone());
        let download = self.request.apply(download, url, own);
        let download = download.small_all_or_nothing(self.several()).trust_url(self.several());
        self.output.apply(download, item, self.sink.as_ref())
    }
}

/// Resolves the flags of `haul URL...`.
///
/// # Errors
/// Exit 2 for a value or a combination that is impossible; both flags are named.
pub(crate) fn resolve_get(args: GetArgs) -> Result<GetPlan, Failure> {
    let mut plan = resolve(&args.urls, args.list, args.metalinks, args.how)?;
    let speaks = !matches!(plan.voice, Voice::Quiet | Voice::Json);
    if speaks && plan.sink.is_none() && !plan.dry_run && stdout_waits_for_bytes() {
        plan.warnings.push(
            "nothing goes to stdout: the bytes go into a file, and `-o -` sends them to stdout"
                .to_owned(),
        );
    }
    Ok(plan)
}

/// Resolves the flags of `haul page URL...`.
///
/// # Errors
/// As [`resolve_get`].
pub(crate) fn resolve_page(args: PageArgs) -> Result<GetPlan, Failure> {
    let page = PagePlan::of(&args.how)?;
    let PageArgs { urls, list, how, help } = args;
    let get = GetArgs { urls, list, metalinks: MetalinkArgs::default(), how, help };
    let plan = resolve_get(get)?;
    if !plan.hub.is_empty() {
        return Err(Failure::usage("haul page takes pages, and an hf:// address names files")
            .hint("haul hf://ORG/REPO downloads them"));
    }
    Ok(GetPlan { page: Some(page), ..plan })
}

/// Resolves the flags for downloading these URLs and this list.
///
/// # Errors
/// As [`resolve_get`].
pub(crate) fn resolve(
    urls: &[String],
    list: ListArgs,
    metalinks: MetalinkArgs,
    args: DownloadArgs,
) -> Result<GetPlan, Failure> {
    let mut args = args;
    if let Some(directory) = args.output.output.take_if(|file| is_directory(file)) {
        let above = args.output.dir.take().unwrap_or_default();
        args.output.dir = Some(above.join(directory));
    }
    let (mut typed, mut places, mut bared) = (Vec::new(), Vec::new(), false);
    for text in urls {
        if hub::Place::is(text) {
            places.push(hub::Place::of(text)?);
            continue;
        }
        let (url, was_wrapped) = address::typed(text)?;
        typed.push(url);
        bared |= was_wrapped;
    }
    let urls = typed;
    let file = list.input_file.clone();
    let of_several = match (&file, places.is_empty()) {
        (Some(_), _) => "--input-file",
        (None, true) => "several URLs",
        (None, false) => "an hf:// address beside others",
    };
    let several = urls.len() + places.len() > 1 || file.is_some();
    if several && args.output.output.is_some() {
        let text = format!("--output names one file and cannot be combined with {of_several}");
        return Err(Failure::usage(text).hint("use --dir DIR, or one command for each URL"));
    }
    let (checksum, sums_place) = match args.integrity.checksum.clone() {
        None => (None, None),
        Some(ChecksumArg::Digest(checksum)) => (Some(checksum), None),
        Some(ChecksumArg::List(place)) => (None, Some(place)),
    };
    let metalinks = metalinks.metalink;
    let of_metalink = match (metalinks.is_empty(), places.is_empty()) {
        (false, _) => "--metalink",
        (true, false) => "an hf:// address",
        (true, true) => of_several,
    };
    let many = several || !metalinks.is_empty() || !places.is_empty();
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
        let text = format!("{flag} describes one object and cannot be combined with {of_metalink}");
        return Err(Failure::usage(text).hint(*hint));
    }
    if !places.is_empty() && args.transfer.range.is_some() {
        let chosen = args.output.output.is_some() || args.output.dir.is_some();
        if !chosen {
            let text = "--range fetches a part of a file, and the cache of the hub has whole ones";
            return Err(Failure::usage(text).hint("use --output FILE or --dir DIR"));
        }
    }
    let mirrors = args.alternatives.mirror.iter().map(|text| address::url(text));
    let mirrors = mirrors.collect::<Result<Vec<_>, _>>()?;
    let sink = match &args.output.output {
        Some(name) => output_sink(name, args.output.dir.as_deref())?,
        None => None,
    };
    let mut voice = voice(&args.talk)?;
    if let Some(sink) = &sink {
        check_sink(sink, &args, &list, voice)?;
        // As in curl: a bar and the bytes on one terminal would spoil both.
        if *sink == Sink::Stdout && stdout_is_terminal() && args.talk.progress.is_none() {
            voice = voice.without_progress();
        }
    }
    let (mut engine, request) = request::resolve(args.request)?;
    for url in urls.iter().chain(&mirrors) {
        request.allow(url)?;
    }
    engine.limit_rate_bytes_per_second = args.transfer.limit_rate.filter(|rate| *rate > 0);
    engine.max_connections_per_host = args.transfer.per_host;
    let connections = args.transfer.connections.unwrap_or_default();
    let mut warnings = request.warnings.clone();
    if bared {
        warnings.push("the blanks and quotes around the URL were taken off".to_owned());
    }
    if let Connections::Fixed(count) = connections
        && count > MANY_CONNECTIONS
    {
        warnings.push(format!(
            "{count} connections: many servers refuse more than {MANY_CONNECTIONS} and few get \
             faster"
        ));
    }
    let skip_existing = args.output.existing() == Some(ExistingArg::Skip);
    let mut options = options(&args.output, &args.file, &args.transfer, &args.integrity)?;
    (options.checksum, options.mirrors) = (checksum, mirrors);
    let (directory, refresh) = (args.output.dir, args.alternatives.refresh_cmd);
    let output = Output { options, directory, sums_place, sums: None, refresh };
    let jobs = args.transfer.jobs;
    Ok(GetPlan {
        urls,
        list: file,
        hub: places,
        snapshots: Vec::new(),
        metalinks,
        shard: list.shard,
        results: list.results,
        max_failures: list.max_failures,
        engine,
        jobs,
        voice,
        skip_existing,
        waits_for_others: match args.output.locked {
            // Another run of the same list gets on, and this one with it.
            None => many,
            Some(how) => how == LockedArg::Wait,
        },
        dies_with_parent: args.transfer.die_with_parent,
        max_time: args.transfer.max_time.filter(|time| !time.is_zero()),
        exec: args.file.exec,
        dry_run: args.talk.dry_run || args.talk.head,
        head: args.talk.head,
        notify: args.talk.notify,
        warnings,
        sink,
        film: args.film,
        page: None,
        request,
        output,
        hosts: Vec::new(),
    })
}

/// Whether a value of `--output` names a directory.
fn is_directory(output: &Path) -> bool {
    output.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// The sink that `--output` names, unless it is an ordinary file.
fn output_sink(file: &Path, directory: Option<&Path>) -> Result<Option<Sink>, Failure> {
    match directory.filter(|_| file != Path::new("-")) {
        Some(directory) => Sink::of(&directory.join(file)),
        None => Sink::of(file),
    }
}

/// Refuses flags about files or stdout that cannot be combined with this sink.
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
        Err(Failure::usage(format!("{flag} and --progress {asked} cannot be combined")))
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
        // A bar needs a terminal even if it was asked for.
        ProgressArg::Auto | ProgressArg::Bar if terminal => Voice::Bar { verbose },
        ProgressArg::Auto | ProgressArg::Bar => plain,
    })
}

#[cfg(test)]
mod tests;
