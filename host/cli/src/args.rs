//! The command line. What it says becomes [`crate::settings::Settings`] and a verb.

mod server;

pub(crate) use server::{SYSTEM_NAMESPACE, ServerArgs};

use clap::{Args, Parser, Subcommand, ValueEnum};
use model::id::{AskId, PersonaKey, PluginId, ProjectName, SessionName};
use std::{net::SocketAddr, path::PathBuf};

/// Runs AI agents whose tools and personas are sandboxed WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "vteam", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the run failed; 4 not found; 5 conflict; \
6 no server answers; 7 wrong or missing token; 8 refused by policy; 9 doctor found something that does not hold; \
130 interrupted.";

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Folder of database, sessions, sockets and token [default: $XDG_DATA_HOME/vteam].
    #[arg(long, global = true, env = "VTEAM_DATA_DIR", value_name = "DIR", hide_env_values = true)]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) at: ServerArgs,
    /// The project that sessions belong to [default: the namespace of the context, else default].
    #[arg(long, short, global = true, env = "VTEAM_PROJECT", hide_env_values = true)]
    pub(crate) project: Option<ProjectName>,
    /// Answer as JSON; streams as one object per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to log, such as info or server=debug.
    #[arg(long, global = true, env = "VTEAM_LOG", value_name = "FILTER", hide_env_values = true)]
    pub(crate) log: Option<String>,
}

/// Where models are, for `up` and `run`.
#[derive(Debug, Args, Default)]
pub(crate) struct ModelArgs {
    /// Play this script in place of a real model: for demonstrations and tests.
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
    /// Base URL of the model API [env: VTEAM_MODEL_URL] [default: Anthropic's].
    #[arg(long, env = "VTEAM_MODEL_URL", value_name = "URL", hide_env = true, hide_env_values = true)]
    pub(crate) model_url: Option<String>,
    /// What is spoken there [env: VTEAM_MODEL_API].
    #[arg(long, env = "VTEAM_MODEL_API", value_enum, hide_env = true, hide_env_values = true)]
    pub(crate) model_api: Option<ModelApi>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModelApi {
    Anthropic,
    Openai,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start the server on this machine and keep it running.
    Up(UpArgs),
    /// Give an agent a task, watch it, and take over what it changed.
    Run(RunArgs),
    /// See and steer sessions.
    #[command(subcommand, visible_alias = "s")]
    Sessions(SessionsVerb),
    /// See, build and manage plugins.
    #[command(subcommand)]
    Plugins(PluginsVerb),
    /// List the personas that can work.
    Personas,
    /// Say what this host can keep, and what is missing. With --context: what a cluster lacks.
    Doctor,
    /// Print what a cluster is given to run vteam, for kubectl to apply.
    Install(InstallArgs),
    /// Copy database, blobs, keys and settings of the data folder, also while a server runs.
    Backup {
        /// A folder that does not exist yet.
        to: PathBuf,
    },
    /// Print a completion script for a shell.
    Completions { shell: clap_complete::Shell },
    /// Print generated documents.
    #[command(subcommand, hide = true)]
    Docs(DocsVerb),
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Also serve REST on this TCP address; loopback only. With --cluster: where to serve it [default: 0.0.0.0:8443].
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// For a server that is part of a cluster.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Serve a Kubernetes cluster: sessions are its AgenticSessions, callers its users, runners its pods.
    #[arg(long)]
    pub(crate) cluster: bool,
    /// Where runners dial in.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8444", requires = "cluster")]
    pub(crate) runners: SocketAddr,
    /// The namespace that the server is in.
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAME",
        default_value = "vteam-system",
        hide_env_values = true
    )]
    pub(crate) namespace: String,
    /// Name of the Service in front of it.
    #[arg(long, value_name = "NAME", default_value = "vteam-server", requires = "cluster")]
    pub(crate) service: String,
    /// Folder with a certificate to show, of a CA of yours: tls.crt, tls.key and ca.crt, read again when they change. Where it
    /// is empty or not there, the server makes its own CA.
    #[arg(long, value_name = "DIR", default_value = "/etc/vteam/tls", requires = "cluster")]
    pub(crate) tls: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Print the YAML. Installing is kubectl's: vteam install --render | kubectl apply --server-side -f -
    #[arg(long)]
    pub(crate) render: bool,
    /// For what kind of cluster: the same as `kubectl kustomize manifests/overlays/NAME`.
    #[arg(long, value_enum, default_value = "production")]
    pub(crate) overlay: Overlay,
    /// The namespace that vteam is in there.
    #[arg(long, value_name = "NAME", default_value = "vteam-system")]
    pub(crate) namespace: ProjectName,
    /// Where the cluster pulls the images of `production` from: PREFIX/server and so on.
    #[arg(long, value_name = "PREFIX", default_value = "registry.example/vteam", value_parser = registry)]
    pub(crate) registry: String,
}

