//! The first process inside: arranges mounts and network, starts the components, and starts again whichever ends, as a
//! service manager would on a node.

use super::{
    components::{self, Component},
    layout::{API_PORT, HOST, INSIDE, LINK_PREFIX, Layout, NODE, OURS, read},
    requirements,
};
use crate::run::{Run, say};
use anyhow::{Context, bail};
use rustix::{
    mount::{MountPropagationFlags, mount_bind, mount_bind_recursive, mount_change},
    process::{Pid, WaitOptions, wait},
};
use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Kubelet insists on these, for the whole kernel. It is shown files that say so; the machine keeps its own.
const TUNABLES: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

pub(super) fn run(layout: &Layout, binaries: &Path) -> anyhow::Result<()> {
    mounts(layout, binaries).context("cannot arrange the mounts")?;
    network()?;
    let supervisor = Supervisor::default();
    for component in components::first() {
        supervisor.start(Arc::new(component));
    }
    let later = supervisor.clone();
    std::thread::spawn(move || {
        // Some of the rest give up when there is no API server for long.
        while TcpStream::connect((NODE, API_PORT)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        for component in components::rest() {
            later.start(Arc::new(component));
        }
    });
    supervisor.keep()
}

fn mounts(layout: &Layout, binaries: &Path) -> anyhow::Result<()> {
    mount_bind(binaries, layout.ours().join("bin"))?;
    // Kubelet mounts for containers: containerd has to see it.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)?;
    for (folder, inside) in INSIDE {
        let from = layout.state.join(folder);
        mount_bind_recursive(&from, *inside).with_context(|| format!("{} on {inside}", from.display()))?;
    }
    for (tunable, value) in TUNABLES {
        let file = PathBuf::from(OURS).join("tunables").join(tunable.replace('/', "."));
        fs::write(&file, value)?;
        mount_bind(&file, Path::new("/proc/sys").join(tunable)).with_context(|| (*tunable).to_owned())?;
    }
    Ok(())
}

/// The node's end of the link, once the outside gave it.
fn network() -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !read("/proc/net/dev").contains("eth0:") {
        if Instant::now() > deadline {
            bail!("nobody gave this network namespace its link");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let ip = |line: &str| Run::new("ip").args(line.split(' ')).go();
    ip("link set lo up")?;
    ip(&format!("address add {NODE}/{LINK_PREFIX} dev eth0"))?;
    ip("link set eth0 up")?;
    ip(&format!("route add default via {HOST}"))?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot forward packets")
}

#[derive(Clone, Default)]
struct Supervisor {
    running: Arc<Mutex<HashMap<Pid, Arc<Component>>>>,
}

impl Supervisor {
    fn start(&self, component: Arc<Component>) {
        // Held while it starts: it may end before it is noted, and must be found then.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match spawn(&component) {
            Ok(pid) => {
                running.insert(pid, component);
            }
            Err(error) => {
                say(&format!("{}: {error:#}", component.name));
                drop(running);
                self.start_later(component);
            }
        }
    }

    fn start_later(&self, component: Arc<Component>) {
        let this = self.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(1));
            this.start(component);
        });
    }

    /// Reaps what ends, also what was orphaned: shims of containerd. Ends only by being killed.
    fn keep(&self) -> anyhow::Result<()> {
        loop {
            let Some((pid, status)) = wait(WaitOptions::empty())? else { continue };
            let ended = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
            if let Some(component) = ended {
                say(&format!("{} ended ({:#x}) and is started again", component.name, status.as_raw()));
                self.start_later(component);
            }
        }
    }
}

fn spawn(component: &Component) -> anyhow::Result<Pid> {
    let (bin, log) = (format!("{OURS}/bin"), format!("/var/log/{}.log", component.name));
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let child = Command::new(Path::new(&bin).join(component.name))
        .args(&component.args)
        .env_clear()
        .env("PATH", format!("{bin}:{}", requirements::PATH))
        .env("TMPDIR", format!("{OURS}/tmp"))
        .env("HOME", "/root")
        .current_dir(OURS)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process has no number")
}
