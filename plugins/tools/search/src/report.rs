//! What a search found, in the three shapes that models know from ripgrep.

use crate::{grep::OutputMode, walk};
use grep_searcher::{Searcher, Sink, SinkContext, SinkMatch};
use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

/// Characters of a line that are shown.
const LINE_CHARS: usize = 500;
/// Bytes of the report at most.
const BYTES: usize = 100_000;

pub(crate) struct Report {
    mode: OutputMode,
    limit: usize,
    lines: Vec<String>,
    bytes: usize,
    files: Vec<(PathBuf, u64)>,
    full: bool,
}

impl Report {
    pub(crate) const fn new(mode: OutputMode, limit: usize) -> Self {
        let limit = if limit == 0 { usize::MAX } else { limit };
        Self { mode, limit, lines: Vec::new(), bytes: 0, files: Vec::new(), full: false }
    }

    /// Nothing more is needed: what is there already fills it.
    pub(crate) const fn is_full(&self) -> bool {
        self.full
    }

    pub(crate) fn file(&mut self, path: PathBuf, matches: u64) {
        if matches > 0 {
            self.files.push((path, matches));
        }
    }

    fn line(&mut self, line: String) {
        if self.lines.len() >= self.limit || self.bytes > BYTES {
            self.full = true;
            return;
        }
        self.bytes += line.len() + 1;
        self.lines.push(line);
    }

    pub(crate) fn finish(self) -> String {
        match self.mode {
            OutputMode::Content if self.lines.is_empty() => "No matches found".to_owned(),
            OutputMode::Content => {
                let shown = self.lines.len();
                let cut = if self.full {
                    format!("\n\n[Only {shown} lines are shown: there are more.]")
                } else {
                    String::new()
                };
                self.lines.join("\n") + &cut
            }
            OutputMode::FilesWithMatches if self.files.is_empty() => "No files found".to_owned(),
            OutputMode::FilesWithMatches => self.paths(),
            OutputMode::Count if self.files.is_empty() => "No matches found".to_owned(),
            OutputMode::Count => self.counts(),
        }
    }

    fn paths(self) -> String {
        let total = self.files.len();
        let mut paths: Vec<PathBuf> = self.files.into_iter().map(|(path, _)| path).collect();
        walk::newest_first(&mut paths);
        let mut out = format!("Found {total} {}", if total == 1 { "file" } else { "files" });
        for path in paths.iter().take(self.limit) {
            _ = write!(out, "\n{}", path.display());
        }
        if total > self.limit {
            _ = write!(out, "\n\n[Only {} are shown.]", self.limit);
        }
        out
    }

    fn counts(self) -> String {
        let mut out = String::new();
        for (path, matches) in self.files.iter().take(self.limit) {
            _ = writeln!(out, "{}:{matches}", path.display());
        }
        let total: u64 = self.files.iter().map(|(_, matches)| matches).sum();
        _ = write!(out, "\nFound {total} matching lines in {} files.", self.files.len());
        out
    }
}

/// Takes the lines of one file, as `path:number:line`, or `path-number-line` for context.
pub(crate) struct Lines<'a> {
    path: String,
    numbers: bool,
    report: &'a mut Report,
    begun: bool,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(path: &Path, numbers: bool, report: &'a mut Report) -> Self {
        Self { path: path.display().to_string(), numbers, report, begun: false }
    }

    fn push(&mut self, separator: char, first: Option<u64>, bytes: &[u8], context: bool) -> bool {
        if !self.begun && context && !self.report.lines.is_empty() {
            self.report.line("--".to_owned());
        }
        self.begun = true;
        let text = String::from_utf8_lossy(bytes);
        for (number, line) in (first.unwrap_or(0)..).zip(text.lines()) {
            let number = if self.numbers { format!("{number}{separator}") } else { String::new() };
            self.report.line(format!("{}{separator}{number}{}", self.path, shortened(line)));
        }
        !self.report.full
    }
}

impl Sink for Lines<'_> {
    type Error = io::Error;

    fn matched(&mut self, searcher: &Searcher, found: &SinkMatch<'_>) -> Result<bool, io::Error> {
        let context = searcher.before_context() + searcher.after_context() > 0;
        Ok(self.push(':', found.line_number(), found.bytes(), context))
    }

    fn context(&mut self, _: &Searcher, found: &SinkContext<'_>) -> Result<bool, io::Error> {
        Ok(self.push('-', found.line_number(), found.bytes(), true))
    }

    fn context_break(&mut self, _: &Searcher) -> Result<bool, io::Error> {
        self.report.line("--".to_owned());
        Ok(!self.report.full)
    }
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(LINE_CHARS) {
        None => line.to_owned(),
        Some((cut, _)) => format!("{}… [line cut]", line.get(..cut).unwrap_or_default()),
    }
}
