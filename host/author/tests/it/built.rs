//! From source to a loaded plugin, the way a build and a server do it.

use compile::{Stage, precompile};
use ed25519_dalek::{Signer, SigningKey};
use engine::{Engine, Plugin};
use manifest::Manifest;
use model::{id::Digest, limits::Limits};
use protocol::artifact::{Signed, Statement};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock},
};

/// The largest component that fits a ConfigMap.
pub(crate) const CONFIG_MAP_BYTES: usize = 1 << 20;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn sign(statement: Statement) -> Signed {
    let signature = hex::encode(key().sign(&statement.signed_bytes()).to_bytes());
    Signed { statement, signature }
}

pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let engine = Engine::new(&Limits::shipped().session).unwrap();
        engine.start().unwrap();
        engine
    })
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What cargo makes of a guest package.
fn artefact(package: &str, triple: &str) -> Vec<u8> {
    let arguments = ["build", "--quiet", "--profile", "plugin", "--package", package, "--target", triple];
    let status = Command::new(env!("CARGO")).args(arguments).current_dir(repository()).status().unwrap();
    assert!(status.success(), "cargo {arguments:?}");
    // target/debug/deps/it-…
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    std::fs::read(target.join(triple).join("plugin").join(format!("{}.wasm", package.replace('-', "_"))))
        .unwrap()
}

pub(crate) fn core() -> Vec<u8> {
    static CORE: OnceLock<Vec<u8>> = OnceLock::new();
    CORE.get_or_init(|| artefact("persona-core", "wasm32-unknown-unknown")).clone()
}

/// Asks a component what it is, and makes it a plugin.
pub(crate) fn finish(component: &[u8]) -> Vec<u8> {
    let (statement, native) = precompile(component, Stage::Unfinished).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (signed, key) = (sign(statement), key().verifying_key());
    let described = engine().describe(&native, &signed, &key, Limits::shipped().call);
    let described =
        std::thread::scope(|scope| scope.spawn(|| runtime.block_on(described)).join().unwrap().unwrap());
    author::finish(component, &described).unwrap()
}

pub(crate) fn load(component: &[u8]) -> Plugin {
    let manifest: Manifest = manifest::admit(component, 2 * CONFIG_MAP_BYTES).unwrap().manifest;
    let (statement, native) = precompile(component, Stage::Finished).unwrap();
    let digest = Digest::of(component);
    engine().load(&native, &sign(statement), &key().verifying_key(), &digest, manifest).unwrap()
}

/// A tool package, finished; made once.
pub(crate) fn tool(package: &str) -> (Plugin, usize) {
    static BUILT: OnceLock<Mutex<HashMap<String, (Plugin, usize)>>> = OnceLock::new();
    let mut built = BUILT.get_or_init(Mutex::default).lock().unwrap();
    let entry = built.entry(package.to_owned()).or_insert_with(|| {
        let component = finish(&artefact(package, "wasm32-wasip2"));
        (load(&component), component.len())
    });
    entry.clone()
}

/// A Markdown persona, finished.
pub(crate) fn persona(markdown: &str) -> Vec<u8> {
    finish(&author::stamp(&core(), markdown).unwrap())
}
