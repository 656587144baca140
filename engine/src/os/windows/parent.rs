//! The process that started this one.
#![expect(unsafe_code, reason = "no safe wrapper makes these calls")]

use std::io;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};

use windows_sys::Win32::Foundation::{
    ERROR_INVALID_PARAMETER, FILETIME, HANDLE, INVALID_HANDLE_VALUE, WAIT_OBJECT_0,
};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION,
    PROCESS_SYNCHRONIZE, WaitForSingleObject,
};

use super::calls::joined;
use super::error::is_any;

/// The number that stands for none. Nobody is started by the idle process, which has it.
const NO_PROCESS: u32 = 0;

#[derive(Debug)]
pub(crate) enum Parent {
    /// It had ended before it was asked for.
    Ended,
    Open(OwnedHandle),
    /// It cannot be looked at, as where it runs as another user or is no process of Windows (Wine
    /// names no parent of what a shell of Unix started), and counts as alive: a download that goes
    /// on too long does less harm than one that is ended without need.
    Hidden,
}

impl Parent {
    pub(crate) fn of_this_process() -> Self {
        match parent_id().filter(|&id| id != NO_PROCESS).map(open) {
            Some(Ok(process)) if is_older(&process) => Self::Open(process),
            Some(Ok(_)) => Self::Ended,
            // No process has the number.
            Some(Err(error)) if is_any(&error, &[ERROR_INVALID_PARAMETER]) => Self::Ended,
            Some(Err(_)) | None => Self::Hidden,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        match self {
            Self::Ended => false,
            Self::Open(process) => {
                // SAFETY: the handle is open, and it may be waited for.
                let waited = unsafe { WaitForSingleObject(process.as_raw_handle(), 0) };
                waited != WAIT_OBJECT_0
            }
            Self::Hidden => true,
        }
    }
}

/// The number of the process that started this one. It may have ended.
fn parent_id() -> Option<u32> {
    // SAFETY: the call has no conditions.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return None;
    }
    // SAFETY: the handle is new, and nobody else closes it.
    let snapshot = unsafe { OwnedHandle::from_raw_handle(snapshot) };
    let mut entry = PROCESSENTRY32W {
        dwSize: u32::try_from(size_of::<PROCESSENTRY32W>()).unwrap_or(0),
        ..PROCESSENTRY32W::default()
    };
    // SAFETY: the handle is open, and the entry is alive and has its size.
    let mut found = unsafe { Process32FirstW(snapshot.as_raw_handle(), &raw mut entry) };
    while found != 0 {
        if entry.th32ProcessID == std::process::id() {
            return Some(entry.th32ParentProcessID);
        }
        // SAFETY: as above.
        found = unsafe { Process32NextW(snapshot.as_raw_handle(), &raw mut entry) };
    }
    None
}

fn open(id: u32) -> io::Result<OwnedHandle> {
    let rights = PROCESS_SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION;
    // SAFETY: the call has no conditions.
    let process = unsafe { OpenProcess(rights, 0, id) };
    if process.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is new, and nobody else closes it.
    Ok(unsafe { OwnedHandle::from_raw_handle(process) })
}

/// Whether it began before this process: otherwise the number was given to it afterwards.
fn is_older(process: &OwnedHandle) -> bool {
    // SAFETY: the call has no conditions; the pseudo handle that it returns is always valid.
    let ours = unsafe { GetCurrentProcess() };
    match (began(process.as_raw_handle()), began(ours)) {
        (Some(theirs), Some(ours)) => theirs <= ours,
        _ => true,
    }
}

fn began(process: HANDLE) -> Option<u64> {
    let [mut created, mut ended, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the handle is open, and the four places are alive and not aliased.
    let told = unsafe {
        GetProcessTimes(process, &raw mut created, &raw mut ended, &raw mut kernel, &raw mut user)
    };
    (told != 0).then(|| joined(created.dwHighDateTime, created.dwLowDateTime))
}
