//! Runs the command in a sandbox, with a deadline, and judges what it left.
//!
//! The oracle of every fault is here: the final name holds exactly one version
//! of the object or does not exist ([`Sandbox::assert_published`],
//! [`Sandbox::assert_unpublished`]); no foreign file is left; the time is
//! bounded (every [`Haul`] has a deadline); no secret is on disk or on a
//! terminal ([`Outcome::assert_free_of`], [`Sandbox::assert_free_of`]): each
//! command gets the canary, and each outcome and sandbox is searched for it.

mod left;
mod run;
mod stream;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub use run::{Haul, Outcome, Running, interrupt, kill};
pub use rustix::process::Signal;

use crate::canary::CANARY;
use crate::object::Object;
use crate::origin::Origin;

/// The command under test in a [`Sandbox`], with JSON events and settings that
/// keep failing downloads short: two rounds of retrying, five seconds of stall, which no
/// thread of a busy machine is late by. Flags that a test gives later count more.
///
/// To be used in integration tests, where cargo tells the command's path.
#[macro_export]
macro_rules! haul {
    ($sandbox:expr) => {
        $crate::haul!($sandbox, bare).json().args(["--retry", "2", "--stall-timeout", "5s"])
    };
    ($sandbox:expr, bare) => {
        $crate::harness::Haul::new(env!("CARGO_BIN_EXE_haul-under-test"), &$sandbox)
    };
}

/// A directory of one test: `work` to run in, and a home and a temporary
/// directory that must stay empty. Gone when dropped.
#[derive(Debug)]
pub struct Sandbox {
    root: tempfile::TempDir,
}

impl Sandbox {
    /// An empty sandbox.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        Self::in_root(tempfile::tempdir().expect("a temporary directory"))
    }

    /// An empty sandbox in `directory`, such as one on a disk of its own.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn within(directory: &Path) -> Self {
        Self::in_root(tempfile::tempdir_in(directory).expect("a directory of our own"))
    }

    fn in_root(root: tempfile::TempDir) -> Self {
        for name in ["work", "home", "tmp"] {
            fs::create_dir(root.path().join(name)).expect("a directory of our own");
        }
        Self { root }
    }

    /// The directory that everything is below.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The working directory.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// `name` in the working directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.work().join(name)
    }

    /// The partial of the target `name`.
    #[must_use]
    pub fn part(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.part"))
    }

    /// The checkpoint of the target `name`.
    #[must_use]
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.haul"))
    }

    /// Writes a file of the test's own into the working directory.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("the sandbox can be written");
        path
    }

    /// All that is not a directory, as paths relative to `work`, sorted; what is
    /// outside of it starts with `../`. What is remembered of servers is left out:
    /// it is meant to stay.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        collect(self.root.path(), &mut files);
        let mut names: Vec<String> = files
            .iter()
            .map(|path| {
                path.strip_prefix(self.work()).map_or_else(
                    |_| format!("../{}", path.strip_prefix(self.root()).unwrap_or(path).display()),
                    |inside| inside.display().to_string(),
                )
            })
            .collect();
        names.retain(|name| name != "../home/.local/state/haul/hosts");
        names.sort();
        names
    }

    /// `name` holds exactly this version, and nothing else is left anywhere.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn assert_published(&self, name: &str, object: &Object) {
        self.assert_only(&[(name, object)]);
    }

    /// These files hold exactly these versions, and nothing else is left.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn assert_only(&self, expected: &[(&str, &Object)]) {
        let mut names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(self.files(), names, "the files that should be here, and no others");
        for (name, object) in expected {
            if let Err(difference) = object.compare_file(&self.path(name)) {
                panic!("{difference}");
            }
        }
    }

    /// `name` does not exist, and nothing but its partial and checkpoint may.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn assert_unpublished(&self, name: &str) {
        self.assert_none_but(&[format!("{name}.haul"), format!("{name}.part")]);
    }

    /// As [`Sandbox::assert_unpublished`], for a process that had no time to
    /// tidy up: the checkpoint that it was writing may be left as well, until
    /// the next run.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn assert_unpublished_at_once(&self, name: &str) {
        let parts = ["haul", "part", "hau~"].map(|ending| format!("{name}.{ending}"));
        self.assert_none_but(&parts);
    }

    #[track_caller]
    fn assert_none_but(&self, allowed: &[String]) {
        let foreign: Vec<_> =
            self.files().into_iter().filter(|file| !allowed.contains(file)).collect();
        assert!(foreign.is_empty(), "files that should not be here: {foreign:?}");
    }

    /// As [`Sandbox::assert_unpublished`]; partial and checkpoint are there,
    /// readable by their owner alone.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn assert_kept(&self, name: &str) {
        self.assert_unpublished(name);
        self.assert_partial(name);
    }

    /// Partial and checkpoint are there, readable by their owner alone.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn assert_partial(&self, name: &str) {
        for path in [self.part(name), self.checkpoint(name)] {
            match fs::symlink_metadata(&path) {
                Ok(meta) => {
                    let mode = meta.permissions().mode() & 0o7777;
                    assert_eq!(mode, 0o600, "mode {mode:o} of {}", path.display());
                }
                Err(error) => panic!("{}: {error}; {:?}", path.display(), self.files()),
            }
        }
    }

    /// No file at all is left.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let files = self.files();
        assert!(files.is_empty(), "nothing should have been written, but {files:?}");
    }

    /// `secret` is in no file and in no name of one.
    ///
    /// # Panics
    /// When it is.
    #[track_caller]
    pub fn assert_free_of(&self, secret: &str) {
        let mut files = Vec::new();
        collect(self.root.path(), &mut files);
        for path in files {
            assert!(!path.display().to_string().contains(secret), "a secret in a name: {path:?}");
            // A test's FIFO would never end.
            let regular = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
            let bytes = if regular { fs::read(&path).unwrap_or_default() } else { Vec::new() };
            assert!(!contains(&bytes, secret), "a secret in {}", path.display());
        }
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    /// No test leaves the canary in a file, or anything that runs on.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_free_of(CANARY);
            let mut files = Vec::new();
            collect(self.root.path(), &mut files);
            left::assert_nothing_runs_on(self.root.path(), &files);
        }
    }
}

