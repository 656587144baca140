//! One run of one program: wall time, CPU time, peak resident memory.
//!
//! The kernel's own accounts are read from `/proc`: CPU time from the zombie between its end and
//! its reaping, the peak (`VmHWM`, kept by the kernel, so a reading misses only what grew since)
//! every few milliseconds while it runs. `wait4` would report a peak that includes the parent's
//! size at the fork, and is not to be had without unsafe code.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process};

use crate::Failure;
use crate::guard::Guard;

/// Often enough for a run of a tenth of a second, rare enough to cost well under 1 % of a core.
const SAMPLE_EVERY: Duration = Duration::from_millis(5);
const STDERR_KEPT_BYTES: usize = 2048;

/// What one run cost.
#[derive(Debug)]
pub struct Usage {
    /// From just before the start to the end of the process.
    pub wall: Duration,
    /// User and system time of all its threads, and of the programs that it called and waited for; a
    /// resolution of 10 ms is usual.
    pub cpu: Duration,
    /// Its own peak resident memory in bytes, 0 when it ended before the first reading.
    pub peak_rss_bytes: u64,
    /// From just before the start to the end of the sync that was asked for.
    pub synced_wall: Option<Duration>,
    /// It was killed because its time was over.
    pub ended_at_limit: bool,
    /// How it ended.
    pub status: ExitStatus,
    /// The end of what it wrote to stderr.
    pub complaint: String,
}

impl Usage {
    /// Whether the exit code was 0, else a sentence with the last words.
    ///
    /// # Errors
    ///
    /// The sentence.
    pub fn success(&self) -> Result<(), Failure> {
        if self.status.success() {
            return Ok(());
        }
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        };
        let last_line = self.complaint.lines().rev().find(|line| !line.trim().is_empty());
        Err(format!("{how}: {}", last_line.unwrap_or("nothing on stderr").trim()).into())
    }
}

/// A program under measurement.
#[derive(Debug)]
pub struct Running<'g> {
    child: Child,
    guard: &'g Guard,
    started: Instant,
    over: Arc<AtomicBool>,
    watcher: JoinHandle<(u64, bool)>,
    to_sync: Option<PathBuf>,
    complaint: JoinHandle<String>,
}

