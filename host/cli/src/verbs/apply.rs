//! Shows what a session changed and brings it into a folder, with the person's consent.

use crate::{
    apply::{self, Content, Folder, Ready, Standing},
    ask::{self, Lines},
    client::Client,
    exit::{Code, Failure, Outcome},
    settings::Settings,
    view::patch,
};
use model::id::{Digest, SessionName};
use serde_json::{Value, json};
use std::{collections::BTreeSet, path::Path};

/// Whether it may be written.
pub(super) enum Consent<'a> {
    Given,
    Ask(&'a mut Lines),
    /// Only shown; the person is told how.
    Later,
}

/// What was brought into the folder.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) files: Vec<String>,
    pub(super) left_out: Vec<apply::Conflict>,
}

impl Applied {
    pub(super) fn json(&self) -> Value {
        let left_out = self.left_out.iter().map(|left| json!({ "path": left.path, "why": left.why }));
        json!({ "applied": self.files, "leftOut": left_out.collect::<Vec<_>>() })
    }
}

/// Shows the diff of a session that worked in the folder itself.
pub(super) fn done_in(settings: &Settings, folder: &Path, diff: &str) -> Outcome {
    show(settings, diff)?;
    hint(settings, &format!("this is how {} is now", folder.display()))
}

fn show(settings: &Settings, diff: &str) -> Outcome {
    let output = settings.output;
    if output.json {
        return Ok(());
    }
    if diff.trim().is_empty() {
        return output.text(&output.style.dim("no file was changed\n"));
    }
    let readable = patch::readable(&diff.into(), output.style, "  ");
    output.text(&format!("\n{}\n{readable}", output.style.bold("changes")))
}

/// Shows the diff, and writes it into `dir` where there is one and the person agrees.
pub(super) async fn bring_back(
    settings: &Settings,
    client: &Client,
    name: &SessionName,
    dir: Option<&Path>,
    diff: &str,
    consent: Consent<'_>,
) -> Outcome<Applied> {
    let changes = apply::parse(diff)
        .map_err(|e| Failure::of(Code::Failed, "what the session changed cannot be taken over", &e))?;
    show(settings, diff)?;
    let nothing = Applied::default();
    let flags = &settings.flags;
    if changes.is_empty() {
        return Ok(nothing);
    }
    let Some(dir) = dir else {
        hint(settings, &format!("keep them with: vteam sessions apply {name} --to FOLDER{flags}"))?;
        return Ok(nothing);
    };
    let folder = Folder::open(dir)
        .map_err(|e| Failure::of(Code::NotFound, &format!("cannot open {}", dir.display()), &e))?;
    // A server elsewhere does not know where the folder is.
    let to = if settings.sees_folders() { String::new() } else { format!(" --to {}", dir.display()) };
    let wanted = match consent {
        Consent::Given => true,
        Consent::Later => {
            hint(settings, &format!("take them over with: vteam sessions apply {name}{to}{flags}"))?;
            return Ok(nothing);
        }
        Consent::Ask(lines) => confirmed(settings, &format!("Apply to {}?", dir.display()), lines).await?,
    };
    if !wanted {
        hint(settings, &format!("not applied; later: vteam sessions apply {name}{to}{flags}"))?;
        return Ok(nothing);
    }
    let (ready, left_out) = prepare(client, name, changes, &folder).await?;
    let total = ready.len();
    apply::write(&ready, &folder).map_err(|conflict| Failure::new(Code::Conflict, stopped(&conflict)))?;
    let said = match total {
        0 => format!("{} has these changes already", dir.display()),
        1 => format!("1 file applied to {}", dir.display()),
        _ => format!("{total} files applied to {}", dir.display()),
    };
    hint(settings, &said)?;
    if !left_out.is_empty() {
        let lines: String = left_out.iter().map(apply::Conflict::line).collect();
        hint(settings, &format!("left out:\n{}", lines.trim_end()))?;
    }
    Ok(Applied { files: ready.into_iter().map(|ready| ready.change.path).collect(), left_out })
}

fn stopped(conflict: &apply::Conflict) -> String {
    format!("stopped at {}: {}; files before it are written", conflict.path, conflict.why)
}

/// All contents, after every file was found to fit, and what is not taken over. Files that are as wished already are in
/// neither.
async fn prepare(
    client: &Client,
    name: &SessionName,
    changes: Vec<apply::Change>,
    folder: &Folder,
) -> Outcome<(Vec<Ready>, Vec<apply::Conflict>)> {
    let (mut conflicts, mut left_out) = (Vec::new(), Vec::new());
    let mut fitting = Vec::new();
    let goes: BTreeSet<String> =
        changes.iter().filter(|change| change.goes()).map(|c| c.path.clone()).collect();
    for change in changes {
        match apply::standing_after(&change, folder, &goes) {
            Standing::Fits => fitting.push(change),
            Standing::Done => {}
            Standing::LeftOut(why) => {
                left_out.push(apply::Conflict { path: change.path, why: why.to_owned() })
            }
            Standing::Conflict(why) => conflicts.push(apply::Conflict { path: change.path, why }),
        }
    }
    if !conflicts.is_empty() {
        let lines: String = conflicts.iter().map(apply::Conflict::line).collect();
        let lines = lines.trim_end();
        return Err(Failure::new(Code::Conflict, format!("nothing was applied, because of:\n{lines}")));
    }
    let mut ready = Vec::new();
    for change in fitting {
        let bytes = match &change.content {
            Content::Written { after, .. } => Some(content(client, name, &change.path, after).await?),
            Content::Executable(_) | Content::Deleted { .. } | Content::NotAFile => None,
        };
        ready.push(Ready { change, bytes });
    }
    Ok((ready, left_out))
}

async fn content(client: &Client, name: &SessionName, path: &str, expected: &Digest) -> Outcome<Vec<u8>> {
    let bytes = client.file(name, path).await?;
    if Digest::of(&bytes) != *expected {
        return Err(Failure::new(
            Code::Conflict,
            format!("{path} was changed again by the session: look at it and apply once more"),
        ));
    }
    Ok(bytes)
}

#[expect(clippy::print_stderr, reason = "a prompt for the person at the terminal")]
async fn confirmed(settings: &Settings, question: &str, lines: &mut Lines) -> Outcome<bool> {
    eprint!("\n{} [y/N] ", settings.output.style.bold(question));
    Ok(lines.next().await.is_some_and(|line| ask::is_yes(&line)))
}

fn hint(settings: &Settings, text: &str) -> Outcome {
    if settings.output.json {
        return Ok(());
    }
    settings.output.text(&format!("{}\n", settings.output.style.dim(text)))
}
