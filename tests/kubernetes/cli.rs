//! The command, with a kubeconfig and with an address, as people use it.

use crate::world::{PATIENCE, Project, SYSTEM, apply, eventually, kubectl, repository};
use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

/// Of a session that did the dev overlay's task.
const PROGRAM: &str = "#!/bin/sh\necho \"hello from $(pwd)\"\n";

pub(crate) fn vteam(data: &Path, args: &[&str]) -> Command {
    let stage = std::env::var_os("VTEAM_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let exe = std::env::current_exe().expect("own path");
        exe.ancestors().nth(3).expect("target folder").join("stage/debug")
    });
    let mut command = Command::new(stage.join("vteam"));
    command.args(args).env("VTEAM_DATA_DIR", data).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// What it said, once it ended with this code.
fn ends(command: &mut Command, code: i32) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } = command.output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    ensure!(status.code() == Some(code), "{command:?}: {status}\n{said}");
    Ok(said)
}

fn json_of(command: &mut Command, code: i32) -> anyhow::Result<Value> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{command:?}: {}\n{said}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| said.into_owned())
}

/// The kubeconfig of somebody of a project who has a token.
fn kubeconfig(project: &Project, account: &str, to: &Path) -> anyhow::Result<()> {
    let text = kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"])?;
    let mut config: Value = serde_json::from_str(&text)?;
    let cluster = config["clusters"][0]["name"].clone();
    config["users"] = json!([{"name": "them", "user": {"token": project.token(account)?}}]);
    let context = json!({"cluster": cluster, "user": "them", "namespace": project.name});
    config["contexts"] = json!([{"name": "theirs", "context": context}]);
    config["current-context"] = json!("theirs");
    Ok(fs::write(to, config.to_string())?)
}

fn may_connect(project: &Project, account: &str) -> anyhow::Result<()> {
    let name = format!("{}-{account}", project.name);
    let uid = kubectl(&["get", "namespace", &project.name, "-o", "jsonpath={.metadata.uid}"])?;
    // It goes with the project's namespace, though it is not in it.
    let owner = json!({"apiVersion": "v1", "kind": "Namespace", "name": project.name, "uid": uid});
    apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": SYSTEM, "ownerReferences": [owner]},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "vteam-connect"},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": project.name}],
    }))
}

/// A folder with something for the agent, something ignored and something of git's.
fn folder() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at(".git"))?;
    fs::create_dir_all(at("target"))?;
    fs::write(at(".git/config"), "[core]\n")?;
    fs::write(at(".gitignore"), "target\n")?;
    fs::write(at("target/big"), "built\n")?;
    fs::write(at("README.md"), "Read me.\n")?;
    std::os::unix::fs::symlink("README.md", at("link"))?;
    Ok(folder)
}

#[tokio::test]
async fn an_account_stands_in_for_a_client_certificate() -> anyhow::Result<()> {
    let (project, folder, data) = (Project::new("cli-account")?, folder()?, tempfile::tempdir()?);
    let context = kubectl(&["config", "current-context"])?.trim().to_owned();
    let dir = folder.path().to_string_lossy();
    let line = ["--context", &context, "--project", &project.name];
    let run = [&line[..], &["run", "Greet me.", "--dir", &dir, "--yes", "--apply"]].concat();
    let users = kubectl(&["config", "view", "--raw", "--minify", "-o", "jsonpath={.users[0].user}"])?;
    if users.contains("client-certificate") {
        let said = ends(&mut vteam(data.path(), &run), 2)?;
        ensure!(said.contains("client certificate") && said.contains("--service-account NAME"), "{said}");
    }
    let said = ends(&mut vteam(data.path(), &[&run[..], &["--service-account", "edit"]].concat()), 0)?;
    let account = format!("system:serviceaccount:{}:edit", project.name);
    ensure!(said.contains(&format!("it belongs to {account}")), "{said}");
    ensure!(said.contains("hello from /workspace") && said.contains("1 file applied"), "{said}");
    assert_eq!(fs::read_to_string(folder.path().join("greet.sh"))?, PROGRAM);
    let sessions = project.list("agenticsessions")?;
    assert_eq!(sessions[0]["metadata"]["annotations"]["vteam.ambient-code/created-by"], account.as_str());
    // Afterwards, by its name.
    let name = sessions[0]["metadata"]["name"].as_str().context("no name")?;
    let account = [&line[..], &["--service-account", "edit"]].concat();
    let diff = ends(&mut vteam(data.path(), &[&account[..], &["sessions", "diff", name]].concat()), 0)?;
    ensure!(diff.contains("greet.sh"), "{diff}");
    let to = ["sessions", "apply", name, "--yes", "--to", &dir];
    let again = ends(&mut vteam(data.path(), &[&account[..], &to].concat()), 0)?;
    ensure!(again.contains("has these changes already"), "{again}");
    let none = [&line[..], &["--service-account", "none", "sessions", "ls"]].concat();
    let said = ends(&mut vteam(data.path(), &none), 4)?;
    ensure!(said.contains("there is no service account none"), "{said}");
    Ok(())
}

