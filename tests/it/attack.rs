//! What a hostile model, repository, archive, page or program tries against the whole. Each test is named after the promise
//! that it holds; SECURITY.md says which invariant that belongs to.

mod doors;
mod files;
mod people;
mod programs;
mod web;

use crate::world::World;
use model::event::{CallFinished, Event, Stored};
use serde_json::{Value, json};

/// A model that uses these tools one after the other, each in a turn of its own, and is then done.
fn script(calls: &[(&str, Value)]) -> String {
    let uses = calls.iter().enumerate().map(|(turn, (name, input))| {
        json!({ "when": { "turn": turn }, "reply": [{ "tool_use": { "name": name, "input": input } }] })
    });
    let done = json!({ "when": { "turn": calls.len() }, "reply": [{ "text": "done" }] });
    let rules: Vec<Value> = uses.chain([done]).collect();
    json!({ "name": "hostile", "rules": rules }).to_string()
}

fn bash(command: impl Into<String>) -> (&'static str, Value) {
    ("Bash", json!({ "command": command.into(), "timeout": 20_000 }))
}

async fn allow_bypass(world: &World) -> anyhow::Result<()> {
    let settings = json!({ "spec": { "permissions": { "allowBypass": true } } });
    world.put("/api/projects/default/settings", &settings).await.map(|_| ())
}

fn finished(log: &[Stored]) -> Vec<&CallFinished> {
    log.iter()
        .filter_map(|s| match &s.event {
            Event::CallFinished(call) => Some(call),
            _ => None,
        })
        .collect()
}

/// What the model was shown of each call.
fn shown(log: &[Stored]) -> Vec<String> {
    finished(log).iter().map(|call| serde_json::to_string(&call.content).expect("JSON")).collect()
}
