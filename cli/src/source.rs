//! What a run downloads, in order: the URLs of the command line, then the list of `--input-file`.
//!
//! A list in a regular file is read twice: once to refuse it as a whole for a bad line before
//! anything starts, and once to run it. A list from a pipe is read once, while earlier items
//! already run, so a bad line there is a failed item. Either is read on a thread of its own, a few
//! items ahead, because reading a pipe waits.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::hash::BuildHasher as _;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use tokio::sync::mpsc;

use crate::exit::Failure;
use crate::input::{Fault, Item, Items};
use crate::render::escape;
use crate::results::{Complete, Standing};
use crate::share::Shard;
use crate::units::plural;

/// How many items are handed over together if the list never makes its reader wait: each handover
/// costs a switch of threads.
const TOGETHER: usize = 64;

/// How many such batches are read ahead.
const AHEAD: usize = 2;

/// How many items are read ahead of a pipe, where they are handed over one by one as they arrive.
const AHEAD_OF_PIPE: usize = 64;

/// How many unknown options are named at most.
const MAX_NOTES: usize = 32;

/// What comes next. Items are numbered from 1, including those that cannot be used.
#[derive(Debug)]
pub(crate) enum Next {
    /// Something to download.
    Item(usize, Box<Item>),
    /// An item that cannot be used, or a list that cannot be read on.
    Fault(usize, Failure),
    /// A line for the user.
    Note(String),
}

/// Which items belong to this run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mine {
    /// Only items of this shard.
    pub(crate) shard: Option<Shard>,
    /// The items that are complete and left out.
    pub(crate) complete: Complete,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Source {
    /// First the URLs, then what was taken from the list.
    urls: VecDeque<Next>,
    list: Option<mpsc::Receiver<Vec<Next>>>,
    /// How many downloads there are; for a pipe this is unknown before its end.
    count: Option<usize>,
}

impl Source {
    /// The source of these URLs and of the list in this file; `-` is standard input. A list in a
    /// regular file has been read to its end and found valid.
    ///
    /// # Errors
    /// Exit 3 for a file that cannot be read, exit 2 for a bad line in it.
    pub(crate) fn open(urls: &[String], list: Option<&Path>, mine: Mine) -> Result<Self, Failure> {
        let count = urls.len();
        let numbered = urls.iter().enumerate();
        let items =
            numbered.map(|(at, url)| Next::Item(at + 1, Box::new(Item::of_url(url.clone()))));
        let urls: VecDeque<Next> = Chosen::new(items, mine.clone()).collect();
        let (list, listed) = match list {
            None => (None, Some(0)),
            Some(path) => read_ahead(path, count, mine).map(|(list, count)| (Some(list), count))?,
        };
        let count = listed.map(|listed| listed + downloads(&urls));
        Ok(Self { urls, list, count })
    }

    /// Adds items after the URLs and before the list. They are numbered from where the URLs end, so
    /// the items of a list beside them repeat their numbers.
    pub(crate) fn add(&mut self, items: Vec<Item>, mine: &Mine) {
        let first = self.urls.len() + 1;
        let items = (first..).zip(items).map(|(number, item)| Next::Item(number, Box::new(item)));
        let items: Vec<Next> = Chosen::new(items, mine.clone()).collect();
        self.count = self.count.map(|count| count + downloads(&items));
        self.urls.extend(items);
    }

    /// How many downloads there are in all, including those that cannot be used; `None` if a list
    /// comes from a pipe.
    pub(crate) fn count(&self) -> Option<usize> {
        self.count
    }

    /// The next one, or `None` at the end; cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Next> {
        loop {
            if let Some(next) = self.urls.pop_front() {
                return Some(next);
            }
            self.urls.extend(self.list.as_mut()?.recv().await?);
        }
    }

    /// Whether nothing more will come, as far as is known.
    pub(crate) fn has_ended(&self) -> bool {
        self.urls.is_empty()
            && self.list.as_ref().is_none_or(|list| list.is_closed() && list.is_empty())
    }
}

