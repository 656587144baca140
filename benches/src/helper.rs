//! A process of this program that plays a part beside the race and answers line by line.
//!
//! A part of its own has a process of its own, so that its CPU time is in nobody's figures. It
//! ends when its input ends, however the race ended.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Failure;

/// The race's end of a helper's pipes. Dropping it ends the helper and waits for that.
#[derive(Debug)]
pub struct Helper {
    process: Child,
    pipes: RefCell<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

impl Helper {
    /// Starts this program again with `arguments`. The helper's first line is the second result.
    ///
    /// # Errors
    ///
    /// When this program cannot be started again, or ends without a word.
    pub fn start(
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<(Self, String), Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take().map(BufReader::new));
        let helper = Self { process, pipes: RefCell::new(pipes) };
        let first = helper.hear()?;
        Ok((helper, first))
    }

    /// The answer to `question`.
    ///
    /// # Errors
    ///
    /// When the helper is gone.
    pub fn ask(&self, question: &str) -> Result<String, Failure> {
        if let Some((input, _)) = self.pipes.borrow_mut().as_mut() {
            writeln!(input, "{question}")?;
        }
        self.hear()
    }

    fn hear(&self) -> Result<String, Failure> {
        let mut line = String::new();
        if let Some((_, output)) = self.pipes.borrow_mut().as_mut() {
            output.read_line(&mut line)?;
        }
        if line.is_empty() {
            return Err("a helper process of the race ended".into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        *self.pipes.borrow_mut() = None;
        let _ = self.process.wait();
    }
}
