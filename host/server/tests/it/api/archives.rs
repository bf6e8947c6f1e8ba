use super::harness::{Server, answer};
use crate::sessions::world::diligent;
use reqwest::Method;
use serde_json::{Value, json};

const SESSIONS: &str = "/api/projects/p/agentic-sessions";

/// Uploads an archive; its digest.
async fn upload(server: &Server, project: &str, content: &[u8]) -> String {
    let path = format!("/api/projects/{project}/archives");
    let bytes = [&[0x1f, 0x8b], content].concat();
    let (status, made) = answer(server.request(Method::PUT, &path).body(bytes).send().await.unwrap()).await;
    assert_eq!(status, 201, "{made}");
    made["blob"].as_str().unwrap().to_owned()
}

fn from(blob: &str) -> Value {
    json!({"prompt": "do", "workspace": {"archive": {"blob": blob}}})
}

#[tokio::test]
async fn an_archive_is_of_the_project_that_it_was_uploaded_to() {
    let server = Server::new(diligent()).await;
    let check = async |path: &str, blob: &str, expected: u16| {
        let (status, said) = server.json(Method::POST, path, from(blob)).await;
        assert_eq!(status, expected, "{path} {blob}: {said}");
        said["detail"].as_str().unwrap_or_default().to_owned()
    };
    let blob = upload(&server, "p", b"ours").await;
    let elsewhere = "/api/projects/default/agentic-sessions";
    let foreign = check(elsewhere, &blob, 422).await;
    let none = check(elsewhere, &format!("sha256:{}", "0".repeat(64)), 422).await;
    assert!(foreign.contains("no such upload") && foreign == none, "{foreign}\n{none}");
    let session = server.create(from(&blob)).await;
    // It is not the other project's for being in use.
    check(elsewhere, &blob, 422).await;
    let (status, copy) = server.json(Method::POST, &format!("{session}/clone"), json!({})).await;
    assert_eq!(status, 201, "{copy}");
    // Whoever has the bytes has them.
    assert_eq!(upload(&server, "default", b"ours").await, blob);
    check(elsewhere, &blob, 201).await;
    check(SESSIONS, &blob, 201).await;
}
