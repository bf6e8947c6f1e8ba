//! Does what was decided. The pod comes before the status that names it: whoever is interrupted in between finds the pod
//! under its name and goes on.

use super::{
    decide::{Decision, Deed, Since, decide},
    object::{Session, Task},
    pod::{self, Server},
    pods::Seen,
    status,
};
use crate::{
    backoff::Backoff, clock, kinds, leader::Leading, projects::Projects, server::ServerAddress,
    settings::Settings,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ServiceAccount};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
    core::DynamicObject,
    runtime::controller::Action,
};
use model::{id::UnixMillis, lifecycle::Phase};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Without news, an object is looked at again after this: a watch may have missed something.
const AT_LATEST: Duration = Duration::from_secs(10 * 60);
/// Until a server is there that runners can dial.
const SERVER: Duration = Duration::from_secs(2);
/// Until the namespace of a session is a project.
const PROJECT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("a pod cannot be made of this session")]
    Pod(#[from] serde_json::Error),
    #[error("another operator works")]
    NotLeading,
}

pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) leading: Leading,
    pub(crate) projects: Projects,
    pub(crate) server: ServerAddress,
    pub(crate) backoff: Backoff<String>,
    seen: Mutex<HashMap<String, Memory>>,
}

/// What is kept of an object between two looks. Lost with the process, and no harm.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// The object's version after our last write: an older one is not worked by.
    version: u64,
    /// Not connected, in this epoch, since.
    unconnected: Option<(u64, UnixMillis)>,
    /// Ending since.
    draining: Option<UnixMillis>,
}

