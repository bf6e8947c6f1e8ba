//! `Edit` and `MultiEdit`.

use crate::{numbered, place, stage::Base};
use schemars::JsonSchema;
use std::borrow::Cow;
use vteam_sdk::{Context, Outcome, ToolError};

/// Lines shown on both sides of an edit.
const AROUND: usize = 4;
/// Lines of a snippet at most.
const SNIPPET_LINES: usize = 60;

/// Replaces exact text in a file of the workspace.
///
/// `old_string` has to be in the file exactly as given, with its indentation and without the line numbers that Read
/// prints, and only once: add lines around it until it is unique, or set `replace_all`. An empty `old_string` makes a
/// new file out of `new_string`.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// The file: an absolute path below the workspace, or one relative to its root.
    file_path: String,
    /// The text to replace.
    old_string: String,
    /// The text to put in its place; different from `old_string`.
    new_string: String,
    /// Replace every occurrence, not the only one.
    #[serde(default)]
    replace_all: bool,
}

/// Makes several edits to one file of the workspace, one after the other, all of them or none.
///
/// Each edit follows the rules of Edit and applies to what the edits before it left. Prefer this to several calls of
/// Edit on the same file.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MultiEdit {
    /// The file: an absolute path below the workspace, or one relative to its root.
    file_path: String,
    /// The edits, in order.
    #[schemars(length(min = 1))]
    edits: Vec<Replacement>,
}

#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Replacement {
    /// The text to replace.
    old_string: String,
    /// The text to put in its place; different from `old_string`.
    new_string: String,
    /// Replace every occurrence, not the only one.
    #[serde(default)]
    replace_all: bool,
}

pub(crate) fn edit(input: Edit, context: &Context) -> Result<Outcome, ToolError> {
    let Edit { file_path, old_string, new_string, replace_all } = input;
    let base = base(context, &file_path, &old_string)?;
    let replaced =
        Replacement { old_string, new_string, replace_all }.apply(&base.text).map_err(|e| e.about(&base))?;
    base.stage(&replaced.text)?;
    Ok(Outcome::text(replaced.report(&base)))
}

pub(crate) fn multi_edit(input: MultiEdit, context: &Context) -> Result<Outcome, ToolError> {
    let Some(first) = input.edits.first() else {
        return Err(ToolError::invalid("there are no edits"));
    };
    let base = base(context, &input.file_path, &first.old_string)?;
    let mut text = Cow::Borrowed(base.text.as_str());
    let mut reports = Vec::new();
    for (index, edit) in input.edits.iter().enumerate() {
        let replaced = if index == 0 && base.digest.is_none() {
            Replaced {
                text: edit.new_string.clone(),
                first: 1,
                last: edit.new_string.lines().count(),
                count: 1,
            }
        } else {
            edit.apply(&text).map_err(|e| {
                ToolError::invalid(format!(
                    "Edit {} of {}: {} Nothing was changed.",
                    index + 1,
                    input.edits.len(),
                    e.message(&base)
                ))
            })?
        };
        reports.push(format!("{}. {}", index + 1, replaced.summary()));
        text = Cow::Owned(replaced.text);
    }
    base.stage(&text)?;
    let shown = place::shown(&base.path);
    Ok(Outcome::text(format!("Made {} edits to {shown}:\n{}\n", input.edits.len(), reports.join("\n"))))
}

fn base(context: &Context, given: &str, old_string: &str) -> Result<Base, ToolError> {
    if old_string.is_empty() { Base::new_file(context, given) } else { Base::read(context, given) }
}

/// Why a text was not replaced.
#[derive(Debug, PartialEq, Eq)]
enum Unfit {
    Identical,
    Empty,
    NotFound { hint: Option<&'static str> },
    Ambiguous { count: usize },
}

impl Unfit {
    fn message(&self, base: &Base) -> String {
        let shown = place::shown(&base.path);
        match self {
            Self::Identical => {
                "old_string and new_string are the same, so there is nothing to change.".to_owned()
            }
            Self::Empty => format!("old_string is empty, but {shown} exists already."),
            Self::NotFound { hint } => {
                format!(
                    "old_string was not found in {shown}.{}",
                    hint.map(|h| format!(" {h}")).unwrap_or_default()
                )
            }
            Self::Ambiguous { count } => format!(
                "old_string was found {count} times in {shown}. Add lines around it to make it unique, or set \
                 replace_all to replace all {count}."
            ),
        }
    }

    fn about(&self, base: &Base) -> ToolError {
        ToolError::invalid(self.message(base))
    }
}

struct Replaced {
    text: String,
    /// Lines of the first replacement, from 1.
    first: usize,
    last: usize,
    count: usize,
}

impl Replacement {
    fn apply(&self, text: &str) -> Result<Replaced, Unfit> {
        if self.old_string == self.new_string {
            return Err(Unfit::Identical);
        }
        if self.old_string.is_empty() {
            return if text.is_empty() { Ok(whole(&self.new_string)) } else { Err(Unfit::Empty) };
        }
        let (old, new) = self.with_line_endings_of(text);
        let count = text.matches(old.as_ref()).count();
        match (text.find(old.as_ref()), count) {
            (None, _) => Err(Unfit::NotFound { hint: hint(text, &self.old_string) }),
            (Some(_), 2..) if !self.replace_all => Err(Unfit::Ambiguous { count }),
            (Some(at), _) => {
                let first = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
                let last = first + new.matches('\n').count();
                Ok(Replaced { text: text.replace(old.as_ref(), new.as_ref()), first, last, count })
            }
        }
    }

    /// Models write `\n`; in a file with `\r\n` that means a line's end there.
    fn with_line_endings_of(&self, text: &str) -> (Cow<'_, str>, Cow<'_, str>) {
        let crlf = |s: &str| s.replace("\r\n", "\n").replace('\n', "\r\n");
        if text.contains("\r\n") && !text.contains(&self.old_string) && text.contains(&crlf(&self.old_string))
        {
            return (Cow::Owned(crlf(&self.old_string)), Cow::Owned(crlf(&self.new_string)));
        }
        (Cow::Borrowed(&self.old_string), Cow::Borrowed(&self.new_string))
    }
}

fn whole(text: &str) -> Replaced {
    Replaced { text: text.to_owned(), first: 1, last: text.lines().count(), count: 1 }
}

impl Replaced {
    fn summary(&self) -> String {
        match self.count {
            1 => format!("Replaced the text at line {}.", self.first),
            count => format!("Replaced {count} occurrences, the first at line {}.", self.first),
        }
    }

    fn report(&self, base: &Base) -> String {
        let shown = place::shown(&base.path);
        let last = self.last.min(self.first + SNIPPET_LINES);
        let snippet = numbered::snippet(&self.text, self.first, last, AROUND);
        let done = match base.digest {
            None => format!("Created {shown}."),
            Some(_) => format!("Edited {shown}. {}", self.summary()),
        };
        format!("{done} It now reads:\n{snippet}")
    }
}

/// What models most often get wrong.
fn hint(text: &str, old: &str) -> Option<&'static str> {
    let squeezed = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
    let numbers = |l: &str| l.trim_start().split_once('\t').is_some_and(|(n, _)| n.parse::<u32>().is_ok());
    if old.lines().all(numbers) {
        return Some("It seems to hold the line numbers that Read prints: leave them out.");
    }
    squeezed(text).contains(&squeezed(old)).then_some(
        "It is there with other white space: copy the indentation and line breaks exactly as Read shows them.",
    )
}
