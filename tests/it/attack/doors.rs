//! Tokens and pages at doors that are not theirs, and what gets into the server's log.

use super::script;
use crate::world::{World, session};
use serde_json::json;
use std::{net::TcpStream, os::unix::net::UnixStream, path::Path};

/// The status that a request gets, byte for byte as written here.
fn status(mut stream: impl std::io::Read + std::io::Write, request: &str) -> u16 {
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).expect("an answer");
    let line = String::from_utf8_lossy(&answer[..read]).into_owned();
    line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{line:?}"))
}

pub(super) fn over_tcp(world: &World, method: &str, path: &str, more: &str) -> u16 {
    let host = world.url.trim_start_matches("http://");
    let stream = TcpStream::connect(host).expect("the server");
    let token = &world.token;
    status(
        stream,
        &format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n{more}\r\n"
        ),
    )
}

fn over_unix(socket: &Path, path: &str, token: &str) -> u16 {
    let stream = UnixStream::connect(socket).expect("the socket");
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: server\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    status(stream, &request)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_no_other_door() -> anyhow::Result<()> {
    let world = World::up(&script(&[])).await;
    world.create("door", json!({ "prompt": "go", "interactive": true })).await?;
    let sockets = world.data().join("run");
    let runner = sockets.join("runner.sock");
    for path in ["/runner/v1/history?after=0", "/runner/v1/control", "/runner/v1/blobs/sha256:00"] {
        assert_eq!(over_unix(&runner, path, &world.token), 401, "the user's token at {path}");
        assert_eq!(over_unix(&runner, path, ""), 401, "no token at {path}");
        assert_eq!(over_tcp(&world, "GET", path, ""), 404, "{path} where people come in");
    }
    assert_eq!(over_unix(&runner, "/api/projects", &world.token), 404, "REST at the runners' socket");
    let api = sockets.join("api.sock");
    assert_eq!(over_unix(&api, "/api/projects", &world.token), 200);
    assert_eq!(over_unix(&api, "/api/projects", "vr1.x.1.00"), 401, "something like a runner's token");
    for path in ["token", "run", "run/api.sock", "run/runner.sock", "keys/artifact.key", ""] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(world.data().join(path))?.permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path:?} is of its user alone: {mode:o}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_elsewhere_changes_and_reads_nothing() -> anyhow::Result<()> {
    let world = World::up(&script(&[])).await;
    world.create("page", json!({ "prompt": "go", "interactive": true })).await?;
    let base = session("page");
    let changing = [
        ("POST", format!("{base}/stop")),
        ("POST", format!("{base}/agui/run")),
        ("POST", format!("{base}/approvals/x")),
        ("DELETE", base.clone()),
        ("GET", format!("{base}/agui/events")),
        ("GET", format!("{base}/events")),
    ];
    for (method, path) in &changing {
        for origin in ["https://evil.example", "null", "http://127.0.0.1"] {
            let foreign = format!("origin: {origin}\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n");
            assert_eq!(over_tcp(&world, method, path, &foreign), 403, "{method} {path} from {origin}");
        }
        let upgrade = "upgrade: websocket\r\n";
        assert_eq!(over_tcp(&world, method, path, upgrade), 403, "{method} {path} as a WebSocket");
    }
    let answer = world.request(reqwest::Method::GET, &base).send().await?;
    assert!(answer.status().is_success() && answer.headers().get("access-control-allow-origin").is_none());
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert!(answer.headers()["content-security-policy"].to_str()?.contains("sandbox"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_lines_into_the_servers_log_or_a_terminal() -> anyhow::Result<()> {
    const FORGED: &str =
        "\u{1b}]0;owned\u{7}\u{1b}[2J\n{\"level\":\"ERROR\",\"message\":\"forged\"}\r\u{202e}";
    let world = World::up(&script(&[
        (FORGED, json!({})),
        ("Read", json!({ "file_path": FORGED })),
        ("Write", json!({ "file_path": "a\u{1b}[2Jb", "content": FORGED })),
    ]))
    .await;
    let spec = json!({ "prompt": FORGED, "displayName": FORGED, "permissionMode": "acceptEdits" });
    world.create("forge", spec).await?;
    world.settled("forge").await;
    let log = world.server_log();
    for bad in ["\u{1b}", "\u{7}", "\u{202e}", "\n{\"level\":\"ERROR\",\"message\":\"forged\""] {
        assert!(!log.contains(bad), "{bad:?} in {log}");
    }
    for arguments in [
        &["sessions", "ls"][..],
        &["sessions", "get", "forge"],
        &["sessions", "logs", "forge"],
        &["sessions", "diff", "forge"],
    ] {
        let printed = world.vteam(arguments).output()?;
        let text = String::from_utf8(printed.stdout)? + &String::from_utf8(printed.stderr)?;
        assert!(printed.status.success(), "{arguments:?}: {text}");
        for bad in ["\u{1b}", "\u{7}", "\u{202e}", "\r"] {
            assert!(!text.contains(bad), "{arguments:?} prints {bad:?}: {text:?}");
        }
    }
    Ok(())
}
