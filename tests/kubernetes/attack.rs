//! Who may do much in a project, and not what takes a verb of its own: over REST, and to a runner that lives. What the policies say
//! of each attack with kubectl is tested against an API server alone, in `host/operator/tests/cluster`.

use crate::world::{Project, apply, eventually, kubectl, kubectl_with};
use anyhow::{Context as _, ensure};
use reqwest::Method;
use resources::authority::{AUTHORITIES, SESSIONS};
use serde_json::{Value, json};

#[tokio::test]
async fn a_field_that_carries_authority_takes_its_verb_over_rest() -> anyhow::Result<()> {
    let project = Project::new("fields")?;
    let (edit, admin) = (project.caller("edit")?, project.caller("admin")?);
    let bold = json!({"interactive": true, "permissionMode": "bypass"});
    let refused = edit.ask(Method::POST, "/agentic-sessions").json(&bold).send().await?;
    assert_eq!(refused.status(), 403);
    let problem: Value = refused.json().await?;
    assert_eq!(problem["type"], "urn:vteam:problem:forbidden");
    assert_eq!(problem["errors"][0]["field"], "spec.permissionMode: bypass");
    assert!(
        problem["detail"].to_string().contains("takes the verb bypass-approvals on agenticsessions"),
        "{problem}"
    );
    assert!(project.list("agenticsessions")?.is_empty(), "nothing was written");
    edit.create(json!({"interactive": true, "budget": 1, "environmentVariables": {"TZ": "UTC"}})).await?;

    // What the server's own pod has is not told.
    for path in ["/tmp", "/usr/lib/vteam/vteam", "/nowhere"] {
        let spec = json!({"interactive": true, "workspace": {"dir": {"path": path}}});
        let refused = edit.ask(Method::POST, "/agentic-sessions").json(&spec).send().await?;
        let (status, problem) = (refused.status(), refused.json::<Value>().await?);
        let said = problem["errors"][0]["message"].to_string();
        ensure!(status == 422 && said.contains("which a cluster does not have"), "{status} {problem}");
    }

    let settings = json!({"permissions": {"allowBypass": true, "maxBudget": 5}});
    let put = async |caller: &crate::world::Caller, spec: &Value| {
        anyhow::Ok(caller.ask(Method::PUT, "/settings").json(spec).send().await?.status())
    };
    assert_eq!(put(&edit, &settings).await?, 403);
    // Who may write sessions and settings, and none of what carries authority in them.
    let (at, group) = (&project.name, "rbac.authorization.k8s.io");
    apply(
        &json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "plain", "namespace": at},
        "rules": [{"apiGroups": ["vteam.ambient-code"], "resources": ["agenticsessions", "projectsettings"], "verbs": ["get", "create", "update"]}]}),
    )?;
    apply(
        &json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "plain", "namespace": at},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "plain"},
        "subjects": [{"kind": "ServiceAccount", "name": "nobody", "namespace": at}]}),
    )?;
    for kind in ["agenticsessions", "projectsettings"] {
        project.may("nobody", &["create", &format!("{kind}.vteam.ambient-code")]).await?;
    }
    let plain = project.caller("nobody")?;
    assert_eq!(put(&plain, &settings).await?, 403);
    // Each field that there is; who may write the objects and has none of the verbs.
    let examples: Value = serde_json::from_str(include_str!("../../host/resources/tests/authority.json"))?;
    for authority in &AUTHORITIES {
        let mut spec = examples[authority.resource][authority.path.join(".")].clone();
        let request = if authority.resource == SESSIONS {
            spec["interactive"] = true.into();
            plain.ask(Method::POST, "/agentic-sessions").json(&spec)
        } else {
            plain.ask(Method::PUT, "/settings").json(&spec)
        };
        let refused = request.send().await?;
        let (status, problem) = (refused.status(), refused.json::<Value>().await?);
        let said = [&problem["errors"][0]["field"], &problem["errors"][0]["message"]].map(Value::as_str);
        let (field, message) = (authority.field(), authority.message());
        ensure!(status == 403 && said == [Some(&*field), Some(&*message)], "{spec}: {status} {problem}");
    }
    assert_eq!(put(&plain, &json!({"displayName": "d"})).await?, 200);
    assert_eq!(put(&admin, &settings).await?, 200);
    let made = admin.ask(Method::POST, "/agentic-sessions").json(&bold).send().await?;
    ensure!(made.status() == 201, "{}", made.text().await?);
    // A copy is a new session, and the one who copies its maker.
    let name = made.json::<Value>().await?["metadata"]["name"].as_str().context("no name")?.to_owned();
    let copied = edit.ask(Method::POST, &format!("/agentic-sessions/{name}/clone")).send().await?;
    assert_eq!(copied.status(), 403);
    Ok(())
}

