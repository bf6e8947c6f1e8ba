//! A runner's connection ends, and then the runner.

use super::{Actor, ending::Ending};
use crate::sessions::{link::ConnectionId, registry, seams::LaunchError};
use model::{
    event::{Event, Warning},
    id::Epoch,
    lifecycle::Phase,
    plan::Runner,
};

impl Actor {
    pub(super) fn disconnected(&mut self, connection: ConnectionId) {
        if let Some(link) = self.link.take_if(|link| link.id == connection) {
            self.link = Some(link);
            self.unlink();
        }
    }

    /// The connection is over; the runner may come back, unless it said that it ends.
    pub(super) fn unlink(&mut self) {
        let Some(link) = self.link.take() else { return };
        self.give_up_snapshot();
        // What it has not answered is answered as without a runner.
        for reply in std::mem::take(&mut self.requests).into_values() {
            let _ = reply.send(Err(self.record.state.snapshot.clone()));
        }
        let epoch = self.record.state.epoch;
        self.stop_counting();
        if let Some(message) = self.exited.take() {
            self.gone(epoch, message);
        } else {
            self.runner = Runner::Starting { epoch, since: registry::now() };
            if link.bye || self.drain.is_some() {
                self.kill_now();
            }
        }
    }

    pub(super) fn stop_counting(&mut self) {
        if let Some(since) = self.active_since.take() {
            let active = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.record.state.run_active_ms = self.record.state.run_active_ms.saturating_add(active);
        }
    }

    /// It is asked again of the next connection.
    pub(super) fn give_up_snapshot(&mut self) {
        if matches!(self.ending, Some(Ending::Asked { .. })) {
            self.ending = None;
        }
    }

    pub(super) async fn launched(&mut self, epoch: Epoch, result: Result<Vec<Warning>, LaunchError>) {
        if epoch != self.record.state.epoch {
            return;
        }
        match result {
            Ok(warnings) if warnings.is_empty() => {}
            Ok(warnings) => {
                let mut change = self.change();
                warnings.into_iter().for_each(|warning| change.push(Event::Warning(warning)));
                if let Err(error) = self.commit(change).await {
                    self.cannot_write(&error);
                }
            }
            Err(_) if !matches!(self.runner, Runner::Starting { .. }) => {}
            Err(LaunchError::Hopeless { reason, message }) => {
                self.fail_or_log(reason, &message).await;
                self.gone(epoch, message);
            }
            Err(LaunchError::Failed(message)) => {
                tracing::warn!(session = %self.record.reference, %epoch, message, "the runner was not started");
                self.gone(epoch, message);
            }
        }
    }

    pub(super) fn runner_exited(&mut self, epoch: Epoch, message: String) {
        if epoch != self.record.state.epoch || matches!(self.runner, Runner::None | Runner::Gone { .. }) {
            return;
        }
        if self.link.is_some() {
            // What it said last may still be on its way; the end of the connection comes after it.
            self.exited = Some(message);
        } else {
            self.gone(epoch, message);
        }
    }

    pub(super) fn killed(&mut self, epoch: Epoch) {
        if self.killing.take_if(|killing| *killing == epoch).is_none() || epoch != self.record.state.epoch {
            return;
        }
        self.link = None;
        self.stop_counting();
        self.give_up_snapshot();
        let message = self.exited.take().unwrap_or_else(|| "it was ended by the server".to_owned());
        self.gone(epoch, message);
    }

    pub(super) fn gone(&mut self, epoch: Epoch, message: String) {
        self.drain = None;
        self.exited = Some(message);
        self.runner = Runner::Gone { epoch };
        if self.record.state.phase.is_settled() || self.record.state.phase == Phase::Pending {
            self.runner_is_none();
        }
    }

    pub(super) fn runner_is_none(&mut self) {
        self.drain = None;
        self.exited = None;
        self.runner = Runner::None;
    }

    pub(super) fn kill_now(&mut self) {
        let epoch = self.record.state.epoch;
        self.kill(epoch);
    }

    pub(super) fn count_awake(&mut self) {
        let awake = self.link.is_some();
        if awake != self.counted {
            self.counted = awake;
            let count = &self.registry.awake;
            let order = std::sync::atomic::Ordering::Relaxed;
            if awake {
                count.fetch_add(1, order)
            } else {
                count.fetch_sub(1, order)
            };
        }
    }
}
