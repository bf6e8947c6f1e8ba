//! What a cluster lacks. Whatever the caller may not look at is said to be unknown, and not to be fine.

use super::Finding;
use crate::{
    client::{Client, Credential},
    context::{Context, is_ready},
    exit::{Code, Outcome},
    verbs::cell,
};
use k8s_openapi::api::{
    admissionregistration::v1::ValidatingAdmissionPolicyBinding,
    apps::v1::Deployment,
    authentication::v1::SelfSubjectReview,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::{Namespace, Node, Pod},
    networking::v1::NetworkPolicy,
    storage::v1::StorageClass,
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};
use model::id::ProjectName;
use serde_json::Value;

/// Of a namespace: that it is a project.
const LABEL: &str = "vteam.ambient-code/project";
const PROJECT: &str = "project";
/// Of a pod: that it is a runner's.
const SESSION: &str = "vteam.ambient-code/session";
const PSS: &str = "pod-security.kubernetes.io/enforce";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const OURS: &str = "app.kubernetes.io/part-of=vteam";
const SERVER: &str = "app.kubernetes.io/name=vteam-server";
const OPERATOR: &str = "vteam-operator";
/// The least minor version: the one that has ValidatingAdmissionPolicy.
const MINOR: u32 = 30;

pub(super) async fn findings(context: &Context, credential: Outcome<Credential>) -> Vec<Finding> {
    let reached = reached(context).await;
    if reached.fine == Some(false) {
        return vec![reached];
    }
    let mut found = vec![reached, definitions(context).await, server(context).await, operator(context).await];
    match credential {
        Ok(credential) => {
            found.push(rights(context, &credential).await);
            found.extend(access(context, credential).await);
        }
        Err(failure) => found.push(Finding::new("rights", false, failure.to_string())),
    }
    let is_known = found.iter().any(|finding| finding.what == PROJECT);
    found.extend(namespace(context).await.into_iter().filter(|f| f.what != PROJECT || !is_known));
    found.extend([
        storage(context).await,
        network(context).await,
        admission(context).await,
        nodes(context).await,
    ]);
    found
}

/// What one may not look at is no lack.
fn failed(what: &'static str, error: &kube::Error) -> Finding {
    match error {
        kube::Error::Api(answer) if answer.code == 403 => {
            Finding::unknown(what, format!("not known: {}", answer.message))
        }
        _ => Finding::new(what, false, telemetry::field::chain(error)),
    }
}

async fn reached(context: &Context) -> Finding {
    let url = &context.config.cluster_url;
    match context.client.apiserver_version().await {
        Ok(version) => {
            let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
            let fine = version.major != "1" || digits.parse::<u32>().is_ok_and(|minor| minor >= MINOR);
            let least = if fine { String::new() } else { format!(": 1.{MINOR} is the least") };
            Finding::new("cluster", fine, format!("Kubernetes {} at {url}{least}", version.git_version))
        }
        Err(error) => {
            Finding::new("cluster", false, context.failed("ask for its version", &error).to_string())
        }
    }
}

async fn definitions(context: &Context) -> Finding {
    const WHAT: &str = "definitions";
    const KINDS: [&str; 3] = ["agenticsessions", "projectsettings", "rfeworkflows"];
    let version = resources::API_VERSION;
    match context.client.list_api_group_resources(version).await {
        Ok(list) => {
            let there = |kind: &&str| !list.resources.iter().any(|resource| resource.name == *kind);
            let missing: Vec<&str> = KINDS.into_iter().filter(|kind| there(kind)).collect();
            let detail = if missing.is_empty() { version.to_owned() } else { lacks(&missing.join(", ")) };
            Finding::new(WHAT, missing.is_empty(), detail)
        }
        Err(kube::Error::Api(answer)) if answer.code == 404 => {
            Finding::new(WHAT, false, lacks(&format!("the group {version}")))
        }
        Err(error) => failed(WHAT, &error),
    }
}

fn lacks(what: &str) -> String {
    format!(
        "{what} is not there: vteam install --render --registry PREFIX | kubectl apply --server-side -f -"
    )
}

