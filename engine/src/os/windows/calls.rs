//! The system's own calls, each behind a function that cannot be misused.
#![expect(unsafe_code, reason = "no safe wrapper makes these calls")]

use std::ffi::{OsStr, OsString, c_void};
use std::fs::File;
use std::io;
use std::os::windows::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::windows::io::AsRawHandle as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::{ERROR_SUCCESS, FILETIME, HANDLE, LocalFree};
use windows_sys::Win32::Security::{self, Authorization};
use windows_sys::Win32::Storage::FileSystem as fs;
use windows_sys::Win32::System::IO::{DeviceIoControl, OVERLAPPED};
use windows_sys::Win32::System::Ioctl;
#[cfg(feature = "proxy")]
use windows_sys::Win32::System::Registry;
use windows_sys::Win32::System::SystemInformation::GetTickCount64;
use windows_sys::Win32::System::Threading::{GetCurrentThread, GetThreadTimes};
use windows_sys::Win32::System::WindowsProgramming::QueryUnbiasedInterruptTime;

/// Set in the flags of a file system with named streams.
const FILE_NAMED_STREAMS: u32 = 0x4_0000;

/// What the system knows of an open file.
pub(super) type Information = fs::BY_HANDLE_FILE_INFORMATION;

fn handle(file: &File) -> HANDLE {
    file.as_raw_handle()
}

/// What a call that returns a BOOL means.
fn done(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A path as the calls take it: where it is long, in the form that may be.
///
/// # Errors
/// When it contains a zero, at which the system would end it, or is empty.
fn wide(path: &Path) -> io::Result<Vec<u16>> {
    /// With a zero, and eight and three letters that the system may add to a directory.
    const LONGEST: usize = 247;
    let units_of = |path: &OsStr| path.encode_wide().collect::<Vec<u16>>();
    let mut units = units_of(std::path::absolute(path)?.as_os_str());
    let begins = |with: &str| units.starts_with(&units_of(OsStr::new(with)));
    if units.len() > LONGEST && !begins(r"\\?\") {
        let (prefix, skip) = if begins(r"\\") { (r"\\?\UNC\", 2) } else { (r"\\?\", 0) };
        units = [units_of(OsStr::new(prefix)), units.split_off(skip)].concat();
    }
    if units.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path contains a zero"));
    }
    Ok(units.into_iter().chain([0]).collect())
}

pub(super) fn information(file: &File) -> io::Result<Information> {
    let mut information = Information::default();
    // SAFETY: the handle is open, since `file` is borrowed, and the call fills a struct of the type
    // that it expects, which is alive and not aliased.
    done(unsafe { fs::GetFileInformationByHandle(handle(file), &raw mut information) })?;
    Ok(information)
}

/// The number of a file on its volume, of 128 bits, which only ReFS needs.
pub(super) fn long_id(file: &File) -> io::Result<[u8; 16]> {
    let mut told = fs::FILE_ID_INFO::default();
    let size = u32::try_from(size_of_val(&told)).unwrap_or(0);
    let into = (&raw mut told).cast();
    // SAFETY: as for `information`; the call writes at most `size` bytes, the size of the struct.
    done(unsafe { fs::GetFileInformationByHandleEx(handle(file), fs::FileIdInfo, into, size) })?;
    Ok(told.FileId.Identifier)
}

/// Whether it is a pipe.
pub(super) fn is_pipe(file: &File) -> bool {
    // SAFETY: the call only looks at the handle, which is open since `file` is borrowed.
    unsafe { fs::GetFileType(handle(file)) == fs::FILE_TYPE_PIPE }
}

/// How much disk space a file occupies, in bytes.
pub(super) fn allocated_bytes(file: &File) -> io::Result<u64> {
    let mut told = fs::FILE_STANDARD_INFO::default();
    let size = u32::try_from(size_of_val(&told)).unwrap_or(0);
    let into = (&raw mut told).cast();
    // SAFETY: as for `information`; the call writes at most `size` bytes, the size of the struct.
    done(unsafe {
        fs::GetFileInformationByHandleEx(handle(file), fs::FileStandardInfo, into, size)
    })?;
    Ok(u64::try_from(told.AllocationSize).unwrap_or(0))
}

/// Where an open file is now.
pub(super) fn path(file: &File) -> io::Result<PathBuf> {
    let mut buffer = vec![0; 512];
    loop {
        let room = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        // SAFETY: the handle is open, and the call writes at most `room` units to the buffer, which
        // has that many.
        let len =
            unsafe { fs::GetFinalPathNameByHandleW(handle(file), buffer.as_mut_ptr(), room, 0) }
                as usize;
        if len == 0 {
            return Err(io::Error::last_os_error());
        }
        if len < buffer.len() {
            return Ok(OsString::from_wide(&buffer[..len]).into());
        }
        // It needs so many, with the zero at the end.
        buffer.resize(len + 1, 0);
    }
}

/// The owner of an open file and the list of those who have rights to it, in the system's language
/// for that (SDDL).
pub(super) fn rights(file: &File) -> io::Result<String> {
    let what = Security::OWNER_SECURITY_INFORMATION | Security::DACL_SECURITY_INFORMATION;
    let mut found = Local(ptr::null_mut());
    // SAFETY: the handle is open; the call stores one address, of memory that is ours then, at a
    // place that is alive and not aliased, and nothing at those that are null.
    let status = unsafe {
        Authorization::GetSecurityInfo(
            handle(file),
            Authorization::SE_FILE_OBJECT,
            what,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &raw mut found.0,
        )
    };
    if status != ERROR_SUCCESS {
        return Err(io::Error::from_raw_os_error(super::error::number(status)));
    }
    written(|text| {
        // SAFETY: `found` has what the call above stored, until it is dropped; `text` is a place for
        // an address. Nobody asks for the length.
        done(unsafe {
            Authorization::ConvertSecurityDescriptorToStringSecurityDescriptorW(
                found.0,
                Authorization::SDDL_REVISION_1,
                what,
                text,
                ptr::null_mut(),
            )
        })
    })
}

/// The number of the account that this process runs as, such as `S-1-5-21-1-2-3-1001`.
pub(super) fn user() -> io::Result<String> {
    /// Stands for the token of this process (GetCurrentProcessToken).
    const OWN_TOKEN: HANDLE = ptr::without_provenance_mut((-4isize).cast_unsigned());
    #[repr(C)]
    struct Room {
        user: Security::TOKEN_USER,
        number: [u8; 68],
    }
    let mut told = Room { user: Security::TOKEN_USER::default(), number: [0; 68] };
    let size = u32::try_from(size_of_val(&told)).unwrap_or(0);
    let mut len = 0;
    let into = (&raw mut told).cast();
    // SAFETY: the call writes at most `size` bytes to `told`, which has that many and begins with
    // a struct of the type that it expects, and a number to `len`.
    done(unsafe {
        Security::GetTokenInformation(OWN_TOKEN, Security::TokenUser, into, size, &raw mut len)
    })?;
    // SAFETY: the number is in `told`, behind the struct that points to it.
    written(|text| done(unsafe { Authorization::ConvertSidToStringSidW(told.user.User.Sid, text) }))
}

/// Memory that the system has allocated for us.
struct Local(*mut c_void);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: the address is null, which is ignored, or was stored by a call whose results are
        // freed in this way, and nobody uses it any more.
        unsafe { LocalFree(self.0) };
    }
}

