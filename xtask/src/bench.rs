//! `bench`: runs every benchmark and keeps the result as a table, with the machine and the command.

use crate::{
    binaries::{self, Profile},
    cluster, image,
    machine::{self, place, repository, target},
    plugins,
    run::{Run, say, step},
};
use anyhow::Context;
use clap::Subcommand;
use serde_json::Value;
use std::{
    ffi::OsStr,
    fmt::Write,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

/// The parts of `docs/benchmarks.md`; each is written by a command of its own.
const ONE_MACHINE: &str = "One machine";
const CLUSTER: &str = "A cluster";

#[derive(Debug, Subcommand)]
pub(crate) enum Where {
    /// Sessions on a cluster of this machine's own; takes half an hour.
    Cluster,
}

pub(crate) fn run(at: Option<&Where>) -> anyhow::Result<()> {
    match at {
        None => one_machine(),
        Some(Where::Cluster) => on_cluster(),
    }
}

/// Images as they are shipped, and a cluster that nothing else is on.
fn on_cluster() -> anyhow::Result<()> {
    let images = image::for_release()?;
    let programs = cluster::programs()?;
    let cluster = cluster::ensure(&images)?;
    step("running the benchmark on the cluster");
    // What is measured is in the images; who looks at it need not be fast.
    let cargo = Run::cargo()
        .args(["bench", "--profile", "dev", "-p", "e2e", "--bench", "cluster"])
        .env("KUBECONFIG", &cluster.kubeconfig)
        .env("PATH", cluster::with_programs(&programs));
    let said = shown(cargo)?;
    let versions = versions(&programs, &cluster.kubeconfig)?;
    if cluster.ours {
        cluster::Verb::Down.run().context("the cluster is not removed")?;
    }
    let mut out = format!(
        "Written by `cargo xtask bench cluster`. Machine: {}, which is also the node.\n",
        machine::description()
    );
    let _ = writeln!(out, "{versions}.");
    out.push_str("etcd syncs each write to disk, as it is shipped.\n");
    out.push_str(
        "kube-router makes the NetworkPolicies hold: it lets a pod through some time after kubelet's first word that it runs. \
         A session waits for that within its dial-in, a bare pod does not; one row is without.\n",
    );
    out.push_str("\n| what | median | 90 % below, or as said |\n|---|---|---|\n");
    said.iter().for_each(|row| out.push_str(row));
    write_part(CLUSTER, &out)
}

/// What was measured, and what it ran on.
fn versions(programs: &Path, kubeconfig: &OsStr) -> anyhow::Result<String> {
    let node = "jsonpath=Kubernetes {.items[0].status.nodeInfo.kubeletVersion}, {.items[0].status.nodeInfo.containerRuntimeVersion}";
    let get = Run::new(programs.join("kubectl")).args(["get", "nodes", "--output", node]);
    let node = get.env("KUBECONFIG", kubeconfig).text()?;
    let first = |run: Run| anyhow::Ok(run.text()?.lines().next().unwrap_or_default().to_lowercase());
    let etcd = first(Run::new(programs.join("etcd")).arg("--version"))?;
    let runc = first(Run::new("runc").arg("--version"))?;
    let commit = Run::new("git").args(["rev-parse", "--short", "HEAD"]).dir(repository()).text()?;
    Ok(format!("vteam {}, {node}, {etcd}, {runc}", commit.trim()))
}

fn one_machine() -> anyhow::Result<()> {
    let stage = binaries::build_all(Profile::Release)?;
    step("running the benchmarks");
    // Results of benchmarks that are no more would stay in the table.
    let _ = std::fs::remove_dir_all(target().join("criterion"));
    let packages = ["-p", "engine", "-p", "store", "-p", "confine", "-p", "runner", "-p", "e2e"];
    let benches = ["--bench", "calls", "--bench", "append", "--bench", "start", "--bench", "session"];
    let cargo = Run::cargo().arg("bench").args(packages).args(benches);
    let mut said = shown(binaries::environment(cargo, &stage))?;
    said.extend(peer()?);
    write_part(ONE_MACHINE, &table(&stage, &said)?)
}

/// Replaces one part of the document.
fn write_part(title: &str, text: &str) -> anyhow::Result<()> {
    let file = repository().join("docs/benchmarks.md");
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    std::fs::write(&file, with_part(&before, title, text))
        .with_context(|| format!("cannot write {}", file.display()))?;
    say(&format!("written to {}", file.display()));
    Ok(())
}

fn with_part(before: &str, title: &str, text: &str) -> String {
    let mut out = String::from("# Benchmarks\n");
    for known in [ONE_MACHINE, CLUSTER] {
        let kept = || {
            before
                .split_once(&format!("\n## {known}\n"))
                .map(|(_, rest)| rest.split("\n## ").next().unwrap_or(rest))
        };
        let body = if known == title { Some(text) } else { kept() };
        if let Some(body) = body {
            out.push_str(&format!("\n## {known}\n\n{}\n", body.trim()));
        }
    }
    out
}

/// The same figure of a usual runner's agent, taken in the same run; from its registry, at a pinned version.
fn peer() -> anyhow::Result<Vec<String>> {
    let (from, home) = (repository().join("tests/peers"), target().join("peers"));
    for file in ["package.json", "package-lock.json", "measure.mjs"] {
        place(&from.join(file), &home.join(file))?;
    }
    step("a peer");
    Run::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--silent"])
        .dir(&home)
        .go()
        .context("npm is needed")?;
    shown(Run::new("node").args(["measure.mjs", "20"]).dir(&home))
}

/// Runs it, passes its output on, and gives the rows that benchmarks of ours print (`row | what | median | more |`).
fn shown(run: Run) -> anyhow::Result<Vec<String>> {
    let mut child =
        run.into_command().stdout(Stdio::piped()).spawn().context("a benchmark cannot be started")?;
    let stdout = child.stdout.take().context("a benchmark has no output")?;
    let mut rows = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        say(&line);
        rows.extend(line.strip_prefix("row ").map(|row| format!("{row}\n")));
    }
    anyhow::ensure!(child.wait()?.success(), "a benchmark failed");
    Ok(rows)
}

