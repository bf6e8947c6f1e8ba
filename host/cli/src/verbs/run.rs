//! `run`: one task from the prompt to the changes in the person's folder.

mod send;

use super::{apply, up};
use crate::{
    args::RunArgs,
    ask::Lines,
    client::Client,
    embedded::Embedded,
    exit::{Code, Failure, Outcome},
    follow::{Answers, End, Follow, Until},
    settings::{Place as At, Settings, Upstream, absolute},
};
use model::{
    id::{Digest, SessionName},
    lifecycle::Phase,
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use telemetry::log::{self, Format, Target};

pub(super) async fn run(settings: &Settings, args: &RunArgs) -> Outcome {
    let on = match (&args.dir, &args.in_place) {
        (Some(dir), _) => Workspace::CopyOf(folder("--dir", dir)?),
        (None, Some(_)) if !settings.sees_folders() => {
            let text = "--in-place needs a server on this machine: give --dir, which sends a copy and brings the changes back";
            return Err(Failure::new(Code::Usage, text));
        }
        (None, Some(dir)) => Workspace::Itself(folder("--in-place", dir)?),
        (None, None) => Workspace::Empty,
    };
    let place = Place::find(settings, args).await?;
    let outcome = task(settings, args, on, &place).await;
    let ended = place.leave(settings).await;
    outcome.and(ended)
}

/// What is worked on.
enum Workspace {
    Empty,
    CopyOf(PathBuf),
    /// A copy that was sent to a server elsewhere.
    Sent {
        from: PathBuf,
        blob: Digest,
    },
    Itself(PathBuf),
}

/// The server that does it: one that runs, or one of our own for as long as this takes.
struct Place {
    client: Client,
    embedded: Option<Embedded>,
    /// In words; `None` where somebody else decided.
    model: Option<String>,
}

impl Place {
    async fn find(settings: &Settings, args: &RunArgs) -> Outcome<Self> {
        let running = match settings.client().await {
            Ok(client) => client.version().await.map(|_| client),
            Err(failure) => Err(failure),
        };
        match running {
            Ok(_) if args.upstream.script.is_some() => Err(Failure::new(
                Code::Usage,
                "a server runs already and has its own model: give --script to `vteam up`, or another --data-dir",
            )),
            Ok(client) => Ok(Self { client, embedded: None, model: None }),
            Err(failure) if failure.code == Code::Unreachable && matches!(settings.place, At::Here) => {
                Self::start(settings, args).await
            }
            Err(failure) => Err(failure),
        }
    }

    async fn start(settings: &Settings, args: &RunArgs) -> Outcome<Self> {
        let upstream = Upstream::read(&args.upstream)?;
        if matches!(upstream, Upstream::None) {
            return Err(Failure::new(
                Code::Usage,
                "there is no model: set ANTHROPIC_API_KEY, or VTEAM_MODEL_URL and VTEAM_MODEL_KEY, or give --script FILE",
            ));
        }
        let about = up::about(&upstream);
        log_to_file(settings)?;
        let embedded = Embedded::start(settings, upstream, None).await?;
        Ok(Self { client: settings.client().await?, embedded: Some(embedded), model: Some(about) })
    }

    async fn leave(self, settings: &Settings) -> Outcome {
        let Some(embedded) = self.embedded else { return Ok(()) };
        let others = self.client.sessions().await.unwrap_or_default();
        let awake: Vec<&str> = others.iter().filter_map(awake).collect();
        if !awake.is_empty() && !settings.output.json {
            let text =
                format!("the server ends with this run; these go on with `vteam up`: {}\n", awake.join(", "));
            settings.output.text(&settings.output.style.dim(&text))?;
        }
        embedded.stop().await
    }
}

/// The name of a session that has work to do.
fn awake(session: &Value) -> Option<&str> {
    let phase = session.pointer("/status/phase").cloned().unwrap_or_default();
    let phase: Phase = serde_json::from_value(phase).ok()?;
    if phase.is_settled() { None } else { session.pointer("/metadata/name")?.as_str() }
}

/// Our own server's log would tear the stream apart.
fn log_to_file(settings: &Settings) -> Outcome {
    let filter = settings.log.as_deref().unwrap_or("info");
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&settings.data_dir)?;
    let file =
        std::fs::File::options().create(true).append(true).open(settings.data_dir.join("vteam.log"))?;
    log::init(filter, Format::Json, Target::File(file))
        .map_err(|e| Failure::of(Code::Usage, "cannot set up the log", &e))
}

