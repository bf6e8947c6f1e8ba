//! The workspace: read-only, without a way out, without FIFOs; and staged changes.

use crate::{guest::*, hosts::Recorder};
use engine::{Call, CallEnd, Staged};
use model::id::Digest;
use std::{os::unix::fs::symlink, path::Path, process::Command, sync::Arc};

fn reading(folder: &Path, input: &str) -> Call {
    let mut reading = call(input);
    reading.host = Recorder::new(folder).host();
    reading.grants = effects(&["fs.read"]);
    reading
}

async fn refused(folder: &Path, path: &str) -> String {
    match plugin("read").call(reading(folder, path)).await.end {
        CallEnd::Refused(error) => error.message().raw().to_owned(),
        other => panic!("{path}: {other:?}"),
    }
}

#[tokio::test]
async fn read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "content").unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    symlink("../file", folder.path().join("sub/inside")).unwrap();
    for path in ["/workspace/file", "/workspace/sub/../file", "/workspace/sub/inside"] {
        assert_eq!(text(plugin("read").call(reading(folder.path(), path)).await), "content", "{path}");
    }
    assert!(refused(folder.path(), "/workspace/none").await.contains("NotFound"));
    assert!(!refused(folder.path(), "/workspace/sub").await.is_empty());
}

#[tokio::test]
async fn what_is_no_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Command::new("mkfifo").arg(folder.path().join("fifo")).status().unwrap().success());
    symlink("fifo", folder.path().join("to-fifo")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    for name in ["fifo", "to-fifo", "socket"] {
        let said = refused(folder.path(), &format!("/workspace/{name}")).await;
        assert!(said.contains("Unsupported") || said.contains("unsupported"), "{name}: {said}");
    }
}

#[tokio::test]
async fn escape() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let folder = tempfile::tempdir_in(outside.path()).unwrap();
    let at = folder.path();
    std::fs::write(at.join("file"), "content").unwrap();
    symlink(outside.path().join("secret"), at.join("absolute")).unwrap();
    symlink("../secret", at.join("relative")).unwrap();
    symlink("/proc/self/root", at.join("proc")).unwrap();
    symlink("..", at.join("up")).unwrap();
    symlink("loop", at.join("loop")).unwrap();
    let paths = [
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/null",
        "/workspace/../secret",
        "/workspace/absolute",
        "/workspace/relative",
        "/workspace/proc/etc/passwd",
        "/workspace/up/secret",
        "/workspace/loop",
        "../secret",
        "/workspace/new",
    ];
    let called = plugin("escape").call(reading(at, &paths.join("\n"))).await;
    assert_eq!(text(called), "", "nothing of this may work");
    // What may be read may not be changed.
    assert_eq!(text(plugin("escape").call(reading(at, "/workspace/file")).await), "read /workspace/file");
    let mut left: Vec<_> =
        at.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["absolute", "file", "loop", "proc", "relative", "up"]);
}

async fn staged(folder: &Path, recorder: &Arc<Recorder>, input: &str) -> (Vec<String>, Vec<Staged>) {
    let mut staging = reading(folder, input);
    staging.host = recorder.host();
    staging.grants = effects(&["fs.read", "fs.write"]);
    staging.limits.staged_bytes = 1000;
    let CallEnd::Done { staged, content, .. } = plugin("stage").call(staging).await.end else { panic!() };
    let [model::message::Block::Text { text }] = content.as_slice() else { panic!() };
    (text.raw().lines().map(str::to_owned).collect(), staged)
}

#[tokio::test]
async fn stage() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "old").unwrap();
    std::fs::write(folder.path().join("b"), "b").unwrap();
    symlink("a", folder.path().join("link")).unwrap();
    let recorder = Recorder::new(folder.path());
    let at = folder.path();

    let input = "write a new\nwrite a newer\nwrite /workspace/sub/c c\ndelete b";
    let (said, changes) = staged(at, &recorder, input).await;
    assert_eq!(said, ["staged"; 4]);
    let path = |text: &str| text.parse_path();
    let base = Some(Digest::of(b"old"));
    assert_eq!(
        changes,
        [
            Staged::Write { path: path("a"), content: b"newer".to_vec(), base },
            Staged::Write { path: path("sub/c"), content: b"c".to_vec(), base: None },
            Staged::Delete { path: path("b"), base: Digest::of(b"b") },
        ]
    );
    assert_eq!(std::fs::read(at.join("a")).unwrap(), b"old", "nothing is written by a call");
    assert!(at.join("b").exists());

    let (said, changes) = staged(at, &recorder, "rename a d").await;
    assert_eq!(said, ["staged"]);
    let renamed = Staged::Rename { source: path("a"), target: path("d"), base: Digest::of(b"old") };
    assert_eq!(changes, [renamed]);

    let refused = [
        ("create a x", "Conflict"),
        ("delete none", "Invalid"),
        ("write ../x y", "Invalid"),
        ("write /etc/x y", "Invalid"),
        ("write .git/config y", "Invalid"),
        ("write sub/.Git/hooks/x y", "Invalid"),
        ("write link y", "Invalid"),
        ("rename a b", "Conflict"),
        ("big huge 1001", "TooLarge"),
    ];
    for (input, expected) in refused {
        let (said, changes) = staged(at, &recorder, input).await;
        assert!(said[0].contains(expected), "{input}: {said:?}");
        assert!(changes.is_empty(), "{input}");
    }
    let (said, changes) = staged(at, &recorder, "delete a\nwrite a x").await;
    assert!(said[1].contains("Conflict") && changes.len() == 1, "{said:?}");
    // The quota is of what is staged, not of what was ever written.
    let (said, changes) = staged(at, &recorder, "big x 600\nbig x 600\nbig y 500").await;
    assert!(
        said[0] == "staged" && said[1] == "staged" && said[2].contains("TooLarge") && changes.len() == 1,
        "{said:?}"
    );
}

trait ParsePath {
    fn parse_path(&self) -> engine::WorkspacePath;
}

impl ParsePath for str {
    fn parse_path(&self) -> engine::WorkspacePath {
        engine::WorkspacePath::parse(self).unwrap()
    }
}
