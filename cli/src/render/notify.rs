//! A word to somebody who does not look: the bell, and a notification of the desktop
//! in terminals that show those (OSC 9).

use std::io::{self, Write as _};

use super::{escape, stderr_is_terminal};

/// Tells that a run has ended, where stderr is a terminal.
pub(crate) fn notify(text: &str) {
    if stderr_is_terminal() {
        let mut stderr = io::stderr().lock();
        // Nobody is left to tell if that fails.
        let _ = stderr.write_all(sequence(text).as_bytes()).and_then(|()| stderr.flush());
    }
}

/// The bell by itself, since most terminals know no notifications.
fn sequence(text: &str) -> String {
    format!("\x07\x1b]9;{}\x1b\\", escape(text))
}

#[cfg(test)]
mod tests {
    use super::sequence;

    #[test]
    fn a_name_cannot_end_the_sequence() {
        assert_eq!(sequence("haul: a\x1b\\\x07b"), "\x07\x1b]9;haul: a\\u{1b}\\\\u{7}b\x1b\\");
    }
}
