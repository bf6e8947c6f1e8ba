use super::*;
use crate::catalogue::Origin;
use serde_json::json;

fn plugin() -> Plugin {
    let manifest =
        json!({"manifest": 1, "id": "acme.a", "version": "1.0.0", "kind": "tool", "description": "d"});
    let component = Bytes::from_static(b"component");
    Plugin {
        digest: Digest::of(&component),
        manifest: serde_json::from_value(manifest).unwrap(),
        origin: Origin::Dropped,
        component,
    }
}

/// A program in the compiler's place: what the server believes of its answers is what is tested here.
fn native(dir: &Path, script: &str) -> Native {
    let (text, compiler) = (dir.join("compiler.sh"), dir.join("compiler"));
    fs::write(&text, format!("#!/bin/sh\n{script}")).unwrap();
    // By a process of its own: a descriptor open for writing that another test's child inherits makes it "busy".
    let installed =
        std::process::Command::new("install").args(["-m", "755"]).args([&text, &compiler]).status().unwrap();
    assert!(installed.success());
    Native::open(dir.join("native"), compiler, Key::open(&dir.join("key")).unwrap()).unwrap()
}

fn answer(component: &[u8], code: &str) -> String {
    let header = json!({
        "component": Digest::of(component), "artifact": Digest::of(code.as_bytes()),
        "engineId": "e", "target": "t",
    })
    .to_string();
    let length: String =
        (header.len() as u64).to_be_bytes().iter().map(|byte| format!("\\{byte:03o}")).collect();
    format!("cat > /dev/null; printf '{length}%s%s' '{header}' '{code}'; echo x >> \"$(dirname $0)/ran\"")
}

#[tokio::test]
async fn what_the_compiler_makes_is_signed_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = plugin();
    let made = native(dir.path(), &answer(b"component", "code"));
    let engine = EngineOf { id: "e", target: "t" };
    let signed = made.artifact(&plugin, Some(engine)).await.unwrap();
    assert!(made.key.signed(&signed));
    assert_eq!(made.read(&signed.statement.artifact).unwrap(), "code");

    let again = native(dir.path(), &answer(b"component", "code"));
    assert_eq!(again.artifact(&plugin, Some(engine)).await.unwrap(), signed);
    assert_eq!(fs::read_to_string(dir.path().join("ran")).unwrap(), "x\n", "made once");

    // Code that somebody put in its place is not believed.
    fs::write(again.code(&signed.statement.artifact), "evil").unwrap();
    assert!(again.read(&signed.statement.artifact).is_none());
    let third = native(dir.path(), &answer(b"component", "code"));
    assert_eq!(third.artifact(&plugin, Some(engine)).await.unwrap(), signed);
    assert_eq!(fs::read_to_string(dir.path().join("ran")).unwrap(), "x\nx\n", "made again");

    let other = EngineOf { id: "other", target: "t" };
    assert!(matches!(third.artifact(&plugin, Some(other)).await, Err(CompileError::OtherEngine)));
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    async fn check(script: &str, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let error = native(dir.path(), script).artifact(&plugin(), None).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    check("echo '{\"error\": \"no component\"}' >&2; exit 2", "refused by the compiler: no component").await;
    check("echo oops >&2; exit 1", "oops").await;
    check("cat > /dev/null; echo nonsense", "cannot be read").await;
    check(&answer(b"other", "code"), "about other bytes").await;
    let dir = tempfile::tempdir().unwrap();
    let gone = Native::open(
        dir.path().join("n"),
        dir.path().join("none"),
        Key::open(&dir.path().join("k")).unwrap(),
    );
    let error = gone.unwrap().artifact(&plugin(), None).await.unwrap_err();
    assert!(error.to_string().contains("install vteam-compile"), "{error}");
}
