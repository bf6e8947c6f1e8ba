//! Where a server is, how it is reached there, and what to do when nobody answers.

use crate::{
    context::Tunnel,
    exit::{Code, Failure, Outcome},
};
use reqwest::{Certificate, ClientBuilder};
use rustls::CertificateError;
use std::{error::Error, path::PathBuf, sync::Arc};

#[derive(Debug, Clone)]
pub(crate) enum Address {
    Socket(PathBuf),
    Url {
        url: String,
        /// The only CA that is trusted, as PEM; `None`: those of this system.
        ca: Option<Vec<u8>>,
    },
    /// Of a cluster, through the API server.
    Tunnel(Arc<Tunnel>),
}

impl Address {
    /// What all paths are below.
    pub(super) fn base(&self) -> String {
        match self {
            Self::Socket(_) => "http://localhost".to_owned(),
            Self::Url { url, .. } => url.trim_end_matches('/').to_owned(),
            Self::Tunnel(tunnel) => format!("https://{}", tunnel.host()),
        }
    }

    pub(super) fn prepare(&self, builder: ClientBuilder) -> Outcome<ClientBuilder> {
        match self {
            Self::Socket(path) => Ok(builder.unix_socket(path.as_path())),
            Self::Url { ca: None, .. } => Ok(builder),
            Self::Url { ca: Some(pem), .. } => Ok(builder.tls_certs_only(trusted(pem)?)),
            Self::Tunnel(tunnel) => {
                Ok(builder.unix_socket(tunnel.socket()).tls_certs_only(trusted(tunnel.ca())?))
            }
        }
    }

    /// How often a stream tries to come back. A server that has to move to another node takes its time.
    pub(super) fn attempts(&self) -> u32 {
        match self {
            Self::Tunnel(_) => 40,
            Self::Socket(_) | Self::Url { .. } => 10,
        }
    }

    pub(super) fn away(&self) -> &'static str {
        match self {
            Self::Socket(_) => " (start one with: vteam up)",
            Self::Url { .. } | Self::Tunnel(_) => "",
        }
    }

    /// Where nobody answers, why, and what to do.
    pub(super) fn nobody(&self, error: &(dyn Error + 'static)) -> String {
        match self {
            Self::Socket(path) => {
                format!("at {} ({}); start one with: vteam up", path.display(), cause(error))
            }
            Self::Url { url, ca } if url.starts_with("https:") => {
                format!("at {url}: {}", tls(error, ca.is_some()))
            }
            Self::Url { url, .. } => {
                format!("at {url} ({}); start one with: vteam up --listen ADDRESS:PORT", cause(error))
            }
            // What became of the way there says more than that nothing came back on it.
            Self::Tunnel(tunnel) => match tunnel.trouble() {
                Some(trouble) => format!("{tunnel}: {trouble}"),
                None if refused(error).is_none() => format!("{tunnel}: {}; try again", cause(error)),
                None => format!("{tunnel}: {}", tls(error, true)),
            },
        }
    }
}

fn trusted(pem: &[u8]) -> Outcome<Vec<Certificate>> {
    match Certificate::from_pem_bundle(pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Failure::new(Code::Usage, "the CA is no certificate in PEM")),
        Err(e) => Err(Failure::of(Code::Usage, "the CA is no certificate in PEM", &e)),
    }
}

fn tls(error: &(dyn Error + 'static), own_ca: bool) -> String {
    let what = cause(error);
    let Some(refused) = refused(error) else {
        return format!(
            "{what}; if it is `vteam up`, it speaks plain HTTP: there, give --server http://127.0.0.1:PORT"
        );
    };
    let what_to_do = match refused {
        CertificateError::UnknownIssuer if own_ca => {
            "its certificate is of another CA than the one that is trusted here: get the CA anew, or make sure who answers"
        }
        CertificateError::UnknownIssuer => {
            "no CA of this system vouches for it: give --ca FILE, for a cluster the key ca.crt of its ConfigMap \
             vteam-server-ca"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name: use one of those that it names"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate is over: restart the server, or set this machine's clock"
        }
        _ => "its certificate is not taken",
    };
    format!("{what_to_do} ({what})")
}

/// Why the other side's certificate was not taken.
fn refused<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    chain(error).find_map(|error| match error.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(why) => Some(why),
        _ => None,
    })
}

/// What really happened; the causes above it repeat the request.
pub(super) fn cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    chain(error).last().unwrap_or(error)
}

/// All causes. An I/O error does not count what it was made of among them.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| inner(*error))
}

fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    io.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn who_does_not_answer_is_told_with_what_to_do() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "refused");
        let url = |url: &str| Address::Url { url: url.to_owned(), ca: None };
        let check = |address: Address, part: &str| {
            let told = address.nobody(&refused);
            assert!(told.contains("refused") && told.contains(part), "{told}");
        };
        check(Address::Socket("/run/api.sock".into()), "vteam up");
        check(url("http://127.0.0.1:1"), "vteam up --listen");
        check(url("https://127.0.0.1:1"), "http://127.0.0.1:PORT");
    }

    #[test]
    fn a_certificate_that_is_not_taken_is_told_with_what_to_do() {
        let check = |why: CertificateError, ca: Option<&[u8]>, part: &str| {
            let error = io::Error::other(rustls::Error::InvalidCertificate(why));
            let error = io::Error::other(error);
            let address = Address::Url { url: "https://a.example".to_owned(), ca: ca.map(<[u8]>::to_vec) };
            let told = address.nobody(&error);
            assert!(told.contains(part), "{told}");
        };
        check(CertificateError::UnknownIssuer, None, "give --ca FILE");
        check(CertificateError::UnknownIssuer, Some(b"x"), "another CA");
        check(CertificateError::NotValidForName, None, "another name");
        check(CertificateError::Expired, None, "over");
    }

    #[test]
    fn what_is_no_ca_is_refused() {
        for pem in [b"".as_slice(), b"hello", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"]
        {
            let address = Address::Url { url: "https://a.example".to_owned(), ca: Some(pem.to_vec()) };
            let built = address
                .prepare(ClientBuilder::new())
                .and_then(|builder| builder.build().map(drop).map_err(|e| Failure::of(Code::Usage, "", &e)));
            assert_eq!(built.map_err(|failure| failure.code), Err(Code::Usage), "{pem:?}");
        }
    }
}
