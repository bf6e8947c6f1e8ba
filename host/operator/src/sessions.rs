//! The controller of AgenticSession: what wakes it, and one turn for each object at a time.
//!
//! A turn is `judge` (what the specification comes to), `turn` (what `model::plan` says of what is seen), and `hands` (doing
//! it). The first two are pure.

mod draft;
mod events;
mod hands;
mod judge;
mod memory;
mod orphans;
mod pod;
mod pods;
mod seen;
mod turn;
mod view;
mod word;

use crate::{
    backoff::Backoff,
    calls::CallError,
    clock,
    metrics::Metrics,
    projects::Projects,
    server::Place,
    settings::{Settings, Timeouts},
};
use events::Events;
use futures::{FutureExt, StreamExt, stream};
pub(crate) use hands::Hands;
pub(crate) use judge::Project;
use judge::judge;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    core::DynamicObject,
    runtime::{
        WatchStreamExt, applier,
        controller::{Action, Config},
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher::{self, Event},
    },
};
use memory::Memory;
use model::{id::UnixMillis, lifecycle::Phase};
pub(crate) use pod::Server;
use pods::Pods;
use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use telemetry::{Shutdown, field::chain};
use tokio::sync::{mpsc, watch};
use turn::{Facts, Next, Outcome, Refusal, RefusalKind, Turn};
use view::{View, ViewError};

/// The watch brings what a write lost against; this is for the case that it has brought it already.
const AFTER_CONFLICT: Duration = Duration::from_millis(200);
/// A turn that is early finds nothing to do and comes back.
const SOONEST: Duration = Duration::from_millis(5);

/// Objects that are asked for at once: one may have more than a MiB.
const PAGE: u32 = 50;

type Of = ObjectRef<DynamicObject>;
type Queue = mpsc::UnboundedSender<Of>;

/// What concerns more than one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wake {
    All,
    Namespace(String),
}

#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Call(#[from] CallError),
    /// Not an error of the turn: what it asked for may be granted later. Since when it is refused, if that was known before.
    #[error("the cluster refused what the session needs")]
    Refused(Option<UnixMillis>),
    #[error("somebody else wrote to the object meanwhile")]
    Conflict,
}

pub(crate) struct Sessions {
    hands: Hands,
    events: Events,
    projects: Arc<Projects>,
    place: Arc<Place>,
    timeouts: Timeouts,
    metrics: Metrics,
    pods: Pods,
    pods_read: watch::Sender<bool>,
    /// By uid: which object a pod's event is about.
    names: Mutex<HashMap<String, Of>>,
    memories: Mutex<HashMap<String, Memory>>,
    /// What was written last, until the watch has it.
    written: Mutex<HashMap<String, DynamicObject>>,
    backoff: Backoff<Of>,
}

impl Sessions {
    pub(crate) fn new(
        hands: Hands,
        projects: Arc<Projects>,
        place: Arc<Place>,
        settings: &Settings,
        metrics: Metrics,
    ) -> Self {
        Self {
            hands,
            events: Events::new(),
            projects,
            place,
            timeouts: settings.timeouts,
            metrics,
            pods: Pods::default(),
            pods_read: watch::Sender::new(false),
            names: Mutex::default(),
            memories: Mutex::default(),
            written: Mutex::default(),
            backoff: Backoff::new(),
        }
    }

    /// Works until shutdown, and finishes the turns that are under way.
    pub(crate) async fn run(
        self: Arc<Self>,
        client: Client,
        wakes: mpsc::UnboundedReceiver<Wake>,
        concurrency: u16,
        shutdown: Shutdown,
    ) {
        let writer = Writer::new(kinds::session());
        let store = writer.as_reader();
        let (queue, queued) = mpsc::unbounded_channel();
        let news = self.events.write(client.clone(), self.hands.leading(), &shutdown);
        // They are followed beside the turns: however many of those wait, what is seen is what there is.
        let follow = shutdown.or(async {
            tokio::join!(
                self.follow_objects(client.clone(), writer, &queue),
                self.follow_pods(client, &queue),
                self.follow_wakes(wakes, &store, &queue),
            )
        });
        let config = Config::default().concurrency(concurrency);
        let turns = async {
            // Nothing is decided by a part of what there is.
            if shutdown.or(self.until_read(&store)).await.is_none() {
                return;
            }
            let end = shutdown.clone();
            let queued =
                stream::unfold(queued, |mut queued| async move { Some((queued.recv().await?, queued)) });
            let queued = queued.map(Ok::<Of, Infallible>).take_until(async move { end.requested().await });
            let turn = |object, sessions: Arc<Self>| async move { sessions.turn(object).await }.boxed();
            let failed =
                |object: Arc<DynamicObject>, error: &_, sessions: Arc<Self>| sessions.failed(&object, error);
            // What became of each was said where it happened.
            let turns = applier(turn, failed, Arc::clone(&self), store.clone(), queued, config);
            tokio::join!(turns.for_each(|_| async {}), shutdown.or(self.end_orphans(&store)));
        };
        tokio::join!(follow, turns, news);
    }

