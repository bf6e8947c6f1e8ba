//! The server inside this process: for `up`, and for `run` where none runs yet.

use crate::{
    args::ClusterArgs,
    exit::{Code, Failure, Outcome},
    settings::{self, Settings, Upstream},
};
use protocol::exec::{Confinement, Property, PropertyName};
use server::{
    Config, Place, Running, Server, StartError,
    broker::{ANTHROPIC_VERSION, Api, Endpoint, KeyStyle},
    listen::ListenError,
};
use std::{net::SocketAddr, path::Path, time::Duration};
use store::StoreError;
use telemetry::{
    Supervisor,
    supervisor::{Ended, Stopped, on_signals},
};

/// How long requests and tasks under way may take to end.
const DRAIN: Duration = Duration::from_secs(15);
const ANTHROPIC: &str = "https://api.anthropic.com";

pub(crate) struct Embedded {
    running: Running,
    scheme: &'static str,
    supervisor: Supervisor,
    ended: Ended,
}

impl Embedded {
    pub(crate) async fn start(
        settings: &Settings,
        upstream: Upstream,
        listen: Option<SocketAddr>,
    ) -> Outcome<Self> {
        let config = config(settings, upstream, confinement(&settings.bin_dir).await?)?;
        let place = Place::Here { listen, user: settings::user() };
        let (supervisor, ended) = Supervisor::new();
        let running =
            Server::start(config, place, &supervisor).await.map_err(|error| not_started(settings, &error))?;
        Ok(Self { running, scheme: "http", supervisor, ended })
    }

    /// A server of the cluster that this process is on.
    pub(crate) async fn on_cluster(
        settings: &Settings,
        upstream: Upstream,
        listen: Option<SocketAddr>,
        args: &ClusterArgs,
    ) -> Outcome<Self> {
        // What its nodes can keep is said by each runner.
        let config = config(settings, upstream, Confinement::default())?;
        let told = cluster::Settings {
            pki: settings.data_dir.join("pki"),
            tls: args.tls.clone(),
            namespace: args.namespace.clone(),
            service: args.service.clone(),
            api: listen.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 8443))),
            runners: args.runners,
        };
        let (cluster, place) = cluster::Cluster::connect(&told)
            .await
            .map_err(|error| Failure::of(Code::Failed, "cannot serve the cluster", &error))?;
        let (supervisor, ended) = Supervisor::new();
        let running = Server::start(config, Place::Elsewhere(place), &supervisor)
            .await
            .map_err(|error| not_started(settings, &error))?;
        cluster.follow(&running, &supervisor);
        Ok(Self { running, scheme: "https", supervisor, ended })
    }

    /// Where REST is served over TCP.
    pub(crate) fn url(&self) -> Option<String> {
        self.running.tcp_addr.map(|address| format!("{}://{address}", self.scheme))
    }

    /// Serves until SIGINT, SIGTERM or a failure of its own.
    pub(crate) async fn until_signalled(self) -> Outcome {
        on_signals(self.supervisor.shutdown())?;
        self.drain().await
    }

    /// Ends in order.
    pub(crate) async fn stop(self) -> Outcome {
        self.running.shutdown.request();
        self.drain().await
    }

    async fn drain(self) -> Outcome {
        let Self { running, supervisor, ended, .. } = self;
        let stopped = supervisor.wait(ended, DRAIN).await;
        running.close().await;
        match stopped {
            Ok(()) => Ok(()),
            // What was cut off is in the log's hands: nothing is lost.
            Err(Stopped::DrainDeadline(_)) => Ok(()),
            Err(stopped @ Stopped::Task { .. }) => {
                Err(Failure::new(Code::Failed, format!("the server ended: {stopped}")))
            }
        }
    }
}

fn config(settings: &Settings, upstream: Upstream, confinement: Confinement) -> Outcome<Config> {
    let script = match &upstream {
        Upstream::Scripted(path) => Some(path.clone()),
        _ => None,
    };
    Ok(Config {
        data_dir: settings.data_dir.clone(),
        programs: settings.bin_dir.clone(),
        plugins: settings.plugins_dir.clone(),
        endpoint: endpoint(upstream)?,
        script,
        default_model: settings::default_model(),
        exceptions: Vec::new(),
        runner_log: settings.log.clone().unwrap_or_else(|| "info".to_owned()),
        durability: store::Durability::Full,
        sessions: server::sessions::Settings::shipped(),
        confinement,
    })
}

fn endpoint(upstream: Upstream) -> Outcome<Option<Endpoint>> {
    let (api, url, key, key_style) = match upstream {
        Upstream::Scripted(_) | Upstream::None => return Ok(None),
        Upstream::Anthropic { url, key } => {
            (Api::Anthropic, url.unwrap_or_else(|| ANTHROPIC.to_owned()), Some(key), KeyStyle::XApiKey)
        }
        Upstream::OpenAi { url, key } => (Api::OpenAi, url, key, KeyStyle::Bearer),
    };
    let base = url
        .parse()
        .map_err(|e| Failure::of(Code::Usage, &format!("{url} is not the address of a model"), &e))?;
    Ok(Some(Endpoint {
        api,
        base,
        key,
        key_style,
        anthropic_version: ANTHROPIC_VERSION.to_owned(),
        key_setting: settings::key_setting(),
        url_setting: "VTEAM_MODEL_URL",
    }))
}

/// What the launcher of this host can keep; nothing where it cannot even be started.
pub(crate) async fn confinement(bin_dir: &Path) -> Outcome<Confinement> {
    let exec = bin_dir.join("vteam-exec");
    let tried = tokio::task::spawn_blocking(move || confine::doctor(&exec, &std::env::temp_dir(), &[])).await;
    let tried = tried.map_err(|e| Failure::of(Code::Failed, "the canaries did not run", &e))?;
    Ok(tried.unwrap_or_else(|error| {
        let detail = telemetry::field::chain(&error);
        let broken =
            |name| Property { name, mechanism: "none".to_owned(), holds: false, detail: detail.clone() };
        Confinement {
            properties: PropertyName::ALL.map(broken).to_vec(),
            without_namespaces: Some(detail.clone()),
        }
    }))
}

fn not_started(settings: &Settings, error: &StartError) -> Failure {
    let code = match error {
        StartError::Listen(ListenError::NotLoopback(_)) => Code::Usage,
        StartError::Listen(ListenError::Busy(_)) | StartError::Store(StoreError::InUse) => Code::Conflict,
        StartError::Script { .. } | StartError::Prices { .. } => Code::Usage,
        StartError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Code::NotFound,
        _ => Code::Failed,
    };
    Failure::of(code, &format!("cannot start the server on {}", settings.data_dir.display()), error)
}
