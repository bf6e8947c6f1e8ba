//! What is in an image: our programs and plugins and nothing else, or Debian's programs.

use crate::{
    binaries::{self, Binary, static_target},
    image::{base, config::Origin, debian::Lock, licences, sbom::Parts, tools, tree::Tree},
    machine::repository,
    plugins,
};
use std::path::Path;

#[derive(Debug)]
pub(crate) enum Contents {
    Ours(Ours),
    Tools,
}

/// No shell: programs that are linked statically (those built for tests bring their libraries), and their data.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) binaries: &'static [&'static Binary],
    /// First-party plugins, where `vteam` looks for them: beside itself.
    pub(crate) plugins: bool,
    /// For TLS to others' servers.
    pub(crate) certificates: bool,
    /// A folder that the image's user may write.
    pub(crate) data: Option<&'static str>,
}

/// As an installation below a prefix has it.
const PROGRAMS: &str = "usr/lib/vteam";

/// An image's files, the time that they carry, and what they are made of.
pub(crate) struct Made {
    pub(crate) tree: Tree,
    pub(crate) time: u64,
    pub(crate) sbom: Vec<u8>,
}

impl Contents {
    pub(crate) fn ours(&self) -> Option<&Ours> {
        match self {
            Self::Ours(ours) => Some(ours),
            Self::Tools => None,
        }
    }

    pub(crate) fn licences(&self) -> &'static str {
        match self {
            Self::Ours(ours) if ours.certificates => "Apache-2.0 AND MPL-2.0",
            Self::Ours(_) => "Apache-2.0",
            // Each package's own, which the image holds in /usr/share/doc.
            Self::Tools => "LicenseRef-Debian",
        }
    }
}

pub(crate) fn make(
    name: &str,
    contents: &Contents,
    stage: &Path,
    lock: &Lock,
    origin: &Origin,
) -> anyhow::Result<Made> {
    let mut tree = Tree::default();
    let mut parts = Parts::default();
    let time = match contents {
        Contents::Ours(ours) => {
            fill(ours, &mut tree, &mut parts, stage, origin)?;
            if ours.certificates {
                base::add_certificates(&mut tree, &mut parts, lock)?;
            }
            origin.time
        }
        // By its packages, not by our commit: its layer stays the same as long as they do.
        Contents::Tools => tools::fill(&mut tree, &mut parts, lock)?,
    };
    let sbom = parts.document(name, origin)?;
    if matches!(contents, Contents::Ours(_)) {
        tree.add(&format!("usr/share/sbom/vteam-{name}.cdx.json"), sbom.clone())?;
    }
    Ok(Made { tree, time, sbom })
}

fn fill(
    ours: &Ours,
    tree: &mut Tree,
    parts: &mut Parts,
    stage: &Path,
    origin: &Origin,
) -> anyhow::Result<()> {
    base::lay(tree, &format!("/{}", ours.data.unwrap_or("tmp")), "/usr/sbin/nologin")?;
    base::add_licence(tree, repository())?;
    for binary in ours.binaries {
        let place = format!("{PROGRAMS}/{}", binary.name);
        let program = stage.join(binary.name);
        tree.add_program(&place, &program)?;
        for library in binaries::libraries(&program)? {
            let place = library.to_string_lossy();
            if !tree.contains(place.trim_start_matches('/')) {
                tree.add_program(place.trim_start_matches('/'), &library)?;
            }
        }
        let bytes = tree.file(&place).unwrap_or_default();
        parts.add_file("application", binary.name, &origin.version, bytes);
        parts.add_crates(binary.package, &static_target())?;
    }
    if ours.plugins {
        add_plugins(tree, parts, origin)?;
    }
    tree.add("usr/share/doc/vteam/crates", licences::texts(parts.crates())?)?;
    if let Some(data) = ours.data {
        tree.own(data, 0o700)?;
    }
    Ok(())
}

fn add_plugins(tree: &mut Tree, parts: &mut Parts, origin: &Origin) -> anyhow::Result<()> {
    for file in plugins::shipped()? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = std::fs::read(&file)?;
        if name.ends_with(".wasm") {
            parts.add_file("library", &name, &origin.version, &bytes);
        }
        tree.add(&format!("{PROGRAMS}/plugins/{name}"), bytes)?;
    }
    for (package, target) in plugins::packages()? {
        parts.add_crates(&package, target)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Ours, fill};
    use crate::{
        binaries,
        image::{config::Origin, sbom::Parts, tree::Tree},
    };

    #[test]
    fn an_image_of_ours_holds_what_is_named_and_no_shell() {
        let stage = tempfile::tempdir().unwrap();
        std::fs::write(stage.path().join("vteam-exec"), "program").unwrap();
        let ours =
            Ours { binaries: &[&binaries::EXEC], plugins: false, certificates: false, data: Some("data") };
        let origin = Origin { version: "0.1.0".to_owned(), revision: None, time: 0 };
        let (mut tree, mut parts) = (Tree::default(), Parts::default());
        fill(&ours, &mut tree, &mut parts, stage.path(), &origin).unwrap();
        let programs: Vec<_> = tree
            .nodes()
            .filter(|(path, node)| tree.file(path).is_some() && node.mode & 0o111 != 0)
            .map(|(path, _)| path)
            .collect();
        assert_eq!(programs, ["usr/lib/vteam/vteam-exec"]);
        let theirs: Vec<_> = tree.nodes().filter(|(_, node)| node.owner != 0).map(|(path, _)| path).collect();
        assert_eq!(theirs, ["data"]);
    }
}
