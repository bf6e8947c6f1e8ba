//! Server and runner are killed at seeded points of a run; an independent reader checks the log afterwards.

use crate::{
    job::{FIX, project},
    log::breaches,
    world::{World, phase},
};
use model::{event::Event, lifecycle::Phase};
use serde_json::json;

/// Points, each a number of events after which the kill happens; both processes, in turn.
const POINTS: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_point_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let mut world = World::up(&paced(FIX)).await;
    let dir = project(&world);
    for point in 0..POINTS {
        let name = format!("kill-{point}");
        let after = 1 + point / 2;
        let spec = json!({ "prompt": "Fix the greeting", "permissionMode": "acceptEdits", "workspace": { "dir": { "path": dir } } });
        world.create(&name, spec).await?;
        let at_point = |log: &[model::event::Stored]| {
            log.len() > after * 2
                || phase(log).is_some_and(Phase::is_settled)
                || crate::world::open_approval(log).is_some()
        };
        world.until(&name, "the point of the kill", at_point).await;
        if point % 2 == 0 {
            world.kill();
            world.start().await?;
        } else {
            kill_runner(&world);
        }
        let log = world.settled_allowing_all(&name).await;
        assert_eq!(breaches(&log, true), Vec::<String>::new(), "{name}");
        assert_eq!(phase(&log), Some(Phase::Completed), "{name}\n{}", world.server_log());
        let edits = log
            .iter()
            .filter(|s| matches!(&s.event, Event::CallFinished(c) if c.tool.raw() == "Edit" && c.outcome == model::event::CallOutcome::Done))
            .count();
        assert!(edits <= 1, "{name}: the edit took effect {edits} times");
    }
    world.stop();
    let read = store::verify(&world.data())?;
    assert!(read.problems.is_empty() && read.sessions == POINTS as u64, "{read:?}");
    Ok(())
}

/// Slow enough that a point lies within the run.
fn paced(script: &str) -> String {
    script.replacen("name: fix", "name: fix\npace: { first_ms: 20, delta_ms: 2, chunk: 4 }", 1)
}

/// `kill -9` to every runner of this world.
fn kill_runner(world: &World) {
    let marker = world.data();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        if line.contains("vteam-runner") && line.contains(&*marker.to_string_lossy()) {
            let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
