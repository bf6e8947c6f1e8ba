//! What sessions need of others: how a runner is started, and what it is given.

use futures::future::BoxFuture;
use model::{
    Untrusted,
    event::{PinnedPlugin, Warning},
    id::{Digest, Epoch, PersonaKey, PluginId, ProjectName, ProjectUid, Seq, SessionRef, SessionUid},
    lifecycle::{Phase, Reason},
    plan::Desired,
};
use protocol::control::{PluginBinding, SessionPolicy};
use resources::{Source, session::status::ServerStatus};
use secrecy::SecretString;
use std::{collections::BTreeSet, sync::Arc};

/// Who decides what becomes of a session's runner.
#[derive(Clone)]
pub enum Life {
    /// The session's own plan.
    Planned,
    /// Somebody else, who says so with [`Sessions::take_up`](super::Sessions::take_up).
    Followed(Arc<dyn Elsewhere>),
}

/// Whoever decides about sessions elsewhere: on a cluster, its operator through the session's object.
pub trait Elsewhere: Send + Sync + 'static {
    /// The runner that holds this token, if it is the one that is to be listened to.
    fn prove(&self, token: SecretString) -> BoxFuture<'_, Option<(SessionUid, Epoch)>>;

    /// What has become of a session's runs; called after each change of it, and returns at once. `may_wait`: nobody decides
    /// by it at once, so it may go with what comes next.
    fn tell(&self, session: &SessionRef, uid: &SessionUid, status: ServerStatus, may_wait: bool);
}

/// What was decided elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What a person wants.
    pub desired: Desired,
    pub phase: Phase,
    pub reason: Reason,
    pub message: Untrusted,
    /// Of the runner that is to be listened to.
    pub epoch: Epoch,
    /// The pod that it is in, where runners are in pods.
    pub pod: Option<String>,
    /// How much of the session's log it was decided by.
    pub observed: Seq,
    /// The session is no more.
    pub gone: bool,
}

/// Starts and ends runners. One per way of running them.
pub trait Launcher: Send + Sync + 'static {
    /// What speaks against a workspace before there is a session, for people; nothing where nothing can be known then.
    /// [`Launcher::start`] asks again.
    fn refuses(&self, _workspace: Source) -> BoxFuture<'_, Option<String>> {
        Box::pin(async { None })
    }

    /// Makes the workspace, if it was not made, and starts a runner that dials in. Returns when it was started, with what
    /// the person should know.
    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<Vec<Warning>, LaunchError>>;

    /// After the server was started again: whether a runner of this epoch may still live and dial in. Then `exited` is
    /// called when it ends.
    fn adopt(&self, uid: SessionUid, epoch: Epoch, exited: Exited) -> BoxFuture<'_, bool>;

    /// Ends the runner and everything that it started; returns when it is gone. Nothing to do if it is.
    fn kill(&self, uid: SessionUid, epoch: Epoch) -> BoxFuture<'_, ()>;

    /// Removes what was kept for the session.
    fn remove(&self, uid: SessionUid) -> BoxFuture<'_, std::io::Result<()>>;
}

/// Called once, with what is known of why.
pub type Exited = Box<dyn FnOnce(String) + Send>;

pub struct Launch {
    pub uid: SessionUid,
    pub epoch: Epoch,
    /// What the runner authenticates with; never in an environment or an argument.
    pub token: SecretString,
    pub workspace: Source,
    /// Bytes that the workspace may have.
    pub workspace_bytes: u64,
    /// The runner's first word has to say what its launcher can keep, which takes the time of the canaries.
    pub needs_programs: bool,
    pub exited: Exited,
}

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Trying again does not help: the session fails with this.
    #[error("{message}")]
    Hopeless { reason: Reason, message: String },
    #[error("{0}")]
    Failed(String),
}

/// What a session is to run with.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub project: ProjectName,
    pub persona: Option<PersonaKey>,
    /// As asked for; `None`: the default.
    pub model: Option<String>,
    pub max_output_tokens: Option<u32>,
    /// Only these plugins.
    pub plugins: Option<BTreeSet<PluginId>>,
    /// What was bound before: the same digests again. Empty at the first binding.
    pub pins: Vec<PinnedPlugin>,
    /// Of the runner that is to load it.
    pub engine_id: String,
    pub target: String,
}

/// What a runner is bound to.
#[derive(Debug, Clone)]
pub struct Material {
    pub model: String,
    pub context_tokens: u64,
    pub max_output_tokens: u32,
    pub plugins: Vec<PluginBinding>,
    /// Public key of the artefacts' signatures, hex.
    pub artifact_key: String,
    pub policy: SessionPolicy,
}

/// Something that the session cannot run without is not there.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Missing {
    pub reason: Reason,
    /// For people: says what to do.
    pub message: String,
}

/// Where plugins, personas, models and a project's policy come from.
pub trait Surroundings: Send + Sync + 'static {
    /// May take long: plugins are compiled before their first use.
    fn material(&self, wanted: Wanted) -> BoxFuture<'_, Result<Material, Missing>>;

    /// Which project of this name there is now.
    fn uid(&self, project: &ProjectName) -> Option<ProjectUid>;

    /// Native code by its digest.
    fn artifact(&self, digest: Digest) -> BoxFuture<'_, Option<bytes::Bytes>>;

    /// The project's policy as it is now: where it names hosts, no approval is needed.
    fn policy(&self, project: ProjectName) -> BoxFuture<'_, SessionPolicy>;
}
