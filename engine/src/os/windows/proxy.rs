//! The proxies that a user sets for the whole system.

use super::calls;
pub(crate) use crate::os::terms::ProxySettings;

/// What is set, if it is switched on. A script that chooses a proxy (PAC) is not read.
pub(crate) fn settings() -> Option<ProxySettings> {
    const KEY: &str = r"Software\Microsoft\Windows\CurrentVersion\Internet Settings";
    if calls::user_number(KEY, "ProxyEnable")? == 0 {
        return None;
    }
    Some(ProxySettings {
        servers: calls::user_text(KEY, "ProxyServer")?,
        direct: calls::user_text(KEY, "ProxyOverride").unwrap_or_default(),
    })
}