/// The text that `write` allocates and whose address it stores.
fn written(write: impl FnOnce(*mut *mut u16) -> io::Result<()>) -> io::Result<String> {
    let mut text = ptr::null_mut();
    write(&raw mut text)?;
    let text = Local(text.cast());
    let units = text.0.cast::<u16>();
    // SAFETY: the text ends with a zero, and all indices up to that one's are in it.
    let len = (0..).take_while(|at| unsafe { *units.wrapping_add(*at) } != 0).count();
    // SAFETY: it has `len` units before the zero, which nobody changes while `text` is alive.
    Ok(String::from_utf16_lossy(unsafe { std::slice::from_raw_parts(units, len) }))
}

/// Sets who may do what with the file at `path`, in the words of [`rights`].
#[cfg(test)]
pub(super) fn set_rights(path: &Path, rights: &str) -> io::Result<()> {
    let path = wide(path)?;
    let rights: Vec<u16> = rights.encode_utf16().chain([0]).collect();
    let mut made = Local(ptr::null_mut());
    // SAFETY: the text ends with a zero; the call stores one address, of memory that is ours then.
    done(unsafe {
        Authorization::ConvertStringSecurityDescriptorToSecurityDescriptorW(
            rights.as_ptr(),
            Authorization::SDDL_REVISION_1,
            &raw mut made.0,
            ptr::null_mut(),
        )
    })?;
    let what = Security::DACL_SECURITY_INFORMATION;
    // SAFETY: the path ends with a zero, and `made` has what the call above stored.
    done(unsafe { Security::SetFileSecurityW(path.as_ptr(), what, made.0) })
}

/// Renames a file, which fails where the new name exists.
pub(super) fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (wide(from)?, wide(to)?);
    // SAFETY: both are arrays that end with a zero and that outlive the call.
    done(unsafe { fs::MoveFileExW(from.as_ptr(), to.as_ptr(), 0) })
}

