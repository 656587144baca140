//! The proxies that a user sets for the whole system: the environment has them here.

pub(crate) use crate::os::terms::ProxySettings;

/// What is set beside the environment: nothing.
pub(crate) fn settings() -> Option<ProxySettings> {
    None
}
