//! What people have is read as it is: the examples for a cluster, through the types that one machine uses too.
#![cfg(test)]

use model::event::Warning;
use resources::{
    AgenticSessionSpec, AgenticSessionStatus, ProjectPolicy, ProjectSettingsSpec, project, rfe_workflow,
    session,
};
use serde_json::{Value, json};

fn example(name: &str) -> Value {
    let path = format!("{}/../../examples/kubernetes/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn reasons(warnings: &[Warning]) -> Vec<&str> {
    warnings.iter().map(|warning| warning.reason.as_str()).collect()
}

#[test]
fn sessions_in_each_shape_are_accepted() {
    let policy = ProjectPolicy::try_from(ProjectSettingsSpec::default()).unwrap();
    let check = |name: &str, expected: &[&str]| {
        let accepted = session::read(&example(name)).unwrap().accept(&policy).unwrap();
        assert_eq!(reasons(&accepted.warnings), expected, "{name}");
    };
    let repos = "ReposNotImplemented";
    let temperature = "TemperatureDropped";
    check("session-older", &[repos, "UserContextIgnored", "ResourcesNotImplemented", temperature]);
    check("session-older-exported", &[repos, temperature]);
    check("session-current", &[repos, "McpNotImplemented", "WorkflowNotImplemented", temperature]);
    check("session", &["ResourcesNotImplemented"]);
}

#[test]
fn settings_and_workflows_are_read() {
    let settings = project::read(&example("project-settings")).unwrap();
    let policy = ProjectPolicy::try_from(settings.spec).unwrap();
    assert_eq!(policy.warnings.len(), 4, "{:?}", policy.warnings);
    let workflow = rfe_workflow::read(&example("rfe-workflow")).unwrap();
    assert_eq!(workflow.spec.jira_links[0].jira_key, "PARSE-123");
}

/// Each writer's part is read back from the whole.
#[test]
fn a_status_has_two_writers() {
    let whole = json!({
        "observedGeneration": 2, "phase": "Running", "podName": "p", "epoch": 1, "stoppedReason": "user",
        "session_id": "s", "num_turns": 3, "total_cost_usd": 0.5, "is_error": false, "persona": "STAFF_ENGINEER",
        "usage": {"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Bound", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    });
    let status: AgenticSessionStatus = serde_json::from_value(whole.clone()).unwrap();
    assert_eq!(serde_json::to_value(&status).unwrap(), whole);
    let (operator, server) =
        (serde_json::to_value(&status.operator).unwrap(), serde_json::to_value(&status.server).unwrap());
    let (operator, server) = (operator.as_object().unwrap(), server.as_object().unwrap());
    assert!(operator.keys().all(|field| !server.contains_key(field)), "{operator:?} {server:?}");
    assert_eq!(operator.len() + server.len() + 1, whole.as_object().unwrap().len());
}

/// The bounds in the schema are those that are enforced.
#[test]
fn bounds_are_the_enforced_ones() {
    let schema = schemars::schema_for!(AgenticSessionSpec).to_value();
    let limits = model::limits::Limits::shipped().session;
    let bound = |pointer: &str| schema.pointer(pointer).unwrap().as_u64().unwrap();
    assert_eq!(bound("/properties/maxTurns/maximum"), u64::from(limits.max_turns));
    assert_eq!(bound("/properties/timeout/maximum"), limits.run_ms / 1000);
    let schema = schemars::schema_for!(ProjectSettingsSpec).to_value();
    assert_eq!(
        schema.pointer("/$defs/Permissions/properties/maxWorkspaceMib/maximum").unwrap().as_u64(),
        Some(limits.workspace_bytes >> 20)
    );
}
