//! `demo`: the main job, once, as a person would do it: a server, a project with a failing test, an agent that mends it.
//!
//! Everything is done through the shipped command; nothing here is a second path.

mod served;

use crate::{
    binaries::{self, Profile},
    machine::repository,
    run::{Run, say, step},
};
use anyhow::{Context, bail};
use serde_json::Value;
use served::Served;
use std::path::{Path, PathBuf};

const SCRIPT: &str = "examples/scripts/demo.yaml";
const PROJECT: &str = "examples/slug";
const SESSION: &str = "mend-the-test";
const PROMPT: &str = "The test in test.sh fails. Find out why, fix it, and show that it passes.";

pub(crate) fn run(profile: Profile) -> anyhow::Result<()> {
    let stage = binaries::build_all(profile)?;
    let place = tempfile::Builder::new().prefix("vteam-demo-").tempdir()?.keep();
    let demo =
        Demo { vteam: stage.join("vteam"), stage, data: place.join("data"), project: place.join("slug") };
    let live = model_is_set();
    let confined = demo.confinement()?;
    demo.make_project()?;
    step("starting the server");
    let script = (!live).then(|| repository().join(SCRIPT));
    let served = Served::start(demo.command(&[]), script.as_deref(), &demo.data.with_extension("log"))?;
    say(&format!("  {} (token in {})", served.url, served.token_file.display()));
    introduce(live);
    demo.session()?;
    demo.conclude(live, confined)?;
    served.stop()?;
    demo.next(live);
    Ok(())
}

struct Demo {
    vteam: PathBuf,
    stage: PathBuf,
    data: PathBuf,
    project: PathBuf,
}

/// As the command itself decides.
fn model_is_set() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    set("ANTHROPIC_API_KEY") || (set("VTEAM_MODEL_URL") && set("VTEAM_MODEL_KEY"))
}

fn introduce(live: bool) {
    if live {
        say("  The model is a real one, from your environment; this costs money.");
        return;
    }
    say(
        "  The model is SCRIPTED: no AI answers, a file does (examples/scripts/demo.yaml). Everything else is real:",
    );
    say(
        "  the server, the runner, the WebAssembly tools and persona, the sandbox, the test that runs in it.",
    );
    say("  For a real model: ANTHROPIC_API_KEY=... cargo xtask demo");
}

impl Demo {
    fn command(&self, args: &[&str]) -> Run {
        binaries::environment(Run::new(&self.vteam), &self.stage).arg("--data-dir").arg(&self.data).args(args)
    }

    /// Whether native programs can be confined here; says what to do where not.
    fn confinement(&self) -> anyhow::Result<bool> {
        step("looking at what this host can confine");
        let output = self.command(&["doctor", "--json"]).into_command().output()?;
        let doctor: Value = serde_json::from_slice(&output.stdout).context("vteam doctor gave no answer")?;
        let properties = doctor.get("properties").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |property: &Value, key: &str| {
            property.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let mut all = !properties.is_empty();
        for property in properties.iter().filter(|p| p.get("holds") != Some(&Value::Bool(true))) {
            all = false;
            say(&format!("  does not hold: {}: {}", text(property, "name"), text(property, "detail")));
        }
        if all {
            say("  native programs are fully confined");
        } else {
            say("  so programs (Bash) will be refused in the session; the rest of the demo still runs");
        }
        Ok(all)
    }

    fn make_project(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.project)?;
        for entry in std::fs::read_dir(repository().join(PROJECT))? {
            let entry = entry?;
            std::fs::copy(entry.path(), self.project.join(entry.file_name()))?;
        }
        step(&format!("a small project with a failing test: {}", self.project.display()));
        Ok(())
    }

    fn session(&self) -> anyhow::Result<()> {
        step("a session on a private copy of it");
        let flags = [
            "run",
            PROMPT,
            "--persona",
            "STAFF_ENGINEER",
            "--mode",
            "accept-edits",
            "--yes",
            "--name",
            SESSION,
        ];
        self.command(&flags).arg("--dir").arg(&self.project).go()
    }

    /// The test's last run in the sandbox, and the change in the project.
    fn conclude(&self, live: bool, confined: bool) -> anyhow::Result<()> {
        let log = self.command(&["sessions", "logs", SESSION, "--json"]).text()?;
        let last = last_test(&log);
        step("the test, as the agent ran it last in its sandbox");
        match &last {
            Some(output) => say(&indented(output)),
            None => say("  it was not run"),
        }
        if !live && confined && !last.is_some_and(|output| output.contains("4 of 4 passed")) {
            bail!("the test does not pass at the end");
        }
        step("taking the change over into the project");
        let applied = self.command(&["sessions", "apply", SESSION, "--yes"]).text()?;
        say(&format!("  {}", applied.lines().last().unwrap_or_default()));
        Ok(())
    }

    fn next(&self, live: bool) {
        let (vteam, data) = (self.vteam.display(), self.data.display());
        step("where to look next");
        say(&format!("  everything was kept in {}", self.data.parent().unwrap_or(&self.data).display()));
        say(&format!("  the project, mended:   {}", self.project.display()));
        say(&format!("  the server again:      {vteam} up --data-dir {data}"));
        say(&format!(
            "  the session's log:     {vteam} sessions logs {SESSION} --data-dir {data}   (while it runs)"
        ));
        say(&format!("  what this host keeps:  {vteam} doctor"));
        if !live {
            say("  a task of your own:    ANTHROPIC_API_KEY=... vteam run \"...\" --dir FOLDER");
        }
        say("  install the command:   cargo xtask install");
    }
}

/// Output of the last program of the log that ran the test.
fn last_test(log: &str) -> Option<String> {
    let events: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_kind =
        |kind: &'static str| events.iter().rev().filter(move |e| e.get("kind").is_some_and(|k| k == kind));
    let ran = of_kind("call.intended").find(|e| {
        e.pointer("/data/input/command")
            .and_then(Value::as_str)
            .is_some_and(|command| command.contains("test.sh"))
    })?;
    let call = ran.pointer("/data/call")?;
    let finished = of_kind("call.finished").find(|e| e.pointer("/data/call") == Some(call))?;
    let blocks = finished.pointer("/data/content")?.as_array()?;
    Some(blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect::<Vec<_>>().join("\n"))
}

/// A program's output comes from a sandbox: it may not drive the terminal.
fn indented(text: &str) -> String {
    let shown = model::render::terminal(&text.into());
    shown.trim_end().lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// For what else wants a server of its own.
pub(crate) fn serve(stage: &Path, data: &Path, script: &Path) -> anyhow::Result<Served> {
    let vteam = binaries::environment(Run::new(stage.join("vteam")), stage).arg("--data-dir").arg(data);
    Served::start(vteam, Some(script), &data.with_extension("log"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_last_test_run_is_found() {
        let log = r#"
{"seq":1,"kind":"call.intended","data":{"call":"c1","input":{"command":"bash test.sh"}}}
{"seq":2,"kind":"call.finished","data":{"call":"c1","content":[{"type":"text","text":"1 failed"}]}}
{"seq":3,"kind":"call.intended","data":{"call":"c2","input":{"command":"bash test.sh"}}}
{"seq":4,"kind":"call.intended","data":{"call":"c3","input":{"command":"ls"}}}
{"seq":5,"kind":"call.finished","data":{"call":"c2","content":[{"type":"text","text":"4 of 4 passed"}]}}
"#;
        assert_eq!(super::last_test(log).as_deref(), Some("4 of 4 passed"));
        assert_eq!(super::last_test(""), None);
    }
}
