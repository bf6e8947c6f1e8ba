//! Runner and compiler confine themselves: every thread is looked at from outside and tries from inside.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The example of the same name, which the test build makes beside this binary.
fn probe() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(|deps| deps.parent()).unwrap().join("examples/probe")
}

fn check(role: &str, could: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let session = folder.path().join("session");
    std::fs::create_dir(&session).unwrap();
    std::fs::write(folder.path().join("outside"), "outside").unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut child = Command::new(probe())
        .arg(role)
        .arg(&session)
        .arg(&socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{}", server.local_addr().unwrap()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let seen: Vec<String> = lines.by_ref().take_while(|line| line != "ready").collect();
    let expected: Vec<String> = ["main", "other"]
        .iter()
        .flat_map(|thread| could.iter().map(move |what| format!("{thread}: {what}")))
        .collect();
    assert_eq!(seen, expected, "{role}");
    let tasks: Vec<_> = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap().collect();
    assert_eq!(tasks.len(), 2);
    for task in tasks {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".to_owned(), "2".to_owned()), "{role}");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{role} {set}");
        }
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_runner_keeps_its_folders_and_its_server() {
    check("runner", &["write its folder", "dial the server", "pair sockets", "allocate"]);
}

#[test]
fn the_runner_of_a_pod_keeps_its_servers_port_beside() {
    let kept = ["write its folder", "dial the server", "pair sockets", "dial its server's port", "allocate"];
    check("runner-in-a-pod", &kept);
}

#[test]
fn the_compiler_keeps_memory_and_threads() {
    check("compiler", &["allocate"]);
}
