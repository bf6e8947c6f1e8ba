//! Which runner it is that dials in: its pod's token, reviewed by the cluster, and the pod that the operator recorded.

use crate::status::Writer;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};
use model::{
    event::Warning,
    id::{Epoch, SessionRef, SessionUid},
};
use resources::{
    Source,
    session::{rules::NO_FOLDERS, status::ServerStatus},
};
use secrecy::{ExposeSecret as _, SecretString};
use server::sessions::{Elsewhere, Exited, Launch, LaunchError, Launcher};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, Semaphore};

/// What a runner's token has to be made for.
const AUDIENCE: &str = "vteam-runner";
/// The account of runners, in the project's namespace.
const ACCOUNT: &str = "vteam-runner";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// How long a review counts. What it says of the session is looked up each time.
const REVIEW: Duration = Duration::from_secs(10);
/// How long a runner waits to be recorded: its pod may be faster than the operator's word about it.
const RECORDED: Duration = Duration::from_secs(5);

/// Reviews at once: each costs the API server a check, whoever it is that dials in.
const AT_ONCE: usize = 16;

/// A pod that may hold a session's runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
}

/// When a token was reviewed, and the runner's pod that it is of.
type Review = (Instant, Option<Pod>);

pub(crate) struct Runners {
    client: Client,
    writer: Arc<Writer>,
    recorded: Mutex<Recorded>,
    news: Notify,
    reviews: Mutex<HashMap<[u8; 32], Review>>,
    asking: Semaphore,
}

#[derive(Default)]
struct Recorded {
    /// By uid.
    by_pod: HashMap<String, (Pod, SessionUid, Epoch)>,
    by_session: HashMap<SessionUid, String>,
}

impl Recorded {
    fn put(&mut self, session: &SessionUid, pod: Option<Pod>, epoch: Epoch) {
        if let Some(old) = self.by_session.remove(session) {
            self.by_pod.remove(&old);
        }
        if let Some(pod) = pod {
            self.by_session.insert(session.clone(), pod.uid.clone());
            self.by_pod.insert(pod.uid.clone(), (pod, session.clone(), epoch));
        }
    }

    /// Uid, name and namespace are as they were recorded.
    fn of(&self, pod: &Pod) -> Option<(SessionUid, Epoch)> {
        let (recorded, session, epoch) = self.by_pod.get(&pod.uid)?;
        (recorded == pod).then(|| (session.clone(), *epoch))
    }
}

impl Runners {
    pub(crate) fn new(client: Client, writer: Arc<Writer>) -> Self {
        Self {
            client,
            writer,
            recorded: Mutex::default(),
            news: Notify::new(),
            reviews: Mutex::default(),
            asking: Semaphore::new(AT_ONCE),
        }
    }

    /// The operator's word: this session's runner of this epoch is in this pod, or in none.
    pub(crate) fn record(&self, session: &SessionUid, pod: Option<Pod>, epoch: Epoch) {
        lock(&self.recorded).put(session, pod, epoch);
        self.news.notify_waiters();
    }

    async fn wait_recorded(&self, pod: &Pod) -> Option<(SessionUid, Epoch)> {
        let wait = async {
            loop {
                let news = self.news.notified();
                if let Some(found) = lock(&self.recorded).of(pod) {
                    return found;
                }
                news.await;
            }
        };
        tokio::time::timeout(RECORDED, wait).await.ok()
    }

    async fn review(&self, token: &SecretString) -> Option<Pod> {
        let key: [u8; 32] = Sha256::digest(token.expose_secret()).into();
        {
            let mut reviews = lock(&self.reviews);
            reviews.retain(|_, (at, _)| at.elapsed() < REVIEW);
            if let Some((_, pod)) = reviews.get(&key) {
                return pod.clone();
            }
        }
        // An error: this process ends.
        let _asking = self.asking.acquire().await.ok()?;
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.expose_secret().to_owned(),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let answer =
            Api::<TokenReview>::all(self.client.clone()).create(&PostParams::default(), &review).await;
        match answer {
            Ok(answer) => {
                let pod = pod_of(answer);
                lock(&self.reviews).insert(key, (Instant::now(), pod.clone()));
                pod
            }
            Err(error) => {
                tracing::warn!(error = %telemetry::field::chain(&error), "a runner's token cannot be reviewed");
                None
            }
        }
    }
}

/// The pod that a reviewed token is bound to, if it is a runner's.
fn pod_of(review: TokenReview) -> Option<Pod> {
    let status = review.status.filter(|status| status.authenticated == Some(true))?;
    if !status.audiences?.iter().any(|audience| audience == AUDIENCE) {
        return None;
    }
    let user = status.user?;
    let name = user.username?;
    let (namespace, account) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let mut extra = user.extra?;
    let mut one = |key: &str| extra.remove(key)?.into_iter().next();
    let (uid, pod) = (one(POD_UID)?, one(POD_NAME)?);
    (account == ACCOUNT).then(|| Pod { uid, name: pod, namespace: namespace.to_owned() })
}

