//! `sessions`: see and steer.

use super::{apply, cell};
use crate::{
    args::SessionsVerb,
    ask::{self, Lines},
    client::{Client, Stop},
    exit::{Code, Failure, Outcome},
    follow::{Answers, Follow, Until},
    output::Output,
    settings::{Settings, absolute},
    view::{patch, subject},
};
use model::{
    Untrusted,
    approval::Decision,
    id::{AskId, SessionName},
};
use protocol::control::Ask;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(super) async fn run(settings: &Settings, verb: SessionsVerb) -> Outcome {
    let client = settings.client().await?;
    let output = settings.output;
    match verb {
        SessionsVerb::Ls => list(&client, output).await,
        SessionsVerb::Get { name } => get(&client, output, &name).await,
        SessionsVerb::Logs { name, follow } => logs(&client, output, &name, follow).await,
        SessionsVerb::Attach { name } => attach(&client, output, &name).await,
        SessionsVerb::Send { name, message } => {
            let run = client.message(&name, &message).await?;
            done(output, &run, &format!("sent; see: vteam sessions logs -f {name}{}", client.flags()))
        }
        SessionsVerb::Approve { name, id: None, .. } => pending(&client, output, &name).await,
        SessionsVerb::Approve { name, id: Some(id), session, deny } => {
            decide(&client, output, &name, &id, decision(session, deny)).await
        }
        SessionsVerb::Answer { name, id, answer } => reply(&client, output, &name, &id, &answer).await,
        SessionsVerb::Stop { name, run: true } => {
            client.interrupt(&name).await?;
            done(output, &json!({ "interrupted": name }), "the run is being interrupted")
        }
        SessionsVerb::Stop { name, run: false } => stop(&client, output, &name).await,
        SessionsVerb::Rm { name } => {
            client.remove(&name).await?;
            done(output, &json!({ "removed": name }), "removed")
        }
        SessionsVerb::Diff { name } => diff(&client, output, &name).await,
        SessionsVerb::Apply { name, to, yes } => bring_back(settings, &client, &name, to, yes).await,
        SessionsVerb::Export { name, output: file } => export(&client, output, &name, file.as_deref()).await,
    }
}

async fn stop(client: &Client, output: Output, name: &SessionName) -> Outcome {
    match client.stop(name).await? {
        Stop::Under => done(output, &json!({ "stopping": name }), "stopping"),
        Stop::AtRest(session) => {
            let phase = model::render::line(&cell(&session, "/status/phase"), 40);
            let text = format!("it is at rest already ({phase})");
            done(output, &json!({ "atRest": name, "phase": phase }), &text)
        }
    }
}

fn done(output: Output, json: &Value, text: &str) -> Outcome {
    if output.json { output.json(json) } else { output.text(&format!("{text}\n")) }
}

async fn list(client: &Client, output: Output) -> Outcome {
    let sessions = client.sessions().await?;
    if output.json {
        return output.json(&sessions);
    }
    let columns = ["/metadata/name", "/status/phase", "/status/reason", "/spec/persona"];
    let rows = sessions.iter().map(|session| {
        let mut row: Vec<Untrusted> = columns.iter().map(|at| cell(session, at)).collect();
        let prompt = cell(session, "/spec/prompt");
        row.push(if prompt.is_empty() { cell(session, "/spec/initialPrompt") } else { prompt });
        row
    });
    output.table(&["NAME", "PHASE", "REASON", "PERSONA", "PROMPT"], &rows.collect::<Vec<_>>())
}

async fn get(client: &Client, output: Output, name: &SessionName) -> Outcome {
    let session = client.get_session(name).await?;
    if output.json {
        return output.json(&session);
    }
    let mut rows = Vec::new();
    flatten("", &session, &mut rows);
    let widest = rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let line = |(key, value): &(String, String)| {
        let key = model::render::line(&format!("{key:<widest$}").into(), 200);
        format!("{}  {}\n", output.style.dim(&key), model::render::line(&value.as_str().into(), 400))
    };
    output.text(&rows.iter().map(line).collect::<String>())
}

/// Leaves with their paths.
fn flatten(path: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| flatten(&below(key), value, rows)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| flatten(&below(&at.to_string()), item, rows))
        }
        Value::Null => {}
        Value::String(text) => rows.push((path.to_owned(), text.clone())),
        other => rows.push((path.to_owned(), other.to_string())),
    }
}

async fn logs(client: &Client, output: Output, name: &SessionName, follow: bool) -> Outcome {
    let mut view = Follow::new(client, name, output, Answers::Elsewhere);
    view.history().await?;
    if follow && !view.is_settled() {
        view.watch(Until::SettledOrLeft).await?;
    }
    Ok(())
}

