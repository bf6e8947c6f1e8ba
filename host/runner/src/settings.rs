//! The command line, and what it means once checked. Nothing is read from the environment.

use crate::dial::{Server, TlsError};
use clap::{Args, Parser};
use std::{
    fs::File,
    net::SocketAddr,
    os::{
        fd::{FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

/// Runs the agent of one session; started by a scheduler, not by people.
#[derive(Debug, Parser)]
#[command(name = "vteam-runner", version)]
pub struct Command {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    plugin: PluginArgs,
}

/// Work on one plugin, without a session.
#[derive(Debug, Args)]
struct PluginArgs {
    /// Print what the plugin of this native code says of itself, run in an empty sandbox.
    #[arg(long, value_name = "FILE", conflicts_with = "call")]
    describe: Option<PathBuf>,
    /// Call a tool of the plugin of this native code once; reading --workspace is all that it may do.
    #[arg(long, value_name = "FILE")]
    call: Option<PathBuf>,
    /// The signed statement about the native code: JSON, or a file that holds it.
    #[arg(long)]
    signed: Option<String>,
    /// Ed25519 public key that signed it, hex.
    #[arg(long)]
    key: Option<String>,
    /// With --call: the tool's name.
    #[arg(long)]
    tool: Option<String>,
    /// With --call: a JSON object.
    #[arg(long, default_value = "{}")]
    input: String,
    /// With --call: the folder that the tool sees as its workspace. With --session-dir: the session's workspace, where it is
    /// not in that folder.
    #[arg(long)]
    workspace: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct SessionArgs {
    /// Where the server listens: unix:<path of its runner socket>, or https://<address>:<port>.
    #[arg(long)]
    connect: Option<String>,
    /// An inherited descriptor from which the runner's token is read.
    #[arg(long)]
    token_fd: Option<RawFd>,
    /// With https: the name in the server's certificate.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// With https: the certificate of the authority that vouches for the server, PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// With https: the file that holds the runner's token, read again for each connection.
    #[arg(long, value_name = "FILE", conflicts_with = "token_fd")]
    token_file: Option<PathBuf>,
    /// An inherited socket to vteam-exec; without one there are no native programs.
    #[arg(long)]
    exec_fd: Option<RawFd>,
    /// The socket at which vteam-exec listens, now or later.
    #[arg(long, value_name = "PATH", conflicts_with = "exec_fd")]
    exec_socket: Option<PathBuf>,
    /// Put vteam-exec, which is beside this program, into this folder first.
    #[arg(long, value_name = "DIR")]
    install_launcher: Option<PathBuf>,
    /// The session's folder: workspace, baseline, journal, tmp.
    #[arg(long)]
    session_dir: Option<PathBuf>,
    /// The person's folder that is worked on itself, shown as the session's workspace to this process alone.
    #[arg(long)]
    in_place: Option<PathBuf>,
    /// Decide what of --in-place is covered and see whether it can be, then end: before anybody works there.
    #[arg(long, requires = "in_place", requires = "session_dir")]
    take_stock: bool,
    /// Seconds without a server after which the runner ends.
    #[arg(long, default_value_t = 120)]
    orphan_timeout: u64,
    /// Seconds that there are to end in order after SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value_t = 25)]
    grace: u64,
    /// Dial at once: the server has no need to know what the launcher can keep. Without it the hello waits for that.
    #[arg(long)]
    dial_at_once: bool,
    /// Log filter, such as info or runner=debug.
    #[arg(long, default_value = "info")]
    log: String,
}

/// What the process is to do.
pub enum Job {
    Session(Session),
    TakeStock { folder: PathBuf, of: SessionFolder },
    Describe(PluginFile),
    Call { plugin: PluginFile, tool: String, input: String, workspace: Option<PathBuf> },
}

pub struct Session {
    pub server: Server,
    pub exec: Option<Exec>,
    /// The folder that the launcher is put into first of all.
    pub install_launcher: Option<PathBuf>,
    pub folder: SessionFolder,
    pub in_place: Option<PathBuf>,
    pub orphan_timeout: Duration,
    pub grace: Duration,
    /// Without waiting for the launcher's canaries.
    pub dial_at_once: bool,
    pub log: String,
}

/// How the launcher of native programs is reached.
pub enum Exec {
    /// It was started with the other end, and ends with it.
    Given(UnixStream),
    /// It listens there, comes later and may restart.
    At(PathBuf),
}

pub struct PluginFile {
    pub native: Vec<u8>,
    pub signed: protocol::artifact::Signed,
    pub key: ed25519_dalek::VerifyingKey,
}

/// The session's folder on this machine.
#[derive(Debug, Clone)]
pub struct SessionFolder {
    root: PathBuf,
    workspace: PathBuf,
}

impl SessionFolder {
    /// `workspace` is where it says, or in the folder.
    fn new(root: PathBuf, workspace: Option<PathBuf>) -> Self {
        Self { workspace: workspace.unwrap_or_else(|| root.join("workspace")), root }
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
    #[must_use]
    pub fn workspace(&self) -> PathBuf {
        self.workspace.clone()
    }
    #[must_use]
    pub fn baseline(&self) -> PathBuf {
        self.root.join("baseline")
    }
    /// Programs' own; the runner has no use for it.
    #[must_use]
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }
    /// What is covered, where a person's folder is worked on itself.
    #[must_use]
    pub fn covers(&self) -> PathBuf {
        self.journal().join("covers")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("--{0} is needed")]
    Missing(&'static str),
    #[error("--connect {0:?} is not supported: use unix:<absolute path> or https://<address>:<port>")]
    Connect(String),
    #[error("--{0} must be a descriptor above 2 that nothing else uses")]
    Descriptor(&'static str),
    #[error("the runner's token could not be read from its descriptor, or is not a token")]
    Token,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{path} cannot be read")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("--signed is not a signed statement")]
    Signed(#[source] serde_json::Error),
    #[error("--key is not a public key of 64 hex digits")]
    Key,
}

impl Command {
    /// Checks the command line, and takes over the descriptors and files that it names.
    ///
    /// # Errors
    /// Names the flag.
    pub fn job(self) -> Result<Job, SettingsError> {
        let PluginArgs { describe, call, signed, key, tool, input, workspace } = self.plugin;
        let Some(native) = describe.as_ref().or(call.as_ref()) else {
            return match (self.session.take_stock, &self.session.in_place, &self.session.session_dir) {
                (true, Some(folder), Some(of)) => {
                    Ok(Job::TakeStock { folder: folder.clone(), of: SessionFolder::new(of.clone(), None) })
                }
                _ => self.session.check(workspace).map(Job::Session),
            };
        };
        let signed = signed.ok_or(SettingsError::Missing("signed"))?;
        let key = verifying_key(&key.ok_or(SettingsError::Missing("key"))?).ok_or(SettingsError::Key)?;
        let plugin = PluginFile { native: read(native)?, signed: statement(&signed)?, key };
        if describe.is_some() {
            return Ok(Job::Describe(plugin));
        }
        Ok(Job::Call { plugin, tool: tool.ok_or(SettingsError::Missing("tool"))?, input, workspace })
    }
}

impl SessionArgs {
    fn check(self, workspace: Option<PathBuf>) -> Result<Session, SettingsError> {
        let server = self.server()?;
        if self.exec_fd.is_some() && self.exec_fd == self.token_fd {
            return Err(SettingsError::Descriptor("exec-fd"));
        }
        let given = self.exec_fd.map(|fd| take(fd, "exec-fd")).transpose()?;
        let given = given.map(|socket| Exec::Given(UnixStream::from(socket)));
        let folder = self.session_dir.ok_or(SettingsError::Missing("session-dir"))?;
        Ok(Session {
            server,
            exec: given.or(self.exec_socket.map(Exec::At)),
            install_launcher: self.install_launcher,
            folder: SessionFolder::new(folder, workspace),
            in_place: self.in_place,
            orphan_timeout: Duration::from_secs(self.orphan_timeout),
            grace: Duration::from_secs(self.grace),
            dial_at_once: self.dial_at_once,
            log: self.log,
        })
    }

    fn server(&self) -> Result<Server, SettingsError> {
        let connect = self.connect.as_ref().ok_or(SettingsError::Missing("connect"))?;
        if let Some(path) = connect.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            let token = take(self.token_fd.ok_or(SettingsError::Missing("token-fd"))?, "token-fd")?;
            return Server::on_this_machine(path.into(), File::from(token)).map_err(|_| SettingsError::Token);
        }
        let address: Option<SocketAddr> =
            connect.strip_prefix("https://").and_then(|address| address.trim_end_matches('/').parse().ok());
        let address = address.ok_or_else(|| SettingsError::Connect(connect.clone()))?;
        let name = self.server_name.as_ref().ok_or(SettingsError::Missing("server-name"))?;
        let ca = self.ca.as_ref().ok_or(SettingsError::Missing("ca"))?;
        let token = self.token_file.clone().ok_or(SettingsError::Missing("token-file"))?;
        Ok(Server::over_tls(address, name, ca, token)?)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SettingsError> {
    std::fs::read(path).map_err(|source| SettingsError::File { path: path.to_owned(), source })
}

fn statement(given: &str) -> Result<protocol::artifact::Signed, SettingsError> {
    let json = if given.starts_with('{') { given.as_bytes().to_vec() } else { read(Path::new(given))? };
    serde_json::from_slice(&json).map_err(SettingsError::Signed)
}

/// A public key from its hex digits.
#[must_use]
pub fn verifying_key(text: &str) -> Option<ed25519_dalek::VerifyingKey> {
    let bytes: [u8; 32] = hex::decode(text).ok()?.try_into().ok()?;
    ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok()
}

/// Takes over a descriptor that the parent left open for us; it is closed on exec from here on.
#[expect(unsafe_code, reason = "a descriptor is inherited as a number; there is no safe way to own it")]
fn take(fd: RawFd, flag: &'static str) -> Result<OwnedFd, SettingsError> {
    if fd <= 2 {
        return Err(SettingsError::Descriptor(flag));
    }
    // SAFETY: called once per flag before any other file is opened by this process, so nothing here owns the number;
    // a number that is not open fails the call below, and is then not owned.
    let fd = unsafe { std::mem::ManuallyDrop::new(OwnedFd::from_raw_fd(fd)) };
    rustix::io::fcntl_setfd(&*fd, rustix::io::FdFlags::CLOEXEC)
        .map_err(|_| SettingsError::Descriptor(flag))?;
    Ok(std::mem::ManuallyDrop::into_inner(fd))
}
