//! A process that outlives the race by a moment and cleans up after it.
//!
//! The race may end by Ctrl-C, a signal or a crash, and must leave neither an nginx nor gigabytes
//! of temporary files nor network namespaces. Signal handlers cannot promise that; a pipe can. The
//! guard (`race --guard`) makes the namespaces, if any are wanted, and is the parent of nginx, in a
//! process group of its own so that a Ctrl-C does not reach it, and reads its standard input. The
//! race holds the other end and writes which contender is running. When the pipe ends, for whatever
//! reason, the guard stops that contender and nginx and removes the directories and the namespaces.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::namespace::{self, Inside};

/// What the guard says when the namespaces exist.
const READY: &str = "ready";
/// What it is told when nginx shall start.
const SERVE: &str = "serve";

/// The race's end of the pipe. Dropping it cleans up and waits for that.
#[derive(Debug)]
pub struct Guard {
    process: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts the guard, which makes `namespaces`. They and `directories` are removed at the end.
    ///
    /// # Errors
    ///
    /// When this program cannot be started again, or a namespace cannot be made.
    pub fn start(
        namespaces: &[&str],
        nginx: &Path,
        config: &Path,
        directories: &[&Path],
    ) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--guard")
            .arg(namespaces.join(","))
            .arg(nginx)
            .arg(config)
            .args(directories)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (pipe, output) = (process.stdin.take(), process.stdout.take());
        let guard = Self { process, pipe };
        let mut line = String::new();
        output.map(|output| BufReader::new(output).read_line(&mut line)).transpose()?;
        if line.trim_end() == READY { Ok(guard) } else { Err("the guard did not start".into()) }
    }

    /// Starts `nginx` on `config`, in the first of the namespaces if there is one.
    pub fn serve(&self) {
        self.tell(&format!("{SERVE}\n"));
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

/// The guard's own main: `NAMESPACES NGINX CONFIG DIRECTORY...`.
///
/// # Errors
///
/// When arguments are missing, or a namespace cannot be made.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let namespaces = arguments.next().ok_or("--guard needs a list of namespaces")?;
    let namespaces = namespaces.to_string_lossy();
    let namespaces: Vec<&str> = namespaces.split(',').filter(|name| !name.is_empty()).collect();
    let nginx = arguments.next().ok_or("--guard needs the path of nginx")?;
    let config = PathBuf::from(arguments.next().ok_or("--guard needs a configuration")?);
    let directories: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let result = watch(&namespaces, Path::new(&nginx), &config);
    for directory in directories {
        let _ = std::fs::remove_dir_all(directory);
    }
    for name in namespaces {
        namespace::remove(name);
    }
    result
}

/// Returns when the race has ended, with everything stopped.
fn watch(namespaces: &[&str], nginx: &Path, config: &Path) -> Result<(), Failure> {
    for name in namespaces {
        namespace::make(name)?;
    }
    println!("{READY}");
    let (mut contender, mut server) = (None, None);
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if line == SERVE {
            server = serve(namespaces.first().copied(), nginx, config).ok();
        } else {
            contender = line
                .strip_prefix("run ")
                .and_then(|digits| digits.parse().ok())
                .and_then(Pid::from_raw);
        }
    }
    if let Some(process) = contender {
        let _ = kill_process(process, Signal::KILL);
    }
    if let Some(mut server) = server {
        // SIGTERM, not SIGKILL: the master takes its worker along.
        if let Some(process) = i32::try_from(server.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(process, Signal::TERM);
        }
        let _ = server.wait();
    }
    Ok(())
}

fn serve(namespace: Option<&str>, nginx: &Path, config: &Path) -> Result<Child, Failure> {
    let _inside = namespace.map(Inside::enter).transpose()?;
    let server = Command::new(nginx)
        .arg("-p")
        .arg(config.parent().unwrap_or(Path::new(".")))
        .arg("-e")
        .arg(config.with_file_name("error.log"))
        .arg("-c")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(server)
}
