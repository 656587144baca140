//! Which bytes of an object are in its file and may be read there.
//!
//! The writer threads report how far each segment is stored, right after they
//! store it; readers look, and sleep until there is more. While nobody waits,
//! this costs the writers one store and one load per chunk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::model::layout::Layout;

/// Wakes the readers of one download.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    waiting: AtomicUsize,
    rings: Notify,
}

impl Alarm {
    /// Wakes every waiting reader. It sees everything that was stored before
    /// this call.
    pub(crate) fn ring(&self) {
        // Sequentially consistent, as is what readers look at: either this call
        // sees the reader waiting, or the reader sees what was stored before.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.rings.notify_waiters();
        }
    }

    /// Waits until `look` finds something. It is called after each ring.
    pub(crate) async fn wait<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        if let Some(found) = look() {
            return found;
        }
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let mut ring: std::pin::Pin<&mut Notified<'_>> = std::pin::pin!(self.rings.notified());
            // Listening before looking: no ring is missed.
            ring.as_mut().enable();
            if let Some(found) = look() {
                return found;
            }
            ring.await;
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How far each segment of one version of an object is stored.
#[derive(Debug)]
pub(crate) struct Readable {
    layout: Layout,
    /// For each segment, the offset in the object of the first byte not yet
    /// stored; 0 where nothing is. 8 bytes for each of at most 16,384 segments.
    ends: Box<[AtomicU64]>,
    alarm: Arc<Alarm>,
}

impl Readable {
    /// Starts with nothing stored.
    pub(crate) fn new(layout: Layout, alarm: Arc<Alarm>) -> Self {
        Self { layout, ends: (0..layout.count()).map(|_| AtomicU64::new(0)).collect(), alarm }
    }

    /// Reports that all bytes of `segment` before `end` are in the file.
    pub(crate) fn up_to(&self, segment: u32, end: u64) {
        if let Some(known) = self.ends.get(segment as usize) {
            known.store(end, Ordering::SeqCst);
            self.alarm.ring();
        }
    }

    /// Reports that all bytes of `segment` are in the file.
    pub(crate) fn whole(&self, segment: u32) {
        if let Some(range) = self.layout.range(segment) {
            self.up_to(segment, range.end());
        }
    }

    /// The end of the stored bytes from `position` on, within its segment;
    /// `position` itself when that byte is not stored.
    pub(crate) fn end_from(&self, position: u64) -> u64 {
        let (segment, _) = self.layout.segment_at(position);
        let end = self.ends.get(segment as usize).map_or(0, |end| end.load(Ordering::SeqCst));
        end.max(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_readable_as_far_as_it_is_stored() {
        let layout = Layout { total: Some(2500), segment_size_bytes: 1024 };
        let stored = Readable::new(layout, Arc::default());
        assert_eq!(stored.end_from(0), 0);
        stored.up_to(0, 100);
        stored.up_to(1, 1024);
        stored.whole(2);
        assert_eq!(stored.end_from(50), 100);
        assert_eq!(stored.end_from(100), 100);
        assert_eq!(stored.end_from(1500), 1500, "nothing of this segment is here");
        assert_eq!(stored.end_from(2048), 2500);
        assert_eq!(stored.end_from(9999), 9999);
    }

    #[tokio::test]
    async fn a_ring_between_looking_and_sleeping_is_not_missed() {
        let alarm = Arc::new(Alarm::default());
        let stored = Arc::new(Readable::new(
            Layout { total: None, segment_size_bytes: 1024 },
            Arc::clone(&alarm),
        ));
        let writer = {
            let stored = Arc::clone(&stored);
            std::thread::spawn(move || {
                for end in 1..=20_000 {
                    stored.up_to(0, end);
                }
            })
        };
        let mut position = 0;
        while position < 20_000 {
            let look = || Some(stored.end_from(position)).filter(|end| *end > position);
            position = alarm.wait(look).await;
        }
        writer.join().unwrap();
    }
}
