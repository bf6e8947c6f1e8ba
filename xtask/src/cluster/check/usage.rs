//! What a cluster is used for: pods, names, volumes, logs; and what it must refuse.

use super::manifest;
use crate::{
    cluster::{
        kubectl::Kubectl,
        layout::{API_SERVICE, Layout, read},
    },
    run::step,
};
use anyhow::{Context, bail, ensure};
use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(60);
const SECONDS: Duration = Duration::from_secs(5);

pub(super) fn check(layout: &Layout, binaries: &Path) -> anyhow::Result<()> {
    let admin = Kubectl::admin(layout, binaries);
    admin.apply(&manifest("namespace.yaml"))?;
    admin.until(&["-n", "check", "get", "serviceaccount", "default"], PATIENCE, |_| true)?;
    admin.apply(&manifest("pods.yaml"))?;
    pods(&admin, layout)?;
    reachable(&admin)?;
    pod_security(&admin)?;
    node_authorisation(&admin, &Kubectl::with(binaries, layout.ours().join("kubelet.kubeconfig")))?;
    deletion(&admin, layout)
}

fn pods(admin: &Kubectl, layout: &Layout) -> anyhow::Result<()> {
    step("check: a strict pod resolves a name and writes its volume");
    phase(admin, "looks", "Succeeded")?;
    let log = admin.text(&["-n", "check", "logs", "looks"])?;
    ensure!(log.trim() == format!("kubernetes.default.svc is {API_SERVICE}"), "its log says {log}");
    let volume = volume(layout)?.context("there is no volume")?;
    ensure!(read(volume.join("address")) == API_SERVICE, "its volume does not have what it wrote");
    step("check: a program in a running pod");
    phase(admin, "stays", "Running")?;
    admin.text(&[
        "-n",
        "check",
        "exec",
        "stays",
        "--",
        "/pod",
        "look",
        "/data/again",
        "kubernetes.default.svc",
    ])?;
    ensure!(read(volume.join("again")) == API_SERVICE, "exec did not write the volume");
    Ok(())
}

fn phase(admin: &Kubectl, pod: &str, wanted: &str) -> anyhow::Result<()> {
    let args = ["-n", "check", "get", "pod", pod, "-o=jsonpath={.status.phase}"];
    admin.until(&args, PATIENCE, |phase| phase == wanted).map(drop)
}

/// The only one.
fn volume(layout: &Layout) -> anyhow::Result<Option<PathBuf>> {
    let folder = layout.state.join("lib/volumes");
    Ok(fs::read_dir(&folder)?.next().transpose()?.map(|entry| entry.path()))
}

fn reachable(admin: &Kubectl) -> anyhow::Result<()> {
    step("check: this machine reaches services and pods");
    let service: SocketAddr = "10.96.0.10:53".parse()?;
    TcpStream::connect_timeout(&service, SECONDS).context("the DNS service is not reached")?;
    let address = admin.text(&["-n", "check", "get", "pod", "stays", "-o=jsonpath={.status.podIP}"])?;
    // Nobody listens there: being told so is being reached.
    match TcpStream::connect_timeout(&SocketAddr::new(address.parse::<IpAddr>()?, 9), SECONDS) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        other => bail!("a pod is not reached: {other:?}"),
    }
}

fn pod_security(admin: &Kubectl) -> anyhow::Result<()> {
    step("check: Pod Security refuses a privileged pod where the namespace says so");
    let tried = |namespace: &str| {
        let pod =
            manifest("privileged.yaml").replace("{ name:", &format!("{{ namespace: {namespace}, name:"));
        admin.apply(&pod)
    };
    let refused = tried("check").err().context("a privileged pod was accepted")?.to_string();
    ensure!(refused.contains("violates PodSecurity \"restricted"), "refused for another reason: {refused}");
    tried("default").context("it is refused everywhere, which proves nothing")?;
    admin.text(&["-n", "default", "delete", "pod", "privileged", "--force", "--grace-period=0"]).map(drop)
}

fn node_authorisation(admin: &Kubectl, kubelet: &Kubectl) -> anyhow::Result<()> {
    step("check: a kubelet sees the secrets of its own pods only");
    let secret = |name: &'static str| ["-n", "check", "get", "secret", name, "--output=name"];
    kubelet.text(&secret("own")).context("not even its own")?;
    let forbidden = [
        secret("foreign").to_vec(),
        vec!["-n", "check", "get", "secrets", "--output=name"],
        vec!["label", "node", "elsewhere", "a=b"],
    ];
    // Something to be refused.
    admin.apply("{apiVersion: v1, kind: Node, metadata: {name: elsewhere}}")?;
    for args in forbidden {
        let refused =
            kubelet.text(&args).err().with_context(|| format!("a kubelet may {}", args.join(" ")))?;
        ensure!(refused.to_string().contains("forbidden"), "{} fails otherwise: {refused}", args.join(" "));
    }
    admin.text(&["delete", "node", "elsewhere"]).map(drop)
}

fn deletion(admin: &Kubectl, layout: &Layout) -> anyhow::Result<()> {
    step("check: a deleted claim takes its folder along");
    admin.text(&["-n", "check", "delete", "pod", "looks", "elsewhere", "--force", "--grace-period=0"])?;
    admin.text(&["-n", "check", "delete", "pod", "stays", "--timeout=60s"])?;
    admin.text(&["-n", "check", "delete", "persistentvolumeclaim", "data", "--timeout=60s"])?;
    admin.until(&["get", "persistentvolumes", "--output=name"], PATIENCE, str::is_empty)?;
    ensure!(volume(layout)?.is_none(), "the folder is still there");
    Ok(())
}
