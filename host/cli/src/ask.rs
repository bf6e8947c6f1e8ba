//! Questions to the person at the terminal.

use crate::view::{style::Style, subject};
use model::approval::{Decision, Question};
use serde_json::{Map, Value};
use std::io::{BufRead, IsTerminal};
use tokio::sync::mpsc;

/// What the person types, line by line. One reader for the whole process: stdin has no second one.
#[derive(Debug)]
pub(crate) struct Lines(mpsc::Receiver<String>);

impl Lines {
    /// `None` where nobody sits at a terminal.
    pub(crate) fn of_terminal() -> Option<Self> {
        if !std::io::stdin().is_terminal() {
            return None;
        }
        let (sender, receiver) = mpsc::channel(16);
        // Reading stdin cannot be cancelled: the thread ends with the process.
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { return };
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Some(Self(receiver))
    }

    /// The next line; `None` once stdin has ended. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<String> {
        self.0.recv().await
    }
}

/// What may be typed at an approval.
pub(crate) fn approval_prompt(style: Style) -> String {
    format!(
        "  allow {}nce, for the {}ession, or {}eny (with a reason)? ",
        style.bold("[o]"),
        style.bold("[s]"),
        style.bold("[d]")
    )
}

/// What may be typed at a question, of which so many parts are answered.
pub(crate) fn question_prompt(question: &Question, answered: usize) -> String {
    match subject::questions(question).len() {
        0 | 1 => "  number or text: ".to_owned(),
        all => format!("  {} of {all}, number or text: ", answered + 1),
    }
}

/// `None`: ask again.
pub(crate) fn read_decision(line: &str) -> Option<Decision> {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match word.to_ascii_lowercase().as_str() {
        "o" | "once" | "y" | "yes" => Some(Decision::Once),
        "s" | "session" => Some(Decision::Session),
        "d" | "deny" | "n" | "no" => Some(Decision::Deny { reason: rest.trim().into() }),
        _ => None,
    }
}

/// Yes or no; anything else is no.
pub(crate) fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// An answer in the form of AskUserQuestion: question text -> chosen labels or free text. `given` are the lines typed,
/// one per question; a number, or several with commas, chooses options.
pub(crate) fn answer(question: &Question, given: &[String]) -> Value {
    let mut answers = Map::new();
    for (one, line) in subject::questions(question).into_iter().zip(given) {
        let text = one.get("question").and_then(Value::as_str).unwrap_or("answer");
        answers.insert(text.to_owned(), Value::String(chosen(subject::options(one), line)));
    }
    serde_json::json!({ "answers": answers })
}

fn chosen(options: &[Value], line: &str) -> String {
    let label = |part: &str| {
        let number: usize = part.trim().parse().ok()?;
        options.get(number.checked_sub(1)?)?.get("label")?.as_str().map(str::to_owned)
    };
    let labels: Option<Vec<String>> = line.split(',').map(label).collect();
    labels.map_or_else(|| line.trim().to_owned(), |labels| labels.join(", "))
}

/// Who decides when the person said `--yes` beforehand.
pub(crate) const YES: Decision = Decision::Session;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decisions_are_read() {
        let check =
            |line: &str, expected: Option<Decision>| assert_eq!(read_decision(line), expected, "{line:?}");
        check("o", Some(Decision::Once));
        check(" S ", Some(Decision::Session));
        check("d not on a friday", Some(Decision::Deny { reason: "not on a friday".into() }));
        check("n", Some(Decision::Deny { reason: "".into() }));
        check("", None);
        check("maybe", None);
    }

    #[test]
    fn numbers_choose_options() {
        let options = [json!({"label": "Red"}), json!({"label": "Blue"})];
        let check = |line: &str, expected: &str| assert_eq!(chosen(&options, line), expected);
        check("2", "Blue");
        check("1, 2", "Red, Blue");
        check("3", "3");
        check("green, please", "green, please");
        check("0", "0");
    }
}
