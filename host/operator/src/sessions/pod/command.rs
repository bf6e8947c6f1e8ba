//! What the two containers run, and where things are in them. The other side of it is `vteam-runner` and `vteam-exec`.

use super::{super::judge::Wish, Server, place};

pub(super) const SHARED: &str = "/run/vteam";
pub(super) const SECRETS: &str = "/run/secrets/vteam";
pub(super) const TOKEN: &str = "token";
pub(super) const CA: &str = "ca.crt";
pub(super) const SESSION: &str = "/var/lib/vteam-session";
pub(super) const WORKSPACE: &str = "/workspace";
pub(super) const HOME: &str = "/home/vteam";
pub(super) const TMP: &str = "/tmp";
/// Less than the pod's grace period.
const GRACE_SECONDS: u32 = 25;

/// Arguments of the runner's image, whose entry point is the runner.
pub(super) fn runner(wish: &Wish, server: &Server) -> Vec<String> {
    let flag = |name: &str, value: String| [format!("--{name}"), value];
    // One that can do without programs does not wait for them.
    let at_once = (!wish.accepted.needs_programs).then(|| "--dial-at-once".to_owned());
    let flags = [
        flag("install-launcher", SHARED.to_owned()),
        flag("exec-socket", format!("{SHARED}/exec.sock")),
        flag("connect", server.url.clone()),
        flag("server-name", server.name.clone()),
        flag("ca", format!("{SECRETS}/{CA}")),
        flag("token-file", format!("{SECRETS}/{TOKEN}")),
        flag("session-dir", SESSION.to_owned()),
        flag("workspace", WORKSPACE.to_owned()),
        flag("grace", GRACE_SECONDS.to_string()),
    ];
    flags.into_iter().flatten().chain(at_once).collect()
}

/// The shell waits for the launcher that the runner puts there, and becomes it. As a container's first process it would not
/// hear SIGTERM without saying so.
pub(super) fn tools(wish: &Wish) -> Vec<String> {
    let wait = format!(
        r#"trap 'exit 143' TERM; until [ -x {SHARED}/vteam-exec ]; do sleep 0.05; done; exec {SHARED}/vteam-exec "$@""#
    );
    let socket = format!("{SHARED}/exec.sock");
    // A program that takes all is ended before the whole container is.
    let memory = format!("memory-bytes={}", place::memory(wish) / 8 * 7);
    [
        "/bin/sh",
        "-c",
        &wait,
        "vteam-exec",
        "--listen",
        &socket,
        "--workspace",
        WORKSPACE,
        "--home",
        HOME,
        "--tmp",
        TMP,
        "--limit",
        &memory,
    ]
    .map(str::to_owned)
    .to_vec()
}
