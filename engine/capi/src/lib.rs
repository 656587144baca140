//! The C interface of haul. `include/haul.h` is made from it and documents it.
//!
//! What holds for every function here:
//!
//! - The body runs inside `failure::entry`, which catches unwinding and turns
//!   errors into codes.
//! - Handles are boxes of types that are `Sync`, given out as raw pointers and
//!   borrowed only in shared form (`pointer::borrow`), so any threads may use
//!   them at once. A free function takes the box back; that nothing else uses it
//!   then is the caller's part of the contract.
//! - What comes in by pointer is checked for NULL and copied or used up before
//!   the function returns; nothing of it is kept.
#![deny(missing_docs)]
// The place for it, beside the mapped storage: see `.ci/check-unsafe`.
#![allow(unsafe_code)]

#[cfg(not(panic = "unwind"))]
compile_error!("haul-capi turns panics into error codes: build it with panic = \"unwind\"");

mod download;
mod engine;
mod event;
mod failure;
mod options;
mod os;
mod pointer;
mod reader;
mod refresh;

use std::ffi::{CStr, c_char};

use failure::entry_free;

pub use download::*;
pub use engine::*;
pub use event::*;
pub use failure::*;
pub use options::*;
pub use reader::*;
pub use refresh::*;

/// The version of haul, such as "0.1.0". The string stays valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn haul_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version has no NUL"),
        };
    VERSION.as_ptr()
}

/// Frees a string that another function gave through a `char **`. NULL is ignored.
///
/// # Safety
/// `string` is NULL or was given by haul, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_string_free(string: *mut c_char) {
    // SAFETY: strings are given out by `pointer::give_text` alone, and by the
    // contract above this one was, and comes back once.
    entry_free(|| drop(unsafe { pointer::take_text(string) }));
}
