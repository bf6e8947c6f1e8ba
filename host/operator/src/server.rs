//! Where runners dial: by address, because a runner's pod resolves no names.

use crate::{sessions::pod::Server, settings::Settings};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::{Api, Client};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

const SERVICE: &str = "vteam-server";
const CA: &str = "vteam-server-ca";
const PORT: &str = "runners";
/// How long an answer counts.
const KEPT: Duration = Duration::from_secs(30);

pub(crate) struct ServerAddress {
    services: Api<Service>,
    maps: Api<ConfigMap>,
    address: Option<String>,
    name: String,
    last: Mutex<Option<(Instant, Server)>>,
}

impl ServerAddress {
    pub(crate) fn new(client: Client, settings: &Settings) -> Self {
        Self {
            services: Api::namespaced(client.clone(), &settings.namespace),
            maps: Api::namespaced(client, &settings.namespace),
            address: settings.server_address.clone(),
            name: settings.server_name.clone(),
            last: Mutex::new(None),
        }
    }

    /// `None`: there is no server yet.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub(crate) async fn get(&self) -> Result<Option<Server>, kube::Error> {
        let mut last = self.last.lock().await;
        if let Some((_, server)) = last.as_ref().filter(|(at, _)| at.elapsed() < KEPT) {
            return Ok(Some(server.clone()));
        }
        let map = self.maps.get_opt(CA).await?;
        let ca = map.and_then(|map| map.data?.remove("ca.crt")).filter(|ca| !ca.is_empty());
        let url = match &self.address {
            Some(address) => Some(address.clone()),
            None => self.services.get_opt(SERVICE).await?.as_ref().and_then(url),
        };
        let (Some(ca), Some(url)) = (ca, url) else { return Ok(None) };
        let server = Server { url, name: self.name.clone(), ca };
        *last = Some((Instant::now(), server.clone()));
        Ok(Some(server))
    }
}

fn url(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let ip = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None")?;
    let port = spec.ports.as_ref()?.iter().find(|port| port.name.as_deref() == Some(PORT))?.port;
    Some(if ip.contains(':') { format!("https://[{ip}]:{port}") } else { format!("https://{ip}:{port}") })
}
