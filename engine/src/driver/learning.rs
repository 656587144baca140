//! What servers have shown, from one download to the next.

use super::*;

impl Driver {
    /// Starts with what earlier downloads have shown of the server that answered.
    pub(super) async fn remember(&mut self) {
        if self.options.connections != Connections::Auto {
            return;
        }
        let Some(hosts) = self.engine.hosts.clone() else { return };
        let Some(origin) = Origin::of(&self.opener().current) else { return };
        let look_up = move || hosts.look_up(&origin);
        let learned = self.engine.writers.crew().blocking(look_up).await.flatten();
        if let Some(learned) = learned {
            self.planner.remember(learned);
        }
    }

    /// Keeps what this one has shown, for the next.
    pub(super) async fn record(&self) {
        if self.options.connections != Connections::Auto {
            return;
        }
        let Some(hosts) = self.engine.hosts.clone() else { return };
        let Some(origin) = Origin::of(&self.opener().current) else { return };
        // A slow reader shows nothing of the server.
        if self.limited_by() == Some(LimitedBy::Reader) {
            return;
        }
        let Some(learned) = self.planner.learned() else { return };
        let record = move || hosts.record(&origin, learned);
        // A hint that cannot be kept is no failure of the download.
        let _ = self.engine.writers.crew().blocking(record).await;
    }
}
