//! What a program printed, kept within bounds while it prints, and passed on live.

use serde_json::json;
use vteam_sdk::{
    process::{Child, Event, Next},
    progress,
};

/// Characters that a model is shown of one output: half from the beginning, half from the end.
pub(crate) const SHOWN_CHARS: usize = 30_000;
/// Bytes kept of either half; a character has at most four.
const HALF_BYTES: usize = SHOWN_CHARS / 2 * 4;

/// Standard output and standard error in the order in which they arrived.
#[derive(Default)]
pub(crate) struct Output {
    head: Vec<u8>,
    tail: Vec<u8>,
    /// Bytes that are in neither.
    lost: usize,
}

impl Output {
    /// Reads until the program ends, or, if it is not to be waited for, what there is.
    pub(crate) fn read(child: &Child, wait: bool) -> Self {
        let mut output = Self::default();
        let (mut stdout, mut stderr) = (Live::new("stdout"), Live::new("stderr"));
        let patience = (!wait).then_some(std::time::Duration::ZERO);
        loop {
            match child.next(patience) {
                Next::Event(Event::Stdout(bytes)) => {
                    stdout.emit(&bytes);
                    output.push(&bytes);
                }
                Next::Event(Event::Stderr(bytes)) => {
                    stderr.emit(&bytes);
                    output.push(&bytes);
                }
                Next::Event(Event::Other(_)) => {}
                Next::Quiet | Next::End => return output,
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(HALF_BYTES - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend_from_slice(rest);
        let over = self.tail.len().saturating_sub(2 * HALF_BYTES);
        if over > 0 {
            // Cut rarely and generously: each cut moves what stays.
            let cut = self.tail.len() - HALF_BYTES;
            self.tail.drain(..cut);
            self.lost += cut;
        }
    }

    /// The whole text, or its beginning and end with a note between them.
    pub(crate) fn text(&self) -> String {
        if self.lost == 0 {
            return cut_middle(&String::from_utf8_lossy(&[self.head.as_slice(), &self.tail].concat()), 0);
        }
        let [head, tail] = [&self.head, &self.tail].map(|half| String::from_utf8_lossy(half).into_owned());
        cut_middle(&(head + &tail), self.lost)
    }
}

/// `lost` bytes are missing in the middle already.
fn cut_middle(text: &str, lost: usize) -> String {
    let chars = text.chars().count();
    if chars <= SHOWN_CHARS && lost == 0 {
        return text.to_owned();
    }
    let half = SHOWN_CHARS / 2;
    let head: String = text.chars().take(half).collect();
    let tail: String = text.chars().skip(chars - half.min(chars)).collect();
    let cut = text.len() - head.len() - tail.len() + lost;
    format!("{head}\n\n[… {cut} bytes are left out here …]\n\n{tail}")
}

/// Passes output on to those who watch, never splitting a character.
struct Live {
    kind: &'static str,
    waiting: Vec<u8>,
}

impl Live {
    const fn new(kind: &'static str) -> Self {
        Self { kind, waiting: Vec::new() }
    }

    fn emit(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.waiting) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.waiting.len(),
        };
        let rest = self.waiting.split_off(whole);
        let now = std::mem::replace(&mut self.waiting, rest);
        if !now.is_empty() {
            progress::emit(self.kind, &json!(String::from_utf8_lossy(&now)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_loses_its_middle() {
        let check = |lines: usize, expected_start: &str, expected_end: &str, cut: bool| {
            let mut output = Output::default();
            for n in 0..lines {
                output.push(format!("line é {n}\n").as_bytes());
            }
            let text = output.text();
            assert!(text.starts_with(expected_start) && text.ends_with(expected_end), "{lines}");
            assert_eq!(text.contains("bytes are left out here"), cut, "{lines}");
            assert!(text.chars().count() < SHOWN_CHARS + 100, "{lines}");
            assert!(output.tail.len() <= 2 * HALF_BYTES + 4096);
        };
        check(0, "", "", false);
        check(10, "line é 0\n", "line é 9\n", false);
        check(5_000, "line é 0\n", "line é 4999\n", true);
        check(500_000, "line é 0\n", "line é 499999\n", true);
    }
}
