//! A persona: accepts an analysis of ten characters or more. Built for wasm32-unknown-unknown, so it imports nothing.

#[cfg(all(target_family = "wasm", not(target_os = "wasi")))]
#[allow(unsafe_code, reason = "the generated export")]
mod component {
    wit_bindgen::generate!({ path: "../../wit/plugin-0.1", world: "persona-plugin" });

    use exports::vteam::plugin::persona::{Guest, Leaf, Verdict};
    use vteam::plugin::types::Context;

    const SCHEMA: &str =
        r#"{"type":"object","properties":{"analysis":{"type":"string"}},"required":["analysis"]}"#;

    struct Component;

    impl Guest for Component {
        fn describe() -> String {
            format!(
                r#"{{"manifest":1,"id":"test.persona","version":"0.1.0","kind":"persona","description":"A persona of the tests",
                "persona":{{"key":"TESTER","name":"Tess","role":"Tester","answerSchema":{SCHEMA}}}}}"#
            )
        }

        fn system_prompt(task: String, ctx: Context) -> String {
            format!("You are Tess. {task} {}", ctx.len())
        }

        fn analysis_prompt(task: String, _: Context) -> String {
            format!("Analyse: {task}")
        }

        fn answer_schema() -> String {
            SCHEMA.to_owned()
        }

        fn judge(answer: Vec<Leaf>, _: Context) -> Verdict {
            let analysis = answer.iter().find(|leaf| leaf.pointer == "/analysis");
            match analysis {
                Some(leaf) if leaf.value.len() >= 12 => Verdict::Accept,
                Some(_) => Verdict::Revise(vec!["say more".to_owned()]),
                None => Verdict::Revise(vec!["say something".to_owned(), "anything".to_owned()]),
            }
        }
    }

    export!(Component);
}
