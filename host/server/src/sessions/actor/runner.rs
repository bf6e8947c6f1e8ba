//! What a runner says, and what becomes of it.

use super::{Actor, Answer};
use crate::sessions::link::ConnectionId;
use model::{
    event::{Author, Event, Live, Origin},
    id::Epoch,
    lifecycle::{Reason, Trigger},
};
use protocol::{
    control::{Ask, FromRunner, FromServer, Reply, RequestError, Sequenced},
    http::FetchRequest,
};
use std::sync::Arc;
use store::{AppendError, NewEvent};

/// Families of kinds that only the server writes: one of them that does not parse is no kind of tomorrow.
const FAMILIES: [&str; 7] = ["session.", "run.", "user.", "runner.", "approval.", "question.", "workspace."];

impl Actor {
    pub(super) async fn said(&mut self, connection: ConnectionId, message: FromRunner) {
        let Some(link) = self.link.as_mut().filter(|link| link.id == connection) else { return };
        match message {
            FromRunner::Events { events } => self.events(events).await,
            FromRunner::Live { live } => self.show(live),
            FromRunner::Ask { ask } => self.asked(ask).await,
            FromRunner::Response { id, result } => self.response(id, result),
            FromRunner::Bye { message } => {
                link.bye = true;
                let message = model::render::line(&message, 200);
                tracing::info!(session = %self.record.reference, message, "the runner says good-bye");
            }
            FromRunner::Hello { .. } => self.breach(connection, "a second hello".to_owned()).await,
            FromRunner::Unknown(_) => tracing::warn!(session = %self.record.reference, "an unknown message"),
        }
    }

    fn show(&self, live: Live) {
        self.live.send(self.story.last, live);
    }

    async fn events(&mut self, events: Vec<Sequenced>) {
        let epoch = self.record.state.epoch;
        let mut expected = self.story.said(epoch);
        for Sequenced { runner_seq, event } in &events {
            if *runner_seq > expected.next() {
                return self.end_breach(&format!("event {runner_seq} came after event {expected}")).await;
            }
            expected = expected.max(*runner_seq);
            if !may_write(event) {
                return self.end_breach("an event of a kind that only the server writes").await;
            }
        }
        let Some(last) = events.last().map(|event| event.runner_seq) else { return };
        let mut change = self.change();
        change.events = events.into_iter().map(|event| new_event(epoch, event)).collect();
        match self.commit(change).await {
            Ok(()) => self.tell(FromServer::Ack { runner_seq: last }),
            Err(error) => self.refused(error).await,
        }
    }

    async fn refused(&mut self, error: AppendError) {
        match error {
            AppendError::Quota { limit } => {
                let message = format!("the session has stored its {limit} bytes of events");
                self.fail_or_log(Reason::Other("EventQuota".to_owned()), &message).await;
            }
            AppendError::Fenced { .. } | AppendError::Gone => {
                let message = "this runner's epoch is over".to_owned();
                self.tell(FromServer::Refused { message, retry: false });
                self.unlink();
            }
            AppendError::Store(_) => self.cannot_write(&error),
        }
    }

    /// The runner is to come back and say it again: it keeps what was not acknowledged.
    pub(super) fn cannot_write(&mut self, error: &AppendError) {
        let error = telemetry::field::chain(error);
        tracing::error!(session = %self.record.reference, error, "what the runner said cannot be written");
        self.unlink();
    }

    async fn asked(&mut self, ask: Ask) {
        let id = ask.id().clone();
        if let Some(decided) = self.story.decided.get(&id).cloned() {
            return self.tell(FromServer::Decided { decided });
        }
        if let Some(answered) = self.story.answered.get(&id).cloned() {
            return self.tell(FromServer::Answered { answered });
        }
        if self.record.state.run.is_none() {
            return;
        }
        let reason = match &ask {
            Ask::Approval(request) if request.subject.digest() != request.subject_digest => {
                return self.end_breach("an approval whose subject is not what its digest says").await;
            }
            Ask::Approval(_) => Reason::ApprovalPending,
            Ask::Question(_) => Reason::QuestionPending,
        };
        let mut change = self.change();
        if !self.story.is_pending(&id) {
            change.push(match ask {
                Ask::Approval(request) => Event::ApprovalRequested(*request),
                Ask::Question(question) => Event::QuestionAsked(question),
            });
        }
        change.step(Trigger::Asked, reason, "");
        if change.events.is_empty() {
            return;
        }
        if let Err(error) = self.commit(change).await {
            self.refused(error).await;
        }
    }

