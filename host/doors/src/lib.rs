//! Serves HTTP/1.1 on a listener: how many connections there may be, how long one may be silent, and how they end.

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::process::{Resource, getrlimit};
use std::{
    collections::{BTreeMap, HashMap},
    future::{Future, ready},
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use telemetry::Shutdown;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// All together. Where they are taken, whoever has fewer than another takes the oldest one of whoever has the most: many
    /// from a few addresses keep no other address out.
    pub connections: usize,
    pub handshake: Duration,
    /// For a request's head to arrive, also from the end of the request before it.
    pub head: Duration,
}

impl Limits {
    /// At most `most` connections, and no more than half of what this process may hold open.
    #[must_use]
    pub fn of(most: usize) -> Self {
        let open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let connections = most.min(usize::try_from(open / 2).unwrap_or(usize::MAX));
        Self { connections, handshake: Duration::from_secs(10), head: Duration::from_secs(30) }
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
    let (places, under_way) = (Arc::new(Places::new(limits.connections)), TaskTracker::new());
    // axum's own way of accepting waits out what passes, such as too many open files.
    while let Some((io, address)) = shutdown.or(listener.accept()).await {
        let Some((place, given_up)) = Places::take(&places, address.ip()) else {
            tracing::debug!(ip = ?address.ip(), "all connections are taken, none by an address with more");
            continue;
        };
        let (opening, http, ending) = (open(io), http.clone(), shutdown.clone());
        let service = TowerToHyperService::new(router.clone());
        let serving = async move {
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
        };
        under_way.spawn(async move {
            let _place = place;
            tokio::select! {
                () = serving => {}
                // An error is nobody's word: its place is not counted.
                Ok(()) = given_up => {}
            }
        });
    }
    under_way.close();
    under_way.wait().await;
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

/// Who has how many.
struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    next: u64,
    /// Of each address, the oldest first, with what ends it.
    by: HashMap<IpAddr, BTreeMap<u64, oneshot::Sender<()>>>,
}

/// Free again when dropped.
struct Place {
    places: Arc<Places>,
    of: IpAddr,
    number: u64,
}

impl Places {
    fn new(most: usize) -> Self {
        Self { most, taken: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, and what tells that another one needs it more. Who has no address is not counted: a socket in a folder.
    fn take(this: &Arc<Self>, ip: Option<IpAddr>) -> Option<(Option<Place>, oneshot::Receiver<()>)> {
        let (end, ended) = oneshot::channel();
        let Some(of) = ip else { return Some((None, ended)) };
        let mut taken = this.lock();
        if taken.all >= this.most {
            let own = taken.by.get(&of).map_or(0, BTreeMap::len);
            let most = taken.by.values_mut().max_by_key(|places| places.len())?;
            if most.len() <= own + 1 {
                return None;
            }
            let (_, oldest) = most.pop_first()?;
            let _ = oldest.send(());
            taken.all -= 1;
        }
        let number = taken.next;
        taken.next += 1;
        taken.all += 1;
        taken.by.entry(of).or_default().insert(number, end);
        Some((Some(Place { places: Arc::clone(this), of, number }), ended))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        let Some(places) = taken.by.get_mut(&self.of) else { return };
        let was_there = places.remove(&self.number).is_some();
        if places.is_empty() {
            taken.by.remove(&self.of);
        }
        // Whoever took it counted it out already.
        taken.all -= usize::from(was_there);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const SHORT: Limits =
        Limits { connections: 4, handshake: Duration::from_millis(200), head: Duration::from_millis(200) };

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
    async fn many_of_one_address_keep_no_other_out() {
        let (address, ..) = server(Limits { head: Duration::from_secs(60), ..SHORT }).await;
        let mut held = vec![];
        for _ in 0..SHORT.connections {
            let mut stream = TcpStream::connect(address).await.unwrap();
            assert!(ask(&mut stream).await.ends_with("here"));
            held.push(stream);
        }
        let mut more = TcpStream::connect(address).await.unwrap();
        assert!(is_closed(&mut more).await, "it has the most itself");
        // Another address of this machine.
        let other = async || {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            socket.connect(address).await.unwrap()
        };
        let (mut first, mut second) = (other().await, other().await);
        assert!(ask(&mut first).await.ends_with("here"));
        assert!(ask(&mut second).await.ends_with("here"));
        assert!(is_closed(&mut held.remove(0)).await, "the oldest one made room");
        assert!(is_closed(&mut held.remove(0)).await);
        let mut third = other().await;
        assert!(is_closed(&mut third).await, "each has half");
        assert!(ask(&mut held[0]).await.ends_with("here"));
        drop(held);
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
