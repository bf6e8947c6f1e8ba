//! Third-party judges: the official clients of the protocols that we speak, installed from their registries at pinned
//! versions, read what the real server says.

use crate::{
    demo,
    machine::{repository, target},
    run::{Run, say, step},
    test::Count,
};
use anyhow::Context;
use std::path::{Path, PathBuf};

pub(crate) fn run(stage: &Path) -> anyhow::Result<Count> {
    let folder = repository().join("tests/oracles");
    let place = target().join("oracles");
    std::fs::create_dir_all(&place)?;
    let python = python(&folder, &place)?;
    let node = node(&folder, &place)?;
    step("third-party judges");
    let data = tempfile::Builder::new().prefix("vteam-oracles-").tempdir()?;
    let script = repository().join("examples/scripts/demo.yaml");
    let served = demo::serve(stage, &data.path().join("data"), &script)?;
    let token = std::fs::read_to_string(&served.token_file)?.trim().to_owned();
    let mut count = Count::default();
    let judges = [("@ag-ui/client", node), ("anthropic (PyPI)", python)];
    for (name, judge) in judges {
        let judged = judge
            .env("VTEAM_URL", &served.url)
            .env("VTEAM_TOKEN", &token)
            .env("VTEAM_BIN", stage.join("vteam"))
            .env("VTEAM_SCRIPT", &script)
            .go();
        match judged {
            Ok(()) => {
                say(&format!("oracle {name} ... ok"));
                count.passed += 1;
            }
            Err(error) => {
                say(&format!("oracle {name} ... FAILED: {error:#}"));
                count.failed += 1;
            }
        }
    }
    served.stop()?;
    Ok(count)
}

fn python(folder: &Path, place: &Path) -> anyhow::Result<Run> {
    let venv = place.join("venv");
    let python = venv.join("bin/python");
    if !python.is_file() {
        step("a Python environment for the judges");
        Run::new("python3").args(["-m", "venv"]).arg(&venv).go().context("python3 with venv is needed")?;
    }
    let wanted = folder.join("requirements.txt");
    Run::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(wanted)
        .go()?;
    Ok(Run::new(python).arg(folder.join("anthropic_client.py")))
}

fn node(folder: &Path, place: &Path) -> anyhow::Result<Run> {
    let home: PathBuf = place.join("node");
    std::fs::create_dir_all(&home)?;
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        let name = file.file_name();
        if name.to_string_lossy().ends_with(".mjs") || name.to_string_lossy().starts_with("package") {
            std::fs::copy(file.path(), home.join(name))?;
        }
    }
    step("node packages for the judges");
    let install = if home.join("package-lock.json").is_file() { "ci" } else { "install" };
    Run::new("npm")
        .args([install, "--no-audit", "--no-fund", "--silent"])
        .dir(&home)
        .go()
        .context("npm is needed")?;
    Ok(Run::new("node").arg("agui_client.mjs").dir(&home))
}
