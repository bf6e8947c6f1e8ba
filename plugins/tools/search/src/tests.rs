use crate::Search;
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};
use vteam_sdk::{Content, Context, Outcome, ToolError, native};

const FILES: [(&str, &str); 9] = [
    ("src/main.rs", "fn main() {\n    hello();\n}\n\nfn hello() {\n    println!(\"Hello\");\n}\n"),
    ("src/lib.rs", "pub fn add() {}\n"),
    ("web/app.ts", "const hello = 1;\nstruct {\n  field\n}\n"),
    (".gitignore", "target/\n*.log\n"),
    ("target/out.rs", "fn hello() {}\n"),
    ("debug.log", "hello\n"),
    (".git/config", "hello\n"),
    (".github/ci.yml", "run: hello\n"),
    ("data.bin", "hello\0world\n"),
];

fn project() -> (tempfile::TempDir, Context) {
    let folder = tempfile::tempdir().unwrap();
    let start = SystemTime::now() - Duration::from_secs(1000);
    for (age, (path, content)) in FILES.iter().enumerate() {
        let file = folder.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        let changed = start + Duration::from_secs(age as u64);
        fs::File::options().write(true).open(&file).unwrap().set_modified(changed).unwrap();
    }
    let context = native::workspace(folder.path());
    (folder, context)
}

/// The text of a call's outcome, with the workspace's root as `$`.
fn run(root: &Path, context: &Context, tool: &str, input: &Value) -> String {
    let text = match native::call::<Search>(tool, input, context) {
        Ok(Outcome::Done(done)) => match done.content.as_slice() {
            [Content::Text(text)] => text.clone(),
            other => format!("{other:?}"),
        },
        Ok(other) => format!("{other:?}"),
        Err(ToolError::InvalidInput(message)) => format!("invalid: {message}"),
        Err(other) => format!("{other:?}"),
    };
    text.replace(&root.display().to_string(), "$")
}

#[test]
fn glob_finds_files_by_path() {
    let (folder, context) = project();
    let check = |input: Value, expected: &str| {
        assert_eq!(run(folder.path(), &context, "Glob", &input), expected, "{input}");
    };
    check(json!({"pattern": "**/*.rs"}), "$/src/lib.rs\n$/src/main.rs");
    check(json!({"pattern": "*.rs"}), "$/src/lib.rs\n$/src/main.rs");
    check(json!({"pattern": "*.{ts,yml}"}), "$/.github/ci.yml\n$/web/app.ts");
    check(json!({"pattern": "*.rs", "path": "src"}), "$/src/lib.rs\n$/src/main.rs");
    check(json!({"pattern": "src/*.rs"}), "$/src/lib.rs\n$/src/main.rs");
    check(json!({"pattern": "./src/m*"}), "$/src/main.rs");
    check(json!({"pattern": format!("{}/src/l*.rs", folder.path().display())}), "$/src/lib.rs");
    check(json!({"pattern": "*.log"}), "$/debug.log\n\n[All of these are ignored by .gitignore.]");
    check(json!({"pattern": "*.rs", "path": "target"}), "$/target/out.rs");
    check(json!({"pattern": "config"}), "No files found");
    check(json!({"pattern": "*.none"}), "No files found");
    check(json!({"pattern": "*.rs", "path": "nowhere"}), "ToolError::NotFound(\"$/nowhere does not exist\")");
    check(json!({"pattern": "*.rs", "path": "../x"}), "invalid: ../x is outside the workspace $");
    assert!(
        run(folder.path(), &context, "Glob", &json!({"pattern": "{a"})).contains("pattern cannot be read")
    );
}

#[test]
fn grep_has_three_shapes() {
    let (folder, context) = project();
    let check = |input: Value, expected: &str| {
        assert_eq!(run(folder.path(), &context, "Grep", &input), expected, "{input}");
    };
    check(json!({"pattern": "hello"}), "Found 3 files\n$/.github/ci.yml\n$/web/app.ts\n$/src/main.rs");
    check(json!({"pattern": "HELLO"}), "No files found");
    check(json!({"pattern": "hello", "path": "src/main.rs"}), "Found 1 file\n$/src/main.rs");
    check(json!({"pattern": "hello", "path": "target"}), "Found 1 file\n$/target/out.rs");
    check(json!({"pattern": "hello", "type": "ts"}), "Found 1 file\n$/web/app.ts");
    check(
        json!({"pattern": "hello", "glob": "*.{rs,yml}"}),
        "Found 2 files\n$/.github/ci.yml\n$/src/main.rs",
    );
    check(
        json!({"pattern": "hello", "glob": "!*.rs", "head_limit": 1}),
        "Found 2 files\n$/.github/ci.yml\n\n[Only 1 are shown.]",
    );
    check(
        json!({"pattern": "hello", "-i": true, "output_mode": "count"}),
        "$/.github/ci.yml:1\n$/src/main.rs:3\n$/web/app.ts:1\n\nFound 5 matching lines in 3 files.",
    );
    check(
        json!({"pattern": "hello", "output_mode": "content"}),
        "$/.github/ci.yml:1:run: hello\n$/src/main.rs:2:    hello();\n$/src/main.rs:5:fn hello() {\n\
         $/web/app.ts:1:const hello = 1;",
    );
    check(
        json!({"pattern": "hello", "output_mode": "content", "path": "src", "-A": 1, "-n": false}),
        "$/src/main.rs:    hello();\n$/src/main.rs-}\n--\n$/src/main.rs:fn hello() {\n$/src/main.rs-    println!(\"Hello\");",
    );
    check(
        json!({"pattern": "hello", "output_mode": "content", "head_limit": 2}),
        "$/.github/ci.yml:1:run: hello\n$/src/main.rs:2:    hello();\n\n[Only 2 lines are shown: there are more.]",
    );
    check(
        json!({"pattern": r"struct \{.*?field", "output_mode": "content", "multiline": true}),
        "$/web/app.ts:2:struct {\n$/web/app.ts:3:  field",
    );
    check(json!({"pattern": "nothing at all", "output_mode": "content"}), "No matches found");
}

#[test]
fn grep_says_what_is_wrong() {
    let (folder, context) = project();
    let check = |input: Value, part: &str| {
        let text = run(folder.path(), &context, "Grep", &input);
        assert!(text.starts_with("invalid: ") && text.contains(part), "{text}");
    };
    check(json!({"pattern": "("}), "regular expression");
    check(json!({"pattern": r"a\nb"}), "set multiline");
    check(json!({"pattern": "a", "type": "klingon"}), "klingon");
    check(json!({"pattern": "a", "path": "/etc"}), "outside the workspace");
    check(json!({"pattern": "a", "output_mode": "all"}), "files_with_matches");
}
