use crate::Shell;
use serde_json::{Value, json};
use vteam_sdk::{Content, Context, Outcome, ToolError, native};

fn text(tool: &str, input: &Value, context: &Context) -> String {
    match native::call::<Shell>(tool, input, context) {
        Ok(Outcome::Done(done)) => match done.content.as_slice() {
            [Content::Text(text)] => text.clone(),
            other => format!("{other:?}"),
        },
        Ok(other) => format!("{other:?}"),
        Err(ToolError::InvalidInput(m) | ToolError::NotFound(m)) => format!("refused: {m}"),
        Err(other) => format!("{other:?}"),
    }
}

#[test]
fn commands_run_and_their_folder_stays() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let context = native::workspace(&root);
    let check = |command: &str, expected: &str| {
        let got = text("Bash", &json!({"command": command}), &context);
        assert_eq!(got.replace(&root.display().to_string(), "$"), expected, "{command}");
    };
    check("echo hello; echo there", "hello\nthere");
    check("true", "(no output)");
    check("echo out; exit 3", "Exit code 3\nout");
    check("echo oops >&2; false", "Exit code 1\noops");
    check("mkdir -p a/b && cd a/b && pwd", "$/a/b");
    check("pwd", "$/a/b");
    check("cd / && echo x", "x\nThe working directory was set back to $: / is outside the workspace.");
    check("pwd", "$");
    check("cd a/b", "(no output)");
    check("mkdir c; cd c", "(no output)");
    std::fs::remove_dir(root.join("a/b/c")).unwrap();
    check("echo y", "y\nThe working directory $/a/b/c is gone; the command ran in $.");
    check("kill -9 $$", "The command was ended by SIGKILL");
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let context = native::workspace(folder.path());
    let got = text("Bash", &json!({"command": "echo begun; exec sleep 600", "timeout": 300}), &context);
    assert_eq!(got, "The command was ended after its timeout of 300 ms. What it printed until then:\nbegun");
}

#[test]
fn output_is_passed_on_live() {
    let folder = tempfile::tempdir().unwrap();
    let context = native::workspace(folder.path());
    text("Bash", &json!({"command": "printf 'caf\\303'; sleep 0.1; printf '\\251'; echo err >&2"}), &context);
    let live = native::take_progress();
    let of = |kind: &str| -> String {
        let texts = live.iter().filter(|(k, _)| k == kind);
        texts.map(|(_, json)| serde_json::from_str::<String>(json).unwrap()).collect()
    };
    assert_eq!((of("stdout"), of("stderr")), ("café".to_owned(), "err\n".to_owned()));
}

#[test]
fn background_commands_are_read_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let context = native::workspace(folder.path());
    let run = |tool: &str, input: Value| text(tool, &input, &context);
    std::process::Command::new("mkfifo").arg(folder.path().join("go")).status().unwrap();
    let started = run(
        "Bash",
        json!({"command": "echo one; echo two; read -r _ < go; echo three", "run_in_background": true}),
    );
    assert!(started.contains("with id bash_1."), "{started}");
    let until = |filter: Option<&str>, done: &dyn Fn(&str) -> bool| loop {
        let got = run("BashOutput", json!({"bash_id": "bash_1", "filter": filter}));
        if done(&got) {
            return got;
        }
        std::thread::yield_now();
    };
    assert_eq!(until(Some("^t"), &|got| got.contains("two")), "Status: running\ntwo");
    let second = run("Bash", json!({"command": "exec sleep 600", "run_in_background": true}));
    assert!(second.contains("bash_2"), "{second}");
    assert_eq!(run("KillShell", json!({"shell_id": "bash_2"})), "Ended the shell bash_2 (exec sleep 600).");
    assert_eq!(
        run("BashOutput", json!({"bash_id": "bash_2"})),
        "refused: there is no background shell bash_2; known: bash_1"
    );
    assert_eq!(
        run("BashOutput", json!({"bash_id": "bash_1", "filter": "("})).split(':').next(),
        Some("refused")
    );
    assert_eq!(run("KillShell", json!({"shell_id": "bash_1"})).split(' ').next(), Some("Ended"));
}
