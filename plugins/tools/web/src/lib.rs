//! The plugin `vteam.web`: fetches a page and gives it as Markdown, or answers a question about it.
//!
//! It asks for one URL at a time. Which hosts may be reached, through whom, and with what limits is the host's to say.

mod address;
mod fetch;
mod page;

use vteam_sdk::{Effect, Plugin, PluginInfo, Tool};

pub struct Web;

impl Plugin for Web {
    fn info() -> PluginInfo {
        PluginInfo::new("vteam.web", env!("CARGO_PKG_VERSION"), "Fetches web pages")
            .ask(Effect::NetFetch, "Fetches the page that the model names, with GET and without credentials")
            .ask(
                Effect::Model,
                "Answers the model's question about a page, so that the page itself need not be read",
            )
            .tool(
                Tool::new("WebFetch", fetch::web_fetch)
                    .effects(&[Effect::NetFetch, Effect::Model])
                    .parallel(),
            )
    }
}

vteam_sdk::export!(Web);

#[cfg(test)]
mod tests;
