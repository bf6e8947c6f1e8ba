use super::*;
use model::id::UnixMillis;

fn stored(seq: u64, event: Value) -> Stored {
    let event = serde_json::from_value(event).unwrap();
    assert!(!matches!(event, Logged::Unknown(_)), "{event:?}");
    Stored { seq: Seq(seq), at: UnixMillis(0), origin: None, event }
}

fn live(value: Value) -> Live {
    let live = serde_json::from_value(value).unwrap();
    assert!(!matches!(live, Live::Unknown(_)), "{live:?}");
    live
}

fn began(seq: u64) -> Step {
    Step::Stored(stored(seq, json!({"kind": "run.started", "data": {"run": "r"}})))
}

fn finished(seq: u64, outcome: &str) -> Step {
    let data = json!({"run": "r", "outcome": outcome, "reason": "Finished", "message": "m"});
    Step::Stored(stored(seq, json!({"kind": "run.finished", "data": data})))
}

fn whole(seq: u64, content: Value) -> Step {
    let data = json!({"run": "r", "message": "m", "model": "x", "content": content, "stop_reason": "end_turn", "stopReason": "end_turn"});
    Step::Stored(stored(seq, json!({"kind": "assistant.message", "data": data})))
}

fn block(index: u32, kind: &str) -> Step {
    let block = match kind {
        "thinking" => json!({"type": "thinking", "thinking": "", "signature": ""}),
        "tool_use" => json!({"type": "tool_use", "id": "t", "name": "Read", "input": {}}),
        _ => json!({"type": "text", "text": ""}),
    };
    Step::Live(live(
        json!({"kind": "blockStarted", "data": {"run": "r", "message": "m", "index": index, "block": block}}),
    ))
}

fn delta(index: u32, kind: &str, text: &str) -> Step {
    let delta = json!({"type": kind, kind: text});
    Step::Live(live(
        json!({"kind": "messageDelta", "data": {"run": "r", "message": "m", "index": index, "delta": delta}}),
    ))
}

#[derive(Clone)]
enum Step {
    Stored(Stored),
    Live(Live),
}

fn feed(projection: &mut Projection, steps: &[Step]) -> Vec<Frame> {
    let one = |step: &Step| match step {
        Step::Stored(stored) => projection.stored(stored),
        Step::Live(live) => projection.live(live),
    };
    steps.iter().flat_map(one).collect()
}

/// Events in short: `START m`, `TEXT m Hel`, `END m`, and so on; checked against AG-UI's order on the way.
fn short(frames: &[Frame]) -> Vec<String> {
    let (mut open, mut running) = (Vec::new(), false);
    let mut lines = Vec::new();
    for Frame { event, .. } in frames {
        let json = serde_json::to_value(event).unwrap();
        let kind = json["type"].as_str().unwrap().to_owned();
        assert!(running || kind == "RUN_STARTED", "{kind} outside of a run");
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let id = if text("messageId").is_empty() { text("toolCallId") } else { text("messageId") };
        let entity = format!("{} {id}", kind.rsplit_once('_').map_or("", |(entity, _)| entity));
        match kind.as_str() {
            "RUN_STARTED" => {
                assert!(!std::mem::replace(&mut running, true), "a run within a run");
            }
            "RUN_FINISHED" => {
                assert!(open.is_empty(), "open at the end: {open:?}");
                running = false;
            }
            "RUN_ERROR" => running = false,
            _ if kind.ends_with("_START") => {
                assert!(!open.contains(&entity), "{entity} twice");
                open.push(entity);
            }
            _ if kind.ends_with("_END") => {
                let at = open.iter().position(|open| *open == entity).expect("it was opened");
                open.remove(at);
            }
            _ if kind.ends_with("_CONTENT") || kind.ends_with("_ARGS") => {
                assert!(open.contains(&entity), "{entity}")
            }
            _ => {}
        }
        let said = [
            text("delta"),
            text("content"),
            text("name"),
            text("code"),
            json["outcome"]["type"].as_str().unwrap_or_default().to_owned(),
        ];
        lines.push(
            [kind, id].into_iter().chain(said).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "),
        );
    }
    lines
}

fn check(name: &str, steps: &[Step], expected: &[&str]) {
    let mut projection = Projection::new("t".to_owned(), View::Watch, vec![]);
    assert_eq!(short(&feed(&mut projection, steps)), expected, "{name}");
}