    fn response(&mut self, id: u64, result: Result<Reply, RequestError>) {
        if self.ending_answered(id, &result) {
            return;
        }
        if let Some(reply) = self.requests.remove(&id) {
            let _ = reply.send(Ok(result));
        }
    }

    pub(super) fn may_fetch(&self, request: &FetchRequest, reply: Answer<bool>) {
        let bypass = self.accepted.mode == model::grant::PermissionMode::Bypass;
        let under_way = self.record.state.run.as_ref() == Some(&request.run);
        if !under_way || bypass || self.story.may_fetch(&request.call, &request.method, &request.url) {
            let _ = reply.send(under_way);
            return;
        }
        let (registry, project) = (Arc::clone(&self.registry), self.record.reference.project.clone());
        let url = request.url.clone();
        self.registry.spawn(async move {
            let policy = registry.surroundings.policy(project).await;
            let _ = reply.send(names_host(&policy.fetch_hosts, &url));
        });
    }

    pub(super) async fn breach(&mut self, connection: ConnectionId, message: String) {
        if self.link.as_ref().is_some_and(|link| link.id == connection) {
            self.end_breach(&message).await;
        }
    }

    async fn end_breach(&mut self, message: &str) {
        let told = FromServer::Refused { message: message.to_owned(), retry: false };
        self.tell(told);
        let message = format!("the runner broke the protocol: {message}");
        self.fail_or_log(Reason::Other("ProtocolBreach".to_owned()), &message).await;
        self.unlink();
        self.kill_now();
    }

    /// The session ends with this; the runner is ended by the plan that follows.
    pub(super) async fn fail_or_log(&mut self, reason: Reason, message: &str) {
        tracing::warn!(session = %self.record.reference, ?reason, message, "the session fails");
        if let Err(error) = self.fail(reason, message).await {
            let error = telemetry::field::chain(&error);
            tracing::error!(session = %self.record.reference, error, "and that cannot be written");
        }
    }
}

fn new_event(epoch: Epoch, event: Sequenced) -> NewEvent {
    let Sequenced { runner_seq, event } = event;
    NewEvent { origin: Some(Origin { epoch, runner_seq }), event }
}

/// Whether a runner may write this kind.
fn may_write(event: &Event) -> bool {
    match (event.author(), event) {
        (Some(author), _) => author == Author::Runner,
        (None, Event::Unknown(unknown)) => {
            unknown.kind != "usage" && !FAMILIES.iter().any(|family| unknown.kind.starts_with(family))
        }
        (None, _) => false,
    }
}

/// Whether `hosts` (each `host` or `host:port`) name this URL's host.
fn names_host(hosts: &[String], url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else { return false };
    let Some(host) = url.host_str() else { return false };
    let with_port = url.port_or_known_default().map(|port| format!("{host}:{port}"));
    let default_port = url.port().is_none();
    hosts.iter().any(|named| default_port && named == host || Some(named) == with_port.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_server_writes_its_kinds() {
        let check = |event: serde_json::Value, expected: bool| {
            let parsed: Event = serde_json::from_value(event.clone()).unwrap();
            assert_eq!(may_write(&parsed), expected, "{event}");
        };
        check(json!({"kind": "run.ended", "data": {"run": "r", "end": "done", "turns": 1}}), true);
        check(
            json!({"kind": "run.finished", "data": {"run": "r", "outcome": "completed", "reason": "Finished"}}),
            false,
        );
        check(json!({"kind": "run.finished", "data": {"broken": true}}), false);
        check(
            json!({"kind": "approval.decided", "data": {"id": "a", "decision": "once", "decidedBy": "x"}}),
            false,
        );
        check(json!({"kind": "usage", "data": {}}), false);
        check(json!({"kind": "of.tomorrow", "data": {}}), true);
    }

    #[test]
    fn hosts_are_named_exactly() {
        let check = |host: &str, url: &str, expected: bool| {
            assert_eq!(names_host(&[host.to_owned()], url), expected, "{host} {url}");
        };
        check("docs.example", "https://docs.example/a", true);
        check("docs.example", "https://evil.docs.example/a", false);
        check("docs.example", "https://docs.example:8443/a", false);
        check("docs.example:8443", "https://docs.example:8443/a", true);
        check("docs.example:443", "https://docs.example/a", true);
        check("docs.example", "https://docs.example@evil.example/", false);
    }
}
