//! What a runner says, and what becomes of it.

use super::{Actor, Answer, Command, Link, ending::Ending};
use crate::sessions::{
    error::ConnectError,
    link::{ConnectionId, Hello, ToRunner},
    registry,
    seams::{LaunchError, Life, Material, Missing, Wanted},
};
use model::{
    event::{Author, Event, Live, Origin, PinnedPlugin, RunnerBound, Warning},
    id::{Epoch, RunnerSeq},
    lifecycle::{Phase, Reason, Trigger},
    limits::Limits,
    plan::Runner,
};
use protocol::{
    control::{
        Ask, Binding, FromRunner, FromServer, Purpose, Reply, RequestError, Sequenced, SessionPolicy,
        VERSIONS, WorkspaceSource,
    },
    exec::{Network, Property},
    http::FetchRequest,
};
use resources::{ProcessNetwork, Source};
use std::sync::Arc;
use store::{AppendError, NewEvent};

/// Families of kinds that only the server writes: one of them that does not parse is no kind of tomorrow.
const FAMILIES: [&str; 7] = ["session.", "run.", "user.", "runner.", "approval.", "question.", "workspace."];

impl Actor {
    pub(super) fn connect(
        &mut self,
        epoch: Epoch,
        hello: Hello,
        to: ToRunner,
    ) -> Result<ConnectionId, ConnectError> {
        let state = &self.record.state;
        if epoch != state.epoch || state.fence > epoch || self.killing.is_some() {
            // Where somebody else counts, this may be the process that comes next and was not counted yet.
            let followed = matches!(self.registry.life, Life::Followed(_)) && !state.phase.is_settled();
            return Err(if followed { ConnectError::NotYet } else { ConnectError::Stale });
        }
        if state.phase.is_settled() {
            return Err(ConnectError::NotWanted);
        }
        let version = VERSIONS.agree(hello.versions).ok_or(ConnectError::Version)?;
        let resumes = hello.resumes.is_some_and(|resume| resume.epoch == epoch);
        if !resumes && self.story.said(epoch) > RunnerSeq(0) {
            // Another process than the one that spoke under this epoch: its own epoch is on its way.
            return Err(ConnectError::NotYet);
        }
        let id = ConnectionId(self.next_id());
        tracing::info!(session = %self.record.reference, %epoch, resumes, "runner dialled in");
        // A connection that is replaced ends with its sender.
        self.link = Some(Link { id, to, hello, bound: resumes, revoked: vec![], bye: false });
        self.runner = Runner::Connected { epoch };
        self.give_up_snapshot();
        self.tell(FromServer::Welcome { version });
        if resumes {
            self.tell(FromServer::Ack { runner_seq: self.story.said(epoch) });
            self.count_from_now();
            self.go_on();
        }
        self.fetch_material(id);
        Ok(id)
    }

    fn fetch_material(&self, connection: ConnectionId) {
        let Some(link) = &self.link else { return };
        let wanted = Wanted {
            project: self.record.reference.project.clone(),
            persona: self.accepted.persona.clone(),
            model: self.accepted.model.clone(),
            max_output_tokens: self.accepted.max_output_tokens,
            plugins: self.accepted.plugins.clone(),
            pins: self.record.state.pins.clone(),
            engine_id: link.hello.engine_id.clone(),
            target: link.hello.target.clone(),
        };
        let (registry, uid) = (Arc::clone(&self.registry), self.record.uid.clone());
        self.registry.spawn(async move {
            let material = Box::new(registry.surroundings.material(wanted).await);
            registry.tell(&uid, Command::Material { connection, material }).await;
        });
    }

    /// Tells a runner who it is, once it is known what it is to run.
    pub(super) async fn bind(&mut self, connection: ConnectionId, material: Result<Material, Missing>) {
        let Some(link) = self.link.as_ref().filter(|link| link.id == connection) else { return };
        let material = match material {
            Ok(material) => material,
            Err(missing) => return self.fail_or_log(missing.reason, &missing.message).await,
        };
        if self.accepted.needs_programs
            && let Some(why) = not_confined(&link.hello.confinement)
        {
            let message = format!("native programs are refused here: {why}");
            return self.fail_or_log(Reason::NotConfined, &message).await;
        }
        self.artifacts =
            material.plugins.iter().map(|plugin| plugin.artifact.statement.artifact.clone()).collect();
        if link.bound {
            return;
        }
        let version = link.hello.runner_version.clone();
        if let Err(error) = self.commit_binding(version, &material).await {
            return self.cannot_write(&error);
        }
        let binding = Box::new(self.binding(material));
        self.tell(FromServer::Bind { binding });
        if let Some(link) = &mut self.link {
            link.bound = true;
        }
        self.go_on();
    }