/// The byte that is locked: so far behind the end of any file that nobody wants to read or write
/// it, since a lock keeps others from both.
fn locked_byte() -> OVERLAPPED {
    let mut place = OVERLAPPED::default();
    place.Anonymous.Anonymous.Offset = u32::MAX - 1;
    place.Anonymous.Anonymous.OffsetHigh = i32::MAX.cast_unsigned();
    place
}

/// Locks one byte far behind the end, or fails at once.
pub(super) fn lock(file: &File, exclusively: bool) -> io::Result<()> {
    let mut place = locked_byte();
    let exclusive = if exclusively { fs::LOCKFILE_EXCLUSIVE_LOCK } else { 0 };
    let flags = exclusive | fs::LOCKFILE_FAIL_IMMEDIATELY;
    // SAFETY: the handle is open for synchronous use, as all of `File` are, so the call is over,
    // and `place` no longer used, when it returns.
    done(unsafe { fs::LockFileEx(handle(file), flags, 0, 1, 0, &raw mut place) })
}

/// Gives that lock back.
pub(super) fn unlock(file: &File) -> io::Result<()> {
    let mut place = locked_byte();
    // SAFETY: as for `lock`.
    done(unsafe { fs::UnlockFileEx(handle(file), 0, 1, 0, &raw mut place) })
}

/// The name of the file system that holds a file, such as `NTFS`, and whether its files can have
/// more than one stream.
pub(super) fn file_system(file: &File) -> io::Result<(String, bool)> {
    let (mut name, mut flags) = ([0; 64], 0);
    let room = u32::try_from(name.len()).unwrap_or(0);
    let none = ptr::null_mut();
    // SAFETY: the handle is open; the call writes at most `room` units to `name`, which has that
    // many, a number to `flags`, and nothing to the places that are null.
    done(unsafe {
        fs::GetVolumeInformationByHandleW(
            handle(file),
            ptr::null_mut(),
            0,
            none,
            none,
            &raw mut flags,
            name.as_mut_ptr(),
            room,
        )
    })?;
    let len = name.iter().position(|unit| *unit == 0).unwrap_or(name.len());
    Ok((String::from_utf16_lossy(&name[..len]), flags & FILE_NAMED_STREAMS != 0))
}

/// Whether a file is reached through a network.
pub(super) fn is_remote(file: &File) -> bool {
    let mut told = fs::FILE_REMOTE_PROTOCOL_INFO::default();
    let size = u32::try_from(size_of_val(&told)).unwrap_or(0);
    let into = (&raw mut told).cast();
    // SAFETY: as for `allocated_bytes`.
    done(unsafe {
        fs::GetFileInformationByHandleEx(handle(file), fs::FileRemoteProtocolInfo, into, size)
    })
    .is_ok()
}

/// How many bytes the file system of `directory` leaves to this user, has, and has free.
pub(super) fn space(directory: &Path) -> io::Result<(u64, u64, u64)> {
    let directory = wide(directory)?;
    let (mut available, mut total, mut free) = (0, 0, 0);
    // SAFETY: the path ends with a zero, and the three places are alive and not aliased.
    done(unsafe {
        fs::GetDiskFreeSpaceExW(
            directory.as_ptr(),
            &raw mut available,
            &raw mut total,
            &raw mut free,
        )
    })?;
    Ok((available, total, free))
}

/// Reserves clusters for the first `total_bytes` of a file, whose length stays.
pub(super) fn allocate(file: &File, total_bytes: u64) -> io::Result<()> {
    let wanted = fs::FILE_ALLOCATION_INFO {
        AllocationSize: i64::try_from(total_bytes).map_err(|_| io::ErrorKind::FileTooLarge)?,
    };
    let size = u32::try_from(size_of_val(&wanted)).unwrap_or(0);
    let from = (&raw const wanted).cast();
    // SAFETY: the handle is open, and the call reads `size` bytes, the size of the struct.
    done(unsafe {
        fs::SetFileInformationByHandle(handle(file), fs::FileAllocationInfo, from, size)
    })
}

/// Makes a file sparse: what is never written has no clusters.
pub(super) fn make_sparse(file: &File) -> io::Result<()> {
    let mut len = 0;
    let none = ptr::null_mut();
    // SAFETY: the handle is open for synchronous use; the call reads and writes nothing but the
    // length of its answer, to a place that is alive and not aliased.
    done(unsafe {
        DeviceIoControl(
            handle(file),
            Ioctl::FSCTL_SET_SPARSE,
            ptr::null(),
            0,
            none,
            0,
            &raw mut len,
            ptr::null_mut(),
        )
    })
}

