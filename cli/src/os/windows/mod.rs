//! Windows.

use std::ffi::OsString;
use std::fs::{self, File, FileType, Metadata};
use std::io;
use std::os::windows::fs::FileExt as _;
use std::os::windows::io::AsHandle as _;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

mod calls;
pub(crate) mod places;
pub(crate) mod signals;

/// The program that opens a page in the browser that the user chose.
pub(crate) const BROWSER: &str = "explorer";

/// CREATE_NEW_PROCESS_GROUP: Ctrl-C goes to the group of the terminal's foreground.
const NEW_GROUP: u32 = 0x200;

/// The argument that has these bytes, which are a piece of another one.
pub(crate) fn argument_of_bytes(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// Fills `buffer` with what is at `offset` in the file.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.seek_read(&mut buffer[filled..], offset + filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(())
}

/// Creates a directory, which must not exist. Who may look into it is inherited.
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

/// Whether others than the owner may use the file in any way, as far as its mode tells: files have
/// no modes here.
pub(crate) fn is_open_to_others(_: &Metadata) -> bool {
    false
}

/// Whether it is a program that somebody may run; its name tells that here.
pub(crate) fn is_program(found: &Metadata) -> bool {
    found.is_file()
}

/// Whether it is a device or a pipe, to which bytes can be written in order: their names tell.
pub(crate) fn takes_bytes_in_order(path: &Path, _: Option<FileType>) -> bool {
    let path = path.to_string_lossy().replace('/', r"\").to_ascii_lowercase();
    matches!(path.as_str(), "nul" | "nul:") || path.starts_with(r"\\.\pipe\")
}

pub(crate) fn is_socket(_: FileType) -> bool {
    false
}

/// Would do some work on a file that no other process has in use. A lock on a file keeps even its
/// holder from writing there, so nothing can tell that.
///
/// # Errors
/// Never.
pub(crate) fn while_alone(_: &File, _: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    Ok(())
}

/// Stdout without the buffer of std's handle, which looks for line ends.
pub(crate) fn stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_handle().try_clone_to_owned()?))
}

/// Stderr, to be another process's output.
pub(crate) fn stderr_of_child() -> io::Result<Stdio> {
    Ok(Stdio::from(io::stderr().as_handle().try_clone_to_owned()?))
}

/// Asks for a pipe that holds so many bytes: the size of a pipe is fixed here.
pub(crate) fn widen_pipe(_: &File, _: usize) {}

/// Whether stdout is a pipe, a file or a socket.
pub(crate) fn stdout_is_led_away() -> bool {
    calls::is_pipe_or_file(io::stdout().as_handle())
}

/// The columns and rows of the console at stderr, as far as it tells.
pub(crate) fn terminal_size() -> (Option<usize>, Option<usize>) {
    calls::window(io::stderr().as_handle()).unzip()
}

/// Whether the terminal at stdin shows `^C` where Ctrl-C is pressed.
pub(crate) fn terminal_shows_control_keys() -> bool {
    calls::window(io::stderr().as_handle()).is_some()
}

/// Has the console understand escape sequences, as programs have to ask for. False where it cannot:
/// the sequences would be shown as they are.
pub(crate) fn terminal_understands_escapes() -> bool {
    // The terminal of a shell from another system, which is no console, says what it is.
    let told = || std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    calls::enable_escapes(io::stderr().as_handle()) || told()
}

/// Makes a symbolic link to the file that `target` leads to from there. Not everybody may.
pub(crate) fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

/// Whether the terminal stops processes of the background that write to it.
pub(crate) fn terminal_stops_background() -> bool {
    false
}

/// Whether this process cannot open `count` more files: only memory limits that here.
///
/// # Errors
/// Never.
pub(crate) fn ensure_descriptors(_: usize) -> io::Result<()> {
    Ok(())
}

/// Gives a process another name than that of its program: a process has no other name here.
pub(crate) fn set_name(_: &mut Command, _: &str) {}

/// Keeps the console's Ctrl-C from a process that is to be started.
pub(crate) fn keep_from_ctrl_c(command: &mut Command) {
    command.creation_flags(NEW_GROUP);
}

/// Ends at once a process that was kept from Ctrl-C.
pub(crate) fn end_group(id: u32) {
    calls::end_process(id);
}

/// Ends a child process at once, and returns when it has ended or nearly so.
pub(crate) fn end_child(id: u32) {
    calls::end_process(id);
}
