//! A certificate of somebody's own CA instead of the server's.

use crate::{
    harm::waits,
    world::{Project, SYSTEM, kubectl, kubectl_with},
};
use anyhow::ensure;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

fn published() -> anyhow::Result<String> {
    kubectl(&["-n", SYSTEM, "get", "configmap", "vteam-server-ca", "-o", r"jsonpath={.data.ca\.crt}"])
}

fn restart() -> anyhow::Result<()> {
    kubectl(&["-n", SYSTEM, "rollout", "restart", "statefulset/vteam-server"])?;
    kubectl(&["-n", SYSTEM, "rollout", "status", "statefulset/vteam-server", "--timeout=180s"]).map(drop)
}

#[tokio::test]
async fn a_secret_gives_the_certificate() -> anyhow::Result<()> {
    let project = Project::alone("certificate")?;
    let before = published()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(vec![format!("vteam-server.{SYSTEM}.svc")])?;
    let certificate = params.signed_by(&key, &ca)?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vteam-server-tls", "namespace": SYSTEM},
        // As cert-manager writes it.
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": certificate.pem(), "tls.key": key.serialize_pem(), "ca.crt": ca.pem()},
    });
    kubectl_with(&["apply", "--server-side", "-f", "-"], &secret.to_string())?;
    restart()?;
    ensure!(published()? == ca.pem(), "the CA that was given is not the one that runners are told");
    project.session("s", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    let bound = waits(&project, "s").await;
    kubectl(&["-n", &project.name, "delete", "agenticsession", "s"])?;
    kubectl(&["-n", SYSTEM, "delete", "secret", "vteam-server-tls"])?;
    restart()?;
    ensure!(published()? == before, "the server's own CA is the one of before");
    bound.map(drop)
}
