//! The kinds that nothing runs for: their conditions say what of them has no effect, and groups get what settings give them.

use crate::{
    MANAGER,
    calls::{self, CallError},
    clock,
    groups::{self, Groups},
    leader::Leading,
    projects,
};
use futures::StreamExt;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kinds::Lenient;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject},
    runtime::{
        controller::{Action, Controller},
        watcher,
    },
};
use model::id::UnixMillis;
use resources::{
    Condition, ConditionStatus,
    project::{self, GroupAccess},
    rfe_workflow,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use telemetry::{Shutdown, field::chain};

const AGAIN: Duration = Duration::from_secs(10);
const AT_ONCE: u16 = 4;

/// Whether groups have in the project what its settings give them.
const GROUPS_BOUND: &str = "GroupsBound";

/// What an object's status is to be, but for the times in it.
type Judge = fn(&DynamicObject, UnixMillis) -> Judged;

#[derive(Default)]
struct Judged {
    conditions: Vec<Condition>,
    /// `None`: nothing valid was said about groups, and they keep what they have.
    groups: Option<Vec<GroupAccess>>,
}

struct Kind {
    client: Client,
    leading: Leading,
    resource: ApiResource,
    judge: Judge,
    groups: Groups,
}

/// RFEWorkflows, until shutdown.
pub(crate) async fn workflows(client: Client, leading: Leading, shutdown: Shutdown) {
    let kind = Kind::new(client, leading, kinds::workflow(), workflow);
    run(kind.controller(), kind, shutdown).await;
}

/// ProjectSettings, until shutdown.
pub(crate) async fn settings(client: Client, leading: Leading, shutdown: Shutdown) {
    let bindings = Api::<RoleBinding>::all(client.clone());
    let kind = Kind::new(client, leading, kinds::settings(), project);
    let ours = watcher::Config::default().labels(groups::LABEL);
    run(kind.controller().owns(bindings, ours), kind, shutdown).await;
}

async fn run(controller: Controller<Lenient<DynamicObject>>, kind: Kind, shutdown: Shutdown) {
    controller
        .with_config(kube::runtime::Config::default().concurrency(AT_ONCE))
        .graceful_shutdown_on(async move { shutdown.requested().await })
        .run(
            |object, kind: Arc<Kind>| async move { kind.tell(&object.0).await },
            |_, error, _| {
                tracing::warn!(error = %chain(error), "a status is not written yet");
                Action::requeue(AGAIN)
            },
            Arc::new(kind),
        )
        .for_each(|_| async {})
        .await;
}

impl Kind {
    fn new(client: Client, leading: Leading, resource: ApiResource, judge: Judge) -> Self {
        let groups = Groups::new(client.clone(), leading.clone());
        Self { client, leading, resource, judge, groups }
    }

    fn controller(&self) -> Controller<Lenient<DynamicObject>> {
        let api = Api::all_with(self.client.clone(), &self.resource);
        Controller::new_with(api, watcher::Config::default(), self.resource.clone())
    }

    async fn tell(&self, object: &DynamicObject) -> Result<Action, CallError> {
        if object.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
        let now = clock::now();
        let Judged { mut conditions, groups } = (self.judge)(object, now);
        let (mut bound, mut next) = (None, Action::await_change());
        if let Some(groups) = groups {
            let result = self.groups.bind(object, &groups).await;
            bound = result.as_ref().ok().copied();
            let told = groups_bound(object, &groups, result, now)?;
            if told.as_ref().is_some_and(|one| one.status == ConditionStatus::False) {
                // What it takes may come without a change of the settings: the namespace's label, a role.
                next = Action::requeue(AGAIN);
            }
            conditions.extend(told);
        }
        let status = status(object, conditions, bound);
        if covers(object.data.get("status"), &status) {
            return Ok(next);
        }
        let resource = &self.resource;
        let body = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": name, "namespace": namespace, "uid": object.uid()},
            "status": status,
        });
        let api = kinds::lenient(self.client.clone(), &namespace, resource);
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&body);
        match calls::write(&self.leading, api.patch_status(&name, &params, &patch)).await {
            Ok(_) => Ok(next),
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(next),
            Err(error) => Err(error),
        }
    }
}

fn workflow(object: &DynamicObject, now: UnixMillis) -> Judged {
    let conditions = vec![rfe_workflow::not_implemented(clock::second(now), generation(object))];
    Judged { conditions, ..Judged::default() }
}

