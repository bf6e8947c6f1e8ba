//! Where the server listens, and who may reach it there: two Unix sockets in a folder of the user's own, and loopback
//! TCP for pages and other tools, where the host that was named must be this one.

use crate::problem::Problem;
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, Uri, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    serve::{Listener, ListenerExt as _},
};
use doors::{Limits, Peer};
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};
use telemetry::Shutdown;
use tokio::net::{TcpListener, UnixListener};

/// Of one door at once.
const CONNECTIONS: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "{0} is in use: another program listens there; choose another address with --listen, or port 0 for a free one"
    )]
    Busy(SocketAddr),
    #[error(
        "{0} is not of this machine alone: listening there needs TLS and named tokens, which are not built yet; use 127.0.0.1"
    )]
    NotLoopback(SocketAddr),
    #[error("cannot listen on {0}")]
    Tcp(SocketAddr, #[source] io::Error),
    #[error("cannot listen on the socket {}", path.display())]
    Unix { path: PathBuf, source: io::Error },
    #[error("the folder {} belongs to somebody else, or others may use it: run `chmod 700` on it", .0.display())]
    Exposed(PathBuf),
}

/// Makes a folder that nobody else may enter, or checks that it is one.
///
/// # Errors
/// When it cannot be made or others may enter it.
pub fn private_folder(path: &Path) -> Result<(), ListenError> {
    let io = |source| ListenError::Unix { path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
    let mode = fs::metadata(path).map_err(io)?.permissions().mode();
    if mode & 0o077 == 0 { Ok(()) } else { Err(ListenError::Exposed(path.to_owned())) }
}

/// A socket file of mode 0600. The caller holds the data folder's lock, so that a file that is there is left over.
///
/// # Errors
/// When it cannot be made, such as where the path is too long for a socket.
pub fn unix(path: &Path) -> Result<UnixListener, ListenError> {
    let io = |source| ListenError::Unix { path: path.to_owned(), source };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io)?;
    Ok(listener)
}

/// # Errors
/// When the address is not loopback, or busy.
pub async fn tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    if !address.ip().is_loopback() {
        return Err(ListenError::NotLoopback(address));
    }
    any(address).await
}

/// Any address: what listens there has TLS and asks who calls.
///
/// # Errors
/// When it is busy.
pub async fn any(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::Busy(address),
        _ => ListenError::Tcp(address, error),
    })
}

/// Serves until shutdown; connections under way end then too.
///
/// # Errors
/// None of its own.
pub async fn serve<L>(listener: L, router: Router, shutdown: Shutdown) -> io::Result<()>
where
    L: Listener,
    L::Addr: Peer,
{
    doors::serve(Limits::of(CONNECTIONS), listener, router, shutdown).await
}

/// The same over TLS.
///
/// # Errors
/// None of its own.
pub async fn serve_tls(
    listener: TcpListener,
    config: Arc<rustls::ServerConfig>,
    router: Router,
    shutdown: Shutdown,
) -> io::Result<()> {
    doors::serve_tls(Limits::of(CONNECTIONS), listener, config, router, shutdown).await
}

/// Whoever follows a stream of small events would get each second one 40 ms late: Nagle's algorithm waits for the
/// acknowledgement that the other side delays (RFC 1122, section 4.2.3).
pub fn prompt(listener: TcpListener) -> impl Listener<Addr = SocketAddr> {
    listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays slow");
        }
    })
}

/// The hosts by which a listener on TCP may be named.
#[derive(Debug, Clone)]
pub struct Hosts(Arc<[String]>);

impl Hosts {
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        let port = address.port();
        let mut names = vec![address.to_string(), format!("localhost:{port}")];
        if port == 80 {
            names.extend([address.ip().to_string(), "localhost".to_owned()]);
        }
        Self(names.into())
    }

    fn knows(&self, host: &str) -> bool {
        self.0.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    /// Why a request may not come in: a page of somewhere else drives it, or a name was rebound to this address.
    fn refuse(&self, uri: &Uri, headers: &HeaderMap) -> Option<Problem> {
        let one = |name| {
            let mut values = headers.get_all(name).iter();
            let first = values.next();
            (first.and_then(|value| value.to_str().ok()), first.is_some(), values.next().is_some())
        };
        let (host, _, doubled) = one(header::HOST);
        let named = host.is_some_and(|host| self.knows(host)) && !doubled;
        if !named || uri.authority().is_some_and(|authority| !self.knows(authority.as_str())) {
            return Some(Problem::misdirected("use the address that `vteam up` printed"));
        }
        let (origin, sent, doubled) = one(header::ORIGIN);
        let ours = origin.and_then(|o| o.strip_prefix("http://")).is_some_and(|host| self.knows(host));
        if sent && (!ours || doubled) {
            return Some(Problem::forbidden("pages of other origins may not use this server"));
        }
        let upgrade = headers.contains_key(header::UPGRADE);
        (upgrade && !sent).then(|| Problem::forbidden("a WebSocket needs an Origin here"))
    }
}

/// Lets only requests through that name this listener.
pub fn guarded(router: Router, hosts: Hosts) -> Router {
    router.layer(from_fn_with_state(hosts, guard))
}

async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match hosts.refuse(request.uri(), request.headers()) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, headers: &[(&str, &str)], refused: Option<u16>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let hosts = Hosts::of("127.0.0.1:8080".parse().unwrap());
        let got = hosts.refuse(&uri.parse().unwrap(), &map).map(|problem| problem.status);
        assert_eq!(got, refused, "{uri} {headers:?}");
    }

    #[test]
    fn only_this_host_and_its_own_pages() {
        check("/health", &[("host", "127.0.0.1:8080")], None);
        check("/health", &[("host", "localhost:8080"), ("origin", "http://localhost:8080")], None);
        check("/health", &[], Some(421));
        check("/health", &[("host", "evil.example:8080")], Some(421));
        check("/health", &[("host", "127.0.0.1")], Some(421));
        check("/health", &[("host", "127.0.0.1:8080"), ("host", "evil.example")], Some(421));
        check("http://evil.example/health", &[("host", "127.0.0.1:8080")], Some(421));
        check("/health", &[("host", "127.0.0.1:8080"), ("origin", "http://evil.example")], Some(403));
        check("/health", &[("host", "127.0.0.1:8080"), ("origin", "null")], Some(403));
        check("/health", &[("host", "127.0.0.1:8080"), ("origin", "https://127.0.0.1:8080")], Some(403));
        check("/health", &[("host", "127.0.0.1:8080"), ("upgrade", "websocket")], Some(403));
    }

    #[tokio::test]
    async fn only_loopback_and_only_free_ports() {
        assert!(matches!(tcp("0.0.0.0:0".parse().unwrap()).await, Err(ListenError::NotLoopback(_))));
        let taken = tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = tcp(taken.local_addr().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("--listen"), "{error}");
    }
}
