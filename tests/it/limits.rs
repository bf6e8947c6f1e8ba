//! Plugins that misbehave: the call is stopped, the model is told by whose fault, and everything else goes on.

use crate::{
    guests::{built, with},
    world::{World, phase, session},
};
use model::{
    event::{Blame, CallFinished, CallOutcome, Event, Stored},
    lifecycle::Phase,
};
use reqwest::Method;
use serde_json::{Value, json};

const MISBEHAVE: &str = r#"
name: misbehave
rules:
  - when: { turn: 0, user_contains: misbehave }
    reply:
      - tool_use: { name: Spin, input: {} }
      - tool_use: { name: Sleep, input: {} }
      - tool_use: { name: Alloc, input: {} }
      - tool_use: { name: Recurse, input: {} }
      - tool_use: { name: Trap, input: {} }
      - tool_use: { name: Exit, input: {} }
      - tool_use: { name: FloodOutput, input: {} }
      - tool_use: { name: FloodLog, input: {} }
      - tool_use: { name: Echo, input: { after: all that } }
  - when: { turn: 0, user_contains: wait }
    reply: [{ tool_use: { name: SleepLong, input: {} } }]
  - when: { turn: 0, user_contains: work }
    reply: [{ tool_use: { name: Echo, input: { still: here } } }]
  - when: { turn: 1 }
    reply: [{ text: "done" }]
"#;

/// The guest under the name of a tool, with lower limits than the host's where it takes long to reach those.
async fn add(world: &World, guest: &str, tool: &str, limits: Value) -> anyhow::Result<()> {
    let plugin = with(&built(guest), |manifest| {
        manifest["id"] = format!("test.{}", tool.to_lowercase()).into();
        manifest["tools"][0]["name"] = tool.into();
        manifest["limits"] = limits;
    });
    let added = world.request(Method::POST, "/api/projects/default/plugins").body(plugin).send().await?;
    assert_eq!(added.status(), 201, "{guest}: {}", added.text().await?);
    Ok(())
}

async fn world() -> anyhow::Result<World> {
    let world = World::up(MISBEHAVE).await;
    add(&world, "spin", "Spin", json!({ "cpuMs": 500 })).await?;
    add(&world, "sleep", "Sleep", json!({ "wallMs": 500 })).await?;
    add(&world, "sleep", "SleepLong", Value::Null).await?;
    for (guest, tool) in [
        ("alloc", "Alloc"),
        ("recurse", "Recurse"),
        ("trap", "Trap"),
        ("exit", "Exit"),
        ("flood_output", "FloodOutput"),
        ("flood_log", "FloodLog"),
        ("echo", "Echo"),
    ] {
        add(&world, guest, tool, Value::Null).await?;
    }
    Ok(world)
}

fn of<'a>(log: &'a [Stored], tool: &str) -> Option<&'a CallFinished> {
    log.iter().find_map(|s| match &s.event {
        Event::CallFinished(call) if call.tool.raw() == tool => Some(call),
        _ => None,
    })
}

fn said(call: &CallFinished) -> String {
    serde_json::to_string(&call.content).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_misbehaves_is_stopped_and_named_and_nothing_else_is() -> anyhow::Result<()> {
    let world = world().await?;
    // One session waits in a plugin that sleeps for an hour, until the end of this test.
    world.create("waits", json!({ "prompt": "wait" })).await?;
    let begun = |log: &[Stored]| log.iter().any(|s| matches!(s.event, Event::CallIntended(_)));
    world.until("waits", "a call under way", begun).await;

    world.create("bad", json!({ "prompt": "misbehave" })).await?;
    world.until("bad", "a call under way", begun).await;
    world.create("good", json!({ "prompt": "work" })).await?;
    let log = world.settled("good").await;
    assert_eq!(phase(&log), Some(Phase::Completed));
    assert!(of(&log, "Echo").is_some_and(|call| call.outcome == CallOutcome::Done));

    let log = world.settled("bad").await;
    assert_eq!(phase(&log), Some(Phase::Completed), "the session survives all of it");
    let stopped = [
        ("Spin", "0.5 s of processor time"),
        ("Sleep", "stopped after 0.5 s"),
        ("Alloc", "more memory than the 64 MiB"),
        ("Recurse", "out of stack"),
        ("Trap", "crashed (a panic)"),
        ("Exit", "exited instead of answering"),
        ("FloodOutput", "1048576 are allowed"),
    ];
    for (tool, part) in stopped {
        let call = of(&log, tool).expect(tool);
        assert_eq!(call.outcome, CallOutcome::Failed { blame: Blame::Plugin }, "{tool}: {}", said(call));
        assert!(said(call).contains(part), "{tool}: {}", said(call));
    }
    for (tool, part) in [("FloodLog", "still here"), ("Echo", "after")] {
        let call = of(&log, tool).expect(tool);
        assert_eq!(
            (&call.outcome, said(call).contains(part)),
            (&CallOutcome::Done, true),
            "{tool}: {}",
            said(call)
        );
    }
    let bytes = serde_json::to_vec(&log)?.len();
    assert!(bytes < 100_000, "what a plugin prints is not what is kept: {bytes} bytes of events");

    assert!(of(&world.log("waits").await?, "SleepLong").is_none(), "it did not wait meanwhile");
    world.post(&format!("{}/agui/interrupt", session("waits")), &json!({})).await?;
    let log = world.settled("waits").await;
    assert_eq!(of(&log, "SleepLong").map(|call| &call.outcome), Some(&CallOutcome::Interrupted));
    Ok(())
}
