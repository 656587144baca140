//! News of the network from the IP Helper, which calls a function of ours on a thread of its own.
#![expect(unsafe_code, reason = "no safe wrapper makes these calls")]

use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use windows_sys::Win32::Foundation::{ERROR_SUCCESS, HANDLE, WIN32_ERROR};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    CancelMibChangeNotify2, MIB_NOTIFICATION_TYPE, NotifyIpInterfaceChange,
    NotifyUnicastIpAddressChange,
};
use windows_sys::Win32::Networking::WinSock::AF_UNSPEC;

use super::error::number;

/// See [`crate::os::routes`].
#[derive(Debug)]
pub(crate) struct Changes {
    /// Has room for one message: several changes at once are reported as one.
    news: Receiver<()>,
    // Dropped in this order, since the subscriptions use the sender.
    _interfaces: Subscription,
    _addresses: Subscription,
    _sender: Arc<Sender<()>>,
}

impl Changes {
    /// Listens from now on.
    ///
    /// # Errors
    /// Where the system refuses.
    pub(crate) fn listen() -> io::Result<Self> {
        let (sender, news) = channel(1);
        let sender = Arc::new(sender);
        let to = Arc::as_ptr(&sender).cast();
        let interfaces = Subscription::new(|handle| {
            // SAFETY: `changed` takes `to` for what it is, a sender. The `Arc` that owns it outlives
            // the subscription: it is dropped later, here and in `Changes`. The handle goes to a
            // place that is alive and not aliased.
            unsafe { NotifyIpInterfaceChange(AF_UNSPEC, Some(changed), to, false, handle) }
        })?;
        let addresses = Subscription::new(|handle| {
            // SAFETY: as above.
            unsafe { NotifyUnicastIpAddressChange(AF_UNSPEC, Some(changed), to, false, handle) }
        })?;
        Ok(Self { news, _interfaces: interfaces, _addresses: addresses, _sender: sender })
    }

    /// The next change; several at once are reported as one.
    ///
    /// # Errors
    /// When no more changes will be reported.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let told = self.news.poll_recv(context);
        told.map(|told| told.ok_or_else(|| io::ErrorKind::BrokenPipe.into()))
    }
}

/// Receives the notices about rows of any table.
///
/// # Safety
/// `to` must point to a `Sender<()>` that is alive.
unsafe extern "system" fn changed<Row>(to: *const c_void, _: *const Row, _: MIB_NOTIFICATION_TYPE) {
    // SAFETY: the caller promises it. Senders can be shared between threads.
    let sender = unsafe { &*to.cast::<Sender<()>>() };
    // A message that was not taken yet stands for this one as well.
    let _ = sender.try_send(());
}

/// A subscription to changes of one table, cancelled when it is dropped.
#[derive(Debug)]
struct Subscription(HANDLE);

// SAFETY: the handle is a name that the system knows, of no thread in particular, and only `drop`
// uses it.
unsafe impl Send for Subscription {}

impl Subscription {
    /// # Errors
    /// Where `subscribe`, which fills in the handle, fails.
    fn new(subscribe: impl FnOnce(&mut HANDLE) -> WIN32_ERROR) -> io::Result<Self> {
        let mut handle = ptr::null_mut();
        match subscribe(&mut handle) {
            ERROR_SUCCESS => Ok(Self(handle)),
            error => Err(io::Error::from_raw_os_error(number(error))),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // The system waits for calls of `changed` that have begun.
        // SAFETY: the handle comes from a subscription that succeeded and is cancelled only here,
        // on a thread that does not run `changed`, which drops nothing.
        unsafe { CancelMibChangeNotify2(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_that_nobody_took_are_told_as_one() {
        let mut changes = Changes::listen().expect("Wine has these calls, too");
        let to = Arc::as_ptr(&changes._sender);
        for _ in 0..2 {
            // SAFETY: `to` points to the sender in `changes`, which is alive.
            unsafe { changed::<()>(to.cast(), ptr::null(), 0) };
        }
        assert_eq!(changes.news.len(), 1);
        std::future::poll_fn(|context| changes.poll_next(context)).await.unwrap();
    }
}
