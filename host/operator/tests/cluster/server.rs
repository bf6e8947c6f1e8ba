//! An API server for one run of the tests.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

const DEADLINE: Duration = Duration::from_secs(120);

/// Ends with the last test that uses it.
pub(crate) struct Cluster {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    /// The last is ended first.
    processes: Vec<Child>,
    _folder: Option<tempfile::TempDir>,
}

/// What kubectl answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) good: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The cluster, with all that is shipped but images, which is made when there is none.
pub(crate) fn cluster() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::start());
        cluster.define();
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

impl Cluster {
    fn start() -> Self {
        match (std::env::var_os("KUBEBUILDER_ASSETS"), std::env::var_os("KUBECONFIG")) {
            (Some(assets), _) => Self::of_its_own(Path::new(&assets)),
            (None, Some(kubeconfig)) => Self {
                kubectl: "kubectl".into(),
                kubeconfig: kubeconfig.into(),
                processes: vec![],
                _folder: None,
            },
            (None, None) => panic!("set KUBEBUILDER_ASSETS or KUBECONFIG: see tests/cluster/main.rs"),
        }
    }

    fn of_its_own(assets: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let [client, peer, secure] = free_ports();
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let mut processes = vec![start(
            &assets.join("etcd"),
            folder.path(),
            &[
                ("data-dir", &at("etcd")),
                ("listen-client-urls", &client),
                ("advertise-client-urls", &client),
                ("listen-peer-urls", &peer),
                ("initial-advertise-peer-urls", &peer),
                ("initial-cluster", &format!("default={peer}")),
                ("unsafe-no-fsync", "true"),
            ],
        )];
        std::fs::write(at("tokens"), "test,admin,admin,\"system:masters\"\n").unwrap();
        // The server makes this key for its certificate; here it signs tokens too, which nobody asks for.
        let key = at("pki/apiserver.key");
        processes.push(start(
            &assets.join("kube-apiserver"),
            folder.path(),
            &[
                ("etcd-servers", &client),
                ("bind-address", "127.0.0.1"),
                ("secure-port", &secure.to_string()),
                ("cert-dir", &at("pki")),
                ("token-auth-file", &at("tokens")),
                ("authorization-mode", "RBAC"),
                ("service-account-issuer", "https://localhost"),
                ("service-account-key-file", &key),
                ("service-account-signing-key-file", &key),
                ("service-cluster-ip-range", "10.0.0.0/24"),
            ],
        ));
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_text(secure)).unwrap();
        let mut cluster =
            Self { kubectl: assets.join("kubectl"), kubeconfig, processes, _folder: Some(folder) };
        cluster.until_ready();
        cluster
    }

    fn until_ready(&mut self) {
        let begun = Instant::now();
        while !self.kubectl(&["get", "--raw", "/readyz"], "").good {
            for process in &mut self.processes {
                let ended = process.try_wait().unwrap();
                assert!(ended.is_none(), "a process ended ({ended:?}): {}", self.kubeconfig.display());
            }
            assert!(begun.elapsed() < DEADLINE, "the API server is not ready");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Installs what is committed. The server has nothing to warn of.
    fn define(&self) {
        let answer = self.kubectl(
            &["apply", "--server-side", "--force-conflicts", "-k", &repository("manifests/base")],
            "",
        );
        assert!(answer.good && answer.err.is_empty(), "{answer:?}");
        let mut wait = vec!["wait", "--for=condition=Established", "--timeout=60s", "crd"];
        wait.extend([
            "agenticsessions.vteam.ambient-code",
            "projectsettings.vteam.ambient-code",
            "rfeworkflows.vteam.ambient-code",
        ]);
        let answer = self.kubectl(&wait, "");
        assert!(answer.good, "{answer:?}");
    }

    /// A namespace for one test.
    pub(crate) fn namespace(self: &Arc<Self>, name: &str) -> Namespace {
        let name = format!("vteam-test-{name}");
        let text = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let answer = self.kubectl(&["apply", "-f", "-"], &text.to_string());
        assert!(answer.good, "{answer:?}");
        Namespace { cluster: Arc::clone(self), name }
    }

    pub(crate) fn kubectl(&self, args: &[&str], stdin: &str) -> Answer {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.kubectl.display()));
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), stdin.as_bytes()).unwrap();
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Answer { good: status.success(), out: text(stdout), err: text(stderr) }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Removed when the test is over, where the cluster outlives it.
pub(crate) struct Namespace {
    cluster: Arc<Cluster>,
    name: String,
}

impl Namespace {
    pub(crate) fn kubectl(&self, args: &[&str]) -> Answer {
        self.with_input(args, "")
    }

    pub(crate) fn apply(&self, object: &serde_json::Value) -> Answer {
        self.apply_with(&[], object)
    }

    pub(crate) fn apply_with(&self, flags: &[&str], object: &serde_json::Value) -> Answer {
        self.with_input(&[&["apply", "-f", "-"], flags].concat(), &object.to_string())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn with_input(&self, args: &[&str], stdin: &str) -> Answer {
        self.cluster.kubectl(&[&["--namespace", self.name.as_str()], args].concat(), stdin)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.cluster.processes.is_empty() {
            self.cluster.kubectl(&["delete", "namespace", &self.name, "--wait=false"], "");
        }
    }
}

/// A path in the repository.
pub(crate) fn repository(path: &str) -> String {
    format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))
}

fn start(program: &Path, folder: &Path, flags: &[(&str, &str)]) -> Child {
    let name = program.file_name().unwrap().to_string_lossy();
    let log = std::fs::File::create(folder.join(format!("{name}.log"))).unwrap();
    let mut command = Command::new(program);
    command.args(flags.iter().map(|(name, value)| format!("--{name}={value}")));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// Free just now. They are all held at once, so that they differ.
fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

fn kubeconfig_text(port: u16) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        // It is our own child on loopback, with a certificate that it made a moment ago.
        "clusters": [{"name": "test", "cluster": {"server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true}}],
        "users": [{"name": "admin", "user": {"token": "test"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
    })
    .to_string()
}
