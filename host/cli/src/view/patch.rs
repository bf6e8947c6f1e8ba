//! A unified diff on a terminal.

use super::style::Style;
use model::{Untrusted, render};

/// The diff as [`diff`] shows it, without the lines of digests, which nobody reads. They stand in headers only: a file's
/// own lines begin with a space, a plus or a minus.
pub(crate) fn readable(text: &Untrusted, style: Style, indent: &str) -> String {
    let lines = text.raw().split_inclusive('\n').filter(|line| !line.starts_with("index "));
    diff(&lines.collect::<String>().into(), style, indent)
}

/// Every line, coloured by what it is. Nothing is cut: a person decides by this.
pub(crate) fn diff(text: &Untrusted, style: Style, indent: &str) -> String {
    let shown = render::terminal(text);
    let mut out = String::with_capacity(shown.len() + 64);
    for line in shown.lines() {
        out.push_str(indent);
        out.push_str(&coloured(line, style));
        out.push('\n');
    }
    out
}

fn coloured(line: &str, style: Style) -> String {
    if line.starts_with("+++") || line.starts_with("---") || line.starts_with("diff ") {
        style.bold(line)
    } else if line.starts_with('+') {
        style.green(line)
    } else if line.starts_with('-') {
        style.red(line)
    } else if line.starts_with('#') {
        style.yellow(line)
    } else if line.starts_with("@@") {
        style.cyan(line)
    } else if line.starts_with("index ") || line.contains(" mode ") {
        style.dim(line)
    } else {
        line.to_owned()
    }
}

/// What an edit replaces, as lines that go and lines that come; at most `most` of them.
pub(super) fn replaced(old: &str, new: &str, style: Style, indent: &str, most: usize) -> String {
    use similar::{ChangeTag, TextDiff};
    let diff = TextDiff::from_lines(old, new);
    let changes: Vec<_> = diff.iter_all_changes().filter(|c| c.tag() != ChangeTag::Equal).collect();
    let mut out = String::new();
    for change in changes.iter().take(most) {
        let text = render::line(&change.value().trim_end_matches('\n').into(), 160);
        let line = if change.tag() == ChangeTag::Insert {
            style.green(&format!("+ {text}"))
        } else {
            style.red(&format!("- {text}"))
        };
        out.push_str(&format!("{indent}{line}\n"));
    }
    if changes.len() > most {
        out.push_str(&format!("{indent}{}\n", style.dim(&format!("… {} more lines", changes.len() - most))));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_shows_what_goes_and_comes() {
        let shown = replaced("a\nb\nc\n", "a\nB\nc\nd\n", Style::PLAIN, "  ", 9);
        assert_eq!(shown, "  - b\n  + B\n  + d\n");
        assert_eq!(replaced("", "a\nb\nc\n", Style::PLAIN, "", 1), "+ a\n… 2 more lines\n");
    }

    #[test]
    fn a_diff_cannot_paint_the_screen() {
        let shown = diff(&"+\u{1b}[2Jx\n".into(), Style { colours: true, width: None }, "");
        assert_eq!(shown, "\u{1b}[32m+\\u{1b}[2Jx\u{1b}[0m\n");
    }
}
