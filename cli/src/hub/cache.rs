//! The cache that programs for the hub share: where it is, and what is where in it.
//!
//! Below `models--ORG--REPO` there are `blobs`, named by what is in them; `snapshots/COMMIT`, with
//! a symbolic link to a blob at the path of each file; and `refs`, where the file of a revision has
//! the commit that it stood for.

use std::collections::HashSet;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::listing;
use super::place::Place;
use crate::exit::Failure;
use crate::os;
use crate::render::escape;

/// Where a user's things of the hub are, if the user has a place for them.
#[derive(Debug)]
pub(super) struct UserPaths {
    pub(super) cache: Option<PathBuf>,
    /// The file with the token.
    pub(super) token: Option<PathBuf>,
}

impl UserPaths {
    /// What the variables of programs for the hub name.
    pub(super) fn from_environment() -> Self {
        let named = |variable| env::var_os(variable).filter(|it| !it.is_empty()).map(at_home);
        let below_caches = || {
            let caches = named("XDG_CACHE_HOME");
            let caches = caches.or_else(|| Some(os::places::home()?.join(".cache")))?;
            Some(caches.join("huggingface"))
        };
        let home = named("HF_HOME").or_else(below_caches);
        let below_home = |name: &str| Some(home.as_ref()?.join(name));
        let cache = named("HF_HUB_CACHE").or_else(|| named("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.or_else(|| below_home("hub"));
        Self {
            cache: cache.map(|path| std::path::absolute(&path).unwrap_or(path)),
            token: named("HF_TOKEN_PATH").or_else(|| below_home("token")),
        }
    }
}

/// A path whose `~` is the user's own directory.
fn at_home(path: OsString) -> PathBuf {
    let path = PathBuf::from(path);
    match (path.strip_prefix("~"), os::places::home()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

/// The files of a place at one commit, in the cache.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The address, for messages.
    shown: String,
    /// The directory of the repository.
    repository: PathBuf,
    commit: String,
    /// What the commit was called, if it was not by itself.
    revision: Option<String>,
    /// The path of each file.
    links: Vec<PathBuf>,
}

impl Snapshot {
    pub(super) fn new(cache: &Path, place: &Place, commit: String) -> Self {
        let name = format!("{}--{}", place.kind.plural(), place.repo.replace('/', "--"));
        let revision = place.revision.clone().unwrap_or_else(|| "main".to_owned());
        Self {
            shown: place.shown(),
            repository: cache.join(name),
            revision: Some(revision).filter(|it| *it != commit),
            commit,
            links: Vec::new(),
        }
    }

    /// The directory of the blobs.
    pub(super) fn blobs(&self) -> PathBuf {
        self.repository.join("blobs")
    }

    fn directory(&self) -> PathBuf {
        self.repository.join("snapshots").join(&self.commit)
    }

    /// Adds a file, and returns the path that it gets.
    pub(super) fn add(&mut self, file: &listing::File) -> PathBuf {
        let link = self.directory().join(&file.path);
        self.links.push(link.clone());
        link
    }

    /// Says where the snapshot is if all its files are there, and otherwise how many of them. Those
    /// that are `broken` do not count. The revision is noted only once all are there: whoever works
    /// offline takes what it names for complete.
    ///
    /// # Errors
    /// Exit 3 when it cannot be noted.
    pub(crate) fn conclude(&self, broken: &HashSet<PathBuf>) -> Result<Concluded, Failure> {
        let is_here = |link: &&PathBuf| link.exists() && !broken.contains(*link);
        let (here, all) = (self.links.iter().filter(is_here).count(), self.links.len());
        let place = escape(&self.directory().to_string_lossy());
        if here < all {
            let text = format!("{}: {here} of {all} files are in {place}", self.shown);
            return Ok(Concluded::Partly(text));
        }
        if let Some(revision) = &self.revision {
            let file = self.repository.join("refs").join(revision);
            let was = fs::read_to_string(&file).unwrap_or_default();
            if was != self.commit {
                self.write_whole(&file).map_err(|error| {
                    let file = escape(&file.to_string_lossy());
                    Failure::local(format!(
                        "the files are complete, but programs will not find them by their \
                         revision, because {file} cannot be written: {error}"
                    ))
                })?;
            }
        }
        let place = match &*self.links {
            [file] => escape(&file.to_string_lossy()),
            _ => place,
        };
        Ok(Concluded::Whole(format!("{} is in {place}", self.shown)))
    }

    /// Writes the commit to a file, so that nobody sees a part of it, also after a power cut.
    fn write_whole(&self, file: &Path) -> io::Result<()> {
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        let new = temporary(&self.repository);
        let written = File::create(&new).and_then(|mut new| {
            new.write_all(self.commit.as_bytes())?;
            new.sync_all()
        });
        written.and_then(|()| fs::rename(&new, file)).inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
    }
}

/// What there is of a snapshot, as a line for the user.
pub(crate) enum Concluded {
    Whole(String),
    Partly(String),
}

/// Gives a complete blob the names under which programs look for it.
///
/// # Errors
/// Exit 3 when one cannot be made.
pub(crate) fn link(links: &[PathBuf], blob: &Path) -> Result<(), Failure> {
    for link in links {
        make_link(link, blob).map_err(|error| {
            let (link, blob) = (escape(&link.to_string_lossy()), escape(&blob.to_string_lossy()));
            Failure::local(format!("{blob} is complete, but cannot be found as {link}: {error}"))
        })?;
    }
    Ok(())
}

fn make_link(link: &Path, blob: &Path) -> io::Result<()> {
    let target = relative(link, blob);
    match fs::symlink_metadata(link) {
        // Where there are no symbolic links, a file is there, which whoever wrote it verified.
        Ok(found) if found.is_file() => return Ok(()),
        Ok(_) if fs::read_link(link).is_ok_and(|it| it == target) => return Ok(()),
        _ => {}
    }
    if let Some(directory) = link.parent() {
        fs::create_dir_all(directory)?;
    }
    let repository = blob.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let new = temporary(repository);
    // Not every file system has links of either kind.
    os::symlink(&target, &new)
        .or_else(|_| fs::hard_link(blob, &new))
        .or_else(|_| fs::copy(blob, &new).map(drop))
        .and_then(|()| fs::rename(&new, link))
        .inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
}

/// A name for what is not complete, in a directory where nobody looks for files.
fn temporary(repository: &Path) -> PathBuf {
    repository.join(format!(".haul-{:08x}~", fastrand::u32(..)))
}

/// The way from a link to what it points to.
fn relative(link: &Path, target: &Path) -> PathBuf {
    let shared = link.components().zip(target.components()).take_while(|(a, b)| a == b).count();
    let up = link.components().count().saturating_sub(shared + 1);
    let up = std::iter::repeat_n(std::path::Component::ParentDir, up);
    up.chain(target.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_up_from_where_they_are() {
        for (link, target, way) in [
            ("/c/m/snapshots/1/x", "/c/m/blobs/b", "../../blobs/b"),
            ("/c/m/snapshots/1/d/e/x", "/c/m/blobs/b", "../../../../blobs/b"),
        ] {
            assert_eq!(relative(Path::new(link), Path::new(target)), Path::new(way));
        }
    }

    #[test]
    fn a_link_is_made_once_and_mended() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs");
        fs::create_dir(&blobs).unwrap();
        let (old, new) = (blobs.join("old"), blobs.join("new"));
        fs::write(&old, "old").unwrap();
        fs::write(&new, "new").unwrap();
        let links = [dir.path().join("snapshots/1/x"), dir.path().join("snapshots/1/d/y")];
        for (blob, text) in [(&old, "old"), (&new, "new"), (&new, "new")] {
            link(&links, blob).unwrap();
            for link in &links {
                if cfg!(unix) {
                    assert_eq!(fs::read_to_string(link).unwrap(), text);
                }
            }
        }
        assert_eq!(fs::read_dir(dir.path().join("snapshots/1")).unwrap().count(), 2);
    }
}
