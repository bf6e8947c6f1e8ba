//! Files of a session, written from outside.

use super::harness::{PATIENCE, Server, answer};
use crate::sessions::{
    fake::Fake,
    world::{diligent, play},
};
use bytes::Bytes;
use protocol::{
    control::{FromRunner, FromServer, Reply, Request},
    http::BLOBS,
};
use reqwest::{Body, Method};
use serde_json::json;
use std::{io, path::Path, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

/// Waits until these bytes lie in a file that is not finished.
async fn until_written(blobs: &Path, bytes: &[u8]) {
    let written = async {
        loop {
            let files = std::fs::read_dir(blobs.join("unfinished")).into_iter().flatten().flatten();
            if files.into_iter().any(|file| std::fs::read(file.path()).is_ok_and(|found| found == bytes)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, written).await.is_ok(), "what came is not on the disk");
}

#[tokio::test]
async fn a_file_goes_to_the_disk_as_it_comes_and_then_to_the_runner() {
    let (got, mut written) = mpsc::unbounded_channel();
    let server = Server::new(play(move |stage| {
        let got = got.clone();
        async move {
            let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
            loop {
                let next = fake.next().await?;
                let FromServer::Request { id, request: Request::Write { path, blob } } = next else {
                    continue;
                };
                let (_, bytes) = fake.http("GET", &format!("{BLOBS}/{blob}"), vec![]).await;
                got.send((path, bytes)).unwrap();
                fake.say(&FromRunner::Response { id, result: Ok(Reply::Done) }).await?;
            }
        }
    }))
    .await;
    let session = server.create(json!({"interactive": true, "prompt": "wait"})).await;
    while server.get(&session).await.1["status"]["phase"] != "Running" {
        tokio::task::yield_now().await;
    }
    let (pieces, body) = mpsc::channel::<io::Result<Bytes>>(1);
    let request = server.request(Method::PUT, &format!("{session}/workspace/a/b.txt"));
    let sent = tokio::spawn(request.body(Body::wrap_stream(ReceiverStream::new(body))).send());
    pieces.send(Ok("half ".into())).await.unwrap();
    until_written(&server.dir.join("blobs"), b"half ").await;
    pieces.send(Ok("of it".into())).await.unwrap();
    drop(pieces);
    assert_eq!(timeout(PATIENCE, sent).await.unwrap().unwrap().unwrap().status(), 204);
    assert_eq!(written.recv().await.unwrap(), ("a/b.txt".to_owned(), b"half of it".to_vec()));
}

#[tokio::test]
async fn a_file_of_no_session_is_not_taken() {
    let server = Server::new(diligent()).await;
    let none = "/api/projects/p/agentic-sessions/none/workspace/a";
    let (status, problem) = answer(server.request(Method::PUT, none).body("x").send().await.unwrap()).await;
    assert_eq!((status, problem["type"].as_str()), (404, Some("urn:vteam:problem:not-found")), "{problem}");
}
