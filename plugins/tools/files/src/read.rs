//! `Read`.

use crate::{image, numbered, place};
use schemars::JsonSchema;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read as _},
};
use vteam_sdk::{Context, Outcome, ToolError};

/// Lines shown when no limit is given.
const LINES: usize = 2000;
/// Bytes of text shown at most.
const SHOWN_BYTES: usize = 200_000;
/// Bytes of an image at most: a call's outcome has to hold it.
const IMAGE_BYTES: u64 = 1_000_000;
/// Bytes looked at to tell text from the rest.
const HEAD_BYTES: usize = 8192;

/// Reads a file of the workspace.
///
/// Text comes with line numbers, as `cat -n` prints it: the number, a tab, then the line itself. Without `limit`, the
/// first 2000 lines are read; a line longer than 2000 characters is cut. Images (PNG, JPEG, GIF, WebP) are shown as
/// images. Other binary files and directories are refused; use LS for a directory. Several files can be read at once by
/// calling this tool several times in one turn.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Read {
    /// The file: an absolute path below the workspace, or one relative to its root.
    file_path: String,
    /// The line to start at, from 1. Only for files too large to read at once.
    offset: Option<u32>,
    /// How many lines to read. Only for files too large to read at once.
    limit: Option<u32>,
}

pub(crate) fn read(input: Read, context: &Context) -> Result<Outcome, ToolError> {
    let (path, meta) = place::file(context, &input.file_path)?;
    let shown = place::shown(&path);
    let file = File::open(&path.absolute).map_err(|e| ToolError::io(&shown, &e))?;
    let mut reader = BufReader::with_capacity(HEAD_BYTES, file);
    let head = reader.fill_buf().map_err(|e| ToolError::io(&shown, &e))?;
    if head.is_empty() {
        return Ok(Outcome::text(format!("{shown} exists, but it is empty.")));
    }
    if let Some(media_type) = image::media_type(head) {
        return read_image(reader, &shown, media_type, meta.len());
    }
    if head.contains(&0) {
        return Err(ToolError::invalid(format!(
            "{shown} is a binary file of {} bytes, which is not shown",
            meta.len()
        )));
    }
    let first = input.offset.map_or(1, |n| (n as usize).max(1));
    let limit = input.limit.map_or(LINES, |n| (n as usize).max(1));
    read_text(reader, &shown, first, limit).map(Outcome::text)
}

fn read_image(
    mut reader: impl BufRead,
    shown: &str,
    media_type: &str,
    size: u64,
) -> Result<Outcome, ToolError> {
    if size > IMAGE_BYTES {
        return Err(ToolError::invalid(format!(
            "{shown} is an image of {size} bytes; at most {IMAGE_BYTES} are shown"
        )));
    }
    let mut data = Vec::new();
    reader.read_to_end(&mut data).map_err(|e| ToolError::io(shown, &e))?;
    Ok(Outcome::image(media_type, data))
}

fn read_text(mut reader: impl BufRead, shown: &str, first: usize, limit: usize) -> Result<String, ToolError> {
    let mut out = String::new();
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        let whole = next_line(&mut reader, &mut line).map_err(|e| ToolError::io(shown, &e))?;
        if !whole {
            break;
        }
        number += 1;
        if number < first {
            continue;
        }
        if number >= first + limit || out.len() > SHOWN_BYTES {
            let last = number - 1;
            out.push_str(&format!(
                "\n[Lines {first} to {last} are shown and the file goes on: read on with offset {number}.]\n"
            ));
            return Ok(out);
        }
        numbered::push(&mut out, number, &String::from_utf8_lossy(&line));
    }
    if out.is_empty() {
        return Ok(format!("{shown} has {number} lines; line {first} is past its end."));
    }
    Ok(out)
}

/// Reads a line without its ending, keeping no more of it than can be shown; whether there was one.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    if reader.take(1 << 20).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        line.pop_if(|b| *b == b'\r');
    } else {
        skip_line(reader)?;
    }
    Ok(true)
}

fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let (used, done) = match buffer.iter().position(|b| *b == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        reader.consume(used);
        if done {
            return Ok(());
        }
    }
}