fn table(stage: &Path, said: &[String]) -> anyhow::Result<String> {
    let mut out = format!("Written by `cargo xtask bench`. Machine: {}.\n\n", machine::description());
    out.push_str("| what | median | 99 % below, or as said |\n|---|---|---|\n");
    said.iter().for_each(|row| out.push_str(row));
    out.push_str(
        "\n| by criterion | median | 95 % interval of the median | per second |\n|---|---|---|---|\n",
    );
    let mut rows = Vec::new();
    collect(&target().join("criterion"), &mut rows)?;
    rows.sort();
    for row in rows {
        out.push_str(&row);
    }
    out.push_str("\n| component | KiB |\n|---|---|\n");
    for (id, size) in plugins::sizes() {
        writeln!(out, "| {id} | {:.1} |", kib(size))?;
    }
    out.push_str("\n| binary (release) | MiB |\n|---|---|\n");
    for name in ["vteam", "vteam-runner", "vteam-exec", "vteam-compile"] {
        let size = std::fs::metadata(stage.join(name)).map_or(0, |meta| meta.len());
        writeln!(out, "| {name} | {:.1} |", kib(size) / 1024.0)?;
    }
    Ok(out)
}

/// Rows of all results that criterion left below a folder.
fn collect(folder: &Path, rows: &mut Vec<String>) -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.ends_with("new") {
            rows.extend(row(&path));
        } else if path.is_dir() {
            collect(&path, rows)?;
        }
    }
    Ok(())
}

fn row(folder: &Path) -> Option<String> {
    let read =
        |name: &str| serde_json::from_str::<Value>(&std::fs::read_to_string(folder.join(name)).ok()?).ok();
    let (estimates, benchmark) = (read("estimates.json")?, read("benchmark.json")?);
    let number = |pointer: &str| estimates.pointer(pointer)?.as_f64();
    let median = number("/median/point_estimate")?;
    let low = number("/median/confidence_interval/lower_bound")?;
    let high = number("/median/confidence_interval/upper_bound")?;
    let elements = benchmark.pointer("/throughput/Elements").and_then(Value::as_f64).unwrap_or(1.0);
    let name = benchmark.get("full_id")?.as_str()?;
    let rate = elements * 1e9 / median;
    Some(format!("| {name} | {} | {} to {} | {rate:.0} |\n", time(median), time(low), time(high)))
}

fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.1} µs", n / 1e3),
        n if n < 1e9 => format!("{:.2} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_replaced_alone() {
        let one = with_part("", ONE_MACHINE, "a\n");
        assert_eq!(one, "# Benchmarks\n\n## One machine\n\na\n");
        let both = with_part(&one, CLUSTER, "b");
        assert_eq!(both, "# Benchmarks\n\n## One machine\n\na\n\n## A cluster\n\nb\n");
        assert_eq!(with_part(&both, ONE_MACHINE, "c"), both.replace("\na\n", "\nc\n"));
    }

    #[test]
    fn times_have_fitting_units() {
        let check = |nanoseconds: f64, shown: &str| assert_eq!(super::time(nanoseconds), shown);
        check(12.4, "12 ns");
        check(15_600.0, "15.6 µs");
        check(1_350_000.0, "1.35 ms");
        check(2e9, "2.00 s");
    }
}