/// Of an image's name, what stands before the last part.
fn registry(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "./:_-".contains(c);
    if text.is_empty() || !text.chars().all(plain) || text.ends_with('/') {
        return Err("this is no name of a registry, such as registry.company.example/vteam".to_owned());
    }
    Ok(text.to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overlay {
    /// To try it: images as `cargo xtask image --dev` makes them, a scripted model, a project called demo.
    Dev,
    /// For a cluster that counts: with --registry.
    Production,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The task, in plain words.
    pub(crate) prompt: String,
    /// Work on a private copy of this folder [default: an empty workspace]. A server that is elsewhere is sent it.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,
    /// Also copy what the folder's ignore files leave out.
    #[arg(long, requires = "dir")]
    pub(crate) include_ignored: bool,
    /// Work in this folder itself, not on a copy; git's own files in it stay out of reach.
    #[arg(long, value_name = "FOLDER", conflicts_with = "dir")]
    pub(crate) in_place: Option<PathBuf>,
    /// Who does it, such as STAFF_ENGINEER; see `vteam personas`.
    #[arg(long, value_name = "KEY")]
    pub(crate) persona: Option<PersonaKey>,
    /// Have the persona analyse the task and answer by its schema; nothing is changed.
    #[arg(long, requires = "persona")]
    pub(crate) analyse: bool,
    /// Name of the model.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// US dollars that it may cost.
    #[arg(long, value_name = "DOLLARS", value_parser = dollars)]
    pub(crate) budget: Option<f64>,
    /// How much to ask.
    #[arg(long, value_enum, default_value = "default")]
    pub(crate) mode: Mode,
    /// Seconds that the run may take.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
    /// Name of the session.
    #[arg(long)]
    pub(crate) name: Option<SessionName>,
    /// Allow everything that is asked for.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Bring the changes into the folder at the end without asking.
    #[arg(long, requires = "dir")]
    pub(crate) apply: bool,
    #[command(flatten)]
    pub(crate) upstream: ModelArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Reading is free; changing files, running programs and fetching are asked for.
    Default,
    /// Changing files in the workspace is free too.
    AcceptEdits,
    /// Reading only.
    Plan,
    /// Nothing is asked; only where the project's settings permit it.
    Bypass,
}

impl Mode {
    /// As it stands in a session's specification.
    pub(crate) fn wire(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::AcceptEdits => "acceptEdits",
            Self::Plan => "plan",
            Self::Bypass => "bypass",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsVerb {
    /// List the project's sessions.
    Ls,
    /// Show one session.
    Get { name: SessionName },
    /// Show what happened.
    Logs {
        name: SessionName,
        /// Stay and show what happens until the session rests.
        #[arg(long, short)]
        follow: bool,
    },
    /// Watch a session, answer what it asks, and send it what you type.
    Attach { name: SessionName },
    /// Send a further message.
    Send { name: SessionName, message: String },
    /// List what waits for a person, or allow it.
    Approve {
        name: SessionName,
        /// Without it: list what waits.
        id: Option<AskId>,
        /// Allow the same again for this session.
        #[arg(long, conflicts_with = "deny", requires = "id")]
        session: bool,
        /// Decline, and tell the model why.
        #[arg(long, value_name = "REASON", requires = "id")]
        deny: Option<String>,
    },
    /// Answer a tool's question: the number of an option, or text.
    Answer {
        name: SessionName,
        id: AskId,
        /// One for each part of the question.
        #[arg(required = true)]
        answer: Vec<String>,
    },
    /// Stop it. A message wakes it again.
    Stop {
        name: SessionName,
        /// Only the run under way; the session stays.
        #[arg(long)]
        run: bool,
    },
    /// Remove it with its workspace and its log.
    Rm { name: SessionName },
    /// Show what it changed.
    Diff { name: SessionName },
    /// Bring what it changed into the folder that it was copied from.
    Apply {
        name: SessionName,
        /// Another folder.
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Write the whole log as JSON.
    Export {
        name: SessionName,
        /// Into this file instead of stdout.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginsVerb {
    /// List the plugins of this server.
    Ls,
    /// Show what a plugin is and asks for: by id, or a file without running it.
    Inspect { plugin: String },
    /// Upload a finished plugin. It can do nothing until it is approved.
    Add { file: PathBuf },
    /// Grant a plugin, as it is now, what it asks for.
    Approve {
        id: PluginId,
        /// Only these effects.
        #[arg(long, value_delimiter = ',')]
        effects: Option<Vec<model::id::Effect>>,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Remove an uploaded plugin.
    Rm { id: PluginId },
    /// Finish a component (or stamp a persona's Markdown) into a plugin with its manifest inside.
    Build {
        /// A component (.wasm) or a persona (.md).
        source: PathBuf,
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print a finished plugin as the ConfigMaps that bring it to a cluster, for `kubectl apply --server-side -f -`.
    Pack { file: PathBuf },
    /// Call a tool of a plugin file once, here, in the sandbox.
    Call {
        file: PathBuf,
        tool: model::id::ToolName,
        /// The input, as JSON.
        #[arg(default_value = "{}")]
        input: String,
        /// Folder that it may read.
        #[arg(long, value_name = "FOLDER")]
        workspace: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum DocsVerb {
    /// The REST interface.
    Openapi,
    /// This command.
    Cli,
}

/// JSON has no other numbers: a budget of NaN would be none.
fn dollars(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(dollars) if dollars.is_finite() && dollars >= 0.0 => Ok(dollars),
        _ => Err("must be an amount such as 2 or 0.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_budget_is_an_amount() {
        let check = |text: &str, fine: bool| assert_eq!(super::dollars(text).is_ok(), fine, "{text}");
        check("0.5", true);
        check("0", true);
        check("nan", false);
        check("inf", false);
        check("-1", false);
        check("two", false);
    }

    #[test]
    fn the_command_line_is_consistent() {
        <super::Cli as clap::CommandFactory>::command().debug_assert();
    }
}
