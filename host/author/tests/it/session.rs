use crate::host::{Ended, World};
use serde_json::json;

#[tokio::test]
async fn the_list_is_kept_and_questions_are_asked() {
    let world = World::new("tool-session", &[]);
    let todos = json!({"todos": [{"content": "Fix", "status": "in_progress", "activeForm": "Fixing"}]});
    let kept = world.call("TodoWrite", todos).await;
    assert_eq!(kept, Ended::Text("The list is kept (0 of 1 completed).\n[>] Fixing".to_owned()));

    let options = json!([{"label": "SQLite", "description": "One file"}, {"label": "Postgres", "description": "A server"}]);
    let question = json!({"question": "Which?", "header": "Store", "options": options, "multiSelect": false});
    let input = json!({"questions": [question]});
    assert_eq!(world.call("AskUserQuestion", input.clone()).await, Ended::Asks(input.clone()));
    let answer = [("answer", json!({"answers": {"Which?": "SQLite"}}))];
    let answered = world.call_with("AskUserQuestion", input, &answer).await;
    assert_eq!(answered, Ended::Text("The person answered:\n- Which? SQLite".to_owned()));
}
