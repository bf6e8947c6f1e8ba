//! `doctor`: what this host can keep, or a cluster has, and what is missing, each with what to do.

mod cluster;

use crate::{
    context::Context,
    embedded::confinement,
    exit::{Code, Failure, Outcome},
    settings::{Settings, Upstream},
};
use model::render;
use protocol::exec::Confinement;
use serde::Serialize;
use serde_json::Value;

/// One line of a table.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    /// `None`: it cannot be known from here.
    fine: Option<bool>,
    detail: String,
}

impl Finding {
    fn new(what: &'static str, fine: bool, detail: impl Into<String>) -> Self {
        Self { what, fine: Some(fine), detail: detail.into() }
    }

    fn unknown(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, fine: None, detail: detail.into() }
    }
}

pub(super) async fn run(settings: &Settings) -> Outcome {
    let broken = match settings.context().await? {
        Some(context) => of_cluster(settings, &context).await?,
        None => of_this_host(settings).await?,
    };
    if broken == 0 {
        Ok(())
    } else {
        let things = if broken == 1 { "1 thing needs".to_owned() } else { format!("{broken} things need") };
        Err(Failure::new(Code::Unhealthy, format!("{things} attention")))
    }
}

async fn of_cluster(settings: &Settings, context: &Context) -> Outcome<usize> {
    let findings = cluster::findings(context, settings.shown(context)).await;
    let output = settings.output;
    if output.json {
        output.json(&serde_json::json!({ "findings": findings }))?;
    } else {
        let title = format!("the cluster of the context {}, project {}", context.name, context.project);
        let text = format!("{}\n", output.style.bold(&render::line(&title.into(), 200)));
        output.text(&(text + &lines(settings, &findings)))?;
    }
    Ok(broken(&findings))
}

async fn of_this_host(settings: &Settings) -> Outcome<usize> {
    let confinement = confinement(&settings.bin_dir).await?;
    let version = match settings.client().await {
        Ok(client) => client.version().await,
        Err(failure) => Err(failure),
    };
    let findings = [
        kernel(),
        binaries(settings),
        plugins(settings),
        data(settings),
        model(version.as_ref().ok()),
        server(version),
    ];
    show(settings, &confinement, &findings)?;
    Ok(confinement.properties.iter().filter(|p| !p.holds).count() + broken(&findings))
}

fn broken(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.fine == Some(false)).count()
}

fn lines(settings: &Settings, findings: &[Finding]) -> String {
    let style = settings.output.style;
    let line = |Finding { what, fine, detail }: &Finding| {
        let mark = match fine {
            Some(true) => style.green("✓"),
            Some(false) => style.red("✗"),
            None => style.yellow("?"),
        };
        format!("  {mark} {what:<15} {}\n", render::line(&detail.as_str().into(), 400))
    };
    findings.iter().map(line).collect()
}

fn show(settings: &Settings, confinement: &Confinement, findings: &[Finding]) -> Outcome {
    let output = settings.output;
    let Confinement { properties, without_namespaces } = confinement;
    if output.json {
        return output.json(&serde_json::json!({
            "properties": properties, "withoutNamespaces": without_namespaces, "findings": findings,
        }));
    }
    let style = output.style;
    let mark = |fine: bool| if fine { style.green("✓") } else { style.red("✗") };
    let line = |text: &str| render::line(&text.into(), 300);
    let mut text = format!("{}\n", style.bold("native programs are confined by"));
    for property in properties {
        let name = property.name.to_string();
        text.push_str(&format!("  {} {name:<12} {}\n", mark(property.holds), line(&property.mechanism)));
        let detail = line(&property.detail);
        let detail = if property.holds { style.dim(&detail) } else { detail };
        text.push_str(&format!("    {:<12} {detail}\n", ""));
    }
    if let Some(why) = without_namespaces {
        let what = format!("without namespaces ({}): --in-place and network loopback are refused", line(why));
        text.push_str(&format!("  {} {what}\n", style.yellow("!")));
    }
    text.push_str(&format!("{}\n", style.bold("this installation")));
    text.push_str(&lines(settings, findings));
    if properties.iter().any(|p| !p.holds) {
        text.push_str("\nUntil every property holds, Bash and its like are refused in sessions; everything else works.\n");
    }
    output.text(&text)
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let fine = has_landlock(&release);
    let detail = if fine {
        format!("Linux {release}")
    } else {
        format!("Linux {release}: 5.13 is the least that has Landlock")
    };
    Finding::new("kernel", fine, detail)
}

