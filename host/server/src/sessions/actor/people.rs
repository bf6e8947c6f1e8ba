//! What people ask of a session.

use super::{Actor, Answer, FilesAnswer};
use crate::sessions::{
    change::Finish,
    error::SessionError,
    registry,
    view::{Caller, SessionView},
};
use model::{
    approval::Decision,
    event::{ApprovalDecided, Event, QuestionAnswered},
    id::{AskId, MessageId, RunId},
    lifecycle::{Reason, Trigger},
    message::Block,
    plan::Desired,
};
use protocol::control::{Ask, FromServer, Request};
use serde_json::Value;

impl Actor {
    fn refuse_if_deleting(&self) -> Result<(), SessionError> {
        if self.record.state.desired == Desired::Delete {
            return Err(SessionError::Conflict("the session is being deleted".to_owned()));
        }
        Ok(())
    }

    pub(super) async fn send(
        &mut self,
        who: &Caller,
        content: Vec<Block>,
    ) -> Result<(RunId, MessageId), SessionError> {
        self.refuse_if_deleting()?;
        if self.view().workspace_gone {
            return Err(SessionError::WorkspaceGone);
        }
        let queued = registry::queued(&who.name, content);
        let ids = (queued.run.clone(), queued.message.clone());
        let mut change = self.change();
        change.state.desired = Desired::Run;
        change.state.queue.push(queued);
        let begun = change.begin_next();
        if begun.is_none() && change.state.phase.is_settled() {
            // Suspended in mid-run: that run goes on first.
            change.wake();
        }
        self.commit(change).await?;
        if let Some(run) = begun
            && self.drain.is_none()
        {
            self.tell(FromServer::Run { run });
        }
        Ok(ids)
    }

    pub(super) async fn interrupt(&mut self, run: Option<RunId>) -> Result<RunId, SessionError> {
        let under_way = self.record.state.run.clone();
        let Some(current) = under_way.filter(|current| run.is_none_or(|run| run == *current)) else {
            return Err(SessionError::Conflict("no such run is under way".to_owned()));
        };
        if self.link.as_ref().is_some_and(|link| link.bound) {
            self.tell(FromServer::Interrupt { run: current.clone() });
        } else {
            let mut change = self.change();
            change.conclude(Finish::interrupted(), self.afterwards());
            self.commit(change).await?;
        }
        Ok(current)
    }

    pub(super) async fn decide(
        &mut self,
        who: &Caller,
        ask: AskId,
        decision: Decision,
    ) -> Result<(), SessionError> {
        self.refuse_if_deleting()?;
        match self.story.decided.get(&ask) {
            Some(decided) if decided.decision == decision => return Ok(()),
            Some(_) => return Err(SessionError::Conflict("this was decided already".to_owned())),
            None => {}
        }
        if !self.story.pending.iter().any(|open| matches!(open, Ask::Approval(request) if request.id == ask))
        {
            return Err(SessionError::NothingPending);
        }
        let decided = ApprovalDecided { id: ask, decision, decided_by: who.name.clone() };
        self.close_ask(Event::ApprovalDecided(decided.clone())).await?;
        self.tell(FromServer::Decided { decided });
        Ok(())
    }

    pub(super) async fn answer(
        &mut self,
        who: &Caller,
        ask: AskId,
        answer: Value,
    ) -> Result<(), SessionError> {
        self.refuse_if_deleting()?;
        match self.story.answered.get(&ask) {
            Some(answered) if answered.answer == answer => return Ok(()),
            Some(_) => return Err(SessionError::Conflict("this was answered already".to_owned())),
            None => {}
        }
        if !self
            .story
            .pending
            .iter()
            .any(|open| matches!(open, Ask::Question(question) if question.id == ask))
        {
            return Err(SessionError::NothingPending);
        }
        let answered = QuestionAnswered { id: ask, answer, answered_by: who.name.clone() };
        self.close_ask(Event::QuestionAnswered(answered.clone())).await?;
        self.tell(FromServer::Answered { answered });
        Ok(())
    }

    async fn close_ask(&mut self, event: Event) -> Result<(), SessionError> {
        let mut change = self.change();
        change.push(event);
        if self.story.pending.len() == 1 {
            change.step(Trigger::Answered, Reason::Working, "");
        }
        Ok(self.commit(change).await?)
    }

    pub(super) async fn desire(&mut self, desired: Desired) -> Result<SessionView, SessionError> {
        self.refuse_if_deleting()?;
        let mut change = self.change();
        change.want(desired);
        self.commit(change).await?;
        self.advance().await;
        Ok(self.view())
    }

    pub(super) async fn delete(&mut self, reply: Answer<Result<(), SessionError>>) {
        let mut change = self.change();
        change.state.desired = Desired::Delete;
        match self.commit(change).await {
            Ok(()) => self.deleting.push(reply),
            Err(error) => drop(reply.send(Err(error.into()))),
        }
    }

    pub(super) fn files(&mut self, request: Request, reply: Answer<FilesAnswer>) {
        if self.link.as_ref().is_some_and(|link| link.bound && !link.bye) {
            let id = self.next_id();
            self.requests.retain(|_, waiting| !waiting.is_closed());
            self.requests.insert(id, reply);
            self.tell(FromServer::Request { id, request });
        } else {
            let _ = reply.send(Err(self.record.state.snapshot.clone()));
        }
    }
}
