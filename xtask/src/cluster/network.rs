//! The machine's end of the link to the node, and its routes to pods and services.

use super::{
    layout::{HOST, LINK, LINK_PREFIX, NODE, PODS, SERVICES, read},
    requirements::PATH,
};
use crate::run::Run;
use anyhow::{Context, bail};
use std::time::{Duration, Instant};

/// Links the machine to the network namespace of a process.
pub(super) fn attach(pid: u32) -> anyhow::Result<()> {
    ip(&format!("link add {LINK} type veth peer name eth0 netns {pid}"))?;
    ip(&format!("address add {HOST}/{LINK_PREFIX} dev {LINK}"))?;
    ip(&format!("link set {LINK} up"))?;
    for network in [PODS, SERVICES] {
        ip(&format!("route add {network} via {NODE}"))
            .with_context(|| format!("{network} is the cluster's; does this machine route it elsewhere?"))?;
    }
    Ok(())
}

/// Removes the link; the routes go with it.
pub(super) fn detach(within: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    while there() {
        // The kernel removes it, too, when the namespace of the other end is gone: either may be first.
        program().args(["link", "delete", LINK]).succeeds();
        if Instant::now() > deadline {
            bail!("the link {LINK} does not go away");
        }
    }
    Ok(())
}

pub(super) fn there() -> bool {
    read("/proc/net/dev").contains(&format!("{LINK}:"))
}

/// Administrators' programs are not on everybody's PATH.
fn program() -> Run {
    Run::new("ip").env("PATH", PATH)
}

fn ip(line: &str) -> anyhow::Result<()> {
    program().args(line.split(' ')).go()
}
