use super::harness::{Server, answer};
use crate::sessions::world::diligent;
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;

/// The smallest component of its world: it exports an empty instance of that name.
fn component(id: &str, version: &str, asks: Value) -> Vec<u8> {
    let manifest = json!({
        "manifest": 1, "id": id, "version": version, "kind": "tool", "description": "d",
        "tools": [{"name": "Try", "description": "d", "inputSchema": {"type": "object"}}], "asks": asks,
    });
    embedded("vteam:plugin/tool@0.1.0", manifest)
}

fn embedded(export_name: &str, manifest: Value) -> Vec<u8> {
    // (component (instance) (export "vteam:plugin/tool@0.1.0" (instance 0)))
    let mut bytes = vec![0, b'a', b's', b'm', 0x0d, 0, 1, 0];
    bytes.extend([5, 3, 1, 1, 0]);
    let mut export = vec![1, 0, u8::try_from(export_name.len()).unwrap()];
    export.extend(export_name.as_bytes());
    export.extend([5, 0, 0]);
    bytes.extend([11, u8::try_from(export.len()).unwrap()]);
    bytes.extend(export);
    manifest::embed(&bytes, &serde_json::from_value(manifest).unwrap()).unwrap()
}

async fn upload(server: &Server, component: Vec<u8>) -> (u16, Value) {
    let request =
        server.request(Method::POST, "/api/projects/p/plugins").header("content-type", "application/wasm");
    answer(request.body(component).send().await.unwrap()).await
}

#[tokio::test]
async fn a_plugin_waits_until_its_digest_is_approved() {
    let server = Server::new(diligent()).await;
    let asks = json!([{"effect": "process", "reason": "to try"}]);
    let (status, plugin) = upload(&server, component("acme.a", "1.1.0", asks.clone())).await;
    assert_eq!((status, plugin["state"].as_str()), (201, Some("waiting")), "{plugin}");
    assert_eq!((&plugin["granted"], &plugin["asked"]), (&json!([]), &json!(["process"])));

    let approve = "/api/projects/p/plugins/acme.a/approve";
    let other = json!({"digest": model::id::Digest::of(b"other")});
    assert_eq!(server.json(Method::POST, approve, other).await.0, 409);
    let more = json!({"digest": plugin["digest"], "effects": ["net.fetch"]});
    assert_eq!(server.json(Method::POST, approve, more).await.0, 422);
    let (status, approved) = server.json(Method::POST, approve, json!({"digest": plugin["digest"]})).await;
    assert_eq!((status, approved["state"].as_str()), (200, Some("granted")), "{approved}");
    let (_, settings) = server.get("/api/projects/p/settings").await;
    assert_eq!(settings["spec"]["plugins"]["grants"][0]["digest"], plugin["digest"]);

    // Another digest has no grant, an older version does not come in, a reserved id neither.
    let (status, newer) = upload(&server, component("acme.a", "1.2.0", asks.clone())).await;
    assert_eq!((status, newer["state"].as_str()), (201, Some("waiting")), "{newer}");
    let (status, older) = upload(&server, component("acme.a", "1.0.0", asks)).await;
    assert!(status == 409 && older["detail"].as_str().unwrap().contains("older"), "{older}");
    let (status, reserved) = upload(&server, component("vteam.a", "1.0.0", json!([]))).await;
    assert!(status == 409 && reserved["detail"].as_str().unwrap().contains("reserved"), "{reserved}");

    let gone = server.request(Method::DELETE, "/api/projects/p/plugins/acme.a").send().await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(server.get("/api/projects/p/plugins").await.1["items"], json!([]));
}

#[tokio::test]
async fn a_bad_file_keeps_the_last_good_version_visibly() {
    let server = Server::new(diligent()).await;
    let follow = tokio::spawn(server.catalogue.clone().follow(telemetry::Shutdown::new()));
    let file = server.dir.join("plugins/mine.wasm");
    let until = async |wanted: &dyn Fn(&Value) -> bool| loop {
        let (_, list) = server.get("/api/projects/p/plugins").await;
        if wanted(&list) {
            return list;
        }
        tokio::task::yield_now().await;
    };
    fs::write(&file, component("acme.b", "1.0.0", json!([]))).unwrap();
    let list = until(&|list| list["items"][0]["id"] == "acme.b").await;
    assert_eq!(list["items"][0]["state"], "granted", "it asks for nothing");
    let digest = list["items"][0]["digest"].clone();

    fs::write(&file, b"half of a").unwrap();
    let list = until(&|list| list["refused"][0]["file"] == "mine.wasm").await;
    assert_eq!((&list["refused"][0]["kept"], &list["items"][0]["digest"]), (&digest, &digest));
    assert!(server.health.degraded().contains_key("plugin mine.wasm"), "{:?}", server.health.degraded());

    fs::write(&file, component("acme.b", "1.0.1", json!([]))).unwrap();
    until(&|list| list["items"][0]["version"] == "1.0.1" && list["refused"] == json!([])).await;
    assert!(!server.health.degraded().contains_key("plugin mine.wasm"));
    fs::remove_file(&file).unwrap();
    until(&|list| list["items"] == json!([])).await;
    follow.abort();
}

#[tokio::test]
async fn a_default_persona_may_be_any_that_is_there() {
    let server = Server::new(diligent()).await;
    let manifest = json!({
        "manifest": 1, "id": "acme.critic", "version": "1.0.0", "kind": "persona", "description": "d",
        "persona": {"key": "CRITIC", "name": "C", "role": "r", "answerSchema": {"type": "object"}},
    });
    let (status, plugin) = upload(&server, embedded("vteam:plugin/persona@0.1.0", manifest)).await;
    assert_eq!(status, 201, "{plugin}");
    let settings = "/api/projects/p/settings";
    let critic = json!({"defaults": {"persona": "CRITIC"}});
    assert_eq!(server.json(Method::PUT, settings, critic).await.0, 200);
    let (status, problem) =
        server.json(Method::PUT, settings, json!({"defaults": {"persona": "CRITICS"}})).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("spec.defaults.persona")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().ends_with("there are: CRITIC"), "{problem}");
    let revoked = json!({"defaults": {"persona": "CRITIC"}, "plugins": {"revoked": [plugin["digest"]]}});
    assert_eq!(server.json(Method::PUT, settings, revoked).await.0, 422);
}
