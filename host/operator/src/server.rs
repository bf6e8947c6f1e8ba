//! Where the server is: its address and its CA's certificate, as the system's namespace has them. They are waited for, and
//! what is missing is said.

use crate::{
    sessions::{Server, Wake},
    settings::Settings,
};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use std::{
    fmt::Debug,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};
use telemetry::{Health, Shutdown, field::chain};
use tokio::sync::mpsc;

/// The Service that runners dial.
const SERVICE: &str = "vteam-server";
/// Its port for them.
const PORT: &str = "runners";
/// The ConfigMap with the certificate, and the key in it.
const CA: &str = "vteam-server-ca";
const CA_KEY: &str = "ca.crt";
const PART: &str = "server";

pub(crate) struct Place {
    namespace: String,
    name: String,
    known: Mutex<Known>,
    health: Health,
    wake: mpsc::UnboundedSender<Wake>,
}

#[derive(Default)]
struct Known {
    url: Option<String>,
    ca: Option<String>,
}

impl Place {
    pub(crate) fn new(settings: &Settings, health: Health, wake: mpsc::UnboundedSender<Wake>) -> Self {
        let known = Mutex::new(Known { url: settings.server_address.clone(), ca: None });
        let (namespace, name) = (settings.namespace.clone(), settings.server_name.clone());
        Self { namespace, name, known, health, wake }
    }

    /// The server.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn server(&self) -> Result<Server, String> {
        let Known { url, ca } = &*self.known();
        let namespace = &self.namespace;
        let Some(url) = url.clone() else {
            return Err(format!(
                "Service {namespace}/{SERVICE} with a port called {PORT} is waited for: is the server installed?"
            ));
        };
        let Some(ca) = ca.clone() else {
            return Err(format!(
                "ConfigMap {namespace}/{CA} with {CA_KEY} is waited for: the server makes it when it starts"
            ));
        };
        Ok(Server { url, name: self.name.clone(), ca })
    }

    /// Follows what was not told on the command line.
    pub(crate) async fn follow(&self, client: Client, settings: &Settings, shutdown: Shutdown) {
        self.say();
        let certificate =
            self.object(client.clone(), CA, |known, map: Option<&ConfigMap>| known.ca = map.and_then(ca));
        if settings.server_address.is_some() {
            shutdown.or(certificate).await;
        } else {
            let address = self.object(client, SERVICE, |known, service: Option<&Service>| {
                known.url = service.and_then(url)
            });
            shutdown.or(async { tokio::join!(certificate, address) }).await;
        }
    }

    async fn object<K>(&self, client: Client, name: &str, take: impl Fn(&mut Known, Option<&K>))
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
        K::DynamicType: Default,
    {
        let api = Api::<K>::namespaced(client, &self.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = watcher(api, config).default_backoff().boxed();
        let mut listed = None;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed = None,
                Ok(Event::InitApply(object)) => listed = Some(object),
                Ok(Event::InitDone) => self.took(|known| take(known, listed.as_ref())),
                Ok(Event::Apply(object)) => self.took(|known| take(known, Some(&object))),
                Ok(Event::Delete(_)) => self.took(|known| take(known, None)),
                Err(error) => {
                    tracing::warn!(name, error = %chain(&error), "the server's place is not followed for now")
                }
            }
        }
    }

    fn took(&self, take: impl FnOnce(&mut Known)) {
        take(&mut self.known());
        self.say();
        // Nobody listens only at the end.
        let _ = self.wake.send(Wake::All);
    }

    fn say(&self) {
        match self.server() {
            Ok(_) => self.health.recover(PART),
            Err(missing) => {
                tracing::info!(missing, "no pod can be made yet");
                self.health.degrade(PART, missing);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ca(map: &ConfigMap) -> Option<String> {
    map.data.as_ref()?.get(CA_KEY).filter(|pem| !pem.trim().is_empty()).cloned()
}

fn url(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let address: IpAddr = spec.cluster_ip.as_deref()?.parse().ok()?;
    let port = spec.ports.as_ref()?.iter().find(|port| port.name.as_deref() == Some(PORT))?.port;
    Some(match address {
        IpAddr::V4(address) => format!("https://{address}:{port}"),
        IpAddr::V6(address) => format!("https://[{address}]:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_services_address() {
        let check = |spec: serde_json::Value, expected: Option<&str>| {
            let service: Service = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            assert_eq!(url(&service).as_deref(), expected, "{service:?}");
        };
        let ports = json!([{"name": "api", "port": 443}, {"name": "runners", "port": 8443}]);
        check(json!({"clusterIP": "10.96.3.4", "ports": ports}), Some("https://10.96.3.4:8443"));
        check(json!({"clusterIP": "fd00::1", "ports": ports}), Some("https://[fd00::1]:8443"));
        check(json!({"clusterIP": "None", "ports": ports}), None);
        check(json!({"clusterIP": "10.96.3.4", "ports": [{"port": 443}]}), None);
    }
}
