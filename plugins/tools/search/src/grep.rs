//! `Grep`.

use crate::{
    report::{Lines, Report},
    walk::{self, Files},
};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, sinks::Lossy};
use ignore::{overrides::OverrideBuilder, types::TypesBuilder};
use schemars::JsonSchema;
use vteam_sdk::{Context, Outcome, ToolError};

/// Lines or files given when no limit is.
const LIMIT: usize = 250;

/// Searches the content of the workspace's files with a regular expression.
///
/// The syntax is ripgrep's: `log.*Error`, `fn\s+\w+`; literal braces are escaped (`interface\{\}`). Files that
/// `.gitignore` names and binary files are left out. Use this and not `grep` or `rg` in Bash.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grep {
    /// The regular expression.
    pattern: String,
    /// The file or directory to search. Left out, it is the root of the workspace.
    path: Option<String>,
    /// Only files that fit this glob, such as `*.js` or `*.{ts,tsx}`; with `!` in front, all others.
    glob: Option<String>,
    /// Only files of this type, such as `rust`, `py`, `js`, `go`, `java`.
    r#type: Option<String>,
    /// What is given: matching lines, paths of files that match (this one when left out), or matches per file.
    #[serde(default)]
    output_mode: OutputMode,
    /// Lines shown before each match, in mode `content`.
    #[serde(rename = "-B")]
    before: Option<u32>,
    /// Lines shown after each match, in mode `content`.
    #[serde(rename = "-A")]
    after: Option<u32>,
    /// Lines shown before and after each match, in mode `content`.
    #[serde(rename = "-C")]
    around: Option<u32>,
    /// Line numbers, in mode `content`. They are shown unless this is false.
    #[serde(rename = "-n")]
    numbers: Option<bool>,
    /// Upper and lower case are the same.
    #[serde(rename = "-i", default)]
    ignore_case: bool,
    /// `.` also matches line breaks and a match may span lines.
    #[serde(default)]
    multiline: bool,
    /// How many lines or files are given at most; 250 when left out.
    head_limit: Option<u32>,
}

#[derive(serde::Deserialize, JsonSchema, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutputMode {
    Content,
    #[default]
    FilesWithMatches,
    Count,
}

pub(crate) fn grep(input: Grep, context: &Context) -> Result<Outcome, ToolError> {
    let matcher = input.matcher()?;
    let mut searcher = input.searcher();
    let files = input.files(context)?;
    let limit = input.head_limit.map_or(LIMIT, |n| n as usize);
    let mut report = Report::new(input.output_mode, limit);
    for path in files.iter() {
        // A file that went away or cannot be read is no match.
        _ = match input.output_mode {
            OutputMode::Content => {
                let numbers = input.numbers.unwrap_or(true);
                searcher.search_path(&matcher, &path, Lines::new(&path, numbers, &mut report))
            }
            OutputMode::FilesWithMatches | OutputMode::Count => {
                let mut matches = 0;
                let whole = input.output_mode == OutputMode::Count;
                let sink = Lossy(|_, _| {
                    matches += 1;
                    Ok(whole)
                });
                let searched = searcher.search_path(&matcher, &path, sink);
                report.file(path, matches);
                searched
            }
        };
        if report.is_full() {
            break;
        }
    }
    Ok(Outcome::text(report.finish()))
}

impl Grep {
    fn matcher(&self) -> Result<RegexMatcher, ToolError> {
        let mut builder = RegexMatcherBuilder::new();
        builder.case_insensitive(self.ignore_case).multi_line(true).dot_matches_new_line(self.multiline);
        if !self.multiline {
            builder.line_terminator(Some(b'\n'));
        }
        builder.build(&self.pattern).map_err(|error| {
            let hint = if self.pattern.contains("\\n") && !self.multiline {
                " (set multiline to match across lines)"
            } else {
                ""
            };
            ToolError::invalid(format!("the regular expression cannot be used: {error}{hint}"))
        })
    }

    fn searcher(&self) -> Searcher {
        let lines = |given: Option<u32>| given.or(self.around).unwrap_or(0) as usize;
        SearcherBuilder::new()
            .multi_line(self.multiline)
            .binary_detection(BinaryDetection::quit(0))
            .before_context(lines(self.before))
            .after_context(lines(self.after))
            .build()
    }

    fn files(&self, context: &Context) -> Result<Files, ToolError> {
        let place = walk::place(context, self.path.as_deref())?;
        let mut files = Files::below(context, &place);
        let invalid = |error: ignore::Error| ToolError::invalid(error.to_string());
        if let Some(glob) = &self.glob {
            let mut only = OverrideBuilder::new(context.workspace());
            only.add(glob).map_err(invalid)?;
            files.only = only.build().map_err(invalid)?;
        }
        if let Some(name) = &self.r#type {
            let mut types = TypesBuilder::new();
            types.add_defaults();
            types.select(name);
            files.types = types.build().map_err(invalid)?;
        }
        Ok(files)
    }
}
