//! What the command asks of the system it runs on: the only room of the command that knows which one
//! that is. `unix` and `windows` have the same functions.

mod terms;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

pub(crate) use system::{
    BROWSER, argument_of_bytes, create_private_directory, end_child, end_group, ensure_descriptors,
    is_open_to_others, is_program, is_socket, keep_from_ctrl_c, places, read_exact_at, set_name,
    signals, stderr_of_child, stdout, stdout_is_led_away, symlink, takes_bytes_in_order,
    terminal_shows_control_keys, terminal_size, terminal_stops_background,
    terminal_understands_escapes, while_alone, widen_pipe,
};
pub(crate) use terms::Interrupt;
