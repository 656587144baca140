//! Network namespaces: made and removed by `ip netns`, entered by one thread at a time.

use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Failure;
use crate::contender::find_program;

/// Where `ip netns` keeps the names.
const NAMES: &str = "/var/run/netns";

/// Runs `ip` with these arguments, separated by spaces.
///
/// # Errors
///
/// When it is not installed or refuses; its own words are quoted.
pub fn ip(arguments: &str) -> Result<(), Failure> {
    let program = find_program("ip").ok_or("ip is not installed (apt-get install iproute2)")?;
    let output = Command::new(program)
        .args(arguments.split_ascii_whitespace())
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {arguments} failed: {}", words.trim()).into())
}

/// Makes the namespace `name`, with its loopback device up.
///
/// # Errors
///
/// When `ip` refuses.
pub fn make(name: &str) -> Result<(), Failure> {
    ip(&format!("netns add {name}"))?;
    ip(&format!("-n {name} link set lo up"))
}

/// Removes the namespace `name`. What runs in it keeps it alive, without the name.
pub fn remove(name: &str) {
    let _ = ip(&format!("netns del {name}"));
}

/// This thread, and every process that it starts, is in another namespace until this is dropped.
#[derive(Debug)]
pub struct Inside {
    home: File,
    // Namespaces belong to threads: dropped by another thread, it would move that one.
    one_thread: PhantomData<*const ()>,
}

impl Inside {
    /// Moves this thread into the namespace `name`.
    ///
    /// # Errors
    ///
    /// When there is no such namespace, or this process may not enter it.
    pub fn enter(name: &str) -> Result<Self, Failure> {
        let home = File::open("/proc/thread-self/ns/net")?;
        let to = File::open(format!("{NAMES}/{name}"))
            .map_err(|error| format!("no namespace {name}: {error}"))?;
        move_into_link_name_space(to.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(Self { home, one_thread: PhantomData })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network));
    }
}

/// The result of `act`, done by a thread inside the namespace `name`.
///
/// # Errors
///
/// Those of `act`, and when the namespace cannot be entered.
pub fn inside<T: Send>(
    name: &str,
    act: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let _inside = Inside::enter(name)?;
            act()
        });
        thread.join().unwrap_or_else(|_| Err("a thread in a namespace panicked".into()))
    })
}
