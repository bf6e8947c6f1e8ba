//! A CA of the server's own. Its key stays in the server's volume.

use super::{CA_KEY, Identity, PkiError};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivatePkcs8KeyDer;
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

pub(super) fn open(folder: &Path, service: &str, namespace: &str) -> Result<Identity, PkiError> {
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
    Identity::new(ca_pem, vec![certificate.der().clone()], key)
}

/// The names by which the server is reached: in the cluster, and through a port-forward.
fn names(service: &str, namespace: &str) -> Vec<String> {
    vec![
        super::name(service, namespace),
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
