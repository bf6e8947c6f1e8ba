use super::harness::{Server, answer};
use crate::sessions::world::diligent;
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn each_refusal_is_a_problem_that_says_what_to_do() {
    let server = Server::new(diligent()).await;
    let check = async |method: Method, path: &str, body: Value, status: u16, kind: &str, part: &str| {
        let mut request = server.request(method.clone(), path);
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{method} {path}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let (got, problem) = answer(response).await;
        assert_eq!(got, status, "{method} {path}: {problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:vteam:problem:{kind}"), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    };
    let sessions = "/api/projects/p/agentic-sessions";
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    check(get.clone(), "/nothing", Value::Null, 404, "not-found", "openapi.json").await;
    check(delete.clone(), "/api/version", Value::Null, 405, "method-not-allowed", "").await;
    check(get.clone(), "/api/projects/none", Value::Null, 404, "not-found", "create it").await;
    check(get.clone(), "/api/projects/NONE", Value::Null, 400, "malformed", "DNS label").await;
    check(delete.clone(), "/api/projects/default", Value::Null, 409, "conflict", "always there").await;
    check(post.clone(), "/api/projects", json!({"name": "p"}), 409, "conflict", "").await;
    check(get.clone(), &format!("{sessions}/none"), Value::Null, 404, "not-found", "no session of this name")
        .await;
    check(post.clone(), sessions, json!({"promt": "x"}), 422, "invalid", "did you mean \"prompt\"?").await;
    check(
        post.clone(),
        sessions,
        json!({"prompt": "x", "persona": "NOBODY"}),
        422,
        "invalid",
        "no persona NOBODY",
    )
    .await;
    check(
        post.clone(),
        sessions,
        json!({"prompt": "x", "plugins": ["acme.none"]}),
        422,
        "invalid",
        "acme.none",
    )
    .await;
    let dir = json!({"prompt": "x", "workspace": {"dir": {"path": "/no/such/folder"}}});
    check(post.clone(), sessions, dir, 422, "invalid", "/no/such/folder").await;
    let itself = json!({"prompt": "x", "workspace": {"dir": {"path": server.dir, "inPlace": true}}});
    check(post.clone(), sessions, itself, 422, "invalid", "needs mount namespaces").await;
    // What the launcher says of it; the fake one has an own folder too.
    let own = json!({"prompt": "x", "workspace": {"dir": {"path": server.dir}}});
    check(post.clone(), sessions, own, 422, "invalid", "spec.workspace.dir.path: the server's own").await;
    let both =
        json!({"prompt": "x", "workspace": {"dir": {"path": "/", "inPlace": true, "includeIgnored": true}}});
    check(post.clone(), sessions, both, 422, "invalid", "includeIgnored").await;
    let named = json!({"metadata": {"name": "a", "namespace": "q"}, "spec": {"prompt": "x"}});
    check(post.clone(), sessions, named, 422, "invalid", "metadata.namespace").await;
    check(
        put.clone(),
        "/api/projects/p/settings",
        json!({"defaults": {"budget": -1}}),
        422,
        "invalid",
        "defaults.budget",
    )
    .await;
    let settings = "/api/projects/p/settings";
    let nobody = json!({"defaults": {"persona": "NOBODY"}});
    check(put.clone(), settings, nobody, 422, "invalid", "spec.defaults.persona: there is no").await;
    let more = json!({"defaults": {"budget": 6}, "permissions": {"maxBudget": 5}});
    check(put.clone(), settings, more, 422, "invalid", "spec.defaults.budget: is more").await;
    check(
        put.clone(),
        "/api/projects/p/archives",
        json!("no archive"),
        415,
        "unsupported-media-type",
        "gzip",
    )
    .await;
    check(post.clone(), "/api/projects/p/plugins", json!("no wasm"), 422, "not-admissible", "").await;
    check(get.clone(), "/api/projects/p/plugins/acme.none", Value::Null, 404, "not-found", "no plugin").await;

    let text = server
        .request(post.clone(), sessions)
        .header("content-type", "text/plain")
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(text.status(), 415);
    let large =
        server.request(post, sessions).header("content-type", "application/json").body(vec![b' '; 3 << 20]);
    assert_eq!(answer(large.send().await.unwrap()).await.0, 413);
}

#[tokio::test]
async fn nobody_comes_in_without_the_token_or_by_another_name() {
    let server = Server::new(diligent()).await;
    let check = async |path: &str, headers: &[(&str, &str)], status: u16| {
        let mut request = server.bare(Method::GET, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{path} {headers:?}");
        response
    };
    check("/health", &[], 200).await;
    for path in ["/ready", "/metrics", "/openapi.json", "/api/version", "/api/projects", "/nothing"] {
        let refused = check(path, &[], 401).await;
        assert_eq!(refused.headers()["www-authenticate"], "Bearer");
        check(path, &[("authorization", "Bearer wrong")], 401).await;
    }
    let bearer = format!("Bearer {}", server.token);
    check("/ready", &[("authorization", &bearer)], 503).await;
    server.health.set_ready(true);
    check("/ready", &[("authorization", &bearer)], 200).await;
    check("/api/version", &[("authorization", &bearer)], 200).await;
    check("/health", &[("host", "evil.example")], 421).await;
    check("/api/version", &[("authorization", &bearer), ("origin", "http://evil.example")], 403).await;
    check(&format!("/api/version?token={}", server.token), &[], 401).await;
    check("/api/version", &[("cookie", &format!("token={}", server.token))], 401).await;
}
