//! `vteam-operator run`: the process.

use crate::{
    kinds,
    leader::Leader,
    projects::Projects,
    server::ServerAddress,
    sessions::{
        pod,
        reconcile::{Context, failed, reconcile},
    },
    settings::{RunArgs, Settings, SettingsError},
};
use axum::{Router, extract::State, http::StatusCode, routing::get};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    core::DynamicObject,
    runtime::{
        controller::{self, Controller},
        watcher,
    },
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use telemetry::{
    Health, Shutdown, Supervisor,
    log::{self, Format, Target},
    supervisor::on_signals,
};

/// How long work under way may take to end.
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("the log could not be set up")]
    Log(#[from] log::LogError),
    #[error("there is no cluster to reach: run it in a pod with a service account, or set KUBECONFIG")]
    Cluster(#[source] kube::Error),
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    #[error("the process cannot be set up")]
    Process(#[from] io::Error),
    #[error("the operator ended: {0}")]
    Stopped(String),
}

/// Works until SIGTERM, or until the lease is lost.
///
/// # Errors
/// Each says what to do.
pub(crate) fn run(args: RunArgs) -> Result<(), RunError> {
    let settings = Settings::try_from(args)?;
    log::init(&settings.log, Format::Json, Target::Stderr)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> Result<(), RunError> {
    let client = Client::try_default().await.map_err(RunError::Cluster)?;
    let (supervisor, ended) = Supervisor::new();
    let shutdown = supervisor.shutdown().clone();
    on_signals(&shutdown)?;
    let health = Health::new();
    let listener = tokio::net::TcpListener::bind(settings.listen)
        .await
        .map_err(|error| RunError::Listen(settings.listen, error))?;
    supervisor.critical("health", serve_health(listener, health.clone(), shutdown.clone()));
    let identity = settings.identity.clone().unwrap_or_else(host);
    let leader = Arc::new(Leader::new(client.clone(), &settings.namespace, identity));
    // One that waits is ready to take over.
    health.set_ready(true);
    if leader.acquire(&shutdown).await.is_some() {
        let (projects, follow) = Projects::follow(client.clone(), shutdown.clone());
        supervisor.critical("projects", follow);
        let keeper = Arc::clone(&leader);
        let until = shutdown.clone();
        supervisor.critical("lease", async move { keeper.keep(&until).await });
        supervisor.critical("sessions", sessions(client, settings, Arc::clone(&leader), projects, shutdown));
    }
    let stopped = supervisor.wait(ended, DRAIN).await;
    leader.release().await;
    stopped.map_err(|stopped| RunError::Stopped(stopped.to_string()))
}

async fn sessions(
    client: Client,
    settings: Settings,
    leader: Arc<Leader>,
    projects: Projects,
    shutdown: Shutdown,
) -> io::Result<()> {
    if shutdown.or(projects.read()).await.is_none() {
        return Ok(());
    }
    let kind = kinds::session();
    let concurrency = settings.concurrency;
    let server = ServerAddress::new(client.clone(), &settings);
    let context = Context::new(client.clone(), settings, leader.leading(), projects, server);
    let objects = Api::<DynamicObject>::all_with(client.clone(), &kind);
    let pods = Api::<Pod>::all(client);
    let controller = Controller::new_with(objects, watcher::Config::default(), kind)
        .owns(pods, watcher::Config::default().labels(pod::LABEL))
        .with_config(controller::Config::default().concurrency(concurrency))
        .graceful_shutdown_on(async move { shutdown.requested().await });
    controller
        .run(reconcile, failed, Arc::new(context))
        .for_each(|done| {
            // What went wrong with an object was said; this is about the watches.
            if let Err(controller::Error::QueueError(error)) = done {
                tracing::warn!(error = %telemetry::field::chain(&error), "sessions are not followed for now");
            }
            std::future::ready(())
        })
        .await;
    Ok(())
}

async fn serve_health(
    listener: tokio::net::TcpListener,
    health: Health,
    shutdown: Shutdown,
) -> io::Result<()> {
    let ready = async |State(health): State<Health>| {
        if health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    };
    let router =
        Router::new().route("/health", get(async || "ok")).route("/ready", get(ready)).with_state(health);
    axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.requested().await }).await
}

/// The pod's name, where it runs in one.
fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "operator".to_owned(), |name| name.trim().to_owned())
}
