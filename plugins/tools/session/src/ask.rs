//! `AskUserQuestion`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use vteam_sdk::{Context, Outcome, ToolError};

/// Asks the person one to four questions and waits for the answers.
///
/// Use it when an answer changes what you do and neither the task nor the code gives it. Offer the choices you see, the
/// one you recommend first; the person may always answer in their own words.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskUserQuestion {
    #[schemars(length(min = 1, max = 4))]
    questions: Vec<Question>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Question {
    /// The question, whole, with a question mark.
    #[schemars(length(min = 1))]
    question: String,
    /// A label of at most twelve characters: "Database".
    header: String,
    /// Two to four choices.
    #[schemars(length(min = 2, max = 4))]
    options: Vec<Choice>,
    /// Several choices may be taken.
    #[serde(default)]
    multi_select: bool,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Choice {
    /// One to five words.
    #[schemars(length(min = 1))]
    label: String,
    /// What it means or leads to.
    description: String,
}

/// The first time it asks; the second time the answer is in the context: `{"answers": {question: label or [labels]}}`,
/// or any text for all of them.
pub(crate) fn ask_user_question(input: AskUserQuestion, context: &Context) -> Result<Outcome, ToolError> {
    let Some(answer) = context.get::<Value>("answer") else {
        return Ok(Outcome::ask(&json!({"questions": input.questions})));
    };
    let answers = answer.get("answers").and_then(Value::as_object).or_else(|| answer.as_object());
    let text = match answers {
        Some(answers) => {
            let lines: Vec<String> = input.questions.iter().map(|q| q.answered(answers)).collect();
            format!("The person answered:\n{}", lines.join("\n"))
        }
        None => format!("The person answered: {}", plain(&answer)),
    };
    Ok(Outcome::text(text))
}

impl Question {
    fn answered(&self, answers: &Map<String, Value>) -> String {
        let answer = answers.get(&self.question).or_else(|| answers.get(&self.header));
        format!("- {} {}", self.question, answer.map_or("(no answer)".to_owned(), plain))
    }
}

fn plain(answer: &Value) -> String {
    match answer {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
