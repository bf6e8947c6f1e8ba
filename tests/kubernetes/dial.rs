//! Who dials in at the runners' port: real tokens of the cluster, of which the one of the recorded pod is let in.

use crate::{
    cli::Streamed,
    harm::{approve, waits},
    process::Process,
    world::{PATIENCE, Project, SERVER, SYSTEM, eventually, kubectl, kubectl_with, server_ca},
};
use anyhow::{Context as _, ensure};
use reqwest::{Certificate, Client, StatusCode};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

const HISTORY: &str = "/runner/v1/history";

/// The runners' port of the server's pod, from here.
struct Door {
    http: Client,
    port: u16,
    _forward: Streamed,
}

impl Door {
    fn open() -> anyhow::Result<Self> {
        let mut forward = Command::new("kubectl");
        forward.args(["-n", SYSTEM, "port-forward", "--address", "127.0.0.1", "pod/vteam-server-0", ":8444"]);
        let mut forward = Streamed(forward.stdout(Stdio::piped()).spawn()?);
        let mut lines = BufReader::new(forward.0.stdout.take().context("no output")?).lines();
        let line = lines.next().context("no port is forwarded")??;
        let port = line.split(" -> ").next().and_then(|from| from.rsplit(':').next());
        let port = port.and_then(|port| port.parse().ok()).with_context(|| line.clone())?;
        // kubectl ends when nobody hears what it says of each connection.
        std::thread::spawn(move || lines.for_each(drop));
        let http = Client::builder()
            .add_root_certificate(Certificate::from_pem(server_ca()?.as_bytes())?)
            .resolve(SERVER, ([127, 0, 0, 1], port).into())
            .timeout(PATIENCE)
            .build()?;
        Ok(Self { http, port, _forward: forward })
    }

    /// What somebody with this token, who says that it is this epoch's, is answered.
    async fn says(&self, token: Option<&str>, epoch: &str) -> anyhow::Result<StatusCode> {
        let request =
            self.http.get(format!("https://{SERVER}:{}{HISTORY}", self.port)).header("vteam-epoch", epoch);
        let request = token.map_or(request.try_clone().context("once")?, |token| request.bearer_auth(token));
        Ok(request.send().await?.status())
    }
}

/// What kubelet gave the runner of a pod.
fn token_of(project: &Project, pod: &str) -> anyhow::Result<String> {
    let token = Process::of(&project.name, pod, "runner")?.read("root/run/secrets/vteam/token")?;
    Ok(token.trim().to_owned())
}

fn pod_of(object: &Value) -> anyhow::Result<String> {
    Ok(object["status"]["podName"].as_str().context("no pod")?.to_owned())
}

#[tokio::test]
async fn only_the_recorded_pod_is_let_in() -> anyhow::Result<()> {
    let project = Project::new("dial")?;
    let at = project.name.as_str();
    project.session(
        "s",
        json!({"prompt": "Greet me.", "permissionMode": "acceptEdits", "workspace": {"persistent": true}}),
    )?;
    let pod = pod_of(&waits(&project, "s").await?)?;
    let door = Door::open()?;
    let theirs = kubectl(&["-n", at, "create", "token", "admin", "--audience", "vteam-runner"])?;
    for (who, token) in [
        ("nobody", None),
        ("made up", Some("eyJhbGciOiJSUzI1NiJ9.e30.x")),
        ("an account of the project, for the runners' audience", Some(theirs.trim())),
        ("a person's", Some(&*project.token("admin")?)),
    ] {
        assert_eq!(door.says(token, "1").await?, 401, "{who}");
    }
    let own = token_of(&project, &pod)?;
    assert_eq!(door.says(Some(&own), "1").await?, 200);
    assert_eq!(door.says(Some(&own), "2").await?, 409, "of an epoch that is not its own");

    // As the operator makes them, and recorded by nobody: the account is right, the pod is not.
    let mut posing = project.get("pod", &pod)?;
    let name = format!("{}-9", pod.rsplit_once('-').context("no epoch")?.0);
    let mut labels = posing["metadata"]["labels"].clone();
    labels["vteam.ambient-code/epoch"] = "9".into();
    posing["metadata"] = json!({"name": name, "labels": labels,
        "annotations": posing["metadata"]["annotations"], "ownerReferences": posing["metadata"]["ownerReferences"]});
    posing["spec"].as_object_mut().context("no spec")?.remove("nodeName");
    let operator = "--as=system:serviceaccount:vteam-system:vteam-operator";
    kubectl_with(&["-n", at, operator, "create", "-f", "-"], &posing.to_string())?;
    let stranger = eventually("it has a token", || Ok(token_of(&project, &name).ok())).await?;
    assert_eq!(door.says(Some(&stranger), "9").await?, 401, "nobody recorded it");
    kubectl(&["-n", at, operator, "delete", "pod", &name, "--grace-period=1"])?;

    // A newer epoch revokes the one before.
    kubectl(&["-n", at, "delete", "pod", &pod, "--grace-period=1"])?;
    let next = eventually("the next epoch", || {
        let object = project.get("agenticsession", "s")?;
        let waits = object["status"]["epoch"] == 2 && object["status"]["reason"] == "ApprovalPending";
        Ok(waits.then_some(object))
    })
    .await
    .with_context(|| project.about("s"))?;
    for epoch in ["1", "2"] {
        assert_eq!(door.says(Some(&own), epoch).await?, 401, "its epoch is over");
    }
    assert_eq!(door.says(Some(&token_of(&project, &pod_of(&next)?)?), "2").await?, 200);
    approve(&project.caller("edit")?, "s").await?;
    let object = project.reaches("s", "Completed").await?;
    ensure!(object["status"]["losses"].is_null(), "nobody's attempt counts against it: {object}");
    Ok(())
}
