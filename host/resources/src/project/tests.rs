use super::*;
use serde_json::json;

fn check(value: &Value, expected: Result<(), &str>) {
    let got = read(value).and_then(|settings| ProjectPolicy::try_from(settings.spec));
    match (got, expected) {
        (Ok(_), Ok(())) => {}
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{value}: {error}"),
        (got, _) => panic!("{value}: {got:?}"),
    }
}

#[test]
fn settings_are_read_and_checked() {
    let digest = Digest::of(b"x");
    check(&json!({}), Ok(()));
    check(
        &json!({"groupAccess": [{"groupName": "devs", "role": "edit"}], "inactivityTimeoutSeconds": 60}),
        Ok(()),
    );
    check(
        &json!({"apiVersion": crate::API_VERSION, "kind": "ProjectSettings", "metadata": {"name": "projectsettings", "uid": "1"}, "spec": {}}),
        Ok(()),
    );
    check(&json!({"plugins": {"grants": [{"digest": digest.as_str(), "effects": ["fs.read"]}]}}), Ok(()));
    check(
        &json!({"plugins": {"grants": [{"digest": digest.as_str(), "effects": ["root"]}]}}),
        Err("effects[0]: must be one of fs.read"),
    );
    check(&json!({"plugins": {"grants": [{"digest": "x", "effects": []}]}}), Err("grants[0].digest"));
    check(&json!({"permissions": {"fetchHosts": ["https://a.b/"]}}), Err("fetchHosts[0]"));
    check(&json!({"permissions": {"allowBypas": true}}), Err("did you mean \"allowBypass\"?"));
    check(&json!({"permissions": {"maxWorkspaceMib": 64}}), Ok(()));
    check(&json!({"permissions": {"maxWorkspaceMib": 0}}), Err("must be 1 to 4096"));
    check(&json!({"groupAccess": [{"groupName": "g", "role": "owner"}]}), Err("one of admin, edit, view"));
    check(&json!({"defaults": {"budget": -1.0}}), Err("spec.defaults.budget"));
    check(&json!({"defaults": {"model": ""}}), Err("spec.defaults.model: is empty"));
    let budgets = |default: f64| json!({"defaults": {"budget": default}, "permissions": {"maxBudget": 5}});
    check(&budgets(5.0), Ok(()));
    check(&budgets(5.01), Err("spec.defaults.budget: is more than one session may cost"));
    check(&json!({"kind": "Other", "spec": {}}), Err("kind"));
}

#[test]
fn what_has_no_effect_is_named() {
    let settings = read(&json!({"runnerSecretsName": "s", "mcpServers": {"custom": {}}})).unwrap();
    let policy = ProjectPolicy::try_from(settings.spec).unwrap();
    // Each becomes a condition, and those are told apart by it.
    let reasons: Vec<&str> = policy.warnings.iter().map(|warning| warning.reason.as_str()).collect();
    assert_eq!(reasons, ["RunnerSecretsNotImplemented", "McpNotImplemented"]);
}
