//! What a cluster or a project refuses, takes away or forbids later, and what is said then.

use crate::{
    harm::waits,
    world::{Project, apply, eventually, kubectl, kubectl_with},
};
use anyhow::Context as _;
use serde_json::{Value, json};

/// A condition, once it has this reason.
async fn condition(project: &Project, session: &str, kind: &str, reason: &str) -> anyhow::Result<Value> {
    eventually(&format!("{kind} of {session} says {reason}"), || {
        let object = project.get("agenticsession", session)?;
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        Ok(conditions.into_iter().find(|one| one["type"] == kind && one["reason"] == reason))
    })
    .await
    .with_context(|| project.about(session))
}

#[tokio::test]
async fn a_quota_is_waited_for() -> anyhow::Result<()> {
    let project = Project::new("quota")?;
    let quota = |pods: &str| {
        apply(&json!({"apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "few", "namespace": project.name}, "spec": {"hard": {"pods": pods}}}))
    };
    quota("0")?;
    eventually("the quota is counted", || {
        Ok(project.get("resourcequota", "few")?["status"]["hard"]["pods"].as_str().map(|_| ()))
    })
    .await?;
    project.session("q", json!({"prompt": "Greet me.", "permissionMode": "plan"}))?;
    let said = condition(&project, "q", "PodCreated", "QuotaExceeded").await?;
    assert!(said["message"].to_string().contains("exceeded quota: few"), "{said}");
    assert_eq!(project.get("agenticsession", "q")?["status"]["phase"], "Pending");
    quota("5")?;
    eventually("its pod is made", || Ok((!project.list("pods")?.is_empty()).then_some(())))
        .await
        .with_context(|| project.about("q"))?;
    condition(&project, "q", "PodCreated", "Created").await?;
    Ok(())
}

#[tokio::test]
async fn what_is_forbidden_later_runs_on_and_can_be_stopped() -> anyhow::Result<()> {
    let project = Project::new("later")?;
    project.settings(json!({"permissions": {"allowBypass": true}}))?;
    project.session("s", json!({"interactive": true, "permissionMode": "bypass", "prompt": "Greet me."}))?;
    eventually("it is idle", || {
        let object = project.get("agenticsession", "s")?;
        Ok((object["status"]["reason"] == "MessageAwaited").then_some(()))
    })
    .await
    .with_context(|| project.about("s"))?;
    project.settings(json!({"permissions": {"allowBypass": false}}))?;
    condition(&project, "s", "Accepted", "NotPermitted").await?;
    assert_eq!(project.list("pods")?.len(), 1, "what runs is not taken away");
    // Also where the namespace is no project any more.
    kubectl(&["label", "namespace", &project.name, "vteam.ambient-code/project-"])?;
    condition(&project, "s", "Accepted", "NoProject").await?;
    let stop = r#"{"spec": {"operatingMode": "Stopped"}}"#;
    kubectl(&["-n", &project.name, "patch", "agenticsession", "s", "--type=merge", "-p", stop])?;
    project.reaches("s", "Stopped").await?;
    eventually("its pod is gone", || Ok(project.list("pods")?.is_empty().then_some(()))).await
}

#[tokio::test]
async fn a_deleted_volume_is_a_lost_workspace() -> anyhow::Result<()> {
    let project = Project::new("claim")?;
    let spec =
        json!({"prompt": "Greet me.", "permissionMode": "acceptEdits", "workspace": {"persistent": true}});
    project.session("c", spec)?;
    let object = waits(&project, "c").await?;
    let pod = object["status"]["podName"].as_str().context("no pod")?;
    // It goes once no pod uses it.
    kubectl(&["-n", &project.name, "delete", "pvc", "--all", "--wait=false"])?;
    kubectl(&["-n", &project.name, "delete", "pod", pod, "--grace-period=1"])?;
    let object = project.reaches("c", "Failed").await?;
    assert_eq!(object["status"]["reason"], "WorkspaceLost", "{object}");
    Ok(())
}

#[tokio::test]
async fn an_evicted_pod_is_nobodys_failure() -> anyhow::Result<()> {
    let project = Project::new("evicted")?;
    let spec =
        json!({"prompt": "Greet me.", "permissionMode": "acceptEdits", "workspace": {"persistent": true}});
    project.session("e", spec)?;
    let object = waits(&project, "e").await?;
    let pod = object["status"]["podName"].as_str().context("no pod")?;
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod, "namespace": project.name}, "deleteOptions": {"gracePeriodSeconds": 1}});
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", project.name);
    kubectl_with(&["create", "--raw", &path, "-f", "-"], &eviction.to_string())?;
    let object = eventually("the next epoch waits as the one before did", || {
        let object = project.get("agenticsession", "e")?;
        let status = &object["status"];
        Ok((status["epoch"] == 2 && status["reason"] == "ApprovalPending").then_some(object))
    })
    .await
    .with_context(|| project.about("e"))?;
    assert!(object["status"].get("losses").is_none(), "{object}");
    assert_ne!(object["status"]["podName"], pod);
    Ok(())
}

