//! The process that started this one, for programs that must not outlive it.

use std::time::Duration;

use crate::os;

/// How often the parent is looked at.
const LOOKS: Duration = Duration::from_millis(200);

/// The process that started this one.
///
/// A worker whose scheduler is killed should not go on downloading. Stopping each
/// [`crate::Download`] when the parent has ended keeps what was fetched:
///
/// ```no_run
/// # async fn example(download: haul_engine::Download) -> Result<(), haul_engine::Error> {
/// let parent = haul_engine::Parent::of_this_process();
/// tokio::select! {
///     () = parent.ended() => drop(download.cancel().await?),
///     summary = download.wait() => println!("{} bytes", summary?.bytes),
/// }
/// # Ok(())
/// # }
/// ```
///
/// The parent is looked at five times a second. The kernel's signal for this purpose
/// (`PR_SET_PDEATHSIG` of Linux) is not used: it comes when the thread ends that started the
/// process, which may be long before the process does.
#[derive(Debug)]
pub struct Parent(os::parent::Parent);

impl Parent {
    /// The parent that this process has now. Ask early: one that has ended before cannot be told
    /// from whoever took this process over.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self(os::parent::Parent::of_this_process())
    }

    /// Whether it is still running.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    /// Waits until it has ended; cancel safe. Needs a Tokio runtime with time.
    pub async fn ended(&self) {
        let mut looks = tokio::time::interval(LOOKS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.is_alive() {
            looks.tick().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_parent_of_a_test_is_alive() {
        let parent = Parent::of_this_process();
        assert!(parent.is_alive());
        let ended = tokio::time::timeout(3 * LOOKS, parent.ended());
        assert!(ended.await.is_err(), "cargo has ended before its tests");
    }
}
