//! One run of the command.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::DirEntryExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::stream::Stream;
use super::{Sandbox, contains};
use crate::canary::{self, CANARY};

/// No download of the tests takes longer, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(40);

/// The command with its arguments, before it runs. The environment is empty but
/// for a path, a home of the sandbox and a UTF-8 locale.
#[derive(Debug)]
pub struct Haul {
    command: Command,
    args: Vec<OsString>,
    deadline: Duration,
    json: bool,
}

impl Haul {
    /// `program` to be run in the sandbox's working directory.
    #[must_use]
    pub fn new(program: &str, sandbox: &Sandbox) -> Self {
        let mut command = Command::new(program);
        command
            .current_dir(sandbox.work())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", sandbox.root().join("home"))
            .env("TMPDIR", sandbox.root().join("tmp"))
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // See the engine's `seeded_bugs`: a bug that the tests are to notice.
        if let Some(bug) = std::env::var_os("HAUL_BUG") {
            command.env("HAUL_BUG", bug);
        }
        Self { command, args: Vec::new(), deadline: DEADLINE, json: false }
    }

    /// Adds `--json`; the events are then parsed and checked.
    #[must_use]
    pub fn json(mut self) -> Self {
        self.json = true;
        self.arg("--json")
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Another working directory than the sandbox's.
    #[must_use]
    pub fn within(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Another deadline than 40 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Another stdout than a pipe that the harness reads.
    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    /// Another stdin than nothing.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Gives the canary to a command that downloads.
    fn add_canary(&mut self) {
        if self.args.first().is_some_and(|first| first == "bench") {
            return;
        }
        let mut downloads = false;
        for arg in &mut self.args {
            if let Some(url) = arg.to_str().filter(|arg| arg.starts_with("http")) {
                downloads = true;
                *arg = canary::added_to(url).map_or_else(|| arg.clone(), OsString::from);
            }
        }
        if downloads {
            self.args.extend(["-H".into(), canary::header().into()]);
        }
    }

    /// Starts it.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[must_use]
    pub fn start(mut self) -> Running {
        self.add_canary();
        self.command.args(&self.args);
        let line = format!("{:?}", self.command);
        // Before the child's own clock starts: what it says took so long lies within.
        let now = Instant::now();
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let stdout = Stream::read(child.stdout.take());
        let stderr = Stream::read(child.stderr.take());
        Running {
            line,
            child,
            stdout,
            stderr,
            started: now,
            deadline: now + self.deadline,
            json: self.json,
        }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it takes longer than the deadline.
    #[track_caller]
    pub fn run(self) -> Outcome {
        self.start().finish()
    }
}

/// The command while it runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    stdout: Stream,
    stderr: Stream,
    started: Instant,
    deadline: Instant,
    json: bool,
}

impl Running {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process id");
        kill_process(pid, signal).expect("the process is still ours");
    }

    /// The JSON events so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let bytes = self.stdout.bytes.lock().expect("the reader does not panic");
        bytes
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"\n"))
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }

    /// The bytes of the object that are here, by the last progress event.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let events = self.events();
        let last = events.iter().rev().find(|event| event["event"] == "progress");
        last.and_then(|event| event["bytes"].as_u64()).unwrap_or(0)
    }

    /// What it wrote to stdout so far.
    ///
    /// # Panics
    /// Only after the reader did.
    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout.bytes.lock().expect("as above")).into_owned()
    }

    /// What it wrote to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.bytes.lock().expect("as above")).into_owned()
    }

    /// Whether it has ended; [`Running::finish`] then returns at once.
    ///
    /// # Panics
    /// When its deadline came.
    #[track_caller]
    pub fn has_ended(&mut self) -> bool {
        let ended = self.child.try_wait().expect("a child of ours").is_some();
        if !ended && Instant::now() > self.deadline {
            self.give_up("it ran into its deadline");
        }
        ended
    }

    /// Waits until `condition` holds.
    ///
    /// # Panics
    /// When the command ends before, or the deadline comes.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            let ended = self.child.try_wait().expect("a child of ours");
            if ended.is_some() && !condition(self) {
                self.give_up(&format!("it ended before {what}"));
            }
            if Instant::now() > self.deadline {
                self.give_up(&format!("its deadline came before {what}"));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When the deadline comes before.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                break status;
            }
            if Instant::now() > self.deadline {
                self.give_up("it ran into its deadline");
            }
            thread::sleep(Duration::from_millis(1));
        };
        self.outcome(status)
    }

    #[track_caller]
    fn outcome(&mut self, status: ExitStatus) -> Outcome {
        let elapsed = self.started.elapsed();
        let (stdout, stderr) = (self.stdout.finish(), self.stderr.finish());
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        let events = if self.json { parse_events(&stdout, killed) } else { Vec::new() };
        let outcome = Outcome {
            line: self.line.clone(),
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout,
            stderr,
            events,
            elapsed,
        };
        outcome.assert_free_of(CANARY);
        outcome
    }

    #[track_caller]
    fn give_up(&mut self, why: &str) -> ! {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let output = |stream: &mut Stream| String::from_utf8_lossy(&stream.finish()).into_owned();
        let (stdout, stderr) = (output(&mut self.stdout), output(&mut self.stderr));
        panic!("{why}\n{}\n--- stdout\n{stdout}\n--- stderr\n{stderr}", self.line);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a download, interrupts it with SIGINT once `bytes` are here, and
/// expects it to end as interrupted.
///
/// # Panics
/// When it ends before or otherwise.
#[track_caller]
pub fn interrupt(haul: Haul, bytes: u64) -> Outcome {
    let mut running = haul.start();
    running.wait_until("enough bytes are here", |running| running.bytes() >= bytes);
    running.signal(Signal::INT);
    let outcome = running.finish();
    outcome.expect(130);
    outcome
}

/// Starts a download and kills it with SIGKILL once `bytes` are here and a checkpoint
/// came after them.
///
/// # Panics
/// When it ends before.
#[track_caller]
pub fn kill(haul: Haul, bytes: u64) -> Outcome {
    let directory = haul.command.get_current_dir().expect("a sandbox").to_owned();
    let mut running = haul.start();
    running.wait_until("enough bytes are here", |running| running.bytes() >= bytes);
    // Each checkpoint is another file.
    let before = checkpoints(&directory);
    running.wait_until("there is another checkpoint", |_| {
        let now = checkpoints(&directory);
        !now.is_empty() && now != before
    });
    running.signal(Signal::KILL);
    let outcome = running.finish();
    assert_eq!(outcome.code, 137, "{outcome}");
    outcome
}

/// The numbers of the checkpoints in `directory`.
fn checkpoints(directory: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let is_checkpoint = |entry: &fs::DirEntry| entry.path().extension() == Some("haul".as_ref());
    entries.flatten().filter(is_checkpoint).map(|entry| entry.ino()).collect()
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    line: String,
    /// The exit code; 128 and the signal's number after a deadly signal.
    pub code: i32,
    /// All of stdout.
    pub stdout: Vec<u8>,
    /// All of stderr.
    pub stderr: Vec<u8>,
    /// The JSON events.
    pub events: Vec<Value>,
    /// From start to end.
    pub elapsed: Duration,
}

impl Outcome {
    /// The exit code is `code`, and an error event tells the same.
    ///
    /// # Panics
    /// When it is not so, with everything the command said.
    #[track_caller]
    pub fn expect(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "exit code\n{self}");
        for event in self.all("error") {
            assert_eq!(event["exit"], code, "exit code in {event}\n{self}");
        }
        self
    }

    /// An error was told on stderr, where a person looks, and its text names
    /// this cause. It is no panic and no death without words.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn expect_message(&self, cause: &str) -> &Self {
        let stderr = String::from_utf8_lossy(&self.stderr);
        assert!(stderr.starts_with("error: "), "no message\n{self}");
        assert!(stderr.contains(cause), "the message does not say {cause:?}\n{self}");
        assert!(!stderr.contains("panicked"), "{self}");
        self
    }

    /// The exit code is one of these.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn expect_one_of(&self, codes: &[i32]) -> &Self {
        assert!(codes.contains(&self.code), "exit code is none of {codes:?}\n{self}");
        self
    }

    /// A notice event with this code was sent.
    ///
    /// # Panics
    /// When there was none.
    #[track_caller]
    pub fn expect_notice(&self, code: &str) -> &Self {
        assert!(self.has_notice(code), "no notice {code:?}\n{self}");
        self
    }

    /// Whether a notice event with this code was sent.
    #[must_use]
    pub fn has_notice(&self, code: &str) -> bool {
        self.all("notice").any(|event| event["code"] == code)
    }

    /// All events of this name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(move |event| event["event"] == name)
    }

    /// The last event of this name.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn event(&self, name: &str) -> &Value {
        let found = self.all(name).last();
        found.unwrap_or_else(|| panic!("no event {name:?}\n{self}"))
    }

    /// `fetched_bytes` of the complete event.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn fetched_bytes(&self) -> u64 {
        let value = &self.event("complete")["fetched_bytes"];
        value.as_u64().unwrap_or_else(|| panic!("fetched_bytes is {value}\n{self}"))
    }

    /// `resumed_bytes` of the start event.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    #[must_use]
    pub fn resumed_bytes(&self) -> u64 {
        let value = &self.event("start")["resumed_bytes"];
        value.as_u64().unwrap_or_else(|| panic!("resumed_bytes is {value}\n{self}"))
    }

    /// All it said, stdout and stderr.
    #[must_use]
    pub fn text(&self) -> String {
        let (stdout, stderr) =
            (String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr));
        format!("{stdout}{stderr}")
    }

    /// `secret` was not said.
    ///
    /// # Panics
    /// When it was.
    #[track_caller]
    pub fn assert_free_of(&self, secret: &str) {
        assert!(!contains(&self.stdout, secret), "a secret on stdout\n{self}");
        assert!(!contains(&self.stderr, secret), "a secret on stderr\n{self}");
    }

    /// Nothing that a terminal would obey: no control character but the line
    /// feed, no bidirectional override.
    ///
    /// # Panics
    /// When there was one.
    #[track_caller]
    pub fn assert_harmless(&self) {
        let harmful = |c: char| {
            (c.is_control() && c != '\n')
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c)
        };
        let text = self.text();
        let found: String = text.chars().filter(|c| harmful(*c)).collect();
        assert!(found.is_empty(), "{found:?} reached the terminal\n{self:?}");
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        for stream in [&self.stdout, &self.stderr] {
            writeln!(text, "---\n{}", String::from_utf8_lossy(stream).trim_end())?;
        }
        write!(f, "{}\nexit {} after {:?}\n{text}", self.line, self.code, self.elapsed)
    }
}

