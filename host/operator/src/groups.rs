//! `groupAccess` of ProjectSettings: a RoleBinding in the project for each group, to one of our three ClusterRoles. What the
//! settings do not say any more goes; what somebody changed is put right.

use crate::{
    MANAGER,
    calls::{self, CallError},
    leader::Leading,
};
use k8s_openapi::{
    api::rbac::v1::{RoleBinding, RoleRef, Subject},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
    core::{DynamicObject, ObjectMeta},
};
use model::id::Digest;
use resources::project::{GroupAccess, Role};
use std::collections::BTreeMap;

/// On each binding that was made of a project's settings.
pub(crate) const LABEL: &str = "vteam.ambient-code/group-access";
const RBAC: &str = "rbac.authorization.k8s.io";
/// Of a group's digest in a binding's name: a group's own name may be longer than a name can be.
const DIGITS: usize = 16;

#[derive(Clone)]
pub(crate) struct Groups {
    client: Client,
    leading: Leading,
}

impl Groups {
    pub(crate) fn new(client: Client, leading: Leading) -> Self {
        Self { client, leading }
    }

    /// Brings the project's bindings to what `wanted` says. Returns how many there are.
    ///
    /// # Errors
    /// What the API server says to the first that it refuses; what is to be done about the others is done.
    pub(crate) async fn bind(
        &self,
        settings: &DynamicObject,
        wanted: &[GroupAccess],
    ) -> Result<u32, CallError> {
        let namespace = settings.namespace().unwrap_or_default();
        let api = Api::<RoleBinding>::namespaced(self.client.clone(), &namespace);
        let mut wanted: BTreeMap<String, RoleBinding> =
            wanted.iter().map(|access| binding(settings, access)).map(|one| (one.name_any(), one)).collect();
        let count = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
        let mut failed = None;
        for there in calls::read(api.list(&ListParams::default().labels(LABEL))).await? {
            let name = there.name_any();
            if wanted.get(&name).is_some_and(|one| says_the_same(one, &there)) {
                wanted.remove(&name);
                continue;
            }
            // A binding's role cannot be changed: it is made anew.
            let only = Preconditions { uid: there.uid(), resource_version: None };
            let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
            let deleted = calls::write(&self.leading, api.delete(&name, &params)).await;
            if let Err(error) = deleted
                && error.code() != Some(404)
            {
                // One that cannot be taken away keeps none of the others.
                wanted.remove(&name);
                failed.get_or_insert(error);
            }
        }
        for one in wanted.values() {
            if let Err(error) = calls::write(&self.leading, api.create(&calls::post_params(), one)).await {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(count), Err)
    }
}

fn binding(settings: &DynamicObject, access: &GroupAccess) -> RoleBinding {
    let role = match access.role {
        Role::Admin => "vteam-admin",
        Role::Edit => "vteam-edit",
        Role::View => "vteam-view",
    };
    let digest = Digest::of(access.group_name.as_bytes());
    let name = format!("{role}-{}", digest.hex().get(..DIGITS).unwrap_or_default());
    let labels = [("app.kubernetes.io/managed-by", MANAGER), (LABEL, "true")];
    // With the settings goes what they gave.
    let owner = OwnerReference {
        api_version: resources::API_VERSION.to_owned(),
        kind: kinds::settings().kind,
        name: settings.name_any(),
        uid: settings.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    RoleBinding {
        metadata: ObjectMeta {
            name: Some(name),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: Some(RBAC.to_owned()),
            kind: "ClusterRole".to_owned(),
            name: role.to_owned(),
        },
        subjects: Some(vec![Subject {
            api_group: Some(RBAC.to_owned()),
            kind: "Group".to_owned(),
            name: access.group_name.clone(),
            namespace: None,
        }]),
    }
}

fn says_the_same(one: &RoleBinding, other: &RoleBinding) -> bool {
    let owner =
        |binding: &RoleBinding| binding.owner_references().iter().map(|owner| owner.uid.clone()).next();
    (&one.role_ref, &one.subjects, owner(one)) == (&other.role_ref, &other.subjects, owner(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_group_has_a_binding_of_its_own() {
        let settings: DynamicObject = serde_json::from_value(json!({
            "apiVersion": resources::API_VERSION, "kind": "ProjectSettings",
            "metadata": {"name": "projectsettings", "namespace": "p", "uid": "u"},
        }))
        .unwrap();
        let of = |group: &str, role| binding(&settings, &GroupAccess { group_name: group.into(), role });
        let long = "g".repeat(253);
        let one = of(&long, Role::Edit);
        assert!(one.name_any().len() < 64, "{}", one.name_any());
        assert_eq!(one.subjects.as_ref().unwrap()[0].name, long);
        assert_ne!(one.name_any(), of("other", Role::Edit).name_any());
        assert_ne!(one.name_any(), of(&long, Role::View).name_any());
        assert!(says_the_same(&one, &one.clone()));
        let mut widened = one.clone();
        widened.role_ref.name = "cluster-admin".to_owned();
        assert!(!says_the_same(&one, &widened));
    }
}
