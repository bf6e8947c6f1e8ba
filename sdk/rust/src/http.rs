//! Fetching over HTTP. Effect: `net.fetch`. Redirects are handed back, never followed: each hop is a request of its own.

#[cfg(target_arch = "wasm32")]
mod wasi;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::http as host;
#[cfg(target_arch = "wasm32")]
use wasi as host;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body was longer than asked for, or broke off.
    pub cut: bool,
}

impl Response {
    /// The first value of a header, by its lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// The URL cannot be asked for.
    Invalid(String),
    /// The host does not permit it.
    Denied(String),
    /// No answer: name, connection, TLS, time.
    Failed(String),
}

/// Gets a URL with scheme `http` or `https`; reads at most `max_bytes` of the body.
///
/// # Errors
/// When there is no response.
pub fn get(url: &str, headers: &[(&str, &str)], max_bytes: usize) -> Result<Response, FetchError> {
    host::get(url, headers, max_bytes)
}
