//! A whole session through the shipped binaries: from the posted specification to the model's first answer in the log, and
//! from an approval over REST to the end of the call that waited for it, as a subscriber of the log sees both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    dead_code,
    reason = "a benchmark, which shares the tests' harness"
)]

#[path = "../it/world.rs"]
mod world;

use model::event::{Event, Stored};
use serde_json::json;
use std::time::{Duration, Instant};
use world::{World, open_approval, session};

const SCRIPT: &str = r#"
name: bench
rules:
  - when: { turn: 0 }
    reply: [{ tool_use: { name: Read, input: { file_path: /workspace/a.txt } } }]
  - when: { turn: 1 }
    reply: [{ tool_use: { name: Write, input: { file_path: b.txt, content: "two\n" } } }]
  - when: { turn: 2 }
    reply: [{ text: "done" }]
"#;

const RUNS: usize = 40;

/// The parts of a start, each with the event that ends it.
const PARTS: [&str; 3] = ["accepted to runner started", "started to bound", "bound to first answer"];

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(measure());
}

async fn measure() {
    let world = World::up(SCRIPT).await;
    let project = world.dir.path().join("project");
    world::folder(&project, &[("a.txt", "one\n")]);
    let (mut whole, mut approved, mut parts) = (vec![], vec![], [const { Vec::new() }; 3]);
    for run in 0..RUNS {
        let name = format!("bench-{run}");
        let begun = Instant::now();
        let spec = json!({ "prompt": "go", "persona": "STAFF_ENGINEER", "workspace": { "dir": { "path": project } } });
        world.create(&name, spec).await.unwrap();
        let log = world.until(&name, "an approval", |log| open_approval(log).is_some()).await;
        let answered = at(&log, |event| matches!(event, Event::AssistantMessage(_)));
        let bound = at(&log, |event| matches!(event, Event::RunnerBound(_)));
        let started = at(
            &log,
            |event| matches!(event, Event::PhaseChanged(phase) if phase.phase == model::lifecycle::Phase::Creating),
        );
        let accepted = at(&log, |event| matches!(event, Event::SessionCreated(_)));
        for (part, time) in parts.iter_mut().zip([started - accepted, bound - started, answered - bound]) {
            part.push(Duration::from_millis(time));
        }
        whole.push(Duration::from_millis(answered - accepted));
        assert!(begun.elapsed() >= *whole.last().unwrap(), "the log's clock");

        let id = open_approval(&log).unwrap();
        let seen = follow(&world, &name, log.last().unwrap().seq.0).await;
        let decided = Instant::now();
        world.decide(&name, &id, json!({ "decision": "once" })).await.unwrap();
        approved.push(seen.await.unwrap().duration_since(decided));
        world.settled(&name).await;
    }
    row("session: accepted to the model's first answer in the log", &mut whole);
    for (name, times) in PARTS.iter().zip(&mut parts) {
        row(&format!("session: of that, {name}"), times);
    }
    row("session: approval over REST to the finished call at a subscriber", &mut approved);
}

fn at(log: &[Stored], is: impl Fn(&Event) -> bool) -> u64 {
    log.iter().find(|stored| is(&stored.event)).expect("the event").at.0
}

/// Subscribes, and says when the next call is finished.
async fn follow(world: &World, name: &str, after: u64) -> tokio::task::JoinHandle<Instant> {
    let path = format!("{}/events?after={after}", session(name));
    let request = world.request(reqwest::Method::GET, &path).header("accept", "text/event-stream");
    let mut answer = request.send().await.unwrap().error_for_status().unwrap();
    tokio::spawn(async move {
        let mut said = String::new();
        while let Some(bytes) = answer.chunk().await.unwrap() {
            said.push_str(&String::from_utf8_lossy(&bytes));
            if said.contains("call.finished") {
                return Instant::now();
            }
        }
        panic!("the stream ended: {said}")
    })
}

fn row(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("row | {what} | {:.1?} | {:.1?} |", at(0.5), at(0.99));
}
