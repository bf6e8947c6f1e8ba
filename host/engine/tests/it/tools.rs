//! Calls of tools, and what they are granted.

use crate::{guest::*, hosts::Recorder};
use engine::{CallEnd, Level, LogSource, ToolError, Verdict};
use model::{approval::Subject, event::Blame, grant::effects::ALL};
use serde_json::json;

#[tokio::test]
async fn echo() {
    let input = r#"{"ünï":"cödé"}"#;
    assert_eq!(text(plugin("echo").call(call(input)).await), input);
}

#[tokio::test]
async fn print() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(folder.path());
    let mut printing = call("{}");
    printing.host = recorder.host();
    assert_eq!(text(plugin("print").call(printing).await), "printed");
    assert_eq!(recorder.logged(LogSource::Stdout), ["to stdout"]);
    assert_eq!(recorder.logged(LogSource::Stderr), ["to stderr", "unfinished"]);
    assert!(recorder.log.lock().unwrap().contains(&(Level::Error, LogSource::Log, "to the log".to_owned())));
    assert_eq!(*recorder.progress.lock().unwrap(), [("message".to_owned(), json!("half way"))]);
}

#[tokio::test]
async fn needs_input() {
    let plugin = plugin("needs_input");
    let CallEnd::NeedsInput { request, state } = plugin.call(call("{}")).await.end else { panic!() };
    assert_eq!(request, json!({"questions": [{"question": "Which?"}]}));
    assert_eq!(state, b"remembered");
    let mut again = call("{}");
    again.context =
        vec![("answer".to_owned(), "\"that\"".to_owned()), ("state".to_owned(), "\"remembered\"".to_owned())];
    assert_eq!(text(plugin.call(again).await), "\"that\" \"remembered\"");
}

#[tokio::test]
async fn ambient() {
    let folder = tempfile::tempdir().unwrap();
    let mut granted_nothing = call("{}");
    granted_nothing.host = Recorder::new(folder.path()).host();
    let said = text(plugin("ambient").call(granted_nothing).await);
    assert_eq!(said, "0 variables, 0 arguments, 0 entries, workspace false");
}

#[tokio::test]
async fn everything() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(folder.path());
    let mut denied = call("{}");
    denied.host = recorder.host();
    let said = text(plugin("everything").call(denied).await);
    for effect in ["fs.write", "state", "model", "process"] {
        assert!(said.contains(&format!("effect: \"{effect}\"")), "{effect} was not denied: {said}");
    }
    assert!(recorder.asked.lock().unwrap().is_empty(), "what is not granted does not reach the gate");

    let mut granted = call("{}");
    granted.host = recorder.host();
    granted.grants = effects(&ALL);
    let said = text(plugin("everything").call(granted).await);
    for part in [
        "changes Ok(None)",
        "state Ok(()) Ok(Some([118, 97, 108, 117, 101]))",
        "keys Ok([\"key\"]) Ok(())",
        "model Ok(\"hello Some(5)\")",
        "unknown field `pormpt`",
        "config Some(\"\\\"blue\\\"\") None",
        "there is no child",
        "process Ok(\"1\")",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[tokio::test]
async fn process_run() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("src")).unwrap();
    let recorder = Recorder::new(folder.path());
    let run = |input: &'static str| {
        let mut running = call(input);
        running.host = recorder.host();
        running.grants = effects(&["process"]);
        async move { plugin("process_run").call(running).await }
    };

    let ran = run("pwd").await;
    assert_eq!(ran.seen[0].value, json!({"argv": ["pwd"], "cwd": "/workspace/src"}));
    assert!(text(ran).contains("/src\n Some(Exit::Code(0))"));

    recorder.asked.lock().unwrap().clear();
    recorder.rule(Verdict::Ask);
    let CallEnd::Refused(error) = run("no-such-program").await.end else { panic!() };
    assert!(error.message().raw().contains("NotFound"), "{error:?}");
    assert!(recorder.asked.lock().unwrap().is_empty(), "nobody is asked for what is not there");
    let asked = run("touch made").await;
    let CallEnd::NeedsApproval { effect, subject } = asked.end else { panic!("{asked:?}") };
    assert_eq!(effect.as_str(), "process");
    let shown = serde_json::to_value(&subject).unwrap();
    let expected = json!({
        "type": "process", "argv": ["touch", "made"], "cwd": "/workspace/src", "network": "none", "env": {"A": "b"}
    });
    assert_eq!(shown, expected);
    assert!(matches!(subject, Subject::Process { .. }));
    assert!(!folder.path().join("src/made").exists(), "it ran before it was approved");

    recorder.rule(Verdict::Refuse("plan mode changes nothing".to_owned()));
    let CallEnd::Refused(error) = run("touch made").await.end else { panic!() };
    assert!(
        matches!(&error, ToolError::Denied { .. }) && error.message().raw() == "plan mode changes nothing"
    );
    assert_eq!(error.blame(), Blame::Setup);
    assert!(!folder.path().join("src/made").exists());
}
