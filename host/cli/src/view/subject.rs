//! What waits for a person, in full: what is shown here is what runs.

use super::{patch, style::Style};
use model::{
    Untrusted,
    approval::{ApprovalRequest, Question, Subject},
    render,
};
use serde_json::Value;

/// The request, several lines, with a line's end.
pub(crate) fn approval(request: &ApprovalRequest, style: Style) -> String {
    let head = format!(
        "{} {}",
        style.yellow("?"),
        style.bold(&format!("{} wants to {}", request.tool, wish(&request.subject)))
    );
    format!("{head}\n{}", body(&request.subject, style))
}

fn wish(subject: &Subject) -> &'static str {
    match subject {
        Subject::Process { .. } => "run a program",
        Subject::Fetch { .. } => "fetch from the network",
        Subject::Changes { .. } => "change files",
        Subject::Other(_) => "do what this version of vteam does not know",
    }
}

fn body(subject: &Subject, style: Style) -> String {
    const INDENT: &str = "    ";
    match subject {
        Subject::Process { argv, cwd, network, env, stdin } => {
            let place = format!("in {}, network: {}", whole(cwd), whole(&network.as_str().into()));
            let mut out = indented(&render::argv(argv), INDENT);
            for (name, value) in env {
                let variable = format!("{}={}", whole(&name.as_str().into()), whole(value));
                out.push_str(&format!("{INDENT}{} {variable}\n", style.dim("with")));
            }
            if let Some(text) = stdin {
                out.push_str(&format!("{INDENT}{}\n", style.dim("reading:")));
                out.push_str(&indented(&render::terminal(text), "      "));
            }
            out + &format!("{INDENT}{}\n", style.dim(&place))
        }
        Subject::Fetch { method, url } => {
            format!(
                "{INDENT}{} {}\n",
                render::line(&method.as_str().into(), 16),
                render::line(url, usize::MAX)
            )
        }
        Subject::Changes { files } => {
            files.iter().map(|file| patch::readable(&file.diff, style, INDENT)).collect()
        }
        Subject::Other(value) => {
            let text = serde_json::to_string_pretty(value).unwrap_or_default();
            indented(&render::terminal(&text.into()), INDENT)
        }
    }
}

/// One line for a list. Cut: never to decide by.
pub(crate) fn brief(subject: &Subject) -> String {
    match subject {
        Subject::Process { argv, .. } => render::line(&render::argv(argv).into(), 80),
        Subject::Fetch { method, url } => {
            format!("{} {}", render::line(&method.as_str().into(), 16), render::line(url, 80))
        }
        Subject::Changes { files } => {
            let paths: Vec<String> = files.iter().map(|f| render::line(&f.path, 60)).collect();
            format!("change {}", paths.join(", "))
        }
        Subject::Other(_) => "unknown kind of effect".to_owned(),
    }
}

/// A tool's question with its options, numbered.
pub(crate) fn question(question: &Question, style: Style) -> String {
    let mut out = String::new();
    for one in questions(question) {
        let text = one.get("question").and_then(Value::as_str).unwrap_or("(no text)");
        out.push_str(&format!("{} {}\n", style.yellow("?"), style.bold(&shown(text))));
        for (number, option) in options(one).iter().enumerate() {
            let label = option.get("label").and_then(Value::as_str).unwrap_or_default();
            let about = option.get("description").and_then(Value::as_str).unwrap_or_default();
            out.push_str(&format!("    {}  {}  {}\n", number + 1, shown(label), style.dim(&shown(about))));
        }
    }
    out
}

/// The questions of a request in the form of AskUserQuestion; the whole request where it has another form.
pub(crate) fn questions(question: &Question) -> Vec<&Value> {
    match question.request.get("questions").and_then(Value::as_array) {
        Some(list) => list.iter().collect(),
        None => vec![&question.request],
    }
}

pub(crate) fn options(question: &Value) -> &[Value] {
    question.get("options").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn shown(text: &str) -> String {
    whole(&Untrusted::from(text))
}

/// On one line, never cut.
fn whole(text: &Untrusted) -> String {
    render::line(text, usize::MAX)
}

fn indented(text: &str, indent: &str) -> String {
    text.lines().map(|line| format!("{indent}{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_shown_as_it_would_be_typed_and_never_cut() {
        let long = "x".repeat(5000);
        let subject = Subject::Process {
            argv: vec!["bash".into(), "-c".into(), format!("echo \u{1b}[31m; {long}").into()],
            cwd: "/workspace".into(),
            network: "none".to_owned(),
            env: [("PAGER".to_owned(), "sh -c x".into())].into(),
            stdin: Some("y\n".into()),
        };
        let shown = body(&subject, Style::PLAIN);
        assert!(shown.contains(&format!("bash -c 'echo \\u{{1b}}[31m; {long}'")), "{shown}");
        assert!(
            shown.ends_with(
                "    with PAGER=sh -c x\n    reading:\n      y\n    in /workspace, network: none\n"
            )
        );
    }
}
