//! What a run must not leave behind when its process has ended: helpers that it
//! started, and locks. Files are for the assertions of each test, which allow no
//! foreign one; a killed run may leave some.

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Ends are waited for as long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Nothing of that is left below `root`, whose files are `files`.
///
/// # Panics
/// When something is.
#[track_caller]
pub(super) fn assert_nothing_runs_on(root: &Path, files: &[impl AsRef<Path>]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut left = processes_in(root);
        left.extend(locks_on(files));
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind in {}: {left:#?}", root.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Other processes that work in the sandbox, where the command and all it starts do.
fn processes_in(root: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        let Some(id) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // One that has ended and waits for its parent has no directory any more.
        let inside = fs::read_link(process.path().join("cwd")).is_ok_and(|at| at.starts_with(root));
        if inside && id != std::process::id() {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            left.push(format!("process {id}: {}", name.trim_end()));
        }
    }
    left
}

/// Locks of other processes; those of this one are counted with its descriptors.
/// Small file systems number their files alike, so the device tells them apart.
fn locks_on(files: &[impl AsRef<Path>]) -> Vec<String> {
    let place = |file: &Path| {
        let of = fs::symlink_metadata(file).ok()?;
        let device = of.dev() as rustix::fs::Dev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        Some(format!("{major:02x}:{minor:02x}:{}", of.ino()))
    };
    let places: HashSet<String> = files.iter().filter_map(|file| place(file.as_ref())).collect();
    let locks = all_locks();
    let held = locks.iter().filter(|line| {
        let mut fields = line.split_whitespace().skip(3);
        let ours = fields.next() == Some(std::process::id().to_string().as_str());
        !ours && fields.next().is_some_and(|place| places.contains(place))
    });
    held.map(|line| format!("lock {line}")).collect()
}

/// The kernel's list: "FLOCK  ADVISORY  WRITE 123 08:01:456 0 EOF". A long one comes in pieces,
/// and what is between two of them may be missed, so all that several looks showed counts.
fn all_locks() -> HashSet<String> {
    const LOOKS: u32 = 16;
    const AT_ONCE_BYTES: usize = 4000;
    let mut all = HashSet::new();
    for _ in 0..LOOKS {
        // Into a large buffer: a small one would cut the list where it is full.
        let mut locks = String::with_capacity(64 << 10);
        if let Ok(mut list) = fs::File::open("/proc/locks") {
            let _ = list.read_to_string(&mut locks);
        }
        let without_number = |line: &str| Some(line.split_once(' ')?.1.to_owned());
        all.extend(locks.lines().filter_map(without_number));
        if locks.len() < AT_ONCE_BYTES {
            break;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::process::{Child, Command, Stdio};

    use super::super::Sandbox;

    /// Ended also when the test fails.
    struct Ended(Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn is_refused(sandbox: Sandbox) -> bool {
        catch_unwind(AssertUnwindSafe(|| drop(sandbox))).is_err()
    }

    #[test]
    fn a_helper_that_runs_on_is_seen() {
        let sandbox = Sandbox::new();
        let mut sleep = Command::new("sleep");
        let _helper = Ended(sleep.arg("100").current_dir(sandbox.work()).spawn().unwrap());
        assert!(is_refused(sandbox));
    }

    #[test]
    fn a_lock_that_another_process_holds_is_seen() {
        let sandbox = Sandbox::new();
        let file = sandbox.write("film.part", "x");
        let mut flock = Command::new("flock");
        flock.arg(&file).args(["sh", "-c", "echo locked; exec sleep 100"]);
        let mut holder = Ended(flock.stdout(Stdio::piped()).spawn().unwrap());
        let mut told = [0; 6];
        let stdout = holder.0.stdout.as_mut().unwrap();
        std::io::Read::read_exact(stdout, &mut told).unwrap();
        assert!(is_refused(sandbox));
    }
}
