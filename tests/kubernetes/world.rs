//! The cluster with vteam on it, and a project for each test.

use crate::gate;
use anyhow::{Context as _, bail, ensure};
use reqwest::{Certificate, Client, Method, RequestBuilder};
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// Long enough for a loaded machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
pub(crate) const SYSTEM: &str = "vteam-system";
pub(crate) const SERVER: &str = "vteam-server.vteam-system.svc";

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// A program as `cargo xtask e2e` builds it for the images.
pub(crate) fn bin(name: &str) -> PathBuf {
    let path = repository().join("target/stage/debug").join(name);
    assert!(path.is_file(), "{} is not there: run `cargo xtask e2e`, which builds it", path.display());
    path
}

pub(crate) fn kubectl(args: &[&str]) -> anyhow::Result<String> {
    kubectl_with(args, "")
}

/// What it prints; what it says of an error is the error.
pub(crate) fn kubectl_with(args: &[&str], input: &str) -> anyhow::Result<String> {
    ensure!(std::env::var_os("KUBECONFIG").is_some(), "no cluster is named: run `cargo xtask e2e`");
    let mut child = Command::new("kubectl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("kubectl is not there: run `cargo xtask e2e`")?;
    child.stdin.take().context("no stdin")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

pub(crate) fn apply(document: &Value) -> anyhow::Result<()> {
    kubectl_with(&["apply", "--server-side", "-f", "-"], &document.to_string()).map(drop)
}

/// Tries until it is there.
pub(crate) async fn eventually<T>(
    what: &str,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    let mut last = None;
    while begun.elapsed() < PATIENCE {
        match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let last = last.map(|error| format!(": {error:#}")).unwrap_or_default();
    bail!("{what}: not within {PATIENCE:?}{last}")
}

/// Installed once for all tests.
struct Installed {
    address: SocketAddr,
    forwarded: bool,
    ca: Certificate,
}

fn installed() -> &'static Installed {
    static INSTALLED: OnceLock<Installed> = OnceLock::new();
    INSTALLED.get_or_init(|| install().expect("vteam is installed"))
}

fn install() -> anyhow::Result<Installed> {
    let overlay = repository().join("manifests/overlays/dev");
    // The definitions come in the same breath as what is of their kinds.
    kubectl(&["apply", "--server-side", "-k", &overlay.to_string_lossy()])?;
    for part in ["statefulset/vteam-server", "deployment/vteam-operator"] {
        let done = kubectl(&["-n", SYSTEM, "rollout", "status", part, "--timeout=180s"]);
        if let Err(error) = done {
            let pods = kubectl(&["-n", SYSTEM, "describe", "pods"]).unwrap_or_default();
            return Err(error.context(pods));
        }
    }
    let ca = server_ca()?;
    let (address, forwarded) = address()?;
    Ok(Installed { address, forwarded, ca: Certificate::from_pem(ca.as_bytes())? })
}

/// Of whoever vouches for the server, as it publishes it: PEM.
pub(crate) fn server_ca() -> anyhow::Result<String> {
    kubectl(&["-n", SYSTEM, "get", "configmap", "vteam-server-ca", "-o", r"jsonpath={.data.ca\.crt}"])
}

/// Replaces the pods of a part of vteam; returns when the new ones are ready.
pub(crate) fn restart(part: &str) -> anyhow::Result<()> {
    kubectl(&["-n", SYSTEM, "rollout", "restart", part])?;
    kubectl(&["-n", SYSTEM, "rollout", "status", part, "--timeout=180s"]).map(drop)
}

/// The Service's own, where this machine reaches it; else through a port-forward that lives as long as the tests.
fn address() -> anyhow::Result<(SocketAddr, bool)> {
    let ip = kubectl(&["-n", SYSTEM, "get", "service", "vteam-server", "-o", "jsonpath={.spec.clusterIP}"])?;
    let direct = SocketAddr::new(ip.parse()?, 443);
    if TcpStream::connect_timeout(&direct, Duration::from_secs(2)).is_ok() {
        return Ok((direct, false));
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    std::thread::spawn(move || {
        loop {
            // It ends with the pod that it was made for.
            let _ = forward(free.port());
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let begun = Instant::now();
    while TcpStream::connect(free).is_err() {
        ensure!(begun.elapsed() < PATIENCE, "the port-forward does not answer");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok((free, true))
}

/// A port-forward whose pod is gone ends with the first connection that finds out: let it be this one.
fn renewed(address: SocketAddr) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Ok(mut stream) = TcpStream::connect(address) {
            stream.set_read_timeout(Some(Duration::from_millis(300)))?;
            // The server waits for the client to begin.
            let waits =
                |error: std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            if stream.read(&mut [0]).is_err_and(waits) {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the port-forward does not come back")
}

/// Ends with this process too, by the end of its input.
fn forward(port: u16) -> anyhow::Result<()> {
    const SCRIPT: &str = "exec 3<&0; kubectl \"$@\" & forward=$!; \
        (cat <&3 >/dev/null; kill $forward) & wait $forward";
    let mut child = Command::new("bash")
        .args(["-c", SCRIPT, "forward", "-n", SYSTEM, "port-forward", "service/vteam-server"])
        .arg(format!("{port}:443"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let input = child.stdin.take();
    child.wait()?;
    drop(input);
    Ok(())
}

/// A project of a test's own; it goes with it.
pub(crate) struct Project {
    pub(crate) name: String,
    _pass: gate::Pass,
}

impl Project {
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        Self::with(name, gate::with_others())
    }

    /// For a test that kills the server.
    pub(crate) fn alone(name: &str) -> anyhow::Result<Self> {
        Self::with(name, gate::alone())
    }

    fn with(name: &str, pass: gate::Pass) -> anyhow::Result<Self> {
        installed();
        let project = Self { name: format!("{name}-{}", std::process::id()), _pass: pass };
        project.begin()?;
        Ok(project)
    }

    fn begin(&self) -> anyhow::Result<()> {
        apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name, "labels": {
            "vteam.ambient-code/project": "true", "pod-security.kubernetes.io/enforce": "restricted",
        }}}))?;
        for role in ["view", "edit", "admin"] {
            self.account(role, Some(&format!("vteam-{role}")))?;
        }
        self.account("nobody", None)
    }

    /// Another project, of the same name.
    pub(crate) fn begin_anew(&self) -> anyhow::Result<()> {
        kubectl(&["delete", "namespace", &self.name, "--timeout=120s"])?;
        self.begin()
    }

    fn account(&self, name: &str, role: Option<&str>) -> anyhow::Result<()> {
        let (at, account) = (&self.name, json!({"name": name, "namespace": self.name}));
        apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}))?;
        let Some(role) = role else { return Ok(()) };
        apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": at},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": at}],
        }))
    }

    pub(crate) fn token(&self, account: &str) -> anyhow::Result<String> {
        Ok(kubectl(&["-n", &self.name, "create", "token", account])?.trim().to_owned())
    }

    /// The server, as this account of the project.
    pub(crate) fn caller(&self, account: &str) -> anyhow::Result<Caller> {
        Ok(Caller { token: Some(self.token(account)?), http: client()?, project: self.name.clone() })
    }

    /// Returns once an account may do what it was given leave for a moment ago: who is refused too early is so for seconds.
    pub(crate) async fn may(&self, account: &str, what: &[&str]) -> anyhow::Result<()> {
        let who = format!("--as=system:serviceaccount:{}:{account}", self.name);
        let line = [&["-n", &self.name, "auth", "can-i", &who][..], what].concat();
        eventually(&format!("{account} may {what:?}"), || Ok(kubectl(&line).ok().map(drop))).await
    }

    pub(crate) fn settings(&self, spec: Value) -> anyhow::Result<()> {
        apply(&json!({"apiVersion": "vteam.ambient-code/v1alpha1", "kind": "ProjectSettings",
            "metadata": {"name": "projectsettings", "namespace": self.name}, "spec": spec}))
    }

    pub(crate) fn session(&self, name: &str, spec: Value) -> anyhow::Result<()> {
        apply(&json!({"apiVersion": "vteam.ambient-code/v1alpha1", "kind": "AgenticSession",
            "metadata": {"name": name, "namespace": self.name}, "spec": spec}))
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&kubectl(&["-n", &self.name, "get", kind, name, "-o", "json"])?)?)
    }

    pub(crate) fn list(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        let list: Value = serde_json::from_str(&kubectl(&["-n", &self.name, "get", kind, "-o", "json"])?)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits for a phase. Another settled one is the test's failure, with all that is known.
    pub(crate) async fn reaches(&self, session: &str, phase: &str) -> anyhow::Result<Value> {
        const SETTLED: [&str; 4] = ["Completed", "Failed", "Stopped", "Suspended"];
        let object = eventually(&format!("{session} becomes {phase}"), || {
            let object = self.get("agenticsession", session)?;
            let now = object["status"]["phase"].as_str().unwrap_or_default();
            Ok((now == phase || SETTLED.contains(&now)).then_some(object))
        })
        .await
        .with_context(|| self.about(session))?;
        ensure!(
            object["status"]["phase"] == phase,
            "{session} is not {phase}: {}\n{}",
            object["status"],
            self.about(session)
        );
        Ok(object)
    }

    /// For whoever reads a failed test.
    pub(crate) fn about(&self, session: &str) -> String {
        let mut text = String::new();
        for args in [
            vec!["-n", &self.name, "get", "agenticsession", session, "-o", "yaml"],
            vec!["-n", &self.name, "describe", "pods"],
            vec!["-n", SYSTEM, "logs", "deployment/vteam-operator", "--tail=40"],
            vec!["-n", SYSTEM, "logs", "statefulset/vteam-server", "--tail=40"],
        ] {
            text.push_str(&kubectl(&args).unwrap_or_else(|error| error.to_string()));
        }
        for pod in self.list("pods").unwrap_or_default() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let logs = kubectl(&["-n", &self.name, "logs", &name, "--all-containers", "--tail=40"]);
            text.push_str(&logs.unwrap_or_else(|error| error.to_string()));
        }
        text
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // A test that failed is looked at.
        if !std::thread::panicking() {
            let _ = kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
        }
    }
}

