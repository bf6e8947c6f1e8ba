//! The shipped binaries, staged side by side as an installation has them.
//!
//! Each is built by a `cargo build` of its own: within one invocation cargo unifies features, and the runner would link
//! the compiler.

use crate::{
    machine::{architecture, ensure_targets, place, plugins, target},
    plugins as plugin_build,
    run::{Run, step},
};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Profile {
    fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Dev => &[],
            Self::Release => &["--release"],
        }
    }
}

struct Binary {
    package: &'static str,
    name: &'static str,
    /// Linked statically: it is put into containers that have no libc of ours.
    fixed: bool,
}

const COMPILE: Binary = Binary { package: "compile", name: "vteam-compile", fixed: false };
const RUNNER: Binary = Binary { package: "runner", name: "vteam-runner", fixed: false };
const EXEC: Binary = Binary { package: "confine", name: "vteam-exec", fixed: true };
const OPERATOR: Binary = Binary { package: "operator", name: "vteam-operator", fixed: false };
const VTEAM: Binary = Binary { package: "cli", name: "vteam", fixed: false };

/// Where the binaries of a profile stand, with `plugins/` beside them.
pub(crate) fn stage(profile: Profile) -> PathBuf {
    target().join("stage").join(profile.folder())
}

/// Binaries and plugins; the folder they are in.
pub(crate) fn build_all(profile: Profile) -> anyhow::Result<PathBuf> {
    plugin_build::build(profile)?;
    build(&[EXEC, VTEAM], profile)?;
    let stage = stage(profile);
    for entry in std::fs::read_dir(plugins())? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|e| e == "wasm" || e == "json" || e == "core") {
            place(&entry.path(), &stage.join("plugins").join(entry.file_name()))?;
        }
    }
    Ok(stage)
}

/// What is needed to ask a plugin for its description.
pub(crate) fn build_for_describe(profile: Profile) -> anyhow::Result<PathBuf> {
    build(&[COMPILE, RUNNER], profile)?;
    Ok(stage(profile))
}

/// What knows the cluster's definitions.
pub(crate) fn build_operator(profile: Profile) -> anyhow::Result<PathBuf> {
    build(&[OPERATOR], profile)?;
    Ok(stage(profile).join(OPERATOR.name))
}

fn build(binaries: &[Binary], profile: Profile) -> anyhow::Result<()> {
    for binary in binaries {
        step(&format!("building {}", binary.name));
        let built =
            if binary.fixed { build_static(binary, profile)? } else { build_one(binary, profile, None)? };
        place(&built, &stage(profile).join(binary.name))?;
    }
    Ok(())
}

fn build_static(binary: &Binary, profile: Profile) -> anyhow::Result<PathBuf> {
    let triple = format!("{}-unknown-linux-musl", architecture());
    let tried = ensure_targets(std::slice::from_ref(&triple))
        .and_then(|()| build_one(binary, profile, Some(&triple)));
    tried.or_else(|error| {
        crate::machine::advise(&format!(
            "{} could not be linked statically ({error:#}); building it for this host only",
            binary.name
        ));
        build_one(binary, profile, None)
    })
}

fn build_one(binary: &Binary, profile: Profile, triple: Option<&str>) -> anyhow::Result<PathBuf> {
    let mut cargo =
        Run::cargo().args(["build", "--package", binary.package, "--bin", binary.name]).args(profile.flags());
    let mut folder = target();
    if let Some(triple) = triple {
        cargo = cargo.args(["--target", triple]);
        folder.push(triple);
    }
    cargo.go()?;
    Ok(folder.join(profile.folder()).join(binary.name))
}

/// The environment in which a staged binary finds its siblings and plugins.
pub(crate) fn environment(run: Run, stage: &Path) -> Run {
    run.env("VTEAM_BIN_DIR", stage).env("VTEAM_PLUGINS_DIR", stage.join("plugins"))
}