async fn server(context: &Context) -> Finding {
    let pods = Api::<Pod>::namespaced(context.client.clone(), context.system.as_str());
    match pods.list(&ListParams::default().labels(SERVER)).await {
        Ok(pods) => {
            let ready = pods.items.iter().filter(|pod| is_ready(pod)).count();
            let images = pods.items.iter().flat_map(|pod| pod.spec.iter().flat_map(|spec| &spec.containers));
            let image = images.filter_map(|container| container.image.as_deref()).next().unwrap_or("none");
            counted("server", context, (ready, pods.items.len()), image)
        }
        Err(error) => failed("server", &error),
    }
}

async fn operator(context: &Context) -> Finding {
    let deployments = Api::<Deployment>::namespaced(context.client.clone(), context.system.as_str());
    match deployments.get_opt(OPERATOR).await {
        Ok(None) => Finding::new("operator", false, lacks(&format!("{OPERATOR} in {}", context.system))),
        Ok(Some(deployment)) => {
            let count = |n: Option<i32>| usize::try_from(n.unwrap_or(0)).unwrap_or(0);
            let spec = deployment.spec.unwrap_or_default();
            let images = spec.template.spec.iter().flat_map(|spec| &spec.containers);
            let image = images.filter_map(|container| container.image.as_deref()).next().unwrap_or("none");
            let ready = count(deployment.status.and_then(|status| status.ready_replicas));
            counted("operator", context, (ready, count(spec.replicas)), image)
        }
        Err(error) => failed("operator", &error),
    }
}

fn counted(what: &'static str, context: &Context, (ready, all): (usize, usize), image: &str) -> Finding {
    let mut detail = format!("{ready} of {all} ready, {image}");
    if ready == 0 {
        detail = format!("{detail}: kubectl --namespace {} describe pods", context.system);
    }
    Finding::new(what, ready > 0, detail)
}

/// Whether the server answers, and what it says of itself.
async fn access(context: &Context, credential: Credential) -> Vec<Finding> {
    let answered = match context.connect(credential).await {
        Ok(client) => client.version().await.map(|version| (client, version)),
        Err(failure) => Err(failure),
    };
    let (client, version) = match answered {
        Ok(answered) => answered,
        Err(failure) => return vec![Finding::new("access", false, failure.to_string())],
    };
    let text = |at: &str| cell(&version, at).into_raw();
    let (theirs, ours) = (text("/version"), env!("CARGO_PKG_VERSION"));
    let other =
        if theirs == ours { String::new() } else { format!("; this command is {ours}: use the same") };
    let model = match (text("/scripted"), text("/defaultModel")) {
        (script, _) if !script.is_empty() => format!("{script}: a script plays, no real model answers"),
        (_, model) if model.is_empty() => "no default: a session or its project names one".to_owned(),
        (_, model) => format!("{model} where none is named"),
    };
    let mut found = vec![
        Finding::new("access", theirs == ours, format!("answers, version {theirs}{other}")),
        Finding::new("model", true, model),
    ];
    let degraded = client.degraded().await.unwrap_or_else(|failure| vec![failure.to_string()]);
    found.extend(settings(context, &client).await);
    found.extend(plugins(&client, &degraded).await);
    found.extend(degraded.into_iter().map(|part| Finding::new("degraded", false, part)));
    found
}

/// What of the project's is not in use as it is; what all projects have is among the server's own.
async fn plugins(client: &Client, degraded: &[String]) -> Option<Finding> {
    let mut refused = client.refused_plugins().await.ok()?;
    let common = |file: &str| degraded.iter().any(|part| part.starts_with(&format!("plugin {file}:")));
    refused.retain(|one| !common(cell(one, "/file").raw()));
    let named = |one: &Value| format!("{} ({})", cell(one, "/file").into_raw(), cell(one, "/why").into_raw());
    let named: Vec<String> = refused.iter().map(named).collect();
    let told = || Finding::new("plugins", false, format!("refused: {}", named.join("; ")));
    (!named.is_empty()).then(told)
}

