//! Sessions on a cluster: from the posted specification to the first event of the runner, beside bare pods of the same shape
//! that were made in between; what a session costs the API server; what operator and server hold; how soon a killed operator
//! works again. The node is this machine, whose clock all times are of.

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

#[path = "../kubernetes/gate.rs"]
mod gate;
#[path = "../kubernetes/process.rs"]
mod process;
#[path = "../kubernetes/world.rs"]
mod world;

mod cluster {
    pub(crate) mod pods;
    pub(crate) mod writes;
}

use cluster::{
    pods::{Pods, bare},
    writes,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use process::Process;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use world::{Caller, Project, SYSTEM, eventually, kubectl};

/// Sessions that are measured, one after the other, each beside a bare pod.
const RUNS: usize = 200;
/// Of a second measurement, which nothing else writes beside.
const COUNTED: usize = 20;
/// Sessions that are stored in the end; those that did not run were made stopped.
const STORED: usize = 1000;
const KILLS: usize = 5;

/// What happens between the post and the runner's first event, each with what ends it.
const PARTS: [&str; 5] = [
    "authorised and written: the post is answered",
    "scheduled: its pod is made",
    "pod: the container of the runner runs, as the API server says",
    "dial-in and binding",
    "first model request: the runner's first event",
];

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(measure());
}

async fn measure() {
    let project = Project::new("bench").unwrap();
    let caller = project.caller("edit").unwrap();
    let client = Client::try_default().await.unwrap();
    let pods = Pods::follow(client.clone(), &project.name).await;
    memory("idle");
    authorise(&project).await;
    starts(&project, &caller, &client, &pods).await;
    count(&project, &caller).await;
    store(&project, &caller).await;
    memory(&format!("with {STORED} stored sessions"));
    recover(&project, &caller, &pods).await;
}

/// It ends by itself after one answer, and asks nobody. A persona is what its runner speaks of first.
fn spec() -> Value {
    json!({ "prompt": "Say hello.", "permissionMode": "plan", "persona": "TEAM_MEMBER" })
}

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

async fn authorise(project: &Project) {
    let mut times = vec![];
    for _ in 0..40 {
        // Nothing is known of a token that was not shown before.
        let caller = project.caller("edit").unwrap();
        let begun = Instant::now();
        let answer = caller.ask(Method::GET, "/agentic-sessions?limit=1").send().await.unwrap();
        assert!(answer.status().is_success());
        times.push(begun.elapsed());
    }
    row("cluster: a request with a token that was not seen before", &mut times);
}

async fn starts(project: &Project, caller: &Caller, client: &Client, pods: &Pods) {
    let (mut whole, mut plain, mut parts) = (vec![], vec![], [const { Vec::new() }; 5]);
    let api = Api::<Pod>::namespaced(client.clone(), &project.name);
    let mut failures = 0;
    for run in 0..RUNS {
        let posted = now();
        let name = caller.create(spec()).await.unwrap();
        let answered = now();
        let object = settled(project, &name).await;
        if object["status"]["phase"] != "Completed" {
            eprintln!("{name}: {}", object["status"]);
            failures += 1;
            continue;
        }
        let events = caller.events(&name).await.unwrap();
        let seen = pods.of(object["status"]["podName"].as_str().unwrap());
        let (bound, first) = (at(&events, "runner.bound"), at(&events, "persona.prompted"));
        let marks = [answered, seen.made, seen.runs.unwrap_or(bound).min(bound), bound, first];
        let mut before = posted;
        for (part, mark) in parts.iter_mut().zip(marks) {
            // The post's answer and the pod cross on their way.
            part.push(Duration::from_millis(mark.saturating_sub(before)));
            before = before.max(mark);
        }
        whole.push(Duration::from_millis(first - posted));

        let bare = bare(&format!("bare-{run}"));
        let begun = now();
        api.create(&PostParams::default(), &bare).await.unwrap();
        let ready = pods.ready(&format!("bare-{run}")).await;
        plain.push(Duration::from_millis(ready - begun));
        api.delete(&format!("bare-{run}"), &DeleteParams::default().grace_period(0)).await.unwrap();
    }
    row("cluster: bare pod of the same shape, applied to ready", &mut plain);
    row("cluster: session, posted to the runner's first event", &mut whole);
    for (name, times) in PARTS.iter().zip(&mut parts) {
        row(&format!("cluster: of that, {name}"), times);
    }
    let ratio = median(&whole).as_secs_f64() / median(&plain).as_secs_f64();
    println!(
        "row | cluster: session over bare pod, medians | {ratio:.2} | {RUNS} sessions, {failures} failed |"
    );
}

