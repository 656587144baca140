//! Connection options that only some systems have.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;

/// Makes a connection fail when its peer has acknowledged nothing for `time`. On other systems,
/// probes of an idle connection have to find that out.
pub(crate) fn fail_unacknowledged<R>(http: &mut HttpConnector<R>, time: Duration) {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    http.set_tcp_user_timeout(Some(time));
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let _ = (http, time);
}

/// Makes connections leave by the network interface of this name; false where the system cannot
/// bind them to one.
pub(crate) fn leave_by<R>(http: &mut HttpConnector<R>, interface: &str) -> bool {
    #[cfg(any(
        target_os = "android",
        target_os = "ios",
        target_os = "linux",
        target_os = "macos",
        target_os = "solaris",
    ))]
    {
        http.set_interface(interface);
        true
    }
    #[cfg(not(any(
        target_os = "android",
        target_os = "ios",
        target_os = "linux",
        target_os = "macos",
        target_os = "solaris",
    )))]
    {
        let _ = (http, interface);
        false
    }
}

/// Whether [`leave_by`] works on this system.
pub(crate) fn has_named_interfaces() -> bool {
    leave_by(&mut HttpConnector::new(), "lo")
}
