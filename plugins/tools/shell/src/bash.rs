//! `Bash`.

use crate::{background, output::Output};
use schemars::JsonSchema;
use serde_json::json;
use std::time::Duration;
use vteam_sdk::{
    Context, Outcome, ToolError,
    process::{self, Child, Exit, Options, StartError},
    state,
};

const DEFAULT_TIMEOUT_MS: u32 = 120_000;
const MAX_TIMEOUT_MS: u32 = 600_000;
/// Where the next command starts, below the workspace.
const CWD: &str = "cwd";

/// Runs a command with bash (sh where there is none) in the workspace and returns what it printed.
///
/// The working directory stays for the next command; variables and functions do not. Standard output and standard error
/// come together, with the exit code where it is not 0; more than 30000 characters lose their middle. There is no
/// terminal and, unless it was granted, no network. A command that has to go on running is started with
/// `run_in_background`. To read, search and change files prefer Read, Grep, Glob and Edit.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bash {
    /// The command.
    command: String,
    /// Milliseconds after which it is ended: 120000 when left out, at most 600000.
    #[schemars(range(min = 1, max = 600_000))]
    timeout: Option<u32>,
    /// What the command does, in five to ten words, for the person who watches.
    description: Option<String>,
    /// Do not wait for the command. BashOutput reads what it prints, KillShell ends it.
    #[serde(default)]
    run_in_background: bool,
}

pub(crate) fn bash(input: Bash, context: &Context) -> Result<Outcome, ToolError> {
    let root = context.workspace().display().to_string();
    let cwd = state::get::<String>(CWD)?.unwrap_or_else(|| root.clone());
    let (child, moved) = start(&input, &cwd, &root)?;
    if input.run_in_background {
        return background::detach(child, &input.command);
    }
    let output = Output::read(&child, true).text();
    let mut notes = Vec::new();
    if moved {
        notes.push(format!("The working directory {cwd} is gone; the command ran in {root}."));
    }
    if let Some(note) = remember(&child, &cwd, &root)? {
        notes.push(note);
    }
    let exit = child.exit();
    let text = report(&output, exit.as_ref(), input.timeout.unwrap_or(DEFAULT_TIMEOUT_MS), &notes);
    Ok(Outcome::text(text).observe("exit", &exit_value(exit.as_ref())))
}

/// Starts it where the last command stood, or at the root if that folder is gone.
fn start(input: &Bash, cwd: &str, root: &str) -> Result<(Child, bool), ToolError> {
    let timeout = input.timeout.unwrap_or(DEFAULT_TIMEOUT_MS).clamp(1, MAX_TIMEOUT_MS);
    let run = |shell: &str, cwd: &str| {
        let mut options = Options::default().cwd(cwd);
        if !input.run_in_background {
            options = options.timeout(Duration::from_millis(timeout.into())).report_cwd();
        }
        if let Some(description) = &input.description {
            options = options.description(description);
        }
        process::start(&[shell, "-c", &input.command], &options)
    };
    // Small images have one of the two.
    let run = |cwd: &str| match run("bash", cwd) {
        Err(StartError::NotFound(_)) => run("sh", cwd),
        started => started,
    };
    match run(cwd) {
        Err(StartError::Invalid(_) | StartError::NotFound(_)) if cwd != root => Ok((run(root)?, true)),
        started => Ok((started?, false)),
    }
}

/// Keeps where the shell stood. A folder outside the workspace is not kept, and the model is told so.
fn remember(child: &Child, before: &str, root: &str) -> Result<Option<String>, ToolError> {
    let Some(after) = child.cwd().filter(|after| after != before) else { return Ok(None) };
    if after != root && !after.strip_prefix(root).is_some_and(|below| below.starts_with('/')) {
        state::delete(CWD)?;
        return Ok(Some(format!(
            "The working directory was set back to {root}: {after} is outside the workspace."
        )));
    }
    state::set(CWD, &after)?;
    Ok(None)
}

fn report(output: &str, exit: Option<&Exit>, timeout_ms: u32, notes: &[String]) -> String {
    let output = output.trim_end();
    let mut parts: Vec<String> = Vec::new();
    match exit {
        Some(Exit::Code(0)) | None => {}
        Some(Exit::Code(code)) => parts.push(format!("Exit code {code}")),
        Some(Exit::Signal(signal)) => parts.push(format!("The command was ended by {signal}")),
        Some(Exit::TimedOut) => parts.push(format!(
            "The command was ended after its timeout of {timeout_ms} ms. What it printed until then:"
        )),
        Some(Exit::Other(other)) => parts.push(format!("The command ended: {} {}", other.kind, other.value)),
    }
    if !output.is_empty() {
        parts.push(output.to_owned());
    }
    parts.extend(notes.iter().cloned());
    if parts.is_empty() { "(no output)".to_owned() } else { parts.join("\n") }
}

pub(crate) fn exit_value(exit: Option<&Exit>) -> serde_json::Value {
    match exit {
        None => json!(null),
        Some(Exit::Code(code)) => json!({"code": code}),
        Some(Exit::Signal(signal)) => json!({"signal": signal}),
        Some(Exit::TimedOut) => json!({"timedOut": true}),
        Some(Exit::Other(other)) => json!({"other": other.kind}),
    }
}
