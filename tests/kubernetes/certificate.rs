//! A certificate of somebody's own CA instead of the server's.

use crate::{
    harm::waits,
    world::{Project, SYSTEM, apply, kubectl, restart},
};
use anyhow::ensure;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

const SERVER: &str = "statefulset/vteam-server";

fn published() -> anyhow::Result<String> {
    kubectl(&["-n", SYSTEM, "get", "configmap", "vteam-server-ca", "-o", r"jsonpath={.data.ca\.crt}"])
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
    apply(&secret)?;
    restart(SERVER)?;
    ensure!(published()? == ca.pem(), "the CA that was given is not the one that runners are told");
    project.session("s", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    let bound = waits(&project, "s").await;
    kubectl(&["-n", &project.name, "delete", "agenticsession", "s"])?;
    kubectl(&["-n", SYSTEM, "delete", "secret", "vteam-server-tls"])?;
    restart(SERVER)?;
    ensure!(published()? == before, "the server's own CA is the one of before");
    bound.map(drop)
}
