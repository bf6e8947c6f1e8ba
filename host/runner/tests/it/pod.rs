//! Runner and launcher as the two containers of a pod have them: TLS to an address, a token that is replaced, a launcher
//! that the runner hands over and that restarts on its own, and a signal that asks for the end.

use crate::{
    process::{end_of, launcher, runner},
    server::{Inside, Play, Server, TOKEN, calls, says, text},
};
use axum::serve::Listener;
use model::{event::Live, grant::PermissionMode};
use protocol::control::{Binding, FromServer, Reply, Request};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal};
use serde_json::json;
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
    server::TlsStream,
};

const NAME: &str = "vteam-server.vteam-system.svc";

/// One that vouches, and a server's certificate by it.
struct Authority {
    pem: String,
    config: ServerConfig,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            );
        Self { pem: own.pem(), config: config.unwrap() }
    }
}

struct Gateway {
    tcp: TcpListener,
    tls: TlsAcceptor,
    /// Connections that came to nothing: whoever dialled did not like the certificate.
    declined: Arc<AtomicUsize>,
}

impl Listener for Gateway {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (socket, from) = self.tcp.accept().await.unwrap();
            match self.tls.accept(socket).await {
                Ok(stream) => return (stream, from),
                Err(_) => drop(self.declined.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

struct Pod {
    folder: tempfile::TempDir,
    server: Server,
    declined: Arc<AtomicUsize>,
    runner: Child,
    tools: Child,
}

/// What a test changes of the runner's command line, and of what the runner is told to trust.
struct Options {
    name: &'static str,
    trust: Option<String>,
    flags: &'static [&'static str],
}

impl Default for Options {
    fn default() -> Self {
        Self { name: NAME, trust: None, flags: &["--orphan-timeout", "20"] }
    }
}

impl Pod {
    async fn start(options: Options, adapt: impl FnOnce(&mut Binding)) -> Self {
        launcher();
        let folder = tempfile::tempdir().unwrap();
        for name in ["run", "workspace", "session", "secrets", "home", "tmp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let authority = Authority::new();
        let trusted = options.trust.as_ref().unwrap_or(&authority.pem);
        project(&folder.path().join("secrets"), 1, TOKEN, trusted);
        // Of a runner before, which was ended in the middle.
        fs::write(folder.path().join("run/vteam-exec"), "older").unwrap();
        fs::write(folder.path().join("run/.vteam-exec.new"), "half").unwrap();
        let server = Server::new("go", adapt);
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let declined = Arc::new(AtomicUsize::new(0));
        let tls = TlsAcceptor::from(Arc::new(authority.config));
        server.serve(Gateway { tcp, tls, declined: declined.clone() });
        let tools = tools(folder.path());
        let runner = container_runner(folder.path(), address, &options);
        Self { folder, server, declined, runner, tools }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn file(&self, path: &str) -> String {
        fs::read_to_string(self.path("workspace").join(path)).unwrap()
    }

    fn terminate(&self) {
        rustix::process::kill_process(Pid::from_child(&self.runner), Signal::TERM).unwrap();
    }

    /// As kubelet does after the container was killed.
    fn restart_tools(&mut self) {
        self.tools.kill().unwrap();
        self.tools.wait().unwrap();
        self.tools = tools(self.folder.path());
    }

    async fn diff(&self) {
        assert!(matches!(self.server.request(Request::Diff).await, Ok(Reply::Diff { .. })));
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for child in [&mut self.runner, &mut self.tools] {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }
}

/// A projected volume, as kubelet writes it: files are links by way of one that is replaced as a whole.
fn project(volume: &Path, generation: u32, token: &str, ca: &str) {
    let named = |generation: u32| format!("..2026_01_01_00_00_{generation:02}");
    let files = volume.join(named(generation));
    fs::create_dir(&files).unwrap();
    fs::write(files.join("token"), token).unwrap();
    fs::write(files.join("ca.crt"), ca).unwrap();
    symlink(named(generation), volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    if generation == 1 {
        for name in ["token", "ca.crt"] {
            symlink(Path::new("..data").join(name), volume.join(name)).unwrap();
        }
    } else {
        fs::remove_dir_all(volume.join(named(generation - 1))).unwrap();
    }
}

fn container_runner(folder: &Path, address: SocketAddr, options: &Options) -> Child {
    let mut command = Command::new(runner());
    command.arg("--install-launcher").arg(folder.join("run"));
    command.arg("--exec-socket").arg(folder.join("run/exec.sock"));
    command.arg("--connect").arg(format!("https://{address}")).arg("--server-name").arg(options.name);
    command.arg("--ca").arg(folder.join("secrets/ca.crt"));
    command.arg("--token-file").arg(folder.join("secrets/token"));
    command.arg("--session-dir").arg(folder.join("session"));
    command.arg("--workspace").arg(folder.join("workspace"));
    command.args(options.flags).env_clear().stdin(Stdio::null()).spawn().unwrap()
}

fn tools(folder: &Path) -> Child {
    const SHELL: &str = "until [ -x \"$0\" ]; do sleep 0.05; done; exec \"$0\" \"$@\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SHELL]).arg(folder.join("run/vteam-exec"));
    command.arg("--listen").arg(folder.join("run/exec.sock"));
    for name in ["workspace", "home", "tmp"] {
        command.arg(format!("--{name}")).arg(folder.join(name));
    }
    // Containers do not get namespaces of their own.
    command.args(["--mask", "no-userns"]).env_clear().stdin(Stdio::null()).spawn().unwrap()
}

fn bypass(binding: &mut Binding) {
    binding.mode = PermissionMode::Bypass;
}

fn shell(command: &str) -> String {
    json!({"command": command, "timeout": 600_000}).to_string()
}

fn printed(inside: &mut Inside) -> Option<()> {
    inside.live.iter().any(|live| matches!(live, Live::CallOutput { .. })).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_over_tls_with_a_token_that_is_replaced() {
    let mut pod = Pod::start(Options::default(), bypass).await;
    let server = pod.server.clone();
    let spy = format!("echo made > made.txt; cat made.txt {}/token; true", pod.path("secrets").display());
    server.play([calls(&[("Bash", &shell(&spy))]), says("done")]);
    assert_eq!(server.end_of("r1").await, "Done: ");
    assert_eq!(pod.file("made.txt"), "made\n");
    let finished = server.finished();
    assert!(finished[0].starts_with("Bash done: made\n") && !finished[0].contains(TOKEN), "{finished:?}");
    let installed = pod.path("run/vteam-exec");
    assert_eq!(fs::read(&installed).unwrap(), fs::read(launcher()).unwrap());
    assert_eq!(installed.metadata().unwrap().permissions().mode() & 0o777, 0o555);
    assert!(!pod.path("run/.vteam-exec.new").exists());
    assert!(!pod.path("session/workspace").exists() && pod.path("session/journal").exists());

    let ca = fs::read_to_string(pod.path("secrets/ca.crt")).unwrap();
    project(&pod.path("secrets"), 2, "another-token", &ca);
    server.inside().token = "another-token".to_owned();
    // On the connection that is there, and then on a new one.
    for (run, hellos) in [("r2", 1), ("r3", 2)] {
        server.until("connection", |inside| (inside.hellos == hellos).then_some(())).await;
        server.begin(run, "again");
        server.play([says("done")]);
        server.tell(FromServer::Run { run: run.parse().unwrap() });
        assert_eq!(server.end_of(run).await, "Done: ");
        if hellos == 1 {
            server.hang_up();
        }
    }
    pod.diff().await;
    pod.terminate();
    assert!(end_of(&mut pod.runner).await);
    assert!(server.inside().said_bye);
    assert_eq!(pod.declined.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_to_a_server_that_is_not_the_one() {
    let flags = &["--orphan-timeout", "1", "--dial-at-once"];
    let other_authority = Options { trust: Some(Authority::new().pem), flags, ..Options::default() };
    let other_name = Options { name: "vteam-server.elsewhere.svc", flags, ..Options::default() };
    for options in [other_authority, other_name] {
        let mut pod = Pod::start(options, bypass).await;
        assert!(!end_of(&mut pod.runner).await);
        assert_eq!(pod.server.inside().hellos, 0);
        assert!(pod.declined.load(Ordering::Relaxed) > 1);
    }
    let options = Options { trust: Some("no certificate".to_owned()), ..Options::default() };
    let mut pod = Pod::start(options, bypass).await;
    assert!(!end_of(&mut pod.runner).await);
    assert_eq!(pod.declined.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_restarts_ends_what_ran_and_the_session_goes_on() {
    let mut pod = Pod::start(Options::default(), bypass).await;
    let server = pod.server.clone();
    server.play([
        calls(&[("Bash", &shell("echo begun; sleep 600"))]),
        calls(&[("Bash", &shell("echo again"))]),
        says("done"),
    ]);
    server.until("output", printed).await;
    pod.restart_tools();
    assert_eq!(server.end_of("r1").await, "Done: ");
    let finished = server.finished();
    let why = "the launcher of native programs was restarted; what ran has ended";
    assert!(finished[0].contains("begun") && finished[0].contains(why), "{finished:?}");
    assert!(finished[1].starts_with("Bash done: again"), "{finished:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn being_asked_to_end_leaves_the_run_to_the_next_runner() {
    let mut pod = Pod::start(Options::default(), bypass).await;
    let server = pod.server.clone();
    server.play([calls(&[("Bash", &shell("echo once"))]), Play::Hang(text("I was about to"))]);
    let finished = |inside: &mut Inside| inside.kinds().contains(&"call.finished".to_owned()).then_some(());
    server.until("the call's end", finished).await;
    pod.terminate();
    assert!(end_of(&mut pod.runner).await);
    let inside = server.inside();
    assert!(inside.said_bye, "it took its leave");
    let kinds = inside.kinds();
    assert!(kinds.contains(&"call.finished".to_owned()), "what was done is said: {kinds:?}");
    assert!(!kinds.contains(&"run.ended".to_owned()), "the run is not over: {kinds:?}");
}

/// As a pod that is deleted: its containers are asked to end at once, and the launcher is the first to go.
#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_goes_with_its_pod_begins_no_turn() {
    let mut pod = Pod::start(Options::default(), bypass).await;
    let server = pod.server.clone();
    server.play([calls(&[("Bash", &shell("echo begun; sleep 600"))]), says("another turn")]);
    server.until("output", printed).await;
    pod.tools.kill().unwrap();
    pod.tools.wait().unwrap();
    // What lies between the two in a pod.
    tokio::time::sleep(Duration::from_millis(50)).await;
    pod.terminate();
    assert!(end_of(&mut pod.runner).await);
    let inside = server.inside();
    assert!(inside.said_bye, "it took its leave");
    let kinds = inside.kinds();
    assert_eq!(kinds.iter().filter(|kind| *kind == "assistant.message").count(), 1, "{kinds:?}");
    assert!(!kinds.contains(&"call.finished".to_owned()), "it is the next runner's to say so: {kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_that_is_over_or_a_second_signal_ends_at_once() {
    let stuck = async |flags| {
        let pod = Pod::start(Options { flags, ..Options::default() }, bypass).await;
        pod.server.inside().deaf = true;
        // What it has to say is never acknowledged.
        pod.server.play([calls(&[("Bash", &shell("echo once"))]), Play::Hang(text("I was about to"))]);
        let intended =
            |inside: &mut Inside| inside.kinds().contains(&"call.intended".to_owned()).then_some(());
        pod.server.until("call", intended).await;
        pod.terminate();
        pod
    };
    let mut pod = stuck(&["--grace", "600"]).await;
    // Two that come together are one.
    tokio::time::sleep(Duration::from_millis(500)).await;
    pod.terminate();
    assert!(!end_of(&mut pod.runner).await);
    assert!(!pod.server.inside().said_bye);

    let began = Instant::now();
    let mut pod = stuck(&["--grace", "2"]).await;
    end_of(&mut pod.runner).await;
    assert!(pod.server.inside().said_bye && began.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_comes_late_is_waited_for() {
    let options = Options { flags: &["--dial-at-once"], ..Options::default() };
    let mut pod = Pod::start(options, bypass).await;
    let server = pod.server.clone();
    pod.tools.kill().unwrap();
    server.play([calls(&[("Bash", &shell("echo ran"))]), says("done")]);
    let intended = |inside: &mut Inside| inside.kinds().contains(&"call.intended".to_owned()).then_some(());
    server.until("call", intended).await;
    pod.restart_tools();
    assert_eq!(server.end_of("r1").await, "Done: ");
    assert!(server.finished()[0].starts_with("Bash done: ran"), "{:?}", server.finished());
}
