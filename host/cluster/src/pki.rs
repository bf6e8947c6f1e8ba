//! The certificate that the server shows to runners and callers: signed by a CA of its own that was made when it was
//! installed, or given by a Secret. The CA's certificate is published as a ConfigMap.

mod given;
mod own;

use crate::ClusterError;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams},
};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

pub(crate) use given::Given;

/// Under which the CA's certificate stands in the ConfigMap, and in a Secret of cert-manager.
const CA_KEY: &str = "ca.crt";

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("the CA in {} cannot be read or made", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the CA in {} cannot be used: remove the folder to have a new one made", path.display())]
    Ca { path: PathBuf, source: rcgen::Error },
    #[error("a certificate cannot be made")]
    Certificate(#[source] rcgen::Error),
    #[error("{} cannot be read: the Secret needs tls.crt, tls.key and ca.crt", path.display())]
    Given { path: PathBuf, source: io::Error },
    #[error("{} is not what its name says, in PEM", path.display())]
    Pem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("the certificate in {} is not one for {name} that its {CA_KEY} has signed", path.display())]
    Unfit { path: PathBuf, name: String, source: rustls::Error },
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// What the server shows of itself.
#[derive(Debug)]
pub(crate) struct Identity {
    ca_pem: String,
    key: Arc<CertifiedKey>,
}

impl Identity {
    /// With a CA of its own: reads it, or makes one, and has it sign a new certificate for the Service.
    pub(crate) fn own(folder: &Path, service: &str, namespace: &str) -> Result<Self, PkiError> {
        own::open(folder, service, namespace)
    }

    fn new(
        ca_pem: String,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, PkiError> {
        Ok(Self { ca_pem, key: Arc::new(CertifiedKey::from_der(chain, key, &provider())?) })
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    fn is_same(&self, other: &Self) -> bool {
        self.ca_pem == other.ca_pem && self.key.cert == other.key.cert
    }
}

/// What is shown, which may be renewed while the server runs.
#[derive(Debug)]
pub(crate) struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    pub(crate) fn new(identity: &Identity) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Arc::clone(&identity.key))))
    }

    fn renew(&self, identity: &Identity) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&identity.key);
    }

    pub(crate) fn server_config(self: Arc<Self>) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self);
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// The name by which runners know the server.
pub(crate) fn name(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc")
}

/// Where the operator finds the CA's certificate, to give it to runners.
pub(crate) async fn publish(
    client: &Client,
    namespace: &str,
    service: &str,
    ca_pem: &str,
) -> Result<(), ClusterError> {
    let name = format!("{service}-ca");
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([(CA_KEY.to_owned(), ca_pem.to_owned())])),
        ..ConfigMap::default()
    };
    let params = PatchParams::apply("vteam-server").force();
    Api::<ConfigMap>::namespaced(client.clone(), namespace)
        .patch(&name, &params, &Patch::Apply(&map))
        .await
        .map(|_| ())
        .map_err(|source| ClusterError::Publish { name, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConnection,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    };
    use std::fs;

    /// Whether a client that trusts this CA takes the server for `name`.
    pub(super) fn trusts(identity: &Identity, ca_pem: &str, name: &'static str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client =
            ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
        let mut server = ServerConnection::new(Shown::new(identity).server_config().unwrap()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut bytes.as_slice()).unwrap();
            if server.process_new_packets().is_err() {
                return false;
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut bytes.as_slice()).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
        true
    }

    #[test]
    fn one_ca_for_every_start() {
        let dir = tempfile::tempdir().unwrap();
        let open = |dir: &Path| Identity::own(dir, "vteam-server", "vteam-system").unwrap();
        let first = open(dir.path()).ca_pem().to_owned();
        assert!(trusts(&open(dir.path()), &first, "vteam-server.vteam-system.svc"), "a later start");
        assert!(trusts(&open(dir.path()), &first, "localhost"));
        assert!(!trusts(&open(dir.path()), &first, "elsewhere.example"), "another name");
        let other = tempfile::tempdir().unwrap();
        assert!(!trusts(&open(other.path()), &first, "localhost"), "another CA");
        let mode = |file: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("ca.key"), 0o600);
        fs::write(dir.path().join("ca.key"), "x").unwrap();
        let broken = Identity::own(dir.path(), "vteam-server", "vteam-system").err().unwrap();
        assert!(broken.to_string().contains("remove the folder"), "{broken}");
    }
}