fn has_landlock(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 13)
}

fn binaries(settings: &Settings) -> Finding {
    let names = ["vteam-runner", "vteam-exec", "vteam-compile"];
    let missing: Vec<&str> =
        names.into_iter().filter(|name| !settings.bin_dir.join(name).is_file()).collect();
    let place = settings.bin_dir.display();
    let detail = if missing.is_empty() {
        place.to_string()
    } else {
        format!("{} not in {place}: run cargo xtask install, or set VTEAM_BIN_DIR", missing.join(", "))
    };
    Finding::new("programs", missing.is_empty(), detail)
}

fn plugins(settings: &Settings) -> Finding {
    let files = std::fs::read_dir(&settings.plugins_dir).into_iter().flatten().flatten();
    let count = files.filter(|entry| entry.path().extension().is_some_and(|e| e == "wasm")).count();
    let place = settings.plugins_dir.display();
    let detail = if count > 0 {
        format!("{count} in {place}")
    } else {
        format!("none in {place}: run cargo xtask build-plugins, or set VTEAM_PLUGINS_DIR")
    };
    Finding::new("plugins", count > 0, detail)
}

fn data(settings: &Settings) -> Finding {
    let folder = &settings.data_dir;
    if !folder.join("vteam.db").is_file() {
        return Finding::new("data", true, format!("{} (nothing yet)", folder.display()));
    }
    match store::verify(folder) {
        Ok(verified) if verified.problems.is_empty() => {
            Finding::new("data", true, format!("{} (verified)", folder.display()))
        }
        Ok(verified) => {
            let detail =
                format!("{}: {} problems; restore a backup", folder.display(), verified.problems.len());
            Finding::new("data", false, detail)
        }
        Err(error) => Finding::new("data", false, telemetry::field::chain(&error)),
    }
}

/// Of the server that runs, where it plays a script; else what one that is started here would have.
fn model(version: Option<&Value>) -> Finding {
    let script = version.map(|version| super::cell(version, "/scripted")).filter(|script| !script.is_empty());
    if let Some(script) = script {
        let script = render::line(&script, 80);
        let detail = format!("{script}: the server that runs plays a script, no real model answers");
        return Finding::new("model", true, detail);
    }
    let upstream = Upstream::read(&crate::args::ModelArgs::default());
    let detail = upstream.as_ref().map_or_else(ToString::to_string, super::up::about);
    // Also without one: a server of somebody else's, or a script, may have it.
    Finding::new("model", upstream.is_ok(), detail)
}

fn server(version: Outcome<Value>) -> Finding {
    match version {
        Ok(version) => {
            let version = super::cell(&version, "/version");
            Finding::new("server", true, format!("runs, version {}", render::line(&version, 40)))
        }
        Err(failure) if failure.code == Code::Unreachable => {
            Finding::new("server", true, "does not run; `vteam up` starts it")
        }
        Err(failure) => Finding::new("server", false, failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_script_is_named() {
        let told = model(Some(&json!({"version": "0.1.0", "scripted": "scripted/demo"}))).detail;
        assert!(told.contains("scripted/demo") && told.contains("no real model"), "{told}");
        for other in [Some(json!({"scripted": null})), Some(json!({})), None] {
            assert!(!model(other.as_ref()).detail.contains("script,"), "{other:?}");
        }
    }
}
