//! The extension module of the Python package `haul`; `python/haul` has what programs see.
//!
//! A call that waits does so on the caller's thread, without the interpreter's lock, and looks for
//! signals (`process`). `one` downloads a file, `many` a list, `ranges` parts of objects, and `reader`
//! reads an object while it downloads into a `scratch` file. `options` and `failure` translate what
//! Python says and is told, with `told`. The command itself, the form of lists and their records are
//! the `haul` crate's.

use pyo3::prelude::*;

mod attempt;
mod failure;
mod many;
mod one;
mod options;
mod process;
mod ranges;
mod reader;
mod scratch;
mod told;

/// What the package `haul` is made of; see there.
#[pymodule]
mod _haul {
    use std::ffi::OsString;

    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::many::Many;
    #[pymodule_export]
    use crate::one::{Running, download, start};
    #[pymodule_export]
    use crate::process::shut_down;
    #[pymodule_export]
    use crate::ranges::parts;
    #[pymodule_export]
    use crate::reader::Source;

    /// The version of the package.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const version: &str = env!("CARGO_PKG_VERSION");

    /// Runs the command with these arguments, the program's name first, and returns its exit code.
    #[pyfunction]
    fn run(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
        py.detach(|| haul_cli::programs::run(arguments))
    }
}
