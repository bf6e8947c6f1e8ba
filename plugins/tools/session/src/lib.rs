//! The plugin `vteam.session`: the agent's list of what is to do, and its questions to the person.

mod ask;
mod todo;

use vteam_sdk::{Effect, Plugin, PluginInfo, Tool};

pub struct Session;

impl Plugin for Session {
    fn info() -> PluginInfo {
        PluginInfo::new(
            "vteam.session",
            env!("CARGO_PKG_VERSION"),
            "Keeps the agent's list of tasks and asks the person",
        )
        .ask(Effect::State, "Keeps the list of tasks")
        .tool(Tool::new("TodoWrite", todo::todo_write).effects(&[Effect::State]))
        .tool(Tool::new("AskUserQuestion", ask::ask_user_question))
    }
}

vteam_sdk::export!(Session);

#[cfg(test)]
mod tests;