#[test]
fn text_streams_once() {
    let hello = json!([{"type": "text", "text": "Hello"}]);
    let expected = [
        "RUN_STARTED",
        "TEXT_MESSAGE_START m",
        "TEXT_MESSAGE_CONTENT m Hello",
        "TEXT_MESSAGE_END m",
        "RUN_FINISHED success",
    ];
    check("durable only", &[began(1), whole(2, hello.clone()), finished(3, "completed")], &expected);
    check(
        "live, then durable",
        &[
            began(1),
            block(0, "text"),
            delta(0, "text", "Hel"),
            delta(0, "text", "lo"),
            whole(2, hello.clone()),
            finished(3, "completed"),
        ],
        &[
            "RUN_STARTED",
            "TEXT_MESSAGE_START m",
            "TEXT_MESSAGE_CONTENT m Hel",
            "TEXT_MESSAGE_CONTENT m lo",
            "TEXT_MESSAGE_END m",
            "RUN_FINISHED success",
        ],
    );
    check(
        "live was cut: the durable message completes it",
        &[
            began(1),
            block(0, "text"),
            delta(0, "text", "Hel"),
            whole(2, hello.clone()),
            finished(3, "completed"),
        ],
        &[
            "RUN_STARTED",
            "TEXT_MESSAGE_START m",
            "TEXT_MESSAGE_CONTENT m Hel",
            "TEXT_MESSAGE_CONTENT m lo",
            "TEXT_MESSAGE_END m",
            "RUN_FINISHED success",
        ],
    );
    check(
        "a late joiner waits for the whole",
        &[began(1), delta(0, "text", "lo"), whole(2, hello), finished(3, "completed")],
        &expected,
    );
    check(
        "nothing stays open after a failure",
        &[began(1), block(0, "text"), delta(0, "text", "Hel"), finished(2, "failed")],
        &[
            "RUN_STARTED",
            "TEXT_MESSAGE_START m",
            "TEXT_MESSAGE_CONTENT m Hel",
            "TEXT_MESSAGE_END m",
            "RUN_ERROR Finished",
        ],
    );
    check(
        "an interrupted run",
        &[began(1), finished(2, "interrupted")],
        &["RUN_STARTED", "RUN_FINISHED cancelled"],
    );
    check("nothing outside of a run", &[block(0, "text"), delta(0, "text", "x")], &[]);
}

#[test]
fn thinking_and_tools() {
    let content = json!([{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "I read"}, {"type": "tool_use", "id": "t", "name": "Read", "input": {}}]);
    let digest = model::id::Digest::of(b"x");
    let intended = json!({"run": "r", "call": "c", "message": "m", "toolUseId": "t", "tool": "Read", "plugin": "vteam.files", "pluginDigest": digest, "input": {"a": 1}, "effects": []});
    let done = json!({"run": "r", "call": "c", "message": "m", "toolUseId": "t", "tool": "Read", "outcome": {"type": "done"}, "content": [{"type": "text", "text": "ok"}], "durationMs": 1});
    check(
        "thinking, text and a call",
        &[
            began(1),
            block(0, "thinking"),
            delta(0, "thinking", "hm"),
            block(1, "text"),
            delta(1, "text", "I "),
            whole(2, content),
            Step::Stored(stored(3, json!({"kind": "call.intended", "data": intended}))),
            Step::Stored(stored(4, json!({"kind": "call.finished", "data": done.clone()}))),
            finished(5, "completed"),
        ],
        &[
            "RUN_STARTED",
            "REASONING_START m-thinking-0",
            "REASONING_MESSAGE_START m-thinking-0",
            "REASONING_MESSAGE_CONTENT m-thinking-0 hm",
            "REASONING_MESSAGE_END m-thinking-0",
            "REASONING_END m-thinking-0",
            "TEXT_MESSAGE_START m",
            "TEXT_MESSAGE_CONTENT m I ",
            "TEXT_MESSAGE_CONTENT m read",
            "TEXT_MESSAGE_END m",
            "TOOL_CALL_START c",
            "TOOL_CALL_ARGS c {\"a\":1}",
            "TOOL_CALL_END c",
            "TOOL_CALL_RESULT result-c ok",
            "CUSTOM vteam.call.finished",
            "RUN_FINISHED success",
        ],
    );
    check(
        "a call that never began",
        &[began(1), Step::Stored(stored(2, json!({"kind": "call.finished", "data": done})))],
        &[
            "RUN_STARTED",
            "TOOL_CALL_START c",
            "TOOL_CALL_ARGS c {}",
            "TOOL_CALL_END c",
            "TOOL_CALL_RESULT result-c ok",
            "CUSTOM vteam.call.finished",
        ],
    );
}

