//! What the process was told, checked. Nothing else reads the environment.

use clap::Args;
use model::id::ProjectName;
use std::{net::SocketAddr, time::Duration};

/// `vteam-operator run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The namespace that operator and server are in.
    #[arg(long, env = "VTEAM_NAMESPACE", default_value = "vteam-system")]
    namespace: String,
    /// Where runners dial the server: https://ADDRESS:PORT, an address and not a name. Absent: the ClusterIP of the Service
    /// vteam-server and its port called runners.
    #[arg(long, env = "VTEAM_SERVER_ADDRESS", value_name = "URL")]
    server_address: Option<String>,
    /// The name in the server's certificate. Absent: vteam-server.NAMESPACE.svc
    #[arg(long, env = "VTEAM_SERVER_NAME", value_name = "NAME")]
    server_name: Option<String>,
    /// Image of the container in which the agent loop runs.
    #[arg(long, env = "VTEAM_RUNNER_IMAGE", value_name = "IMAGE")]
    runner_image: String,
    /// Image of the container in which native programs run, where a session does not name one.
    #[arg(long, env = "VTEAM_TOOLS_IMAGE", value_name = "IMAGE")]
    tools_image: String,
    /// Pull policy of both images, where the cluster's own is not meant.
    #[arg(long, env = "VTEAM_IMAGE_PULL_POLICY", value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,
    /// How long a pod may wait for a node, a volume or an image, seconds.
    #[arg(long, env = "VTEAM_PENDING_TIMEOUT", default_value_t = 600)]
    pending_timeout: u64,
    /// How long a runner may take to dial in, or to come back, seconds.
    #[arg(long, env = "VTEAM_START_TIMEOUT", default_value_t = 120)]
    start_timeout: u64,
    /// How long the server may take to end a run before its pod is deleted, seconds.
    #[arg(long, env = "VTEAM_DRAIN_TIMEOUT", default_value_t = 60)]
    drain_timeout: u64,
    /// How long a pod may take to end, beyond its grace period, until it is given up with its node, seconds.
    #[arg(long, env = "VTEAM_LOST_TIMEOUT", default_value_t = 60)]
    lost_timeout: u64,
    /// How often in a row a runner may fail before its session does.
    #[arg(long, env = "VTEAM_MAX_LOSSES", default_value_t = 3)]
    max_losses: u32,
    /// Pause after the first of them, milliseconds; each further one doubles it.
    #[arg(long, env = "VTEAM_BACKOFF_BASE_MS", default_value_t = 1000)]
    backoff_base_ms: u64,
    /// Objects that are worked on at once.
    #[arg(long, env = "VTEAM_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Where health and metrics are served, without TLS or credentials.
    #[arg(long, env = "VTEAM_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Who this is among the operators that wait for the lease. Absent: the host's name.
    #[arg(long, env = "VTEAM_IDENTITY", value_name = "NAME")]
    identity: Option<String>,
    /// A level such as info, or target=level pairs.
    #[arg(long, env = "VTEAM_LOG", default_value = "info")]
    log: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) namespace: String,
    pub(crate) server_address: Option<String>,
    pub(crate) server_name: String,
    pub(crate) images: Images,
    pub(crate) timeouts: Timeouts,
    pub(crate) concurrency: u16,
    pub(crate) listen: SocketAddr,
    pub(crate) identity: Option<String>,
    pub(crate) log: String,
}

/// What the containers of a pod are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Images {
    pub(crate) runner: String,
    pub(crate) tools: String,
    pub(crate) pull_policy: Option<String>,
}

/// Times and counts that somebody decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeouts {
    /// Until the container `runner` runs.
    pub(crate) pending: Duration,
    /// From then until it has dialled in.
    pub(crate) start: Duration,
    pub(crate) drain: Duration,
    pub(crate) lost: Duration,
    pub(crate) max_losses: u32,
    pub(crate) backoff_base: Duration,
    pub(crate) backoff_cap: Duration,
}

const BACKOFF_CAP: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("--namespace {0:?} is no namespace: a DNS label is expected")]
    Namespace(String),
    #[error(
        "--server-address {0:?} must be https://ADDRESS:PORT with an IP address: a runner's pod resolves no names"
    )]
    ServerAddress(String),
}

impl TryFrom<RunArgs> for Settings {
    type Error = SettingsError;

    fn try_from(args: RunArgs) -> Result<Self, SettingsError> {
        let RunArgs {
            namespace,
            server_address,
            server_name,
            runner_image,
            tools_image,
            image_pull_policy,
            pending_timeout,
            start_timeout,
            drain_timeout,
            lost_timeout,
            max_losses,
            backoff_base_ms,
            concurrency,
            listen,
            identity,
            log,
        } = args;
        if namespace.parse::<ProjectName>().is_err() {
            return Err(SettingsError::Namespace(namespace));
        }
        if let Some(url) = server_address.as_deref().filter(|url| !is_address(url)) {
            return Err(SettingsError::ServerAddress(url.to_owned()));
        }
        Ok(Self {
            server_name: server_name.unwrap_or_else(|| format!("vteam-server.{namespace}.svc")),
            namespace,
            server_address,
            images: Images { runner: runner_image, tools: tools_image, pull_policy: image_pull_policy },
            timeouts: Timeouts {
                pending: Duration::from_secs(pending_timeout),
                start: Duration::from_secs(start_timeout),
                drain: Duration::from_secs(drain_timeout),
                lost: Duration::from_secs(lost_timeout),
                max_losses,
                backoff_base: Duration::from_millis(backoff_base_ms),
                backoff_cap: BACKOFF_CAP,
            },
            concurrency,
            listen,
            identity,
            log,
        })
    }
}

fn is_address(url: &str) -> bool {
    url.strip_prefix("https://").is_some_and(|rest| rest.parse::<SocketAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_address() {
        let check = |url: &str, expected: bool| assert_eq!(is_address(url), expected, "{url}");
        check("https://10.96.3.4:8443", true);
        check("https://[fd00::1]:8443", true);
        check("https://vteam-server:8443", false);
        check("http://10.96.3.4:8443", false);
        check("https://10.96.3.4", false);
        check("https://10.96.3.4:8443/", false);
    }
}
