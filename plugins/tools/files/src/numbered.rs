//! Text as `cat -n` shows it, which is how models are used to see files.

use std::fmt::Write as _;

/// Characters of a line that are shown.
pub(crate) const LINE_CHARS: usize = 2000;

/// Appends one line with its number, from 1.
pub(crate) fn push(out: &mut String, number: usize, line: &str) {
    _ = write!(out, "{number:>6}\t");
    match line.char_indices().nth(LINE_CHARS) {
        None => out.push_str(line),
        Some((cut, _)) => {
            out.push_str(line.get(..cut).unwrap_or_default());
            _ = write!(out, "… [{} more characters]", line.chars().count() - LINE_CHARS);
        }
    }
    out.push('\n');
}

/// The lines `first..=last` (from 1) of a text and `around` more on both sides.
pub(crate) fn snippet(text: &str, first: usize, last: usize, around: usize) -> String {
    let start = first.saturating_sub(around).max(1);
    let mut out = String::new();
    for (index, line) in text.lines().enumerate().skip(start - 1).take(last + around + 1 - start) {
        push(&mut out, index + 1, line);
    }
    out
}
