//! Fresh calls through all limits, and loading: what a session pays for running tools as components.
//!
//! Criterion measures one caller, two, and as many as keep all workers busy; the percentiles of single calls are printed beside its table.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark"
)]

#[path = "../tests/it/guest.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod guest;
#[path = "../tests/it/hosts.rs"]
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
mod hosts;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine::{Call, Host, Plugin};
use guest::{build, call, effects, engine, engine_with, load, plugin, raw, text};
use hosts::Recorder;
use model::limits::Limits;
use std::time::{Duration, Instant};

const FILE: &str = "/workspace/file";
const FILE_BYTES: usize = 600;

/// A call again and again: what differs between echo and read.
struct Work {
    name: &'static str,
    plugin: Plugin,
    input: &'static str,
    host: Host,
    effects: &'static [&'static str],
}

impl Work {
    fn call(&self) -> Call {
        Call { host: self.host.clone(), grants: effects(self.effects), ..call(self.input) }
    }

    async fn times(&self, count: u64) {
        for _ in 0..count {
            assert!(!text(self.plugin.call(self.call()).await).is_empty());
        }
    }
}

fn works(folder: &std::path::Path) -> Vec<Work> {
    std::fs::write(folder.join("file"), "x".repeat(FILE_BYTES)).unwrap();
    let host = Recorder::new(folder).host();
    let echo = Work { name: "echo", plugin: plugin("echo"), input: "{}", host: host.clone(), effects: &[] };
    let read = Work { name: "read 600 B", plugin: plugin("read"), input: FILE, host, effects: &["fs.read"] };
    vec![echo, read]
}

fn calls(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for work in works(folder.path()) {
        let work: &'static Work = Box::leak(Box::new(work));
        runtime.block_on(percentiles(work));
        let mut group = criterion.benchmark_group(work.name);
        group.throughput(Throughput::Elements(1));
        for callers in [1u64, 2, 16] {
            group.bench_function(format!("{callers} callers"), |bencher| {
                bencher.iter_custom(|count| runtime.block_on(beside(work, callers, count)));
            });
        }
        group.finish();
    }
}

async fn beside(work: &'static Work, callers: u64, count: u64) -> Duration {
    let begun = Instant::now();
    let each = count.div_ceil(callers);
    let tasks: Vec<_> = (0..callers).map(|_| tokio::spawn(work.times(each))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    begun.elapsed()
}

async fn percentiles(work: &'static Work) {
    work.times(2_000).await;
    let mut took = Vec::new();
    for _ in 0..20_000 {
        let call = work.call();
        let begun = Instant::now();
        let called = work.plugin.call(call).await;
        took.push(begun.elapsed());
        drop(called);
    }
    took.sort();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("row | fresh tool call, {} | {p50:.1?} | {p99:.1?} |", work.name);
}

/// Twelve tools and a persona from signed native code, as a runner does after it was bound.
fn loading(criterion: &mut Criterion) {
    let _ = engine();
    let (tool, persona) = (build(&raw("read")), build(&raw("persona")));
    let fresh = engine_with(Limits::shipped().session);
    criterion.bench_function("load 12 tools and a persona", |bencher| {
        bencher.iter(|| {
            let tools: Vec<Plugin> = (0..12).map(|_| load(&fresh, &tool)).collect();
            (tools, load(&fresh, &persona))
        });
    });
}

criterion_group!(benches, calls, loading);
criterion_main!(benches);
