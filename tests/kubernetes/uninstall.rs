//! The last test: what one `kubectl apply` brought, one `kubectl delete` takes away.

use crate::world::{Project, SYSTEM, eventually, kubectl, repository};
use anyhow::Context as _;
use serde_json::json;

/// Kinds that belong to no namespace, of which an installation makes some.
const CLUSTER_WIDE: &str = "customresourcedefinitions,clusterroles,clusterrolebindings,priorityclasses,\
    validatingadmissionpolicies,validatingadmissionpolicybindings,persistentvolumes,namespaces";

/// Run by itself, after all others: they would find nothing to be tested.
#[tokio::test]
#[ignore = "takes away what the others test; `cargo xtask e2e` runs it last"]
async fn uninstalled_it_leaves_nothing() -> anyhow::Result<()> {
    let project = Project::alone("last")?;
    project.session(
        "s",
        json!({"interactive": true, "workspace": {"persistent": true}, "prompt": "Greet me."}),
    )?;
    eventually("it runs", || Ok((!project.list("pods")?.is_empty()).then_some(())))
        .await
        .with_context(|| project.about("s"))?;
    let overlay = repository().join("manifests/overlays/dev");
    kubectl(&["delete", "-k", &overlay.to_string_lossy(), "--wait=true", "--timeout=180s"])?;
    // With the definitions go the sessions, and with these what was made for them.
    for kind in ["pods", "persistentvolumeclaims"] {
        eventually(&format!("no {kind} are left"), || Ok(project.list(kind)?.is_empty().then_some(())))
            .await?;
    }
    kubectl(&["delete", "namespace", &project.name, "--timeout=120s"])?;
    eventually("nothing of it is left", || {
        let left = kubectl(&["get", CLUSTER_WIDE, "-o", "name"])?;
        let ours = left.lines().filter(|line| line.contains("vteam") || line.contains(SYSTEM));
        let ours: Vec<_> = ours.collect();
        anyhow::ensure!(ours.is_empty(), "{ours:?}");
        Ok(Some(()))
    })
    .await
}
