use crate::host::{Ended, World};
use model::approval::Subject;
use serde_json::json;

#[tokio::test]
async fn commands_run_as_they_were_shown() {
    let world = World::new("tool-shell", &[("d/x", "")]);
    let check = async |command: &str, expected: &str| {
        assert_eq!(world.call("Bash", json!({"command": command})).await, Ended::Text(expected.to_owned()));
    };
    check("echo hello", "hello").await;
    check("cd d; ls; exit 4", "Exit code 4\nx").await;
    check("ls", "x").await;
    let Some(Subject::Process { argv, cwd, .. }) = world.asked.lock().unwrap().last().cloned() else {
        panic!()
    };
    assert_eq!(argv.iter().map(|a| a.raw()).collect::<Vec<_>>(), ["bash", "-c", "ls"]);
    assert_eq!(cwd.raw(), "/workspace/d");
    assert_eq!(world.live.lock().unwrap().first(), Some(&("stdout".to_owned(), json!("hello\n"))));
    let unknown = world.call("BashOutput", json!({"bash_id": "bash_7"})).await;
    assert_eq!(
        unknown,
        Ended::NotFound("there is no background shell bash_7; known: there are none".to_owned())
    );
}
