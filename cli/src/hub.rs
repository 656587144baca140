//! `hf://`: repositories of the Hugging Face hub, as items to download.
//!
//! `place` reads addresses, `listing` what the hub's API says, and `cache` knows the cache that
//! programs for the hub share. Files go there unless an output or a directory was chosen. Each must
//! have the SHA-256, or for a small file the Git name, that the API tells, and comes from the commit
//! that the revision stood for when the run began. The user's token is sent to the hub alone.

mod cache;
mod listing;
mod place;

use std::collections::{HashMap, HashSet};
use std::env;
use std::fs;
use std::io;
use std::path::Path;

use haul_engine::{DownloadBuilder, Engine};
use url::Url;

use crate::exit::{self, Failure};
use crate::input::Item;
use crate::render::escape;
use crate::request::Request;

use cache::UserPaths;
pub(crate) use cache::{Concluded, Snapshot, link};
use listing::{File, Selection, Tree};
pub(crate) use place::Place;

/// The hub, unless `HF_ENDPOINT` names another.
const ENDPOINT: &str = "https://huggingface.co";

/// A longer answer of the API is refused, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// What the addresses of a run lead to.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) items: Vec<Item>,
    /// What is concluded once the items are complete.
    pub(crate) snapshots: Vec<Snapshot>,
}

/// Where files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Into the cache of the hub.
    Cache,
    /// Into a directory, by their paths in the repository.
    Directory,
    /// To one name.
    File,
}

/// The URL of the hub.
///
/// # Errors
/// Exit 2 for an `HF_ENDPOINT` that is none.
pub(crate) fn endpoint() -> Result<Url, Failure> {
    let given = env::var("HF_ENDPOINT").ok().filter(|it| !it.is_empty());
    let text = given.as_deref().unwrap_or(ENDPOINT);
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| {
        let shown = haul_engine::redact_url(text);
        Failure::usage(format!("HF_ENDPOINT is `{shown}`, which is no http or https URL"))
    })
}

/// The items of these places.
///
/// # Errors
/// When the hub does not tell what they are, or a place has no files.
pub(crate) async fn find(
    places: &[Place],
    target: Target,
    engine: &Engine,
    request: &Request,
) -> Result<Found, Failure> {
    let mut found = Found::default();
    if places.is_empty() {
        return Ok(found);
    }
    if let Some(set) = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|it| is_set(it))
    {
        let text = format!("{set} is set, so the hub is not asked: nothing was fetched");
        return Err(Failure::usage(text).hint("unset it to download"));
    }
    let user = UserPaths::from_environment();
    let cache = match (target, user.cache) {
        (Target::Cache, None) => {
            let text = "the cache of the hub has no place: there is no home directory";
            return Err(Failure::local(text)
                .hint("HF_HOME names one; --dir DIR downloads to a directory instead"));
        }
        (Target::Cache, cache) => cache,
        _ => None,
    };
    let endpoint = endpoint()?;
    request.allow(endpoint.as_str())?;
    let token = if request.has_login() { None } else { token(user.token.as_deref())? };
    let hub = Hub { engine, request, endpoint, token };
    for place in places {
        let listed = hub.list(place).await.map_err(|mut failure| {
            failure.message = format!("{}: {}", place.shown(), failure.message);
            failure
        })?;
        found.add(&hub, place, cache.as_deref(), target, listed);
    }
    Ok(found)
}

