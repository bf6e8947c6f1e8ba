//! Plugins that are not ours: the guests of the tests, finished as an author does, with the command line.

use crate::world::bin;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// A guest as cargo leaves it: without a manifest.
pub(crate) fn raw(name: &str) -> Vec<u8> {
    std::fs::read(raw_file(name)).expect("the guest")
}

fn raw_file(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let arguments = [
            "build",
            "--quiet",
            "--package",
            "guests",
            "--examples",
            "--profile",
            "plugin",
            "--target",
            "wasm32-wasip2",
        ];
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let built = Command::new(env!("CARGO")).args(arguments).current_dir(repository).status();
        assert!(built.expect("cargo").success(), "the guests do not build");
        let exe = std::env::current_exe().expect("own path");
        exe.ancestors().nth(3).expect("target folder").join("wasm32-wasip2/plugin/examples")
    });
    folder.join(format!("{name}.wasm"))
}

/// A guest after `vteam plugins build`: an admissible plugin.
pub(crate) fn built(name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("plugin.wasm");
    let mut command = Command::new(bin("vteam"));
    command.env_clear().env("HOME", folder.path()).args(["plugins", "build"]).arg(raw_file(name));
    let ended = command.arg("--output").arg(&output).stdin(Stdio::null()).output().expect("vteam");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    std::fs::read(output).expect("the plugin")
}

/// The same code under another manifest.
pub(crate) fn with(plugin: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let manifest = manifest::extract(plugin).expect("a manifest");
    let mut document = serde_json::to_value(manifest).expect("JSON");
    change(&mut document);
    manifest::embed(plugin, &serde_json::from_value(document).expect("still a manifest")).expect("embedded")
}

/// A plugin of this id whose one tool has this name.
pub(crate) fn named(guest: &str, id: &str, tool: &str) -> Vec<u8> {
    with(&built(guest), |manifest| {
        manifest["id"] = id.into();
        manifest["tools"][0]["name"] = tool.into();
    })
}
