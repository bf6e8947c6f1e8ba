//! A server of our own in a folder of its own, started and killed as a person would.

use anyhow::{Context as _, bail};
use model::{
    event::{Event, Stored},
    id::Seq,
    lifecycle::Phase,
};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Long enough for a loaded machine; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The staged binaries.
pub(crate) fn bin(name: &str) -> PathBuf {
    let stage = std::env::var_os("VTEAM_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let exe = std::env::current_exe().expect("own path");
        exe.ancestors().nth(3).expect("target folder").join("stage/debug")
    });
    let path = stage.join(name);
    assert!(path.is_file(), "{} is not there: run `cargo xtask test`, which builds it", path.display());
    path
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) url: String,
    pub(crate) token: String,
    script: PathBuf,
    child: Option<Child>,
    pub(crate) http: reqwest::Client,
    /// Further environment of the server.
    env: Vec<(String, String)>,
    /// Where the data folder is a file system of its own.
    disk: Option<Disk>,
}

/// A small file system, in a mount namespace that lives as long as this.
pub(crate) struct Disk {
    holder: Child,
    /// Of the namespace, as seen from here.
    root: PathBuf,
}

impl Disk {
    /// At `at`; `None` where this machine lets nobody mount anything.
    pub(crate) fn mounted(at: &Path, mib: u32) -> Option<Self> {
        let script = format!(
            "mkdir -p '{0}' && mount -t tmpfs -o size={mib}m,mode=700 tmpfs '{0}' && echo mounted && exec cat",
            at.display()
        );
        let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
        let mut command = Command::new("unshare");
        command.args([flags, "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take()?).read_line(&mut line).ok()?;
        let root = PathBuf::from(format!("/proc/{}/root", holder.id()));
        let disk = Self { holder, root };
        (line == "mounted\n").then_some(disk)
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        command.arg("-t").arg(self.holder.id().to_string()).arg("-m");
        if !rustix::process::geteuid().is_root() {
            command.args(["-U", "--preserve-credentials"]);
        }
        command
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl World {
    pub(crate) async fn up(script: &str) -> Self {
        Self::with_env(script, &[]).await
    }

    pub(crate) async fn with_env(script: &str, env: &[(&str, &str)]) -> Self {
        let mut world = Self::prepared(script, env);
        world.start().await.expect("the server starts");
        world
    }

    /// With a data folder on a disk of this size; `None` where this machine lets nobody mount anything.
    pub(crate) async fn on_small_disk(script: &str, mib: u32) -> Option<Self> {
        let mut world = Self::prepared(script, &[]);
        world.disk = Some(Disk::mounted(&world.data(), mib)?);
        world.start().await.expect("the server starts");
        Some(world)
    }

    fn prepared(script: &str, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("script.yaml");
        std::fs::write(&path, script).expect("the script");
        Self {
            dir,
            url: String::new(),
            token: String::new(),
            script: path,
            child: None,
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            env: env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            disk: None,
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What is at this path of the server's, as seen from here.
    pub(crate) fn seen(&self, path: &Path) -> PathBuf {
        let inside = |disk: &Disk| disk.root.join(path.strip_prefix("/").unwrap_or(path));
        self.disk.as_ref().map_or_else(|| path.to_owned(), inside)
    }

    /// `vteam` with this world's data folder and nothing of our environment.
    pub(crate) fn vteam(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.disk {
            Some(disk) => {
                let mut command = disk.enter();
                command.arg(bin("vteam"));
                command
            }
            None => Command::new(bin("vteam")),
        };
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.dir.path());
        command.arg("--data-dir").arg(self.data()).args(arguments);
        command
    }

    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let mut command =
            self.vteam(&["--json", "--log", "info", "up", "--listen", "127.0.0.1:0", "--script"]);
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("up.log"))?;
        command.arg(&self.script).envs(self.env.iter().cloned());
        let mut child = command.stdout(Stdio::piped()).stderr(log).stdin(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().context("stdout")?;
        self.child = Some(child);
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(PATIENCE, line).await???;
        let told: Value =
            serde_json::from_str(&line).with_context(|| format!("{line:?}; {}", self.server_log()))?;
        self.url = told["url"].as_str().context("url")?.to_owned();
        let token_file = self.seen(Path::new(told["tokenFile"].as_str().context("tokenFile")?));
        self.token = std::fs::read_to_string(token_file)?.trim().to_owned();
        Ok(())
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// SIGTERM, and what it ended with.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().expect("a server");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM");
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("wait") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not end");
            std::thread::yield_now();
        }
    }

    pub(crate) fn server_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("up.log")).unwrap_or_default()
    }

    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        if !status.is_success() {
            bail!("{status}: {text}");
        }
        Ok(if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        })
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.answer(self.request(reqwest::Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.answer(self.request(reqwest::Method::POST, path).json(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.answer(self.request(reqwest::Method::PUT, path).json(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.answer(self.request(reqwest::Method::DELETE, path)).await
    }

    /// Creates a session of this name in the project `default`.
    pub(crate) async fn create(&self, name: &str, spec: Value) -> anyhow::Result<Value> {
        let body = json!({ "metadata": { "name": name }, "apiVersion": "vteam.ambient-code/v1alpha1", "kind": "AgenticSession", "spec": spec });
        self.post("/api/projects/default/agentic-sessions", &body).await
    }

    pub(crate) async fn log(&self, name: &str) -> anyhow::Result<Vec<Stored>> {
        let mut all: Vec<Stored> = Vec::new();
        loop {
            let after = all.last().map_or(Seq(0), |s| s.seq);
            let page = self.get(&format!("{}/events?after={after}", session(name))).await?;
            let events = page.get("items").cloned().unwrap_or(page);
            let events: Vec<Stored> = serde_json::from_value(events)?;
            if events.is_empty() {
                return Ok(all);
            }
            all.extend(events);
        }
    }

    /// Waits until the log satisfies `holds`, and returns it.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&[Stored]) -> bool,
    ) -> Vec<Stored> {
        let start = Instant::now();
        loop {
            // A server that was killed answers again when it is back.
            let log = self.log(name).await;
            if let Ok(log) = &log
                && holds(log)
            {
                return log.clone();
            }
            if start.elapsed() > PATIENCE {
                panic!("{name}: no {what}\n{}\n{}", self.story(&log), self.server_log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn story(&self, log: &anyhow::Result<Vec<Stored>>) -> String {
        let Ok(log) = log else { return format!("{log:?}") };
        log.iter().map(|s| format!("{}\n", serde_json::to_string(s).unwrap_or_default())).collect()
    }

    /// Waits until the session rests, and returns its log.
    pub(crate) async fn settled(&self, name: &str) -> Vec<Stored> {
        self.until(name, "settled phase", |log| phase(log).is_some_and(Phase::is_settled)).await
    }

    /// Allows everything that this session asks for until it rests.
    pub(crate) async fn settled_allowing_all(&self, name: &str) -> Vec<Stored> {
        loop {
            let log = self
                .until(name, "settled phase or approval", |log| {
                    phase(log).is_some_and(Phase::is_settled) || open_approval(log).is_some()
                })
                .await;
            let Some(id) = open_approval(&log) else { return log };
            // It may have been withdrawn meanwhile; what matters is where the session comes to rest.
            let _ = self.decide(name, &id, json!({ "decision": "once" })).await;
        }
    }

    pub(crate) async fn decide(&self, name: &str, id: &str, decision: Value) -> anyhow::Result<Value> {
        self.post(&format!("{}/approvals/{id}", session(name)), &decision).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}", self.server_log());
        }
        if let Some(mut child) = self.child.take() {
            // In order, so that it takes its runners with it.
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_child(&child),
                rustix::process::Signal::TERM,
            );
            let _ = child.wait();
        }
    }
}

pub(crate) fn session(name: &str) -> String {
    format!("/api/projects/default/agentic-sessions/{name}")
}

pub(crate) fn phase(log: &[Stored]) -> Option<Phase> {
    log.iter().rev().find_map(|s| match &s.event {
        Event::PhaseChanged(changed) => Some(changed.phase),
        _ => None,
    })
}

/// The oldest approval that nobody has decided.
pub(crate) fn open_approval(log: &[Stored]) -> Option<String> {
    log.iter().find_map(|s| match &s.event {
        Event::ApprovalRequested(request) => {
            let decided =
                log.iter().any(|d| matches!(&d.event, Event::ApprovalDecided(done) if done.id == request.id));
            (!decided).then(|| request.id.to_string())
        }
        _ => None,
    })
}

/// A folder with these files.
pub(crate) fn folder(at: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = at.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("the folder");
        std::fs::write(path, content).expect("the file");
    }
}