/// Reads what a command streams, and ends it with the test.
pub(crate) struct Streamed(pub(crate) Child);

impl Drop for Streamed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_run_outlives_the_server_that_it_follows() -> anyhow::Result<()> {
    let (project, folder, data) = (Project::alone("cli-follow")?, folder()?, tempfile::tempdir()?);
    let config = data.path().join("kubeconfig");
    kubeconfig(&project, "edit", &config)?;
    let config = config.to_string_lossy();
    let said = ends(&mut vteam(data.path(), &["--kubeconfig", &config, "sessions", "ls"]), 8)?;
    ensure!(said.contains("vteam-connect"), "{said}");
    may_connect(&project, "edit")?;

    let dir = folder.path().to_string_lossy();
    let line =
        ["--kubeconfig", &config, "--json", "run", "Greet me.", "--dir", &dir, "--mode", "accept-edits"];
    let mut run = vteam(data.path(), &line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let lines = BufReader::new(run.stdout.take().context("no output")?).lines();
    let mut errors = run.stderr.take().context("no output")?;
    let mut run = Streamed(run);
    let events = tokio::task::spawn_blocking(|| lines.collect::<Result<Vec<_>, _>>());
    let name = eventually("it waits for an approval", || {
        let sessions = project.list("agenticsessions")?;
        let waits = sessions.iter().find(|session| session["status"]["reason"] == "ApprovalPending");
        Ok(waits.and_then(|session| session["metadata"]["name"].as_str().map(str::to_owned)))
    })
    .await?;
    // The folder is there as a copy on this machine would be.
    let caller = project.caller("edit")?;
    let listing = caller.ask(Method::GET, &format!("/agentic-sessions/{name}/workspace")).send().await?;
    let listing: Value = listing.error_for_status()?.json().await?;
    let mut there: Vec<&str> =
        listing["items"].as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect();
    there.sort_unstable();
    assert_eq!(there, [".gitignore", "README.md", "greet.sh", "link"]);

    kubectl(&["-n", SYSTEM, "delete", "pod", "vteam-server-0", "--grace-period=0", "--force"])?;
    kubectl(&["-n", SYSTEM, "rollout", "status", "statefulset/vteam-server", "--timeout=120s"])?;
    let approve = ["--kubeconfig", &config, "--json", "sessions", "approve", &name];
    let waiting = json_of(&mut vteam(data.path(), &approve), 0)?;
    let id = waiting[0]["data"]["id"].as_str().with_context(|| waiting.to_string())?;
    ends(&mut vteam(data.path(), &[&approve[..], &[id]].concat()), 0)?;

    let events = tokio::time::timeout(PATIENCE, events).await???;
    let mut said = String::new();
    std::io::Read::read_to_string(&mut errors, &mut said)?;
    let status = run.0.wait()?;
    ensure!(status.success(), "{status}: {said}");
    let events = events.iter().map(|line| serde_json::from_str(line)).collect::<Result<Vec<Value>, _>>()?;
    crate::job::did_the_job(&events)?;
    Ok(())
}

#[tokio::test]
async fn what_a_cluster_lacks_is_told() -> anyhow::Result<()> {
    let (project, data) = (Project::new("cli-doctor")?, tempfile::tempdir()?);
    let context = kubectl(&["config", "current-context"])?.trim().to_owned();
    let doctor = |more: &[&str]| -> anyhow::Result<Vec<Value>> {
        let line = [&["--context", &context, "--json", "doctor"][..], more].concat();
        let output = vteam(data.path(), &line).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| said.into_owned())?;
        let findings = answer["findings"].as_array().context("no findings")?.clone();
        let broken = findings.iter().any(|finding| finding["fine"] == false);
        let code = if broken { 9 } else { 0 };
        ensure!(output.status.code() == Some(code), "{}: {findings:?}", output.status);
        Ok(findings)
    };
    let policies = repository().join("manifests/project");
    let open = doctor(&["--project", &project.name, "--service-account", "edit"])?;
    let said = open.iter().find(|finding| finding["what"] == "network").context("no network")?;
    assert!(said["fine"] == false && said["detail"].to_string().contains("-k manifests/project"), "{said}");
    // One that says nothing of runners, or lets them go anywhere, is not enough.
    for (name, spec) in [
        (
            "of-others",
            json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"]}),
        ),
        ("open", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{}]})),
    ] {
        apply(&json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": project.name}, "spec": spec}))?;
    }
    let open = doctor(&["--project", &project.name, "--service-account", "edit"])?;
    assert!(open.iter().any(|finding| finding["what"] == "network" && finding["fine"] == false), "{open:?}");
    kubectl(&["-n", &project.name, "apply", "--server-side", "-k", &policies.to_string_lossy()])?;
    let standing = |findings: &[Value], what: &str| -> Value {
        let found = findings.iter().find(|finding| finding["what"] == what);
        found.unwrap_or_else(|| panic!("{what}: {findings:?}"))["fine"].clone()
    };
    let fine = doctor(&["--project", &project.name, "--service-account", "edit"])?;
    for what in [
        "cluster",
        "definitions",
        "server",
        "operator",
        "rights",
        "access",
        "model",
        "project",
        "pod security",
        "storage",
        "network",
        "admission",
        "kernel",
    ] {
        assert_eq!(standing(&fine, what), true, "{what}: {fine:?}");
    }
    let other = doctor(&["--project", "default", "--service-account", "default"])?;
    for what in ["rights", "project", "pod security"] {
        assert_eq!(standing(&other, what), false, "{what}: {other:?}");
    }
    let looks_on = doctor(&["--project", &project.name, "--service-account", "view"])?;
    assert_eq!(standing(&looks_on, "rights"), false, "{looks_on:?}");
    let elsewhere =
        doctor(&["--project", &project.name, "--service-account", "edit", "--system-namespace", "none"])?;
    for what in ["server", "operator", "access"] {
        assert_eq!(standing(&elsewhere, what), false, "{what}: {elsewhere:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_by_its_address_is_known_by_its_ca() -> anyhow::Result<()> {
    let (project, data) = (Project::new("cli-address")?, tempfile::tempdir()?);
    let config = |name: &str, namespace: &str| {
        kubectl(&["-n", namespace, "get", "configmap", name, "-o", r"jsonpath={.data.ca\.crt}"])
    };
    let write = |name: &str, text: String| -> anyhow::Result<String> {
        let path = data.path().join(name);
        fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let ca = write("ca", config("vteam-server-ca", SYSTEM)?)?;
    let other = write("other", config("kube-root-ca.crt", SYSTEM)?)?;
    let token = write("them", project.token("edit")?)?;
    let bad = write("bad", "eyJhbGciOiJSUzI1NiJ9.e30.x".to_owned())?;

    let mut forward = Command::new("kubectl");
    let place = ["--address", "127.0.0.1,127.0.0.2", "service/vteam-server", ":443"];
    forward.args(["-n", SYSTEM, "port-forward"]).args(place).stdout(Stdio::piped());
    let mut forward = Streamed(forward.spawn()?);
    // Kept open: kubectl says there what it does, and ends when nobody hears.
    let mut lines = BufReader::new(forward.0.stdout.take().context("no output")?).lines();
    let mut at = || -> anyhow::Result<String> {
        let line = lines.next().context("no port is forwarded")??;
        let at = line.strip_prefix("Forwarding from ").and_then(|line| line.split(" -> ").next());
        Ok(format!("https://{}", at.with_context(|| line.clone())?))
    };
    let (url, misnamed) = (at()?, at()?);

    let check = |url: &str, more: &[&str], code: i32, part: &str| -> anyhow::Result<()> {
        let line = [&["--server", url, "--project", &project.name, "sessions", "ls"][..], more].concat();
        let said = ends(&mut vteam(data.path(), &line), code)?;
        ensure!(said.contains(part), "{part}: {said}");
        Ok(())
    };
    check(&url, &["--ca", &ca, "--token-file", &token], 0, "NAME")?;
    check(&url, &["--ca", &other, "--token-file", &token], 6, "another CA")?;
    check(&url, &["--token-file", &token], 6, "give --ca FILE")?;
    check(&misnamed, &["--ca", &ca, "--token-file", &token], 6, "another name")?;
    check(&url, &["--ca", &ca, "--token-file", &bad], 7, "kubectl create token")?;
    check(
        &url,
        &["--ca", &ca, "--token-file", &token, "--project", "default"],
        8,
        "may not list agenticsessions",
    )?;
    Ok(())
}

#[tokio::test]
async fn what_is_printed_is_what_kustomize_makes() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    for overlay in ["dev", "production"] {
        let folder = repository().join("manifests/overlays").join(overlay);
        let made = kubectl(&["kustomize", &folder.to_string_lossy()])?;
        let line = ["install", "--render", "--overlay", overlay];
        let printed = String::from_utf8(vteam(data.path(), &line).output()?.stdout)?;
        ensure!(printed == made, "manifests/rendered is not up to date: run `cargo xtask codegen`");
        let list = json_of(&mut vteam(data.path(), &[&line[..], &["--json"]].concat()), 0)?;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(made.split("\n---\n").count()));
    }
    Ok(())
}
