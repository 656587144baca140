//! A process that outlives the race by a moment and cleans up after it.
//!
//! The race may end by Ctrl-C, a signal or a crash, and must leave neither an nginx nor gigabytes
//! of temporary files. Signal handlers cannot promise that; a pipe can. The guard (`race --guard`)
//! is the parent of nginx, in a process group of its own so that a Ctrl-C does not reach it, and
//! reads its standard input. The race holds the other end and writes which contender is running.
//! When the pipe ends, for whatever reason, the guard stops that contender and nginx and removes
//! the directories.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;

/// The race's end of the pipe. Dropping it cleans up and waits for that.
#[derive(Debug)]
pub struct Guard {
    process: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts the guard, which starts `nginx` on `config`; `directories` are removed at the end.
    ///
    /// # Errors
    ///
    /// When this program cannot be started again.
    pub fn start(nginx: &Path, config: &Path, directories: &[&Path]) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--guard")
            .arg(nginx)
            .arg(config)
            .args(directories)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = process.stdin.take();
        Ok(Self { process, pipe })
    }

    /// From here until [`Guard::finished`] this process is stopped when the race ends.
    pub fn running(&self, id: u32) {
        self.tell(&format!("run {id}\n"));
    }

    /// The process has been waited for.
    pub fn finished(&self) {
        self.tell("done\n");
    }

    fn tell(&self, line: &str) {
        // A guard that is gone cannot be told; nginx is gone too then and every run will say so.
        let _ = self.pipe.as_ref().map(|mut pipe| pipe.write_all(line.as_bytes()));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.process.wait();
    }
}

/// The guard's own main: `NGINX CONFIG DIRECTORY...`.
///
/// # Errors
///
/// When arguments are missing or nginx cannot be started.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let nginx = arguments.next().ok_or("--guard needs the path of nginx")?;
    let config = PathBuf::from(arguments.next().ok_or("--guard needs a configuration")?);
    let directories: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let started = Command::new(nginx)
        .arg("-p")
        .arg(config.parent().unwrap_or(Path::new(".")))
        .arg("-e")
        .arg(config.with_file_name("error.log"))
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut contender: Option<Pid> = None;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        contender = line
            .strip_prefix("run ")
            .and_then(|digits| digits.parse().ok())
            .and_then(Pid::from_raw);
    }
    if let Some(process) = contender {
        let _ = kill_process(process, Signal::KILL);
    }
    if let Ok(mut server) = started {
        // SIGTERM, not SIGKILL: the master takes its worker along.
        if let Some(process) = i32::try_from(server.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(process, Signal::TERM);
        }
        let _ = server.wait();
    }
    for directory in directories {
        let _ = std::fs::remove_dir_all(directory);
    }
    Ok(())
}
