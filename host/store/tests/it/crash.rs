//! Kills a writer at many moments. The test binary is its own child: told a folder, it writes there until it is killed.

use crate::support::{record, said, state, uid};
use model::{
    event::{Event, PhaseChanged},
    id::{Epoch, Seq},
    lifecycle::{Phase, Reason},
};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};
use store::{Durability, Store, verify};

const CHILD: &str = "VTEAM_STORE_CHILD";

/// Writes for ever, and says what was answered.
async fn write(dir: &Path) {
    let store = Store::open(dir, Durability::Full).unwrap();
    let _ = store.create(record("a", 1 << 30), vec![]).await;
    let known = store.session_by_uid(&uid("a")).await.unwrap().unwrap().state;
    let epoch = known.epoch.next();
    let mut next = state();
    (next.epoch, next.fence) = (epoch, epoch);
    for n in 1.. {
        next.phase = if n % 2 == 0 { Phase::Running } else { Phase::Waiting };
        let phase = PhaseChanged { phase: next.phase, reason: Reason::Working, message: "".into() };
        let bytes = if n % 7 == 0 { 100_000 } else { 100 };
        let events = vec![said(epoch.0, n, bytes), Event::PhaseChanged(phase).into()];
        let stored = store.commit(&uid("a"), events, next.clone()).await.unwrap();
        println!("answered {}", stored.last().unwrap().seq);
    }
}

#[test]
fn what_was_answered_survives_a_kill_at_any_moment() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(dir) = std::env::var_os(CHILD) {
        return runtime.block_on(write(dir.as_ref()));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut answered = 0;
    for round in 0..20u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "crash::what_was_answered_survives_a_kill_at_any_moment",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // A different number of answers each time; the kill comes in the middle of the next ones.
        let wanted = (round * 7919) % 60 + 1;
        let mut seen = 0;
        while seen < wanted {
            let line = lines.next().expect("the child writes until it is killed").unwrap();
            if let Some((_, seq)) = line.split_once("answered ") {
                answered = seq.trim().parse::<u64>().unwrap();
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had answered before it died, though nobody had read it yet.
        for line in lines.map_while(Result::ok) {
            if let Some((_, seq)) = line.split_once("answered ") {
                answered = seq.trim().parse().unwrap_or(answered);
            }
        }
        let verified = verify(dir.path()).unwrap();
        assert_eq!(verified.problems, [], "round {round}");
        assert!(
            verified.events >= answered,
            "round {round}: {} stored, {answered} answered",
            verified.events
        );
    }
    let store = Store::open(dir.path(), Durability::Full).unwrap();
    let record = runtime.block_on(store.session_by_uid(&uid("a"))).unwrap().unwrap();
    assert_eq!(record.state.epoch, Epoch(20));
    let events = runtime.block_on(store.events(&uid("a"), Seq(answered - 1), 1)).unwrap();
    assert_eq!(events.len(), 1);
}
