//! Linux, macOS and their kin.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, FileType, Metadata, TryLockError};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, waitpid};
use rustix::termios::{LocalModes, tcgetattr, tcgetwinsize};
use tokio::process::Command;

pub(crate) mod places;
pub(crate) mod signals;

/// What takes and gives no bytes.
const NULL_DEVICE: &str = "/dev/null";

/// The program that opens a page in the browser that the user chose.
pub(crate) const BROWSER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

/// The argument that has these bytes, which are a piece of another one.
pub(crate) fn argument_of_bytes(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// Fills `buffer` with what is at `offset` in the file.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

/// Creates a directory, which must not exist, that its owner alone may look into.
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes a symbolic link to the file that `target` leads to from there.
pub(crate) fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Whether others than the owner may use the file in any way.
pub(crate) fn is_open_to_others(found: &Metadata) -> bool {
    found.permissions().mode() & 0o077 != 0
}

/// Whether it is a program that somebody may run.
pub(crate) fn is_program(found: &Metadata) -> bool {
    found.is_file() && found.permissions().mode() & 0o111 != 0
}

/// Whether it is a device or a FIFO, to which bytes can be written in order.
pub(crate) fn takes_bytes_in_order(_: &Path, kind: Option<FileType>) -> bool {
    kind.is_some_and(|kind| kind.is_char_device() || kind.is_block_device() || kind.is_fifo())
}

pub(crate) fn is_socket(kind: FileType) -> bool {
    kind.is_socket()
}

/// Does some work on a file unless another process has it in use; from then on it is in use by this
/// one. Where the file system has no locks, the work is not done.
///
/// # Errors
/// When the work failed.
pub(crate) fn while_alone(file: &File, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    const LOOKS: u32 = 50;
    let done = file.try_lock().map_or(Ok(()), |()| work());
    // Another one that is at such work is soon done.
    for _ in 0..LOOKS {
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            _ => break,
        }
    }
    done
}

/// Stdout without the buffer of std's handle, which looks for line ends.
pub(crate) fn stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Stderr, to be another process's output.
pub(crate) fn stderr_of_child() -> io::Result<Stdio> {
    Ok(Stdio::from(io::stderr().as_fd().try_clone_to_owned()?))
}

/// Asks for a pipe that holds so many bytes. What is no pipe has no such size, and not everybody
/// may set it.
pub(crate) fn widen_pipe(file: &File, bytes: usize) {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let _ = rustix::pipe::fcntl_setpipe_size(file, bytes);
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let _ = (file, bytes);
}

/// Whether stdout is a pipe, a file or a socket.
pub(crate) fn stdout_is_led_away() -> bool {
    use rustix::fs::FileType;
    let kind = rustix::fs::fstat(io::stdout()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    matches!(kind, Ok(FileType::Fifo | FileType::RegularFile | FileType::Socket))
}

/// The columns and rows of the terminal at stderr, as far as it tells.
pub(crate) fn terminal_size() -> (Option<usize>, Option<usize>) {
    let size = tcgetwinsize(io::stderr()).ok();
    let told = |size: u16| Some(usize::from(size)).filter(|size| *size > 0);
    (size.and_then(|size| told(size.ws_col)), size.and_then(|size| told(size.ws_row)))
}

/// Whether the terminal at stdin shows `^C` where Ctrl-C is pressed.
pub(crate) fn terminal_shows_control_keys() -> bool {
    tcgetattr(io::stdin())
        .is_ok_and(|state| state.local_modes.contains(LocalModes::ECHO | LocalModes::ECHOCTL))
}

/// Whether the terminal takes escape sequences for what they mean.
pub(crate) fn terminal_understands_escapes() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether the terminal stops processes of the background that write to it (`stty tostop`).
pub(crate) fn terminal_stops_background() -> bool {
    tcgetattr(io::stderr()).is_ok_and(|state| state.local_modes.contains(LocalModes::TOSTOP))
}

/// Whether this process, or all of them together, cannot open `count` more files.
///
/// # Errors
/// The one that says so.
pub(crate) fn ensure_descriptors(count: usize) -> io::Result<()> {
    let opened: io::Result<Vec<_>> = (0..count).map(|_| File::open(NULL_DEVICE)).collect();
    match opened {
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Gives a process another name than that of its program.
pub(crate) fn set_name(command: &mut Command, name: &str) {
    command.arg0(name);
}

/// Keeps the terminal's Ctrl-C from a process that is to be started.
pub(crate) fn keep_from_ctrl_c(command: &mut Command) {
    command.process_group(0);
}

/// Ends at once a process that was kept from Ctrl-C, and all that it has started. It must not have
/// been waited for.
pub(crate) fn end_group(id: u32) {
    if let Some(group) = Pid::from_raw(id.cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Ends a child process at once, and returns when it has ended or nearly so. The child must not
/// have been waited for, because its number may belong to another process afterwards.
pub(crate) fn end_child(id: u32) {
    let Some(child) = Pid::from_raw(id.cast_signed()) else { return };
    let _ = kill_process(child, Signal::KILL);
    let has_ended = || !matches!(waitpid(Some(child), WaitOptions::NOHANG), Ok(None));
    (0..100).find(|_| {
        has_ended() || {
            std::thread::sleep(Duration::from_millis(1));
            false
        }
    });
}
