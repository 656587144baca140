//! The loop's step for what people and the engine want from a running download: wishes of the
//! handle, positions of readers, its turn at the engine's connections, and its progress.

use std::time::Duration;

use super::Driver;
use crate::driver::control::Steering;
use crate::driver::queue::Pausing;
use crate::model::error::Error;
use crate::model::event::Event;

impl Driver {
    /// Takes over what the handle and the readers ask for.
    pub(super) fn steer(&mut self) {
        let now = self.now();
        let Steering { paused, connections, priority, wants } = self.shared.control.steering();
        let limited = (0..self.sources.count()).any(|source| self.limits(source).are_limiting());
        self.planner.set_speed_limited(limited);
        if let Some(connections) = connections {
            self.planner.set_connections(connections, now);
        }
        if let Some(priority) = priority {
            self.queue.set_priority(priority);
        }
        match self.queue.set_paused(paused) {
            Pausing::Unchanged => {}
            Pausing::Begins => {
                self.planner.pause(now);
                self.publish_progress(false);
            }
            Pausing::Ends { told } => {
                self.planner.resume(now);
                if told {
                    self.shared.send(&Event::Resumed);
                }
                self.publish_progress(false);
            }
        }
        self.planner.want(wants, now);
    }

    /// Listens for changes of the network path, from the first tick after a response on: thousands
    /// of small downloads end before that, and those that wait for their turn hold nothing. If the
    /// machine slept meanwhile, that is reported at once.
    pub(super) fn watch_path(&mut self) {
        if !self.requests.have_been_heard() {
            return;
        }
        if !self.meter.begins_to_watch() {
            if self.meter.has_slept() {
                self.planner.on_path_changed(self.now());
            }
            return;
        }
        if let Some(changes) = self.engine.transport.path_changes() {
            self.sources.listen(changes);
        }
    }

    /// Reports a pause once nothing more can come.
    pub(super) fn tell_pause(&mut self) {
        if self.queue.tells_pause(self.requests.count() == 0) {
            self.shared.send(&Event::Paused);
            self.publish_progress(false);
        }
    }

    /// Asks for the connections that could be used now, and has the planner use what is granted.
    pub(super) async fn take_turn(&mut self) -> Result<(), Error> {
        let now = self.now();
        let need = self.planner.need(now);
        let by_host = self.queue.is_bound_by_host();
        let places = if by_host { self.planner.need_by_place(need, now) } else { Vec::new() };
        let granted = self.queue.ask(need, &places, self.sources.hosts());
        if granted.begins {
            // Before that, a download in a queue holds and reads nothing.
            self.look_for_earlier().await?;
        }
        self.planner.allow(granted.connections, granted.rooms, now);
        if granted.changed {
            self.publish_progress(false);
        }
        if granted.queued {
            self.shared.send(&Event::Queued);
        }
        Ok(())
    }

    /// Shows the progress to the handle and to observers.
    pub(super) fn publish_progress(&self, syncing: bool) {
        let paused = self.queue.is_paused();
        let silence = self.planner.silence(self.now()).filter(|_| !paused && !syncing);
        self.shared.set_progress(|progress| {
            let connections = self.requests.count();
            self.meter.show(progress, self.opening.total(), connections, syncing);
            progress.silent_for = silence.map_or(Duration::ZERO, |(silent, _)| silent);
            progress.gives_up_after = silence.map(|(_, patience)| patience);
            progress.retries = self.planner.rounds();
            progress.paused = paused;
            progress.queued = self.queue.is_waiting();
            progress.map = self.planner.map_cells();
        });
    }
}
