//! A persona's analysis: submitted, judged, revised.

use crate::{
    process::Running,
    server::{calls, says},
};
use protocol::control::{Binding, Purpose};
use serde_json::{Value, json};

fn analyse(binding: &mut Binding) {
    binding.purpose = Purpose::Analyse;
    binding.persona = Some("STAFF_ENGINEER".parse().unwrap());
}

/// Fits the schema; whether it is accepted hangs on what it says.
fn answer(good: bool) -> String {
    let long =
        "The parser in src/parse.rs reads each line twice, which a profile of the import shows. ".repeat(4);
    let criterion = "cargo test passes with the new case for empty lines";
    json!({
        "persona": "STAFF_ENGINEER",
        "analysis": if good { &long } else { "short" },
        "concerns": ["The format is not documented anywhere"],
        "recommendations": ["Read each line once and keep its offset"],
        "requiredComponents": ["src/parse.rs"],
        "estimatedComplexity": "LOW",
        "dependencies": ["none beyond the standard library"],
        "risks": ["Offsets may be off by one for CRLF files; a test covers it"],
        "acceptanceCriteria": [criterion, "the import of the sample takes half the time"],
        "technicalDetails": {
            "approach": "One pass with an index of offsets, because it is the smallest change",
            "alternatives": ["A parser generator: too large for this grammar"],
            "affectedCode": ["src/parse.rs"],
            "performance": "Half the reads; measured with the sample import",
            "testStrategy": "A unit test for empty lines and a benchmark of the import",
            "rollout": "Released with the next version; taken back by reverting one commit"
        }
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_sent_back_until_it_is_accepted() {
    let running = Running::start("should we?", &[], analyse);
    let server = &running.server;
    server.play([
        says("Let me think."),
        calls(&[("submit", &answer(false))]),
        calls(&[("submit", &answer(true))]),
    ]);
    let end = server.end_of("r1").await;
    assert_eq!(end, "Done: ", "{:?}", server.finished());
    let inside = server.inside();
    let judged: Vec<(Value, Value)> = inside
        .told()
        .iter()
        .filter(|line| line.contains("analysis.judged"))
        .map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            (event["data"]["revision"].clone(), event["data"]["accepted"].clone())
        })
        .collect();
    assert_eq!(judged, [(json!(0), json!(false)), (json!(1), json!(true))]);
    let requests = &inside.requests;
    let offered: Vec<&str> = requests[0].request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert!(offered.contains(&"Read") && offered.contains(&"submit"), "{offered:?}");
    assert!(!offered.iter().any(|name| ["Edit", "Write", "Bash", "TodoWrite"].contains(name)), "{offered:?}");
    assert_eq!(
        serde_json::to_value(&requests[1].request.tool_choice).unwrap(),
        json!({"type": "tool", "name": "submit"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_revisions_are_all() {
    let running = Running::start("should we?", &[], analyse);
    running.server.play([
        calls(&[("submit", r#"{"analysis": 1}"#)]),
        calls(&[("submit", &answer(false))]),
        calls(&[("submit", &answer(false))]),
    ]);
    assert_eq!(
        running.server.end_of("r1").await,
        "NotAccepted: the analysis was not accepted after two revisions"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_only_speaks_is_not_asked_for_ever() {
    let running = Running::start("should we?", &[], analyse);
    running.server.play((0..4).map(|n| says(&format!("Thought {n}."))));
    assert_eq!(
        running.server.end_of("r1").await,
        "NotAccepted: the model answered in text again and again, and submitted no analysis"
    );
    assert_eq!(running.server.inside().requests.len(), 3);
}
