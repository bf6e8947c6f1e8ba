use crate::host::{Ended, World};
use serde_json::json;
use std::{fs, os::unix::fs::symlink};

fn text(text: &str) -> Ended {
    Ended::Text(text.to_owned())
}

#[tokio::test]
async fn files_are_read_written_and_edited() {
    let world =
        World::new("tool-files", &[("src/a.rs", "fn a() {\n    one();\n}\n"), ("pic.png", "\u{89}PNG")]);
    let content = |path: &str| fs::read_to_string(world.path().join(path)).unwrap();

    let read = world.call("Read", json!({"file_path": "/workspace/src/a.rs"})).await;
    assert_eq!(read, text("     1\tfn a() {\n     2\t    one();\n     3\t}\n"));

    let written = world.call("Write", json!({"file_path": "docs/new.md", "content": "# New\n"})).await;
    assert_eq!(written, text("Created /workspace/docs/new.md (1 lines)."));
    assert_eq!(content("docs/new.md"), "# New\n");

    let edit = json!({"file_path": "src/a.rs", "old_string": "one()", "new_string": "two()"});
    let edited = world.call("Edit", edit.clone()).await;
    let expected = "Edited /workspace/src/a.rs. Replaced the text at line 2. It now reads:\n     1\tfn a() {\n     2\t    two();\n     3\t}\n";
    assert_eq!(edited, text(expected));
    assert_eq!(content("src/a.rs"), "fn a() {\n    two();\n}\n");
    assert_eq!(
        world.call("Edit", edit).await,
        Ended::Invalid("old_string was not found in /workspace/src/a.rs.".to_owned())
    );

    let edits =
        json!([{"old_string": "a()", "new_string": "b()"}, {"old_string": "two", "new_string": "three"}]);
    world.call("MultiEdit", json!({"file_path": "src/a.rs", "edits": edits})).await;
    assert_eq!(content("src/a.rs"), "fn b() {\n    three();\n}\n");

    let tree = world.call("LS", json!({"path": "/workspace", "ignore": ["*.png"]})).await;
    assert_eq!(tree, text("- /workspace/\n  - docs/\n    - new.md\n  - src/\n    - a.rs\n"));
}

#[tokio::test]
async fn images_are_shown() {
    let world = World::new("tool-files", &[]);
    fs::write(world.path().join("x"), b"\x89PNG\r\n\x1a\n").unwrap();
    assert_eq!(world.call("Read", json!({"file_path": "x"})).await, Ended::Image("\"image/png\"".to_owned()));
}

#[tokio::test]
async fn nothing_outside_the_workspace_is_reached() {
    let world = World::new("tool-files", &[("a", "")]);
    symlink("/etc/passwd", world.path().join("link")).unwrap();
    symlink("/etc", world.path().join("folder")).unwrap();
    for (path, leads) in [
        ("/etc/passwd", "is outside"),
        ("../x", "is outside"),
        ("link", "leads out"),
        ("folder/passwd", "leads out"),
    ] {
        match world.call("Read", json!({"file_path": path})).await {
            Ended::Invalid(message) => assert!(message.contains(leads), "{message}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    let missing = world.call("Read", json!({"file_path": "A"})).await;
    let expected = "/workspace/A does not exist. Did you mean /workspace/a?";
    assert_eq!(missing, Ended::NotFound(expected.to_owned()));
}
