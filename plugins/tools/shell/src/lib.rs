//! The plugin `vteam.shell`: runs commands in the workspace through the host's confined launcher.
//!
//! What a person approves is exactly what runs: `bash -c <command>` (or `sh`) in the stated folder, nothing around it.

mod background;
mod bash;
mod output;

use vteam_sdk::{Effect, Plugin, PluginInfo, Tool};

pub struct Shell;

impl Plugin for Shell {
    fn info() -> PluginInfo {
        const EFFECTS: [Effect; 2] = [Effect::Process, Effect::State];
        PluginInfo::new("vteam.shell", env!("CARGO_PKG_VERSION"), "Runs commands in the workspace, confined")
            .ask(Effect::Process, "Runs bash with the command that the model gives")
            .ask(Effect::State, "Remembers the working directory and the background shells")
            .tool(Tool::new("Bash", bash::bash).effects(&EFFECTS))
            .tool(Tool::new("BashOutput", background::bash_output).effects(&EFFECTS))
            .tool(Tool::new("KillShell", background::kill_shell).effects(&EFFECTS))
    }
}

vteam_sdk::export!(Shell);

#[cfg(test)]
mod tests;
