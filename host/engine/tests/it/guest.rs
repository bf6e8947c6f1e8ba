//! Builds, compiles, signs and loads the guests.

use compile::{Stage, precompile};
use ed25519_dalek::{Signer, SigningKey};
use engine::{Call, CallEnd, Called, Engine, Host, Plugin};
use manifest::Manifest;
use model::{
    grant::EffectSet,
    id::Digest,
    limits::{CallLimits, Limits, SessionLimits},
    message::Block,
};
use protocol::artifact::{Signed, Statement};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
};

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(crate) fn sign(statement: Statement) -> Signed {
    let signature = hex::encode(key().sign(&statement.signed_bytes()).to_bytes());
    Signed { statement, signature }
}

/// A started engine of its own.
pub(crate) fn engine_with(limits: SessionLimits) -> Engine {
    let engine = Engine::new(&limits).unwrap();
    engine.start().unwrap();
    engine
}

/// The engine that most tests share.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| engine_with(Limits::shipped().session))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn target() -> PathBuf {
    // target/debug/deps/it-…
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

fn cargo(arguments: &[&str]) {
    let status = Command::new(env!("CARGO")).args(arguments).current_dir(repository()).status().unwrap();
    assert!(status.success(), "cargo {arguments:?}");
}

/// The component of a guest as cargo leaves it: without a manifest.
pub(crate) fn raw(name: &str) -> Vec<u8> {
    static TOOLS: OnceLock<PathBuf> = OnceLock::new();
    static PERSONA: OnceLock<Vec<u8>> = OnceLock::new();
    let common = ["build", "--quiet", "--package", "guests", "--profile", "plugin", "--target"];
    if name == "persona" {
        return PERSONA
            .get_or_init(|| {
                cargo(&[&common[..], &["wasm32-unknown-unknown", "--example", "persona"]].concat());
                let module = target().join("wasm32-unknown-unknown/plugin/examples/persona.wasm");
                let module = std::fs::read(module).unwrap();
                wit_component::ComponentEncoder::default()
                    .module(&module)
                    .unwrap()
                    .validate(true)
                    .encode()
                    .unwrap()
            })
            .clone();
    }
    let folder = TOOLS.get_or_init(|| {
        cargo(&[&common[..], &["wasm32-wasip2", "--examples"]].concat());
        target().join("wasm32-wasip2/plugin/examples")
    });
    std::fs::read(folder.join(format!("{name}.wasm"))).unwrap()
}

pub(crate) struct Built {
    pub(crate) component: Vec<u8>,
    pub(crate) manifest: Manifest,
    pub(crate) native: Vec<u8>,
    pub(crate) signed: Signed,
}

/// What the build and the server make of a guest.
pub(crate) fn build(raw: &[u8]) -> Built {
    let (statement, native) = precompile(raw, Stage::Unfinished).unwrap();
    let (signed, key, limits) = (sign(statement), key().verifying_key(), Limits::shipped().call);
    // A thread of its own: the caller may be within a runtime.
    let describe = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(engine().describe(&native, &signed, &key, limits)).unwrap()
    };
    let described = std::thread::scope(|scope| scope.spawn(describe).join().unwrap());
    let manifest = manifest::parse(&described).unwrap();
    finished(manifest::embed(raw, &manifest).unwrap())
}

pub(crate) fn finished(component: Vec<u8>) -> Built {
    let manifest = manifest::admit(&component, 1 << 20).unwrap().manifest;
    let (statement, native) = precompile(&component, Stage::Finished).unwrap();
    Built { component, manifest, native, signed: sign(statement) }
}

pub(crate) fn load(engine: &Engine, built: &Built) -> Plugin {
    let digest = Digest::of(&built.component);
    engine
        .load(&built.native, &built.signed, &key().verifying_key(), &digest, built.manifest.clone())
        .unwrap()
}

/// A guest in an engine of one's own.
pub(crate) fn plugin_in(engine: &Engine, name: &str) -> Plugin {
    static BUILT: Mutex<Option<HashMap<String, &'static Built>>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    let built: &'static Built =
        built.entry(name.to_owned()).or_insert_with(|| Box::leak(Box::new(build(&raw(name)))));
    load(engine, built)
}

pub(crate) fn plugin(name: &str) -> Plugin {
    plugin_in(engine(), name)
}

pub(crate) fn limits() -> CallLimits {
    Limits::shipped().call
}

pub(crate) fn effects(names: &[&str]) -> EffectSet {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

pub(crate) fn call(input: &str) -> Call {
    Call {
        tool: "Try".parse().unwrap(),
        input: input.to_owned(),
        context: Vec::new(),
        limits: limits(),
        grants: EffectSet::new(),
        host: Host::empty(),
    }
}

/// The text of a call that was done.
pub(crate) fn text(called: Called) -> String {
    match called.end {
        CallEnd::Done { content, .. } => match content.as_slice() {
            [Block::Text { text }] => text.raw().to_owned(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// The message of a call that failed.
pub(crate) fn failure(called: Called) -> String {
    match called.end {
        CallEnd::Failed(failure) => format!("{:?}: {}", failure.blame, failure.message),
        other => panic!("{other:?}"),
    }
}
