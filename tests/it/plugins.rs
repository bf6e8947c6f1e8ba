//! Plugins of somebody else: how they come in, what they may do before and after somebody grants it, how they go.

use crate::{
    guests::{built, named, raw, with},
    world::{PATIENCE, World, phase},
};
use model::{
    event::{Blame, CallFinished, CallOutcome, Event, Stored},
    id::Digest,
    lifecycle::Phase,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use wasm_encoder::{
    Component, ComponentExportKind, ComponentExportSection, ComponentImportSection, ComponentTypeRef,
    ComponentTypeSection, InstanceType, Module,
};

const PLUGINS: &str = "/api/projects/default/plugins";

const TRY: &str = r#"
name: try
rules:
  - when: { turn: 0 }
    reply: [{ tool_use: { name: Try, input: {} } }]
  - when: { turn: 1 }
    reply: [{ text: "tried" }]
"#;

async fn upload(world: &World, plugin: Vec<u8>) -> anyhow::Result<(u16, Value)> {
    let response = world.request(Method::POST, PLUGINS).body(plugin).send().await?;
    let status = response.status().as_u16();
    Ok((status, response.json().await?))
}

/// What a session of this name says about the one call of `Try`.
async fn tried(world: &World, name: &str) -> anyhow::Result<(CallOutcome, String)> {
    world.create(name, json!({ "prompt": "try it" })).await?;
    let log = world.settled_allowing_all(name).await;
    assert_eq!(phase(&log), Some(Phase::Completed), "{}", world.server_log());
    let call = call(&log).expect("a call");
    Ok((call.outcome.clone(), serde_json::to_string(&call.content)?))
}

fn call(log: &[Stored]) -> Option<&CallFinished> {
    log.iter().find_map(|s| match &s.event {
        Event::CallFinished(call) => Some(call),
        _ => None,
    })
}

/// Waits until the list of plugins satisfies `holds`.
async fn until(world: &World, what: &str, holds: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let start = Instant::now();
    loop {
        let list = world.get(PLUGINS).await?;
        if holds(&list) {
            return Ok(list);
        }
        assert!(start.elapsed() < PATIENCE, "no {what}: {list}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn of<'a>(list: &'a Value, id: &str) -> Option<&'a Value> {
    list["items"].as_array()?.iter().find(|plugin| plugin["id"] == id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_does_nothing_until_its_digest_is_granted_and_nothing_after_it_is_revoked()
-> anyhow::Result<()> {
    let world = World::up(TRY).await;
    let plugin = built("process_run");
    let digest = Digest::of(&plugin).to_string();
    let (status, shown) = upload(&world, plugin.clone()).await?;
    assert_eq!(
        (status, &shown["state"], &shown["asked"]),
        (201, &json!("waiting"), &json!(["process"])),
        "{shown}"
    );
    let id = "test.process-run";
    assert_eq!(of(&world.get(PLUGINS).await?, id), Some(&shown), "it is listed as it was answered");
    assert_eq!(world.get(&format!("{PLUGINS}/{id}")).await?["manifest"]["tools"][0]["name"], "Try");

    let (outcome, said) = tried(&world, "waiting").await?;
    assert_eq!(outcome, CallOutcome::Failed { blame: Blame::Setup }, "{said}");
    assert!(said.contains("the effect process is not granted"), "{said}");
    assert!(
        said.contains("not granted to the plugin test.process-run: process"),
        "by the host, whatever the tool says: {said}"
    );

    let approve = format!("{PLUGINS}/{id}/approve");
    let other =
        world.post(&approve, &json!({ "digest": Digest::of(b"another") })).await.expect_err("refused");
    assert!(other.to_string().starts_with("409") && other.to_string().contains(&digest), "{other}");
    let more = world.post(&approve, &json!({ "digest": digest, "effects": ["net.fetch"] })).await;
    assert!(more.expect_err("refused").to_string().contains("does not ask for net.fetch"));
    let approved = world.post(&approve, &json!({ "digest": digest })).await?;
    assert_eq!((&approved["state"], &approved["granted"]), (&json!("granted"), &json!(["process"])));
    // Its words: `{}` is no program. What counts is that it came that far, past a person's approval.
    let (_, said) = tried(&world, "granted").await?;
    assert!(!said.contains("not granted"), "{said}");

    let newer = with(&plugin, |manifest| manifest["version"] = "0.2.0".into());
    let (status, shown) = upload(&world, newer).await?;
    assert_eq!((status, &shown["state"], &shown["version"]), (201, &json!("waiting"), &json!("0.2.0")));
    let (_, said) = tried(&world, "newer").await?;
    assert!(said.contains("not granted"), "a grant is for one digest: {said}");
    let (status, refused) = upload(&world, plugin).await?;
    assert_eq!(status, 409);
    assert!(refused["detail"].as_str().is_some_and(|why| why.contains("remove that one first")), "{refused}");

    world.post(&approve, &json!({ "digest": shown["digest"] })).await?;
    let mut settings = world.get("/api/projects/default/settings").await?;
    settings["spec"]["plugins"]["revoked"] = json!([shown["digest"]]);
    world.put("/api/projects/default/settings", &settings).await?;
    assert_eq!(world.get(&format!("{PLUGINS}/{id}")).await?["state"], "revoked");
    let (outcome, said) = tried(&world, "revoked").await?;
    assert_eq!(outcome, CallOutcome::Failed { blame: Blame::Model });
    assert!(said.contains("no tool of that name"), "{said}");

    world.delete(&format!("{PLUGINS}/{id}")).await?;
    assert!(of(&world.get(PLUGINS).await?, id).is_none());
    assert!(world.get(&format!("{PLUGINS}/{id}")).await.expect_err("gone").to_string().starts_with("404"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_keeps_its_plugin_but_not_a_revoked_one() -> anyhow::Result<()> {
    let world = World::up(TRY).await;
    let (_, shown) = upload(&world, built("echo")).await?;
    world.create("pinned", json!({ "prompt": "try it", "interactive": true })).await?;
    let ended = |runs: usize| {
        move |log: &[Stored]| log.iter().filter(|s| matches!(s.event, Event::RunFinished(_))).count() == runs
    };
    let log = world.until("pinned", "first run", ended(1)).await;
    assert_eq!(call(&log).map(|call| &call.outcome), Some(&CallOutcome::Done));
    let session = crate::world::session("pinned");

    // It is revoked while the session is open; the runner of the next run knows.
    let revoked = json!({ "plugins": { "revoked": [shown["digest"]] } });
    world.put("/api/projects/default/settings", &revoked).await?;
    world.post(&format!("{session}/agui/run"), &json!({ "message": "again" })).await?;
    let log = world.until("pinned", "second run", ended(2)).await;
    let last = log.iter().rev().find_map(|s| match &s.event {
        Event::CallFinished(call) => Some(call),
        _ => None,
    });
    let last = last.expect("a second call");
    assert!(matches!(last.outcome, CallOutcome::Failed { .. }), "a revoked plugin ran: {last:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drop_folder_takes_finished_files_and_keeps_the_last_good_one() -> anyhow::Result<()> {
    let world = World::up(TRY).await;
    let file = world.data().join("plugins/mine.wasm");
    let plugin = built("echo");
    let half = plugin.len() / 2;

    // Written as slowly as a copy over a network: it is not there before it is whole.
    let mut writing = std::fs::File::create(&file)?;
    std::io::Write::write_all(&mut writing, plugin.get(..half).expect("half"))?;
    let list =
        until(&world, "half a file, refused", |list| list["refused"][0]["file"] == "mine.wasm").await?;
    assert!(of(&list, "test.echo").is_none(), "{list}");
    assert!(list["refused"][0]["why"].as_str().is_some_and(|why| why.contains("cut off")), "{list}");
    std::io::Write::write_all(&mut writing, plugin.get(half..).expect("half"))?;
    drop(writing);
    let list = until(&world, "the whole file", |list| of(list, "test.echo").is_some()).await?;
    let digest = Digest::of(&plugin).to_string();
    assert_eq!(of(&list, "test.echo").map(|p| &p["state"]), Some(&json!("granted")), "it asks for nothing");
    assert_eq!(
        tried(&world, "dropped").await?,
        (CallOutcome::Done, r#"[{"type":"text","text":"{}"}]"#.to_owned())
    );

    // Other names are not looked at: a browser or an editor is still writing these.
    std::fs::write(world.data().join("plugins/.hidden.wasm"), "x")?;
    std::fs::write(world.data().join("plugins/other.wasm.part"), "x")?;
    std::fs::write(&file, "no component")?;
    let list = until(&world, "the bad file", |list| list["refused"][0]["kept"] == digest).await?;
    assert_eq!(list["refused"].as_array().map(Vec::len), Some(1), "{list}");
    assert!(list["refused"][0]["why"].as_str().is_some_and(|why| why.contains("not WebAssembly")), "{list}");
    assert_eq!(of(&list, "test.echo").map(|p| &p["digest"]), Some(&json!(digest)));
    let ready = world.get("/ready").await?.to_string();
    assert!(ready.contains("plugin mine.wasm") && ready.contains("last good"), "{ready}");
    assert_eq!(tried(&world, "kept").await?.0, CallOutcome::Done);

    // The same for names that are taken, in the folder as in an upload.
    for (id, tool, part) in
        [("vteam.mine", "Mine", "is reserved"), ("test.mine", "Read", "the name of a tool of vteam.files")]
    {
        let (status, refused) = upload(&world, named("echo", id, tool)).await?;
        assert!(
            status == 409 && refused["detail"].as_str().is_some_and(|why| why.contains(part)),
            "{refused}"
        );
        std::fs::write(&file, named("echo", id, tool))?;
        until(&world, part, |list| list["refused"][0]["why"].as_str().is_some_and(|why| why.contains(part)))
            .await?;
    }
    std::fs::remove_file(&file)?;
    until(&world, "empty folder", |list| of(list, "test.echo").is_none() && list["refused"] == json!([]))
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plugin_is_refused_with_what_to_do() -> anyhow::Result<()> {
    let world = World::up(TRY).await;
    let before = world.get(PLUGINS).await?;
    let check = async |what: &str, bytes: Vec<u8>, status: u16, parts: &[&str]| {
        let (got, problem) = upload(&world, bytes).await?;
        assert_eq!(got, status, "{what}: {problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        for part in parts {
            assert!(detail.contains(part), "{what}: {detail}");
        }
        anyhow::Ok(())
    };
    check("not wasm", b"#!/bin/sh".to_vec(), 422, &["not WebAssembly", "vteam plugins build"]).await?;
    check("core module", Module::new().finish(), 422, &["core WebAssembly module", "wasm32-wasip2"]).await?;
    check("unfinished", raw("echo"), 422, &["no manifest", "vteam plugins build"]).await?;
    let cut = built("echo");
    check("cut off", cut.get(..cut.len() / 2).expect("shorter").to_vec(), 422, &["cut off"]).await?;
    check(
        "wrong world",
        component(&[], "acme:other/world@1.0.0"),
        422,
        &["acme:other/world", "vteam:plugin/tool@0.1"],
    )
    .await?;
    let tool = "vteam:plugin/tool@0.1.0";
    check(
        "unknown import",
        component(&["wasi:keyvalue/store@0.2.0"], tool),
        422,
        &["wasi:keyvalue/store", "does not offer"],
    )
    .await?;
    check("sockets", with_manifest(&raw("sockets")), 422, &["wasi:sockets", "wasi:http"]).await?;
    check("not asked", with_manifest(&raw("process_run")), 422, &["does not ask for process", "reason"])
        .await?;
    let unknown = custom(
        &raw("echo"),
        r#"{"manifest":1,"id":"test.root","version":"0.1.0","kind":"tool","description":"d",
        "tools":[{"name":"Try","description":"d","inputSchema":{"type":"object"}}],"asks":[{"effect":"root","reason":"r"}]}"#,
    );
    check("what no policy grants", unknown, 422, &["asks[0].effect", "fs.read"]).await?;
    check(
        "too big",
        [built("echo"), custom(&[], &" ".repeat(17 << 20))].concat(),
        422,
        &["at most", "bytes"],
    )
    .await?;
    assert_eq!(world.get(PLUGINS).await?, before, "nothing of it is kept");
    Ok(())
}

/// These bytes with a custom section that holds `text`.
fn custom(bytes: &[u8], text: &str) -> Vec<u8> {
    use wasm_encoder::Encode as _;
    let mut bytes = bytes.to_vec();
    bytes.push(0);
    wasm_encoder::CustomSection { name: manifest::SECTION.into(), data: text.as_bytes().into() }
        .encode(&mut bytes);
    bytes
}

/// A component with a manifest that asks for nothing.
fn with_manifest(component: &[u8]) -> Vec<u8> {
    custom(
        component,
        r#"{"manifest":1,"id":"test.bare","version":"0.1.0","kind":"tool","description":"d",
        "tools":[{"name":"Try","description":"d","inputSchema":{"type":"object"}}]}"#,
    )
}

/// The smallest component with these imports and this export.
fn component(imports: &[&str], export: &str) -> Vec<u8> {
    let mut component = Component::new();
    let mut types = ComponentTypeSection::new();
    types.instance(&InstanceType::new());
    component.section(&types);
    let mut section = ComponentImportSection::new();
    for name in std::iter::once(&"vteam:plugin/types@0.1.0").chain(imports) {
        section.import(*name, ComponentTypeRef::Instance(0));
    }
    component.section(&section);
    let mut exports = ComponentExportSection::new();
    exports.export(export, ComponentExportKind::Instance, 0, None);
    component.section(&exports);
    with_manifest(&component.finish())
}
