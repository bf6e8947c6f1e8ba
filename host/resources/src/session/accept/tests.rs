use crate::{Accepted, Invalid, ProcessNetwork, ProjectPolicy, ProjectSettingsSpec, session::read};
use model::{money::MicroUsd, plan::Desired};
use serde_json::{Value, json};
use std::time::Duration;

fn policy() -> ProjectPolicy {
    ProjectPolicy::try_from(ProjectSettingsSpec::default()).unwrap()
}

fn accept(value: &Value, policy: &ProjectPolicy) -> Result<Accepted, Invalid> {
    read(value)?.accept(policy)
}

fn check(value: &Value, expected: Result<&[&str], &str>) {
    match (accept(value, &policy()), expected) {
        (Ok(got), Ok(warnings)) => {
            let reasons: Vec<&str> = got.warnings.iter().map(|w| w.reason.as_str()).collect();
            assert_eq!(reasons, warnings, "{value}");
            let kept: Accepted = serde_json::from_str(&serde_json::to_string(&got).unwrap()).unwrap();
            assert_eq!(kept, got, "what is stored is read back");
        }
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{value}: {error}"),
        (got, _) => panic!("{value}: {got:?}"),
    }
}

#[test]
fn both_shapes_are_accepted() {
    check(&json!({"prompt": "fix it"}), Ok(&[]));
    check(&json!({"initialPrompt": "fix it", "stopOnRunFinished": true, "inactivityTimeout": 60}), Ok(&[]));
    check(&json!({"interactive": true}), Ok(&[]));
    check(
        &json!({"prompt": "fix it", "displayName": null, "repos": [], "operatingMode": "Running"}),
        Ok(&[]),
    );
    check(
        &json!({"prompt": "fix it", "resources": {"cpu": 2, "memory": "4Gi", "gpu": {"count": 1}, "tolerations": [{"operator": "Exists"}]}}),
        Ok(&["ResourcesNotImplemented"]),
    );
    check(
        &json!({
            "apiVersion": crate::API_VERSION, "kind": "AgenticSession",
            "metadata": {"name": "a", "namespace": "p", "resourceVersion": "1"},
            "spec": {
                "prompt": "fix it", "userContext": {"userId": "u"}, "mainRepoIndex": 0, "timeout": 300,
                "repos": [{"input": {"url": "https://x/y", "branch": "main"}, "output": {"url": "https://x/z", "createPullRequest": true}}],
                "llmSettings": {"model": "m", "temperature": 0.7, "maxTokens": 4000},
            },
        }),
        Ok(&["ReposNotImplemented", "UserContextIgnored", "TemperatureDropped"]),
    );
    check(
        &json!({"prompt": "x", "repos": [{"url": "https://x/y", "autoPush": true}]}),
        Ok(&["ReposNotImplemented"]),
    );
    check(
        &json!({"prompt": "x", "mcpServers": {}, "activeWorkflow": {"gitUrl": "g"}, "resourceOverrides": {"cpu": "1"}, "autoPushOnComplete": true}),
        Ok(&[
            "AutoPushNotImplemented",
            "ResourcesNotImplemented",
            "McpNotImplemented",
            "WorkflowNotImplemented",
        ]),
    );
}

#[test]
fn what_is_wrong_is_named() {
    check(&json!({}), Err("spec.prompt: is required"));
    check(&json!({"promt": "x"}), Err("promt: unknown field; did you mean \"prompt\"?"));
    check(
        &json!({"spec": {"prompt": "x", "llmSettings": {"modle": "m"}}}),
        Err("spec.llmSettings.modle: unknown field; did you mean \"model\"?"),
    );
    check(
        &json!({"prompt": "x", "repos": [{"ulr": "m"}]}),
        Err("repos[0].ulr: unknown field; did you mean \"url\"?"),
    );
    check(&json!({"prompt": "a", "initialPrompt": "b"}), Err("spec.initialPrompt"));
    check(&json!({"prompt": "a", "timeout": 14401}), Err("spec.timeout"));
    check(&json!({"spec": {"prompt": "a", "timeout": -1}}), Err("spec.timeout: must not be negative"));
    check(
        &json!({"prompt": "a", "permissionMode": "yolo"}),
        Err("permissionMode: must be one of default, acceptEdits, plan, bypass, not \"yolo\""),
    );
    check(&json!({"prompt": "a", "timeout": 0}), Err("spec.timeout"));
    check(&json!({"prompt": "a", "persona": "staff"}), Err("spec.persona"));
    check(&json!({"prompt": "a", "analyse": true}), Err("an analysis needs a persona"));
    check(&json!({"prompt": "a", "permissionMode": "bypass"}), Err("allowBypass"));
    check(&json!({"prompt": "a", "processNetwork": "loopback"}), Err("spec.processNetwork"));
    check(&json!({"prompt": "a", "budget": -1}), Err("spec.budget"));
    check(&json!({"prompt": "a", "workspace": {"dir": {"path": "rel"}}}), Err("absolute"));
    check(
        &json!({"prompt": "a", "workspace": {"archive": {"blob": "x"}}}),
        Err("spec.workspace.archive.blob"),
    );
    check(&json!({"prompt": "a", "environmentVariables": {"A B": "x"}}), Err("environmentVariables.A B"));
    check(&json!({"prompt": "a", "plugins": ["nodots"]}), Err("spec.plugins[0]"));
    check(&json!({"prompt": "a", "operatingMode": "Paused"}), Err("one of Running, Suspended, Stopped"));
    check(&json!({"prompt": "a", "llmSettings": {"model": " "}}), Err("spec.llmSettings.model: is empty"));
    check(&json!({"prompt": "a", "repos": [{"branch": "b"}]}), Err("spec.repos[0]: write url"));
    check(&json!({"prompt": "a", "mainRepoIndex": 1, "repos": [{"url": "u"}]}), Err("spec.mainRepoIndex"));
    check(
        &json!({"prompt": "a", "resources": {"cpu": 1}, "resourceOverrides": {"cpu": 2}}),
        Err("spec.resources.cpu: stands in resourceOverrides too"),
    );
    check(&json!({"prompt": "a", "resources": {"memory": "4GB"}}), Err("such as 2, 500m or 4Gi"));
    check(
        &json!({"prompt": "a", "resources": {"gpu": {"cuont": 1}}}),
        Err("resources.gpu.cuont: unknown field; did you mean \"count\"?"),
    );
    check(&json!({"kind": "RFEWorkflow", "spec": {"prompt": "a"}}), Err("kind"));
    check(&json!({"kind": "AgenticSession"}), Err("spec: is required"));
    check(&json!(["prompt"]), Err("must be an object"));
    check(&json!({"prompt": "a", "llmSettings": ["m"]}), Err("llmSettings: must be an object"));
}

