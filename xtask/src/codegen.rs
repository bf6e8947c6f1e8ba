//! `codegen`: files that are generated and committed. A test of each says when it is out of date.

use crate::{
    binaries::{self, Profile},
    cluster,
    machine::repository,
    plugins,
    run::{Run, say, step},
};
use anyhow::Context;
use std::path::Path;

pub(crate) fn run() -> anyhow::Result<()> {
    let stage = binaries::build_all(Profile::Dev)?;
    step("writing generated files");
    let vteam = stage.join("vteam");
    write("docs/openapi.json", &Run::new(&vteam).args(["docs", "openapi"]).text()?)?;
    write("docs/cli.md", &Run::new(&vteam).args(["docs", "cli"]).text()?)?;
    write("docs/tools.md", &author::docs(&plugins::manifests()?))?;
    let operator = binaries::build_operator(Profile::Dev)?;
    write("manifests/policies/fields.yaml", &Run::new(&operator).arg("policies").text()?)?;
    definitions(&operator)?;
    manifests()
}

/// What `vteam install --render` prints: what kubectl's own kustomize makes of each overlay.
fn manifests() -> anyhow::Result<()> {
    let kubectl = cluster::programs()?.join("kubectl");
    for overlay in ["dev", "production"] {
        let text = Run::new(&kubectl)
            .args(["kustomize", &format!("manifests/overlays/{overlay}")])
            .dir(repository())
            .text()?;
        write(&format!("manifests/rendered/{overlay}.yaml"), &text)?;
    }
    Ok(())
}

/// One file for each CustomResourceDefinition.
fn definitions(operator: &Path) -> anyhow::Result<()> {
    let text = Run::new(operator).arg("crds").text()?;
    for document in text.split("---\n").filter(|document| !document.is_empty()) {
        let plural = document.lines().find_map(|line| line.trim().strip_prefix("plural: "));
        let plural = plural.context("a definition names its plural")?;
        write(&format!("manifests/crds/{plural}.yaml"), &format!("---\n{document}"))?;
    }
    Ok(())
}

fn write(path: &str, text: &str) -> anyhow::Result<()> {
    let file = repository().join(path);
    let changed = std::fs::read_to_string(&file).ok().is_none_or(|before| before != text);
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    say(&format!("  {path}{}", if changed { " (changed)" } else { "" }));
    Ok(())
}
