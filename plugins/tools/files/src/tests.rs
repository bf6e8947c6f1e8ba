use crate::Files;
use serde_json::{Value, json};
use std::fs;
use vteam_sdk::{Content, Context, Outcome, ToolError, native, native::Staged};

struct Project {
    folder: tempfile::TempDir,
    context: Context,
}

impl Project {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        let context = native::workspace(folder.path());
        Self { folder, context }
    }

    /// What the model is told, with the workspace's root as `$`.
    fn run(&self, tool: &str, input: &Value) -> String {
        let text = match native::call::<Files>(tool, input, &self.context) {
            Ok(Outcome::Done(done)) => match done.content.as_slice() {
                [Content::Text(text)] => text.clone(),
                [Content::Image(image)] => format!("{} of {} bytes", image.media_type, image.data.len()),
                other => format!("{other:?}"),
            },
            Ok(other) => format!("{other:?}"),
            Err(ToolError::InvalidInput(m)) => format!("invalid: {m}"),
            Err(ToolError::NotFound(m)) => format!("not found: {m}"),
            Err(other) => format!("{other:?}"),
        };
        text.replace(&self.folder.path().display().to_string(), "$")
    }

    /// Path, content and whether something is replaced, of all that was staged.
    fn staged(&self) -> Vec<(String, String, bool)> {
        let changes = native::take_staged().into_iter().map(|change| match change {
            Staged::Write { path, content, base } => {
                (path, String::from_utf8(content).unwrap(), base.is_some())
            }
            other => panic!("{other:?}"),
        });
        changes.collect()
    }
}

#[test]
fn read_shows_numbered_lines() {
    let long = "x".repeat(2005);
    let many: String = (1..=2100).map(|n| format!("line {n}\n")).collect();
    let project = Project::new(&[
        ("a.txt", b"one\ntwo\r\nthree"),
        ("empty", b""),
        ("long", long.as_bytes()),
        ("many", many.as_bytes()),
        ("latin", b"caf\xe9\n"),
        ("bin", b"a\0b"),
        ("pic.dat", b"\x89PNG\r\n\x1a\nrest"),
        ("Main.java", b"x"),
    ]);
    let check = |input: Value, expected: &str| assert_eq!(project.run("Read", &input), expected, "{input}");
    check(json!({"file_path": "a.txt"}), "     1\tone\n     2\ttwo\n     3\tthree\n");
    check(
        json!({"file_path": project.folder.path().join("a.txt")}),
        "     1\tone\n     2\ttwo\n     3\tthree\n",
    );
    check(
        json!({"file_path": "a.txt", "offset": 2, "limit": 1}),
        "     2\ttwo\n\n[Lines 2 to 2 are shown and the file goes on: read on with offset 3.]\n",
    );
    check(json!({"file_path": "a.txt", "offset": 9}), "$/a.txt has 3 lines; line 9 is past its end.");
    check(json!({"file_path": "empty"}), "$/empty exists, but it is empty.");
    check(json!({"file_path": "long"}), &format!("     1\t{}… [5 more characters]\n", "x".repeat(2000)));
    check(json!({"file_path": "latin"}), "     1\tcaf\u{fffd}\n");
    check(json!({"file_path": "bin"}), "invalid: $/bin is a binary file of 3 bytes, which is not shown");
    check(json!({"file_path": "pic.dat"}), "image/png of 12 bytes");
    check(json!({"file_path": "."}), "invalid: $ is a directory, not a file; LS lists it");
    check(
        json!({"file_path": "main.java"}),
        "not found: $/main.java does not exist. Did you mean $/Main.java?",
    );
    check(json!({"file_path": "a.md"}), "not found: $/a.md does not exist. Did you mean $/a.txt?");
    check(json!({"file_path": "no/where"}), "not found: $/no/where does not exist.");
    check(json!({"file_path": "/etc/passwd"}), "invalid: /etc/passwd is outside the workspace $");
    let text = project.run("Read", &json!({"file_path": "many"}));
    assert!(text.contains("  2000\tline 2000\n") && text.ends_with("read on with offset 2001.]\n"), "{text}");
}

