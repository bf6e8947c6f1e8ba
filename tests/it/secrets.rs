//! Keys stay in the broker, tokens open only their own door, and no web page drives the server.

use crate::world::{World, session};
use serde_json::json;
use std::path::Path;

const PLANTED: &str = "sk-planted-0123456789abcdef";

/// Looks wherever a session can look and tells what it finds.
const LOOK: &str = r#"
name: look
rules:
  - when: { turn: 0 }
    reply:
      - tool_use: { name: Bash, input: { command: "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; ls /proc | grep -c '^[0-9]'" } }
  - when: { turn: 1 }
    reply: [{ text: "seen" }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_key_is_found_nowhere() -> anyhow::Result<()> {
    let mut world =
        World::with_env(LOOK, &[("ANTHROPIC_API_KEY", PLANTED), ("VTEAM_MODEL_KEY", PLANTED)]).await;
    world.create("look", json!({ "prompt": "look around" })).await?;
    world.settled_allowing_all("look").await;
    world.stop();
    let mut found = Vec::new();
    search(&world.data(), PLANTED.as_bytes(), &mut found);
    assert!(found.is_empty(), "the key lies in {found:?}");
    assert!(!world.server_log().contains(PLANTED));
    Ok(())
}

fn search(at: &Path, needle: &[u8], found: &mut Vec<String>) {
    let Ok(meta) = std::fs::symlink_metadata(at) else { return };
    if meta.is_dir() {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            search(&entry.path(), needle, found);
        }
    } else if meta.is_file() && std::fs::read(at).is_ok_and(|b| b.windows(needle.len()).any(|w| w == needle))
    {
        found.push(at.display().to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_wants_its_token_host_and_origin() -> anyhow::Result<()> {
    let world = World::up("name: none\nrules: [{ reply: [{ text: hi }] }]\n").await;
    world.create("door", json!({ "prompt": "hi" })).await?;
    world.settled("door").await;
    let url = |path: &str| format!("{}{path}", world.url);
    let status = async |request: reqwest::RequestBuilder| anyhow::Ok(request.send().await?.status().as_u16());
    assert_eq!(status(world.http.get(url("/health"))).await?, 200);
    for path in ["/api/projects", "/metrics", "/openapi.json", &session("door"), "/api/personas"] {
        assert_eq!(status(world.http.get(url(path))).await?, 401, "{path} without a token");
        assert_eq!(
            status(world.http.get(url(path)).bearer_auth("wrong")).await?,
            401,
            "{path} with a wrong one"
        );
        let query = format!("{path}?token={}", world.token);
        assert_eq!(status(world.http.get(url(&query))).await?, 401, "{path} with a token in the query");
    }
    let rebound = world.request(reqwest::Method::GET, "/api/projects").header("host", "evil.example");
    assert!(matches!(status(rebound).await?, 403 | 421), "another Host");
    let page = world.request(reqwest::Method::GET, "/api/projects").header("origin", "https://evil.example");
    assert_eq!(status(page).await?, 403, "another Origin");
    Ok(())
}
