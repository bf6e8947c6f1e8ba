//! What the guests import, and what is refused of it.

use crate::guest::*;
use compile::{Stage, precompile};

/// A guest imports only what it uses.
#[test]
fn unused_interfaces_are_not_imported() {
    let imports = manifest::names(&raw("echo")).unwrap().imports;
    let ours: Vec<&String> = imports.iter().filter(|name| !name.starts_with("wasi:")).collect();
    assert!(ours.iter().all(|name| name.starts_with("vteam:plugin/types@")), "{ours:?}");
    assert_eq!(manifest::names(&raw("persona")).unwrap().imports, ["vteam:plugin/types@0.1.0"]);
}

#[test]
fn sockets() {
    let error = precompile(&raw("sockets"), Stage::Unfinished).unwrap_err().to_string();
    assert!(error.contains("components have no sockets"), "{error}");
}

#[test]
fn asks_cover_imports() {
    for (name, missing) in [("process_run", "process"), ("stage", "fs.write"), ("http_get", "net.fetch")] {
        let built = build(&raw(name));
        let mut manifest = built.manifest.clone();
        manifest.asks.retain(|ask| ask.effect.as_str() != missing);
        manifest.tools[0].effects.retain(|effect| effect.as_str() != missing);
        let component = manifest::embed(&built.component, &manifest).unwrap();
        let error = manifest::admit(&component, 1 << 20).unwrap_err().to_string();
        assert!(error.contains(&format!("does not ask for {missing}")), "{name}: {error}");
    }
}

/// Each guest has a test of its name.
#[test]
fn every_guest_is_tested() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read =
        |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(entry.unwrap().path()).unwrap();
    let tests: String = here.join("tests/it").read_dir().unwrap().map(read).collect();
    for guest in here.join("../../tests/guests/examples").read_dir().unwrap() {
        let name = guest.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(tests.contains(&format!("fn {name}()")), "no test is called {name}");
    }
}
