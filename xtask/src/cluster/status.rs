//! What runs and what answers. Asked, not remembered.

use super::{
    components::{self, Component, Health},
    image,
    kubectl::{Kubectl, NODE_READY},
    layout::{Layout, NODE, NODE_NAME},
    node, up,
};
use crate::run::say;
use serde::Serialize;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    /// Whether its namespaces exist.
    running: bool,
    kubeconfig: String,
    components: Vec<Answer>,
    node_ready: bool,
    images: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Answer {
    name: &'static str,
    answers: bool,
}

impl Status {
    pub(super) fn is_well(&self) -> bool {
        self.running && self.node_ready && self.unwell().is_empty()
    }

    /// The components that do not answer.
    pub(super) fn unwell(&self) -> Vec<&'static str> {
        self.components
            .iter()
            .filter(|component| !component.answers)
            .map(|component| component.name)
            .collect()
    }
}

pub(super) fn of(layout: &Layout, binaries: &Path) -> Status {
    let kubeconfig = layout.kubeconfig().display().to_string();
    if node::init().is_none() {
        let names = components::all().into_iter().map(|component| component.name);
        let components = names.map(|name| Answer { name, answers: false }).collect();
        return Status { kubeconfig, components, ..Status::default() };
    }
    let ask = |component: Component| Answer {
        name: component.name,
        answers: answers(component.health, layout, binaries),
    };
    let components = std::thread::scope(|scope| {
        let asked: Vec<_> =
            components::all().into_iter().map(|component| scope.spawn(move || ask(component))).collect();
        asked.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let node = Kubectl::admin(layout, binaries).text(&[NODE_READY, &[TIMEOUT]].concat());
    Status {
        running: true,
        kubeconfig,
        components,
        node_ready: node.is_ok_and(|said| said == "True"),
        images: image::names(layout, binaries).unwrap_or_default(),
    }
}

const TIMEOUT: &str = "--request-timeout=2s";

fn answers(health: Health, layout: &Layout, binaries: &Path) -> bool {
    match health {
        Health::Http(port, path) => http(port, path).is_some_and(|status| status == 200),
        Health::Https(port, path) => {
            let (raw, server) = (format!("--raw={path}"), format!("--server=https://{NODE}:{port}"));
            Kubectl::admin(layout, binaries).text(&["get", &raw, &server, TIMEOUT]).is_ok()
        }
        Health::Containerd => image::names(layout, binaries).is_ok(),
    }
}

/// The status of a plain request.
fn http(port: u16, path: &str) -> Option<u16> {
    let address: SocketAddr = format!("{NODE}:{port}").parse().ok()?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {NODE}\r\n\r\n").ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    code(&head)
}

/// Of a status line, RFC 9112 section 4.
fn code(head: &[u8; 12]) -> Option<u16> {
    let text = std::str::from_utf8(head).ok()?;
    text.strip_prefix("HTTP/1.")?.split_once(' ')?.1.parse().ok()
}

#[expect(clippy::print_stdout, reason = "this is what was asked for")]
pub(super) fn show(layout: &Layout, json: bool) -> anyhow::Result<()> {
    let status = of(layout, &up::binaries_of_running()?);
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
        return Ok(());
    }
    if !status.running {
        say("no cluster runs here: `cargo xtask cluster up` starts one");
        return Ok(());
    }
    for component in &status.components {
        let word = if component.answers { "answers" } else { "DOES NOT ANSWER" };
        println!("{:<26}{word}", component.name);
    }
    println!("{:<26}{}", format!("node {NODE_NAME}"), if status.node_ready { "Ready" } else { "NOT READY" });
    println!("{:<26}{}", "images", status.images.join(", "));
    println!("export KUBECONFIG={}", status.kubeconfig);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_an_answer_is_read() {
        let check = |head: &[u8; 12], expected| assert_eq!(code(head), expected, "{head:?}");
        check(b"HTTP/1.0 200", Some(200));
        check(b"HTTP/1.1 503", Some(503));
        check(b"SSH-2.0-Open", None);
        check(&[0xff; 12], None);
    }

    #[test]
    fn one_silent_component_is_enough_to_be_unwell() {
        let answer = |name, answers| Answer { name, answers };
        let status = |components| Status { running: true, node_ready: true, components, ..Status::default() };
        assert!(status(vec![answer("etcd", true)]).is_well());
        assert!(!status(vec![answer("etcd", true), answer("kubelet", false)]).is_well());
    }
}
