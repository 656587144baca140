//! What connections can be asked for on some systems only.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;

/// Has a connection fail whose peer has acknowledged nothing for `time`. Elsewhere probes of
/// an idle connection have to find that out.
pub(crate) fn fail_unacknowledged<R>(http: &mut HttpConnector<R>, time: Duration) {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    http.set_tcp_user_timeout(Some(time));
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let _ = (http, time);
}

/// Has connections leave by the network interface of this name; false where the system cannot
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

/// Whether [`leave_by`] can do that.
pub(crate) fn has_named_interfaces() -> bool {
    leave_by(&mut HttpConnector::new(), "lo")
}
