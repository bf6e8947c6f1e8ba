//! One of several operators works: the one that holds the Lease. It renews it, gives it back when it ends, and stops when
//! it cannot: an operator that does not know whether it still holds it does not write.
//!
//! Source: client-go, `tools/leaderelection`. As there, times of others are never compared with the own clock: a holder is
//! given up when its lease has not changed for its duration, as seen from here.

use crate::calls::post_params;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, Client, core::ObjectMeta};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use telemetry::{Shutdown, field::chain};
use tokio::time::{Instant, sleep, timeout};

const NAME: &str = "vteam-operator";
/// How long a holder that says nothing is waited for.
const DURATION: Duration = Duration::from_secs(15);
/// Without a renewal for so long, a holder stops: well before the others start.
const DEADLINE: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_secs(3);
/// How often one that waits looks.
const LOOK: Duration = Duration::from_secs(1);
const CALL: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaderError {
    #[error("the lease is {0}'s by now")]
    Taken(String),
    #[error("the lease could not be renewed for {0:?}")]
    Late(Duration),
}

pub(crate) struct Leader {
    api: Api<Lease>,
    identity: String,
    /// Until when nobody else can hold it.
    until: Arc<Mutex<Option<Instant>>>,
}

/// Asked before each write.
#[derive(Debug, Clone)]
pub(crate) struct Leading(Arc<Mutex<Option<Instant>>>);

impl Leading {
    pub(crate) fn holds(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }
}

/// What was seen of somebody's lease, and when it last changed.
struct Watched {
    version: Option<String>,
    since: Instant,
}

enum Tried {
    Ours,
    /// Of somebody who was seen alive lately.
    Held(String),
}

impl Leader {
    pub(crate) fn new(client: Client, namespace: &str, identity: String) -> Self {
        Self { api: Api::namespaced(client, namespace), identity, until: Arc::default() }
    }

    pub(crate) fn leading(&self) -> Leading {
        Leading(Arc::clone(&self.until))
    }

    /// Returns when the lease is ours, or not at all if shutdown comes first.
    pub(crate) async fn acquire(&self, shutdown: &Shutdown) -> Option<()> {
        let mut watched = Watched { version: None, since: Instant::now() };
        let mut said = String::new();
        loop {
            let begun = Instant::now();
            match shutdown.or(timeout(CALL, self.take(&mut watched))).await? {
                Ok(Ok(Tried::Ours)) => {
                    self.renewed(begun);
                    tracing::info!(identity = self.identity, "this operator works now");
                    return Some(());
                }
                Ok(Ok(Tried::Held(holder))) if holder != said => {
                    tracing::info!(holder, "another operator works; this one waits");
                    said = holder;
                }
                Ok(Ok(Tried::Held(_))) => {}
                Ok(Err(error)) => tracing::warn!(error = %chain(&error), "the lease cannot be asked for"),
                Err(_) => tracing::warn!("the API server does not answer"),
            }
            shutdown.or(sleep(LOOK)).await?;
        }
    }

    /// Renews until shutdown.
    ///
    /// # Errors
    /// When it is lost: whoever works by it has to end.
    pub(crate) async fn keep(&self, shutdown: &Shutdown) -> Result<(), LeaderError> {
        let mut last = Instant::now();
        loop {
            if shutdown.or(sleep(RENEW)).await.is_none() {
                return Ok(());
            }
            let begun = Instant::now();
            match timeout(CALL, self.renew()).await {
                Ok(Ok(None)) => {
                    last = begun;
                    self.renewed(begun);
                }
                Ok(Ok(Some(holder))) => {
                    *self.until() = None;
                    return Err(LeaderError::Taken(holder));
                }
                Ok(Err(error)) => tracing::warn!(error = %chain(&error), "the lease is not renewed yet"),
                Err(_) => tracing::warn!("the lease is not renewed yet: the API server does not answer"),
            }
            if last.elapsed() >= DEADLINE {
                *self.until() = None;
                return Err(LeaderError::Late(DEADLINE));
            }
        }
    }

    /// Lets the next one begin at once. Call it when nothing is written any more.
    pub(crate) async fn release(&self) {
        if self.until().take().is_none() {
            return;
        }
        let give_up = async {
            let Some(mut lease) = self.api.get_opt(NAME).await? else { return Ok(()) };
            if holder(&lease) != Some(self.identity.as_str()) {
                return Ok(());
            }
            let spec = lease.spec.get_or_insert_default();
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            self.api.replace(NAME, &post_params(), &lease).await.map(|_| ())
        };
        if let Ok(Err(error)) = timeout(CALL, give_up).await {
            tracing::warn!(error = %chain(&error), "the lease is not given back: the next operator waits for its end");
        }
    }

    async fn take(&self, watched: &mut Watched) -> Result<Tried, kube::Error> {
        let Some(lease) = self.api.get_opt(NAME).await? else {
            let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(0)) };
            return won(self.api.create(&post_params(), &lease).await);
        };
        if lease.metadata.resource_version != watched.version {
            *watched = Watched { version: lease.metadata.resource_version.clone(), since: Instant::now() };
        }
        match holder(&lease) {
            Some(other) if other != self.identity && watched.since.elapsed() < length(&lease) => {
                Ok(Tried::Held(other.to_owned()))
            }
            other => {
                let moved = i32::from(other != Some(self.identity.as_str()));
                let count = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
                let lease = Lease { spec: Some(self.spec(count.saturating_add(moved))), ..lease };
                won(self.api.replace(NAME, &post_params(), &lease).await)
            }
        }
    }

    /// Whose it is, if not ours.
    async fn renew(&self) -> Result<Option<String>, kube::Error> {
        let mut lease = self.api.get(NAME).await?;
        if holder(&lease) != Some(self.identity.as_str()) {
            return Ok(Some(holder(&lease).unwrap_or("nobody").to_owned()));
        }
        lease.spec.get_or_insert_default().renew_time = Some(MicroTime(jiff::Timestamp::now()));
        self.api.replace(NAME, &post_params(), &lease).await.map(|_| None)
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(jiff::Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    fn renewed(&self, at: Instant) {
        *self.until() = Some(at + DEADLINE + CALL);
    }

    fn until(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn length(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DURATION, Duration::from_secs)
}

/// Whoever writes first has it.
fn won(written: Result<Lease, kube::Error>) -> Result<Tried, kube::Error> {
    match written {
        Ok(_) => Ok(Tried::Ours),
        Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(Tried::Held("somebody".to_owned())),
        Err(error) => Err(error),
    }
}
