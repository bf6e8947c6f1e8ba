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
    pub(crate) mod follow;
    pub(crate) mod pods;
    pub(crate) mod sessions;
    pub(crate) mod writes;
}

use cluster::{
    pods::{Pods, bare},
    sessions::Sessions,
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
use world::{Caller, PATIENCE, Project, SYSTEM, eventually, kubectl};

/// Sessions that are measured, one after the other, each beside a bare pod.
const RUNS: usize = 200;
/// Of these where no NetworkPolicy closes the server.
const OPEN: usize = 50;
/// Of a measurement that nothing else writes beside.
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

/// What watches tell.
type Seen<'a> = (&'a Pods, &'a Sessions);

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(measure());
}

async fn measure() {
    let project = Project::new("bench").unwrap();
    let caller = project.caller("edit").unwrap();
    let client = Client::try_default().await.unwrap();
    let pods = Pods::follow(client.clone(), &project.name).await;
    let sessions = Sessions::follow(client.clone(), &project.name).await;
    memory("idle");
    authorise(&project).await;
    starts(&project, &caller, &client, (&pods, &sessions)).await;
    count(&project, &caller, &sessions).await;
    store(&project, &caller).await;
    memory(&format!("with {STORED} stored sessions"));
    recover(&project, &caller, (&pods, &sessions)).await;
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

/// What was measured, each beside the other.
#[derive(Default)]
struct Starts {
    whole: Vec<Duration>,
    parts: [Vec<Duration>; 5],
    bare: Vec<Duration>,
    failed: usize,
}

impl Starts {
    /// Of the medians.
    fn ratio(&self) -> String {
        let ratio = median(&self.whole).as_secs_f64() / median(&self.bare).as_secs_f64();
        format!("{ratio:.2} | {} sessions, {} failed", self.whole.len() + self.failed, self.failed)
    }
}

async fn starts(project: &Project, caller: &Caller, client: &Client, watched: Seen<'_>) {
    let mut seen = measured(RUNS, "bare", project, caller, client, watched).await;
    row("cluster: bare pod of the same shape, applied to ready", &mut seen.bare);
    row("cluster: session, posted to the runner's first event", &mut seen.whole);
    for (name, times) in PARTS.iter().zip(&mut seen.parts) {
        row(&format!("cluster: of that, {name}"), times);
    }
    println!("row | cluster: session over bare pod, medians | {} |", seen.ratio());
    // Whatever makes the policies hold has to hear of a pod before it lets it through, which a bare pod does not wait for.
    let _opened = Opened::new();
    let seen = measured(OPEN, "open", project, caller, client, watched).await;
    println!("row | cluster: the same, where no NetworkPolicy closes the server | {} |", seen.ratio());
}

/// The server without its NetworkPolicies; dropped, it has them again.
struct Opened;

impl Opened {
    fn new() -> Self {
        let opened = Self;
        kubectl(&["-n", SYSTEM, "delete", "networkpolicy", "default-deny", "vteam-server"]).unwrap();
        opened
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let overlay = world::repository().join("manifests/overlays/dev");
        if let Err(error) = kubectl(&["apply", "--server-side", "-k", &overlay.to_string_lossy()]) {
            eprintln!("the server is left open: {error:#}");
        }
    }
}

async fn measured(
    runs: usize,
    prefix: &str,
    project: &Project,
    caller: &Caller,
    client: &Client,
    (pods, sessions): Seen<'_>,
) -> Starts {
    let mut seen = Starts::default();
    let api = Api::<Pod>::namespaced(client.clone(), &project.name);
    for run in 0..runs {
        let posted = now();
        let name = caller.create(spec()).await.unwrap();
        let answered = now();
        let status = settled(project, sessions, &name).await;
        if status["phase"] != "Completed" {
            eprintln!("{name}: {status}");
            seen.failed += 1;
            continue;
        }
        let events = caller.events(&name).await.unwrap();
        let pod = status["podName"].as_str().unwrap();
        // Neither is started while the node still takes the other one down.
        pods.gone(pod).await;
        let pod = pods.of(pod);
        let (bound, first) = (at(&events, "runner.bound"), at(&events, "persona.prompted"));
        let marks = [answered, pod.made, pod.runs.unwrap_or(bound).min(bound), bound, first];
        let mut before = posted;
        for (part, mark) in seen.parts.iter_mut().zip(marks) {
            // The post's answer and the pod cross on their way.
            part.push(Duration::from_millis(mark.saturating_sub(before)));
            before = before.max(mark);
        }
        seen.whole.push(Duration::from_millis(first - posted));

        let name = format!("{prefix}-{run}");
        let begun = now();
        api.create(&PostParams::default(), &bare(&name)).await.unwrap();
        let ready = pods.ready(&name).await;
        seen.bare.push(Duration::from_millis(ready - begun));
        api.delete(&name, &DeleteParams::default()).await.unwrap();
        pods.gone(&name).await;
    }
    seen
}

fn at(events: &[Value], kind: &str) -> u64 {
    let event = events.iter().find(|event| event["kind"] == kind);
    event.and_then(|event| event["at"].as_u64()).unwrap_or_else(|| panic!("no {kind}: {events:?}"))
}

/// The status of a session that came to rest.
async fn settled(project: &Project, sessions: &Sessions, session: &str) -> Value {
    let status = sessions.settled(session, PATIENCE).await;
    status.unwrap_or_else(|status| panic!("{session}: {status}\n{}", project.about(session)))
}

/// What the API server is asked to write for a session, from its making to the end of its pod.
async fn count(project: &Project, caller: &Caller, sessions: &Sessions) {
    eventually("nothing is under way", || Ok(project.list("pods")?.is_empty().then_some(()))).await.unwrap();
    let before = writes::all().unwrap();
    for _ in 0..COUNTED {
        let name = caller.create(spec()).await.unwrap();
        settled(project, sessions, &name).await;
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
async fn recover(project: &Project, caller: &Caller, (pods, sessions): Seen<'_>) {
    let mut times = vec![];
    for _ in 0..KILLS {
        let operator = ours("operator");
        let begun = now();
        operator.kill().unwrap();
        let name = caller.create(spec()).await.unwrap();
        let status = settled(project, sessions, &name).await;
        let made = pods.of(status["podName"].as_str().unwrap()).made;
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
