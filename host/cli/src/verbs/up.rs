//! `up`: the server on this machine; and `backup` of what it keeps.

use crate::{
    args::UpArgs,
    embedded::Embedded,
    exit::{Code, Failure, Outcome},
    settings::{Settings, Upstream, colours_wanted},
};
use serde_json::json;
use std::path::Path;
use telemetry::log::{self, Format, Target};

pub(super) async fn run(settings: &Settings, args: &UpArgs) -> Outcome {
    settings.only_here("up")?;
    let filter = settings.log.as_deref().unwrap_or("info");
    log::init(filter, Format::for_stderr(colours_wanted()), Target::Stderr)
        .map_err(|e| Failure::of(Code::Usage, "cannot set up the log", &e))?;
    let upstream = Upstream::read(&args.model)?;
    let about = about(&upstream);
    if args.cluster.cluster {
        let embedded = Embedded::on_cluster(settings, upstream, args.listen, &args.cluster).await?;
        return embedded.until_signalled().await;
    }
    let embedded = Embedded::start(settings, upstream, args.listen).await?;
    announce(settings, &embedded, &about)?;
    embedded.until_signalled().await
}

fn announce(settings: &Settings, embedded: &Embedded, about: &str) -> Outcome {
    let url = embedded.url();
    if settings.output.json {
        return settings.output.json_line(&json!({
            "apiSocket": settings.socket(), "url": url, "tokenFile": settings.own_token_file(), "model": about,
        }));
    }
    let style = settings.output.style;
    let mut text = format!("{}\n", style.bold("vteam is up"));
    text.push_str(&format!("  socket  {}\n", settings.socket().display()));
    if let Some(url) = url {
        text.push_str(&format!("  REST    {url}\n"));
    }
    text.push_str(&format!("  token   {}\n", settings.own_token_file().display()));
    text.push_str(&format!("  model   {about}\n"));
    text.push_str(&style.dim("  Ctrl-C ends it; sessions go on when it starts again.\n"));
    settings.output.text(&text)
}

/// Who answers, in words.
pub(super) fn about(upstream: &Upstream) -> String {
    match upstream {
        Upstream::Scripted(path) => format!("scripted by {}: no real model answers", path.display()),
        Upstream::Anthropic { url: None, .. } => "Anthropic".to_owned(),
        Upstream::Anthropic { url: Some(url), .. } | Upstream::OpenAi { url, .. } => url.clone(),
        Upstream::None => "none: set ANTHROPIC_API_KEY, or VTEAM_MODEL_URL and VTEAM_MODEL_KEY".to_owned(),
    }
}

/// What `backup` copies beside the store. Not the token and the workspaces: those belong to this machine.
const KEPT: [&str; 4] = ["settings", "plugins", "keys", "prices.yaml"];

pub(super) async fn backup(settings: &Settings, to: &Path) -> Outcome {
    settings.only_here("backup")?;
    let from = settings.data_dir.clone();
    if !from.join("vteam.db").is_file() {
        return Err(Failure::new(
            Code::NotFound,
            format!("there is nothing to back up in {}", from.display()),
        ));
    }
    if to.exists() {
        return Err(Failure::new(
            Code::Conflict,
            format!("{} exists already: name a new folder", to.display()),
        ));
    }
    let target = to.to_owned();
    let copied = tokio::task::spawn_blocking(move || copy(&from, &target)).await;
    copied.map_err(|e| Failure::of(Code::Failed, "the backup was not made", &e))??;
    if settings.output.json {
        return settings.output.json(&json!({ "backup": to }));
    }
    settings.output.text(&format!("backed up to {0}; to restore: vteam up --data-dir {0}\n", to.display()))
}

fn copy(from: &Path, to: &Path) -> Outcome {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(to)?;
    store::backup(from, to).map_err(|e| Failure::of(Code::Failed, "cannot copy the store", &e))?;
    KEPT.iter().try_for_each(|name| copy_tree(&from.join(name), &to.join(name)))
}

/// Plain files and folders only; nothing where there is nothing.
fn copy_tree(from: &Path, to: &Path) -> Outcome {
    let Ok(meta) = std::fs::symlink_metadata(from) else { return Ok(()) };
    if meta.is_file() {
        std::fs::copy(from, to)?;
    } else if meta.is_dir() {
        std::fs::create_dir_all(to)?;
        std::fs::set_permissions(to, meta.permissions())?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
