use super::*;
use serde_json::json;

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn user(run: &str, message: &str, text: &str) -> UserMessage {
    UserMessage { run: id(run), message: id(message), content: vec![Block::text(text)], sent_by: "me".into() }
}

fn assistant(run: &str, message: &str, content: Value, stop: StopReason) -> AssistantMessage {
    let content = serde_json::from_value(content).unwrap();
    AssistantMessage { run: id(run), message: id(message), model: "m".into(), content, stop_reason: stop }
}

fn finished(message: &str, tool_use: &str, outcome: CallOutcome) -> CallFinished {
    CallFinished {
        run: id("r1"),
        call: id("c"),
        message: id(message),
        tool_use_id: tool_use.into(),
        tool: "Read".into(),
        outcome,
        content: vec![Block::text(format!("result of {tool_use}"))],
        observations: vec![],
        duration_ms: 1,
    }
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn tool(id: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": "Read", "input": {}})
}

/// One line a message: role, then each block in short.
fn shown(conversation: &Conversation, run: &str) -> Vec<String> {
    let block = |block: &Block| match block {
        Block::Text { text } => text.raw().to_owned(),
        Block::ToolUse { id, .. } => format!("use {id}"),
        Block::ToolResult { tool_use_id, is_error, .. } => {
            format!("{}{tool_use_id}", if *is_error { "error " } else { "ok " })
        }
        Block::Thinking { .. } => "thinking".to_owned(),
        _ => "?".to_owned(),
    };
    let line = |m: &Message| {
        format!("{:?}: {}", m.role, m.content.iter().map(block).collect::<Vec<_>>().join(" | "))
    };
    conversation.messages(&id(run), "").iter().map(line).collect()
}

#[test]
fn uses_and_results_are_always_paired() {
    let mut c = Conversation::default();
    c.user(&user("r1", "u1", "go"));
    assert_eq!(c.need(&id("r1")), Need::Model);
    c.assistant(&assistant("r1", "a1", json!([text("ok"), tool("t1"), tool("t2")]), StopReason::ToolUse));
    let Need::Calls(open) = c.need(&id("r1")) else { panic!() };
    assert_eq!(open.iter().map(|o| o.id.as_str()).collect::<Vec<_>>(), ["t1", "t2"]);
    c.finished(&finished("a1", "t2", CallOutcome::Lost));
    assert_eq!(shown(&c, "r1"), ["User: go", "Assistant: ok | use t1 | use t2", "User: error t1 | error t2"]);
    c.finished(&finished("a1", "t1", CallOutcome::Done));
    assert_eq!(c.need(&id("r1")), Need::Model);
    c.user(&user("r2", "u2", "more"));
    assert_eq!(
        shown(&c, "r2"),
        ["User: go", "Assistant: ok | use t1 | use t2", "User: ok t1 | error t2 | more"]
    );
}

#[test]
fn a_later_run_waits_for_its_turn() {
    let mut c = Conversation::default();
    c.user(&user("r1", "u1", "first"));
    c.user(&user("r2", "u2", "second"));
    c.assistant(&assistant("r1", "a1", json!([text("one")]), StopReason::EndTurn));
    assert_eq!(c.need(&id("r1")), Need::End { refused: false });
    assert_eq!(c.need(&id("r2")), Need::Model);
    assert_eq!(shown(&c, "r2"), ["User: first", "Assistant: one", "User: second"]);
    assert_eq!(shown(&c, "r1"), ["User: first", "Assistant: one", "User: Continue from where you stopped."]);
    assert_eq!((c.task(&id("r1")), c.task(&id("r2"))), ("first".into(), "second".into()));
}

#[test]
fn what_a_request_may_not_carry_is_left_out() {
    let mut c = Conversation::default();
    c.user(&user("r1", "u1", "go"));
    let thinking = |signature: &str| json!({"type": "thinking", "thinking": "t", "signature": signature});
    let odd = json!([thinking(""), thinking("s"), text(" "), {"type": "of_tomorrow"}, text("part")]);
    c.assistant(&assistant("r1", "a1", odd, StopReason::MaxTokens));
    assert_eq!(c.need(&id("r1")), Need::Model);
    c.assistant(&assistant("r1", "a2", json!([text("rest")]), StopReason::EndTurn));
    c.assistant(&assistant("r1", "a3", json!([]), StopReason::EndTurn));
    c.user(&user("r2", "u2", "thanks"));
    let expected = [
        "User: go",
        "Assistant: thinking | part",
        "User: Continue from where you stopped.",
        "Assistant: rest",
        "User: thanks",
    ];
    assert_eq!(shown(&c, "r2"), expected);
}

#[test]
fn stop_reasons_decide() {
    let check = |stop: StopReason, content: Value, expected: Need| {
        let mut c = Conversation::default();
        c.user(&user("r1", "u1", "go"));
        c.assistant(&assistant("r1", "a1", content, stop.clone()));
        assert_eq!(c.need(&id("r1")), expected, "{stop:?}");
    };
    check(StopReason::EndTurn, json!([text("a")]), Need::End { refused: false });
    check(StopReason::StopSequence, json!([text("a")]), Need::End { refused: false });
    check(StopReason::Other("new".into()), json!([text("a")]), Need::End { refused: false });
    check(StopReason::Refusal, json!([]), Need::End { refused: true });
    check(StopReason::MaxTokens, json!([text("a")]), Need::Model);
    check(StopReason::PauseTurn, json!([text("a")]), Need::Model);
    check(StopReason::ModelContextWindowExceeded, json!([text("a")]), Need::Compaction);
}

#[test]
fn a_summary_replaces_and_keeps_the_request() {
    let mut c = Conversation::default();
    c.user(&user("r1", "u1", "first"));
    c.assistant(&assistant("r1", "a1", json!([text("one"), tool("t1")]), StopReason::ToolUse));
    c.finished(&finished("a1", "t1", CallOutcome::Done));
    let upto = c.last_message(&id("r1")).unwrap();
    c.compacted(&ContextCompacted { run: id("r1"), upto, summary: "SUM".into() });
    assert_eq!(c.need(&id("r1")), Need::Model);
    assert_eq!(
        shown(&c, "r1"),
        ["User: [The conversation so far was summarised to save space.]\n\nSUM | first"]
    );
    c.assistant(&assistant("r1", "a2", json!([text("two")]), StopReason::EndTurn));
    assert_eq!(c.need(&id("r1")), Need::End { refused: false });
}

#[test]
fn marks_are_four_at_most() {
    let mut c = Conversation::default();
    c.user(&user("r1", "u1", "go"));
    assert_eq!(
        cache_marks(&c.messages(&id("r1"), "")),
        [CacheMark::Tools, CacheMark::System, CacheMark::Message(0)]
    );
    c.assistant(&assistant("r1", "a1", json!([tool("t1")]), StopReason::ToolUse));
    let marks = cache_marks(&c.messages(&id("r1"), ""));
    assert_eq!(marks, [CacheMark::Tools, CacheMark::System, CacheMark::Message(0), CacheMark::Message(2)]);
}
