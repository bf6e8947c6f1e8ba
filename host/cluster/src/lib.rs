//! A server on a cluster: each of its seams, with the cluster's API server behind it.
//!
//! [`Cluster::connect`] makes the seams; [`Cluster::follow`] then keeps the server's sessions true to their objects. What
//! is decided by whom stands in `docs/adr/0009` and `0011`.

mod callers;
mod follow;
mod objects;
mod pki;
mod plugins;
mod projects;
mod records;
mod refusals;
mod runners;
mod status;

use callers::Clients;
use kube::{Client, Config};
use pki::{Given, Identity, Shown};
use projects::Namespaces;
use refusals::Refusals;
use runners::Runners;
use server::{Elsewhere, sessions::Life};
use status::Writer;
use std::{net::SocketAddr, path::PathBuf, sync::Arc};
use telemetry::{Health, Supervisor};

pub use pki::PkiError;

/// The field manager: what the API server knows the server's fields by.
const MANAGER: &str = "vteam-server";

/// What the process was told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the server's own CA is kept.
    pub pki: PathBuf,
    /// Where a Secret is mounted that has a certificate to show instead; empty where there is none.
    pub tls: PathBuf,
    /// The namespace that the server itself is in.
    pub namespace: String,
    /// The server's Service there: its name is in the certificate.
    pub service: String,
    pub api: SocketAddr,
    pub runners: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("there is no cluster to reach: run it in a pod with a service account, or set KUBECONFIG")]
    Config(#[source] kube::config::InferConfigError),
    #[error("the cluster's API server cannot be reached")]
    Client(#[source] kube::Error),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("the cluster's projects cannot be listed")]
    Projects(#[source] kube::Error),
    #[error("the certificate of the server's CA cannot be published as the ConfigMap {name}")]
    Publish { name: String, source: kube::Error },
}

/// The cluster that a server is on.
pub struct Cluster {
    client: Client,
    runners: Arc<Runners>,
    namespaces: Arc<Namespaces>,
    refusals: Arc<Refusals>,
    writer: Arc<Writer>,
    namespace: String,
    service: String,
    renewal: Option<(Given, Identity, Arc<Shown>)>,
}

impl Cluster {
    /// The seams for a server, from the surroundings that the process finds itself in.
    ///
    /// # Errors
    /// Each says what to do.
    pub async fn connect(settings: &Settings) -> Result<(Self, Elsewhere), ClusterError> {
        let config = Config::infer().await.map_err(ClusterError::Config)?;
        let client = Client::try_from(config.clone()).map_err(ClusterError::Client)?;
        let (namespace, service) = (settings.namespace.clone(), settings.service.clone());
        let given = Given::find(&settings.tls, pki::name(&service, &namespace));
        let identity = match &given {
            Some(given) => given.read()?,
            None => Identity::own(&settings.pki, &service, &namespace)?,
        };
        pki::publish(&client, &namespace, &service, identity.ca_pem()).await?;
        let shown = Shown::new(&identity);
        let writer = Arc::new(Writer::new(client.clone()));
        let runners = Arc::new(Runners::new(client.clone(), Arc::clone(&writer)));
        let clients = Arc::new(Clients::new(config).map_err(ClusterError::Client)?);
        let namespaces = Arc::new(Namespaces::new(Arc::clone(&clients)));
        namespaces.look(&client).await.map_err(ClusterError::Projects)?;
        let refusals = Arc::new(Refusals::default());
        let elsewhere = Elsewhere {
            life: Life::Followed(Arc::clone(&runners) as _),
            launcher: Arc::new(runners::NotHere),
            projects: Arc::clone(&namespaces) as _,
            records: Arc::new(records::Objects::new(
                Arc::clone(&clients),
                Arc::clone(&namespaces),
                Arc::clone(&refusals),
            )),
            callers: clients,
            plugins: plugins::ADDED,
            api: settings.api,
            runners: settings.runners,
            tls: Arc::clone(&shown).server_config()?,
        };
        let renewal = given.map(|given| (given, identity, shown));
        Ok((Self { client, runners, namespaces, refusals, writer, namespace, service, renewal }, elsewhere))
    }

    /// Follows settings, plugins and sessions from now on, until shutdown.
    pub fn follow(self, running: &server::Running, supervisor: &Supervisor) {
        let Self { client, runners, namespaces, refusals, writer, namespace, service, renewal } = self;
        let (shutdown, health): (_, Health) = (&running.shutdown, running.health.clone());
        supervisor.critical("status", writer.write(shutdown.clone()));
        if let Some((given, identity, shown)) = renewal {
            let (at, of) = (client.clone(), namespace.clone());
            supervisor
                .critical("certificate", given.follow(identity, shown, at, of, service, shutdown.clone()));
        }
        supervisor.critical("projects", Arc::clone(&namespaces).follow(client.clone(), shutdown.clone()));
        let plugins = plugins::Follower::new(
            client.clone(),
            running.catalogue.clone(),
            Arc::clone(&namespaces),
            namespace,
            health.clone(),
        );
        let read = plugins.read();
        supervisor.critical("plugins", plugins.follow(shutdown.clone()));
        let sessions = running.sessions.clone();
        let follower = follow::Follower::new(client, runners, namespaces, refusals, read, sessions, health);
        supervisor.critical("sessions", follower.follow(shutdown.clone()));
    }
}
