//! The last test: what one `kubectl apply` brought, one `kubectl delete` takes away.

use crate::{
    cli::vteam,
    world::{Project, SYSTEM, eventually, kubectl, repository},
};
use anyhow::Context as _;
use serde_json::{Value, json};

/// Kinds that belong to no namespace, of which an installation makes some.
const CLUSTER_WIDE: &str = "customresourcedefinitions,clusterroles,clusterrolebindings,priorityclasses,\
    validatingadmissionpolicies,validatingadmissionpolicybindings,persistentvolumes,namespaces";

/// Run by itself, after all others: they would find nothing to be tested.
#[tokio::test]
#[ignore = "takes away what the others test; `cargo xtask e2e` runs it last"]
async fn uninstalled_it_leaves_nothing() -> anyhow::Result<()> {
    let project = Project::alone("last")?;
    project.settings(json!({"groupAccess": [{"groupName": "people", "role": "view"}]}))?;
    project.session(
        "s",
        json!({"interactive": true, "workspace": {"persistent": true}, "prompt": "Greet me."}),
    )?;
    eventually("it runs", || Ok((!project.list("pods")?.is_empty()).then_some(())))
        .await
        .with_context(|| project.about("s"))?;
    let made = || -> anyhow::Result<Vec<String>> {
        let kinds = "pods,persistentvolumeclaims,serviceaccounts,rolebindings,networkpolicies";
        let there = kubectl(&[
            "-n",
            &project.name,
            "get",
            kinds,
            "-l",
            "app.kubernetes.io/managed-by=vteam-operator",
            "-o",
            "name",
        ])?;
        Ok(there.lines().map(str::to_owned).collect())
    };
    eventually("pod, claim, account and binding are there", || Ok((made()?.len() >= 4).then_some(())))
        .await?;
    let overlay = repository().join("manifests/overlays/dev");
    kubectl(&["delete", "-k", &overlay.to_string_lossy(), "--wait=true", "--timeout=180s"])?;
    // With the definitions goes what was made in projects.
    eventually("nothing that was made is left", || {
        let left = made()?;
        anyhow::ensure!(left.is_empty(), "{left:?}");
        Ok(Some(()))
    })
    .await?;
    kubectl(&["delete", "namespace", &project.name, "--timeout=120s"])?;
    // Whoever asks is told what is not there any more, and how it comes.
    let (context, data) = (kubectl(&["config", "current-context"])?, tempfile::tempdir()?);
    let doctor = vteam(data.path(), &["--context", context.trim(), "--json", "doctor"]).output()?;
    assert_eq!(doctor.status.code(), Some(9));
    let answer: Value = serde_json::from_slice(&doctor.stdout)?;
    for what in ["definitions", "server", "operator", "admission"] {
        let found = answer["findings"].as_array().into_iter().flatten().find(|one| one["what"] == what);
        let found = found.with_context(|| format!("{what}: {answer}"))?;
        assert_eq!(found["fine"], false, "{found}");
    }
    eventually("nothing of it is left", || {
        let left = kubectl(&["get", CLUSTER_WIDE, "-o", "name"])?;
        let ours = left.lines().filter(|line| line.contains("vteam") || line.contains(SYSTEM));
        let ours: Vec<_> = ours.collect();
        anyhow::ensure!(ours.is_empty(), "{ours:?}");
        Ok(Some(()))
    })
    .await
}
