//! Notices that the machine's addresses or routes changed: another Wi-Fi, a cable that was pulled,
//! a tunnel that came up, a laptop that slept.

pub(crate) use super::system::routes::Changes;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn nothing_is_told_while_nothing_changes() {
        // Listening is not allowed everywhere.
        let Ok(mut changes) = Changes::listen() else { return };
        let next = std::future::poll_fn(|context| changes.poll_next(context));
        let told = tokio::time::timeout(Duration::from_millis(50), next).await;
        // Another program may change something meanwhile; what matters is that polling never fails.
        assert!(told.is_err() || told.is_ok_and(|told| told.is_ok()));
    }
}
