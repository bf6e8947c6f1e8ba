//! From the start of a runner's process to its first request of a model, what it holds in memory after its first turn, and
//! how soon an approved call is done. The server is played, so that nothing but the runner is measured.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    dead_code,
    reason = "a benchmark, which shares the tests' harness"
)]

#[path = "../tests/it/plugins.rs"]
mod plugins;
#[path = "../tests/it/process.rs"]
mod process;
#[path = "../tests/it/server.rs"]
mod server;

use model::{approval::Decision, event::Event};
use process::Running;
use protocol::control::Ask;
use server::{calls, says};
use std::time::{Duration, Instant};

const RUNS: usize = 40;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        plugins::all();
        let (mut first, mut approved, mut resident) = (vec![], vec![], vec![]);
        for _ in 0..RUNS {
            let seen = one().await;
            first.push(seen.first_request);
            approved.push(seen.approved);
            resident.push(seen.resident_kib);
        }
        row("runner: process start to first model request", &mut first);
        row("runner: approval to finished call", &mut approved);
        resident.sort_unstable();
        let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
        println!(
            "row | runner: resident after its first turn | {} | {} |",
            mib(resident[RUNS / 2]),
            mib(resident[RUNS - 1])
        );
    });
}

struct Seen {
    first_request: Duration,
    approved: Duration,
    resident_kib: u64,
}

async fn one() -> Seen {
    let persona =
        |binding: &mut protocol::control::Binding| binding.persona = Some("STAFF_ENGINEER".parse().unwrap());
    let (running, started) = Running::start_timed("read it", &[("a.txt", "one\n")], persona);
    let server = running.server.clone();
    server.play([
        calls(&[("Read", r#"{"file_path":"/workspace/a.txt"}"#)]),
        calls(&[("Write", r#"{"file_path":"b.txt","content":"two\n"}"#)]),
        says("done"),
    ]);
    server.until("first request", |inside| (!inside.requests.is_empty()).then_some(())).await;
    let first_request = started.elapsed();
    let Ask::Approval(request) = server.ask().await else { panic!("no approval is asked for") };
    let resident_kib = resident(running.pid());
    let asked = Instant::now();
    server.decide(&request.id, Decision::Once);
    let done = |inside: &mut server::Inside| {
        let finished = inside.log.iter().filter(|stored| matches!(stored.event, Event::CallFinished(_)));
        (finished.count() == 2).then_some(())
    };
    server.until("the approved call's end", done).await;
    let approved = asked.elapsed();
    server.end_of("r1").await;
    Seen { first_request, approved, resident_kib }
}

/// `VmRSS`, see proc_pid_status(5).
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn row(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("row | {what} | {:.1?} | {:.1?} |", at(0.5), at(0.99));
}