impl Found {
    /// Adds the files of a place, in the `cache` if there is one.
    fn add(
        &mut self,
        hub: &Hub<'_>,
        place: &Place,
        cache: Option<&Path>,
        target: Target,
        listed: Listed,
    ) {
        let Listed { commit, files } = listed;
        let mut snapshot = cache.map(|cache| Snapshot::new(cache, place, commit.clone()));
        // Several files may be one blob.
        let mut by_blob = HashMap::<String, usize>::new();
        for file in files {
            let mut item = Item {
                // The same on all machines, wherever they have the cache and whomever they ask.
                id: Some(place.identity(&commit, &file.path)),
                urls: vec![hub.file_url(place, &commit, &file.path)],
                size_bytes: Some(file.size_bytes),
                checksum: Some(file.checksum.clone()),
                headers: hub.login(),
                is_of_hub: true,
                ..Item::default()
            };
            if let Some(snapshot) = &mut snapshot {
                let link = snapshot.add(&file);
                if let Some(&known) = by_blob.get(&file.etag) {
                    self.items[known].links.push(link);
                    continue;
                }
                item.links.push(link);
                item.dir = Some(snapshot.blobs());
                item.out = Some((&file.etag).into());
                by_blob.insert(file.etag, self.items.len());
            } else if target == Target::Directory {
                item.set_path(Path::new(&file.path));
            }
            self.items.push(item);
        }
        self.snapshots.extend(snapshot);
    }
}

/// The files of a place at a commit.
#[derive(Debug)]
struct Listed {
    commit: String,
    files: Vec<File>,
}

/// The hub, as this run talks to it.
struct Hub<'a> {
    engine: &'a Engine,
    request: &'a Request,
    endpoint: Url,
    token: Option<String>,
}

impl Hub<'_> {
    /// Asks for the commit of the place's revision, and for what it has there.
    async fn list(&self, place: &Place) -> Result<Listed, Failure> {
        let revision = place.revision.as_deref().unwrap_or("main");
        let url = self.api(place, ["revision", revision]);
        let answer = self.get(&url).bytes(MAX_ANSWER_BYTES).await.map_err(|e| self.failure(e))?;
        let commit = listing::commit(&answer).map_err(|why| unusable(&why))?;
        let (directory, is_pattern) = place.directory();
        let tree = if directory.is_empty() || is_pattern {
            self.tree(place, &commit, directory, true).await?
        } else {
            // Whether it is a file or a directory is seen in what has it.
            let parent = directory.rsplit_once('/').map_or("", |(parent, _)| parent);
            let around = self.tree(place, &commit, parent, false).await?;
            match around.directories.iter().any(|it| it == directory) {
                true => self.tree(place, &commit, directory, true).await?,
                false => around,
            }
        };
        let selection = Selection::of(place);
        let files: Vec<_> = tree.files.into_iter().filter(|file| selection.has(file)).collect();
        if files.is_empty() {
            let text = format!("there is no such file, and no directory, at the commit {commit}");
            return Err(Failure {
                status: Some(404),
                ..Failure::new(exit::HTTP, "http-status", text)
            }
            .hint("the page of the repository lists what it has"));
        }
        Ok(Listed { commit, files })
    }

    /// What a directory has, or everything below it.
    async fn tree(
        &self,
        place: &Place,
        commit: &str,
        directory: &str,
        recursive: bool,
    ) -> Result<Tree, Failure> {
        let inner = directory.split('/').filter(|it| !it.is_empty());
        let mut url = self.api(place, ["tree", commit].into_iter().chain(inner));
        url.set_query(Some(if recursive { "recursive=true" } else { "recursive=false" }));
        let mut tree = Tree::default();
        let mut pages = HashSet::new();
        loop {
            // Where the next page is is in a field of the answer.
            let (head, body) = match tokio::try_join!(
                self.get(&url).plan(),
                self.get(&url).bytes(MAX_ANSWER_BYTES)
            ) {
                Ok(both) => both,
                // The commit is there, so the directory is not.
                Err(error) if error.http_status() == Some(404) => return Ok(tree),
                Err(error) => return Err(self.failure(error)),
            };
            tree.add(&body).map_err(|why| unusable(&why))?;
            let Some(next) = listing::next_page(&head.headers) else { return Ok(tree) };
            // A mirror passes on links to the hub itself. The same place is asked on, so that the
            // token goes nowhere else.
            let next = url.join(next).ok().filter(|next| next.query().is_some());
            let next = next.ok_or_else(|| unusable("its link to the next page has no query"))?;
            let mut page = url.clone();
            page.set_query(next.query());
            if !pages.insert(std::mem::replace(&mut url, page)) {
                return Err(unusable("its pages have no end"));
            }
        }
    }

    fn get(&self, url: &Url) -> DownloadBuilder {
        let download = self.engine.download(url.as_str());
        let mut download = self.request.apply(download, url.as_str(), true);
        download.options_mut().headers.extend(self.login());
        download
    }

    /// The header with the token, for the hub alone.
    fn login(&self) -> Vec<(String, String)> {
        let bearer = |token: &String| ("Authorization".to_owned(), format!("Bearer {token}"));
        self.token.iter().map(bearer).collect()
    }

    fn url<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    fn api<'s>(&self, place: &'s Place, rest: impl IntoIterator<Item = &'s str>) -> Url {
        let repo = place.repo.split('/');
        self.url(["api", place.kind.plural()].into_iter().chain(repo).chain(rest))
    }

    fn file_url(&self, place: &Place, commit: &str, path: &str) -> String {
        let kind = match place.kind {
            place::Kind::Model => None,
            other => Some(other.plural()),
        };
        let repo = place.repo.split('/');
        let file = ["resolve", commit].into_iter().chain(path.split('/'));
        self.url(kind.into_iter().chain(repo).chain(file)).into()
    }

    /// The failure of a question. The hub says the same of what is not there and of what is not
    /// shown to everybody.
    fn failure(&self, error: haul_engine::Error) -> Failure {
        let failure = Failure::from(error);
        let is_known = self.token.is_some() || self.request.has_login();
        match (failure.status, is_known) {
            (Some(401 | 403 | 404), false) => failure.hint(
                "if it is private or gated, give a token in HF_TOKEN, or log in with `hf auth \
                 login`; if not, look at how it is written",
            ),
            (Some(401), true) => failure.hint(
                "the token may have expired: log in anew with `hf auth login`, or look at HF_TOKEN",
            ),
            (Some(403 | 404), true) => failure.hint(
                "look at how it is written, and on its page whether the account of your token may \
                 read it",
            ),
            _ => failure,
        }
    }
}