fn client() -> anyhow::Result<Client> {
    let Installed { address, forwarded, ca } = installed();
    if *forwarded {
        renewed(*address)?;
    }
    let client = Client::builder()
        .add_root_certificate(ca.clone())
        .resolve(SERVER, *address)
        .timeout(PATIENCE)
        .build()?;
    Ok(client)
}

/// Somebody who talks to the server.
pub(crate) struct Caller {
    pub(crate) token: Option<String>,
    http: Client,
    pub(crate) project: String,
}

impl Caller {
    pub(crate) fn with(token: Option<&str>, project: &str) -> anyhow::Result<Self> {
        Ok(Self { token: token.map(str::to_owned), http: client()?, project: project.to_owned() })
    }

    /// The same caller, in another project.
    pub(crate) fn in_project(self, project: &str) -> Self {
        Self { project: project.to_owned(), ..self }
    }

    /// `path` is below the project.
    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.to(method, &format!("/api/projects/{}{path}", self.project))
    }

    pub(crate) fn to(&self, method: Method, path: &str) -> RequestBuilder {
        let port = installed().address.port();
        let request = self.http.request(method, format!("https://{SERVER}:{port}{path}"));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn create(&self, spec: Value) -> anyhow::Result<String> {
        let made = self.ask(Method::POST, "/agentic-sessions").json(&spec).send().await?;
        let status = made.status();
        let body: Value = made.json().await?;
        ensure!(status == 201, "{status}: {body}");
        Ok(body["metadata"]["name"].as_str().context("a session without a name")?.to_owned())
    }

    /// The whole log.
    pub(crate) async fn events(&self, session: &str) -> anyhow::Result<Vec<Value>> {
        let path = format!("/agentic-sessions/{session}/export");
        let text = self.ask(Method::GET, &path).send().await?.error_for_status()?.text().await?;
        let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        // The first one is the session itself.
        Ok(lines.into_iter().filter(|line| line["seq"].is_u64()).collect())
    }

    pub(crate) async fn get(&self, session: &str) -> anyhow::Result<Value> {
        let path = format!("/agentic-sessions/{session}");
        Ok(self.ask(Method::GET, &path).send().await?.error_for_status()?.json().await?)
    }
}
