//! `cluster check`: proves on a real cluster what is promised of it. Ends a cluster that runs, and leaves none.

mod traces;
mod usage;

use super::{
    binaries, cgroup, down,
    layout::{Layout, configuration, read},
    network, node, up,
};
use crate::run::{say, step};
use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use traces::Traces;

pub(super) fn run(layout: &Layout) -> anyhow::Result<()> {
    let binaries = binaries::folder()?;
    down::down(layout)?;
    let check = Check { layout, binaries: &binaries, before: Traces::now(layout, &binaries) };
    check.starts_once()?;
    usage::check(layout, &binaries)?;
    check.ends("after half of its processes were killed", kill_half)?;
    for (when, state) in STAGES {
        check.killed_while_starting(when, *state)?;
    }
    check.starts("again, after all that")?;
    check.ends("after its first process was killed", kill_first)?;
    check.starts("a last time")?;
    check.ends("in good order", || Ok(()))?;
    say("the cluster keeps its promises");
    Ok(())
}

struct Check<'a> {
    layout: &'a Layout,
    binaries: &'a Path,
    before: Traces,
}

type Stage = fn(&Layout) -> bool;

/// How far `up` is when it is killed.
const STAGES: &[(&str, Stage)] = &[
    ("had written its files", |layout| layout.kubeconfig().is_file()),
    ("had its cgroup", |_| !cgroup::left().is_empty()),
    ("had its link", |_| network::there()),
    ("had containerd", |layout| layout.containerd().exists()),
    ("had an API server", |layout| !read(layout.log("kubelet")).is_empty()),
];

impl Check<'_> {
    fn starts(&self, how: &str) -> anyhow::Result<Duration> {
        step(&format!("check: it starts {how}"));
        let begun = Instant::now();
        up::up(self.layout, &[])?;
        Ok(begun.elapsed())
    }

    fn starts_once(&self) -> anyhow::Result<()> {
        self.starts("from nothing")?;
        let first = node::init().context("nothing runs")?;
        let again = self.starts("twice without harm")?;
        ensure!(node::init() == Some(first), "the second `up` replaced the cluster");
        say(&format!("  the second `up` took {:.1} s", again.as_secs_f64()));
        Ok(())
    }

    fn ends(&self, how: &str, harm: fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
        step(&format!("check: it ends {how}, and leaves nothing"));
        harm()?;
        let begun = Instant::now();
        down::down(self.layout)?;
        say(&format!("  `down` took {:.1} s", begun.elapsed().as_secs_f64()));
        self.before.same(&Traces::now(self.layout, self.binaries))
    }

    fn killed_while_starting(&self, when: &str, reached: Stage) -> anyhow::Result<()> {
        step(&format!("check: `up` is killed when it {when}"));
        let mut starting = Command::new(std::env::current_exe()?)
            .args(["cluster", "up"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        while !reached(self.layout) {
            ensure!(starting.try_wait()?.is_none(), "`up` ended before it {when}");
            std::thread::sleep(Duration::from_millis(1));
        }
        starting.kill()?;
        starting.wait()?;
        self.ends("then", || Ok(()))
    }
}

/// Every second one; not the first, whose end is everybody's.
fn kill_half() -> anyhow::Result<()> {
    let first = node::init();
    let others = cgroup::processes().into_iter().filter(|pid| Some(*pid) != first);
    let half: Vec<u32> = others.step_by(2).collect();
    say(&format!("  killing {half:?}"));
    half.into_iter().try_for_each(kill)
}

fn kill_first() -> anyhow::Result<()> {
    kill(node::init().context("nothing runs")?)
}

fn kill(pid: u32) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a process of another PID namespace")?;
    // One may have ended because another did.
    let _ = kill_process(pid, Signal::KILL);
    Ok(())
}

fn manifest(name: &str) -> String {
    read(configuration().join("check").join(name))
}
