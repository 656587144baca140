//! The process that started this one.
#![expect(unsafe_code, reason = "no safe wrapper makes these calls")]

use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};

use windows_sys::Win32::Foundation::{FILETIME, HANDLE, INVALID_HANDLE_VALUE, WAIT_TIMEOUT};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW, Process32NextW, TH32CS_SNAPPROCESS,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessTimes, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION,
    PROCESS_SYNCHRONIZE, WaitForSingleObject,
};

use super::calls::joined;

/// `None` where it had ended before it was asked for.
#[derive(Debug)]
pub(crate) struct Parent(Option<OwnedHandle>);

impl Parent {
    pub(crate) fn of_this_process() -> Self {
        Self(parent_id().and_then(open).filter(is_older))
    }

    pub(crate) fn is_alive(&self) -> bool {
        let Some(parent) = &self.0 else { return false };
        // SAFETY: the handle is open, and it may be waited for.
        unsafe { WaitForSingleObject(parent.as_raw_handle(), 0) == WAIT_TIMEOUT }
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

fn open(id: u32) -> Option<OwnedHandle> {
    let rights = PROCESS_SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION;
    // SAFETY: the call has no conditions.
    let process = unsafe { OpenProcess(rights, 0, id) };
    if process.is_null() {
        return None;
    }
    // SAFETY: the handle is new, and nobody else closes it.
    Some(unsafe { OwnedHandle::from_raw_handle(process) })
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
