//! TLS to a server at an address.

use rustix::net::sockopt;
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{self, CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject as _},
        version::TLS13,
    },
};

/// Until the server has proved who it is.
const DIAL: Duration = Duration::from_secs(10);
/// How long the first attempt to reach it may take, the next ones longer and longer: where a NetworkPolicy drops what a new
/// pod sends until it has heard of it, the kernel would try again after a second only (RFC 6298, section 2). One that refuses
/// it until then loses an attempt too, while its rules change. Across a cluster's network an answer takes a millisecond.
const FIRST_PATIENCE: Duration = Duration::from_millis(10);
/// A server whose machine is gone says nothing. It is found out after about this long, whether we speak or wait.
const SILENCE: Duration = Duration::from_secs(30);
const KNOCK_AFTER: Duration = Duration::from_secs(15);
const KNOCK_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("--server-name is no name that a certificate can hold")]
    Name(#[from] InvalidDnsNameError),
    #[error("the certificate of the authority in {path} cannot be read")]
    Authority {
        path: PathBuf,
        #[source]
        source: pki_types::pem::Error,
    },
    #[error("TLS cannot be set up with the certificates of the authority")]
    Setup(#[from] rustls::Error),
    #[error("the runner's token cannot be read from its file")]
    Token(#[source] io::Error),
}

pub(super) struct Tls {
    pub(super) address: SocketAddr,
    pub(super) authority: String,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Tls {
    pub(super) fn new(address: SocketAddr, name: &str, ca: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let unreadable = |source| TlsError::Authority { path: ca.to_owned(), source };
        for certificate in CertificateDer::pem_file_iter(ca).map_err(unreadable)? {
            roots.add(certificate.map_err(unreadable)?)?;
        }
        if roots.is_empty() {
            return Err(unreadable(pki_types::pem::Error::NoItemsFound));
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(name.to_owned())?;
        let authority = match &name {
            ServerName::DnsName(name) => format!("{}:{}", name.as_ref(), address.port()),
            _ => address.to_string(),
        };
        Ok(Self { address, authority, name, connector: TlsConnector::from(Arc::new(config)) })
    }

    pub(super) async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let dialled = timeout(DIAL, async {
            let socket = self.reach().await?;
            socket.set_nodelay(true)?;
            give_up_on_silence(&socket)?;
            self.connector.connect(self.name.clone(), socket).await
        });
        dialled.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn reach(&self) -> io::Result<TcpStream> {
        let mut patience = FIRST_PATIENCE;
        loop {
            if let Ok(reached) = timeout(patience, TcpStream::connect(self.address)).await {
                return reached;
            }
            patience *= 2;
        }
    }
}

fn give_up_on_silence(socket: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KNOCK_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, KNOCK_EVERY)?;
    let silence = u32::try_from(SILENCE.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(socket, silence)?)
}