/// Wherever the stream is cut, the reader that comes back with the last id gets the rest and nothing twice.
#[test]
fn a_cut_stream_goes_on_where_it_was() {
    let content = json!([{"type": "thinking", "thinking": "hmm", "signature": "s"}, {"type": "text", "text": "Hällo you"}]);
    let steps = [
        began(1),
        block(0, "thinking"),
        delta(0, "thinking", "hm"),
        delta(0, "thinking", "m"),
        block(1, "text"),
        delta(1, "text", "Hä"),
        delta(1, "text", "llo"),
        Step::Stored(stored(2, json!({"kind": "session.warning", "data": {"reason": "R", "message": "m"}}))),
        delta(1, "text", " you"),
        whole(3, content),
        finished(4, "completed"),
    ];
    let text = |frames: &[Frame], kind: &str| -> String {
        let of = |frame: &Frame| serde_json::to_value(&frame.event).unwrap();
        frames
            .iter()
            .map(of)
            .filter(|e| e["type"] == kind)
            .map(|e| e["delta"].as_str().unwrap().to_owned())
            .collect()
    };
    for cut in 1..steps.len() {
        // Live parts since the last stored event come again, or are lost.
        for replayed in [true, false] {
            let mut first = Projection::new("t".to_owned(), View::Watch, vec![]);
            let mut all = feed(&mut first, &steps[..cut]);
            let last = all.iter().filter_map(|frame| frame.cursor.clone()).next_back().unwrap();
            let cursor: Cursor = last.to_string().parse().unwrap();
            assert_eq!(cursor, last);

            let mut second = Projection::new("t".to_owned(), View::Watch, vec![]);
            let known: Vec<Step> = steps
                .iter()
                .filter(|s| matches!(s, Step::Stored(e) if e.seq <= cursor.seq))
                .cloned()
                .collect();
            feed(&mut second, &known);
            let mut again = second.resume(&cursor);
            let rest: Vec<Step> = steps
                .iter()
                .enumerate()
                .filter(|(at, step)| match step {
                    Step::Stored(e) => e.seq > cursor.seq,
                    Step::Live(_) => *at >= cut || (replayed && cursor.within.is_some()),
                })
                .map(|(_, step)| step.clone())
                .collect();
            again.extend(feed(&mut second, &rest));
            short(&again);
            all.extend(again);
            assert_eq!(text(&all, "TEXT_MESSAGE_CONTENT"), "Hällo you", "cut at {cut}, replayed {replayed}");
            assert_eq!(text(&all, "REASONING_MESSAGE_CONTENT"), "hmm", "cut at {cut}, replayed {replayed}");
        }
    }
}

#[test]
fn an_approval_interrupts_a_run_and_not_a_watcher() {
    let digest = model::id::Digest::of(b"x");
    let subject = json!({"type": "process", "argv": ["rm", "a b"], "cwd": "/workspace", "network": "none"});
    let request = json!({"id": "a", "call": "c", "tool": "Bash", "plugin": "vteam.shell", "pluginDigest": digest, "inputDigest": digest, "effect": "process", "subject": subject, "subjectDigest": digest});
    let asked = Step::Stored(stored(2, json!({"kind": "approval.requested", "data": request})));
    let decided = Step::Stored(stored(
        3,
        json!({"kind": "approval.decided", "data": {"id": "a", "decision": "once", "decidedBy": "me"}}),
    ));
    check(
        "watched",
        &[began(1), asked.clone(), decided.clone(), finished(4, "completed")],
        &[
            "RUN_STARTED",
            "CUSTOM vteam.approval.requested",
            "CUSTOM vteam.approval.decided",
            "RUN_FINISHED success",
        ],
    );

    let view = View::Run { run: "r".parse().unwrap(), shown_as: "mine".to_owned() };
    let mut run = Projection::new("t".to_owned(), view.clone(), vec![]);
    let frames = feed(&mut run, &[began(1), asked.clone(), decided.clone()]);
    assert_eq!(short(&frames), ["RUN_STARTED", "CUSTOM vteam.approval.requested", "RUN_FINISHED interrupt"]);
    assert!(run.ended());
    let json = serde_json::to_value(&frames[2].event).unwrap();
    assert_eq!(json["outcome"]["interrupts"][0]["message"], "rm 'a b'\n  in /workspace\n  network: none");
    assert_eq!(json["runId"], "mine");

    // Taken up where it was asked, with the answer on its way to the log.
    let mut resumed = Projection::new("t".to_owned(), view, vec!["a".parse().unwrap()]);
    for step in [began(1), asked] {
        let Step::Stored(stored) = step else { unreachable!() };
        resumed.unseen(&stored);
    }
    let mut frames = resumed.resume(&Cursor { seq: Seq(2), within: None });
    frames.extend(feed(&mut resumed, &[decided, finished(4, "completed")]));
    assert_eq!(short(&frames), ["RUN_STARTED", "CUSTOM vteam.approval.decided", "RUN_FINISHED success"]);
}