async fn task(settings: &Settings, args: &RunArgs, on: Workspace, place: &Place) -> Outcome {
    let on = &send::where_needed(settings, args, on, &place.client).await?;
    let created = place.client.create(&session(args, on)).await?;
    let name = name_of(&created)?;
    head(settings, &name, place)?;
    let answers = match Lines::of_terminal() {
        _ if args.yes => Answers::Yes,
        Some(lines) if !settings.output.json => Answers::Person(lines),
        _ => Answers::Elsewhere,
    };
    let mut follow = Follow::new(&place.client, &name, settings.output, answers);
    let end = follow.watch(Until::Settled).await?;
    let mut answers = follow.into_answers();
    let changed = if !args.analyse && end.run.is_some() {
        changes(settings, args, on, &place.client, &name, &mut answers).await
    } else {
        Ok(())
    };
    match (verdict(&end), changed) {
        (Err(ended), Err(changed)) => Err(Failure::new(ended.code, format!("{ended}; {changed}"))),
        (ended, changed) => ended.and(changed),
    }
}

fn head(settings: &Settings, name: &SessionName, place: &Place) -> Outcome {
    if settings.output.json {
        return Ok(());
    }
    let style = settings.output.style;
    let mut text = format!("{} {}\n", style.bold("session"), style.name(name.as_str()));
    if let Some(account) = place.client.acts_as() {
        text.push_str(&style.dim(&format!("it belongs to {account}\n")));
    }
    if let Some(model) = &place.model {
        text.push_str(&style.dim(&format!("model: {model}\n")));
    }
    settings.output.text(&(text + "\n"))
}

/// A server elsewhere may be away for a moment, as when its pod is replaced.
async fn diff(settings: &Settings, client: &Client, name: &SessionName) -> Outcome<String> {
    let tries = if settings.sees_folders() { 0 } else { 30 };
    for _ in 0..tries {
        match client.diff(name).await {
            Err(failure) if failure.code == Code::Unreachable => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            answered => return answered,
        }
    }
    client.diff(name).await
}

/// Shows the diff and brings it back where that is wished for.
async fn changes(
    settings: &Settings,
    args: &RunArgs,
    on: &Workspace,
    client: &Client,
    name: &SessionName,
    answers: &mut Answers,
) -> Outcome {
    let diff = match diff(settings, client, name).await {
        Ok(diff) => diff,
        Err(failure) if failure.code == Code::Conflict && matches!(on, Workspace::Itself(_)) => {
            let text = format!("what changed in the folder is not known: {failure}");
            return Err(Failure::new(Code::Failed, text));
        }
        // A run that failed early leaves no snapshot.
        Err(failure) if failure.code == Code::Conflict => return Ok(()),
        Err(failure) => return Err(failure),
    };
    if settings.output.json && !args.apply {
        return Ok(());
    }
    let applied = match (on, args.apply, answers) {
        (Workspace::Itself(folder), ..) => return apply::done_in(settings, folder, &diff),
        (Workspace::CopyOf(dir) | Workspace::Sent { from: dir, .. }, true, _) => {
            apply::bring_back(settings, client, name, Some(dir), &diff, apply::Consent::Given).await
        }
        (Workspace::CopyOf(dir) | Workspace::Sent { from: dir, .. }, false, Answers::Person(lines)) => {
            apply::bring_back(settings, client, name, Some(dir), &diff, apply::Consent::Ask(lines)).await
        }
        (Workspace::CopyOf(dir) | Workspace::Sent { from: dir, .. }, ..) => {
            apply::bring_back(settings, client, name, Some(dir), &diff, apply::Consent::Later).await
        }
        (Workspace::Empty, ..) => {
            apply::bring_back(settings, client, name, None, &diff, apply::Consent::Later).await
        }
    };
    applied.map(drop)
}

fn verdict(end: &End) -> Outcome {
    match &end.phase {
        Some((Phase::Failed, reason)) => {
            Err(Failure::new(Code::RunFailed, format!("the session failed: {}", crate::view::reason(reason))))
        }
        _ => match &end.run {
            Some(run) if run.outcome == model::event::RunOutcome::Failed => Err(Failure::new(
                Code::RunFailed,
                format!("the run failed: {}", crate::view::reason(&run.reason)),
            )),
            Some(run) if run.outcome == model::event::RunOutcome::Interrupted => {
                Err(Failure::new(Code::Interrupted, "the run was interrupted"))
            }
            _ => Ok(()),
        },
    }
}

