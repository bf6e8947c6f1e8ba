//! Personas.

use crate::guest::*;
use engine::{CallEnd, Judgement, Leaf};

fn leaf(pointer: &str, value: &str) -> Leaf {
    Leaf { pointer: pointer.to_owned(), value: value.to_owned() }
}

#[tokio::test]
async fn persona() {
    let tess = plugin("persona");
    assert_eq!(tess.manifest().persona.as_ref().unwrap().key.as_str(), "TESTER");
    let context = vec![("project".to_owned(), "\"demo\"".to_owned())];
    let prompt = tess.system_prompt("Fix it.".to_owned(), context.clone(), &limits()).await.unwrap();
    assert_eq!(prompt.raw(), "You are Tess. Fix it. 1");
    let prompt = tess.analysis_prompt("the plan".to_owned(), Vec::new(), &limits()).await.unwrap();
    assert_eq!(prompt.raw(), "Analyse: the plan");
    let schema: serde_json::Value =
        serde_json::from_str(&tess.answer_schema(&limits()).await.unwrap()).unwrap();
    assert_eq!(schema, tess.manifest().persona.as_ref().unwrap().answer_schema);

    let judge = |leaves: Vec<Leaf>| {
        let tess = tess.clone();
        async move { tess.judge(leaves, Vec::new(), &limits()).await.unwrap() }
    };
    assert_eq!(judge(vec![leaf("/analysis", "\"long enough\"")]).await, Judgement::Accept);
    assert_eq!(judge(vec![leaf("/analysis", "\"no\"")]).await, Judgement::Revise(vec!["say more".into()]));
    assert_eq!(judge(Vec::new()).await, Judgement::Revise(vec!["say something".into(), "anything".into()]));
}

#[tokio::test]
async fn a_tool_is_no_persona_and_a_persona_no_tool() {
    let asked = plugin("echo").system_prompt(String::new(), Vec::new(), &limits()).await;
    assert!(asked.unwrap_err().message.contains("not a persona"));
    let CallEnd::Failed(failure) = plugin("persona").call(call("{}")).await.end else { panic!() };
    assert!(failure.message.contains("not a tool plugin"));
}
