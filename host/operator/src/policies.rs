//! The ValidatingAdmissionPolicies of fields that carry authority, made of the table in `resources`; a copy is kept in
//! `manifests/policies/fields.yaml`. The other policies are written by hand beside it.

use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec, Validation, Variable,
};
use kube::core::ObjectMeta;
use resources::authority::{AUTHORITIES, Authority, SESSIONS, SETTINGS};

/// All documents.
///
/// # Errors
/// When one cannot be written as YAML, which a test rules out.
pub(crate) fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    let mut text =
        "# Written by `cargo xtask codegen` from the table in host/resources/src/authority.rs.\n".to_owned();
    // To delete a session gives nobody anything. Settings that are gone limit nobody.
    for (resource, operations) in
        [(SESSIONS, &["CREATE", "UPDATE"][..]), (SETTINGS, &["CREATE", "UPDATE", "DELETE"])]
    {
        let name = format!("vteam-{resource}-fields");
        let documents = [
            serde_saphyr::to_string(&policy(&name, resource, operations))?,
            serde_saphyr::to_string(&binding(&name))?,
        ];
        for document in documents {
            text.push_str("---\n");
            text.push_str(&document);
        }
    }
    Ok(text)
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn policy(name: &str, resource: &str, operations: &[&str]) -> ValidatingAdmissionPolicy {
    let (group, version) = resources::API_VERSION.split_once('/').unwrap_or((resources::API_VERSION, ""));
    let rule = NamedRuleWithOperations {
        api_groups: Some(vec![group.to_owned()]),
        api_versions: Some(vec![version.to_owned()]),
        operations: Some(operations.iter().map(|operation| (*operation).to_owned()).collect()),
        resources: Some(vec![resource.to_owned()]),
        ..NamedRuleWithOperations::default()
    };
    let authorities = AUTHORITIES.iter().filter(|authority| authority.resource == resource);
    ValidatingAdmissionPolicy {
        metadata: named(name),
        spec: Some(ValidatingAdmissionPolicySpec {
            failure_policy: Some("Fail".to_owned()),
            match_constraints: Some(MatchResources {
                resource_rules: Some(vec![rule]),
                ..MatchResources::default()
            }),
            variables: Some(vec![
                // Lists, of one or none: a field of an optional that a variable holds is always absent.
                variable("now", "request.operation == 'DELETE' ? [] : [?object.?spec]"),
                variable("before", "request.operation == 'CREATE' ? [] : [?oldObject.?spec]"),
                variable("isCluster", IS_CLUSTER),
            ]),
            validations: Some(authorities.map(|authority| validation(authority, group)).collect()),
            ..ValidatingAdmissionPolicySpec::default()
        }),
        status: None,
    }
}

/// The cluster's own controllers, which remove what is in a namespace that is deleted; not what they collect because somebody
/// wrote an owner into it that is not there.
const IS_CLUSTER: &str = "request.operation == 'DELETE' && has(namespaceObject.metadata.deletionTimestamp) \
    && (request.userInfo.username == 'system:kube-controller-manager' \
    || 'system:serviceaccounts:kube-system' in request.userInfo.?groups.orValue([]))";

fn variable(name: &str, expression: &str) -> Variable {
    Variable { name: name.to_owned(), expression: expression.to_owned() }
}

fn validation(authority: &Authority, group: &str) -> Validation {
    let Authority { resource, verb, .. } = authority;
    let (now, before) = (authority.cel("variables.now[?0]"), authority.cel("variables.before[?0]"));
    Validation {
        expression: format!(
            "{now} == {before} || variables.isCluster || \
             authorizer.group('{group}').resource('{resource}').namespace(request.namespace).check('{verb}').allowed()"
        ),
        message: Some(authority.message()),
        reason: Some("Forbidden".to_owned()),
        ..Validation::default()
    }
}

fn binding(name: &str) -> ValidatingAdmissionPolicyBinding {
    ValidatingAdmissionPolicyBinding {
        metadata: named(name),
        spec: ValidatingAdmissionPolicyBindingSpec {
            policy_name: name.to_owned(),
            validation_actions: vec!["Deny".to_owned()],
            ..ValidatingAdmissionPolicyBindingSpec::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn manifest(path: &str) -> String {
        std::fs::read_to_string(format!("{}/../../manifests/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn the_committed_copy_is_this() {
        let kept = manifest("policies/fields.yaml");
        assert!(
            kept == yaml().unwrap(),
            "manifests/policies/fields.yaml is not up to date: run `cargo xtask codegen`"
        );
    }

    /// Who administers a project has each verb; who works in it, those that its settings bound or that reach programs only.
    #[test]
    fn the_roles_have_the_verbs() {
        let roles: Vec<Value> = serde_saphyr::from_multiple(&manifest("roles/roles.yaml")).unwrap();
        let has = |role: &str, authority: &Authority| {
            let role = roles.iter().find(|found| found["metadata"]["name"] == role).unwrap();
            role["rules"].as_array().unwrap().iter().any(|rule| {
                let among = |list: &str, word: &str| rule[list].as_array().unwrap().contains(&word.into());
                among("resources", authority.resource) && among("verbs", authority.verb)
            })
        };
        for authority in &AUTHORITIES {
            let edits =
                authority.resource == SESSIONS && ["set-budget", "set-environment"].contains(&authority.verb);
            assert!(has("vteam-admin", authority), "{authority:?}");
            assert_eq!(has("vteam-edit", authority), edits, "{authority:?}");
            assert!(!has("vteam-view", authority), "{authority:?}");
        }
    }
}
