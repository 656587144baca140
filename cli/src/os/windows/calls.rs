//! The system's own calls, each behind a function that cannot be misused.
#![expect(unsafe_code, reason = "no safe wrapper makes these calls")]

use std::os::windows::io::{AsRawHandle as _, BorrowedHandle};

use windows_sys::Win32::Foundation::CloseHandle;
use windows_sys::Win32::Storage::FileSystem::{FILE_TYPE_DISK, FILE_TYPE_PIPE, GetFileType};
use windows_sys::Win32::System::Console::{
    CONSOLE_SCREEN_BUFFER_INFO, ENABLE_PROCESSED_OUTPUT, ENABLE_VIRTUAL_TERMINAL_PROCESSING,
    GetConsoleMode, GetConsoleScreenBufferInfo, SetConsoleMode,
};
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_SYNCHRONIZE, PROCESS_TERMINATE, TerminateProcess, WaitForSingleObject,
};

/// How long a process may take to end, in milliseconds.
const ENDS_WITHIN_MS: u32 = 100;

pub(super) fn is_pipe_or_file(stream: BorrowedHandle<'_>) -> bool {
    // SAFETY: the call only looks at the handle, which is borrowed and so open, or null, which it
    // reports as of no type.
    let kind = unsafe { GetFileType(stream.as_raw_handle()) };
    kind == FILE_TYPE_DISK || kind == FILE_TYPE_PIPE
}

/// The columns and rows of the console's window.
pub(super) fn window(stream: BorrowedHandle<'_>) -> Option<(usize, usize)> {
    let mut told = CONSOLE_SCREEN_BUFFER_INFO::default();
    // SAFETY: the handle is borrowed and so open, or none of a console, which is an error; the call
    // fills a struct of the type that it expects, which is alive and not aliased.
    if unsafe { GetConsoleScreenBufferInfo(stream.as_raw_handle(), &raw mut told) } == 0 {
        return None;
    }
    let window = told.srWindow;
    let count = |first: i16, last: i16| usize::try_from(last - first + 1).unwrap_or(0);
    Some((count(window.Left, window.Right), count(window.Top, window.Bottom)))
}

/// Has a console take escape sequences for what they mean, if it can.
pub(super) fn enable_escapes(stream: BorrowedHandle<'_>) -> bool {
    let mut mode = 0;
    // SAFETY: as for `window`; the call writes a number to a place that is alive and not aliased.
    if unsafe { GetConsoleMode(stream.as_raw_handle(), &raw mut mode) } == 0 {
        return false;
    }
    let wanted = mode | ENABLE_PROCESSED_OUTPUT | ENABLE_VIRTUAL_TERMINAL_PROCESSING;
    // SAFETY: the handle is that of a console, as seen above.
    wanted == mode || unsafe { SetConsoleMode(stream.as_raw_handle(), wanted) } != 0
}

/// Ends the process with this number, if there is one.
pub(super) fn end_process(id: u32) {
    // SAFETY: the call has no conditions; it returns null or a handle that is closed below.
    let process = unsafe { OpenProcess(PROCESS_TERMINATE | PROCESS_SYNCHRONIZE, 0, id) };
    if process.is_null() {
        return;
    }
    // SAFETY: the handle is open and has the right to end the process.
    unsafe { TerminateProcess(process, 1) };
    // SAFETY: the handle is open and has the right to wait for the process.
    unsafe { WaitForSingleObject(process, ENDS_WITHIN_MS) };
    // SAFETY: the handle is open, closed only here, and not used after that.
    unsafe { CloseHandle(process) };
}
