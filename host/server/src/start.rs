//! Opens everything over one data folder, in the order in which it depends on each other, and listens.

use crate::{
    api::{self, Api},
    auth::{Token, TokenError},
    broker::{Broker, BrokerConfig, BrokerError, Endpoint, InvalidPrices, Models, RetryPolicy, scripted},
    catalogue::{Around, Catalogue, Key, KeyError, Places},
    gateway,
    listen::{self, Hosts, ListenError},
    scheduler::{LocalScheduler, LocalSettings},
    sessions::{SessionError, Sessions, Settings},
    settings::Projects,
};
use egress::Exception;
use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use store::{Durability, Store, StoreError};
use telemetry::{Health, Metrics, Shutdown, Supervisor};
use tokio::{net::TcpListener, sync::watch};

/// Between two looks for what may go.
const HOUSEKEEPING: Duration = Duration::from_secs(5 * 60);

/// What a server is started with. The process's own settings made it; nothing else reads the environment.
#[derive(Debug)]
pub struct Config {
    pub data_dir: PathBuf,
    /// The folder of `vteam-runner`, `vteam-exec` and `vteam-compile`.
    pub programs: PathBuf,
    /// The folder of first-party plugins.
    pub plugins: PathBuf,
    /// TCP beside the socket, for pages and other tools. Loopback only; port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// Where models answer.
    pub endpoint: Option<Endpoint>,
    /// A scripted model to play.
    pub script: Option<PathBuf>,
    pub default_model: Option<String>,
    /// Non-public places that components may fetch from.
    pub exceptions: Vec<Exception>,
    /// Log filter of runners.
    pub runner_log: String,
    /// Who the holder of the token is, in events.
    pub user: String,
    pub durability: Durability,
    pub sessions: Settings,
    /// What this host's launcher can keep: sessions that need programs are refused where something does not hold.
    pub confinement: protocol::exec::Confinement,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("sessions cannot be taken up")]
    Sessions(#[from] SessionError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the price table {} is not valid", path.display())]
    Prices { path: PathBuf, source: InvalidPrices },
    #[error("the script {} cannot be played: {why}", path.display())]
    Script { path: PathBuf, why: String },
    #[error("cannot use {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A server under way. It ends when the supervisor's shutdown is requested; then call [`Running::close`].
pub struct Running {
    pub api_socket: PathBuf,
    pub tcp_addr: Option<SocketAddr>,
    pub token_path: PathBuf,
    /// Ends the server when requested.
    pub shutdown: Shutdown,
    pub health: Health,
    sessions: Sessions,
    broker: Broker,
    /// Sessions reach the broker through here, and it them: emptied at the end, so that both go.
    models: watch::Sender<Option<Broker>>,
}

impl Running {
    /// After the supervisor has ended the listeners: settles what is under way. Runners keep running and find the next
    /// server.
    pub async fn close(self) {
        self.sessions.close().await;
        self.broker.drain().await;
        self.models.send_replace(None);
    }
}

pub struct Server;

impl Server {
    /// Starts a server whose tasks the supervisor owns.
    ///
    /// # Errors
    /// Each says what to do. Nothing keeps running then but what the supervisor was given.
    pub async fn start(config: Config, supervisor: &Supervisor) -> Result<Running, StartError> {
        let health = Health::new();
        let dir = config.data_dir.clone();
        let run = dir.join("run");
        listen::private_folder(&dir)?;
        listen::private_folder(&run)?;
        // One server per folder: the store's lock. Only then are left-over sockets removed.
        let store = Store::open(&dir, config.durability)?;
        let token_path = dir.join("token");
        let token = Token::open(&token_path, &config.user)?;
        let (runner_socket, api_socket) = (run.join("runner.sock"), run.join("api.sock"));
        let runners = listen::unix(&runner_socket)?;
        let local = listen::unix(&api_socket)?;
        let tcp = match config.listen {
            Some(address) => Some(listen::tcp(address).await?),
            None => None,
        };
        let catalogue = open_catalogue(&config, health.clone())?;
        let projects = in_folder(&dir.join("settings"), |path| Projects::open(path, health.clone()))?;
        let upstream = upstream(&config).await?;
        // What can fail has been tried: from here on sessions go on.
        let (models, receiver) = watch::channel(None);
        let launcher = LocalScheduler::new(LocalSettings {
            data: dir.clone(),
            sessions: dir.join("sessions"),
            socket: runner_socket,
            programs: config.programs.clone(),
            plugins: config.plugins.clone(),
            log: config.runner_log.clone(),
        });
        let around = Around { catalogue: catalogue.clone(), projects: projects.clone(), models: receiver };
        let sessions = Sessions::open(store, Arc::new(launcher), Arc::new(around), config.sessions).await?;
        let broker = match Broker::new(upstream, Arc::new(sessions.clone())) {
            Ok(broker) => broker,
            Err(error) => {
                sessions.close().await;
                return Err(error.into());
            }
        };
        models.send_replace(Some(broker.clone()));

        let shutdown = supervisor.shutdown().clone();
        let api = Api::new(api::Parts {
            sessions: sessions.clone(),
            broker: broker.clone(),
            catalogue: catalogue.clone(),
            projects,
            token,
            health: health.clone(),
            metrics: Metrics::new(),
            shutdown: shutdown.clone(),
            confinement: config.confinement,
        });
        let gateway = gateway::router(sessions.clone(), broker.clone());
        supervisor.critical("gateway", listen::serve(runners, gateway, shutdown.clone()));
        supervisor.critical("api", listen::serve(local, api.router(), shutdown.clone()));
        let tcp_addr = match tcp {
            Some(listener) => Some(serve_tcp(listener, &api, &shutdown, supervisor)?),
            None => None,
        };
        supervisor.spawn(catalogue.follow(shutdown.clone()));
        supervisor.spawn(sessions.clone().housekeeping(HOUSEKEEPING, shutdown.clone()));
        health.set_ready(true);
        tracing::info!(socket = %api_socket.display(), tcp = ?tcp_addr, "listening");
        Ok(Running { api_socket, tcp_addr, token_path, shutdown, health, sessions, broker, models })
    }
}

fn serve_tcp(
    listener: TcpListener,
    api: &Api,
    shutdown: &Shutdown,
    supervisor: &Supervisor,
) -> Result<SocketAddr, StartError> {
    let io = |source| StartError::Io { path: PathBuf::from("the TCP listener"), source };
    let address = listener.local_addr().map_err(io)?;
    let router = listen::guarded(api.router(), Hosts::of(address));
    supervisor.critical("api on TCP", listen::serve(listen::prompt(listener), router, shutdown.clone()));
    Ok(address)
}

fn open_catalogue(config: &Config, health: Health) -> Result<Catalogue, StartError> {
    let dir = &config.data_dir;
    let keys = dir.join("keys");
    listen::private_folder(&keys)?;
    listen::private_folder(&dir.join("native"))?;
    let places = Places {
        first_party: config.plugins.clone(),
        dropped: dir.join("plugins"),
        native: dir.join("native"),
        compiler: config.programs.join("vteam-compile"),
    };
    let key = Key::open(&keys.join("artifact.key"))?;
    in_folder(&dir.join("plugins"), |_| Catalogue::open(places, key, health))
}

async fn upstream(config: &Config) -> Result<BrokerConfig, StartError> {
    let path = config.data_dir.join("prices.yaml");
    let prices = |source| StartError::Prices { path: path.clone(), source };
    let mut models = Models::shipped().map_err(prices)?;
    match fs::read_to_string(&path) {
        Ok(text) => models = models.with(&text).map_err(prices)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(StartError::Io { path, source }),
    }
    let scripted = match &config.script {
        Some(path) => Some(play(path).await?),
        None => None,
    };
    Ok(BrokerConfig {
        endpoint: config.endpoint.clone(),
        scripted,
        default_model: config.default_model.clone(),
        models,
        retry: RetryPolicy::shipped(),
        exceptions: config.exceptions.clone(),
    })
}

async fn play(path: &Path) -> Result<scripted::Scripted, StartError> {
    let io = |source| StartError::Io { path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(io)?;
    let script = scripted::Script::parse(&text)
        .map_err(|error| StartError::Script { path: path.to_owned(), why: error.to_string() })?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(io)?;
    scripted::serve(script, listener).map_err(io)
}

fn in_folder<T>(path: &Path, open: impl FnOnce(PathBuf) -> io::Result<T>) -> Result<T, StartError> {
    open(path.to_owned()).map_err(|source| StartError::Io { path: path.to_owned(), source })
}
