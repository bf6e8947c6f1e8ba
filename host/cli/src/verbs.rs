//! One module per group of verbs.

mod apply;
mod docs;
mod doctor;
mod install;
mod plugins;
mod run;
mod sessions;
mod up;

use crate::{args::Verb, client::Client, exit::Outcome, settings::Settings};
use clap::CommandFactory;
use model::Untrusted;
use serde_json::Value;

pub(crate) async fn run(settings: &Settings, verb: Verb) -> Outcome {
    match verb {
        Verb::Up(args) => up::run(settings, &args).await,
        Verb::Run(args) => run::run(settings, &args).await,
        Verb::Sessions(verb) => sessions::run(settings, verb).await,
        Verb::Plugins(verb) => plugins::run(settings, verb).await,
        Verb::Personas => personas(&settings.client().await?, settings).await,
        Verb::Doctor => doctor::run(settings).await,
        Verb::Install(args) => install::run(settings, &args),
        Verb::Backup { to } => up::backup(settings, &to).await,
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut crate::args::Cli::command(), "vteam", &mut script);
            settings.output.text(&String::from_utf8_lossy(&script))
        }
        Verb::Docs(verb) => docs::run(settings, verb),
    }
}

async fn personas(client: &Client, settings: &Settings) -> Outcome {
    let personas = client.personas().await?;
    if settings.output.json {
        return settings.output.json(&personas);
    }
    let columns = ["/key", "/name", "/role", "/expertise"];
    let rows = personas.iter().map(|persona| columns.map(|at| cell(persona, at)).to_vec());
    settings.output.table(&["KEY", "NAME", "ROLE", "EXPERTISE"], &rows.collect::<Vec<_>>())
}

/// What stands at a pointer, for a table's cell.
fn cell(value: &Value, pointer: &str) -> Untrusted {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "".into(),
        Some(Value::String(text)) => text.as_str().into(),
        Some(Value::Array(items)) => {
            let texts: Vec<String> = items.iter().map(|item| cell(item, "").into_raw()).collect();
            texts.join(", ").into()
        }
        Some(other) => other.to_string().into(),
    }
}
