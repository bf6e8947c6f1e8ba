//! Opens everything over one data folder, in the order in which it depends on each other, and listens.

use crate::{
    access::{self, Callers},
    api::{self, Api},
    auth::{Token, TokenError},
    broker::{Broker, BrokerConfig, BrokerError, Endpoint, InvalidPrices, Models, RetryPolicy, scripted},
    catalogue::{Added, Around, Catalogue, Key, KeyError, Places},
    gateway,
    listen::{self, Hosts, ListenError},
    records::{InStore, Records},
    scheduler::{LocalScheduler, LocalSettings},
    sessions::{Launcher, Life, SessionError, Sessions, Settings},
    settings::{Folder, Projects},
};
use axum::Router;
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
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
};

/// Between two looks for what may go.
const HOUSEKEEPING: Duration = Duration::from_secs(5 * 60);

/// Where runners live and sessions are recorded.
pub enum Place {
    /// On this machine, in the data folder.
    Here {
        /// TCP beside the socket, for pages and other tools. Loopback only; port 0 takes a free one.
        listen: Option<SocketAddr>,
        /// Who the holder of the token is, in events.
        user: String,
    },
    Elsewhere(Elsewhere),
}

/// What stands in for this machine's: each is one of the seams.
pub struct Elsewhere {
    pub life: Life,
    pub launcher: Arc<dyn Launcher>,
    pub projects: Arc<dyn Projects>,
    pub records: Arc<dyn Records>,
    pub callers: Arc<dyn Callers>,
    /// Where people add plugins. Whoever follows that place tells [`Running::catalogue`].
    pub plugins: &'static str,
    /// REST, over TLS.
    pub api: SocketAddr,
    /// Where runners dial in, over TLS.
    pub runners: SocketAddr,
    pub tls: Arc<rustls::ServerConfig>,
}

/// What a server is started with. The process's own settings made it; nothing else reads the environment.
#[derive(Debug)]
pub struct Config {
    pub data_dir: PathBuf,
    /// The folder of `vteam-runner`, `vteam-exec` and `vteam-compile`.
    pub programs: PathBuf,
    /// The folder of first-party plugins.
    pub plugins: PathBuf,
    /// Where models answer.
    pub endpoint: Option<Endpoint>,
    /// A scripted model to play.
    pub script: Option<PathBuf>,
    pub default_model: Option<String>,
    /// Non-public places that components may fetch from.
    pub exceptions: Vec<Exception>,
    /// Log filter of runners.
    pub runner_log: String,
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
    /// REST over TCP.
    pub tcp_addr: Option<SocketAddr>,
    /// Ends the server when requested.
    pub shutdown: Shutdown,
    pub health: Health,
    pub sessions: Sessions,
    pub catalogue: Catalogue,
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
    pub async fn start(config: Config, place: Place, supervisor: &Supervisor) -> Result<Running, StartError> {
        let health = Health::new();
        let dir = config.data_dir.clone();
        listen::private_folder(&dir)?;
        // One server per folder: the store's lock. Only then are left-over sockets removed.
        let store = Store::open(&dir, config.durability)?;
        let catalogue = open_catalogue(&config, &place, health.clone())?;
        let upstream = upstream(&config).await?;
        let (seams, doors) = match place {
            Place::Here { listen, user } => here(&config, listen, &user, &health).await?,
            Place::Elsewhere(elsewhere) => open_elsewhere(elsewhere).await?,
        };
        // What can fail has been tried: from here on sessions go on.
        let (models, receiver) = watch::channel(None);
        let Seams { life, launcher, projects, records, callers } = seams;
        let around =
            Around { catalogue: catalogue.clone(), projects: Arc::clone(&projects), models: receiver };
        let sessions = Sessions::open(store, life, launcher, Arc::new(around), config.sessions).await?;
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
            records,
            callers,
            health: health.clone(),
            metrics: Metrics::new(),
            shutdown: shutdown.clone(),
            again: access::AGAIN,
            confinement: config.confinement,
        });
        let gateway = gateway::router(sessions.clone(), broker.clone());
        let tcp_addr = doors.serve(&api, gateway, &shutdown, supervisor)?;
        supervisor.spawn(catalogue.clone().follow(shutdown.clone()));
        supervisor.spawn(catalogue.clone().keep_swept(sessions.clone(), shutdown.clone()));
        supervisor.spawn(sessions.clone().housekeeping(HOUSEKEEPING, shutdown.clone()));
        health.set_ready(true);
        tracing::info!(data = %dir.display(), tcp = ?tcp_addr, "listening");
        Ok(Running { tcp_addr, shutdown, health, sessions, catalogue, broker, models })
    }
}

