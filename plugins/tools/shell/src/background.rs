//! `BashOutput` and `KillShell`: commands that outlive the call that started them.

use crate::{bash::exit_value, output::Output};
use regex_lite::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vteam_sdk::{
    Context, Outcome, ToolError,
    process::{self, Child, Exit, StartError},
    state,
};

/// Shells known by the short name that the model uses.
const SHELLS: &str = "shells";

#[derive(Serialize, Deserialize)]
struct Shell {
    id: String,
    child: String,
    command: String,
}

/// Returns what a background command has printed since it was last asked, and whether it still runs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BashOutput {
    /// The shell's id, as Bash gave it.
    bash_id: String,
    /// A regular expression: only lines that it matches are given. The others are gone afterwards.
    filter: Option<String>,
}

/// Ends a background command and everything that it started.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KillShell {
    /// The shell's id, as Bash gave it.
    shell_id: String,
}

pub(crate) fn detach(child: Child, command: &str) -> Result<Outcome, ToolError> {
    let mut shells: Vec<Shell> = state::get(SHELLS)?.unwrap_or_default();
    let last = shells.last().and_then(|s| s.id.strip_prefix("bash_")?.parse::<u32>().ok());
    let id = format!("bash_{}", last.unwrap_or(0) + 1);
    shells.push(Shell { id: id.clone(), child: child.id(), command: command.to_owned() });
    state::set(SHELLS, &shells)?;
    child.detach();
    Ok(Outcome::text(format!(
        "The command runs in the background with id {id}. BashOutput reads what it prints."
    )))
}

pub(crate) fn bash_output(input: BashOutput, _: &Context) -> Result<Outcome, ToolError> {
    let filter = input.filter.as_deref().map(Regex::new).transpose();
    let filter = filter.map_err(|error| ToolError::invalid(format!("the filter cannot be used: {error}")))?;
    let (child, _) = attach(&input.bash_id)?;
    let output = Output::read(&child, false).text();
    let output = match filter {
        None => output,
        Some(filter) => output.lines().filter(|l| filter.is_match(l)).collect::<Vec<_>>().join("\n"),
    };
    let exit = child.exit();
    let status = match &exit {
        None => "running".to_owned(),
        Some(Exit::Code(code)) => format!("ended with exit code {code}"),
        Some(Exit::Signal(signal)) => format!("ended by {signal}"),
        Some(Exit::TimedOut) => "ended by its timeout".to_owned(),
        Some(Exit::Other(other)) => format!("ended: {}", other.kind),
    };
    child.detach();
    let output = if output.trim().is_empty() { "(no new output)" } else { output.trim_end() };
    Ok(Outcome::text(format!("Status: {status}\n{output}")).observe("exit", &exit_value(exit.as_ref())))
}

pub(crate) fn kill_shell(input: KillShell, _: &Context) -> Result<Outcome, ToolError> {
    let (child, command) = attach(&input.shell_id)?;
    child.kill();
    let mut shells: Vec<Shell> = state::get(SHELLS)?.unwrap_or_default();
    shells.retain(|s| s.id != input.shell_id);
    state::set(SHELLS, &shells)?;
    Ok(Outcome::text(format!("Ended the shell {} ({command}).", input.shell_id)))
}

fn attach(id: &str) -> Result<(Child, String), ToolError> {
    let shells: Vec<Shell> = state::get(SHELLS)?.unwrap_or_default();
    let Some(shell) = shells.iter().find(|s| s.id == id) else {
        let known: Vec<&str> = shells.iter().map(|s| s.id.as_str()).collect();
        let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
        return Err(ToolError::not_found(format!("there is no background shell {id}; known: {known}")));
    };
    match process::attach(&shell.child) {
        Ok(child) => Ok((child, shell.command.clone())),
        Err(StartError::NotFound(_)) => {
            Err(ToolError::not_found(format!("the background shell {id} is gone: it ended with its runner")))
        }
        Err(error) => Err(error.into()),
    }
}