/// Every line must be an event as CLI.md says; after SIGKILL the last may be cut.
#[track_caller]
fn parse_events(stdout: &[u8], killed: bool) -> Vec<Value> {
    let mut events = Vec::new();
    for line in stdout.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        if killed && !line.ends_with(b"\n") {
            continue;
        }
        let event: Value =
            serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error} in {text}"));
        assert_eq!(event["v"], 1, "{text}");
        assert!(event["event"].is_string() && event["t"].is_number(), "{text}");
        assert!(event["id"].is_string() || event["id"].is_number(), "{text}");
        events.push(event);
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(sandbox: &Sandbox, script: &str) -> Haul {
        Haul::new("/bin/sh", sandbox).args(["-c", script])
    }

    #[test]
    fn exit_code_and_output_are_told() {
        let sandbox = Sandbox::new();
        let outcome = shell(&sandbox, "echo out; echo err >&2; pwd >&2; exit 3").run();
        assert_eq!((outcome.code, outcome.stdout.as_slice()), (3, b"out\n".as_slice()));
        assert!(outcome.text().contains("err\n"));
        assert!(outcome.text().contains(&sandbox.work().display().to_string()));
    }

    #[test]
    fn deadly_signal_is_128_and_more() {
        let sandbox = Sandbox::new();
        let mut running = shell(&sandbox, "echo ready >&2; exec sleep 100").start();
        running.wait_until("it is ready", |running| running.stderr() == "ready\n");
        running.signal(Signal::TERM);
        assert_eq!(running.finish().code, 143);
    }

    #[test]
    #[should_panic(expected = "deadline")]
    fn deadline_is_kept() {
        let sandbox = Sandbox::new();
        let _ = shell(&sandbox, "exec sleep 100").deadline(Duration::from_millis(50)).run();
    }

    #[test]
    #[should_panic(expected = "foo")]
    fn lines_that_are_no_events_do_not_pass() {
        parse_events(b"{\"v\":1,\"event\":\"start\",\"id\":1,\"t\":0.1}\nfoo\n", false);
    }

    #[test]
    fn environment_is_clean() {
        let sandbox = Sandbox::new();
        let outcome = shell(&sandbox, "env").env("NO_COLOR", "1").run();
        let mut names: Vec<&str> = std::str::from_utf8(&outcome.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| line.split('=').next())
            .filter(|name| !["_", "PWD", "SHLVL", "OLDPWD"].contains(name))
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["HOME", "LC_ALL", "NO_COLOR", "PATH", "TMPDIR"]);
    }

    #[test]
    fn terminal_escapes_are_found() {
        let sandbox = Sandbox::new();
        let outcome = shell(&sandbox, "printf 'a\\033[31mb\\n'").run();
        assert!(std::panic::catch_unwind(|| outcome.assert_harmless()).is_err());
        shell(&sandbox, "printf 'plain \\303\\244\\n'").run().assert_harmless();
    }
}
