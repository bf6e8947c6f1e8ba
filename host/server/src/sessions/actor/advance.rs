//! Deciding and doing: `plan` until there is nothing to do before a certain time.

use super::{Actor, Command, Drain, ending::finish, instant};
use crate::sessions::{
    change::Finish,
    error::SessionError,
    registry,
    seams::{Launch, Life},
};
use model::{
    id::{Digest, Epoch},
    lifecycle::{Phase, Reason, Trigger},
    plan::{Action, Desired, Observed, Policy, Runner, plan},
};
use protocol::control::FromServer;
use secrecy::SecretString;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Rounds of deciding and doing before others get their turn.
const ROUNDS: usize = 16;
/// Before another try when the store refused.
const RETRY: Duration = Duration::from_secs(1);

impl Actor {
    /// Returns when to come back, if nothing else happens.
    pub(super) async fn advance(&mut self) -> Option<Instant> {
        for _ in 0..ROUNDS {
            match self.round().await {
                Ok(Round::Acted) if self.removed => return None,
                Ok(Round::Acted) => {}
                Ok(Round::Settled { until }) => return self.timers(until),
                Err(error) => {
                    let error = telemetry::field::chain(&error);
                    tracing::error!(session = %self.record.reference, error, "cannot go on for now");
                    return Some(Instant::now() + RETRY);
                }
            }
        }
        Some(Instant::now())
    }

    async fn round(&mut self) -> Result<Round, SessionError> {
        if self.wake_for_queue().await? || self.end_run().await? || self.hurry() {
            return Ok(Round::Acted);
        }
        let (mut acted, mut until) = (false, None);
        let actions = match &self.registry.life {
            Life::Planned => plan(&self.observed()),
            Life::Followed(_) => self.followed(),
        };
        for action in actions {
            if let Action::Wait { until: at } = action {
                until = Some(instant(at));
            } else {
                acted |= self.apply(action).await?;
            }
        }
        Ok(if acted { Round::Acted } else { Round::Settled { until } })
    }

    fn observed(&self) -> Observed {
        let state = &self.record.state;
        let settings = &self.registry.settings;
        let active = self.active_since.map_or(Duration::ZERO, |since| since.elapsed());
        Observed {
            now: registry::now(),
            phase: state.phase,
            desired: state.desired,
            runner: self.runner,
            has_work: state.run.is_some(),
            last_epoch: state.epoch,
            losses: state.losses,
            lost_at: state.lost_at,
            run_active: Duration::from_millis(state.run_active_ms).saturating_add(active),
            idle_since: state.idle_since,
            changed_at: state.rests_since(),
            policy: Policy {
                start_timeout: settings.start_timeout,
                run_timeout: self.run_timeout(),
                inactivity: self.accepted.inactivity.unwrap_or(settings.inactivity),
                retention: self.accepted.retention,
                max_losses: settings.max_losses,
                backoff_base: settings.backoff_base,
                backoff_cap: settings.backoff_cap,
            },
        }
    }

    /// The runner ends its run in time by itself; this is for one that does not.
    pub(super) fn run_timeout(&self) -> Duration {
        self.run_limit().saturating_add(self.registry.settings.drain)
    }

    pub(super) fn run_limit(&self) -> Duration {
        Duration::from_millis(self.registry.settings.limits.session.run_ms).min(self.accepted.timeout)
    }

    /// Whether anything changed: an action whose effect is under way is not repeated.
    async fn apply(&mut self, action: Action) -> Result<bool, SessionError> {
        match action {
            Action::StartRunner { epoch } => self.start(epoch).await.map(|()| true),
            Action::DrainRunner { .. } => Ok(self.drain()),
            Action::KillRunner { epoch } => Ok(self.kill(epoch)),
            Action::FailRun { reason } => {
                let message = self.exited.clone().unwrap_or_default();
                self.fail(reason, &message).await.map(|()| true)
            }
            Action::Step { trigger: Trigger::RunnerStarted, .. } => Ok(false),
            Action::Step { trigger, reason } => self.step(trigger, reason).await,
            Action::Remove => self.remove().await.map(|()| true),
            Action::Wait { .. } => Ok(false),
        }
    }

    async fn step(&mut self, trigger: Trigger, reason: Reason) -> Result<bool, SessionError> {
        let mut change = self.change();
        let why = self.exited.clone().unwrap_or_default();
        let mut stepped = true;
        match (trigger, self.runner) {
            (Trigger::RunnerLost, Runner::Gone { epoch }) => change.lose(epoch, why),
            (Trigger::RunnerGone, runner) => {
                if let Runner::Gone { epoch } = runner {
                    change.fence(epoch);
                }
                let (reason, message) = (change.state.reason.clone(), change.state.message.clone());
                stepped = change.step(trigger, reason, message);
            }
            _ => stepped = change.step(trigger, reason, ""),
        }
        if !stepped {
            return Ok(false);
        }
        self.commit(change).await?;
        if matches!(trigger, Trigger::RunnerLost | Trigger::RunnerGone) {
            self.runner_is_none();
        }
        Ok(true)
    }

