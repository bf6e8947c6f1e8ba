//! Serves HTTP/1.1 on a listener: how many connections there may be, how long one may be silent, and how they end.

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::process::{Resource, getrlimit};
use std::{
    collections::HashMap,
    future::{Future, ready},
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use telemetry::Shutdown;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// All together; who comes later waits.
    pub connections: u32,
    /// Of one address: whoever opens more is cut off, and the others still find a place.
    pub of_one: usize,
    pub handshake: Duration,
    /// For a request's head to arrive, also from the end of the request before it.
    pub head: Duration,
}

impl Limits {
    /// At most `most` connections, and no more than half of what this process may hold open.
    #[must_use]
    pub fn of(most: u32) -> Self {
        let open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = most.min(u32::try_from(open / 2).unwrap_or(u32::MAX)).max(4);
        Self {
            connections,
            of_one: connections as usize / 4,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
        }
    }
}

/// Serves until shutdown; connections under way end then too.
///
/// # Errors
/// None of its own: whoever supervises it wants a result.
pub async fn serve<L>(limits: Limits, listener: L, router: Router, shutdown: Shutdown) -> io::Result<()>
where
    L: Listener,
    L::Addr: Peer,
{
    serve_within(limits, listener, router, shutdown, |io| ready(Some(io))).await
}

/// The same over TLS. A handshake takes a place like any other connection, and a slow one holds up nobody.
///
/// # Errors
/// None of its own.
pub async fn serve_tls(
    limits: Limits,
    listener: TcpListener,
    config: Arc<rustls::ServerConfig>,
    router: Router,
    shutdown: Shutdown,
) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(config);
    let shake_hands = move |stream: TcpStream| {
        let acceptor = acceptor.clone();
        async move {
            let _ = stream.set_nodelay(true);
            match timeout(limits.handshake, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => return Some(stream),
                Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
                Err(_) => tracing::debug!("no TLS handshake in time"),
            }
            None
        }
    };
    serve_within(limits, listener, router, shutdown, shake_hands).await
}

async fn serve_within<L, H, F, Io>(
    limits: Limits,
    mut listener: L,
    router: Router,
    shutdown: Shutdown,
    open: H,
) -> io::Result<()>
where
    L: Listener,
    L::Addr: Peer,
    H: Fn(L::Io) -> F,
    F: Future<Output = Option<Io>> + Send + 'static,
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head);
    let places = Places::new(limits);
    let mut accept = async || {
        let place = places.any().await;
        // axum's own way of accepting waits out what passes, such as too many open files.
        (listener.accept().await, place)
    };
    while let Some(((io, address), place)) = shutdown.or(accept()).await {
        let Some(place) = places.of(address.ip(), place) else {
            tracing::debug!(ip = ?address.ip(), "one address has too many connections");
            continue;
        };
        let (opening, http, ending) = (open(io), http.clone(), shutdown.clone());
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let _place = place;
            let Some(io) = opening.await else { return };
            // What is upgraded has shown its token, and is no connection of ours any more.
            let mut connection = pin!(http.serve_connection(TokioIo::new(io), service).with_upgrades());
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = ending.requested() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(error = %telemetry::field::chain(&error), "a connection broke off");
            }
        });
    }
    places.all_free().await;
    Ok(())
}

/// Who is at the other end, where that can be told apart.
pub trait Peer: std::fmt::Debug {
    fn ip(&self) -> Option<IpAddr>;
}

impl Peer for SocketAddr {
    fn ip(&self) -> Option<IpAddr> {
        Some(SocketAddr::ip(self))
    }
}

impl Peer for tokio::net::unix::SocketAddr {
    fn ip(&self) -> Option<IpAddr> {
        None
    }
}

struct Places {
    all: Arc<Semaphore>,
    count: u32,
    of_one: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// Free again when dropped.
struct Place {
    _all: OwnedSemaphorePermit,
    ip: Option<IpAddr>,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Places {
    fn new(limits: Limits) -> Self {
        let count = limits.connections;
        let all = Arc::new(Semaphore::new(count as usize));
        Self { all, count, of_one: limits.of_one, taken: Arc::default() }
    }

    /// Waits for one.
    async fn any(&self) -> OwnedSemaphorePermit {
        match Arc::clone(&self.all).acquire_owned().await {
            Ok(place) => place,
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    async fn all_free(&self) {
        let _ = self.all.acquire_many(self.count).await;
    }

    fn of(&self, ip: Option<IpAddr>, all: OwnedSemaphorePermit) -> Option<Place> {
        if let Some(ip) = ip {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let count = taken.entry(ip).or_default();
            if *count >= self.of_one {
                return None;
            }
            *count += 1;
        }
        Some(Place { _all: all, ip, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(ip) = self.ip else { return };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const SHORT: Limits = Limits {
        connections: 8,
        of_one: 4,
        handshake: Duration::from_millis(200),
        head: Duration::from_millis(200),
    };

    async fn server(limits: Limits) -> (SocketAddr, Shutdown, tokio::task::JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
        let router = Router::new().route("/", get(|| async { "here" }));
        let serving = serve_within(limits, listener, router, shutdown.clone(), |io| ready(Some(io)));
        (address, shutdown, tokio::spawn(serving))
    }

    async fn ask(stream: &mut TcpStream) -> String {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut answer = vec![0; 1024];
        let read = stream.read(&mut answer).await.unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }

    async fn is_closed(stream: &mut TcpStream) -> bool {
        let mut byte = [0; 64];
        loop {
            match timeout(Duration::from_secs(20), stream.read(&mut byte)).await {
                Ok(Ok(0) | Err(_)) => return true,
                // What it says of it.
                Ok(Ok(_)) => {}
                Err(_) => return false,
            }
        }
    }

    #[tokio::test]
    async fn who_is_silent_is_cut_off() {
        let (address, ..) = server(SHORT).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert!(is_closed(&mut silent).await, "before its first request");
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nhost").await.unwrap();
        assert!(is_closed(&mut slow).await, "amid a head");
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut idle).await.ends_with("here"));
        assert!(is_closed(&mut idle).await, "after a request");
    }

    #[tokio::test]
    async fn one_address_does_not_take_all_places() {
        let (address, ..) = server(Limits { head: Duration::from_secs(60), ..SHORT }).await;
        let mut held = vec![];
        for _ in 0..SHORT.of_one {
            let mut stream = TcpStream::connect(address).await.unwrap();
            assert!(ask(&mut stream).await.ends_with("here"));
            held.push(stream);
        }
        let mut more = TcpStream::connect(address).await.unwrap();
        assert!(is_closed(&mut more).await);
        // Another address of this machine.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut other = socket.connect(address).await.unwrap();
        assert!(ask(&mut other).await.ends_with("here"));
        held.pop();
        let begun = Instant::now();
        loop {
            let mut again = TcpStream::connect(address).await.unwrap();
            if ask(&mut again).await.ends_with("here") {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "a place is free again");
        }
    }

    #[tokio::test]
    async fn shutdown_ends_what_is_idle() {
        let (address, shutdown, serving) = server(Limits { head: Duration::from_secs(60), ..SHORT }).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut idle).await.ends_with("here"));
        shutdown.request();
        assert!(is_closed(&mut idle).await);
        serving.await.unwrap().unwrap();
    }
}