#[test]
fn only_regular_files_are_opened() {
    let project = Project::new(&[]);
    let pipe = project.folder.path().join("pipe");
    std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert_eq!(project.run("Read", &json!({"file_path": "pipe"})), "invalid: $/pipe is not a regular file");
    let edit = json!({"file_path": "pipe", "old_string": "a", "new_string": "b"});
    assert_eq!(project.run("Edit", &edit), "invalid: $/pipe is not a regular file");
    assert!(
        project.run("Write", &json!({"file_path": "pipe", "content": ""})).contains("not a regular file")
    );
}

#[test]
fn write_stages_a_whole_file() {
    let project = Project::new(&[("a", b"old"), ("d/x", b"")]);
    let check = |path: &str, expected: &str, staged: &[(&str, &str, bool)]| {
        let got = project.run("Write", &json!({"file_path": path, "content": "1\n2\n"}));
        let staged: Vec<_> = staged.iter().map(|(p, c, b)| ((*p).to_owned(), (*c).to_owned(), *b)).collect();
        assert_eq!((got.as_str(), project.staged()), (expected, staged), "{path}");
    };
    check("a", "Replaced the content of $/a (2 lines).", &[("a", "1\n2\n", true)]);
    check("new/b", "Created $/new/b (2 lines).", &[("new/b", "1\n2\n", false)]);
    check("d", "invalid: $/d is a directory", &[]);
    check("../b", "invalid: ../b is outside the workspace $", &[]);
    assert_eq!(fs::read(project.folder.path().join("a")).unwrap(), b"old");
}

#[test]
fn edit_replaces_exact_text() {
    let project = Project::new(&[
        ("a", b"fn a() {\n    one();\n    two();\n}\n"),
        ("crlf", b"a\r\nb\r\n"),
        ("bin", b"\xff\xfe"),
    ]);
    let check = |path: &str, old: &str, new: &str, all: bool, expected: &str, content: Option<&str>| {
        let input = json!({"file_path": path, "old_string": old, "new_string": new, "replace_all": all});
        let got = project.run("Edit", &input);
        let staged = project.staged().into_iter().map(|(_, content, _)| content).next();
        assert_eq!((got.as_str(), staged.as_deref()), (expected, content), "{input}");
    };
    check(
        "a",
        "    one();",
        "    1;\n    one();",
        false,
        "Edited $/a. Replaced the text at line 2. It now reads:\n     1\tfn a() {\n     2\t    1;\n     3\t    one();\n     4\t    two();\n     5\t}\n",
        Some("fn a() {\n    1;\n    one();\n    two();\n}\n"),
    );
    check(
        "a",
        "();",
        "()?;",
        true,
        "Edited $/a. Replaced 2 occurrences, the first at line 2. It now reads:\n     1\tfn a() {\n     2\t    one()?;\n     3\t    two()?;\n     4\t}\n",
        Some("fn a() {\n    one()?;\n    two()?;\n}\n"),
    );
    check(
        "a",
        "();",
        "!",
        false,
        "invalid: old_string was found 2 times in $/a. Add lines around it to make it unique, or set replace_all to replace all 2.",
        None,
    );
    check(
        "a",
        "x",
        "x",
        false,
        "invalid: old_string and new_string are the same, so there is nothing to change.",
        None,
    );
    check("a", "three", "3", false, "invalid: old_string was not found in $/a.", None);
    check(
        "a",
        "  one();\n  two();",
        "3",
        false,
        "invalid: old_string was not found in $/a. It is there with other white space: copy the indentation and line breaks exactly as Read shows them.",
        None,
    );
    check(
        "a",
        "     2\t    one();",
        "3",
        false,
        "invalid: old_string was not found in $/a. It seems to hold the line numbers that Read prints: leave them out.",
        None,
    );
    check(
        "crlf",
        "a\nb",
        "a\nc",
        false,
        "Edited $/crlf. Replaced the text at line 1. It now reads:\n     1\ta\n     2\tc\n",
        Some("a\r\nc\r\n"),
    );
    check("bin", "a", "b", false, "invalid: $/bin is not UTF-8 text and cannot be edited", None);
    check(
        "a",
        "",
        "x",
        false,
        "invalid: $/a exists already; an empty old_string only makes a new file",
        None,
    );
    check("new", "", "x\n", false, "Created $/new. It now reads:\n     1\tx\n", Some("x\n"));
    check("none", "a", "b", false, "not found: $/none does not exist.", None);
}

