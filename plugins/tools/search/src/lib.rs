//! The plugin `vteam.search`: finds files of the workspace by name and by content.
//!
//! The `ignore` and `grep` crates over the preopened workspace, on one thread. It reads regular files only.

mod glob;
mod grep;
mod report;
mod walk;

use vteam_sdk::{Effect, Plugin, PluginInfo, Tool};

pub struct Search;

impl Plugin for Search {
    fn info() -> PluginInfo {
        PluginInfo::new(
            "vteam.search",
            env!("CARGO_PKG_VERSION"),
            "Finds files of the workspace by name and by content",
        )
        .ask(Effect::FsRead, "Walks the workspace and reads files to search in them")
        .tool(Tool::new("Glob", glob::glob).effects(&[Effect::FsRead]).parallel())
        .tool(Tool::new("Grep", grep::grep).effects(&[Effect::FsRead]).parallel())
    }
}

vteam_sdk::export!(Search);

#[cfg(test)]
mod tests;