/// What the server takes the project for, which one may ask without being let to see the namespace.
async fn settings(context: &Context, client: &Client) -> Option<Finding> {
    let project = &context.project;
    match client.settings().await {
        Ok(_) => Some(Finding::new(PROJECT, true, format!("{project} is one"))),
        Err(failure) if failure.code == Code::NotFound => {
            Some(Finding::new(PROJECT, false, no_project(project)))
        }
        // Its settings are there, and cannot be read.
        Err(failure) if failure.code == Code::Conflict => {
            Some(Finding::new(PROJECT, false, failure.to_string()))
        }
        Err(_) => None,
    }
}

fn no_project(project: &ProjectName) -> String {
    format!("{project} is none yet: kubectl label namespace {project} {LABEL}=true")
}

/// Who the cluster takes us for, and what that account may do in the project.
async fn rights(context: &Context, credential: &Credential) -> Finding {
    const WHAT: &str = "rights";
    let project = &context.project;
    let client = match credential.token().await.map(|token| context.client_of(token)) {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return failed(WHAT, &error),
        Err(failure) => return Finding::new(WHAT, false, failure.to_string()),
    };
    let review = Api::<SelfSubjectReview>::all(client.clone());
    let name = match review.create(&PostParams::default(), &SelfSubjectReview::default()).await {
        Ok(review) => review.status.and_then(|status| status.user_info).and_then(|user| user.username),
        Err(error) => {
            return Finding::new(WHAT, false, context.failed("ask who you are", &error).to_string());
        }
    };
    let name = name.unwrap_or_default();
    let (mut may, mut may_not) = (Vec::new(), Vec::new());
    for verb in ["get", "create", "update", "delete"] {
        match allowed(&client, project, verb).await {
            Ok(true) => may.push(verb),
            Ok(false) => may_not.push(verb),
            Err(error) => return failed(WHAT, &error),
        }
    }
    if may_not.is_empty() {
        return Finding::new(WHAT, true, format!("{name} may {} sessions in {project}", may.join(", ")));
    }
    let may = if may.is_empty() { String::new() } else { format!(" and may {}", may.join(", ")) };
    let detail = format!(
        "{name} may not {} sessions in {project}{may}: have vteam-edit bound to it there",
        may_not.join(", ")
    );
    Finding::new(WHAT, false, detail)
}

async fn allowed(client: &kube::Client, project: &ProjectName, verb: &str) -> kube::Result<bool> {
    let group = resources::API_VERSION.split_once('/').map(|(group, _)| group.to_owned());
    let attributes = ResourceAttributes {
        group,
        verb: Some(verb.to_owned()),
        resource: Some("agenticsessions".to_owned()),
        namespace: Some(project.to_string()),
        ..ResourceAttributes::default()
    };
    let asked = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer =
        Api::<SelfSubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &asked).await?;
    Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
}

async fn namespace(context: &Context) -> Vec<Finding> {
    let project = &context.project;
    let namespace = match Api::<Namespace>::all(context.client.clone()).get_opt(project.as_str()).await {
        Ok(Some(namespace)) => namespace,
        Ok(None) => return vec![Finding::new(PROJECT, false, format!("there is no namespace {project}"))],
        Err(error) => return vec![failed(PROJECT, &error)],
    };
    let label = |key: &str| namespace.labels().get(key).map(String::as_str);
    let is_project = label(LABEL) == Some("true");
    let detail = if is_project { format!("{project} is one") } else { no_project(project) };
    let level = label(PSS).unwrap_or("none");
    let held = if level == "restricted" {
        "restricted".to_owned()
    } else {
        format!(
            "{level}: sessions keep to `restricted`, others need not: kubectl label namespace {project} {PSS}=restricted --overwrite"
        )
    };
    vec![Finding::new(PROJECT, is_project, detail), Finding::new("pod security", level == "restricted", held)]
}

