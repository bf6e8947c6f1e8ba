//! First-party plugins, built, described, compiled and signed as a release does it.

use compile::{Stage, precompile};
use ed25519_dalek::{Signer as _, SigningKey};
use engine::Engine;
use model::{grant::EffectSet, id::Digest, limits::Limits};
use protocol::{
    artifact::{Signed, Statement},
    control::PluginBinding,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

pub(crate) struct Built {
    pub(crate) binding: PluginBinding,
    pub(crate) native: Vec<u8>,
}

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// `target/debug`, where the programs are.
pub(crate) fn programs() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

pub(crate) fn cargo(arguments: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let status = Command::new(env!("CARGO")).args(arguments).current_dir(root).status().unwrap();
    assert!(status.success(), "cargo {arguments:?}");
}

/// files, shell, session, and the persona STAFF_ENGINEER.
pub(crate) fn all() -> &'static [Built] {
    static BUILT: OnceLock<Vec<Built>> = OnceLock::new();
    BUILT.get_or_init(|| {
        let plugin = ["build", "--quiet", "--profile", "plugin", "--target"];
        let tools = ["wasm32-wasip2", "-p", "tool-files", "-p", "tool-shell", "-p", "tool-session"];
        cargo(&[&plugin[..], &tools[..]].concat());
        cargo(&[&plugin[..], &["wasm32-unknown-unknown", "-p", "persona-core"]].concat());
        let target = programs().parent().unwrap().to_owned();
        let tool = |name: &str| std::fs::read(target.join("wasm32-wasip2/plugin").join(name)).unwrap();
        let core = std::fs::read(target.join("wasm32-unknown-unknown/plugin/persona_core.wasm")).unwrap();
        let markdown = include_str!("../../../../plugins/personas/staff-engineer.md");
        let persona = author::stamp(&core, markdown).unwrap();
        let tools = ["tool_files.wasm", "tool_shell.wasm", "tool_session.wasm"].map(tool);
        tools.into_iter().chain([persona]).map(|raw| finish(&raw)).collect()
    })
}

fn finish(raw: &[u8]) -> Built {
    let component = match manifest::extract(raw) {
        Ok(_) => raw.to_vec(),
        Err(_) => author::finish(raw, &describe(raw)).unwrap(),
    };
    let manifest = manifest::extract(&component).unwrap();
    let (statement, native) = precompile(&component, Stage::Finished).unwrap();
    let granted: EffectSet = manifest.asks.iter().map(|ask| ask.effect.clone()).collect();
    let binding = PluginBinding {
        id: manifest.id.clone(),
        version: manifest.version.clone(),
        digest: Digest::of(&component),
        manifest: serde_json::to_value(&manifest).unwrap(),
        artifact: sign(statement),
        granted,
        config: serde_json::json!({}),
    };
    Built { binding, native }
}

fn describe(raw: &[u8]) -> String {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let engine = Engine::new(&Limits::shipped().session).unwrap();
        engine.start().unwrap();
        engine
    });
    let (statement, native) = precompile(raw, Stage::Unfinished).unwrap();
    let (signed, key, limits) = (sign(statement), key().verifying_key(), Limits::shipped().call);
    let describing = engine.describe(&native, &signed, &key, limits);
    let block =
        || tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(describing).unwrap();
    // A thread of its own: the caller is within a runtime.
    std::thread::scope(|scope| scope.spawn(block).join().unwrap())
}

fn sign(statement: Statement) -> Signed {
    let signature = hex::encode(key().sign(&statement.signed_bytes()).to_bytes());
    Signed { statement, signature }
}
