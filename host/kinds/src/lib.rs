//! Our kinds to a client of Kubernetes. Objects are read as they are: one that is malformed must not stop the rest from being
//! read.

mod event;
mod lenient;

pub use event::{News, cut, event};
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject},
};
pub use lenient::{Lenient, watch};

pub const SESSION: &str = "AgenticSession";
/// What makes a namespace a project.
pub const PROJECT_LABEL: &str = "vteam.ambient-code/project";

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

#[must_use]
pub fn session() -> ApiResource {
    resource(SESSION, "agenticsessions")
}

#[must_use]
pub fn settings() -> ApiResource {
    resource("ProjectSettings", "projectsettings")
}

#[must_use]
pub fn workflow() -> ApiResource {
    resource("RFEWorkflow", "rfeworkflows")
}

/// The objects of a kind in one namespace.
pub fn api(client: Client, namespace: &str, kind: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, kind)
}

/// The same, where an answer has the whole object: anybody may have made it too deep to be read otherwise.
pub fn lenient(client: Client, namespace: &str, kind: &ApiResource) -> Api<Lenient<DynamicObject>> {
    Api::namespaced_with(client, namespace, kind)
}