#[tokio::test]
async fn nobody_gets_into_a_runner_or_passes_for_one() -> anyhow::Result<()> {
    let project = Project::new("posing")?;
    let at = project.name.as_str();
    kubectl(&["-n", at, "create", "rolebinding", "tenant", "--clusterrole=edit", "--user=tenant"])?;
    project.session("s", json!({"prompt": "Greet me.", "workspace": {"persistent": true}}))?;
    let object = eventually("it waits for an approval", || {
        let object = project.get("agenticsession", "s")?;
        Ok((object["status"]["reason"] == "ApprovalPending").then_some(object))
    })
    .await
    .with_context(|| project.about("s"))?;
    let pod = object["status"]["podName"].as_str().context("no pod")?;

    let refused = |args: &[&str], input: &str| {
        let answer = kubectl_with(&[&["-n", at][..], args].concat(), input);
        let error = answer.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(error.contains("ValidatingAdmissionPolicy 'vteam-"), "{args:?}: {error}");
        anyhow::Ok(())
    };
    for container in ["runner", "tools"] {
        refused(&["--as=tenant", "exec", pod, "-c", container, "--", "true"], "")?;
    }
    refused(&["--as=tenant", "attach", pod, "-c", "tools"], "")?;
    refused(&["--as=tenant", "label", "pod", pod, "a=b"], "")?;
    refused(&["--as=tenant", "create", "token", "vteam-runner", "--audience=vteam-runner"], "")?;
    // One as the operator's, by who may do everything; and by a template, whose pod its controller makes.
    let mut posing = project.get("pod", pod)?;
    let volume = posing["spec"]["volumes"].clone();
    posing["metadata"] = json!({"name": "vteam-s-mine", "labels": posing["metadata"]["labels"]});
    posing["spec"].as_object_mut().context("no spec")?.remove("nodeName");
    refused(&["create", "-f", "-"], &posing.to_string())?;
    let template = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "posing"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "serviceAccountName": "vteam-runner", "volumes": volume,
        // As the project demands of every pod: that is not what it is refused for.
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "i", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}}}});
    kubectl_with(&["-n", at, "--as=tenant", "create", "-f", "-"], &template.to_string())?;
    eventually("the job is told why it has no pod", || {
        let events = project.list("events")?;
        let why = |event: &Value| event["message"].to_string().contains("vteam-runner-pods");
        Ok(events.iter().any(why).then_some(()))
    })
    .await?;
    // Who has the verb gets in.
    kubectl(&["-n", at, "create", "rolebinding", "connect", "--clusterrole=vteam-admin", "--user=tenant"])?;
    eventually("they are in", || {
        Ok(kubectl(&["-n", at, "--as=tenant", "exec", pod, "-c", "tools", "--", "true"]).ok())
    })
    .await?;
    // Nobody leaves a pod and a volume behind that no session has.
    refused(&["delete", "agenticsession", "s", "--cascade=orphan"], "")?;
    refused(&["delete", "agenticsessions", "--all", "--cascade=orphan"], "")?;
    let orphan = r#"{"metadata": {"finalizers": ["orphan"]}}"#;
    refused(&["patch", "agenticsession", "s", "--type=merge", "--patch", orphan], "")?;
    kubectl(&["-n", at, "delete", "agenticsession", "s"])?;
    eventually("nothing of it is left", || {
        let left = ["agenticsessions", "pods", "persistentvolumeclaims"].map(|kind| project.list(kind));
        Ok(left.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat().is_empty().then_some(()))
    })
    .await
}

