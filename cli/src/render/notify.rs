//! Notifies a user who is not looking: the bell, and a desktop notification in terminals that
//! support it (OSC 9).

use std::io::{self, Write as _};

use super::{escape, stderr_is_terminal};

/// Announces that a run has ended, if stderr is a terminal.
pub(crate) fn notify(text: &str) {
    if stderr_is_terminal() {
        let mut stderr = io::stderr().lock();
        // If that fails, there is nobody left to tell.
        let _ = stderr.write_all(sequence(text).as_bytes()).and_then(|()| stderr.flush());
    }
}

/// The bell stands by itself too, since most terminals know no notifications.
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
