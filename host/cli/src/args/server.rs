//! Which server is talked to, and as whom.

use clap::Args;
use model::id::ProjectName;
use std::path::PathBuf;

const HEADING: &str = "Which server, and as whom";

/// Where vteam is installed unless somebody says otherwise.
pub(crate) const SYSTEM_NAMESPACE: &str = "vteam-system";

/// The one of the data folder, where none of these names another.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Talk to this server over TCP instead of the local socket, such as http://127.0.0.1:7878.
    #[arg(
        long,
        global = true,
        help_heading = HEADING,
        env = "VTEAM_SERVER",
        value_name = "URL",
        hide_env_values = true,
        conflicts_with_all = ["context", "kubeconfig"]
    )]
    pub(crate) server: Option<String>,
    /// Trust only this CA to vouch for an https server [default: the CAs of this system].
    #[arg(long, global = true, help_heading = HEADING, env = "VTEAM_CA", value_name = "FILE", hide_env_values = true)]
    pub(crate) ca: Option<PathBuf>,
    /// The bearer token itself. Everybody on this machine can read a command line: rather use --token-file or the
    /// variable.
    #[arg(long, global = true, help_heading = HEADING, env = "VTEAM_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// File with the bearer token [default: DATA_DIR/token].
    #[arg(long, global = true, help_heading = HEADING, env = "VTEAM_TOKEN_FILE", value_name = "FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// Talk to the server of the cluster that this context of the kubeconfig names, as its user.
    #[arg(long, global = true, help_heading = HEADING, env = "VTEAM_CONTEXT", value_name = "NAME", hide_env_values = true)]
    pub(crate) context: Option<String>,
    /// The kubeconfig [default: $KUBECONFIG, else ~/.kube/config]. Alone: its current context.
    #[arg(long, global = true, help_heading = HEADING, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Be this service account of the project: sessions belong to it. For a context whose user has no token to pass on.
    #[arg(long, global = true, help_heading = HEADING, env = "VTEAM_SERVICE_ACCOUNT", value_name = "NAME", hide_env_values = true)]
    pub(crate) service_account: Option<String>,
    /// The namespace that vteam is in on the cluster.
    #[arg(
        long,
        global = true,
        help_heading = HEADING,
        env = "VTEAM_SYSTEM_NAMESPACE",
        value_name = "NAME",
        default_value = SYSTEM_NAMESPACE,
        hide_env_values = true
    )]
    pub(crate) system_namespace: ProjectName,
}
