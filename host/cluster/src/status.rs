//! The server's half of a session's status: written by server-side apply, the latest word only, many sessions at once.

use crate::MANAGER;
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
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// What happens in this time is written once: a runner that connects also begins its run.
const TOGETHER: Duration = Duration::from_millis(20);
/// How long what nobody waits for may wait for the next word.
const LATER: Duration = Duration::from_secs(1);
/// Writes under way.
const AT_ONCE: usize = 16;
/// Before what was not written is tried again; what comes in of others is not held up by it.
const AGAIN: Duration = Duration::from_secs(1);
/// Of one write.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Writer {
    client: Client,
    waiting: Mutex<Waiting>,
    news: Notify,
}

/// The latest word on each session.
#[derive(Default)]
struct Waiting(HashMap<SessionUid, Word>);

struct Word {
    due: Instant,
    /// It is tried again.
    failed: bool,
    session: SessionRef,
    status: ServerStatus,
}

impl Waiting {
    fn put(&mut self, uid: SessionUid, session: SessionRef, status: ServerStatus, may_wait: bool) {
        let now = Instant::now();
        let due = if may_wait { now + LATER } else { now };
        let (due, failed) = match self.0.get(&uid) {
            // One that failed waits out its pause with a newer word too.
            Some(before) if before.failed => (before.due, true),
            Some(before) => (before.due.min(due), false),
            None => (due, false),
        };
        self.0.insert(uid, Word { due, failed, session, status });
    }

    /// Where there is no newer word.
    fn put_back(&mut self, uid: SessionUid, session: SessionRef, status: ServerStatus) {
        let word = Word { due: Instant::now() + AGAIN, failed: true, session, status };
        self.0.entry(uid).or_insert(word);
    }

    fn take_due(&mut self) -> Vec<(SessionUid, SessionRef, ServerStatus)> {
        let now = Instant::now();
        let due = self.0.extract_if(|_, word| word.due <= now);
        due.map(|(uid, word)| (uid, word.session, word.status)).collect()
    }

    fn next(&self) -> Option<Instant> {
        self.0.values().map(|word| word.due).min()
    }
}

impl Writer {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, waiting: Mutex::default(), news: Notify::new() }
    }

    pub(crate) fn put(&self, session: &SessionRef, uid: &SessionUid, status: ServerStatus, may_wait: bool) {
        self.waiting().put(uid.clone(), session.clone(), status, may_wait);
        self.news.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits, until shutdown; what waits then is written by the next server, which says it again.
    pub(crate) async fn write(self: Arc<Self>, shutdown: Shutdown) -> io::Result<()> {
        while shutdown.or(self.due()).await.is_some() {
            tokio::time::sleep(TOGETHER).await;
            let batch = self.waiting().take_due();
            let writes = stream::iter(batch).map(|(uid, session, status)| self.patch(uid, session, status));
            writes.buffer_unordered(AT_ONCE).collect::<()>().await;
        }
        Ok(())
    }

    async fn due(&self) {
        let next = self.waiting().next();
        let later = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.news.notified() => {}
            () = later => {}
        }
    }

    async fn patch(&self, uid: SessionUid, session: SessionRef, status: ServerStatus) {
        let kind = kinds::session();
        let body = json!({
            "apiVersion": kind.api_version, "kind": kind.kind,
            // Another object of the same name is not this session.
            "metadata": {"name": session.name, "namespace": session.project, "uid": uid},
            "status": status,
        });
        let api = kinds::lenient(self.client.clone(), session.project.as_str(), &kind);
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&body);
        let why = match timeout(PATIENCE, api.patch_status(session.name.as_str(), &params, &patch)).await {
            Ok(Ok(_)) => return,
            // It is gone, or this name is another's by now.
            Ok(Err(kube::Error::Api(answer))) if matches!(answer.code, 404 | 409) => return,
            // The definition on the cluster is another one than ours: the same would be refused again.
            Ok(Err(kube::Error::Api(answer))) if matches!(answer.code, 400 | 422) => {
                tracing::error!(%session, answer = %answer.message, "a status is refused");
                return;
            }
            Ok(Err(error)) => telemetry::field::chain(&error),
            Err(_) => "the API server does not answer".to_owned(),
        };
        tracing::warn!(%session, error = %why, "a status is not written yet");
        self.waiting().put_back(uid, session, status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::lifecycle::Phase;
    use resources::session::status::Work;

    #[tokio::test(start_paused = true)]
    async fn what_failed_holds_up_nobody() {
        let of = |uid: &str| {
            let session = SessionRef { project: "p".parse().unwrap(), name: "s".parse().unwrap() };
            (uid.parse::<SessionUid>().unwrap(), session)
        };
        let (bad, bad_ref) = of("00000000-0000-4000-8000-000000000001");
        let (good, good_ref) = of("00000000-0000-4000-8000-000000000002");
        let mut waiting = Waiting::default();
        let word = |turns| ServerStatus { num_turns: Some(turns), ..ServerStatus::default() };
        let taken = |waiting: &mut Waiting| -> Vec<(SessionUid, Option<u64>)> {
            waiting.take_due().into_iter().map(|(uid, _, status)| (uid, status.num_turns)).collect()
        };
        waiting.put(bad.clone(), bad_ref.clone(), word(1), false);
        assert_eq!(taken(&mut waiting), [(bad.clone(), Some(1))]);
        waiting.put_back(bad.clone(), bad_ref.clone(), word(1));
        waiting.put(good.clone(), good_ref, word(7), false);
        assert_eq!(taken(&mut waiting), [(good, Some(7))], "the other one is written at once");
        waiting.put(bad.clone(), bad_ref.clone(), word(2), false);
        assert_eq!(taken(&mut waiting), [], "its pause is not over");
        tokio::time::advance(AGAIN).await;
        waiting.put_back(bad.clone(), bad_ref, word(1));
        assert_eq!(taken(&mut waiting), [(bad, Some(2))], "the newer word");
        assert_eq!(waiting.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn that_it_works_is_told_with_what_comes_of_it() {
        let session = SessionRef { project: "p".parse().unwrap(), name: "s".parse().unwrap() };
        let uid: SessionUid = "u".parse().unwrap();
        let word = |phase| {
            let work = Work { phase: Some(phase), ..Work::default() };
            ServerStatus { work: Some(work), ..ServerStatus::default() }
        };
        let mut waiting = Waiting::default();
        let put = |waiting: &mut Waiting, phase| {
            waiting.put(uid.clone(), session.clone(), word(phase), phase == Phase::Running);
        };
        let taken = |waiting: &mut Waiting| -> Vec<Option<Phase>> {
            waiting.take_due().into_iter().map(|(.., status)| status.work.unwrap().phase).collect()
        };
        put(&mut waiting, Phase::Running);
        assert_eq!(taken(&mut waiting), []);
        put(&mut waiting, Phase::Completed);
        assert_eq!(taken(&mut waiting), [Some(Phase::Completed)]);
        put(&mut waiting, Phase::Running);
        tokio::time::advance(LATER / 2).await;
        put(&mut waiting, Phase::Running);
        tokio::time::advance(LATER / 2).await;
        assert_eq!(taken(&mut waiting), [Some(Phase::Running)], "not put off by another of the kind");
        put(&mut waiting, Phase::Waiting);
        put(&mut waiting, Phase::Running);
        assert_eq!(taken(&mut waiting), [Some(Phase::Running)], "what was told before is not put off");
    }
}
