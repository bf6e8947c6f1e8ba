use super::*;
use serde_json::{Value, json};

fn shown(items: &[Value]) -> String {
    let mut out = Vec::new();
    let mut view = View::new(&mut out, Style::PLAIN);
    for (seq, item) in items.iter().enumerate() {
        if item.get("live").is_some() {
            view.live(&serde_json::from_value(item["live"].clone()).unwrap()).unwrap();
            continue;
        }
        let mut item = item.clone();
        item["seq"] = json!(seq + 1);
        item["at"] = json!(1000 * (seq + 1));
        let stored: Stored = serde_json::from_value(item).unwrap();
        assert!(!matches!(stored.event, Event::Unknown(_)), "{stored:?}");
        view.stored(&stored).unwrap();
    }
    view.close().unwrap();
    String::from_utf8(out).unwrap()
}

fn text_delta(text: &str) -> Value {
    json!({"live": {"kind": "messageDelta", "data": {"run": "r", "message": "m1", "index": 0, "delta": {"type": "text", "text": text}}}})
}

fn text_begins() -> Value {
    json!({"live": {"kind": "blockStarted", "data": {"run": "r", "message": "m1", "index": 0, "block": {"type": "text", "text": ""}}}})
}

fn message(text: &str) -> Value {
    json!({"kind": "assistant.message", "data": {"run": "r", "message": "m1", "model": "m", 
        "stopReason": "end_turn", "content": [{"type": "text", "text": text}]}})
}

fn intended(call: &str, tool: &str, input: Value) -> Value {
    json!({"kind": "call.intended", "data": {"run": "r", "call": call, "message": "m1", "toolUseId": "t", "tool": tool,
        "plugin": "vteam.x", "pluginDigest": format!("sha256:{}", "0".repeat(64)), "input": input, "effects": []}})
}

fn finished(call: &str, tool: &str, outcome: Value, text: &str) -> Value {
    json!({"kind": "call.finished", "data": {"run": "r", "call": call, "message": "m1", "toolUseId": "t", "tool": tool,
        "outcome": outcome, "content": [{"type": "text", "text": text}], "durationMs": 7}})
}

#[test]
fn what_was_streamed_is_not_shown_twice() {
    let once = "  Hello there, friend.\n";
    let whole = message("Hello there, friend.");
    let check =
        |live: &[Value]| assert_eq!(shown(&[live, std::slice::from_ref(&whole)].concat()), once, "{live:?}");
    let (begins, some) = (text_begins(), text_delta("Hello th"));
    check(&[begins.clone(), some.clone(), text_delta("ere, friend.")]);
    check(&[]);
    check(&[begins.clone(), some.clone()]);
    // Told again to a reader that was cut off, and a piece whose beginning was missed.
    check(&[begins.clone(), some.clone(), begins, text_delta("Hello there, f"), text_delta("riend.")]);
    check(&[text_delta("ere, friend.")]);
}

#[test]
fn a_call_takes_one_line_when_nothing_comes_between() {
    let done = json!({"type": "done"});
    let read = |call| intended(call, "Read", json!({"file_path": "/workspace/a.sh"}));
    assert_eq!(shown(&[read("c1"), finished("c1", "Read", done.clone(), "x")]), "  ▸ Read a.sh  ✓ 7 ms\n");
    assert_eq!(
        shown(&[
            read("c1"),
            read("c2"),
            finished("c1", "Read", done.clone(), "x"),
            finished("c2", "Read", done, "x")
        ]),
        "  ▸ Read a.sh\n  ▸ Read a.sh\n  └ Read a.sh  ✓ 7 ms\n  └ Read a.sh  ✓ 7 ms\n"
    );
}

