//! Plugins from ConfigMaps: how soon they are judged, what is said of them, whom they reach, and what sessions keep.

use crate::{
    guests::{built, named, raw, with},
    world::{Caller, PATIENCE, Project, SYSTEM, apply, bin, eventually, kubectl, kubectl_with, repository},
};
use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use model::id::Digest;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const VERDICT: &str = "vteam.ambient-code/verdict";

fn config_map(namespace: &str, name: &str, keys: &[(&str, &[u8])]) -> Value {
    let data: serde_json::Map<String, Value> =
        keys.iter().map(|(key, bytes)| ((*key).to_owned(), STANDARD.encode(bytes).into())).collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "binaryData": data, "metadata": {
        "name": name, "namespace": namespace, "labels": {"vteam.ambient-code/plugins": "true"}}})
}

fn verdict(namespace: &str, name: &str) -> anyhow::Result<Option<String>> {
    let map: Value =
        serde_json::from_str(&kubectl(&["-n", namespace, "get", "configmap", name, "-o", "json"])?)?;
    Ok(map["metadata"]["annotations"][VERDICT].as_str().map(str::to_owned))
}

/// Applies it and waits for a verdict that contains all of this. How long that took.
async fn drop_in(map: &Value, parts: &[&str]) -> anyhow::Result<Duration> {
    let at = |field: &str| map["metadata"][field].as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (at("namespace"), at("name"));
    apply(map)?;
    let applied = Instant::now();
    let mut last = None;
    while applied.elapsed() < PATIENCE {
        last = verdict(&namespace, &name)?;
        if last.as_ref().is_some_and(|text| parts.iter().all(|part| text.contains(part))) {
            return Ok(applied.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    anyhow::bail!("{name} does not say {parts:?} but {last:?}")
}

async fn list(caller: &Caller) -> anyhow::Result<Value> {
    let begun = Instant::now();
    loop {
        match caller.ask(Method::GET, "/plugins").send().await {
            // Another test has killed the server.
            Err(error) if error.is_connect() && begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answer => return Ok(answer?.error_for_status()?.json().await?),
        }
    }
}

fn of<'a>(list: &'a Value, id: &str) -> Option<&'a Value> {
    list["items"].as_array()?.iter().find(|plugin| plugin["id"] == id)
}

/// What the tool `Try` answered in a session of its own.
async fn tried(project: &Project, caller: &Caller, name: &str) -> anyhow::Result<String> {
    let spec = json!({"prompt": "Use the tool Try.", "permissionMode": "bypass"});
    project.session(name, spec)?;
    project.reaches(name, "Completed").await?;
    let events = caller.events(name).await?;
    let call = events.iter().find(|event| event["kind"] == "call.finished").context("no call")?;
    Ok(call["data"]["content"].to_string())
}

async fn approve(caller: &Caller, id: &str, grant: Value) -> anyhow::Result<(u16, Value)> {
    let path = format!("/plugins/{id}/approve");
    let answer = caller.ask(Method::POST, &path).json(&grant).send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

#[tokio::test]
async fn a_verdict_comes_soon() -> anyhow::Result<()> {
    let project = Project::new("soon")?;
    let tool = named("echo", "acme.soon", "Soon");
    let mut took = Vec::new();
    // The middle one: other tests keep the machine busy, and one of them kills the server.
    for n in 1..=5 {
        let version = format!("{n}.0.0");
        let tool = with(&tool, |manifest| manifest["version"] = version.clone().into());
        let map = config_map(&project.name, "soon", &[("soon.wasm", &tool)]);
        took.push(drop_in(&map, &["in use: acme.soon", &version]).await?);
    }
    took.sort();
    assert!(took.get(2).is_some_and(|middle| *middle < Duration::from_secs(2)), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_new_tool_is_dropped_in_granted_and_used_by_the_next_session() -> anyhow::Result<()> {
    let project = Project::new("tool")?;
    project.settings(json!({"permissions": {"allowBypass": true}}))?;
    let caller = project.caller("admin")?;
    let tool = with(&built("everything"), |manifest| manifest["id"] = "acme.everything".into());
    let digest = Digest::of(&tool).to_string();
    let map = |tool: &[u8]| config_map(&project.name, "everything", &[("everything.wasm", tool)]);
    drop_in(&map(&tool), &["in use: acme.everything 0.1.0", &digest, "asks for", "process", "state"]).await?;

    // It is there, and can do nothing.
    let shown = list(&caller).await?;
    let shown = of(&shown, "acme.everything").context("not listed")?;
    assert_eq!((&shown["state"], &shown["granted"]), (&json!("waiting"), &json!([])), "{shown}");
    let said = tried(&project, &caller, "waiting").await?;
    assert!(said.contains("not granted") && !said.contains("state Ok"), "{said}");

    // A grant is of a digest, in the project's settings, and no more than what was said.
    let grant = json!({"digest": digest, "effects": ["state"]});
    let (status, answer) = approve(&project.caller("edit")?, "acme.everything", grant.clone()).await?;
    assert_eq!(status, 403, "{answer}");
    let (status, answer) = approve(&caller, "acme.everything", grant).await?;
    assert_eq!((status, &answer["granted"]), (200, &json!(["state"])), "{answer}");
    let settings = project.get("projectsettings", "projectsettings")?;
    assert_eq!(settings["spec"]["plugins"]["grants"][0]["digest"], digest.as_str(), "{settings}");
    let rest = |spec: &Value| [&spec["permissions"], &spec["plugins"]["revoked"]].map(Value::clone);
    let before = [json!({"allowBypass": true}), Value::Null];
    assert_eq!(rest(&settings["spec"]), before, "nothing else was written: {settings}");
    // Whoever applies the rest again has no conflict with it.
    project.settings(json!({"permissions": {"allowBypass": true}, "displayName": "Plugins"}))?;
    let settings = project.get("projectsettings", "projectsettings")?;
    assert_eq!(settings["spec"]["plugins"]["grants"][0]["digest"], digest.as_str(), "{settings}");
    let said = tried(&project, &caller, "granted").await?;
    assert!(said.contains("state Ok(())") && said.contains("not granted"), "{said}");

    // Other bytes have no grant.
    let newer = with(&tool, |manifest| manifest["version"] = "0.2.0".into());
    drop_in(&map(&newer), &["in use: acme.everything 0.2.0"]).await?;
    let said = tried(&project, &caller, "newer").await?;
    assert!(!said.contains("state Ok"), "{said}");

    // It is added and removed in the cluster, and only there.
    let answer = caller.ask(Method::POST, "/plugins").body(tool).send().await?;
    let (status, problem) = (answer.status(), answer.json::<Value>().await?);
    assert!(status == 409 && problem.to_string().contains("ConfigMap"), "{status} {problem}");
    let answer = caller.ask(Method::DELETE, "/plugins/acme.everything").send().await?;
    assert_eq!(answer.status(), 409);
    kubectl(&["-n", &project.name, "delete", "configmap", "everything"])?;
    gone(&caller, "acme.everything").await
}

/// As an administrator of the project does it, who reads what is asked for before they say yes.
#[tokio::test]
async fn the_command_shows_the_asks_and_writes_the_grant() -> anyhow::Result<()> {
    let project = Project::new("command")?;
    let tool = with(&built("everything"), |manifest| manifest["id"] = "acme.shown".into());
    let digest = Digest::of(&tool).to_string();
    drop_in(&config_map(&project.name, "shown", &[("shown.wasm", &tool)]), &["in use: acme.shown"]).await?;
    let context = kubectl(&["config", "current-context"])?.trim().to_owned();
    let data = tempfile::tempdir()?;
    let approve = |account: &str, more: &[&str]| {
        let line = ["--context", &context, "--project", &project.name, "--service-account", account];
        let mut command = Command::new(bin("vteam"));
        command.env("VTEAM_DATA_DIR", data.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        let output = command.args(line).args(["plugins", "approve", "acme.shown"]).args(more).output()?;
        let said = [output.stdout, output.stderr].concat();
        anyhow::Ok((output.status.code(), String::from_utf8(said)?))
    };
    let grants = || -> anyhow::Result<Value> {
        let settings = project.list("projectsettings")?;
        Ok(settings.first().map_or(Value::Null, |settings| settings["spec"]["plugins"]["grants"].clone()))
    };
    // Without a terminal nobody says yes.
    let (code, said) = approve("admin", &[])?;
    assert!(code != Some(0) && said.contains(&digest) && said.contains("process"), "{code:?} {said}");
    assert_eq!(grants()?, Value::Null);
    let (code, said) = approve("edit", &["--yes"])?;
    assert!(code == Some(8) && said.contains("may not update projectsettings"), "{code:?} {said}");
    let (code, said) = approve("admin", &["--yes", "--effects", "state"])?;
    assert!(code == Some(0) && said.contains("approved"), "{code:?} {said}");
    let granted = grants()?;
    assert_eq!((&granted[0]["digest"], &granted[0]["effects"]), (&json!(digest), &json!(["state"])));
    Ok(())
}

async fn gone(caller: &Caller, id: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    while of(&list(caller).await?, id).is_some() {
        ensure!(begun.elapsed() < PATIENCE, "{id} is still there");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_refused_says_why_and_the_last_good_version_stays() -> anyhow::Result<()> {
    let project = Project::new("refused")?;
    let caller = project.caller("view")?;
    let map = |bytes: &[u8]| config_map(&project.name, "mine", &[("mine.wasm", bytes)]);
    drop_in(&map(&raw("echo")), &["refused: ", "no manifest"]).await?;
    let shown = list(&caller).await?;
    let refused = &shown["refused"][0];
    assert!(refused["why"].as_str().is_some_and(|why| why.contains("no manifest")), "{shown}");
    assert_eq!((&refused["file"], &refused["kept"]), (&json!("mine/mine.wasm"), &Value::Null));
    let events = project.list("events.events.k8s.io")?;
    let about = |event: &&Value| event["reason"] == "PluginRefused" && event["regarding"]["name"] == "mine";
    let event = events.iter().find(about).context("no Event")?;
    assert!(event["type"] == "Warning" && event["note"].to_string().contains("no manifest"), "{event}");

    let good = named("echo", "acme.mine", "Mine");
    let digest = Digest::of(&good).to_string();
    drop_in(&map(&good), &["in use: acme.mine", &digest]).await?;
    assert_eq!(list(&caller).await?["refused"], json!([]));
    let cut = good.get(..good.len() / 2).context("shorter")?;
    drop_in(&map(cut), &["refused: ", "cut off", "acme.mine 0.1.0", &digest, "stays in use"]).await?;
    let shown = list(&caller).await?;
    assert_eq!(shown["refused"][0]["kept"], digest.as_str(), "{shown}");
    assert_eq!(of(&shown, "acme.mine").map(|plugin| &plugin["digest"]), Some(&json!(digest)));
    let ready = caller.to(Method::GET, "/ready").send().await?.text().await?;
    assert!(!ready.contains(&project.name), "its own matter: {ready}");

    // It was said once: nobody writes what is there already.
    let version = |map: &Value| map["metadata"]["resourceVersion"].clone();
    let before = version(&project.get("configmap", "mine")?);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(version(&project.get("configmap", "mine")?), before);

    // Without the label it is no plugin.
    kubectl(&["-n", &project.name, "label", "configmap", "mine", "vteam.ambient-code/plugins-"])?;
    gone(&caller, "acme.mine").await
}

#[tokio::test]
async fn a_plugin_reaches_its_own_project_and_takes_no_first_party_name() -> anyhow::Result<()> {
    let (project, other) = (Project::new("mine")?, Project::new("other")?);
    let (mine, others) = (project.caller("view")?, other.caller("edit")?);
    let drop_tool = async |namespace: &str, name: &str, tool: Vec<u8>, parts: &[&str]| {
        drop_in(&config_map(namespace, name, &[("tool.wasm", &tool)]), parts).await
    };
    let own = named("echo", "acme.own", "Own");
    drop_tool(&project.name, "own", own.clone(), &["in use: acme.own"]).await?;
    drop_tool(&project.name, "bad", raw("echo"), &["refused"]).await?;
    assert!(of(&list(&mine).await?, "acme.own").is_some());
    let shown = list(&others).await?;
    assert!(of(&shown, "acme.own").is_none() && shown["refused"] == json!([]), "{shown}");
    let answer = others.ask(Method::GET, "/plugins/acme.own").send().await?;
    assert_eq!(answer.status(), 404);
    let named_it = others
        .ask(Method::POST, "/agentic-sessions")
        .json(&json!({"prompt": "Greet me.", "plugins": ["acme.own"]}));
    assert_eq!(named_it.send().await?.status(), 422);
    let spec = json!({"prompt": "Greet me.", "plugins": ["acme.own"]});
    other.session("named", spec)?;
    let object = other.reaches("named", "Failed").await?;
    assert_eq!(object["status"]["reason"], "PluginMissing");
    // Each may have one of this name.
    drop_tool(&other.name, "own", own, &["in use: acme.own"]).await?;

    // What all have comes from the system's namespace.
    let all = format!("e2e-{}", project.name);
    let id = format!("acme.{all}");
    drop_tool(SYSTEM, &all, named("echo", &id, &all), &["in use: ", &id]).await?;
    let seen = [of(&list(&mine).await?, &id).is_some(), of(&list(&others).await?, &id).is_some()];
    kubectl(&["-n", SYSTEM, "delete", "configmap", &all])?;
    assert_eq!(seen, [true, true]);
    gone(&mine, &id).await?;

    let before = list(&mine).await?;
    let files = of(&before, "vteam.files").context("first-party")?.clone();
    let newer = std::fs::read(repository().join("target/plugins/vteam.files.wasm"))?;
    let newer = with(&newer, |manifest| manifest["version"] = "99.0.0".into());
    drop_tool(&project.name, "shadow", newer, &["refused: the id vteam.files is reserved"]).await?;
    let tool = named("echo", "acme.read", "Read");
    drop_tool(&project.name, "shadow-tool", tool, &["refused: its tool Read", "vteam.files"]).await?;
    assert_eq!(of(&list(&mine).await?, "vteam.files"), Some(&files));

    // Both go in one breath.
    let at = |project: &Project| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own", "namespace": project.name}});
    let both = json!({"apiVersion": "v1", "kind": "List", "items": [at(&project), at(&other)]});
    kubectl_with(&["delete", "-f", "-"], &both.to_string())?;
    gone(&mine, "acme.own").await?;
    gone(&others, "acme.own").await
}

/// A persona as its author makes it.
fn persona(version: &str, words: &str) -> anyhow::Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let (text, component) = (folder.path().join("host.md"), folder.path().join("host.wasm"));
    std::fs::write(
        &text,
        format!(
            "---\nid: acme.host\nversion: {version}\nkey: HOST\nname: Hedy\nrole: Hosting\ndescription: Greets\n\
             expertise: [greeting]\nanswer: greeting\nfields:\n  - words: text, The words.\n---\n\n{words}\n\n\
             ## Analysis\n\n{{task}}\n\n{{context}}\n"
        ),
    )?;
    let built = Command::new(bin("vteam"))
        .env("VTEAM_PLUGINS_DIR", repository().join("target/plugins"))
        .args(["plugins", "build"])
        .arg(&text)
        .arg("--output")
        .arg(&component)
        .output()?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Ok(std::fs::read(component)?)
}

#[tokio::test]
async fn a_persona_is_swapped_while_a_session_runs() -> anyhow::Result<()> {
    let project = Project::new("persona")?;
    let caller = project.caller("edit")?;
    let drop_persona = async |version: &str, words: &str| {
        let component = persona(version, words)?;
        let map = config_map(&project.name, "host", &[("host.wasm", &component)]);
        drop_in(&map, &[&format!("in use: acme.host {version}")]).await?;
        anyhow::Ok(Digest::of(&component).to_string())
    };
    // Of each run, as the model was told.
    let prompted = async |session: &str| {
        let events = caller.events(session).await?;
        let prompts = events.iter().filter(|event| event["kind"] == "persona.prompted");
        let digests =
            prompts.map(|event| event["data"]["pluginDigest"].as_str().unwrap_or_default().to_owned());
        anyhow::Ok(digests.collect::<Vec<_>>())
    };
    let waits = async |session: &str, runs: usize| {
        let begun = Instant::now();
        loop {
            // At first the server does not know it.
            let events = caller.events(session).await.unwrap_or_default();
            let ended: Vec<&Value> = events.iter().filter(|event| event["kind"] == "run.finished").collect();
            if ended.len() >= runs {
                let well = ended.iter().all(|event| event["data"]["outcome"] == "completed");
                ensure!(well, "{ended:?}: {}", project.about(session));
                return anyhow::Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "{ended:?}: {}", project.about(session));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let first = drop_persona("1.0.0", "You are the first host.").await?;
    let spec = |prompt: &str| {
        json!({"prompt": prompt, "persona": "HOST", "interactive": true,
        "workspace": {"persistent": true}})
    };
    project.session("before", spec("Say a word."))?;
    waits("before", 1).await?;
    assert_eq!(prompted("before").await?, [first.clone()]);

    let second = drop_persona("1.1.0", "You are the second host.").await?;
    project.session("after", spec("Say a word."))?;
    waits("after", 1).await?;
    assert_eq!(prompted("after").await?, [second]);

    // The one that was there goes on as it was: in its runner, and in the next one.
    let say = async |runs: usize| {
        let path = "/agentic-sessions/before/agui/run";
        let said =
            caller.ask(Method::POST, path).json(&json!({"message": "Say a word again."})).send().await?;
        ensure!(said.status().is_success(), "{}", said.text().await?);
        waits("before", runs).await
    };
    say(2).await?;
    let stopped = caller.ask(Method::POST, "/agentic-sessions/before/stop").send().await?;
    assert_eq!(stopped.status(), 202);
    project.reaches("before", "Stopped").await?;
    // Even when there is no such persona any more.
    kubectl(&["-n", &project.name, "delete", "configmap", "host"])?;
    gone(&caller, "acme.host").await?;
    say(3).await?;
    assert_eq!(prompted("before").await?, [first.clone(), first.clone(), first]);
    let refused = caller.ask(Method::POST, "/agentic-sessions").json(&spec("Say a word.")).send().await?;
    assert_eq!(refused.status(), 422);
    Ok(())
}

/// With a custom section that nothing compresses.
fn with_noise(mut component: Vec<u8>, bytes: usize) -> Vec<u8> {
    use wasm_encoder::Encode as _;
    let mut state = 1_u64;
    let mut next = || {
        // Knuth's generator; the upper bits are the random ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    let noise: Vec<u8> = (0..bytes).map(|_| next()).collect();
    component.push(0);
    wasm_encoder::CustomSection { name: "noise".into(), data: noise.into() }.encode(&mut component);
    component
}

#[tokio::test]
async fn a_large_one_comes_compressed_or_in_parts() -> anyhow::Result<()> {
    let project = Project::new("large")?;
    let caller = project.caller("view")?;
    let gzip = |bytes: &[u8]| -> anyhow::Result<Vec<u8>> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes)?;
        Ok(encoder.finish()?)
    };
    let packed = gzip(&named("echo", "acme.packed", "Packed"))?;
    drop_in(&config_map(&project.name, "packed", &[("packed.wasm.gz", &packed)]), &["in use: acme.packed"])
        .await?;
    let split = gzip(&named("echo", "acme.split", "Split"))?;
    let (head, tail) = split.split_at(split.len() / 2);
    let part = |n: &str, bytes: &[u8]| {
        config_map(&project.name, &format!("split-{n}"), &[(&format!("split.wasm.gz.{n}"), bytes)])
    };
    drop_in(&part("0", head), &["refused: it ends early"]).await?;
    drop_in(&part("1", tail), &["in use: acme.split"]).await?;
    let text = verdict(&project.name, "split-0")?.context("no verdict")?;
    assert!(text.contains("in use: acme.split"), "each part says so: {text}");
    assert!(of(&list(&caller).await?, "acme.split").is_some());
    // As its author brings it: too large for two of them.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("big.wasm");
    std::fs::write(&file, with_noise(named("echo", "acme.big", "Big"), 2 << 20))?;
    let pack = Command::new(bin("vteam")).args(["plugins", "pack"]).arg(&file).output()?;
    ensure!(pack.status.success(), "{}", String::from_utf8_lossy(&pack.stderr));
    kubectl_with(
        &["-n", &project.name, "apply", "--server-side", "-f", "-"],
        &String::from_utf8(pack.stdout)?,
    )?;
    for part in 0..3 {
        let said = || verdict(&project.name, &format!("acme.big.{part}"));
        eventually("all parts are in use", || {
            Ok(said()?.is_some_and(|text| text.contains("in use: acme.big")).then_some(()))
        })
        .await?;
    }
    let bomb = gzip(&vec![0; 17 << 20])?;
    drop_in(&config_map(&project.name, "bomb", &[("bomb.wasm.gz", &bomb)]), &["refused: unpacked it has"])
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_first_party_ones_install_from_a_folder() -> anyhow::Result<()> {
    let _project = Project::new("first")?;
    let folder = repository().join("manifests/plugins").display().to_string();
    kubectl(&["apply", "--server-side", "-k", &folder])?;
    let judged = eventually("all are judged", || {
        let selector = "vteam.ambient-code/plugins=true,app.kubernetes.io/part-of=vteam";
        let maps = kubectl(&["-n", SYSTEM, "get", "configmaps", "-l", selector, "-o", "json"])?;
        let maps: Value = serde_json::from_str(&maps)?;
        let said = |map: &Value| map["metadata"]["annotations"][VERDICT].as_str().map(str::to_owned);
        let items = maps["items"].as_array().context("no list")?;
        Ok(items.iter().map(said).collect::<Option<Vec<String>>>().filter(|said| said.len() >= 7))
    })
    .await;
    kubectl(&["delete", "-k", &folder])?;
    for text in judged? {
        assert!(text.contains(": in use: vteam."), "the same as in the image: {text}");
    }
    Ok(())
}

/// Its account may read all ConfigMaps; this is what it may write.
#[tokio::test]
async fn the_servers_account_writes_nothing_but_verdicts() -> anyhow::Result<()> {
    let project = Project::new("least")?;
    let labelled = config_map(&project.name, "labelled", &[("notes.txt", b"words")]);
    drop_in(&labelled, &["notes.txt: no component"]).await?;
    let mut other = config_map(&project.name, "other", &[("notes.txt", b"words")]);
    other["metadata"]["labels"] = json!({});
    apply(&other)?;
    let account = "--as=system:serviceaccount:vteam-system:vteam-server";
    let patch = |name: &str, mut patch: Value| {
        patch["apiVersion"] = "v1".into();
        patch["kind"] = "ConfigMap".into();
        patch["metadata"]["name"] = name.into();
        let args = ["-n", &project.name, "apply", "--server-side", "--force-conflicts", "--validate=false"];
        let manager = "--field-manager=vteam-server";
        kubectl_with(&[&args[..], &[account, manager, "-f", "-"]].concat(), &patch.to_string())
    };
    let check = |name: &str, change: Value, part: &str| -> anyhow::Result<()> {
        let refused = patch(name, change.clone()).err().with_context(|| format!("{name} took {change}"))?;
        ensure!(refused.to_string().contains(part), "{change}: {refused}");
        Ok(())
    };
    let annotation = |key: &str| json!({"metadata": {"annotations": {key: "x"}}});
    check("other", annotation(VERDICT), "only ConfigMaps with the label")?;
    check("labelled", json!({"data": {"more": "x"}}), "changes nothing of a ConfigMap")?;
    check("labelled", json!({"binaryData": {"notes.txt": "eA=="}}), "changes nothing of a ConfigMap")?;
    check("labelled", json!({"metadata": {"labels": {"a": "b"}}}), "changes nothing of a ConfigMap")?;
    check("labelled", annotation("other"), "changes nothing of a ConfigMap")?;
    patch("labelled", annotation(VERDICT))?;
    let may = |verb: &str, what: &str| {
        kubectl(&["-n", &project.name, "auth", "can-i", verb, what, account]).is_ok()
    };
    for (verb, what) in
        [("create", "configmaps"), ("delete", "configmaps"), ("list", "secrets"), ("get", "secrets")]
    {
        assert!(!may(verb, what), "{verb} {what}");
    }
    Ok(())
}