    async fn until_read(&self, store: &Store<DynamicObject>) {
        self.projects.until_read().await;
        // Both senders live as long as this.
        let _ = self.pods_read.subscribe().wait_for(|read| *read).await;
        let _ = store.wait_until_ready().await;
        tracing::info!(sessions = store.len(), "the cluster was read");
    }

    async fn follow_objects(&self, client: Client, writer: Writer<DynamicObject>, queue: &Queue) {
        let kind = kinds::session();
        let config = watcher::Config::default().page_size(PAGE);
        let events = kinds::watch::<DynamicObject>(Api::all_with(client, &kind), config);
        let events = events.default_backoff().modify(view::strip);
        let mut events = reflector::reflector(writer, events).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    self.note(&event);
                    if let Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) = &event {
                        ask(queue, ObjectRef::from_obj_with(object, kind.clone()));
                    }
                }
                Err(error) => tracing::warn!(error = %chain(&error), "sessions are not followed for now"),
            }
        }
    }

    async fn follow_pods(&self, client: Client, queue: &Queue) {
        let config = watcher::Config::default().labels(pod::SESSION_LABEL);
        let mut events = kinds::watch::<Pod>(Api::all(client), config).default_backoff().boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let uids = self.pods.apply(&event);
                    let names = lock(&self.names);
                    uids.iter().filter_map(|uid| names.get(uid)).for_each(|of| ask(queue, of.clone()));
                    if matches!(event, Event::InitDone) {
                        self.pods_read.send_replace(true);
                    }
                }
                Err(error) => tracing::warn!(error = %chain(&error), "pods are not followed for now"),
            }
        }
    }

    async fn follow_wakes(
        &self,
        mut wakes: mpsc::UnboundedReceiver<Wake>,
        store: &Store<DynamicObject>,
        queue: &Queue,
    ) {
        while let Some(wake) = wakes.recv().await {
            let concerned = store.state_filter(|object| match &wake {
                Wake::All => true,
                Wake::Namespace(namespace) => object.namespace().as_ref() == Some(namespace),
            });
            concerned
                .iter()
                .for_each(|object| ask(queue, ObjectRef::from_obj_with(&**object, kinds::session())));
        }
    }

    fn note(&self, event: &Event<DynamicObject>) {
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                let of = ObjectRef::from_obj_with(object, kinds::session());
                object.uid().into_iter().for_each(|uid| drop(lock(&self.names).insert(uid, of.clone())));
            }
            Event::Delete(object) => {
                let Some(uid) = object.uid() else { return };
                lock(&self.names).remove(&uid);
                lock(&self.memories).remove(&uid);
                lock(&self.written).remove(&uid);
                self.backoff.forget(&ObjectRef::from_obj_with(object, kinds::session()));
            }
            Event::Init | Event::InitDone => {}
        }
    }

    async fn turn(&self, object: Arc<DynamicObject>) -> Result<Action, TurnError> {
        let begun = Instant::now();
        let view = View::read(&self.latest(&object))?;
        let result = self.about(&view).await;
        self.metrics.turn(begun.elapsed());
        if !matches!(result, Err(TurnError::Refused(_) | TurnError::Call(_))) {
            self.backoff.forget(&ObjectRef::from_obj_with(&*object, kinds::session()));
        }
        result
    }

    async fn about(&self, view: &View) -> Result<Action, TurnError> {
        let judged = judge(view, &self.projects.of(&view.namespace));
        self.look_twice(view).await?;
        let pods = self.pods.of(&view.uid);
        let memory = lock(&self.memories).get(&view.uid).cloned().unwrap_or_default();
        let now = clock::now();
        let mut turn =
            Turn::new(Facts { now, view, judged: &judged, timeouts: &self.timeouts, pods }, memory);
        while let Next::Create(epoch) = turn.next() {
            let Some(wish) = &judged.wish else { break };
            let server = match self.place.server() {
                Ok(server) => server,
                Err(message) => {
                    let word = "ServerUnknown".to_owned();
                    turn.refused(Refusal { word, message, kind: RefusalKind::Known });
                    break;
                }
            };
            match self.hands.create(view, wish, epoch, &server).await? {
                Ok(pod) => {
                    self.pods.put(pod.clone());
                    turn.created(epoch, pod);
                }
                Err(refusal) => turn.refused(refusal),
            }
        }
        self.carry_out(view, turn.finish()).await
    }

    /// A runner counts as gone only where the API server says so: the watch may be behind.
    async fn look_twice(&self, view: &View) -> Result<(), CallError> {
        let settled = view.status.phase.is_some_and(Phase::is_settled);
        let (Some(name), Some(uid), false) = (&view.status.pod_name, &view.status.pod_uid, settled) else {
            return Ok(());
        };
        if !self.pods.of(&view.uid).iter().any(|pod| pod.uid == *uid)
            && let Some(pod) = self.hands.look(&view.namespace, name).await?.filter(|pod| pod.uid == *uid)
        {
            self.pods.put(pod);
        }
        Ok(())
    }

    async fn carry_out(&self, view: &View, outcome: Outcome) -> Result<Action, TurnError> {
        let Outcome { write, delete, remove, retry, mut until, memory } = outcome;
        lock(&self.memories).insert(view.uid.clone(), memory);
        if let Some(draft) = write {
            let (phase, reason) = (draft.phase(), draft.status.reason.clone().unwrap_or_default());
            match self.hands.write(view, &draft).await {
                Ok(written) => {
                    let asks_anew = phase == Phase::Waiting && view.status.message != draft.status.message;
                    let moved = view.status.phase != Some(phase) || view.status.reason != draft.status.reason;
                    if moved || asks_anew {
                        let session = format!("{}/{}", view.namespace, view.name);
                        let epoch = draft.status.epoch;
                        tracing::info!(session, uid = view.uid, %phase, reason, epoch, "decided");
                        self.events.tell(view, &draft);
                    }
                    lock(&self.written).insert(view.uid.clone(), written);
                }
                Err(error) if error.code() == Some(409) => return Err(TurnError::Conflict),
                // It is gone.
                Err(error) if error.code() == Some(404) => return Ok(Action::await_change()),
                Err(error) => return Err(error.into()),
            }
        }
        for pod in &delete {
            // The watch may not have it yet: once is enough.
            match self.hands.delete(&view.namespace, pod).await? {
                Some(ending) => self.pods.ends(ending),
                None => {
                    self.pods.gone(&view.uid, &pod.uid);
                    until = Some(clock::now());
                }
            }
        }
        if remove {
            tracing::info!(
                session = format!("{}/{}", view.namespace, view.name),
                uid = view.uid,
                "its time is over"
            );
            self.hands.remove(view).await?;
            return Ok(Action::await_change());
        }
        if retry {
            return Err(TurnError::Refused(view.refused_since()));
        }
        Ok(until.map_or_else(Action::await_change, |until| {
            Action::requeue(until.since(clock::now()).max(SOONEST))
        }))
    }

    fn failed(&self, object: &DynamicObject, error: &TurnError) -> Action {
        let of = ObjectRef::from_obj_with(object, kinds::session());
        let since = match error {
            TurnError::Conflict => {
                self.metrics.conflict();
                return Action::requeue(AFTER_CONFLICT);
            }
            TurnError::Refused(since) => *since,
            error => {
                self.metrics.error();
                tracing::warn!(session = %of, error = %chain(error), "tried again after a pause");
                None
            }
        };
        Action::requeue(self.backoff.failed(of, since))
    }

    /// The object as it is known best: what was written here may be newer than what the watch has brought.
    fn latest(&self, object: &Arc<DynamicObject>) -> DynamicObject {
        let Some(uid) = object.uid() else { return (**object).clone() };
        let mut written = lock(&self.written);
        match written.get(&uid) {
            Some(ours) if version(ours) > version(object) => ours.clone(),
            _ => {
                written.remove(&uid);
                (**object).clone()
            }
        }
    }
}

/// For a turn; each object waits for one at most.
fn ask(queue: &Queue, of: Of) {
    // Nobody listens only at the end.
    let _ = queue.send(of);
}

/// Of one kind, a later one is larger.
///
/// Source: Kubernetes, KEP-5504, "Comparable Resource Version".
fn version(object: &DynamicObject) -> Option<u128> {
    object.metadata.resource_version.as_deref()?.parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