impl Context {
    pub(crate) fn new(
        client: Client,
        settings: Settings,
        leading: Leading,
        projects: Projects,
        server: ServerAddress,
    ) -> Self {
        let backoff = Backoff::new();
        Self { client, settings, leading, projects, server, backoff, seen: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<String, Memory>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since(&self, session: &Session, now: UnixMillis) -> Since {
        let operator = &session.status.operator;
        let epoch = operator.epoch.unwrap_or(0);
        let connected = session.status.server.work.as_ref().and_then(|work| work.connected_epoch);
        let ending = session.deleting
            || session.desired != model::plan::Desired::Run
            || operator.phase.is_some_and(|phase| {
                phase.is_settled() || matches!(phase, Phase::Stopping | Phase::Suspending)
            });
        let mut memory = self.memory();
        let kept = memory.entry(session.uid.clone()).or_insert(Memory {
            version: 0,
            unconnected: None,
            draining: None,
        });
        if connected == Some(epoch) {
            kept.unconnected = None;
        } else if kept.unconnected.is_none_or(|(of, _)| of != epoch) {
            kept.unconnected = Some((epoch, now));
        }
        kept.draining = if ending { kept.draining.or(Some(now)) } else { None };
        Since {
            unconnected: kept.unconnected.map_or(now, |(_, since)| since),
            draining: kept.draining.unwrap_or(now),
        }
    }

    fn wrote(&self, session: &Session, version: u64) {
        if let Some(memory) = self.memory().get_mut(&session.uid) {
            memory.version = memory.version.max(version);
        }
    }

    fn is_stale(&self, session: &Session) -> bool {
        self.memory().get(&session.uid).is_some_and(|memory| session.version < memory.version)
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn write(&self, session: &Session, document: &Value) -> Result<(), ReconcileError> {
        if !self.leading.holds() {
            return Err(ReconcileError::NotLeading);
        }
        let api = kinds::api(self.client.clone(), &session.namespace, &kinds::session());
        let params = PatchParams::apply(kinds::MANAGER).force();
        match api.patch_status(&session.name, &params, &Patch::Apply(document)).await {
            Ok(written) => {
                let version = written.metadata.resource_version.as_deref().and_then(|v| v.parse().ok());
                self.wrote(session, version.unwrap_or(0));
                Ok(())
            }
            // It is gone, or its name is another's.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

pub(crate) async fn reconcile(
    object: Arc<DynamicObject>,
    context: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let Some(session) = Session::read(&object) else { return Ok(Action::await_change()) };
    let action = one(&session, &context).await?;
    context.backoff.forget(&session.uid);
    Ok(action)
}

/// After an error: later each time.
pub(crate) fn failed(object: Arc<DynamicObject>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let error = telemetry::field::chain(error);
    tracing::warn!(session = %format!("{namespace}/{name}"), error, "a session is tried again later");
    Action::requeue(context.backoff.failed(uid))
}

async fn one(session: &Session, context: &Context) -> Result<Action, ReconcileError> {
    if context.is_stale(session) {
        return Ok(Action::await_change());
    }
    if session.deleting {
        context.memory().remove(&session.uid);
        return Ok(Action::await_change());
    }
    let now = clock::now();
    let settled = session.status.operator.phase.is_some_and(Phase::is_settled);
    let policy = match context.projects.policy(&session.namespace) {
        Ok(policy) => policy,
        Err(why) => {
            if let Some(document) =
                status::refused(session, Phase::Pending, why.word(), &why.to_string(), now)
                && session.status.operator.epoch.is_none()
            {
                context.write(session, &document).await?;
            }
            return Ok(Action::requeue(PROJECT));
        }
    };
    let task = match session.task(&policy) {
        Ok(task) => task,
        Err(invalid) => {
            if !settled
                && let Some(document) =
                    status::refused(session, Phase::Failed, "Invalid", &invalid.to_string(), now)
            {
                context.write(session, &document).await?;
            }
            return Ok(Action::await_change());
        }
    };
    work(session, &task, context, now).await
}

async fn work(
    session: &Session,
    task: &Task,
    context: &Context,
    now: UnixMillis,
) -> Result<Action, ReconcileError> {
    let since = context.since(session, now);
    let pod = current_pod(session, context).await?;
    let Decision { mut next, deeds, again } =
        decide(session, task, pod.as_ref(), now, since, &context.settings.timeouts);
    let mut seen = pod;
    for deed in &deeds {
        if !context.leading.holds() {
            return Err(ReconcileError::NotLeading);
        }
        match deed {
            Deed::CreatePod { epoch } => {
                let Some(server) = context.server.get().await? else {
                    let message = "there is no server yet that a runner could dial: its Service or the certificate of its CA is missing";
                    if let Some(document) = status::without_pod(session, "ServerMissing", message, now) {
                        context.write(session, &document).await?;
                    }
                    return Ok(Action::requeue(SERVER));
                };
                match create_pod(session, task, *epoch, context, &server).await {
                    Ok(made) => {
                        let made = Seen::read(&made);
                        next.pod_name = Some(made.name.clone());
                        next.pod_uid = Some(made.uid.clone());
                        seen = Some(made);
                    }
                    // A quota, an admission policy: it may pass later, and people see why not now.
                    Err(ReconcileError::Api(kube::Error::Api(answer)))
                        if matches!(answer.code, 403 | 422) =>
                    {
                        let reason = if answer.message.contains("exceeded quota") {
                            "QuotaExceeded"
                        } else {
                            "PodRefused"
                        };
                        if let Some(document) = status::without_pod(session, reason, &answer.message, now) {
                            context.write(session, &document).await?;
                        }
                        return Ok(Action::requeue(context.backoff.failed(session.uid.clone())));
                    }
                    Err(error) => return Err(error),
                }
            }
            Deed::DeletePod { name, uid, grace } => {
                let preconditions = Some(Preconditions { uid: Some(uid.clone()), resource_version: None });
                let params =
                    DeleteParams { grace_period_seconds: *grace, preconditions, ..DeleteParams::default() };
                absent_is_fine(context.pods(&session.namespace).delete(name, &params).await.map(drop))?;
            }
            Deed::Remove => {
                let preconditions =
                    Some(Preconditions { uid: Some(session.uid.clone()), resource_version: None });
                let params = DeleteParams { preconditions, ..DeleteParams::default() };
                let api = kinds::api(context.client.clone(), &session.namespace, &kinds::session());
                absent_is_fine(api.delete(&session.name, &params).await.map(drop))?;
                return Ok(Action::await_change());
            }
        }
    }
    if let Some(document) = next.document(session, task, seen.as_ref(), now) {
        if next.phase != session.status.operator.phase.unwrap_or(Phase::Pending) {
            let (phase, reason) = (next.phase, next.reason.word());
            tracing::info!(session = %format!("{}/{}", session.namespace, session.name), %phase, reason, epoch = next.epoch, "moved on");
        }
        context.write(session, &document).await?;
    }
    match again {
        // It rests until somebody wants something of it.
        None if next.phase.is_settled() && seen.is_none() => Ok(Action::await_change()),
        None => Ok(Action::requeue(AT_LATEST)),
        Some(at) => {
            let wait = Duration::from_millis(at.0.saturating_sub(clock::now().0).saturating_add(10));
            Ok(Action::requeue(wait.min(AT_LATEST)))
        }
    }
}

fn absent_is_fine(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
        other => other,
    }
}

/// The pod of the session: the one that its status names, or one that was made and not recorded. Asked of the API server, not
/// of a copy, which may be from before our last write.
async fn current_pod(session: &Session, context: &Context) -> Result<Option<Seen>, ReconcileError> {
    let operator = &session.status.operator;
    let Some(name) = operator.pod_name.clone() else { return Ok(None) };
    let pod = context.pods(&session.namespace).get_opt(&name).await?;
    Ok(pod.as_ref().map(Seen::read))
}

async fn create_pod(
    session: &Session,
    task: &Task,
    epoch: u64,
    context: &Context,
    server: &Server,
) -> Result<Pod, ReconcileError> {
    if pod::is_persistent(task) {
        let claims = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &session.namespace);
        there_is_fine(claims.create(&PostParams::default(), &pod::claim(session, task)?).await.map(drop))?;
    }
    let wanted = pod::pod(session, task, epoch, &context.settings.images, server)?;
    let pods = context.pods(&session.namespace);
    let mut created = pods.create(&PostParams::default(), &wanted).await;
    if matches!(&created, Err(kube::Error::Api(answer)) if answer.code == 403 && answer.message.contains("serviceaccount"))
    {
        make_account(session, context).await?;
        created = pods.create(&PostParams::default(), &wanted).await;
    }
    match created {
        // Made before, and not recorded.
        Err(kube::Error::Api(answer)) if answer.code == 409 => {
            Ok(pods.get(&pod::name(session, epoch)).await?)
        }
        other => Ok(other?),
    }
}

/// The account of runners: it may do nothing, and its tokens say which pod they are of.
async fn make_account(session: &Session, context: &Context) -> Result<(), ReconcileError> {
    let metadata = ObjectMeta { name: Some(pod::ACCOUNT.to_owned()), ..ObjectMeta::default() };
    let account = ServiceAccount {
        metadata,
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    let accounts = Api::<ServiceAccount>::namespaced(context.client.clone(), &session.namespace);
    Ok(there_is_fine(accounts.create(&PostParams::default(), &account).await.map(drop))?)
}

fn there_is_fine(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(()),
        other => other,
    }
}
