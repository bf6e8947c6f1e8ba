//! The plugin `vteam.files`: looks at files of the workspace and stages changes to them.
//!
//! It never writes: the preopened workspace is read-only, and what `Write`, `Edit` and `MultiEdit` stage is applied by
//! the host, against the digest of what was read, once a person or policy has let it through.

mod edit;
mod glob;
mod image;
mod ls;
mod numbered;
mod place;
mod read;
mod stage;
mod write;

use vteam_sdk::{Effect, Plugin, PluginInfo, Tool};

pub struct Files;

impl Plugin for Files {
    fn info() -> PluginInfo {
        const CHANGES: [Effect; 2] = [Effect::FsRead, Effect::FsWrite];
        PluginInfo::new(
            "vteam.files",
            env!("CARGO_PKG_VERSION"),
            "Reads, writes and edits files of the workspace",
        )
        .ask(Effect::FsRead, "Reads files and lists folders of the workspace")
        .ask(Effect::FsWrite, "Stages changes to files; they are shown and applied by the host")
        .tool(Tool::new("Read", read::read).effects(&[Effect::FsRead]).parallel())
        .tool(Tool::new("Write", write::write).effects(&CHANGES))
        .tool(Tool::new("Edit", edit::edit).effects(&CHANGES))
        .tool(Tool::new("MultiEdit", edit::multi_edit).effects(&CHANGES))
        .tool(Tool::new("LS", ls::ls).effects(&[Effect::FsRead]).parallel())
    }
}

vteam_sdk::export!(Files);

#[cfg(test)]
mod tests;
