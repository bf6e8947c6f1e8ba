//! Our kinds, as the cluster's API server knows them. They are read as they are: one that is malformed must not stop the
//! rest from being read.

use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject},
};

pub(crate) const SESSION: &str = "AgenticSession";
/// What makes a namespace a project.
pub(crate) const PROJECT_LABEL: &str = "vteam.ambient-code/project";

/// The operator's writes are known by it.
pub(crate) const MANAGER: &str = "vteam-operator";

fn resource(kind: &str, plural: &str) -> ApiResource {
    let (group, version) = resources::API_VERSION.split_once('/').unwrap_or((resources::API_VERSION, ""));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: resources::API_VERSION.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

pub(crate) fn session() -> ApiResource {
    resource(SESSION, "agenticsessions")
}

pub(crate) fn settings() -> ApiResource {
    resource("ProjectSettings", "projectsettings")
}

pub(crate) fn workflow() -> ApiResource {
    resource("RFEWorkflow", "rfeworkflows")
}

/// The objects of a kind in one namespace.
pub(crate) fn api(client: Client, namespace: &str, kind: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, kind)
}

/// Leaves out what nobody here reads: it is most of an object's size.
pub(crate) fn strip(object: &mut DynamicObject) {
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}