async fn attach(client: &Client, output: Output, name: &SessionName) -> Outcome {
    let Some(lines) = Lines::of_terminal() else {
        return Err(Failure::new(
            Code::Usage,
            "attach needs a terminal; use logs -f, send, approve and answer in scripts",
        ));
    };
    let mut view = Follow::new(client, name, output, Answers::Person(lines)).with_messages();
    view.history().await?;
    view.note("what you type goes to the session; Ctrl-C leaves it, and it goes on")?;
    view.watch(Until::Left).await.map(drop)
}

async fn pending(client: &Client, output: Output, name: &SessionName) -> Outcome {
    let asks = client.pending(name).await?;
    if output.json {
        return output.json(&asks);
    }
    if asks.is_empty() {
        return output.text("nothing waits\n");
    }
    let shown = asks.iter().map(|ask| match ask {
        Ask::Approval(request) => {
            format!(
                "{}  {}\n{}",
                request.id,
                subject::brief(&request.subject),
                subject::approval(request, output.style)
            )
        }
        Ask::Question(question) => format!("{}\n{}", question.id, subject::question(question, output.style)),
    });
    output.text(&shown.collect::<Vec<_>>().join("\n"))
}

fn decision(session: bool, deny: Option<String>) -> Decision {
    match deny {
        Some(reason) => Decision::Deny { reason: reason.into() },
        None if session => Decision::Session,
        None => Decision::Once,
    }
}

async fn decide(
    client: &Client,
    output: Output,
    name: &SessionName,
    id: &AskId,
    decision: Decision,
) -> Outcome {
    client.decide(name, id, &decision).await?;
    done(output, &json!(decision), "decided")
}

async fn reply(client: &Client, output: Output, name: &SessionName, id: &AskId, given: &[String]) -> Outcome {
    let asks = client.pending(name).await?;
    let question = asks.iter().find_map(|ask| match ask {
        Ask::Question(question) if question.id == *id => Some(question),
        _ => None,
    });
    let question =
        question.ok_or_else(|| Failure::new(Code::NotFound, format!("no question {id} waits in {name}")))?;
    let parts = subject::questions(question).len();
    if given.len() != parts {
        let said = format!("the question has {parts} parts, and {} answers were given", given.len());
        return Err(Failure::new(Code::Usage, said));
    }
    let answer = ask::answer(question, given);
    client.answer(name, id, &answer).await?;
    done(output, &answer, "answered")
}

async fn diff(client: &Client, output: Output, name: &SessionName) -> Outcome {
    let diff = client.diff(name).await?;
    if output.json {
        return output.json(&json!({ "diff": diff }));
    }
    output.text(&patch::diff(&diff.into(), output.style, ""))
}

async fn bring_back(
    settings: &Settings,
    client: &Client,
    name: &SessionName,
    to: Option<PathBuf>,
    yes: bool,
) -> Outcome {
    let session = client.get_session(name).await?;
    let folder = match to {
        Some(to) => absolute(&to)?,
        None if session.pointer("/spec/workspace/dir/inPlace") == Some(&Value::Bool(true)) => {
            return Err(Failure::new(
                Code::Usage,
                format!(
                    "{name} works in its folder itself: what it changed is there; for a copy elsewhere give --to FOLDER"
                ),
            ));
        }
        None => origin(&session, name)?,
    };
    let diff = client.diff(name).await?;
    let mut lines = if yes { None } else { Lines::of_terminal() };
    let consent = match &mut lines {
        _ if yes => apply::Consent::Given,
        Some(lines) => apply::Consent::Ask(lines),
        None => return Err(Failure::new(Code::Usage, "nobody is at the terminal to agree: give --yes")),
    };
    let applied = apply::bring_back(settings, client, name, Some(&folder), &diff, consent).await?;
    if settings.output.json { settings.output.json(&applied.json()) } else { Ok(()) }
}

/// The folder that the workspace was copied from.
fn origin(session: &Value, name: &SessionName) -> Outcome<PathBuf> {
    let path = session.pointer("/spec/workspace/dir/path").and_then(Value::as_str);
    path.map(PathBuf::from).ok_or_else(|| {
        let came = match session.pointer("/spec/workspace/archive") {
            Some(_) => "came as an archive, which does not say from which folder",
            None => "was not copied from a folder",
        };
        Failure::new(Code::Usage, format!("what {name} works on {came}: say where with --to FOLDER"))
    })
}

async fn export(client: &Client, output: Output, name: &SessionName, file: Option<&Path>) -> Outcome {
    let whole = json!({ "session": client.get_session(name).await?, "events": client.events(name).await? });
    let Some(file) = file else { return output.json(&whole) };
    let text = crate::output::harmless(&serde_json::to_string_pretty(&whole).unwrap_or_default());
    std::fs::write(file, text + "\n")
        .map_err(|e| Failure::of(Code::Failed, &format!("cannot write {}", file.display()), &e))?;
    done(output, &json!({ "written": file }), &format!("written to {}", file.display()))
}