#[tokio::test]
async fn groups_have_what_the_settings_give_them() -> anyhow::Result<()> {
    let project = Project::new("groups")?;
    let can = |verb: &str, kind: &str| {
        let may =
            kubectl(&["-n", &project.name, "auth", "can-i", verb, kind, "--as=ada", "--as-group=team-a"]);
        // `no` is also an exit code.
        may.is_ok_and(|said| said.trim() == "yes")
    };
    let becomes = async |expected: bool| {
        eventually("the group may, or may not", || {
            Ok((can("create", "agenticsessions.vteam.ambient-code") == expected).then_some(()))
        })
        .await
    };
    project.settings(json!({"groupAccess": [{"groupName": "team-a", "role": "edit"}]}))?;
    becomes(true).await?;
    assert!(!can("create", "pods"), "our role and nothing else");
    let settings = eventually("the settings say so", || {
        let object = project.get("projectsettings", "projectsettings")?;
        Ok((object["status"]["groupBindingsCreated"] == 1).then_some(object))
    })
    .await?;
    let conditions = settings["status"]["conditions"].to_string();
    assert!(conditions.contains("GroupsBound") && !conditions.contains("NotImplemented"), "{conditions}");
    // What somebody removes by hand is put right.
    let ours = "vteam.ambient-code/group-access=true";
    kubectl(&["-n", &project.name, "delete", "rolebindings", "-l", ours])?;
    becomes(true).await?;
    // Nor does it keep them what somebody made of one: without its owner, and for somebody else.
    let binding = kubectl(&["-n", &project.name, "get", "rolebindings", "-l", ours, "-o", "name"])?;
    let eve = r#"{"metadata": {"ownerReferences": null}, "subjects": [{"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}]}"#;
    kubectl(&["-n", &project.name, "patch", binding.trim(), "--type=merge", "-p", eve])?;
    project
        .settings(json!({"groupAccess": [{"groupName": "team-a", "role": "edit"}], "displayName": "Anew"}))?;
    becomes(true).await?;
    let subjects = kubectl(&[
        "-n",
        &project.name,
        "get",
        "rolebindings",
        "-l",
        ours,
        "-o",
        "jsonpath={.items[*].subjects[*].name}",
    ])?;
    assert_eq!(subjects, "team-a");
    project.settings(json!({"groupAccess": []}))?;
    becomes(false).await?;
    // Settings may be there before their namespace is a project.
    kubectl(&["label", "namespace", &project.name, "vteam.ambient-code/project-"])?;
    project.settings(json!({"groupAccess": [{"groupName": "team-a", "role": "edit"}]}))?;
    eventually("the condition says why not", || {
        let said = project.get("projectsettings", "projectsettings")?["status"]["conditions"].to_string();
        Ok(said.contains("makes things in projects only").then_some(()))
    })
    .await?;
    kubectl(&["label", "namespace", &project.name, "vteam.ambient-code/project=true"])?;
    becomes(true).await
}

#[tokio::test]
async fn what_nothing_runs_for_says_so() -> anyhow::Result<()> {
    let project = Project::new("rfe")?;
    let repos = json!([{"url": "https://git.example/r.git"}]);
    project.session("s", json!({"prompt": "p", "repos": repos, "operatingMode": "Stopped"}))?;
    eventually("a session's condition says so", || {
        let said = project.get("agenticsession", "s")?["status"]["conditions"].to_string();
        Ok(said.contains("ReposNotImplemented").then_some(()))
    })
    .await?;
    apply(&json!({"apiVersion": "vteam.ambient-code/v1alpha1", "kind": "RFEWorkflow",
        "metadata": {"name": "w", "namespace": project.name},
        "spec": {"title": "t", "description": "d", "umbrellaRepo": {"url": "https://git.example/r.git"}}}))?;
    eventually("its condition says so", || {
        let object = project.get("rfeworkflow", "w")?;
        let said = object["status"]["conditions"].to_string();
        Ok(said.contains("NotImplemented").then_some(()))
    })
    .await
}
