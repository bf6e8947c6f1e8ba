//! Analysing: what the model submits is checked by the schema and judged by the persona, and sent back at most twice.

use super::{Agent, Ended};
use crate::{
    conversation::OpenUse,
    prompt::{self, Prompt},
    strict, tools,
};
use engine::{CallFailure, Judgement, Leaf};
use model::{
    Untrusted,
    event::{AnalysisJudged, CallFinished, CallOutcome, Event, RunEnd},
    id::{PersonaKey, RunId},
    message::Block,
};
use serde_json::Value;

const REVISIONS: u32 = 2;

impl Agent {
    pub(super) async fn submit(&self, run: &RunId, used: &OpenUse) -> Result<(), Ended> {
        let failed = |message: String| Ended::new(RunEnd::PersonaFailed, message);
        let Some(persona) = &self.binding.persona else {
            return Err(failed("an analysis needs a persona".into()));
        };
        let reasons =
            self.judge(persona, &used.input).await.map_err(|failure| failed(failure.to_string()))?;
        let revision = self.past().judged.get(run).map_or(0, |(answers, _)| *answers);
        let accepted = reasons.is_empty();
        let text = if accepted { "Accepted.".to_owned() } else { sent_back(&reasons) };
        self.say(Event::CallFinished(CallFinished {
            run: run.clone(),
            call: super::calls::call_id(used),
            message: used.message.clone(),
            tool_use_id: used.id.clone(),
            tool: prompt::SUBMIT.into(),
            outcome: if accepted {
                CallOutcome::Done
            } else {
                CallOutcome::Failed { blame: model::event::Blame::Model }
            },
            content: vec![Block::text(text)],
            observations: vec![],
            duration_ms: 0,
        }));
        self.say(Event::AnalysisJudged(AnalysisJudged {
            run: run.clone(),
            persona: persona.clone(),
            revision,
            answer: used.input.clone(),
            accepted,
            reasons,
        }));
        if !accepted && revision >= REVISIONS {
            return Err(Ended::new(RunEnd::NotAccepted, "the analysis was not accepted after two revisions"));
        }
        Ok(())
    }

    /// The model spoke and submitted nothing: it is told to, as often as an answer may be revised.
    pub(super) async fn ask_for_answer(&self, run: &RunId, prompt: &Prompt) -> Result<(), Ended> {
        if self.past().conversation.only_spoke(run) > REVISIONS as usize {
            let message = "the model answered in text again and again, and submitted no analysis";
            return Err(Ended::new(RunEnd::NotAccepted, message));
        }
        self.turn(run, prompt).await
    }

    /// What has to be mended; nothing when the answer is accepted.
    async fn judge(&self, persona: &PersonaKey, answer: &Value) -> Result<Vec<Untrusted>, CallFailure> {
        if let Some(refusal) = strict::refusal(answer) {
            return Ok(vec![refusal.into()]);
        }
        let setup = |message: String| CallFailure { blame: model::event::Blame::Setup, message };
        let bound =
            self.toolbox.persona(persona).ok_or_else(|| setup(format!("there is no persona {persona}")))?;
        let schema = bound.manifest.persona.as_ref().map(|persona| &persona.answer_schema);
        let validator = schema.map(jsonschema::validator_for).transpose();
        let validator =
            validator.map_err(|error| setup(format!("the persona's schema cannot be used: {error}")))?;
        if let Some(Err(wrong)) = validator.map(|validator| tools::check(&validator, answer)) {
            return Ok(wrong.lines().map(Untrusted::from).collect());
        }
        let (plugin, limits) = (bound.plugin().await?, &self.binding.limits.call);
        match plugin.judge(leaves(answer), prompt::context(&self.binding), limits).await? {
            Judgement::Accept => Ok(vec![]),
            Judgement::Revise(reasons) if reasons.is_empty() => Ok(vec!["It is not accepted.".into()]),
            Judgement::Revise(reasons) => Ok(reasons),
        }
    }
}

fn sent_back(reasons: &[Untrusted]) -> String {
    let lines = reasons.iter().map(|reason| format!("- {}", reason.raw().trim_start_matches("- ")));
    format!(
        "The analysis is sent back. Mend this and submit it again, whole:\n{}",
        lines.collect::<Vec<_>>().join("\n")
    )
}

/// Every scalar with its RFC 6901 pointer; empty arrays and objects as `[]` and `{}`.
fn leaves(answer: &Value) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    flatten(answer, &mut String::new(), &mut leaves);
    leaves
}

fn flatten(value: &Value, pointer: &mut String, leaves: &mut Vec<Leaf>) {
    let mut below = |token: &str, value: &Value| {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
        flatten(value, pointer, leaves);
        pointer.truncate(length);
    };
    match value {
        Value::Object(object) if !object.is_empty() => {
            object.iter().for_each(|(key, value)| below(key, value))
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(at, value)| below(&at.to_string(), value));
        }
        scalar => leaves.push(Leaf { pointer: pointer.clone(), value: scalar.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_flattened() {
        let answer = json!({"a": [1, {"b~/c": "x"}], "e": [], "o": {}, "n": null});
        let got: Vec<_> = leaves(&answer).into_iter().map(|leaf| (leaf.pointer, leaf.value)).collect();
        let expected = [("/a/0", "1"), ("/a/1/b~0~1c", "\"x\""), ("/e", "[]"), ("/o", "{}"), ("/n", "null")];
        assert_eq!(got, expected.map(|(p, v)| (p.to_owned(), v.to_owned())));
        assert_eq!(leaves(&json!(1)), [Leaf { pointer: String::new(), value: "1".into() }]);
    }
}
