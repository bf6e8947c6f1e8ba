//! What `kubectl get` shows.

use crate::server::{Namespace, cluster};
use model::lifecycle::Phase;
use serde_json::{Value, json};

#[test]
fn a_session_reads_well_in_every_phase() {
    let cluster = cluster();
    let namespace = cluster.namespace("shown");
    let session = json!({
        "apiVersion": "vteam.ambient-code/v1alpha1", "kind": "AgenticSession", "metadata": {"name": "tests-for-the-parser"},
        "spec": {"prompt": "Add the missing tests.", "persona": "STAFF_ENGINEER"},
    });
    assert!(namespace.apply(&session).good);
    let mut seen = rows(&namespace, &["get", "as"]);
    for phase in Phase::ALL {
        write(
            &namespace,
            "operator",
            &json!({"phase": phase, "reason": reason(phase), "persona": "STAFF_ENGINEER", "observedGeneration": 1}),
        );
        // What a server knows once a runner was connected.
        if phase == Phase::Running {
            let work = json!({"model": "claude-sonnet-5-5", "num_turns": 12, "total_cost_usd": 0.4371});
            write(&namespace, "server", &work);
        }
        seen.push(rows(&namespace, &["get", "as", "--no-headers"]).remove(0));
        let width = namespace.kubectl(&["get", "as", "--no-headers"]).out.trim_end().len();
        assert!(width <= 100, "{phase}: {width} characters");
    }
    insta::assert_snapshot!(seen.join("\n"));

    let message = json!({"persona": "STAFF_ENGINEER", "podName": "vteam-s-1", "message": "Bash wants to run: cargo test", "phase": "Waiting", "reason": "ApprovalPending"});
    write(&namespace, "operator", &message);
    insta::assert_snapshot!(rows(&namespace, &["get", "as", "-o", "wide"]).join("\n"));
}

#[test]
fn writers_of_a_status_do_not_meet() {
    let cluster = cluster();
    let namespace = cluster.namespace("writers");
    let session = json!({
        "apiVersion": "vteam.ambient-code/v1alpha1", "kind": "AgenticSession", "metadata": {"name": "tests-for-the-parser"},
        "spec": {"prompt": "a"},
    });
    assert!(namespace.apply(&session).good);
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "Done", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    write(&namespace, "operator", &json!({"phase": "Running", "conditions": [condition("PodScheduled")]}));
    write(&namespace, "server", &json!({"num_turns": 1, "conditions": [condition("Ready")]}));
    // Each takes back its own only.
    write(&namespace, "operator", &json!({"phase": "Waiting"}));
    let path = "jsonpath={.status.phase} {.status.num_turns} {.status.conditions[*].type}";
    assert_eq!(namespace.kubectl(&["get", "as", "tests-for-the-parser", "-o", path]).out, "Waiting 1 Ready");
    let wrong = apply_status(&namespace, "operator", &json!({"phase": "Error"}));
    assert!(wrong.err.contains("status.phase: Unsupported value"), "{wrong:?}");
}

#[test]
fn settings_and_workflows_read_well() {
    let cluster = cluster();
    let namespace = cluster.namespace("others");
    for file in ["project-settings", "rfe-workflow"] {
        let file = crate::server::repository(&format!("examples/kubernetes/{file}.yaml"));
        assert!(namespace.kubectl(&["apply", "-f", &file]).good);
    }
    let condition = resources::rfe_workflow::not_implemented("2026-01-01T00:00:00Z".to_owned(), Some(1));
    let status = json!({"status": {"conditions": [condition]}}).to_string();
    let patch = [
        "patch",
        "rfe",
        "rfe-incremental-parsing",
        "--subresource=status",
        "--type=merge",
        "--patch",
        &status,
    ];
    assert!(namespace.kubectl(&patch).good);
    let mut seen = rows(&namespace, &["get", "ps"]);
    seen.extend(rows(&namespace, &["get", "rfe"]));
    insta::assert_snapshot!(seen.join("\n"));
}

fn reason(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Accepted",
        Phase::Creating => "RunnerStarting",
        Phase::Running => "Working",
        Phase::Waiting => "ApprovalPending",
        Phase::Suspending | Phase::Suspended | Phase::Stopping | Phase::Stopped => "StoppedByUser",
        Phase::Completed => "Finished",
        Phase::Failed => "RunnerCrashLoop",
    }
}

/// Writes a part of the status as one of its writers does.
fn write(namespace: &Namespace, manager: &str, status: &Value) {
    let answer = apply_status(namespace, manager, status);
    assert!(answer.good && answer.err.is_empty(), "{status}: {answer:?}");
}

fn apply_status(namespace: &Namespace, manager: &str, status: &Value) -> crate::server::Answer {
    let object = json!({
        "apiVersion": "vteam.ambient-code/v1alpha1", "kind": "AgenticSession",
        "metadata": {"name": "tests-for-the-parser"}, "status": status,
    });
    namespace.apply_with(&["--server-side", "--subresource=status", "--field-manager", manager], &object)
}

/// The cells that are not empty. The age is left out, and so is the space between columns, which it moves.
fn rows(namespace: &Namespace, args: &[&str]) -> Vec<String> {
    let answer = namespace.kubectl(args);
    assert!(answer.good, "{answer:?}");
    answer.out.lines().map(cells).collect()
}

fn cells(line: &str) -> String {
    let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty() && !is_age(cell));
    cells.collect::<Vec<_>>().join(" | ")
}

fn is_age(cell: &str) -> bool {
    let unit = |c: char| matches!(c, 's' | 'm' | 'h');
    cell.starts_with(|c: char| c.is_ascii_digit())
        && cell.ends_with(unit)
        && cell.chars().all(|c| c.is_ascii_digit() || unit(c))
}