fn at(events: &[Value], kind: &str) -> u64 {
    let event = events.iter().find(|event| event["kind"] == kind);
    event.and_then(|event| event["at"].as_u64()).unwrap_or_else(|| panic!("no {kind}: {events:?}"))
}

async fn settled(project: &Project, session: &str) -> Value {
    eventually(&format!("{session} is settled"), || {
        let object = project.get("agenticsession", session)?;
        let phase = object["status"]["phase"].as_str().unwrap_or_default().to_owned();
        Ok(["Completed", "Failed", "Stopped"].contains(&phase.as_str()).then_some(object))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", project.about(session)))
}

/// What the API server is asked to write for a session, from its making to the end of its pod.
async fn count(project: &Project, caller: &Caller) {
    eventually("nothing is under way", || Ok(project.list("pods")?.is_empty().then_some(()))).await.unwrap();
    let before = writes::all().unwrap();
    for _ in 0..COUNTED {
        let name = caller.create(spec()).await.unwrap();
        settled(project, &name).await;
    }
    eventually("their pods are gone", || Ok(project.list("pods")?.is_empty().then_some(()))).await.unwrap();
    let after = writes::all().unwrap();
    writes::print(&before, &after, COUNTED);
}

async fn store(project: &Project, caller: &Caller) {
    let there = project.list("agenticsessions").unwrap().len();
    for _ in there..STORED {
        let spec = json!({ "prompt": "Say hello.", "operatingMode": "Stopped" });
        caller.create(spec).await.unwrap();
    }
    eventually("the operator has seen all of them", || {
        let phases = kubectl(&[
            "-n",
            &project.name,
            "get",
            "agenticsessions",
            "-o",
            "jsonpath={.items[*].status.phase}",
        ])?;
        Ok((phases.split_whitespace().count() >= STORED).then_some(()))
    })
    .await
    .unwrap();
}

/// The first process of one of ours.
fn ours(part: &str) -> Process {
    let selector = format!("app.kubernetes.io/name=vteam-{part}");
    let path = "jsonpath={.items[0].metadata.name}";
    let pod = kubectl(&["-n", SYSTEM, "get", "pods", "-l", &selector, "-o", path]).unwrap();
    Process::of(SYSTEM, &pod, part).unwrap()
}

/// Bytes, as the kernel counts them.
fn resident(process: &Process) -> u64 {
    let status = process.read("status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

fn memory(when: &str) {
    for what in ["operator", "server"] {
        let bytes = resident(&ours(what));
        println!(
            "row | cluster: {what}, resident, {when} | {:.1} MiB | once |",
            bytes as f64 / f64::from(1 << 20)
        );
    }
}

/// From SIGKILL to the pod of a session that was posted right afterwards.
async fn recover(project: &Project, caller: &Caller, pods: &Pods) {
    let mut times = vec![];
    for _ in 0..KILLS {
        let operator = ours("operator");
        let begun = now();
        operator.kill().unwrap();
        let name = caller.create(spec()).await.unwrap();
        let object = settled(project, &name).await;
        let made = pods.of(object["status"]["podName"].as_str().unwrap()).made;
        times.push(Duration::from_millis(made - begun));
        // Kubelet waits longer and longer for one that was killed before: the next one is another pod.
        kubectl(&["-n", SYSTEM, "rollout", "restart", "deployment/vteam-operator"]).unwrap();
        kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/vteam-operator", "--timeout=120s"]).unwrap();
        eventually("the one before is gone", || {
            let pods = kubectl(&[
                "-n",
                SYSTEM,
                "get",
                "pods",
                "-l",
                "app.kubernetes.io/name=vteam-operator",
                "-o",
                "name",
            ])?;
            Ok((pods.lines().count() == 1).then_some(()))
        })
        .await
        .unwrap();
    }
    row("cluster: operator killed to the next session's pod made", &mut times);
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

fn row(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("row | {what} | {:.1?} | {:.1?}, at most {:.1?} |", at(0.5), at(0.9), at(1.0));
}
