use crate::host::{Ended, World};
use serde_json::json;

#[tokio::test]
async fn files_are_found_by_name_and_content() {
    let world = World::new(
        "tool-search",
        &[
            ("src/a.rs", "fn hello() {}\n"),
            ("src/b.py", "hello = 1\n"),
            (".gitignore", "out/\n"),
            ("out/c.rs", "hello\n"),
        ],
    );
    let check = async |tool: &str, input, expected: &str| {
        assert_eq!(world.call(tool, input).await, Ended::Text(expected.to_owned()));
    };
    check("Glob", json!({"pattern": "**/*.rs"}), "/workspace/src/a.rs").await;
    check("Grep", json!({"pattern": "hello", "type": "py"}), "Found 1 file\n/workspace/src/b.py").await;
    let content = json!({"pattern": r"fn \w+", "output_mode": "content", "path": "/workspace/src"});
    check("Grep", content, "/workspace/src/a.rs:1:fn hello() {}").await;
    let count = json!({"pattern": "HELLO", "-i": true, "output_mode": "count"});
    check(
        "Grep",
        count,
        "/workspace/src/a.rs:1\n/workspace/src/b.py:1\n\nFound 2 matching lines in 2 files.",
    )
    .await;
    assert!(matches!(world.call("Grep", json!({"pattern": "("})).await, Ended::Invalid(_)));
}
