//! The answer of a command, on stdout: text, tables, or JSON. Nothing else writes there.

use crate::{exit::Outcome, view::style::Style};
use model::{Untrusted, render};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use unicode_width::UnicodeWidthStr;

/// How to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) style: Style,
}

impl Output {
    pub(crate) fn new(json: bool, colours_wanted: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let width = terminal.then(|| rustix::termios::tcgetwinsize(std::io::stdout()).ok()).flatten();
        let width =
            width.map(|size| usize::from(size.ws_col)).filter(|columns| *columns >= 40).map(|c| c.min(110));
        Self { json, style: Style { colours: terminal && colours_wanted, width } }
    }

    /// Text that is safe to show as it is.
    pub(crate) fn text(self, text: &str) -> Outcome {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// JSON, on several lines.
    pub(crate) fn json<T: Serialize>(self, value: &T) -> Outcome {
        self.text(&(harmless(&serde_json::to_string_pretty(value).unwrap_or_default()) + "\n"))
    }

    /// JSON, on one line.
    pub(crate) fn json_line<T: Serialize>(self, value: &T) -> Outcome {
        self.text(&(harmless(&serde_json::to_string(value).unwrap_or_default()) + "\n"))
    }

    /// A table; cells are made harmless here.
    pub(crate) fn table(self, head: &[&str], rows: &[Vec<Untrusted>]) -> Outcome {
        self.text(&table(head, rows, self.style))
    }
}

fn table(head: &[&str], rows: &[Vec<Untrusted>], style: Style) -> String {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| render::line(cell, 72)).collect()).collect();
    let widest = |column: usize| {
        let below =
            cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0);
        below.max(head.get(column).map_or(0, |name| name.width()))
    };
    let widths: Vec<usize> = (0..head.len()).map(widest).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(cell.width()))));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut out = style.bold(&line(&mut head.iter().copied())) + "\n";
    for row in &cells {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
        out.push('\n');
    }
    out
}

/// The same JSON without characters that a terminal obeys or that hide or reorder text: as `\u` escapes, which only
/// strings can contain.
pub(crate) fn harmless(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        let plain = c == '\n' || (c.is_ascii() && !c.is_ascii_control());
        if plain || render::line(&c.to_string().into(), 16) == c.to_string() {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_json_and_becomes_harmless() {
        let value = serde_json::json!({"a": "\u{9b}31m\u{202e}ü\u{1b}\u{e0041}\u{7f}"});
        let shown = harmless(&value.to_string());
        assert_eq!(shown, r#"{"a":"\u009b31m\u202eü\u001b\udb40\udc41\u007f"}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "long name".into()], vec!["漢字".into(), "x\n".into()]];
        assert_eq!(table(&["ID", "NAME"], &rows, Style::PLAIN), "ID    NAME\na     long name\n漢字  x\\n\n");
    }
}
