//! Every limit, reached.

use crate::{guest::*, hosts::Recorder};
use engine::{LogSource, Plugin};
use model::limits::{CallLimits, Limits};
use std::time::{Duration, Instant};

async fn stopped(name: &str, input: &str, limit: impl FnOnce(&mut CallLimits)) -> String {
    let mut limited = call(input);
    limit(&mut limited.limits);
    failure(plugin(name).call(limited).await)
}

#[tokio::test]
async fn spin() {
    let begun = Instant::now();
    let said = stopped("spin", "{}", |limits| limits.cpu_ms = 200).await;
    assert_eq!(said, "Plugin: the plugin used its 0.2 s of processor time");
    let said = stopped("spin", "{}", |limits| limits.wall_ms = 300).await;
    assert_eq!(said, "Plugin: the call was stopped after 0.3 s: it may take no longer");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// On one thread: a call that begins there has to leave it.
#[tokio::test]
async fn whoever_calls_goes_on() {
    let mut limited = call("{}");
    (limited.limits.wall_ms, limited.limits.cpu_ms) = (20_000, 20_000);
    let spin = plugin("spin");
    tokio::select! {
        biased;
        called = spin.call(limited) => panic!("it held up its caller: {called:?}"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
}

#[tokio::test]
async fn sleep() {
    let said = stopped("sleep", "{}", |limits| (limits.wall_ms, limits.cpu_ms) = (200, 100)).await;
    assert_eq!(
        said, "Plugin: the call was stopped after 0.2 s: it may take no longer",
        "waiting is not processor time"
    );
}

#[tokio::test]
async fn alloc() {
    assert_eq!(text(plugin("alloc").call(call("8")).await), "8 MiB");
    let said = stopped("alloc", "64", |limits| limits.memory_bytes = 32 << 20).await;
    assert_eq!(said, "Plugin: the plugin needed more memory than the 32 MiB that a call may use");
    let said = stopped("alloc", "1", |limits| limits.memory_bytes = 1 << 16).await;
    assert!(said.contains("more memory than the 1 MiB"), "{said}");
}

#[tokio::test]
async fn memory_of_all_calls_together() {
    let engine = engine_with({
        let mut limits = Limits::shipped().session;
        limits.memory_bytes = 48 << 20;
        limits
    });
    let alloc = plugin_in(&engine, "alloc");
    let said = failure(alloc.call(call("56")).await);
    assert_eq!(
        said,
        "Setup: all calls of this session together need more memory than it may use: try fewer at once"
    );
    // What a call had is free again after it.
    for _ in 0..4 {
        assert_eq!(text(alloc.call(call("30")).await), "30 MiB");
    }
}

#[tokio::test]
async fn trap() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(folder.path());
    let mut panicking = call("{}");
    panicking.host = recorder.host();
    let said = failure(plugin("trap").call(panicking).await);
    assert_eq!(said, "Plugin: the plugin crashed (a panic); its log may say why");
    assert!(recorder.logged(LogSource::Stderr).iter().any(|line| line.contains("words of the panic")));
}

#[tokio::test]
async fn recurse() {
    assert!(stopped("recurse", "{}", |_| {}).await.contains("out of stack"));
}

#[tokio::test]
async fn exit() {
    assert!(stopped("exit", "{}", |_| {}).await.contains("exited instead of answering"));
}

#[tokio::test]
async fn flood_output() {
    assert_eq!(text(plugin("flood_output").call(call("1000")).await).len(), 1000);
    let said = stopped("flood_output", "1001", |limits| limits.output_bytes = 1000).await;
    assert_eq!(said, "Plugin: the plugin answered with 1001 bytes: 1000 are allowed");
    let said = stopped("flood_output", "3000000", |limits| limits.hostcall_bytes = 1 << 20).await;
    assert_eq!(said, "Plugin: the plugin was stopped: it handed over more than 1 MiB at once");
}

#[tokio::test]
async fn flood_log() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(folder.path());
    let mut flooding = call("{}");
    flooding.host = recorder.host();
    flooding.limits.log_bytes = 10_000;
    assert_eq!(text(plugin("flood_log").call(flooding).await), "still here");
    let log = recorder.log.lock().unwrap();
    let bytes: usize =
        log.iter().filter(|(_, from, _)| *from != LogSource::Host).map(|(_, _, text)| text.len()).sum();
    assert!((9_000..=10_000).contains(&bytes), "{bytes}");
    let notes = log.iter().filter(|(_, from, _)| *from == LogSource::Host).count();
    assert_eq!(notes, 1, "the loss is noted once");
}

#[tokio::test]
async fn open_many() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    let mut opening = call("{}");
    opening.host = Recorder::new(folder.path()).host();
    opening.grants = effects(&["fs.read"]);
    let said = failure(plugin("open_many").call(opening).await);
    assert_eq!(said, "Plugin: the plugin was stopped: it holds more than 64 files or other handles open");
}

#[tokio::test]
async fn a_manifest_lowers_and_never_raises() {
    let mut built = build(&raw("flood_output"));
    let asked = |bytes| Some(manifest::LimitsAsked { output_bytes: Some(bytes), ..Default::default() });
    built.manifest.limits = asked(10);
    assert!(failure(load(engine(), &built).call(call("11")).await).contains("10 are allowed"));
    built.manifest.limits = asked(u64::MAX);
    let said = failure(load(engine(), &built).call(call("1048577")).await);
    assert!(said.contains("1048576 are allowed"), "{said}");
}

/// Spinning guests starve neither each other nor a short call.
#[tokio::test]
async fn fairness() {
    let spin = plugin("spin");
    let spinning: Vec<_> = (0..4)
        .map(|_| {
            let (spin, mut spinning) = (spin.clone(), call("{}"));
            spinning.limits.wall_ms = 3_000;
            tokio::spawn(async move { spin.call(spinning).await })
        })
        .collect();
    let echo = plugin("echo");
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let begun = Instant::now();
        assert_eq!(text(echo.call(call("{}")).await), "{}");
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    for spinning in spinning {
        assert!(failure(spinning.await.unwrap()).contains("may take no longer"));
    }
}

/// More calls than slots wait for one another, and a call that is dropped gives its slot back.
#[tokio::test]
async fn calls_wait_for_a_slot() {
    let engine = engine_with({
        let mut limits = Limits::shipped().session;
        limits.concurrent_calls = 2;
        limits
    });
    let sleep = plugin_in(&engine, "sleep");
    let asleep: Vec<_> = (0..2).map(|_| tokio::spawn(call_of(sleep.clone()))).collect();
    let echo = plugin_in(&engine, "echo");
    let waiting = tokio::spawn(call_of(echo.clone()));
    for task in asleep {
        task.abort();
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
    }
    assert_eq!(waiting.await.unwrap(), "{}");
    let many: Vec<_> = (0..50).map(|_| tokio::spawn(call_of(echo.clone()))).collect();
    for one in many {
        assert_eq!(one.await.unwrap(), "{}");
    }
}

async fn call_of(plugin: Plugin) -> String {
    text(plugin.call(call("{}")).await)
}