#[test]
fn output_is_shown_once_live_or_at_the_end() {
    let call = intended("c1", "Bash", json!({"command": "ls"}));
    let end = finished("c1", "Bash", json!({"type": "done"}), "one\ntwo\n");
    let live = |text: &str| json!({"live": {"kind": "callOutput", "data": {"run": "r", "call": "c1", "stream": "stdout", "text": text}}});
    assert_eq!(shown(&[call.clone(), end.clone()]), "  ▸ Bash ls  ✓ 7 ms\n    │ one\n    │ two\n");
    assert_eq!(
        shown(&[call, live("on"), live("e\ntw"), live("o"), end]),
        "  ▸ Bash ls\n    │ one\n    │ two\n  └ ✓ 7 ms\n"
    );
}

#[test]
fn failures_say_who_has_to_act() {
    let failed = json!({"type": "failed", "blame": "setup"});
    let text = shown(&[
        intended("c1", "Bash", json!({"command": "ls"})),
        finished("c1", "Bash", failed, "not confined: files"),
    ]);
    assert_eq!(text, "  ▸ Bash ls  ✗ 7 ms  (this setup does not allow it)\n    │ not confined: files\n");
}

#[test]
fn a_run_ends_with_its_cost() {
    let text = shown(&[
        json!({"kind": "run.started", "data": {"run": "r"}}),
        json!({"kind": "run.finished", "data": {"run": "r", "outcome": "failed", "reason": "BudgetSpent",
            "message": "the budget\u{1b}[2J is spent", "cost": 12300, "turns": 2,
            "usage": {"inputTokens": 1500, "outputTokens": 20}}}),
    ]);
    assert_eq!(
        text,
        "\n✗ failed 1.0 s · 2 turns · 0 calls · 1.5k tokens in, 20 out · $0.0123\n  BudgetSpent: the budget\\u{1b}[2J is spent\n"
    );
}

#[test]
fn what_follows_a_prompt_begins_below_it() {
    let mut out = Vec::new();
    let mut view = View::new(&mut out, Style::PLAIN);
    view.note("one").unwrap();
    view.prompt().unwrap();
    assert!(view.is_prompted());
    view.note("two").unwrap();
    assert!(!view.is_prompted());
    view.prompt().unwrap();
    view.answered();
    view.note("three").unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "one\n\ntwo\nthree\n");
}

#[test]
fn a_flood_is_cut_and_its_end_is_shown() {
    let live = json!({"live": {"kind": "callOutput", "data": {"run": "r", "call": "c1", "stream": "stdout", "text": "y\n".repeat(1000)}}});
    let text = shown(&[
        intended("c1", "Bash", json!({"command": "yes"})),
        live,
        finished("c1", "Bash", json!({"type": "done"}), "the end\n"),
    ]);
    assert_eq!(text.matches("│ y").count(), 400);
    assert!(
        text.ends_with("    │ … 600 lines more; the result ends so:\n    │ the end\n  └ ✓ 7 ms\n"),
        "{}",
        &text[text.len() - 200..]
    );
}

#[test]
fn a_failure_is_told_once_and_a_stop_briefly() {
    let ended = |outcome: &str, reason: &str, message: &str| {
        json!({"kind": "run.finished", "data": {"run": "r", "outcome": outcome, "reason": reason,
            "message": message, "cost": 0, "turns": 1, "usage": {"inputTokens": 0, "outputTokens": 0}}})
    };
    let phase = |phase: &str, reason: &str, message: &str| json!({"kind": "session.phase", "data": {"phase": phase, "reason": reason, "message": message}});
    let check = |events: &[Value], expected: &str| assert_eq!(shown(events), expected);
    let head = |word: &str| format!("\n{word} 1 turn · 0 calls · 0 tokens in, 0 out · $0.0000\n");
    check(
        &[ended("failed", "BudgetSpent", "spent"), phase("Failed", "BudgetSpent", "spent")],
        &(head("✗ failed") + "  BudgetSpent: spent\n"),
    );
    check(&[phase("Failed", "BudgetSpent", "spent")], "failed: BudgetSpent: spent\n");
    check(
        &[ended("interrupted", "StoppedByUser", ""), phase("Stopped", "StoppedByUser", "")],
        &(head("■ interrupted") + "  StoppedByUser\nStopped: StoppedByUser\n"),
    );
}
