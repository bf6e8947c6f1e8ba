//! The end of a run: the workspace's snapshot, then `run.finished`, then what follows.

use super::Actor;
use crate::sessions::{
    change::{Afterwards, Finish},
    error::SessionError,
};
use model::{
    event::{Event, RunEnd, RunEnded, RunOutcome, Snapshot},
    lifecycle::Reason,
};
use protocol::control::{FromServer, Reply, Request, RequestError};
use tokio::time::Instant;

/// A run that its runner ended and that is not yet finished.
pub(super) enum Ending {
    Asked {
        request: u64,
        until: Instant,
    },
    /// Answered, or given up with a reason.
    Answered(Result<Reply, String>),
}

impl Ending {
    pub(super) fn until(&self) -> Option<Instant> {
        match self {
            Self::Asked { until, .. } => Some(*until),
            Self::Answered(_) => None,
        }
    }
}

impl Actor {
    /// Takes the end of the run under way a step further.
    pub(super) async fn end_run(&mut self) -> Result<bool, SessionError> {
        let Some(ended) = self.story.ended.clone() else { return Ok(false) };
        if self.record.state.run.as_ref() != Some(&ended.run) {
            self.story.ended = None;
            return Ok(true);
        }
        match self.ending.take() {
            Some(Ending::Answered(answer)) => self.finish_run(ended, answer).await.map(|()| true),
            Some(Ending::Asked { until, .. }) if Instant::now() >= until => {
                let gave_up = "the runner did not send it in time".to_owned();
                self.ending = Some(Ending::Answered(Err(gave_up)));
                Ok(true)
            }
            Some(asked) => {
                self.ending = Some(asked);
                Ok(false)
            }
            None if self.link.as_ref().is_some_and(|link| link.bound) => {
                let request = self.next_id();
                self.tell(FromServer::Request { id: request, request: Request::Diff });
                let until = Instant::now() + self.registry.settings.snapshot;
                self.ending = Some(Ending::Asked { request, until });
                Ok(true)
            }
            // The next runner is asked.
            None => Ok(false),
        }
    }

    /// Whether this was the answer that the end of the run waits for.
    pub(super) fn ending_answered(&mut self, id: u64, result: &Result<Reply, RequestError>) -> bool {
        match &self.ending {
            Some(Ending::Asked { request, .. }) if *request == id => {
                self.ending = Some(Ending::Answered(result.clone().map_err(|error| error.to_string())));
                true
            }
            _ => false,
        }
    }

    async fn finish_run(
        &mut self,
        ended: RunEnded,
        answer: Result<Reply, String>,
    ) -> Result<(), SessionError> {
        let mut change = self.change();
        match self.snapshot(&ended, answer).await {
            Ok(snapshot) => {
                change.push(Event::Snapshot(snapshot.clone()));
                change.state.snapshot = Some(snapshot);
            }
            Err(why) => {
                change.warn("SnapshotFailed", format!("no snapshot of the workspace was made: {why}"))
            }
        }
        let next = change.state.run.clone();
        // No further message would help.
        let hopeless = ended.end == RunEnd::WorkspaceInvalid;
        change.conclude(finish(&ended), if hopeless { Afterwards::Complete } else { self.afterwards() });
        let started = change.state.run.clone().filter(|run| Some(run) != next.as_ref());
        self.commit(change).await?;
        if let Some(run) = started {
            self.tell(FromServer::Run { run });
        }
        Ok(())
    }

    async fn snapshot(&self, ended: &RunEnded, answer: Result<Reply, String>) -> Result<Snapshot, String> {
        let Reply::Diff { diff, archive, files_changed, added, removed } = answer? else {
            return Err("the runner answered something else".to_owned());
        };
        for blob in [&diff, &archive] {
            // The runner uploaded it: whatever else it names is another session's.
            match self.registry.store().owns_blob(&self.record.uid, blob).await {
                Ok(true) => {}
                Ok(false) => return Err(format!("{blob}: the runner did not upload it")),
                Err(error) => return Err(format!("{blob}: {error}")),
            }
        }
        Ok(Snapshot { run: ended.run.clone(), diff, archive, files_changed, added, removed })
    }
}

/// What the runner's word means for the session.
pub(super) fn finish(ended: &RunEnded) -> Finish {
    let (outcome, reason) = match &ended.end {
        RunEnd::Done => (RunOutcome::Completed, Reason::Finished),
        RunEnd::Interrupted => (RunOutcome::Interrupted, Reason::StoppedByUser),
        RunEnd::TurnLimit => (RunOutcome::Failed, Reason::TurnLimit),
        RunEnd::Timeout => (RunOutcome::Failed, Reason::Timeout),
        RunEnd::BudgetSpent => (RunOutcome::Failed, Reason::BudgetSpent),
        RunEnd::ModelUnauthorized => (RunOutcome::Failed, Reason::ModelUnauthorized),
        RunEnd::ModelUnavailable => (RunOutcome::Failed, Reason::ModelUnavailable),
        RunEnd::WorkspaceFull => (RunOutcome::Failed, Reason::WorkspaceFull),
        RunEnd::WorkspaceInvalid => (RunOutcome::Failed, Reason::WorkspaceInvalid),
        RunEnd::Internal => (RunOutcome::Failed, Reason::Internal),
        RunEnd::Refused => (RunOutcome::Failed, Reason::Other("ModelRefused".to_owned())),
        RunEnd::NotAccepted => (RunOutcome::Failed, Reason::Other("AnswerNotAccepted".to_owned())),
        RunEnd::PersonaFailed => (RunOutcome::Failed, Reason::Other("PersonaFailed".to_owned())),
        RunEnd::Other(other) => (RunOutcome::Failed, Reason::Other(other.clone())),
    };
    Finish { outcome, reason, message: ended.message.clone(), turns: ended.turns }
}
