//! What a program that embeds the command shares with it, as its Python package does: the command
//! itself, the words of failures, and lists, with their items, their records and how many of their
//! downloads run at a time.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use haul_engine::{DownloadOptions, Error, Summary};

use crate::drive::Outcome;
use crate::exit::Failure;
use crate::results::Standing;
use crate::{address, exit, input, results};

pub use crate::jobs::Width;

/// As [`crate::run`], for programs that end by themselves.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    crate::code_of(args)
}

/// The stable word for what sort of failure this is, as in events and results.
#[must_use]
pub fn word(error: &Error) -> &'static str {
    exit::code(error.kind()).1
}

/// Why there was no download, or one without a result. It is shown as one line.
#[derive(Debug, Clone)]
pub struct Refused(Failure);

impl Refused {
    /// For an argument that cannot be used.
    #[must_use]
    pub fn new(message: String) -> Self {
        Self(Failure::usage(message))
    }

    /// For a defect of the program or of haul.
    #[must_use]
    pub fn internal(message: String) -> Self {
        Self(Failure::internal(message))
    }

    /// The stable word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        self.0.word
    }

    /// The next step, which may name a flag of the command.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

/// One download of a list.
#[derive(Debug, Clone)]
pub struct Item(input::Item);

impl Item {
    /// The download of a URL, with nothing else set.
    ///
    /// # Errors
    /// For a text that is no http or https URL.
    pub fn of_url(url: &str) -> Result<Self, Refused> {
        address::url(url).map(|url| Self(input::Item::of_url(url))).map_err(Refused)
    }

    /// The download that a JSON object describes, as a line of a list does.
    ///
    /// # Errors
    /// For a text that is no such object, and for a key that it does not know.
    pub fn of_json(text: &str) -> Result<Self, Refused> {
        let item = input::of_json(text).map_err(Refused)?;
        match item.ignored.first() {
            None => Ok(Self(item)),
            Some(key) => Err(Refused(Failure::usage(format!("an item has no key {key:?}")))),
        }
    }

    /// The URL to fetch it from first.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.urls[0]
    }

    /// Sets what it says.
    pub fn apply(&self, options: &mut DownloadOptions) {
        self.0.shape(options);
        if let Some(inner) = &self.0.dir {
            options.directory.push(inner);
        }
    }
}

/// A file with a record for each item that ended, as `--results` keeps it.
#[derive(Debug)]
pub struct Results(results::Results);

/// How an item ended.
#[derive(Debug, Clone, Copy)]
pub enum Ended<'a> {
    /// The output is complete.
    Completed(&'a Summary),
    /// Something was there that nobody looked at, so it does not count as complete.
    Skipped,
    /// The download failed.
    Failed(&'a Error),
    /// There was no download, or one without a result.
    Refused(&'a Refused),
}

/// The items that an earlier run completed, according to such a file.
#[derive(Debug, Default)]
pub struct Complete(results::Complete);

impl Complete {
    /// What was recorded of the item, if it is one of them, and its file is as it was and what is
    /// asked for.
    #[must_use]
    pub fn summary(&self, item: &Item) -> Option<Summary> {
        // The key costs a hash, so it is computed only if needed.
        let key = (!self.0.is_empty()).then(|| item.0.key())?;
        match self.0.standing(key, &item.0) {
            Standing::Complete => self.0.summary(key),
            Standing::Open | Standing::Other(_) => None,
        }
    }
}

impl Results {
    /// Opens the file, creating it if needed, and reads it.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(path: &Path) -> Result<(Self, Complete), Refused> {
        let (results, complete) = results::Results::open(path).map_err(Refused)?;
        Ok((Self(results), Complete(complete)))
    }

    /// Records how an item ended.
    pub fn add(&self, item: &Item, ended: Ended<'_>, elapsed: Duration) {
        let outcome = match ended {
            Ended::Completed(summary) => Outcome::Completed(Box::new(summary.clone())),
            Ended::Skipped => Outcome::Skipped,
            Ended::Failed(error) => Outcome::Failed(error.clone().into()),
            Ended::Refused(refused) => Outcome::Failed(refused.0.clone()),
        };
        self.0.add(&item.0, &outcome, elapsed);
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// When something was not written.
    pub fn close(self) -> Result<(), Refused> {
        self.0.close().map_err(Refused)
    }
}