fn unusable(why: &str) -> Failure {
    Failure::new(exit::PROTOCOL, "protocol", format!("the hub's answer is of no use: {why}"))
}

/// Whether a variable says yes, as programs for the hub read it.
fn is_set(variable: &str) -> bool {
    let value = env::var(variable).unwrap_or_default().to_ascii_lowercase();
    matches!(&*value, "1" | "on" | "yes" | "true")
}

/// The failure of a file of the hub. What is gated is listed for everybody, and refused only here.
pub(crate) fn explained(failure: Failure) -> Failure {
    match failure.status {
        Some(401 | 403) => failure.hint(
            "the hub gives it to some accounts only: ask for access on the page of the repository, \
             and give a token of that account in HF_TOKEN",
        ),
        _ => failure,
    }
}

/// The user's token, from where programs for the hub look for it.
///
/// # Errors
/// Exit 2 for one that cannot be sent, which is not quoted, and exit 3 for a file that cannot be
/// read.
fn token(file: Option<&Path>) -> Result<Option<String>, Failure> {
    if is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    let given = |variable| env::var(variable).ok().filter(|it| !it.trim().is_empty());
    let token = given("HF_TOKEN").or_else(|| given("HUGGING_FACE_HUB_TOKEN"));
    let read = |file: &Path| match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| {
            let file = escape(&file.to_string_lossy());
            Failure::local(format!("cannot read the token of the hub in {file}: {error}"))
                .hint("HF_HUB_DISABLE_IMPLICIT_TOKEN=1 does without it")
        }),
    };
    let token = match (token, file) {
        (Some(token), _) => token,
        (None, file) => file.map(read).transpose()?.unwrap_or_default(),
    };
    let token = token.trim();
    if token.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(Failure::usage("the token of the hub has a character that no token has")
            .hint("look at HF_TOKEN, or log in with `hf auth login`"));
    }
    Ok(Some(token.to_owned()).filter(|token| !token.is_empty()))
}
