//! What servers have shown, from one download to the next.

use super::*;
use crate::net::hosts::Remembered;

impl Driver {
    /// Starts with what earlier downloads have shown of the server that answered.
    pub(super) async fn remember(&mut self) {
        let Some(hosts) = self.engine.hosts.clone() else { return };
        let Some(origin) = Origin::of(&self.opener().current) else { return };
        let look_up = move || hosts.look_up(&origin);
        let found = self.engine.writers.crew().blocking(look_up).await.flatten();
        let Some(found) = found else { return };
        if let Some(learned) = found.learned.filter(|_| self.is_auto()) {
            self.planner.remember(learned);
        }
        if let Some(most_bytes) = found.part_bytes {
            self.planner.limit_parts(most_bytes);
        }
    }

    /// Keeps what this one has shown, for the next.
    pub(super) async fn record(&self) {
        let Some(hosts) = self.engine.hosts.clone() else { return };
        let Some(origin) = Origin::of(&self.opener().current) else { return };
        // A slow reader shows nothing of the server.
        let telling = self.is_auto() && self.limited_by() != Some(LimitedBy::Reader);
        let learned = self.planner.learned().filter(|_| telling);
        let shown = Remembered { learned, part_bytes: self.planner.part_limit_bytes() };
        if shown == Remembered::default() {
            return;
        }
        let record = move || hosts.record(&origin, shown);
        // A hint that cannot be kept is no failure of the download.
        let _ = self.engine.writers.crew().blocking(record).await;
    }

    fn is_auto(&self) -> bool {
        self.options.connections == Connections::Auto
    }
}
