//! Sessions as objects, written with the caller's own token: whether they may is the API server's to say.

use crate::{
    callers::{Clients, refused},
    objects::{CREATED_BY, Seen},
    projects::Namespaces,
    refusals::Refusals,
};
use futures::future::BoxFuture;
use kinds::Lenient;
use kube::{
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::DynamicObject,
};
use model::{
    id::{ProjectName, SessionRef},
    plan::Desired,
};
use resources::{condition, session::OperatingMode};
use serde_json::{Value, json};
use server::{
    problem::Problem,
    records::{Record, Records, Refused},
    sessions::{Caller, NewSession, SessionError, SessionView, Sessions},
    settings::Projects as _,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// The watch tells of an object long before.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
const HEARD_EVERY: Duration = Duration::from_millis(50);

pub(crate) struct Objects {
    clients: Arc<Clients>,
    namespaces: Arc<Namespaces>,
    refusals: Arc<Refusals>,
}

impl Objects {
    pub(crate) fn new(clients: Arc<Clients>, namespaces: Arc<Namespaces>, refusals: Arc<Refusals>) -> Self {
        Self { clients, namespaces, refusals }
    }

    /// What was written is taken up at once, and again when the watch tells of it.
    async fn take_up(&self, sessions: &Sessions, object: &DynamicObject) -> Result<SessionRef, Problem> {
        let seen = Seen::read(object, false)
            .ok_or_else(|| Problem::internal("the API server answered without name or uid"))?;
        let project = self.namespaces.get(&seen.reference.project)?;
        let accepted = seen.accept(&project.policy)?;
        sessions.take_up(&seen.uid, Some(accepted), seen.decided).await?;
        Ok(seen.reference)
    }

    async fn create(
        &self,
        sessions: &Sessions,
        caller: &Caller,
        project: &ProjectName,
        new: NewSession,
    ) -> Result<SessionView, Problem> {
        let NewSession { name, generate_name, spec } = new;
        let kind = kinds::session();
        let mut object = DynamicObject::new("", &kind).within(project.as_str());
        object.metadata.name = name.map(|name| name.to_string());
        object.metadata.generate_name = generate_name.filter(|_| object.metadata.name.is_none());
        object.metadata.labels = Some(spec.labels.clone());
        object.metadata.annotations = Some([(CREATED_BY.to_owned(), caller.name.raw().to_owned())].into());
        object.data = json!({"spec": spec.spec});
        let api = kinds::api(self.clients.of(caller)?, project.as_str(), &kind);
        let made = api.create(&PostParams::default(), &object).await.map_err(|error| refused(&error))?;
        let reference = self.take_up(sessions, &made).await?;
        Ok(sessions.get(&reference).await?)
    }

    async fn want(
        &self,
        sessions: &Sessions,
        caller: &Caller,
        session: &SessionRef,
        desired: Desired,
    ) -> Result<SessionView, Problem> {
        let mode = match desired {
            Desired::Run => OperatingMode::Running,
            Desired::Suspend => OperatingMode::Suspended,
            Desired::Stop => OperatingMode::Stopped,
            Desired::Delete => return Err(Problem::internal("a session is deleted by removing it")),
        };
        let view = sessions.get(session).await?;
        let api = kinds::lenient(self.clients.of(caller)?, session.project.as_str(), &kinds::session());
        let patch = json!({"metadata": {"uid": view.record.uid}, "spec": {"operatingMode": mode}});
        let patched = api.patch(session.name.as_str(), &PatchParams::default(), &Patch::Merge(&patch)).await;
        let Lenient(object) = patched.map_err(|error| refused(&error))?;
        self.take_up(sessions, &object).await?;
        Ok(sessions.get(session).await?)
    }

    /// An error is the handler's to tell.
    async fn is_known(&self, sessions: &Sessions, session: &SessionRef) -> bool {
        let refused = || self.refusals.of(&session.project).iter().any(|one| one.reference == *session);
        !matches!(sessions.store().session(session).await, Ok(None)) || refused()
    }

    async fn is_written(&self, caller: &Caller, session: &SessionRef) -> bool {
        let Ok(client) = self.clients.of(caller) else { return false };
        let api = kinds::lenient(client, session.project.as_str(), &kinds::session());
        matches!(api.get_opt(session.name.as_str()).await, Ok(Some(_)))
    }

    async fn heard_of(&self, sessions: &Sessions, caller: &Caller, session: &SessionRef) {
        if self.is_known(sessions, session).await || !self.is_written(caller, session).await {
            return;
        }
        let until = Instant::now() + HEARD_WITHIN;
        while Instant::now() < until && !self.is_known(sessions, session).await {
            sleep(HEARD_EVERY).await;
        }
    }
}

/// The conditions that are fields without effect: whatever is no type of a writer's own.
fn warnings(object: &DynamicObject) -> Vec<Value> {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let own = |kind: &str| condition::operator::ALL.contains(&kind) || condition::server::ALL.contains(&kind);
    let told = conditions.into_iter().flatten();
    told.filter(|one| one["type"].as_str().is_some_and(|kind| !own(kind))).cloned().collect()
}

impl Records for Objects {
    fn create<'a>(
        &'a self,
        sessions: &'a Sessions,
        caller: &'a Caller,
        project: &'a ProjectName,
        new: NewSession,
    ) -> BoxFuture<'a, Result<SessionView, Problem>> {
        Box::pin(self.create(sessions, caller, project, new))
    }

    fn want<'a>(
        &'a self,
        sessions: &'a Sessions,
        caller: &'a Caller,
        session: &'a SessionRef,
        desired: Desired,
    ) -> BoxFuture<'a, Result<SessionView, Problem>> {
        Box::pin(self.want(sessions, caller, session, desired))
    }

    fn wake<'a>(
        &'a self,
        sessions: &'a Sessions,
        caller: &'a Caller,
        session: &'a SessionRef,
    ) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            if sessions.get(session).await?.record.state.desired != Desired::Run {
                self.want(sessions, caller, session, Desired::Run).await?;
            }
            Ok(())
        })
    }

    fn heard_of<'a>(
        &'a self,
        sessions: &'a Sessions,
        caller: &'a Caller,
        session: &'a SessionRef,
    ) -> BoxFuture<'a, ()> {
        Box::pin(self.heard_of(sessions, caller, session))
    }

    fn refused(&self, project: &ProjectName) -> Vec<Refused> {
        self.refusals.of(project)
    }

    fn read<'a>(
        &'a self,
        sessions: &'a Sessions,
        caller: &'a Caller,
        session: &'a SessionRef,
    ) -> BoxFuture<'a, Result<Record, Problem>> {
        Box::pin(async move {
            self.namespaces.get(&session.project)?;
            let kind = kinds::session();
            let api = kinds::lenient(self.clients.of(caller)?, session.project.as_str(), &kind);
            let found = api.get_opt(session.name.as_str()).await.map_err(|error| refused(&error))?;
            let Lenient(mut object) = found.ok_or(SessionError::NotFound)?;
            match sessions.get(session).await {
                // Its log is ahead of what the object says.
                Ok(view) if object.metadata.uid.as_deref() == Some(view.record.uid.as_str()) => {
                    return Ok(Record::Taken(Box::new(view), warnings(&object)));
                }
                Ok(_) | Err(SessionError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
            object.metadata.managed_fields = None;
            let object = serde_json::to_value(&object);
            object.map(Record::Object).map_err(|error| Problem::internal(error.to_string()))
        })
    }

    fn remove<'a>(
        &'a self,
        _sessions: &'a Sessions,
        caller: &'a Caller,
        session: &'a SessionRef,
    ) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            let api = kinds::lenient(self.clients.of(caller)?, session.project.as_str(), &kinds::session());
            match api.delete(session.name.as_str(), &DeleteParams::default()).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(answer)) if answer.code == 404 => Err(SessionError::NotFound.into()),
                Err(error) => Err(refused(&error)),
            }
        })
    }
}
