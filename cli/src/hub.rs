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
use std::path::Path;

use haul_engine::{DownloadBuilder, Engine};
use url::Url;

use crate::exit::{self, Failure};
use crate::input::Item;
use crate::request::Request;

use cache::Places;
pub(crate) use cache::{Snapshot, link};
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
    if is_set("HF_HUB_OFFLINE") {
        let text = "HF_HUB_OFFLINE is set, so the hub is not asked: nothing was fetched";
        return Err(Failure::usage(text).hint("unset it to download"));
    }
    let user = Places::of_user()?;
    let endpoint = endpoint()?;
    request.allow(endpoint.as_str())?;
    let token = if request.has_login() { None } else { token(&user.token)? };
    let hub = Hub { engine, request, endpoint, token };
    for place in places {
        let listed = hub.list(place).await.map_err(|mut failure| {
            failure.message = format!("{}: {}", place.shown(), failure.message);
            failure
        })?;
        found.add(&hub, place, target, &user, listed);
    }
    if found.items.len() > 1 && target == Target::File {
        let text = "--output names one file, and the address names several";
        return Err(Failure::usage(text).hint("use --dir DIR"));
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, hub: &Hub<'_>, place: &Place, target: Target, user: &Places, listed: Listed) {
        let Listed { commit, files } = listed;
        let mut snapshot = Snapshot::new(&user.cache, place, commit.clone());
        // Several files may be one blob.
        let mut by_blob = HashMap::<String, usize>::new();
        for file in files {
            let mut item = Item {
                urls: vec![hub.file_url(place, &commit, &file.path)],
                size_bytes: Some(file.size_bytes),
                checksum: Some(file.checksum.clone()),
                headers: hub.login(),
                as_is: true,
                ..Item::default()
            };
            let path = Path::new(&file.path);
            match target {
                Target::File => {}
                Target::Directory => {
                    item.out = path.file_name().map(Into::into);
                    item.dir =
                        path.parent().filter(|it| !it.as_os_str().is_empty()).map(Into::into);
                }
                Target::Cache => {
                    let link = snapshot.add(&file);
                    if let Some(&known) = by_blob.get(&file.etag) {
                        self.items[known].links.push(link);
                        continue;
                    }
                    item.links.push(link);
                    item.dir = Some(snapshot.blobs());
                    item.out = Some((&file.etag).into());
                    by_blob.insert(file.etag, self.items.len());
                }
            }
            self.items.push(item);
        }
        if target == Target::Cache {
            self.snapshots.push(snapshot);
        }
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
            // The URL of the next page is in a field of the answer.
            let (head, body) =
                tokio::join!(self.get(&url).plan(), self.get(&url).bytes(MAX_ANSWER_BYTES));
            let head = head.map_err(|error| self.failure(error))?;
            let body = body.map_err(|error| self.failure(error))?;
            tree.add(&body).map_err(|why| unusable(&why))?;
            let Some(next) = listing::next_page(&head.headers) else { return Ok(tree) };
            let next = url.join(next).ok().filter(|next| next.origin() == url.origin());
            let next = next.ok_or_else(|| unusable("its next page is on another host"))?;
            if !pages.insert(std::mem::replace(&mut url, next)) {
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
        match (failure.status, &self.token) {
            (Some(401 | 403 | 404), None) => failure.hint(
                "if it is private or gated, give a token in HF_TOKEN, or log in with `hf auth \
                 login`; if not, look at how it is written",
            ),
            (Some(401 | 403 | 404), Some(_)) => failure.hint(
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

/// The user's token, from where programs for the hub look for it.
///
/// # Errors
/// Exit 2 for one that cannot be sent, which is not quoted.
fn token(file: &Path) -> Result<Option<String>, Failure> {
    if is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    let given = |variable| env::var(variable).ok().filter(|it| !it.trim().is_empty());
    let token = given("HF_TOKEN").or_else(|| given("HUGGING_FACE_HUB_TOKEN"));
    let token = token.or_else(|| fs::read_to_string(file).ok()).unwrap_or_default();
    let token = token.trim();
    if token.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(Failure::usage("the token of the hub has a character that no token has")
            .hint("look at HF_TOKEN, or log in with `hf auth login`"));
    }
    Ok(Some(token.to_owned()).filter(|token| !token.is_empty()))
}