    /// Ends the run, and the session with it.
    pub(super) async fn fail(&mut self, reason: Reason, message: &str) -> Result<(), SessionError> {
        let mut change = self.change();
        let ended = self.story.ended.as_ref().filter(|ended| change.state.run.as_ref() == Some(&ended.run));
        change.finish(ended.map_or_else(|| Finish::failed(reason.clone(), message), finish));
        change.step(Trigger::Failed, reason, message);
        self.ending = None;
        Ok(self.commit(change).await?)
    }

    async fn start(&mut self, epoch: Epoch) -> Result<(), SessionError> {
        let secret = hex::encode(rand::random::<[u8; 32]>());
        let token = format!("vr1.{}.{epoch}.{secret}", self.record.uid);
        let mut change = self.change();
        change.state.epoch = epoch;
        change.state.fence = epoch;
        change.state.token_hash = Some(Digest::of(token.as_bytes()).hex().to_owned());
        change.step(Trigger::RunnerStarted, Reason::RunnerStarting, "");
        self.commit(change).await?;
        self.runner = Runner::Starting { epoch, since: registry::now() };
        self.exited = None;
        let launch = Launch {
            uid: self.record.uid.clone(),
            epoch,
            token: SecretString::from(token),
            workspace: self.accepted.workspace.clone(),
            workspace_bytes: self.workspace_bytes(),
            needs_programs: self.accepted.needs_programs,
            exited: self.exited_notice(epoch),
        };
        let (registry, uid) = (Arc::clone(&self.registry), self.record.uid.clone());
        self.registry.spawn(async move {
            let result = registry.launcher.start(launch).await;
            registry.tell(&uid, Command::Launched { epoch, result }).await;
        });
        Ok(())
    }

    /// Has the runner end in order: its run first where the person wants no more of it, then itself.
    fn drain(&mut self) -> bool {
        if self.drain.is_some() {
            return false;
        }
        if self.link.is_none() {
            return self.kill(self.record.state.epoch);
        }
        let until = Instant::now() + self.registry.settings.drain;
        let run = self.record.state.run.clone().filter(|_| self.record.state.phase == Phase::Stopping);
        if let Some(run) = run {
            if self.story.ended.is_none() {
                self.tell(FromServer::Interrupt { run });
            }
            self.drain = Some(Drain { told: false, until });
        } else {
            self.tell_drain();
        }
        true
    }

    fn tell_drain(&mut self) {
        let drain = self.registry.settings.drain;
        let deadline_ms = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
        self.tell(FromServer::Drain { deadline_ms });
        self.drain = Some(Drain { told: true, until: Instant::now() + drain + drain / 2 });
    }

    /// Goes on with a drain whose next step is due.
    fn hurry(&mut self) -> bool {
        let Some(Drain { told, until }) = self.drain else { return false };
        let due = Instant::now() >= until && self.ending.is_none();
        match (told, due) {
            (false, _) if self.record.state.run.is_none() => self.tell_drain(),
            (false, true) => self.tell_drain(),
            (true, true) => return self.kill(self.record.state.epoch),
            _ => return false,
        }
        true
    }

    pub(super) fn kill(&mut self, epoch: Epoch) -> bool {
        if self.killing.is_some() {
            return false;
        }
        self.killing = Some(epoch);
        let (registry, uid) = (Arc::clone(&self.registry), self.record.uid.clone());
        self.registry.spawn(async move {
            registry.launcher.kill(uid.clone(), epoch).await;
            registry.tell(&uid, Command::Killed { epoch }).await;
        });
        true
    }

    /// A message that came while the session was on its way out.
    async fn wake_for_queue(&mut self) -> Result<bool, SessionError> {
        let state = &self.record.state;
        let asleep = state.phase.is_settled() && state.run.is_none() && state.desired == Desired::Run;
        if !asleep || state.queue.is_empty() {
            return Ok(false);
        }
        let mut change = self.change();
        change.begin_next();
        self.commit(change).await?;
        Ok(true)
    }

    async fn remove(&mut self) -> Result<(), SessionError> {
        let uid = self.record.uid.clone();
        // First what the record is the only way to; a crash in between tries again.
        let removed = self.registry.launcher.remove(uid.clone()).await;
        removed.map_err(store::StoreError::from)?;
        self.registry.store().delete(&uid).await?;
        self.removed = true;
        Ok(())
    }

    /// When to come back: the plan's time, or one of those that the plan does not know.
    fn timers(&self, planned: Option<Instant>) -> Option<Instant> {
        let run = self.active_since.map(|since| {
            let counted = Duration::from_millis(self.record.state.run_active_ms);
            since + self.run_timeout().saturating_sub(counted)
        });
        let drain = self.drain.as_ref().filter(|_| self.ending.is_none() && self.killing.is_none());
        let drain = drain.map(|drain| drain.until);
        let ending = self.ending.as_ref().and_then(|ending| ending.until());
        [planned, run.filter(|_| self.killing.is_none()), drain, ending].into_iter().flatten().min()
    }
}

enum Round {
    Acted,
    Settled { until: Option<Instant> },
}