/// How many of these are downloads and not notes.
fn downloads<'a>(items: impl IntoIterator<Item = &'a Next>) -> usize {
    items.into_iter().filter(|next| !matches!(next, Next::Note(_))).count()
}

/// Starts reading a list, and returns how many downloads it contains, unless it comes from a pipe.
fn read_ahead(
    path: &Path,
    before: usize,
    mine: Mine,
) -> Result<(mpsc::Receiver<Vec<Next>>, Option<usize>), Failure> {
    let mut count = None;
    let (name, reader): (String, Box<dyn io::Read + Send>) = if path == Path::new("-") {
        ("standard input".to_owned(), Box::new(io::stdin()))
    } else {
        let name = escape(&path.to_string_lossy());
        let cannot =
            |error: io::Error| Failure::local(format!("cannot read the list {name}: {error}"));
        let open = || File::open(path).map_err(cannot);
        if std::fs::metadata(path).map_err(cannot)?.is_file() {
            count = Some(check(&name, open()?, mine.clone())?);
        }
        (name.clone(), Box::new(open()?))
    };
    let waits = count.is_none();
    let (ahead, together) = if waits { (AHEAD_OF_PIPE, 1) } else { (AHEAD, TOGETHER) };
    let (sender, receiver) = mpsc::channel(ahead);
    let feed = move || {
        let mut items = Chosen::new(List::new(&name, reader, before), mine);
        loop {
            let batch: Vec<Next> = items.by_ref().take(together).collect();
            if batch.is_empty() || sender.blocking_send(batch).is_err() {
                return;
            }
        }
    };
    // The thread is not waited for: a read of a pipe may never end, and the process must.
    thread::Builder::new().name("haul-list".to_owned()).spawn(feed).map_err(|error| {
        Failure::internal(format!("cannot start a thread to read the list: {error}"))
    })?;
    Ok((receiver, count))
}

/// Reads a list to its end and refuses it for its first fault. Returns how many of its items belong
/// to this run.
fn check(name: &str, file: File, mine: Mine) -> Result<usize, Failure> {
    let mut count = 0;
    for next in Chosen::new(List::new(name, file, 0), mine) {
        match next {
            Next::Fault(_, mut failure) => {
                failure.message += "; nothing was started";
                return Err(failure);
            }
            Next::Item(..) => count += 1,
            Next::Note(_) => {}
        }
    }
    Ok(count)
}

/// The items of a list with their numbers. No two of them may collide.
struct List<'a, R> {
    name: &'a str,
    items: Items<R>,
    number: usize,
    identities: Seen,
    outputs: Seen,
    /// The files that haul keeps beside the outputs during a download.
    beside: Seen,
    notes: VecDeque<String>,
    ignored: HashSet<String>,
}

impl<'a, R: io::Read> List<'a, R> {
    fn new(name: &'a str, reader: R, before: usize) -> Self {
        Self {
            name,
            items: Items::new(reader),
            number: before,
            identities: Seen::default(),
            outputs: Seen::default(),
            beside: Seen::default(),
            notes: VecDeque::new(),
            ignored: HashSet::new(),
        }
    }

    /// The failure of an item that collides with an earlier one.
    fn twin(&mut self, item: &Item) -> Option<Failure> {
        let identity = item.identity();
        if !self.identities.insert(&identity) {
            let what = match &item.id {
                Some(id) => format!("the id `{}`", escape(id)),
                None => "the same download".to_owned(),
            };
            return Some(
                Failure::usage(format!("{what} is in the list twice"))
                    .hint("take one of them out, or give each an id and an output of its own"),
            );
        }
        let output = item.dir.clone().unwrap_or_default().join(item.out.as_ref()?);
        let shown = escape(&output.to_string_lossy());
        if !self.outputs.insert(&output) {
            return Some(
                Failure::usage(format!("two items of the list write to `{shown}`"))
                    .hint("give each an output of its own"),
            );
        }
        let beside = BESIDE.map(|ending| with(&output, ending));
        for file in &beside {
            self.beside.insert(file);
        }
        let of_another = self.beside.has(&output).then(|| output.with_extension(""));
        let other = of_another.or_else(|| beside.into_iter().find(|it| self.outputs.has(it)))?;
        let other = escape(&other.to_string_lossy());
        Some(
            Failure::usage(format!(
                "`{shown}` and `{other}` cannot both be written: one is the name of a file that \
                 the other has beside it while it is downloaded"
            ))
            .hint("give one of them another output"),
        )
    }

