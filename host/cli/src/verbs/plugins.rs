//! `plugins`: what the server has, and making one's own.

use super::cell;
use crate::{
    args::PluginsVerb,
    ask::{self, Lines},
    client::Client,
    exit::{Code, Failure, Outcome},
    settings::Settings,
};
use author::{
    StampError,
    sandbox::{Sandbox, SandboxError},
};
use manifest::Manifest;
use model::{
    Untrusted,
    id::{Digest, Effect, PluginId, ToolName},
    render,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The core that a persona's Markdown is stamped into, beside the finished plugins.
const PERSONA_CORE: &str = "persona-core.core";
const MAX_BYTES: usize = 64 << 20;

pub(super) async fn run(settings: &Settings, verb: PluginsVerb) -> Outcome {
    match verb {
        PluginsVerb::Ls => list(settings).await,
        PluginsVerb::Inspect { plugin } if names_a_file(Path::new(&plugin)) => {
            inspect_file(settings, Path::new(&plugin))
        }
        PluginsVerb::Inspect { plugin } => inspect(settings, &plugin).await,
        PluginsVerb::Add { file } => add(settings, &file).await,
        PluginsVerb::Approve { id, effects, yes } => approve(settings, &id, effects, yes).await,
        PluginsVerb::Rm { id } => {
            settings.client().await?.remove_plugin(&id).await?;
            if settings.output.json {
                return settings.output.json(&json!({ "removed": id }));
            }
            settings.output.text("removed\n")
        }
        PluginsVerb::Build { source, output } => build(settings, &source, output),
        PluginsVerb::Pack { file } => pack(settings, &file),
        PluginsVerb::Call { file, tool, input, workspace } => {
            call(settings, &file, &tool, &input, workspace.as_deref())
        }
    }
}

/// Also one that is not there, which is then said.
fn names_a_file(name: &Path) -> bool {
    name.is_file() || name.extension().is_some_and(|kind| kind == "wasm")
}

async fn list(settings: &Settings) -> Outcome {
    let client = settings.client().await?;
    let plugins = client.plugins().await?;
    if settings.output.json {
        return settings.output.json(&plugins);
    }
    let rows = plugins.iter().map(|plugin| {
        let state = cell(plugin, "/state");
        let columns = ["/id", "/version", "/kind"].map(|at| cell(plugin, at));
        columns.into_iter().chain([state, cell(plugin, "/granted"), cell(plugin, "/description")]).collect()
    });
    settings
        .output
        .table(&["ID", "VERSION", "KIND", "STATE", "GRANTED", "ABOUT"], &rows.collect::<Vec<_>>())?;
    let refused = client.refused_plugins().await?;
    let style = settings.output.style;
    let line = |file: &Value| {
        let [name, why] = ["/file", "/why"].map(|at| render::line(&cell(file, at), 300));
        format!("{} {name}: {why}\n", style.red("refused:"))
    };
    let unusable = |plugin: &Value| {
        let why = plugin.get("problem")?.as_str()?;
        let name = render::line(&cell(plugin, "/id"), 128);
        Some(format!("{} {name}: {}\n", style.red("unusable:"), render::line(&why.into(), 300)))
    };
    let lines = refused.iter().map(line).chain(plugins.iter().filter_map(unusable));
    settings.output.text(&lines.collect::<String>())
}

async fn inspect(settings: &Settings, id: &str) -> Outcome {
    let id: PluginId =
        id.parse().map_err(|e| Failure::of(Code::Usage, &format!("{id} is no file and no plugin"), &e))?;
    let plugin = settings.client().await?.plugin(&id).await?;
    if settings.output.json {
        return settings.output.json(&plugin);
    }
    let manifest = plugin.get("manifest").cloned().unwrap_or_else(|| plugin.clone());
    match serde_json::from_value::<Manifest>(manifest) {
        Ok(manifest) => settings.output.text(&described(settings, &manifest, &cell(&plugin, "/digest"))),
        Err(_) => settings.output.json(&plugin),
    }
}

fn inspect_file(settings: &Settings, file: &Path) -> Outcome {
    let bytes = component(file)?;
    let admissible = manifest::admit(&bytes, MAX_BYTES)
        .map_err(|e| Failure::of(Code::Forbidden, &format!("{} would be refused", file.display()), &e))?;
    if settings.output.json {
        return settings
            .output
            .json(&json!({ "digest": admissible.digest, "manifest": admissible.manifest }));
    }
    settings.output.text(&described(settings, &admissible.manifest, &admissible.digest.as_str().into()))
}

fn described(settings: &Settings, manifest: &Manifest, digest: &Untrusted) -> String {
    let style = settings.output.style;
    let line = |text: &str| render::line(&text.into(), 160);
    let mut out = format!("{} {}\n", style.name(manifest.id.as_str()), line(&manifest.version));
    out.push_str(&format!("  {}\n  {}\n", line(&manifest.description), style.dim(&render::line(digest, 80))));
    if let Some(persona) = &manifest.persona {
        out.push_str(&format!(
            "  persona {}: {}, {}\n",
            style.bold(persona.key.as_str()),
            line(&persona.name),
            line(&persona.role)
        ));
    }
    for ask in &manifest.asks {
        out.push_str(&format!("  asks for {}: {}\n", style.yellow(ask.effect.as_str()), line(&ask.reason)));
    }
    for tool in &manifest.tools {
        let effects: Vec<&str> = tool.effects.iter().map(Effect::as_str).collect();
        let first = tool.description.lines().next().unwrap_or_default();
        out.push_str(&format!(
            "  {} ({})  {}\n",
            style.bold(tool.name.as_str()),
            effects.join(", "),
            line(first)
        ));
    }
    out
}

async fn add(settings: &Settings, file: &Path) -> Outcome {
    let bytes = component(file)?;
    // Said here already, with the same words, before anything is sent.
    manifest::admit(&bytes, MAX_BYTES)
        .map_err(|e| Failure::of(Code::Usage, &format!("{}", file.display()), &e))?;
    let plugin = settings.client().await?.upload(bytes).await?;
    if settings.output.json {
        return settings.output.json(&plugin);
    }
    let id = render::line(&cell(&plugin, "/id"), 128);
    let next = match cell(&plugin, "/state").raw() {
        "granted" => String::new(),
        _ => format!("; it can do nothing until: vteam plugins approve {id}{}", settings.flags),
    };
    settings.output.text(&format!("added {id}{next}\n"))
}

async fn approve(settings: &Settings, id: &PluginId, effects: Option<Vec<Effect>>, yes: bool) -> Outcome {
    let client = settings.client().await?;
    let plugin = client.plugin(id).await?;
    if !yes && !agreed(settings, &client, id, &plugin, effects.as_deref()).await? {
        return Err(Failure::new(Code::Forbidden, "not approved"));
    }
    let mut grant = json!({ "digest": plugin.get("digest") });
    if let (Some(effects), Some(fields)) = (effects, grant.as_object_mut()) {
        fields.insert("effects".to_owned(), json!(effects));
    }
    let answer = client.approve_plugin(id, &grant).await?;
    if settings.output.json { settings.output.json(&answer) } else { settings.output.text("approved\n") }
}

#[expect(clippy::print_stderr, reason = "a prompt for the person at the terminal")]
async fn agreed(
    settings: &Settings,
    client: &Client,
    id: &PluginId,
    plugin: &Value,
    effects: Option<&[Effect]>,
) -> Outcome<bool> {
    let manifest = plugin.get("manifest").cloned().unwrap_or_default();
    if let Ok(manifest) = serde_json::from_value::<Manifest>(manifest) {
        eprint!("{}", described(settings, &manifest, &cell(plugin, "/digest")));
    }
    let Some(mut lines) = Lines::of_terminal() else {
        return Err(Failure::new(Code::Usage, "nobody is at the terminal to agree: give --yes"));
    };
    let what = match effects {
        Some(effects) => effects.iter().map(Effect::as_str).collect::<Vec<_>>().join(", "),
        None => "everything it asks for".to_owned(),
    };
    eprint!("Grant {id} {what} in project {}? [y/N] ", client.project_name());
    Ok(lines.next().await.is_some_and(|line| ask::is_yes(&line)))
}

fn build(settings: &Settings, source: &Path, output: Option<PathBuf>) -> Outcome {
    let failed =
        |code, e: &(dyn std::error::Error + 'static)| Failure::of(code, &format!("{}", source.display()), e);
    // What the author wrote is wrong.
    let wrong = |e: &(dyn std::error::Error + 'static)| failed(Code::Usage, e);
    let markdown = source.extension().is_some_and(|extension| extension == "md");
    let component = if markdown {
        let core = read(&settings.plugins_dir.join(PERSONA_CORE))?;
        let text = String::from_utf8(read(source)?).map_err(|e| wrong(&e))?;
        author::stamp(&core, &text).map_err(|e| match e {
            StampError::Markdown(_) => wrong(&e),
            StampError::Core(_) | StampError::Encode(_) => failed(Code::Failed, &e),
        })?
    } else {
        component(source)?
    };
    let described = Sandbox::new(&settings.bin_dir).describe(&component);
    let described = described.map_err(|e| failed(blame(&e), &e))?;
    let plugin = author::finish(&component, &described).map_err(|e| wrong(&e))?;
    let admissible = manifest::admit(&plugin, MAX_BYTES).map_err(|e| wrong(&e))?;
    let id = admissible.manifest.id;
    let output = output.unwrap_or_else(|| PathBuf::from(format!("{id}.wasm")));
    std::fs::write(&output, &plugin)
        .map_err(|e| Failure::of(Code::Failed, &format!("cannot write {}", output.display()), &e))?;
    if settings.output.json {
        let digest = Digest::of(&plugin);
        return settings
            .output
            .json(&json!({ "id": id, "file": output, "digest": digest, "size": plugin.len() }));
    }
    settings.output.text(&format!("built {id}: {} ({} bytes)\n", output.display(), plugin.len()))
}

fn pack(settings: &Settings, file: &Path) -> Outcome {
    let bytes = component(file)?;
    // Said here already, with the same words, before anything is applied.
    let admissible = manifest::admit(&bytes, MAX_BYTES)
        .map_err(|e| Failure::of(Code::Forbidden, &format!("{}", file.display()), &e))?;
    let maps = author::config_maps(admissible.manifest.id.as_str(), &bytes)?;
    settings.output.json(&json!({ "apiVersion": "v1", "kind": "List", "items": maps }))
}

fn call(settings: &Settings, file: &Path, tool: &ToolName, input: &str, workspace: Option<&Path>) -> Outcome {
    serde_json::from_str::<Value>(input)
        .map_err(|e| Failure::of(Code::Usage, "the input is not JSON", &e))?;
    if let Some(folder) = workspace.filter(|folder| !folder.is_dir()) {
        return Err(Failure::new(
            Code::NotFound,
            format!("--workspace {}: no such folder", folder.display()),
        ));
    }
    let answer = Sandbox::new(&settings.bin_dir)
        .call(&component(file)?, tool, input, workspace)
        .map_err(|e| Failure::of(blame(&e), &format!("{}", file.display()), &e))?;
    settings.output.text(&(crate::output::harmless(answer.trim_end()) + "\n"))?;
    match serde_json::from_str::<Value>(&answer).ok().as_ref().and_then(|answer| answer["outcome"].as_str()) {
        Some("refused" | "failed") => Err(Failure::new(Code::RunFailed, "the call did not succeed")),
        _ => Ok(()),
    }
}

/// Whose fault it is: the file's, or this installation's.
fn blame(error: &SandboxError) -> Code {
    match error {
        SandboxError::Refused { .. } => Code::Usage,
        SandboxError::Start { .. } | SandboxError::Temporary(_) | SandboxError::Answer(_) => Code::Failed,
    }
}

/// The file, where it begins as WebAssembly does.
fn component(file: &Path) -> Outcome<Vec<u8>> {
    let bytes = read(file)?;
    if bytes.starts_with(b"\0asm") {
        return Ok(bytes);
    }
    Err(Failure::new(Code::Usage, format!("{} is not WebAssembly", file.display())))
}

fn read(file: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(file).map_err(|e| {
        let code = if e.kind() == std::io::ErrorKind::NotFound { Code::NotFound } else { Code::Failed };
        Failure::of(code, &format!("cannot read {}", file.display()), &e)
    })
}