fn project(object: &DynamicObject, now: UnixMillis) -> Judged {
    let accepted = |status, reason: &str, message| {
        condition(object, resources::condition::operator::ACCEPTED, status, reason, message, now)
    };
    match projects::settings(object).and_then(|spec| Ok((projects::policy(spec.clone())?, spec))) {
        Ok((policy, spec)) => {
            // What is true of one machine alone is not of a cluster.
            let warnings = policy
                .warnings
                .iter()
                .filter(|warning| !project::OF_ONE_MACHINE.contains(&warning.reason.as_str()));
            let without_effect = warnings
                .map(|warning| Condition::without_effect(warning, clock::second(now), generation(object)));
            let conditions = std::iter::once(accepted(ConditionStatus::True, "Accepted", String::new()))
                .chain(without_effect)
                .collect();
            Judged { conditions, groups: Some(spec.group_access) }
        }
        Err(why) => Judged {
            conditions: vec![accepted(ConditionStatus::False, "Malformed", why)],
            ..Judged::default()
        },
    }
}

/// What became of the groups' bindings; nothing where none was asked for.
///
/// # Errors
/// What says nothing of the bindings, such as an API server that does not answer.
fn groups_bound(
    object: &DynamicObject,
    groups: &[GroupAccess],
    result: Result<u32, CallError>,
    now: UnixMillis,
) -> Result<Option<Condition>, CallError> {
    let told = |status, reason: &str, message| condition(object, GROUPS_BOUND, status, reason, message, now);
    match result {
        Ok(_) if groups.is_empty() => Ok(None),
        Ok(_) => Ok(Some(told(ConditionStatus::True, "Bound", String::new()))),
        Err(CallError::Api(status)) if matches!(status.code, 403 | 422) => {
            Ok(Some(told(ConditionStatus::False, "Refused", status.message.clone())))
        }
        Err(error) => Err(error),
    }
}

fn condition(
    object: &DynamicObject,
    kind: &str,
    status: ConditionStatus,
    reason: &str,
    message: String,
    now: UnixMillis,
) -> Condition {
    Condition {
        kind: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message,
        last_transition_time: clock::second(now),
        observed_generation: generation(object),
    }
}

fn generation(object: &DynamicObject) -> Option<u64> {
    object.metadata.generation.and_then(|generation| u64::try_from(generation).ok())
}

/// With the times of those conditions that say what they said.
fn status(object: &DynamicObject, conditions: Vec<Condition>, bound: Option<u32>) -> Value {
    let before: Vec<Condition> = object
        .data
        .pointer("/status/conditions")
        .and_then(|conditions| serde_json::from_value(conditions.clone()).ok())
        .unwrap_or_default();
    let conditions: Vec<Condition> = conditions
        .into_iter()
        .map(|condition| {
            let same = before.iter().find(|one| one.kind == condition.kind && one.status == condition.status);
            match same {
                Some(one) => {
                    Condition { last_transition_time: one.last_transition_time.clone(), ..condition }
                }
                None => condition,
            }
        })
        .collect();
    let mut status = json!({"observedGeneration": generation(object), "conditions": conditions});
    if let (Some(bound), Some(status)) = (bound, status.as_object_mut()) {
        status.insert("groupBindingsCreated".to_owned(), json!(bound));
    }
    status
}

/// Whether all of `wanted`, and no condition more, stands there.
fn covers(there: Option<&Value>, wanted: &Value) -> bool {
    let field = |name: &str| there.and_then(|there| there.get(name)) == wanted.get(name);
    ["observedGeneration", "conditions", "groupBindingsCreated"].into_iter().all(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": resources::API_VERSION, "kind": "ProjectSettings",
            "metadata": {"name": "projectsettings", "namespace": "p", "generation": 3},
            "spec": {"runnerSecretsName": "s", "groupAccess": [{"groupName": "g", "role": "edit"}]},
        }))
        .unwrap();
        let (early, late) = (UnixMillis(1_000_000), UnixMillis(9_000_000));
        let judged = |object: &_, now| status(object, project(object, now).conditions, Some(1));
        let told = judged(&object, early);
        let kinds: Vec<&str> =
            told["conditions"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Accepted", "RunnerSecretsNotImplemented"]);
        assert!(!covers(None, &told));
        object.data["status"] = told.clone();
        assert!(covers(object.data.get("status"), &judged(&object, late)));
        object.data["spec"] = json!({"runnerSecretsName": 7});
        assert!(project(&object, late).groups.is_none(), "what groups have is left as it is");
        let refused = judged(&object, late);
        assert!(!covers(object.data.get("status"), &refused));
        assert_eq!(refused["conditions"][0]["status"], "False");
    }
}