    fn note_ignored(&mut self, item: &Item) {
        for name in &item.ignored {
            if self.ignored.len() < MAX_NOTES && self.ignored.insert(name.clone()) {
                let name = escape(name);
                self.notes.push_back(format!("the list's option `{name}` is unknown and ignored"));
            }
        }
    }
}

impl<R: io::Read> Iterator for List<'_, R> {
    type Item = Next;

    fn next(&mut self) -> Option<Next> {
        if let Some(note) = self.notes.pop_front() {
            return Some(Next::Note(note));
        }
        let found = self.items.next()?;
        self.number += 1;
        Some(match found {
            Ok((line, item)) => match self.twin(&item) {
                Some(failure) => Next::Fault(self.number, self.at(line, failure)),
                None => {
                    self.note_ignored(&item);
                    Next::Item(self.number, Box::new(item))
                }
            },
            Err(Fault::Line(line, failure)) => Next::Fault(self.number, self.at(line, failure)),
            Err(Fault::Read(error)) => {
                let name = self.name;
                let failure =
                    Failure::local(format!("cannot read further in the list {name}: {error}"));
                Next::Fault(self.number, failure)
            }
        })
    }
}

impl<R> List<'_, R> {
    fn at(&self, line: u64, mut failure: Failure) -> Failure {
        failure.message = format!("{}, line {line}: {}", self.name, failure.message);
        failure
    }
}

/// The items that belong to this run, and at the end a note about those that an earlier run
/// completed.
struct Chosen<I> {
    items: I,
    mine: Mine,
    skipped: u64,
}

impl<I> Chosen<I> {
    fn new(items: I, mine: Mine) -> Self {
        Self { items, mine, skipped: 0 }
    }
}

impl<I: Iterator<Item = Next>> Iterator for Chosen<I> {
    type Item = Next;

    fn next(&mut self) -> Option<Next> {
        for next in self.items.by_ref() {
            let (number, mut item) = match next {
                Next::Item(number, item) => (number, item),
                other => return Some(other),
            };
            // The key costs a hash, so it is computed only if needed.
            if self.mine.shard.is_none() && self.mine.complete.is_empty() {
                return Some(Next::Item(number, item));
            }
            let key = item.key();
            if self.mine.shard.is_some_and(|shard| !shard.has(key)) {
                continue;
            }
            match self.mine.complete.standing(key, &item) {
                Standing::Open => {}
                Standing::Other(written) => item.own_file = Some(Box::new(written)),
                // Of several files of the hub that are one, another may have been recorded.
                Standing::Complete if item.links.iter().any(|link| !link.exists()) => {}
                Standing::Complete => {
                    self.skipped += 1;
                    continue;
                }
            }
            return Some(Next::Item(number, item));
        }
        match std::mem::take(&mut self.skipped) {
            0 => None,
            count => {
                let items = plural(count, "item is", "items are");
                Some(Next::Note(format!("{items} complete according to the results, and skipped")))
            }
        }
    }
}

/// The endings of the files that haul keeps beside an output.
const BESIDE: [&str; 3] = [".part", ".haul", ".hau~"];

fn with(output: &Path, ending: &str) -> PathBuf {
    let mut path = output.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// The set of what was there already, as hashes of eight bytes. Of a million items, two different
/// ones are taken for the same once in thirty million lists.
#[derive(Debug, Default)]
struct Seen {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl Seen {
    /// Adds a thing, and returns whether it is new.
    fn insert(&mut self, thing: &(impl std::hash::Hash + ?Sized)) -> bool {
        self.hashes.insert(self.hasher.hash_one(thing))
    }

    fn has(&self, thing: &(impl std::hash::Hash + ?Sized)) -> bool {
        self.hashes.contains(&self.hasher.hash_one(thing))
    }
}
