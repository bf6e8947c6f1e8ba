//! How the server is reached, and what proves who dials: a Unix socket and a token that is given once, on one machine; in
//! a pod TLS to an address (there are no names to look up) and a token that is replaced from time to time.
//!
//! Nothing is sent to a server that does not show a certificate of the given authority for the given name.

mod tls;

pub use tls::TlsError;

use http::HeaderValue;
use std::{
    io::{self, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tls::Tls;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};

/// A token above this is none.
const MAX_TOKEN_BYTES: u64 = 16 << 10;

#[derive(Clone)]
pub struct Server {
    way: Way,
    token: Token,
}

#[derive(Clone)]
enum Way {
    Unix(PathBuf),
    Tls(Arc<Tls>),
}

#[derive(Clone)]
enum Token {
    /// `Bearer <token>`, marked sensitive.
    Given(HeaderValue),
    /// Read anew each time: whoever gives it replaces it before it expires.
    File(PathBuf),
}

/// A connection to the server, whatever it is made of.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Server {
    /// # Errors
    /// When no token can be read.
    pub fn on_this_machine(socket: PathBuf, token: impl io::Read) -> io::Result<Self> {
        Ok(Self { way: Way::Unix(socket), token: Token::Given(bearer(token)?) })
    }

    /// # Errors
    /// When a file does not hold what it should.
    pub fn over_tls(to: SocketAddr, name: &str, ca: &Path, token: PathBuf) -> Result<Self, TlsError> {
        let server = Self { way: Way::Tls(Arc::new(Tls::new(to, name, ca)?)), token: Token::File(token) };
        server.bearer().map_err(TlsError::Token)?;
        Ok(server)
    }

    /// What has to stay possible for a process that confines itself.
    #[must_use]
    pub fn dial(&self) -> confine::Dial {
        match &self.way {
            Way::Unix(_) => confine::Dial::Unix,
            Way::Tls(tls) => confine::Dial::Tcp(tls.address.port()),
        }
    }

    /// The folder in which the token is replaced: the file is a link there, and what it leads to comes and goes.
    #[must_use]
    pub fn reads(&self) -> Option<&Path> {
        match &self.token {
            Token::Given(_) => None,
            Token::File(path) => path.parent(),
        }
    }

    /// As requests name the server.
    #[must_use]
    pub fn authority(&self) -> &str {
        match &self.way {
            Way::Unix(_) => "server",
            Way::Tls(tls) => &tls.authority,
        }
    }

    /// The value of `Authorization`, as of now.
    ///
    /// # Errors
    /// When the file cannot be read or holds no token.
    pub fn bearer(&self) -> io::Result<HeaderValue> {
        match &self.token {
            Token::Given(value) => Ok(value.clone()),
            // In memory: nothing is waited for.
            Token::File(path) => bearer(std::fs::File::open(path)?),
        }
    }

    /// # Errors
    /// When nobody answers, or not the server.
    pub async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.way {
            Way::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Way::Tls(tls) => Box::new(tls.connect().await?),
        })
    }
}

fn bearer(token: impl io::Read) -> io::Result<HeaderValue> {
    let mut text = String::new();
    token.take(MAX_TOKEN_BYTES).read_to_string(&mut text)?;
    let token = text.trim();
    let none = || io::Error::new(io::ErrorKind::InvalidData, "this is no token");
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(none());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| none())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::bearer;

    #[test]
    fn a_token_is_one_word() {
        assert_eq!(bearer(&b"abc\n"[..]).unwrap(), "Bearer abc");
        assert!(bearer(&b"abc"[..]).unwrap().is_sensitive());
        for bad in ["", " \n", "a b", "a\nb", "\u{e4}"] {
            assert!(bearer(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