#[test]
fn everything_that_is_written_otherwise_is_named_at_once() {
    let check = |value: &Value, expected: &[&str]| {
        let Invalid(problems) = read(value).unwrap_err();
        let told: Vec<_> = problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
        assert_eq!(told, expected, "{value}");
    };
    check(
        &json!({
            "prompt": 5, "timeout": "long", "interactive": "yes", "budget": [], "maxTurns": 1.5, "promt": "x",
            "llmSettings": {"maxTokens": 5_000_000_000u64, "temperature": "warm"}, "plugins": "acme.x",
            "permissionMode": 1, "environmentVariables": {"A": 1}, "workspace": {"dir": {}},
            "repos": [{"url": "u"}, {"url": false}], "resources": {"cpu": true}, "analyse": null,
        }),
        &[
            "prompt: must be a string, not a number",
            "timeout: must be a whole number, not a string",
            "interactive: must be true or false, not a string",
            "budget: must be a number, not a list",
            "maxTurns: must be a whole number, not 1.5",
            "promt: unknown field; did you mean \"prompt\"?",
            "llmSettings.maxTokens: must be at most 4294967295",
            "llmSettings.temperature: must be a number, not a string",
            "plugins: must be a list, not a string",
            "permissionMode: must be a string, not a number",
            "environmentVariables.A: must be a string, not a number",
            "workspace.dir.path: is required",
            "repos[1].url: must be a string, not false",
            "resources.cpu: must be a whole number or a string, not true",
            "analyse: must be true or false, not null",
        ],
    );
    check(&json!({"spec": {"prompt": {}}}), &["spec.prompt: must be a string, not an object"]);
    // What nobody looks into may be anything.
    assert!(read(&json!({"prompt": "x", "userContext": "me", "status": 5, "spec": null})).is_err());
    assert!(read(&json!({"spec": {"prompt": "x", "userContext": "me"}, "status": 5})).is_ok());
}

#[test]
fn what_is_wanted_from_the_start() {
    let desired =
        |mode: Value| accept(&json!({"prompt": "a", "operatingMode": mode}), &policy()).unwrap().desired;
    assert_eq!(desired(Value::Null), Desired::Run);
    assert_eq!(desired("Running".into()), Desired::Run);
    assert_eq!(desired("Suspended".into()), Desired::Suspend);
    assert_eq!(desired("Stopped".into()), Desired::Stop);
}

#[test]
fn the_project_fills_in_and_bounds() {
    let policy = ProjectPolicy {
        allow_bypass: true,
        process_network: ProcessNetwork::Loopback,
        max_budget: Some(MicroUsd(2_000_000)),
        default_model: Some("m".to_owned()),
        inactivity: Some(Duration::from_secs(9)),
        retention: Some(Duration::from_secs(8)),
        ..policy()
    };
    let got = accept(&json!({"prompt": "a", "permissionMode": "bypass"}), &policy).unwrap();
    assert_eq!((got.budget, got.model.as_deref()), (Some(MicroUsd(2_000_000)), Some("m")));
    assert_eq!(
        (got.process_network, got.inactivity),
        (ProcessNetwork::Loopback, Some(Duration::from_secs(9)))
    );
    let kept = |spec: Value| accept(&spec, &policy).unwrap().retention;
    assert_eq!(kept(json!({"prompt": "a"})), Some(Duration::from_secs(8)));
    assert_eq!(kept(json!({"prompt": "a", "ttlSecondsAfterFinished": 0})), Some(Duration::ZERO));
    assert!(
        accept(&json!({"prompt": "a", "budget": 3}), &policy)
            .unwrap_err()
            .to_string()
            .contains("at most $2.00")
    );
}

#[test]
fn the_project_bounds_where_a_session_runs() {
    let nodes = crate::project::PermittedNodes { labels: Some(vec!["pool=a".into()]), taints: Some(vec![]) };
    let policy = ProjectPolicy { nodes, ..policy() };
    let placed = |resources: Value| accept(&json!({"prompt": "a", "resources": resources}), &policy);
    assert!(placed(json!({"nodeSelector": {"pool": "a"}})).is_ok());
    let refused = placed(json!({"nodeSelector": {"pool": "b"}, "tolerations": [{"key": "t"}]}))
        .unwrap_err()
        .to_string();
    for part in
        ["nodeSelector.pool: this project permits pool=a", "tolerations[0]: this project permits none"]
    {
        assert!(refused.contains(part), "{refused}");
    }
    check(
        &json!({"prompt": "a", "resources": {"runner": {"memory": "64Mi"}}}),
        Err("resources.runner.memory: must be 128Mi"),
    );
}
