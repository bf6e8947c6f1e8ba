//! As much of a URL as a fetch needs (RFC 3986): who is asked, for what, and where a redirect leads.

use vteam_sdk::ToolError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) scheme: String,
    /// Host and port, lower case.
    pub(crate) authority: String,
    /// Path and query, from `/`; without a fragment.
    pub(crate) path: String,
}

impl Address {
    /// A URL as a model gives it. Plain `http` becomes `https`, but for this machine and where a port is named.
    pub(crate) fn parse(url: &str) -> Result<Self, ToolError> {
        let mut address = Self::read(url.trim()).ok_or_else(|| {
            ToolError::invalid(format!(
                "{url:?} is not a URL that can be fetched: https://host/path, without a user"
            ))
        })?;
        if address.scheme == "http" && !address.is_loopback() && !address.has_port() {
            address.scheme = "https".to_owned();
        }
        Ok(address)
    }

    /// Where a `Location` leads from here.
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        let location = location.trim();
        if location.contains("://") {
            return Self::read(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::read(&format!("{}://{rest}", self.scheme));
        }
        let folder =
            self.path.split('?').next().and_then(|p| p.rfind('/').and_then(|at| p.get(..=at))).unwrap_or("/");
        let path =
            if location.starts_with('/') { location.to_owned() } else { format!("{folder}{location}") };
        Self::read(&format!("{}://{}{path}", self.scheme, self.authority))
    }

    pub(crate) fn same_host(&self, other: &Self) -> bool {
        self.authority == other.authority && (self.scheme == other.scheme || other.scheme == "https")
    }

    fn read(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let plain = |t: &str| !t.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\');
        let valid = matches!(scheme.as_str(), "http" | "https")
            && !authority.is_empty()
            && !authority.contains('@')
            && plain(authority)
            && plain(path);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        valid.then(|| Self { scheme, authority: authority.to_ascii_lowercase(), path: ascii(&path) })
    }

    fn is_loopback(&self) -> bool {
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        host == "localhost" || host == "[::1]" || host.starts_with("127.")
    }

    fn has_port(&self) -> bool {
        let end = self.authority.rsplit_once(']').map_or(self.authority.as_str(), |(_, end)| end);
        end.contains(':')
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

/// Characters beyond ASCII as percent-encoded UTF-8.
fn ascii(path: &str) -> String {
    path.bytes().map(|b| if b.is_ascii() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let check = |url: &str, expected: Option<&str>| {
            assert_eq!(Address::parse(url).ok().map(|a| a.to_string()).as_deref(), expected, "{url}");
        };
        check("https://Example.com", Some("https://example.com/"));
        check("http://example.com/a?b=c#d", Some("https://example.com/a?b=c"));
        check("http://example.com:8080/a", Some("http://example.com:8080/a"));
        check("http://localhost/a", Some("http://localhost/a"));
        check("http://127.0.0.1/a", Some("http://127.0.0.1/a"));
        check("http://[2001:db8::1]/a", Some("https://[2001:db8::1]/a"));
        check("https://example.com?q=é", Some("https://example.com/?q=%C3%A9"));
        check("https://user:pass@example.com/", None);
        check("ftp://example.com/", None);
        check("file:///etc/passwd", None);
        check("example.com", None);
        check("https://exa mple.com/", None);
        check("https://example.com/a\nb", None);
        check("https:///x", None);
    }

    #[test]
    fn redirects_lead_somewhere() {
        let from = Address::parse("https://example.com/a/b?c=d/e").unwrap();
        let check = |location: &str, expected: &str, same: bool| {
            let to = from.join(location).unwrap();
            assert_eq!((to.to_string().as_str(), from.same_host(&to)), (expected, same), "{location}");
        };
        check("/x", "https://example.com/x", true);
        check("x", "https://example.com/a/x", true);
        check("//other.org/x", "https://other.org/x", false);
        check("https://other.org", "https://other.org/", false);
        check("http://example.com/x", "http://example.com/x", false);
        assert_eq!(from.join("javascript://x/"), None);
    }
}