fn folder(flag: &str, path: &Path) -> Outcome<PathBuf> {
    let path = absolute(path)?;
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => Ok(std::fs::canonicalize(&path)?),
        Ok(_) => Err(Failure::new(Code::Usage, format!("{flag} {}: it is not a folder", path.display()))),
        Err(e) => Err(Failure::of(Code::Usage, &format!("{flag} {}", path.display()), &e)),
    }
}

fn session(args: &RunArgs, on: &Workspace) -> Value {
    let mut spec =
        json!({ "prompt": args.prompt, "permissionMode": args.mode.wire(), "analyse": args.analyse });
    let mut set = |key: &str, value: Option<Value>| {
        if let (Some(value), Some(fields)) = (value, spec.as_object_mut()) {
            fields.insert(key.to_owned(), value);
        }
    };
    set("persona", args.persona.as_ref().map(|key| json!(key)));
    set("llmSettings", args.model.as_ref().map(|model| json!({ "model": model })));
    set("budget", args.budget.map(|dollars| json!(dollars)));
    set("timeout", args.timeout.map(|seconds| json!(seconds)));
    let workspace = match on {
        Workspace::Empty => None,
        Workspace::CopyOf(dir) => {
            Some(json!({ "dir": { "path": dir, "includeIgnored": args.include_ignored } }))
        }
        Workspace::Sent { blob, .. } => Some(json!({ "archive": { "blob": blob } })),
        Workspace::Itself(dir) => Some(json!({ "dir": { "path": dir, "inPlace": true } })),
    };
    set("workspace", workspace);
    let metadata = match &args.name {
        Some(name) => json!({ "name": name }),
        None => json!({ "generateName": "run-" }),
    };
    json!({ "metadata": metadata, "spec": spec })
}

fn name_of(session: &Value) -> Outcome<SessionName> {
    let name = session.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    name.parse().map_err(|e| Failure::of(Code::Failed, "the server named no session", &e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Verb};
    use clap::Parser;

    fn check(line: &[&str], on: &Workspace, expected: Value) {
        let line = ["vteam", "run"].iter().chain(line);
        let Verb::Run(args) = Cli::parse_from(line).verb else { panic!("not run") };
        let made = session(&args, on);
        assert_eq!(made, expected);
        // What we send is what the server reads.
        resources::session::read(&made).unwrap();
    }

    #[test]
    fn flags_become_a_specification() {
        check(
            &["mend it"],
            &Workspace::Empty,
            json!({"metadata": {"generateName": "run-"}, "spec": {"prompt": "mend it", "permissionMode": "default", "analyse": false}}),
        );
        check(
            &[
                "x",
                "--dir",
                "p",
                "--persona",
                "STAFF_ENGINEER",
                "--model",
                "m",
                "--budget",
                "0.5",
                "--mode",
                "accept-edits",
                "--name",
                "n",
                "--timeout",
                "9",
            ],
            &Workspace::CopyOf("/p".into()),
            json!({"metadata": {"name": "n"}, "spec": {"prompt": "x", "permissionMode": "acceptEdits", "analyse": false,
                "persona": "STAFF_ENGINEER", "llmSettings": {"model": "m"}, "budget": 0.5, "timeout": 9,
                "workspace": {"dir": {"path": "/p", "includeIgnored": false}}}}),
        );
        let blob = Digest::of(b"x");
        check(
            &["x", "--dir", "p"],
            &Workspace::Sent { from: "/p".into(), blob: blob.clone() },
            json!({"metadata": {"generateName": "run-"}, "spec": {"prompt": "x", "permissionMode": "default",
                "analyse": false, "workspace": {"archive": {"blob": blob}}}}),
        );
        check(
            &["x", "--in-place", "p"],
            &Workspace::Itself("/p".into()),
            json!({"metadata": {"generateName": "run-"}, "spec": {"prompt": "x", "permissionMode": "default",
                "analyse": false, "workspace": {"dir": {"path": "/p", "inPlace": true}}}}),
        );
    }
}
