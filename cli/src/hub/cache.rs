//! The cache that programs for the hub share: where it is, and what is where in it.
//!
//! Below `models--ORG--REPO` there are `blobs`, named by what is in them; `snapshots/COMMIT`, with
//! a symbolic link to a blob at the path of each file; and `refs`, where the file of a revision has
//! the commit that it stood for.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::listing::File;
use super::place::Place;
use crate::exit::Failure;
use crate::os;
use crate::render::escape;

/// Where things of the hub are.
#[derive(Debug)]
pub(super) struct Places {
    /// The cache.
    pub(super) cache: PathBuf,
    /// The file with the user's token.
    pub(super) token: PathBuf,
}

impl Places {
    /// The places that the variables of programs for the hub name.
    ///
    /// # Errors
    /// Exit 3 where there is no such place.
    pub(super) fn of_user() -> Result<Self, Failure> {
        let named = |variable| env::var_os(variable).filter(|it| !it.is_empty()).map(at_home);
        let below_caches = || {
            let caches = named("XDG_CACHE_HOME");
            let caches = caches.or_else(|| Some(os::places::home()?.join(".cache")))?;
            Some(caches.join("huggingface"))
        };
        let home = named("HF_HOME").or_else(below_caches).ok_or_else(|| {
            Failure::local("the cache of the hub has no place: there is no home directory")
                .hint("--dir DIR downloads to a directory; HF_HOME names one for the cache")
        })?;
        let cache = named("HF_HUB_CACHE").or_else(|| named("HUGGINGFACE_HUB_CACHE"));
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        Ok(Self {
            cache: absolute(cache.unwrap_or_else(|| home.join("hub"))),
            token: named("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token")),
        })
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
    pub(super) fn add(&mut self, file: &File) -> PathBuf {
        let link = self.directory().join(&file.path);
        self.links.push(link.clone());
        link
    }

    /// Where the snapshot is, and that its files are there, if they are. The revision is noted
    /// then, and not earlier: whoever works offline believes that what it names is whole.
    ///
    /// # Errors
    /// Exit 3 when it cannot be noted.
    pub(crate) fn conclude(&self) -> Result<Option<String>, Failure> {
        if self.links.is_empty() || !self.links.iter().all(|link| link.exists()) {
            return Ok(None);
        }
        if let Some(revision) = &self.revision {
            let file = self.repository.join("refs").join(revision);
            let was = fs::read_to_string(&file).unwrap_or_default();
            if was != self.commit {
                write_whole(&file, &self.commit).map_err(|error| {
                    let file = escape(&file.to_string_lossy());
                    Failure::local(format!("the files are complete, but {file} cannot be written, which tells programs of them: {error}"))
                })?;
            }
        }
        let place = match &*self.links {
            [file] => file.clone(),
            _ => self.directory(),
        };
        Ok(Some(format!("{} is in {}", self.shown, escape(&place.to_string_lossy()))))
    }
}

/// Writes a file so that nobody sees a part of it.
fn write_whole(file: &Path, text: &str) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let new = beside(file);
    fs::write(&new, text).and_then(|()| fs::rename(&new, file)).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

/// Gives a complete blob the names under which programs look for it.
///
/// # Errors
/// Exit 3 when one cannot be made.
pub(crate) fn link(links: &[PathBuf], blob: &Path) -> Result<(), Failure> {
    for link in links {
        place(link, blob).map_err(|error| {
            let (link, blob) = (escape(&link.to_string_lossy()), escape(&blob.to_string_lossy()));
            Failure::local(format!("{blob} is complete, but cannot be found as {link}: {error}"))
        })?;
    }
    Ok(())
}

fn place(link: &Path, blob: &Path) -> io::Result<()> {
    let target = relative(link, blob);
    match fs::symlink_metadata(link) {
        // Systems without symbolic links have a file there, as whoever wrote it could tell.
        Ok(found) if !found.is_symlink() => return Ok(()),
        Ok(_) if fs::read_link(link).is_ok_and(|it| it == target) => return Ok(()),
        _ => {}
    }
    if let Some(directory) = link.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = beside(link);
    os::symlink_or_copy(&target, blob, &new)?;
    fs::rename(&new, link).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

/// A name in the same directory that no other process has.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{:08x}~", fastrand::u32(..)));
    name.into()
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