#[test]
fn multi_edit_does_all_or_nothing() {
    let project = Project::new(&[("a", b"one two one\n")]);
    let edit = |old: &str, new: &str| json!({"old_string": old, "new_string": new});
    let check = |path: &str, edits: Vec<Value>, expected: &str, content: Option<&str>| {
        let got = project.run("MultiEdit", &json!({"file_path": path, "edits": edits}));
        let staged = project.staged().into_iter().map(|(_, content, _)| content).next();
        assert_eq!((got.as_str(), staged.as_deref()), (expected, content));
    };
    check(
        "a",
        vec![edit("two", "three"), edit("one three", "1")],
        "Made 2 edits to $/a:\n1. Replaced the text at line 1.\n2. Replaced the text at line 1.\n",
        Some("1 one\n"),
    );
    check(
        "a",
        vec![edit("two", "2"), edit("two", "3")],
        "invalid: Edit 2 of 2: old_string was not found in $/a. Nothing was changed.",
        None,
    );
    check(
        "new",
        vec![edit("", "x\n"), edit("x", "y")],
        "Made 2 edits to $/new:\n1. Replaced the text at line 1.\n2. Replaced the text at line 1.\n",
        Some("y\n"),
    );
    check("a", vec![], "invalid: there are no edits", None);
}

#[test]
fn ls_draws_a_tree() {
    let project = Project::new(&[
        ("src/a.rs", b""),
        ("src/b/c.rs", b""),
        ("target/x", b""),
        ("z.txt", b""),
        (".git/config", b""),
    ]);
    let check = |input: Value, expected: &str| assert_eq!(project.run("LS", &input), expected, "{input}");
    check(
        json!({"path": "."}),
        "- $/\n  - .git/ …\n  - src/\n    - a.rs\n    - b/\n      - c.rs\n  - target/ …\n  - z.txt\n",
    );
    check(json!({"path": "src", "ignore": ["*.rs"]}), "- $/src/\n  - b/\n");
    check(json!({"path": "src/b", "ignore": ["*"]}), "- $/src/b/\n(The directory is empty.)\n");
    check(json!({"path": "target"}), "- $/target/\n  - x\n");
    check(json!({"path": "z.txt"}), "invalid: $/z.txt is a file, not a directory; Read shows it");
    check(json!({"path": "nope"}), "not found: $/nope does not exist.");
    for n in 0..1010 {
        fs::create_dir_all(project.folder.path().join(format!("many/d{n:04}/deep"))).unwrap();
    }
    let text = project.run("LS", &json!({"path": "many"}));
    assert!(text.contains("d0999/ …\n") && text.contains("Only 1000 entries"), "{text}");
    assert_eq!(text.lines().filter(|l| l.contains("- d")).count(), 1000);
}

#[test]
fn the_manifest_names_its_tools() {
    let manifest = native::describe::<Files>();
    let names: Vec<&str> =
        manifest["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Read", "Write", "Edit", "MultiEdit", "LS"]);
    assert_eq!(
        manifest["tools"][2]["inputSchema"]["required"],
        json!(["file_path", "old_string", "new_string"])
    );
    assert!(
        manifest["tools"].as_array().unwrap().iter().all(|t| !t["description"].as_str().unwrap().is_empty())
    );
}