async fn storage(context: &Context) -> Finding {
    const WHAT: &str = "storage";
    match Api::<StorageClass>::all(context.client.clone()).list(&ListParams::default()).await {
        Ok(classes) => {
            let is_default =
                |class: &&StorageClass| class.annotations().get(DEFAULT_CLASS).is_some_and(|v| v == "true");
            match classes.items.iter().find(is_default) {
                Some(class) => Finding::new(WHAT, true, format!("{} where none is named", class.name_any())),
                None => Finding::new(
                    WHAT,
                    false,
                    "no StorageClass is the default: name one in each session with a persistent workspace",
                ),
            }
        }
        Err(error) => failed(WHAT, &error),
    }
}

/// Whether runners, and vteam itself, are closed in. That the rules hold is not to be seen from here.
async fn network(context: &Context) -> Finding {
    const WHAT: &str = "network";
    let (project, system) = (&context.project, &context.system);
    let policies = |namespace: &ProjectName| {
        let api = Api::<NetworkPolicy>::namespaced(context.client.clone(), namespace.as_str());
        async move { api.list(&ListParams::default()).await.map(|list| list.items) }
    };
    let (of_project, of_system) = match tokio::try_join!(policies(project), policies(system)) {
        Ok(both) => both,
        Err(error) => return failed(WHAT, &error),
    };
    let mut lacks = Vec::new();
    if !of_project.iter().any(closes_runners) {
        lacks.push(format!(
            "no NetworkPolicy closes the runners of {project}: kubectl apply --server-side --namespace {project} -k manifests/project"
        ));
    }
    if of_system.is_empty() {
        lacks.push(format!("no NetworkPolicy in {system}: vteam's own pods reach whatever they can"));
    }
    if lacks.is_empty() {
        return Finding::new(
            WHAT,
            true,
            "NetworkPolicies are there; whether they hold is the network plugin's affair",
        );
    }
    Finding::new(WHAT, false, lacks.join("; "))
}

/// It is of all pods or of runners, and says who may come and where they may go: not to wherever they like.
fn closes_runners(policy: &NetworkPolicy) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let selector = spec.pod_selector.clone().unwrap_or_default();
    let labels = selector.match_labels.unwrap_or_default();
    let expressions = selector.match_expressions.unwrap_or_default();
    let of_runners = expressions.iter().all(|one| one.key == SESSION && one.operator == "Exists");
    let is_of = |kind: &str| spec.policy_types.iter().flatten().any(|one| one == kind);
    let somewhere =
        spec.egress.iter().flatten().all(|rule| rule.to.as_ref().is_some_and(|to| !to.is_empty()));
    labels.is_empty() && of_runners && is_of("Ingress") && is_of("Egress") && somewhere
}

async fn admission(context: &Context) -> Finding {
    const WHAT: &str = "admission";
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(context.client.clone());
    match bindings.list_metadata(&ListParams::default().labels(OURS)).await {
        Ok(bindings) if bindings.items.is_empty() => Finding::new(
            WHAT,
            false,
            "vteam's ValidatingAdmissionPolicies are not there: whoever may write a session may give it any authority",
        ),
        Ok(bindings) => {
            Finding::new(WHAT, true, format!("{} of vteam's policies are bound", bindings.items.len()))
        }
        Err(error) => failed(WHAT, &error),
    }
}

async fn nodes(context: &Context) -> Finding {
    const WHAT: &str = "kernel";
    const SAID: &str =
        "what a node really keeps is tried in each session's pod, and said where a program is refused";
    let nodes = match Api::<Node>::all(context.client.clone()).list(&ListParams::default()).await {
        Ok(nodes) => nodes.items,
        Err(kube::Error::Api(answer)) if answer.code == 403 => return Finding::unknown(WHAT, SAID),
        Err(error) => return failed(WHAT, &error),
    };
    let kernel = |node: &Node| {
        let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
        info.map(|info| info.kernel_version.clone()).unwrap_or_default()
    };
    let old: Vec<String> =
        nodes.iter().filter(|node| !super::has_landlock(&kernel(node))).map(|node| node.name_any()).collect();
    if old.is_empty() {
        return Finding::new(WHAT, true, format!("new enough for Landlock on every node; {SAID}"));
    }
    Finding::new(
        WHAT,
        false,
        format!("older than Linux 5.13, so programs are refused there: {}", old.join(", ")),
    )
}
