//! Exact exceptions to the rule that only public addresses are reached.

use crate::is_public;
use ipnet::IpNet;
use std::{net::IpAddr, str::FromStr};
use url::Url;

/// One host and port that may lead to addresses in `ranges`, and to no others. The administrator's to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    host: String,
    port: u16,
    ranges: Vec<IpNet>,
    /// Whether public addresses are reached too.
    public: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an exception is written as host:port=range[,range], such as models.lan:11434=192.168.1.0/24")]
pub struct InvalidException;

impl Exception {
    /// For a service that the administrator named by URL: loopback, private and unique-local addresses, and public ones
    /// where the URL is `https`, because what goes there may hold a credential. Never link-local ones, where clouds put
    /// their metadata services. `None` where the URL has no host.
    #[must_use]
    pub fn named(url: &Url) -> Option<Self> {
        let ranges = [
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "::1/128",
            "fc00::/7",
        ];
        let ranges = ranges.iter().filter_map(|range| range.parse().ok()).collect();
        Some(Self {
            host: host_of(url)?,
            port: url.port_or_known_default()?,
            ranges,
            public: url.scheme() == "https",
        })
    }

    pub(crate) fn covers(&self, url: &Url) -> bool {
        host_of(url).as_ref() == Some(&self.host) && url.port_or_known_default() == Some(self.port)
    }

    pub(crate) fn permits(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address)) || self.public && is_public(address)
    }
}

impl FromStr for Exception {
    type Err = InvalidException;

    fn from_str(text: &str) -> Result<Self, InvalidException> {
        let (place, ranges) = text.split_once('=').ok_or(InvalidException)?;
        let url = Url::parse(&format!("http://{place}/")).map_err(|_| InvalidException)?;
        let (_, port) = place.rsplit_once(':').ok_or(InvalidException)?;
        let exact = url.username().is_empty() && url.password().is_none() && url.path() == "/";
        let ranges: Vec<IpNet> =
            ranges.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| InvalidException)?;
        match (host_of(&url), port.parse()) {
            (Some(host), Ok(port)) if exact => Ok(Self { host, port, ranges, public: false }),
            _ => Err(InvalidException),
        }
    }
}

/// Lower-case, without the root's dot; an IPv6 literal in brackets.
pub(crate) fn host_of(url: &Url) -> Option<String> {
    url.host_str().map(|host| host.trim_end_matches('.').to_ascii_lowercase()).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_exact() {
        let exception: Exception = "Models.lan:11434=192.168.1.0/24,fd00::/8".parse().unwrap();
        let covers = |url: &str| exception.covers(&url.parse().unwrap());
        assert!(covers("http://models.lan:11434/v1") && covers("https://MODELS.lan.:11434/"));
        assert!(
            !covers("http://models.lan/")
                && !covers("http://x.models.lan:11434/")
                && !covers("http://lan:11434/")
        );
        assert!(
            exception.permits("192.168.1.9".parse().unwrap())
                && exception.permits("fd00::9".parse().unwrap())
        );
        assert!(
            !exception.permits("192.168.2.9".parse().unwrap())
                && !exception.permits("1.1.1.1".parse().unwrap())
        );
    }

    #[test]
    fn a_named_service_never_leads_to_metadata() {
        let exception = Exception::named(&"http://localhost:11434/v1".parse().unwrap()).unwrap();
        let permits = |address: &str| exception.permits(address.parse().unwrap());
        assert!(permits("127.0.0.1") && permits("::1") && permits("10.0.0.5"));
        assert!(
            !permits("169.254.169.254") && !permits("fe80::1") && !permits("0.0.0.0") && !permits("1.1.1.1")
        );
        let secure = Exception::named(&"https://api.example.com".parse().unwrap()).unwrap();
        assert!(
            secure.permits("1.1.1.1".parse().unwrap()) && !secure.permits("169.254.169.254".parse().unwrap())
        );
    }

    #[test]
    fn what_is_not_exact_is_refused() {
        for text in [
            "",
            "host=10.0.0.0/8",
            "host:80",
            "host:80=",
            "host:80=10.0.0.0",
            "u@host:80=::/0",
            "a/b:80=::/0",
        ] {
            assert!(text.parse::<Exception>().is_err(), "{text:?}");
        }
    }
}