impl<'g> Running<'g> {
    /// Starts `command` with no input, its output discarded.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(command: &mut Command, guard: &'g Guard) -> Result<Self, Failure> {
        Self::spawn(command.stdout(Stdio::null()), guard, Duration::MAX)
    }

    /// The same, and kills it after `limit`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start_limited(
        command: &mut Command,
        guard: &'g Guard,
        limit: Duration,
    ) -> Result<Self, Failure> {
        Self::spawn(command.stdout(Stdio::null()), guard, limit)
    }

    /// Starts `command` with no input and hands out its stdout, which the caller has to read.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start_piped(
        command: &mut Command,
        guard: &'g Guard,
    ) -> Result<(Self, ChildStdout), Failure> {
        let mut running = Self::spawn(command.stdout(Stdio::piped()), guard, Duration::MAX)?;
        let stdout = running.child.stdout.take().ok_or("no pipe to the program's stdout")?;
        Ok((running, stdout))
    }

    fn spawn(command: &mut Command, guard: &'g Guard, limit: Duration) -> Result<Self, Failure> {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().map_err(|error| {
            format!("cannot start {}: {error}", command.get_program().to_string_lossy())
        })?;
        guard.running(child.id());
        let over = Arc::new(AtomicBool::new(false));
        let watcher = std::thread::spawn({
            let (id, over) = (child.id(), Arc::clone(&over));
            move || watch(id, &over, started, limit)
        });
        let stderr = child.stderr.take();
        let complaint = std::thread::spawn(move || stderr.map(last_words).unwrap_or_default());
        Ok(Self { child, guard, started, over, watcher, to_sync: None, complaint })
    }

    /// After the program's end `file` is synced, and the time until then measured as well.
    pub fn then_sync(&mut self, file: &Path) {
        self.to_sync = Some(file.to_path_buf());
    }

    /// Whether it has ended; [`Running::finish`] still has to be called.
    ///
    /// # Errors
    ///
    /// When the kernel does not know it.
    pub fn over(&self) -> Result<bool, Failure> {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let process = self.process()?;
        let state = rustix::io::retry_on_intr(|| rustix::process::waitid(process.clone(), ended))?;
        Ok(state.is_some())
    }

    fn process(&self) -> Result<WaitId<'static>, Failure> {
        let process = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        Ok(WaitId::Pid(process.ok_or("the program has an impossible process id")?))
    }

    /// Ends the program at once; [`Running::finish`] still has to be called.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// When the kernel's accounts cannot be read.
    pub fn finish(mut self) -> Result<Usage, Failure> {
        let process = self.process()?;
        // Wait without reaping: the zombie still holds the CPU time of all threads.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        rustix::io::retry_on_intr(|| rustix::process::waitid(process.clone(), ended))?;
        let wall = self.started.elapsed();
        let synced = self.to_sync.and_then(|file| fs::File::open(file).ok()?.sync_all().ok());
        let synced_wall = synced.map(|()| self.started.elapsed());
        self.over.store(true, Ordering::Relaxed);
        // Before the reaping: from then on the process id may be somebody else's.
        let (peak_rss_bytes, killed) =
            self.watcher.join().map_err(|_| "the memory watcher panicked")?;
        let cpu = cpu_time(&fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?)
            .ok_or("/proc/PID/stat has an unknown shape")?;
        let status = self.child.wait()?;
        self.guard.finished();
        Ok(Usage {
            wall,
            cpu,
            peak_rss_bytes,
            synced_wall,
            // Killing a process that has just ended by itself works too.
            ended_at_limit: killed && status.signal() == Some(Signal::KILL.as_raw()),
            status,
            complaint: self.complaint.join().map_err(|_| "the stderr reader panicked")?,
        })
    }
}

/// Returns the peak and whether the process outlived `limit` and was killed.
fn watch(id: u32, over: &AtomicBool, started: Instant, limit: Duration) -> (u64, bool) {
    let (status, mut peak, mut killed) = (format!("/proc/{id}/status"), 0, false);
    while !over.load(Ordering::Relaxed) {
        if let Ok(text) = fs::read_to_string(&status) {
            peak = peak_of(&text).unwrap_or(0).max(peak);
        }
        if !killed && started.elapsed() > limit {
            let process = i32::try_from(id).ok().and_then(Pid::from_raw);
            killed = process.is_some_and(|process| kill_process(process, Signal::KILL).is_ok());
        }
        std::thread::sleep(SAMPLE_EVERY);
    }
    (peak, killed)
}

/// `VmHWM` of `/proc/PID/status` in bytes; a zombie has none.
fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// User and system time from `/proc/PID/stat`, with that of children that were waited for. Its
/// second field may hold any character.
fn cpu_time(stat: &str) -> Option<Duration> {
    let fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11).take(4);
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    (ticks.len() == 4)
        .then(|| Duration::from_secs_f64(ticks.iter().sum::<u64>() as f64 / per_second as f64))
}

fn last_words(mut stderr: impl Read) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; STDERR_KEPT_BYTES]);
    while let Ok(length @ 1..) = stderr.read(&mut buffer) {
        let _ = kept.write_all(&buffer[..length]);
        let excess = kept.len().saturating_sub(STDERR_KEPT_BYTES);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_in_bytes_and_missing_for_a_zombie() {
        let status = "Name:\thaul\nVmPeak:\t  900000 kB\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(peak_of(status), Some(12345 * 1024));
        assert_eq!(peak_of("Name:\thaul\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn cpu_time_has_that_of_children_and_survives_a_hostile_program_name() {
        let stat = "7 (a) b (c)) Z 1 2 3 4 5 6 7 8 9 10 150 50 70 30 20 0 1 0 99\n";
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_time(stat), Some(Duration::from_secs_f64(300.0 / per_second)));
    }
}
