//! What a call prints while it runs: whole lines, and of a flood only the beginning.

/// A flood would bury what matters: so much of one call is shown live, 400 lines of 80 columns, then only its end.
const LIVE_CELLS: usize = 32_000;

#[derive(Debug, Default)]
pub(super) struct Streamed {
    /// The line that has no end yet.
    rest: String,
    /// Cells of a terminal of 80 columns that were filled.
    cells: usize,
    skipped: usize,
}

impl Streamed {
    /// The lines that are whole with this text and may still be shown.
    pub(super) fn take(&mut self, text: &str) -> Option<String> {
        self.rest.push_str(text);
        let (whole, rest) = self.rest.rsplit_once('\n')?;
        let mut shown = String::new();
        for line in whole.split('\n') {
            self.cells = self.cells.saturating_add(line.len().max(80));
            if self.cells > LIVE_CELLS {
                self.skipped += 1;
                continue;
            }
            shown.push_str(line);
            shown.push('\n');
        }
        self.rest = rest.to_owned();
        (!shown.is_empty()).then_some(shown)
    }

    /// Lines that were too many, or one that was too long.
    pub(super) fn skipped(&self) -> usize {
        self.skipped + usize::from(self.rest.len() > LIVE_CELLS)
    }

    /// The end that has no end of line.
    pub(super) fn rest(&self) -> &str {
        &self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_ends() {
        let mut streamed = Streamed::default();
        assert_eq!(streamed.take("a"), None);
        assert_eq!(streamed.take("b\nc"), Some("ab\n".to_owned()));
        let lines = streamed.take(&"\n".repeat(1000)).unwrap_or_default();
        assert_eq!((lines.lines().count(), streamed.skipped()), (399, 601));
        assert_eq!((streamed.take("more\n"), streamed.skipped()), (None, 602));
        let mut long = Streamed::default();
        assert_eq!((long.take(&"x".repeat(40_000)), long.skipped()), (None, 1));
    }
}