struct Seams {
    life: Life,
    launcher: Arc<dyn Launcher>,
    projects: Arc<dyn Projects>,
    records: Arc<dyn Records>,
    callers: Arc<dyn Callers>,
}

/// Where the server listens.
enum Doors {
    Sockets { api: UnixListener, runners: UnixListener, tcp: Option<TcpListener> },
    Tls { api: TcpListener, runners: TcpListener, config: Arc<rustls::ServerConfig> },
}

impl Doors {
    fn serve(
        self,
        api: &Api,
        gateway: Router,
        shutdown: &Shutdown,
        supervisor: &Supervisor,
    ) -> Result<Option<SocketAddr>, StartError> {
        match self {
            Self::Sockets { api: local, runners, tcp } => {
                supervisor.critical("gateway", listen::serve(runners, gateway, shutdown.clone()));
                supervisor.critical("api", listen::serve(local, api.router(), shutdown.clone()));
                tcp.map(|listener| serve_tcp(listener, api, shutdown, supervisor)).transpose()
            }
            Self::Tls { api: rest, runners, config } => {
                let address = rest.local_addr().ok();
                let gateway = listen::serve_tls(runners, Arc::clone(&config), gateway, shutdown.clone());
                supervisor.critical("gateway", gateway);
                supervisor.critical("api", listen::serve_tls(rest, config, api.router(), shutdown.clone()));
                Ok(address)
            }
        }
    }
}

async fn here(
    config: &Config,
    listen: Option<SocketAddr>,
    user: &str,
    health: &Health,
) -> Result<(Seams, Doors), StartError> {
    let dir = &config.data_dir;
    let run = dir.join("run");
    listen::private_folder(&run)?;
    let token = Token::open(&dir.join("token"), user)?;
    let runner_socket = run.join("runner.sock");
    let doors = Doors::Sockets {
        runners: listen::unix(&runner_socket)?,
        api: listen::unix(&run.join("api.sock"))?,
        tcp: match listen {
            Some(address) => Some(listen::tcp(address).await?),
            None => None,
        },
    };
    let projects = in_folder(&dir.join("settings"), |path| Folder::open(path, health.clone()))?;
    let launcher = LocalScheduler::new(LocalSettings {
        data: dir.clone(),
        sessions: dir.join("sessions"),
        socket: runner_socket,
        programs: config.programs.clone(),
        plugins: config.plugins.clone(),
        log: config.runner_log.clone(),
    });
    let seams = Seams {
        life: Life::Planned,
        launcher: Arc::new(launcher),
        projects: Arc::new(projects),
        records: Arc::new(InStore),
        callers: Arc::new(token),
    };
    Ok((seams, doors))
}

async fn open_elsewhere(elsewhere: Elsewhere) -> Result<(Seams, Doors), StartError> {
    let Elsewhere { life, launcher, projects, records, callers, plugins: _, api, runners, tls } = elsewhere;
    let doors =
        Doors::Tls { api: listen::any(api).await?, runners: listen::any(runners).await?, config: tls };
    Ok((Seams { life, launcher, projects, records, callers }, doors))
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

fn open_catalogue(config: &Config, place: &Place, health: Health) -> Result<Catalogue, StartError> {
    let dir = &config.data_dir;
    let keys = dir.join("keys");
    listen::private_folder(&keys)?;
    listen::private_folder(&dir.join("native"))?;
    let places = Places {
        first_party: config.plugins.clone(),
        added: match place {
            Place::Here { .. } => Added::Folder(dir.join("plugins")),
            Place::Elsewhere(elsewhere) => Added::Elsewhere(elsewhere.plugins),
        },
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