    /// Before each call of the model, so that a revocation reaches a run under way.
    pub(super) async fn tell_revoked(&mut self) {
        let policy = self.registry.surroundings.policy(self.record.reference.project.clone()).await;
        let Some(link) = self.link.as_mut().filter(|link| link.bound && link.revoked != policy.revoked)
        else {
            return;
        };
        link.revoked.clone_from(&policy.revoked);
        self.tell(FromServer::Revoked { digests: policy.revoked });
    }

    async fn commit_binding(&mut self, version: String, material: &Material) -> Result<(), AppendError> {
        let pin = |plugin: &protocol::control::PluginBinding| PinnedPlugin {
            id: plugin.id.clone(),
            version: plugin.version.clone(),
            digest: plugin.digest.clone(),
        };
        let plugins: Vec<_> = material.plugins.iter().map(pin).collect();
        let mut change = self.change();
        change.state.pins.clone_from(&plugins);
        let epoch = change.state.epoch;
        change.push(Event::RunnerBound(RunnerBound { epoch, runner_version: version.into(), plugins }));
        if change.state.run.is_some() {
            change.step(Trigger::RunBegun, Reason::Working, "");
        } else {
            change.step(Trigger::RunIdle, Reason::MessageAwaited, "");
        }
        self.commit(change).await
    }

    fn binding(&self, material: Material) -> Binding {
        let Material { model, context_tokens, max_output_tokens, plugins, artifact_key, policy } = material;
        let accepted = &self.accepted;
        Binding {
            session: self.record.reference.clone(),
            uid: self.record.uid.clone(),
            epoch: self.record.state.epoch,
            interactive: accepted.interactive,
            mode: accepted.mode,
            purpose: if accepted.analyse { Purpose::Analyse } else { Purpose::Act },
            persona: accepted.persona.clone(),
            model,
            context_tokens,
            max_output_tokens,
            limits: self.limits(),
            plugins,
            artifact_key,
            workspace: match &accepted.workspace {
                Source::Archive { blob } => WorkspaceSource::Archive { blob: blob.clone() },
                Source::Empty | Source::Dir { .. } | Source::InPlace { .. } => WorkspaceSource::Prepared,
            },
            policy: SessionPolicy {
                process_network: match accepted.process_network {
                    ProcessNetwork::None => Network::None,
                    ProcessNetwork::Loopback => Network::Loopback,
                },
                ..policy
            },
            environment: accepted.environment.clone(),
            cursor: self.story.last,
        }
    }

    fn limits(&self) -> Limits {
        let mut limits = self.registry.settings.limits;
        let session = &mut limits.session;
        session.run_ms = u64::try_from(self.run_limit().as_millis()).unwrap_or(u64::MAX);
        session.max_turns = self.accepted.max_turns.unwrap_or(session.max_turns).min(session.max_turns);
        session.workspace_bytes = self.workspace_bytes();
        limits
    }

    pub(super) fn workspace_bytes(&self) -> u64 {
        let most = self.registry.settings.limits.session.workspace_bytes;
        self.accepted.workspace_bytes.unwrap_or(most).min(most)
    }

    /// Has a bound runner work on the run under way. Idempotent for the runner.
    fn go_on(&self) {
        if let Some(run) = self.record.state.run.clone()
            && self.story.ended.is_none()
        {
            self.tell(FromServer::Run { run });
        }
    }

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
    fn cannot_write(&mut self, error: &AppendError) {
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
    async fn fail_or_log(&mut self, reason: Reason, message: &str) {
        tracing::warn!(session = %self.record.reference, ?reason, message, "the session fails");
        if let Err(error) = self.fail(reason, message).await {
            let error = telemetry::field::chain(&error);
            tracing::error!(session = %self.record.reference, error, "and that cannot be written");
        }
    }

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

    fn kill_now(&mut self) {
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

fn new_event(epoch: Epoch, event: Sequenced) -> NewEvent {
    let Sequenced { runner_seq, event } = event;
    NewEvent { origin: Some(Origin { epoch, runner_seq }), event }
}

/// Why native programs cannot be run where this was found; what nobody said does not hold.
fn not_confined(found: &[Property]) -> Option<String> {
    if found.is_empty() {
        return Some("what runs them did not say what it can keep from them; is its image there?".to_owned());
    }
    let Property { name, detail, .. } = found.iter().find(|property| !property.holds)?;
    Some(format!("{name} does not hold ({detail})"))
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
    use protocol::exec::PropertyName;
    use serde_json::json;

    #[test]
    fn what_programs_need_is_said_or_refused() {
        let property = |holds| Property {
            name: PropertyName::Files,
            mechanism: "Landlock".to_owned(),
            holds,
            detail: "no Landlock".to_owned(),
        };
        assert!(not_confined(&[]).unwrap().contains("did not say"));
        assert_eq!(not_confined(&[property(true)]), None);
        let why = not_confined(&[property(true), property(false)]).unwrap();
        assert!(why.contains("does not hold (no Landlock)"), "{why}");
    }

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