/// Who has a namespace of that name later is somebody else.
#[tokio::test]
async fn an_upload_ends_with_its_project() -> anyhow::Result<()> {
    let project = Project::new("uploads")?;
    let archive = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let starts = async |blob: &Value| {
        let spec = json!({"interactive": true, "workspace": {"archive": {"blob": blob}}});
        let edit = project.caller("edit")?;
        let answer = edit.ask(Method::POST, "/agentic-sessions").json(&spec).send().await?;
        anyhow::Ok((answer.status(), answer.json::<Value>().await?))
    };
    let put = project.caller("edit")?.ask(Method::PUT, "/archives").body(archive.to_vec()).send().await?;
    let blob = put.error_for_status()?.json::<Value>().await?["blob"].clone();
    let (status, made) = starts(&blob).await?;
    ensure!(status == 201, "{status} {made}");
    project.begin_anew()?;
    project.may("edit", &["create", "agenticsessions.vteam.ambient-code"]).await?;
    let (status, refused) = starts(&blob).await?;
    ensure!(status == 422 && refused["detail"].to_string().contains("no such upload"), "{status} {refused}");
    // Nor by an object that the server was not asked for.
    project.session("yaml", json!({"prompt": "Greet me.", "workspace": {"archive": {"blob": blob}}}))?;
    let object = project.reaches("yaml", "Failed").await?;
    ensure!(object["status"]["reason"] == "WorkspaceMissing", "{object}");
    Ok(())
}

/// Whoever takes a runner away from the cluster's garbage collector keeps it for about a minute.
#[tokio::test]
async fn a_runner_whose_session_is_gone_is_ended() -> anyhow::Result<()> {
    let project = Project::new("orphan")?;
    project.session("s", json!({"prompt": "Greet me.", "permissionMode": "acceptEdits"}))?;
    let object = crate::harm::waits(&project, "s").await?;
    let pod = object["status"]["podName"].as_str().context("no pod")?;
    let disown = r#"[{"op": "remove", "path": "/metadata/ownerReferences"}]"#;
    // As whoever orphans things: our policies let nobody else.
    let collector = [
        "--as=system:serviceaccount:kube-system:generic-garbage-collector",
        "--as-group=system:serviceaccounts:kube-system",
    ];
    let patch = ["-n", &project.name, "patch", "pod", pod, "--type=json", "--patch", disown];
    ensure!(kubectl(&patch).is_err(), "anybody may");
    kubectl(&[&patch[..], &collector].concat())?;
    kubectl(&["-n", &project.name, "delete", "agenticsession", "s"])?;
    eventually("its pod is gone", || Ok(project.list("pods")?.is_empty().then_some(()))).await
}

/// The API server finds nothing to complain of in the shipped policies.
#[tokio::test]
async fn the_policies_are_well_typed() -> anyhow::Result<()> {
    let _installed = Project::new("typed")?;
    eventually("each policy was checked", || {
        let list = kubectl(&[
            "get",
            "validatingadmissionpolicies",
            "-l",
            "app.kubernetes.io/part-of=vteam",
            "-o",
            "json",
        ])?;
        let list: Value = serde_json::from_str(&list)?;
        let policies = list["items"].as_array().context("no policies")?;
        ensure!(policies.len() >= 10, "{} policies", policies.len());
        for policy in policies {
            if policy["status"]["observedGeneration"] != policy["metadata"]["generation"] {
                return Ok(None);
            }
            let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
            ensure!(warnings.is_null(), "{}: {warnings:#}", policy["metadata"]["name"]);
        }
        Ok(Some(()))
    })
    .await
}