/// Whether part of the bytes from `start` to `end` has no clusters.
pub(super) fn has_unallocated(file: &File, start: u64, end: u64) -> io::Result<bool> {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let (start, end) = (signed(start), signed(end));
    let asked = Ioctl::FILE_ALLOCATED_RANGE_BUFFER { FileOffset: start, Length: end - start };
    let mut told = [Ioctl::FILE_ALLOCATED_RANGE_BUFFER::default(); 1];
    let mut len = 0;
    // SAFETY: the handle is open for synchronous use; the call reads one struct, and writes at most
    // one and its size in bytes, all to places that are alive and not aliased.
    let result = done(unsafe {
        DeviceIoControl(
            handle(file),
            Ioctl::FSCTL_QUERY_ALLOCATED_RANGES,
            (&raw const asked).cast(),
            u32::try_from(size_of_val(&asked)).unwrap_or(0),
            told.as_mut_ptr().cast(),
            u32::try_from(size_of_val(&told)).unwrap_or(0),
            &raw mut len,
            ptr::null_mut(),
        )
    });
    match result {
        Ok(()) if len == 0 => Ok(true),
        Ok(()) => Ok(told[0].FileOffset > start || told[0].FileOffset + told[0].Length < end),
        // There is more than one range, and so a hole between them.
        Err(error) if error.raw_os_error() == Some(super::error::MORE_DATA) => Ok(true),
        Err(error) => Err(error),
    }
}

/// A number that the registry has for this user.
#[cfg(feature = "proxy")]
pub(super) fn user_number(key: &str, name: &str) -> Option<u32> {
    let mut number = [0; size_of::<u32>()];
    let len = user_value(key, name, Registry::RRF_RT_REG_DWORD, &mut number)?;
    (len == number.len()).then_some(u32::from_ne_bytes(number))
}

/// A text of at most 2,000 characters that the registry has for this user.
#[cfg(feature = "proxy")]
pub(super) fn user_text(key: &str, name: &str) -> Option<String> {
    let mut bytes = [0; 4000];
    let len = user_value(key, name, Registry::RRF_RT_REG_SZ, &mut bytes)?;
    let units: Vec<u16> =
        bytes[..len].chunks_exact(2).map(|unit| u16::from_ne_bytes([unit[0], unit[1]])).collect();
    Some(String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned())
}

/// Reads a value of this `kind` into `buffer`, and returns its length in bytes.
#[cfg(feature = "proxy")]
fn user_value(
    key: &str,
    name: &str,
    kind: Registry::REG_ROUTINE_FLAGS,
    buffer: &mut [u8],
) -> Option<usize> {
    let ended = |text: &str| text.encode_utf16().chain([0]).collect::<Vec<u16>>();
    let (key, name) = (ended(key), ended(name));
    let mut len = u32::try_from(buffer.len()).ok()?;
    let user = Registry::HKEY_CURRENT_USER;
    // SAFETY: both texts end with a zero and outlive the call; it writes at most `len` bytes to the
    // buffer, which has that many, and how many it wrote to `len`. Nobody asks for the type.
    let status = unsafe {
        Registry::RegGetValueW(
            user,
            key.as_ptr(),
            name.as_ptr(),
            kind,
            ptr::null_mut(),
            buffer.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    (status == ERROR_SUCCESS).then_some(len as usize)
}

/// The time since the start, first with sleep and then without.
pub(super) fn time_since_start() -> (Duration, Duration) {
    // SAFETY: the call has no conditions.
    let all = Duration::from_millis(unsafe { GetTickCount64() });
    let mut awake = 0;
    // SAFETY: the place is alive and not aliased. The call cannot fail with such a place.
    unsafe { QueryUnbiasedInterruptTime(&raw mut awake) };
    (all, hundreds_of_ns(awake))
}

/// How long the calling thread has computed.
pub(super) fn thread_time() -> io::Result<Duration> {
    let [mut created, mut ended, mut kernel, mut user] = [FILETIME::default(); 4];
    // SAFETY: the call has no conditions; the pseudo handle that it returns is always valid.
    let thread = unsafe { GetCurrentThread() };
    // SAFETY: the handle is valid, and the four places are alive and not aliased.
    done(unsafe {
        GetThreadTimes(thread, &raw mut created, &raw mut ended, &raw mut kernel, &raw mut user)
    })?;
    let time = |of: FILETIME| hundreds_of_ns(joined(of.dwHighDateTime, of.dwLowDateTime));
    Ok(time(kernel) + time(user))
}

/// A number of 64 bits that the system tells in two halves.
pub(super) fn joined(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn hundreds_of_ns(count: u64) -> Duration {
    Duration::from_nanos(count.saturating_mul(100))
}
