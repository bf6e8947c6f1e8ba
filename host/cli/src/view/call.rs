//! Tool calls for a reader: what a call is about in a few words, and what came of it in a few lines.

use super::{patch, style::Style};
use model::{
    Untrusted,
    event::{Blame, CallFinished, CallOutcome},
    message::Block,
    render,
};
use serde_json::Value;

const INDENT: &str = "    ";
const OUTPUT_LINES: usize = 12;

/// What the call is about, on one line.
pub(super) fn about(tool: &str, input: &Value) -> String {
    let text = |key: &str| input.get(key).and_then(Value::as_str).unwrap_or_default();
    let raw = match tool {
        "Bash" => text("command").to_owned(),
        "Read" | "Write" | "Edit" | "MultiEdit" => short_path(text("file_path")),
        "LS" => short_path(text("path")),
        "Glob" => text("pattern").to_owned(),
        "Grep" if text("path").is_empty() => text("pattern").to_owned(),
        "Grep" => format!("{} in {}", text("pattern"), short_path(text("path"))),
        "WebFetch" => text("url").to_owned(),
        "BashOutput" => text("bash_id").to_owned(),
        "KillShell" => text("shell_id").to_owned(),
        "TodoWrite" | "AskUserQuestion" => String::new(),
        _ => serde_json::to_string(input).unwrap_or_default(),
    };
    render::line(&raw.into(), 100)
}

fn short_path(path: &str) -> String {
    path.strip_prefix("/workspace/").unwrap_or(path).to_owned()
}

/// What the call changes or plans, from its input: shown below its line.
pub(super) fn detail(tool: &str, input: &Value, style: Style) -> String {
    let text =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    match tool {
        "Edit" => patch::replaced(&text(input, "old_string"), &text(input, "new_string"), style, INDENT, 20),
        "MultiEdit" => {
            let edits = input.get("edits").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
            let each = edits
                .iter()
                .map(|e| patch::replaced(&text(e, "old_string"), &text(e, "new_string"), style, INDENT, 8));
            each.collect()
        }
        "Write" => patch::replaced("", &text(input, "content"), style, INDENT, 8),
        "TodoWrite" => todos(input, style),
        _ => String::new(),
    }
}

fn todos(input: &Value, style: Style) -> String {
    let list = input.get("todos").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
    let line = |todo: &Value| {
        let content =
            render::line(&todo.get("content").and_then(Value::as_str).unwrap_or_default().into(), 100);
        match todo.get("status").and_then(Value::as_str) {
            Some("completed") => format!("{INDENT}{} {}\n", style.green("☑"), style.dim(&content)),
            Some("in_progress") => format!("{INDENT}{} {}\n", style.yellow("▶"), style.bold(&content)),
            _ => format!("{INDENT}☐ {content}\n"),
        }
    };
    list.iter().map(line).collect()
}

/// `✓ 12 ms`, or what went wrong and who has to act.
pub(super) fn outcome(finished: &CallFinished, style: Style) -> String {
    let time = style.dim(&duration(finished.duration_ms));
    match &finished.outcome {
        CallOutcome::Done => format!("{} {time}", style.green("✓")),
        CallOutcome::Denied => format!("{} {time}", style.yellow("declined")),
        CallOutcome::Failed { blame } => format!("{} {time}{}", style.red("✗"), style.dim(whose(*blame))),
        // Nobody was left who could say how long it took.
        CallOutcome::Interrupted => style.yellow("stopped"),
        CallOutcome::Lost => style.yellow("interrupted; not repeated"),
        CallOutcome::Other(_) => format!("? {time}"),
    }
}

fn whose(blame: Blame) -> &'static str {
    match blame {
        Blame::Model => "",
        Blame::Plugin => "  (the plugin failed)",
        Blame::Setup => "  (this setup does not allow it)",
    }
}

/// The part of the result that a person wants to see without asking.
pub(super) fn result(finished: &CallFinished, streamed: bool, style: Style) -> String {
    let text = text_of(&finished.content);
    match (&finished.outcome, finished.tool.raw()) {
        (CallOutcome::Done, "Bash" | "BashOutput") if !streamed => quoted(&text, OUTPUT_LINES, style),
        (CallOutcome::Done, _) => String::new(),
        (CallOutcome::Failed { .. } | CallOutcome::Denied, "Bash") if streamed => String::new(),
        _ => quoted(&text, 6, style),
    }
}

/// Output of a program, marked as such; the last lines where there are too many.
pub(super) fn quoted(text: &str, most: usize, style: Style) -> String {
    let shown = render::terminal(&Untrusted::from(text));
    let lines: Vec<&str> = shown.trim_end().lines().collect();
    let skipped = lines.len().saturating_sub(most);
    let mut out = String::new();
    if skipped > 0 {
        out.push_str(&format!("{INDENT}{}\n", style.dim(&format!("│ … {skipped} lines before"))));
    }
    for line in lines.iter().skip(skipped) {
        out.push_str(&format!("{INDENT}{} {}\n", style.dim("│"), style.dim(line)));
    }
    out
}

/// After a flood: how much was passed over, and how the result ends.
pub(super) fn end_of_flood(finished: &CallFinished, skipped: usize, style: Style) -> String {
    let note = format!("{INDENT}{}\n", style.dim(&format!("│ … {skipped} lines more; the result ends so:")));
    let text = text_of(&finished.content);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let end = lines.get(lines.len().saturating_sub(OUTPUT_LINES)..).unwrap_or_default();
    note + &quoted(&end.join("\n"), OUTPUT_LINES, style)
}

fn text_of(content: &[Block]) -> String {
    let texts = content.iter().filter_map(|block| match block {
        Block::Text { text } => Some(text.raw()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// `3 ms`, `1.2 s`, `2 min 5 s`.
pub(crate) fn duration(milliseconds: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let seconds = milliseconds as f64 / 1000.0;
    match milliseconds {
        0..1000 => format!("{milliseconds} ms"),
        1000..60_000 => format!("{seconds:.1} s"),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds / 1000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_is_told_in_a_few_words() {
        let check = |tool: &str, input: Value, expected: &str| assert_eq!(about(tool, &input), expected);
        check("Bash", json!({"command": "bash test.sh\necho \u{1b}"}), "bash test.sh\\necho \\u{1b}");
        check("Read", json!({"file_path": "/workspace/a/b.rs"}), "a/b.rs");
        check("Grep", json!({"pattern": "x+", "path": "/workspace/src"}), "x+ in src");
        check("acme_lint", json!({"a": 1}), r#"{"a":1}"#);
        check("Read", json!(null), "");
    }

    #[test]
    fn long_output_keeps_its_end() {
        assert_eq!(quoted("a\nb\nc\n", 2, Style::PLAIN), "    │ … 1 lines before\n    │ b\n    │ c\n");
    }

    #[test]
    fn durations_read_well() {
        assert_eq!([7, 1250, 125_000].map(duration), ["7 ms", "1.2 s", "2 min 5 s"]);
    }
}
