//! Prose as it streams in: indented, wrapped at words, made harmless.

use super::style::Style;
use model::{Untrusted, render};
use unicode_width::UnicodeWidthStr;

/// Wraps text that comes in pieces. A word is held back until it is known to be whole.
#[derive(Debug)]
pub(super) struct Flow {
    style: Style,
    dim: bool,
    indent: usize,
    column: usize,
    word: String,
    spaces: usize,
}

impl Flow {
    pub(super) fn new(style: Style, indent: usize, dim: bool) -> Self {
        Self { style, dim, indent, column: 0, word: String::new(), spaces: 0 }
    }

    /// What can be printed after this piece.
    pub(super) fn push(&mut self, text: &Untrusted) -> String {
        let mut out = String::new();
        for c in render::terminal(text).chars() {
            match c {
                '\n' => {
                    self.end_word(&mut out);
                    self.spaces = 0;
                    out.push('\n');
                    self.column = 0;
                }
                ' ' => {
                    self.end_word(&mut out);
                    self.spaces += 1;
                }
                c => self.word.push(c),
            }
        }
        self.painted(&out)
    }

    /// The rest, and the end of its line.
    pub(super) fn end(&mut self) -> String {
        let mut out = String::new();
        self.end_word(&mut out);
        if self.column > 0 {
            out.push('\n');
        }
        self.column = 0;
        self.painted(&out)
    }

    fn end_word(&mut self, out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let word = std::mem::take(&mut self.word);
        let width = word.width();
        let fits = self.style.width.is_none_or(|max| self.column + self.spaces + width <= max);
        if self.column > 0 && !fits {
            out.push('\n');
            self.column = 0;
            self.spaces = 0;
        }
        if self.column == 0 {
            out.push_str(&" ".repeat(self.indent));
            self.column = self.indent;
        }
        out.push_str(&" ".repeat(self.spaces));
        self.column += std::mem::take(&mut self.spaces) + width;
        out.push_str(&word);
    }

    fn painted(&self, text: &str) -> String {
        if self.dim { self.style.dim(text) } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_wrap_and_pieces_join() {
        let check = |width: Option<usize>, pieces: &[&str], expected: &str| {
            let mut flow = Flow::new(Style { colours: false, width }, 2, false);
            let mut out: String = pieces.iter().map(|piece| flow.push(&(*piece).into())).collect();
            out.push_str(&flow.end());
            assert_eq!(out, expected, "{pieces:?}");
        };
        check(None, &["I lo", "ok at it."], "  I look at it.\n");
        check(Some(12), &["one two three four"], "  one two\n  three four\n");
        check(Some(12), &["a\n\n- b\n  c"], "  a\n\n  - b\n    c\n");
        check(None, &["x\u{1b}[31my"], "  x\\u{1b}[31my\n");
        check(Some(6), &["averylongword"], "  averylongword\n");
        check(None, &[""], "");
    }
}
