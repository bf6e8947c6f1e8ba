//! The pod of a session's runner: one pure function.
//!
//! Nothing in it says whose runner it is: identity, persona, plugins and prompt come over the runner's own connection after it
//! has started. What is in it is what a node has to know: images, volumes, amounts, and where the server is.

mod command;
mod place;
mod volumes;

use super::{judge::Wish, view::View};
use crate::{MANAGER, settings::Images};
use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, PersistentVolumeClaim, Pod, PodDNSConfig, PodDNSConfigOption,
        PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::core::ObjectMeta;
use model::id::Epoch;
use std::{collections::BTreeMap, time::Duration};

/// The session's uid, on everything that is made for it.
pub(crate) const SESSION_LABEL: &str = "vteam.ambient-code/session";
pub(crate) const EPOCH_LABEL: &str = "vteam.ambient-code/epoch";
/// The server's CA certificate. Public: whoever can read the pod may have it.
pub(super) const CA_ANNOTATION: &str = "vteam.ambient-code/server-ca";
/// The account that runners prove themselves with. Reserved: nothing else runs under it.
pub(crate) const ACCOUNT: &str = "vteam-runner";
pub(crate) const RUNNER: &str = "runner";
pub(crate) const TOOLS: &str = "tools";

/// Of every container; also the group of what they share.
const USER: i64 = 65532;
/// SIGTERM to SIGKILL. The runner's own grace is less, so that its last word is heard.
const GRACE_SECONDS: i64 = 30;
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// Where the server is, as a runner has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// `https://ADDRESS:PORT`.
    pub(crate) url: String,
    /// In its certificate.
    pub(crate) name: String,
    /// PEM.
    pub(crate) ca: String,
}

/// `vteam-s-<uid>`: the name of a session's claim, and how its pods' names begin.
pub(crate) fn base_name(uid: &str) -> String {
    format!("vteam-s-{uid}")
}

pub(crate) fn name(uid: &str, epoch: Epoch) -> String {
    format!("{}-{epoch}", base_name(uid))
}

pub(crate) fn pod(session: &View, wish: &Wish, epoch: Epoch, server: &Server, images: &Images) -> Pod {
    let (affinity, mut tolerations) = place::gpu(wish.resources.gpu.as_ref());
    tolerations.extend(wish.resources.tolerations.iter().map(place::toleration));
    let selector = wish.resources.node_selector.clone();
    let metadata = ObjectMeta {
        labels: Some(BTreeMap::from([
            ("app.kubernetes.io/name".to_owned(), "vteam-runner".to_owned()),
            ("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned()),
            (SESSION_LABEL.to_owned(), session.uid.clone()),
            (EPOCH_LABEL.to_owned(), epoch.to_string()),
        ])),
        annotations: Some(BTreeMap::from([
            (CA_ANNOTATION.to_owned(), server.ca.clone()),
            // What a node's autoscaler is told: the session in it cannot be moved.
            ("cluster-autoscaler.kubernetes.io/safe-to-evict".to_owned(), "false".to_owned()),
            ("kubectl.kubernetes.io/default-container".to_owned(), RUNNER.to_owned()),
        ])),
        ..owned(session, name(&session.uid, epoch))
    };
    let spec = PodSpec {
        restart_policy: Some("OnFailure".to_owned()),
        service_account_name: Some(ACCOUNT.to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        dns_policy: Some("None".to_owned()),
        dns_config: Some(no_dns()),
        security_context: Some(pod_security()),
        priority_class_name: wish.overrides.priority_class.clone(),
        node_selector: (!selector.is_empty()).then_some(selector),
        affinity,
        tolerations: (!tolerations.is_empty()).then_some(tolerations),
        containers: vec![runner(wish, server, images), tools(wish, images)],
        volumes: Some(volumes::of(&session.uid, wish)),
        ..PodSpec::default()
    };
    Pod { metadata, spec: Some(spec), status: None }
}

/// The claim of a workspace that outlives its pods.
pub(crate) fn claim(session: &View, wish: &Wish) -> PersistentVolumeClaim {
    let labels = BTreeMap::from([
        ("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned()),
        (SESSION_LABEL.to_owned(), session.uid.clone()),
    ]);
    let metadata = ObjectMeta { labels: Some(labels), ..owned(session, base_name(&session.uid)) };
    PersistentVolumeClaim { metadata, spec: Some(volumes::claim(wish)), status: None }
}

/// It goes when the session goes.
fn owned(session: &View, name: String) -> ObjectMeta {
    let owner = OwnerReference {
        api_version: resources::API_VERSION.to_owned(),
        kind: kinds::SESSION.to_owned(),
        name: session.name.clone(),
        uid: session.uid.clone(),
        controller: Some(true),
        // The operator may not set finalizers on sessions, which this would need where it is enforced.
        block_owner_deletion: None,
    };
    ObjectMeta {
        name: Some(name),
        namespace: Some(session.namespace.clone()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

fn runner(wish: &Wish, server: &Server, images: &Images) -> Container {
    Container {
        name: RUNNER.to_owned(),
        image: Some(images.runner.clone()),
        image_pull_policy: images.pull_policy.clone(),
        args: Some(command::runner(wish, server)),
        resources: Some(place::runner(wish.resources.runner.as_ref())),
        security_context: Some(security()),
        // The last lines of its log say why it ended; they become the session's message.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(volumes::of_runner(wish.accepted.persistent)),
        ..Container::default()
    }
}

fn tools(wish: &Wish, images: &Images) -> Container {
    Container {
        name: TOOLS.to_owned(),
        image: Some(wish.resources.tools_image.clone().unwrap_or_else(|| images.tools.clone())),
        image_pull_policy: images.pull_policy.clone(),
        command: Some(command::tools(wish)),
        resources: Some(place::tools(&wish.resources, &wish.overrides)),
        security_context: Some(security()),
        volume_mounts: Some(volumes::of_tools(wish.accepted.persistent)),
        ..Container::default()
    }
}

fn security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// The API server wants one nameserver at least. This one refuses at once: nothing listens on a pod's own loopback.
fn no_dns() -> PodDNSConfig {
    let option = |name: &str, value: &str| PodDNSConfigOption {
        name: Some(name.to_owned()),
        value: Some(value.to_owned()),
    };
    PodDNSConfig {
        nameservers: Some(vec!["127.0.0.1".to_owned()]),
        options: Some(vec![option("timeout", "1"), option("attempts", "1")]),
        searches: None,
    }
}

#[cfg(test)]
mod tests;
