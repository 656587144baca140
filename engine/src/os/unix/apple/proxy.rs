//! The proxies that a user sets for the whole system, as the tool of macOS prints them.

use std::process::{Command, Stdio};

use super::super::proxy::of_scutil;
use crate::os::terms::ProxySettings;

/// What is set, if it is switched on.
pub(crate) fn proxy_settings() -> Option<ProxySettings> {
    let mut tool = Command::new("/usr/sbin/scutil");
    let printed = tool.arg("--proxy").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    of_scutil(&String::from_utf8_lossy(&printed.stdout))
}
