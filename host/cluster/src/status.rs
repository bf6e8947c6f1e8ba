//! The server's half of a session's status: written by server-side apply, the latest word only, many sessions at once.

use futures::{StreamExt as _, stream};
use kube::{
    Client,
    api::{Patch, PatchParams},
};
use model::id::{SessionRef, SessionUid};
use resources::session::status::ServerStatus;
use serde_json::json;
use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use telemetry::Shutdown;
use tokio::sync::Notify;

/// The field manager: what the API server knows the server's fields by.
const MANAGER: &str = "vteam-server";
/// What happens in this time is written once: a runner that connects also begins its run.
const TOGETHER: Duration = Duration::from_millis(20);
/// Writes under way.
const AT_ONCE: usize = 16;
/// Before what was refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) struct Writer {
    client: Client,
    waiting: Mutex<HashMap<SessionUid, (SessionRef, ServerStatus)>>,
    news: Notify,
}

impl Writer {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, waiting: Mutex::default(), news: Notify::new() }
    }

    pub(crate) fn put(&self, session: &SessionRef, uid: &SessionUid, status: ServerStatus) {
        self.waiting().insert(uid.clone(), (session.clone(), status));
        self.news.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<SessionUid, (SessionRef, ServerStatus)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits, until shutdown; what waits then is written by the next server, which says it again.
    pub(crate) async fn write(self: Arc<Self>, shutdown: Shutdown) -> io::Result<()> {
        while shutdown.or(self.news.notified()).await.is_some() {
            tokio::time::sleep(TOGETHER).await;
            let batch = std::mem::take(&mut *self.waiting());
            let failed = stream::iter(batch)
                .map(|(uid, (session, status))| self.patch(uid, session, status))
                .buffer_unordered(AT_ONCE)
                .fold(false, |some, again| async move { some || again });
            if failed.await {
                tokio::time::sleep(AGAIN).await;
                self.news.notify_one();
            }
        }
        Ok(())
    }

    /// Whether it waits again.
    async fn patch(&self, uid: SessionUid, session: SessionRef, status: ServerStatus) -> bool {
        let kind = kinds::session();
        let body = json!({
            "apiVersion": kind.api_version, "kind": kind.kind,
            // Another object of the same name is not this session.
            "metadata": {"name": session.name, "namespace": session.project, "uid": uid},
            "status": status,
        });
        let api = kinds::api(self.client.clone(), session.project.as_str(), &kind);
        let params = PatchParams::apply(MANAGER).force();
        match api.patch_status(session.name.as_str(), &params, &Patch::Apply(&body)).await {
            Ok(_) => false,
            // It is gone, or this name is another's by now.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => false,
            // The definition on the cluster is another one than ours: the same would be refused again.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 400 | 422) => {
                tracing::error!(%session, answer = %answer.message, "a status is refused");
                false
            }
            Err(error) => {
                tracing::warn!(%session, error = %telemetry::field::chain(&error), "a status is not written yet");
                self.waiting().entry(uid).or_insert((session, status));
                true
            }
        }
    }
}
