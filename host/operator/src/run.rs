//! The process: whoever holds the lease works, the others wait.

use crate::{
    health,
    leader::{Leader, LeaderError},
    metrics::Metrics,
    others,
    projects::Projects,
    server::Place,
    sessions::{Hands, Sessions},
    settings::{RunArgs, Settings, SettingsError},
};
use kube::{Client, Config};
use std::{convert::Infallible, io, sync::Arc, time::Duration};
use telemetry::{
    Health, Supervisor,
    log::{self, Format, LogError, Target},
    supervisor::{Stopped, on_signals},
};
use tokio::{net::TcpListener, sync::mpsc};

/// Between the first call to end and the last turn.
const DRAIN: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("the log cannot be set up")]
    Log(#[from] LogError),
    #[error("the threads cannot be started")]
    Threads(#[source] io::Error),
    #[error("there is no cluster to reach: run it in a pod with a service account, or set KUBECONFIG")]
    Config(#[source] kube::config::InferConfigError),
    #[error("the cluster's API server cannot be reached")]
    Client(#[source] kube::Error),
    #[error("cannot listen on {address}")]
    Listen { address: std::net::SocketAddr, source: io::Error },
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// # Errors
/// Says what to do.
pub(crate) fn run(args: RunArgs) -> Result<(), RunError> {
    let settings = Settings::try_from(args)?;
    log::init(&settings.log, Format::for_stderr(true), Target::Stderr)?;
    // It waits for the API server nearly always, and each further thread holds memory of its own.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Threads)?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), RunError> {
    let mut config = Config::infer().await.map_err(RunError::Config)?;
    // Each object has a back-off of its own, which can be seen; this one would hide that the server is overloaded.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    let client = Client::try_from(config).map_err(RunError::Client)?;
    let (supervisor, ended) = Supervisor::new();
    let shutdown = supervisor.shutdown().clone();
    on_signals(&shutdown).map_err(RunError::Signals)?;
    let (health, metrics) = (Health::new(), Metrics::new());
    let address = settings.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })?;
    supervisor.critical("health", health::serve(listener, health.clone(), metrics.clone(), shutdown.clone()));
    // One that waits is as ready as one that works: a rollout must not wait for the lease.
    health.set_ready(true);
    let leader = Arc::new(Leader::new(client.clone(), &settings.namespace, identity(&settings)));
    if leader.acquire(&shutdown).await.is_some() {
        metrics.leads(true);
        work(&supervisor, &client, &settings, &leader, &health, &metrics);
    }
    let result = supervisor.wait(ended, DRAIN).await;
    leader.release().await;
    Ok(result?)
}

fn work(
    supervisor: &Supervisor,
    client: &Client,
    settings: &Settings,
    leader: &Arc<Leader>,
    health: &Health,
    metrics: &Metrics,
) {
    let shutdown = supervisor.shutdown();
    let (wake, wakes) = mpsc::unbounded_channel();
    let projects = Arc::new(Projects::new(wake.clone()));
    let place = Arc::new(Place::new(settings, health.clone(), wake));
    let hands = Hands::new(client.clone(), leader.leading(), settings.images.clone(), metrics.clone());
    let sessions =
        Arc::new(Sessions::new(hands, Arc::clone(&projects), Arc::clone(&place), settings, metrics.clone()));

    let (keep, end) = (Arc::clone(leader), shutdown.clone());
    supervisor.critical("lease", async move { keep.keep(&end).await as Result<(), LeaderError> });
    let (at, of, end) = (client.clone(), settings.clone(), shutdown.clone());
    let follow = async move { place.follow(at, &of, end).await };
    supervisor.critical("server's place", endless(follow));
    let (in_namespaces, at, end) = (Arc::clone(&projects), client.clone(), shutdown.clone());
    supervisor.critical("projects", endless(async move { in_namespaces.follow_namespaces(at, end).await }));
    let (at, end) = (client.clone(), shutdown.clone());
    supervisor.critical("settings", endless(async move { projects.follow_settings(at, end).await }));
    supervisor.critical(
        "workflows' conditions",
        endless(others::workflows(client.clone(), leader.leading(), shutdown.clone())),
    );
    supervisor.critical(
        "settings' conditions",
        endless(others::settings(client.clone(), leader.leading(), shutdown.clone())),
    );
    let run = sessions.run(client.clone(), wakes, settings.concurrency, shutdown.clone());
    supervisor.critical("sessions", endless(run));
}

/// It has no error to tell of; that it returns before shutdown is one.
async fn endless(task: impl Future<Output = ()>) -> Result<(), Infallible> {
    task.await;
    Ok(())
}

/// A pod's name is its own: a container that is started anew in it takes up the lease of the one before, which is over. On a
/// machine there may be several of that name, so each start is another one.
fn identity(settings: &Settings) -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    let name =
        settings.identity.clone().map_or_else(host, Ok).unwrap_or_else(|_| "vteam-operator".to_owned());
    let in_pod = std::path::Path::new("/var/run/secrets/kubernetes.io/serviceaccount").exists();
    if in_pod || settings.identity.is_some() { name } else { format!("{name}_{:08x}", rand::random::<u32>()) }
}
