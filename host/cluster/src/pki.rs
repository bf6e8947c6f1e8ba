//! The server's own CA, made when it is installed, and the certificate that it shows to runners and callers. The CA's
//! certificate is published as a ConfigMap; its key stays in the server's volume.

use crate::ClusterError;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Under which the CA's certificate stands in the ConfigMap.
const CA_KEY: &str = "ca.crt";

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("the CA in {} cannot be read or made", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the CA in {} cannot be used: remove the folder to have a new one made", path.display())]
    Ca { path: PathBuf, source: rcgen::Error },
    #[error("a certificate cannot be made")]
    Certificate(#[source] rcgen::Error),
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// What the server shows of itself.
pub(crate) struct Identity {
    ca_pem: String,
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads the CA, or makes one, and has it sign a new certificate for the Service.
    pub(crate) fn open(folder: &Path, service: &str, namespace: &str) -> Result<Self, PkiError> {
        let io = |source| PkiError::Io { path: folder.to_owned(), source };
        let broken = |source| PkiError::Ca { path: folder.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
        let (key_file, ca_file) = (folder.join("ca.key"), folder.join(CA_KEY));
        let params = ca(namespace);
        let key = match fs::read_to_string(&key_file) {
            Ok(pem) => KeyPair::from_pem(&pem).map_err(broken)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate().map_err(PkiError::Certificate)?;
                let certificate = params.self_signed(&key).map_err(PkiError::Certificate)?;
                write(&ca_file, &certificate.pem()).map_err(io)?;
                // Last: without it both are made again.
                write(&key_file, &key.serialize_pem()).map_err(io)?;
                key
            }
            Err(error) => return Err(io(error)),
        };
        let ca_pem = fs::read_to_string(&ca_file).map_err(io)?;
        let names = names(service, namespace);
        let mut of_server = CertificateParams::new(names).map_err(PkiError::Certificate)?;
        of_server.distinguished_name.push(DnType::CommonName, service);
        let own_key = KeyPair::generate().map_err(PkiError::Certificate)?;
        let certificate =
            of_server.signed_by(&own_key, &Issuer::new(params, key)).map_err(PkiError::Certificate)?;
        let key = PrivatePkcs8KeyDer::from(own_key.serialize_der()).into();
        Ok(Self { ca_pem, chain: vec![certificate.der().clone()], key })
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub(crate) fn server_config(self) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)?;
        Ok(Arc::new(config))
    }
}

/// The names by which the server is reached: in the cluster, and through a port-forward.
fn names(service: &str, namespace: &str) -> Vec<String> {
    vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        format!("{service}.{namespace}"),
        service.to_owned(),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
    ]
}

/// Always the same, so that the issuer is the one in the certificate.
fn ca(namespace: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("vteam in {namespace}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
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

    /// Whether a client that trusts this CA takes the server for `name`.
    fn trusts(identity: Identity, ca_pem: &str, name: &'static str) -> bool {
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
        let mut server = ServerConnection::new(identity.server_config().unwrap()).unwrap();
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
        let open = |dir: &Path| Identity::open(dir, "vteam-server", "vteam-system").unwrap();
        let first = open(dir.path()).ca_pem().to_owned();
        assert!(trusts(open(dir.path()), &first, "vteam-server.vteam-system.svc"), "a later start");
        assert!(trusts(open(dir.path()), &first, "localhost"));
        assert!(!trusts(open(dir.path()), &first, "elsewhere.example"), "another name");
        let other = tempfile::tempdir().unwrap();
        assert!(!trusts(open(other.path()), &first, "localhost"), "another CA");
        let mode = |file: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("ca.key"), 0o600);
        fs::write(dir.path().join("ca.key"), "x").unwrap();
        let broken = Identity::open(dir.path(), "vteam-server", "vteam-system").err().unwrap();
        assert!(broken.to_string().contains("remove the folder"), "{broken}");
    }
}
