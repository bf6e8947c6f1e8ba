//! A certificate from a Secret, as `kubectl create secret` or cert-manager writes it. It is renewed while the server runs: its
//! files are looked at again and again.

use super::{CA_KEY, Identity, PkiError, Shown, provider, publish};
use kube::Client;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use telemetry::Shutdown;

const FILES: [&str; 3] = ["tls.crt", "tls.key", CA_KEY];
/// Kubelet takes about a minute to bring what changed.
const EVERY: Duration = Duration::from_secs(30);

/// The folder that a Secret is mounted at.
pub(crate) struct Given {
    folder: PathBuf,
    /// That it has to be for.
    name: String,
}

impl Given {
    /// `None` where there is no Secret. Its folder has kubelet's own links then, and none of the files.
    pub(crate) fn find(folder: &Path, name: String) -> Option<Self> {
        let some = FILES.iter().any(|file| folder.join(file).exists());
        some.then(|| Self { folder: folder.to_owned(), name })
    }

    /// Only one that runners would trust.
    pub(crate) fn read(&self) -> Result<Identity, PkiError> {
        let file = |name: &str| {
            let path = self.folder.join(name);
            match fs::read(&path) {
                Ok(bytes) => Ok((path, bytes)),
                Err(source) => Err(PkiError::Given { path, source }),
            }
        };
        let [chain, key, ca] = FILES.map(file);
        let ((chain_file, chain), (key_file, key), (ca_file, ca)) = (chain?, key?, ca?);
        let chain = certificates(&chain_file, &chain)?;
        let key =
            PrivateKeyDer::from_pem_slice(&key).map_err(|source| PkiError::Pem { path: key_file, source })?;
        let unfit = |source| PkiError::Unfit { path: self.folder.clone(), name: self.name.clone(), source };
        self.verify(&chain, &certificates(&ca_file, &ca)?).map_err(unfit)?;
        let ca_pem = String::from_utf8(ca).map_err(|error| PkiError::Given {
            path: ca_file,
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        })?;
        Identity::new(ca_pem, chain, key)
    }

    fn verify(
        &self,
        chain: &[CertificateDer<'static>],
        roots: &[CertificateDer<'static>],
    ) -> Result<(), rustls::Error> {
        let none = || rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone())?;
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::new(provider()))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let (own, between) = chain.split_first().ok_or_else(none)?;
        let name = ServerName::try_from(self.name.as_str()).map_err(|_| none())?;
        verifier.verify_server_cert(own, between, &name, &[], UnixTime::now()).map(drop)
    }

    /// Shows what is renewed. What is wrong is told once, and not shown.
    pub(crate) async fn follow(
        self,
        first: Identity,
        shown: Arc<Shown>,
        client: Client,
        namespace: String,
        service: String,
        shutdown: Shutdown,
    ) -> io::Result<()> {
        let mut before: Result<Identity, PkiError> = Ok(first);
        while shutdown.or(tokio::time::sleep(EVERY)).await.is_some() {
            let now = self.read();
            match (&now, &before) {
                (Ok(now), Ok(before)) if now.is_same(before) => continue,
                (Ok(identity), _) => {
                    if let Err(error) = publish(&client, &namespace, &service, identity.ca_pem()).await {
                        tracing::warn!(error = %telemetry::field::chain(&error), "the renewed certificate waits");
                        continue;
                    }
                    shown.renew(identity);
                    tracing::info!("the certificate was renewed");
                }
                (Err(error), Err(told)) if error.to_string() == told.to_string() => continue,
                (Err(error), _) => {
                    tracing::error!(error = %telemetry::field::chain(error), "the certificate is not renewed");
                }
            }
            before = now;
        }
        Ok(())
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|source| PkiError::Pem { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{name, tests::trusts},
        *,
    };
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn ca() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn give(folder: &Path, ca: &Ca, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned(), "localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, ca).unwrap();
        fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
        fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
        fs::write(folder.join(CA_KEY), ca.pem()).unwrap();
    }

    #[test]
    fn what_was_given_is_shown_where_runners_would_trust_it() {
        let (dir, name) = (tempfile::tempdir().unwrap(), name("vteam-server", "vteam-system"));
        let folder = dir.path();
        assert!(Given::find(folder, name.clone()).is_none());
        fs::create_dir(folder.join("..2026_11_27")).unwrap();
        std::os::unix::fs::symlink("..2026_11_27", folder.join("..data")).unwrap();
        assert!(
            Given::find(folder, name.clone()).is_none(),
            "a Secret that is not there, as kubelet mounts it"
        );
        assert!(Given::find(&folder.join("gone"), name.clone()).is_none());
        let ca = ca();
        give(folder, &ca, &name);
        let given = Given::find(folder, name.clone()).unwrap();
        let first = given.read().unwrap();
        assert_eq!(first.ca_pem(), ca.pem());
        assert!(trusts(&first, &ca.pem(), "vteam-server.vteam-system.svc"));
        assert!(first.is_same(&given.read().unwrap()));
        give(folder, &ca, &name);
        assert!(!first.is_same(&given.read().unwrap()), "it was renewed");

        let wrong = |expected: &str| {
            let said = telemetry::field::chain(&given.read().unwrap_err());
            assert!(said.contains(expected), "{said}");
        };
        give(folder, &ca, "elsewhere.example");
        wrong("is not one for vteam-server.vteam-system.svc");
        give(folder, &ca, &name);
        fs::write(folder.join(CA_KEY), self::ca().pem()).unwrap();
        wrong("is not one for vteam-server.vteam-system.svc");
        give(folder, &ca, &name);
        fs::write(folder.join("tls.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        wrong("keys may not be consistent");
        fs::write(folder.join("tls.key"), "x").unwrap();
        wrong("tls.key is not what its name says");
        fs::remove_file(folder.join("tls.key")).unwrap();
        wrong("needs tls.crt, tls.key and ca.crt");
    }
}