impl Elsewhere for Runners {
    fn prove(&self, token: SecretString) -> BoxFuture<'_, Option<(SessionUid, Epoch)>> {
        Box::pin(async move {
            let pod = self.review(&token).await?;
            let found = self.wait_recorded(&pod).await;
            if found.is_none() {
                tracing::warn!(pod = %pod.uid, namespace = %pod.namespace, "a runner in a pod that nobody recorded");
            }
            found
        })
    }

    fn tell(&self, session: &SessionRef, uid: &SessionUid, status: ServerStatus, may_wait: bool) {
        self.writer.put(session, uid, status, may_wait);
    }
}

/// The operator starts and ends runners.
pub(crate) struct NotHere;

impl Launcher for NotHere {
    /// Whatever the path: what the server's own pod has is nobody's business.
    fn refuses(&self, workspace: Source) -> BoxFuture<'_, Option<String>> {
        let folder = matches!(workspace, Source::Dir { .. } | Source::InPlace { .. });
        Box::pin(async move { folder.then(|| NO_FOLDERS.to_owned()) })
    }

    fn start(&self, _launch: Launch) -> BoxFuture<'_, Result<Vec<Warning>, LaunchError>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn adopt(&self, _uid: SessionUid, _epoch: Epoch, _exited: Exited) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }

    fn kill(&self, _uid: SessionUid, _epoch: Epoch) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn remove(&self, _uid: SessionUid) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_runners_are_let_in() {
        let check = |name: &str, change: &dyn Fn(&mut serde_json::Value), expected: bool| {
            let mut review = json!({"spec": {}, "metadata": {}, "status": {
                "authenticated": true, "audiences": ["vteam-runner"],
                "user": {"username": "system:serviceaccount:p:vteam-runner", "extra": {POD_UID: ["u"], POD_NAME: ["n"]}},
            }});
            change(&mut review["status"]);
            let pod = pod_of(serde_json::from_value(review).unwrap());
            assert_eq!(pod, expected.then(|| recorded("u", "n", "p")), "{name}");
        };
        check("a runner", &|_| {}, true);
        check("not authentic", &|status| status["authenticated"] = json!(false), false);
        check("for another audience", &|status| status["audiences"] = json!(["https://kubernetes"]), false);
        check("for none", &|status| status["audiences"] = json!(null), false);
        check(
            "another account",
            &|s| s["user"]["username"] = json!("system:serviceaccount:p:default"),
            false,
        );
        check("a person", &|status| status["user"]["username"] = json!("vteam-runner"), false);
        check("not bound to a pod", &|status| status["user"]["extra"] = json!({}), false);
    }

    fn recorded(uid: &str, name: &str, namespace: &str) -> Pod {
        Pod { uid: uid.into(), name: name.into(), namespace: namespace.into() }
    }

    #[test]
    fn only_the_pod_of_the_newest_record_is_known() {
        let (one, other): (SessionUid, SessionUid) = (
            "11111111-2222-3333-4444-555555555555".parse().unwrap(),
            "21111111-2222-3333-4444-555555555555".parse().unwrap(),
        );
        let mut seats = Recorded::default();
        let pod = recorded("u", "vteam-s-1", "p");
        assert_eq!(seats.of(&pod), None, "nobody recorded it");
        seats.put(&one, Some(pod.clone()), Epoch(1));
        assert_eq!(seats.of(&pod), Some((one.clone(), Epoch(1))));
        for stranger in [
            recorded("v", "vteam-s-1", "p"),
            recorded("u", "vteam-s-2", "p"),
            recorded("u", "vteam-s-1", "q"),
        ] {
            assert_eq!(seats.of(&stranger), None, "{stranger:?}");
        }
        // A runner that was started again in its pod.
        seats.put(&one, Some(pod.clone()), Epoch(2));
        assert_eq!(seats.of(&pod), Some((one.clone(), Epoch(2))));
        // Another pod, and the one before is nobody's.
        let next = recorded("v", "vteam-s-3", "p");
        seats.put(&one, Some(next.clone()), Epoch(3));
        seats.put(&other, Some(recorded("w", "vteam-s-4", "q")), Epoch(1));
        assert_eq!((seats.of(&pod), seats.of(&next)), (None, Some((one.clone(), Epoch(3)))));
        seats.put(&one, None, Epoch(3));
        assert_eq!(seats.of(&next), None);
        assert_eq!((seats.by_pod.len(), seats.by_session.len()), (1, 1));
    }
}
