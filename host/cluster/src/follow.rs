//! Keeps the server's sessions true to their objects: made when an object appears, steered by what the operator decides,
//! removed when it goes, also where that happened while no server ran.

use crate::{objects::Seen, projects::Namespaces, refusals::Refusals, runners::Runners};
use futures::StreamExt as _;
use kube::{
    Api, Client,
    core::DynamicObject,
    runtime::{WatchStreamExt as _, watcher},
};
use model::{
    id::{Epoch, Seq, SessionUid},
    lifecycle::{Phase, Reason},
    plan::Desired,
};
use server::{
    sessions::{Decided, SessionError, Sessions},
    settings::Projects as _,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};
use telemetry::{Health, Shutdown};
use tokio::{sync::watch, time::MissedTickBehavior};

/// Before a session that could not be taken up is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// Of those, tried at once: what else happens is not to wait for them.
const SOME: usize = 8;
/// Objects that are asked for at once: one may have more than a MiB.
const PAGE: u32 = 50;
const PART: &str = "sessions of the cluster";

pub(crate) struct Follower {
    client: Client,
    runners: Arc<Runners>,
    namespaces: Arc<Namespaces>,
    refusals: Arc<Refusals>,
    /// Plugins are known.
    plugins: watch::Receiver<bool>,
    sessions: Sessions,
    health: Health,
    /// The last version of each object.
    versions: HashMap<SessionUid, u64>,
    /// Could not be taken up yet: the project is not there, or the name is still another's.
    waiting: VecDeque<Seen>,
}

impl Follower {
    pub(crate) fn new(
        client: Client,
        runners: Arc<Runners>,
        namespaces: Arc<Namespaces>,
        refusals: Arc<Refusals>,
        plugins: watch::Receiver<bool>,
        sessions: Sessions,
        health: Health,
    ) -> Self {
        Self {
            client,
            runners,
            namespaces,
            refusals,
            plugins,
            sessions,
            health,
            versions: HashMap::new(),
            waiting: VecDeque::new(),
        }
    }

    pub(crate) async fn follow(mut self, shutdown: Shutdown) -> io::Result<()> {
        // A policy that was not read yet would refuse what it permits, and a plugin be missing.
        let known = async {
            self.namespaces.read().await;
            // An error: nobody follows them any more, and the process ends.
            let _ = self.plugins.wait_for(|read| *read).await;
        };
        if shutdown.or(known).await.is_none() {
            return Ok(());
        }
        let api = Api::all_with(self.client.clone(), &kinds::session());
        let config = watcher::Config::default().page_size(PAGE);
        let mut events = kinds::watch::<DynamicObject>(api, config).default_backoff().boxed();
        let mut listed = HashSet::new();
        let mut again = tokio::time::interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                _ = again.tick(), if !self.waiting.is_empty() => {
                    for _ in 0..self.waiting.len().min(SOME) {
                        let Some(seen) = self.waiting.pop_front() else { break };
                        self.take_up(seen).await;
                    }
                    continue;
                }
                () = shutdown.requested() => return Ok(()),
            };
            match event {
                Some(Ok(watcher::Event::Init)) => listed.clear(),
                Some(Ok(watcher::Event::InitApply(object))) => {
                    if let Some(seen) = Seen::read(&object, false) {
                        listed.insert(seen.uid.clone());
                        self.take_up(seen).await;
                    }
                }
                Some(Ok(watcher::Event::InitDone)) => {
                    self.health.recover(PART);
                    self.remove_others(&listed).await;
                }
                Some(Ok(watcher::Event::Apply(object))) => self.changed(&object, false).await,
                Some(Ok(watcher::Event::Delete(object))) => self.changed(&object, true).await,
                Some(Err(error)) => {
                    let error = telemetry::field::chain(&error);
                    tracing::warn!(error, "sessions are not followed for now");
                    self.health.degrade(PART, format!("the API server does not tell of them: {error}"));
                }
                None => return Err(io::Error::other("the watch of sessions ended")),
            }
        }
    }

    async fn changed(&mut self, object: &DynamicObject, gone: bool) {
        if let Some(seen) = Seen::read(object, gone) {
            self.take_up(seen).await;
        }
    }

    async fn take_up(&mut self, seen: Seen) {
        let gone = seen.decided.gone;
        let last = self.versions.get(&seen.uid).copied().unwrap_or(0);
        if seen.version < last && !gone {
            return;
        }
        self.waiting.retain(|waiting| waiting.uid != seen.uid);
        let pod = seen.pod().filter(|_| !gone);
        if gone {
            self.versions.remove(&seen.uid);
        } else {
            self.versions.insert(seen.uid.clone(), seen.version);
        }
        let object = if gone { None } else { self.object(&seen) };
        let taken = self.sessions.take_up(&seen.uid, object, seen.decided.clone()).await;
        // Only now: a runner finds the session as it was decided.
        self.runners.record(&seen.uid, pod, seen.decided.epoch);
        match taken {
            Ok(false) if !gone => self.refusals.note(&seen),
            Ok(_) => self.refusals.forget(&seen.uid, &seen.reference),
            Err(SessionError::NameTaken) => {
                tracing::debug!(session = %seen.reference, "the one before it is still on its way out");
                self.waiting.push_back(seen);
            }
            Err(error) => {
                let error = telemetry::field::chain(&error);
                tracing::error!(session = %seen.reference, error, "a session cannot be taken up for now");
                self.waiting.push_back(seen);
            }
        }
    }

    /// What the session is to do; `None` where it is none.
    fn object(&mut self, seen: &Seen) -> Option<server::sessions::Object> {
        let project = match self.namespaces.get(&seen.reference.project) {
            Ok(project) => project,
            Err(error) => {
                tracing::info!(session = %seen.reference, %error, "a session of no project");
                return None;
            }
        };
        // What is wrong with it is said by the operator, in its status.
        seen.accept(&project.policy).ok()
    }

    /// Objects that went while nobody looked.
    async fn remove_others(&mut self, listed: &HashSet<SessionUid>) {
        self.refusals.keep(|uid| listed.contains(uid));
        let gone = Decided {
            desired: Desired::Delete,
            phase: Phase::Stopped,
            reason: Reason::StoppedByUser,
            message: "".into(),
            epoch: Epoch(0),
            pod: None,
            observed: Seq(0),
            gone: true,
        };
        let kept = match self.sessions.store().sessions(None).await {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(error = %telemetry::field::chain(&error), "what is left over is not removed");
                return;
            }
        };
        for record in kept.into_iter().filter(|record| !listed.contains(&record.uid)) {
            tracing::info!(session = %record.reference, "its object is gone");
            if let Err(error) = self.sessions.take_up(&record.uid, None, gone.clone()).await {
                tracing::error!(error = %telemetry::field::chain(&error), "a session is not removed");
            }
        }
    }
}
