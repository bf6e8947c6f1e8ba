use crate::Session;
use serde_json::{Value, json};
use vteam_sdk::{Content, Outcome, native};

fn text(tool: &str, input: &Value, context: &[(&str, Value)]) -> String {
    match native::call::<Session>(tool, input, &native::context(context)).unwrap() {
        Outcome::Done(done) => match done.content.as_slice() {
            [Content::Text(text)] => text.clone(),
            other => format!("{other:?}"),
        },
        Outcome::NeedsInput(ask) => format!("asks {}", ask.request),
        Outcome::Other(other) => format!("{other:?}"),
    }
}

#[test]
fn a_list_is_kept_and_shown() {
    let todo = |content: &str, status: &str| json!({"content": content, "status": status, "activeForm": format!("{content}ing")});
    let check = |todos: Vec<Value>, expected: &str| {
        assert_eq!(text("TodoWrite", &json!({"todos": todos}), &[]), expected)
    };
    check(
        vec![todo("Read", "completed"), todo("Fix", "in_progress"), todo("Test", "pending")],
        "The list is kept (1 of 3 completed).\n[x] Read\n[>] Fixing\n[ ] Test",
    );
    check(
        vec![todo("A", "in_progress"), todo("B", "in_progress")],
        "The list is kept (0 of 2 completed).\n[>] Aing\n[>] Bing\n2 entries are in progress: work on one at a time.",
    );
    check(vec![], "The list is kept (0 of 0 completed).");
}

#[test]
fn a_question_is_asked_and_then_answered() {
    let option = |label: &str| json!({"label": label, "description": "…"});
    let question = |q: &str| json!({"question": q, "header": "H", "options": [option("a"), option("b")], "multiSelect": true});
    let input = json!({"questions": [question("Which?"), question("Why?")]});
    assert_eq!(text("AskUserQuestion", &input, &[]), format!("asks {input}"));
    let check = |answer: Value, expected: &str| {
        assert_eq!(text("AskUserQuestion", &input, &[("answer", answer)]), expected);
    };
    check(
        json!({"answers": {"Which?": ["a", "b"], "Why?": "because"}}),
        "The person answered:\n- Which? a, b\n- Why? because",
    );
    check(json!({"Which?": "a"}), "The person answered:\n- Which? a\n- Why? (no answer)");
    check(json!("do as you like"), "The person answered: do as you like");
}