/// Makes a FIFO.
///
/// # Panics
/// When it cannot be made.
pub fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo").args(["-m", "600"]).arg(path).status();
    assert!(made.expect("mkfifo is there").success(), "{}", path.display());
}

/// How long ago the file was written last.
#[must_use]
pub fn age_of(path: &Path) -> Duration {
    let written = fs::metadata(path).and_then(|found| found.modified());
    written.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default()
}

/// Makes `path` a shell script that can be run at once: this process never has it open for
/// writing, and neither has a command that another thread starts meanwhile.
///
/// # Panics
/// When it cannot be written.
pub fn write_program(path: &Path, script: &str) {
    let mut writer = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    let text = format!("#!/bin/sh\n{script}\n");
    writer.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    assert!(writer.wait().expect("a child of ours").success());
}

/// What every request of haul must be, whatever the origin did: a GET with
/// `Accept-Encoding: identity`, never resting on a weak tag, and with at most
/// one, satisfiable range.
///
/// # Panics
/// When one is not.
#[track_caller]
pub fn assert_well_asked(origin: &Origin) {
    for record in origin.requests() {
        let request = &record.request;
        assert_eq!(request.method, "GET", "{request:?}");
        let encodings: Vec<_> = request
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("accept-encoding"))
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(encodings, ["identity"], "{request:?}");
        assert_eq!(request.header("Range").is_some(), request.range().is_some(), "{request:?}");
        for name in ["If-Match", "If-Range"] {
            let weak = request.header(name).is_some_and(|value| value.contains("W/"));
            assert!(!weak, "{name} with a weak tag: {request:?}");
        }
    }
}

/// Whether `text`, which is not empty, is somewhere in `bytes`. Horspool's
/// search, since whole downloads are searched.
#[must_use]
pub fn contains(bytes: &[u8], text: &str) -> bool {
    let text = text.as_bytes();
    let mut skips = [text.len(); 256];
    for (at, byte) in text.iter().enumerate().take(text.len() - 1) {
        skips[usize::from(*byte)] = text.len() - 1 - at;
    }
    let mut end = text.len();
    while let Some(window) = bytes.get(end - text.len()..end) {
        if window == text {
            return true;
        }
        end += skips[usize::from(window[text.len() - 1])];
    }
    false
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), into);
        } else {
            into.push(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn fails(check: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(check)).is_err()
    }

    #[test]
    fn oracle_sees_what_is_wrong() {
        let sandbox = Sandbox::new();
        let (a, b) = (Object::new(1, 1000), Object::new(2, 1000));
        sandbox.assert_nothing_left();
        sandbox.assert_unpublished("f");
        assert!(fails(|| sandbox.assert_kept("f")));

        sandbox.write("f", a.bytes(0..1000));
        sandbox.assert_published("f", &a);
        assert!(fails(|| sandbox.assert_published("f", &b)));
        assert!(fails(|| sandbox.assert_nothing_left()));
        assert!(fails(|| sandbox.assert_unpublished("f")));

        sandbox.write("f.part", "x");
        assert!(fails(|| sandbox.assert_published("f", &a)), "a partial was left");
        fs::remove_file(sandbox.path("f")).unwrap();
        sandbox.assert_unpublished("f");
        sandbox.write("f.haul", "x");
        for path in [sandbox.part("f"), sandbox.checkpoint("f")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        sandbox.assert_kept("f");
        fs::set_permissions(sandbox.part("f"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(fails(|| sandbox.assert_kept("f")), "others can read it");

        fs::write(sandbox.root().join("tmp/x"), "my canary sings").unwrap();
        assert_eq!(sandbox.files(), ["../tmp/x", "f.haul", "f.part"]);
        assert!(fails(|| sandbox.assert_unpublished("f")), "a foreign file");
        assert!(fails(|| sandbox.assert_free_of("canary")));
        sandbox.assert_free_of("sparrow");

        fs::write(sandbox.root().join("tmp/x"), format!("a {CANARY} in it")).unwrap();
        assert!(fails(|| drop(sandbox)), "a test must not leave the canary");
    }

    #[test]
    fn texts_are_found_wherever_they_are() {
        let hay = b"ananas and bananas";
        for (text, found) in
            [("a", true), ("ananas", true), ("bananas", true), ("nd b", true), ("banane", false)]
        {
            assert_eq!(contains(hay, text), found, "{text}");
        }
        for at in 0..40 {
            let mut bytes = vec![b'C'; 60];
            bytes[at..at + 6].copy_from_slice(b"Canary");
            assert!(contains(&bytes, "Canary"), "at {at}");
        }
        assert!(!contains(b"", "Canary") && !contains(b"Canar", "Canary"));
    }
}
