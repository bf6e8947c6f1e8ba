//! A runner dials in and is told who it is.

use super::{Actor, Command, Link};
use crate::sessions::{
    error::ConnectError,
    link::{ConnectionId, Hello, ToRunner},
    seams::{Life, Material, Missing, Wanted},
};
use model::{
    event::{Event, PinnedPlugin, RunnerBound},
    id::{Epoch, RunnerSeq},
    lifecycle::{Reason, Trigger},
    limits::Limits,
    plan::Runner,
};
use protocol::{
    control::{Binding, FromServer, Purpose, SessionPolicy, VERSIONS, WorkspaceSource},
    exec::{Network, Property},
};
use resources::{ProcessNetwork, Source};
use std::sync::Arc;
use store::AppendError;

const WORKSPACE_LOST: &str = "the workspace was not persistent and ended with the pod that the session's runner was in before; make \
    a new session, with workspace.persistent where it has to outlive a pod";

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
        if self.is_without_workspace() && !link.bound {
            return self.fail_or_log(Reason::WorkspaceLost, WORKSPACE_LOST).await;
        }
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

    /// The pod of the runner of this epoch, as far as whoever started it says.
    fn pod(&self) -> Option<String> {
        let decided = self.decided.as_ref().filter(|decided| decided.epoch == self.record.state.epoch);
        decided.and_then(|decided| decided.pod.clone())
    }

    /// Whoever started this runner did not hear that one in another pod was given the session before: what that one left
    /// ended with its pod.
    fn is_without_workspace(&self) -> bool {
        let before = self.record.state.pod.as_ref().filter(|_| !self.accepted.persistent);
        before.zip(self.pod()).is_some_and(|(before, now)| *before != now)
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
        change.state.pod = self.pod().or(change.state.pod.take());
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
}

/// Why native programs cannot be run where this was found; what nobody said does not hold.
fn not_confined(found: &[Property]) -> Option<String> {
    if found.is_empty() {
        return Some("what runs them did not say what it can keep from them; is its image there?".to_owned());
    }
    let Property { name, detail, .. } = found.iter().find(|property| !property.holds)?;
    Some(format!("{name} does not hold ({detail})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::exec::PropertyName;

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
}
