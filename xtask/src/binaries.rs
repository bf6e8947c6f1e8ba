//! The shipped binaries, staged side by side as an installation has them.
//!
//! Each is built by a `cargo build` of its own: within one invocation cargo unifies features, and the runner would link
//! the compiler.

use crate::{
    machine::{architecture, ensure_targets, place, repository, target},
    plugins as plugin_build,
    run::{Run, step},
};
use anyhow::Context;
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

#[derive(Debug)]
pub(crate) struct Binary {
    pub(crate) package: &'static str,
    pub(crate) name: &'static str,
    /// Linked statically: it is put into containers that have no libc of ours.
    fixed: bool,
}

impl Binary {
    /// One that is linked statically.
    pub(crate) const fn fixed(package: &'static str, name: &'static str) -> Self {
        Self { package, name, fixed: true }
    }
}

pub(crate) const COMPILE: Binary = Binary { package: "compile", name: "vteam-compile", fixed: false };
pub(crate) const RUNNER: Binary = Binary { package: "runner", name: "vteam-runner", fixed: false };
pub(crate) const EXEC: Binary = Binary::fixed("confine", "vteam-exec");
/// What a test cluster's own pods run.
const CLUSTER_POD: Binary = Binary::fixed("cluster-pod", "cluster-pod");
pub(crate) const OPERATOR: Binary = Binary { package: "operator", name: "vteam-operator", fixed: false };
pub(crate) const VTEAM: Binary = Binary { package: "cli", name: "vteam", fixed: false };

/// Where the binaries of a profile stand, with `plugins/` beside them.
pub(crate) fn stage(profile: Profile) -> PathBuf {
    target().join("stage").join(profile.folder())
}

/// Binaries and plugins; the folder they are in.
pub(crate) fn build_all(profile: Profile) -> anyhow::Result<PathBuf> {
    plugin_build::build(profile)?;
    build(&[EXEC, VTEAM], profile)?;
    let stage = stage(profile);
    for file in plugin_build::shipped()? {
        place(&file, &stage.join("plugins").join(file.file_name().unwrap_or_default()))?;
    }
    Ok(stage)
}

/// What is needed to ask a plugin for its description.
pub(crate) fn build_for_describe(profile: Profile) -> anyhow::Result<PathBuf> {
    build(&[COMPILE, RUNNER], profile)?;
    Ok(stage(profile))
}

/// Static, or not at all: it is alone in its image.
pub(crate) fn build_cluster_pod() -> anyhow::Result<PathBuf> {
    let triple = static_target();
    ensure_targets(std::slice::from_ref(&triple))?;
    build_one(&CLUSTER_POD, Profile::Dev, Some(&triple))
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

/// The target of what is linked statically.
pub(crate) fn static_target() -> String {
    format!("{}-unknown-linux-musl", architecture())
}

fn build_static(binary: &Binary, profile: Profile) -> anyhow::Result<PathBuf> {
    let triple = static_target();
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
    cargo(binary, profile, triple).go()?;
    Ok(built(binary, profile, triple))
}

fn cargo(binary: &Binary, profile: Profile, triple: Option<&str>) -> Run {
    let cargo =
        Run::cargo().args(["build", "--package", binary.package, "--bin", binary.name]).args(profile.flags());
    cargo.args(triple.into_iter().flat_map(|triple| ["--target", triple]))
}

fn built(binary: &Binary, profile: Profile, triple: Option<&str>) -> PathBuf {
    target().join(triple.unwrap_or_default()).join(profile.folder()).join(binary.name)
}

/// Binaries that run in a container without any library, the same bytes from every checkout; the folder they are in.
pub(crate) fn build_for_images(binaries: &[&Binary], profile: Profile) -> anyhow::Result<PathBuf> {
    let triple = static_target();
    ensure_targets(std::slice::from_ref(&triple))?;
    let compiler = musl_compiler()?;
    let stage = target().join("stage").join(format!("{}-static", profile.folder()));
    for binary in binaries {
        step(&format!("building {} for images", binary.name));
        reproducible(cargo(binary, profile, Some(&triple)), &triple)?
            .env(&format!("CC_{}", triple.replace('-', "_")), &compiler)
            .go()?;
        place(&built(binary, profile, Some(&triple)), &stage.join(binary.name))?;
    }
    Ok(stage)
}

/// The binaries that the tests run, without their symbols: what needs this machine's libraries needs them in the image.
pub(crate) fn build_for_dev_images(binaries: &[&Binary]) -> anyhow::Result<PathBuf> {
    let folder = target().join("stage").join("debug-images");
    std::fs::create_dir_all(&folder)?;
    for binary in binaries {
        build(std::slice::from_ref(*binary), Profile::Dev)?;
        let stripped = folder.join(binary.name);
        Run::new("strip").arg("-o").arg(&stripped).arg(stage(Profile::Dev).join(binary.name)).go()?;
    }
    Ok(folder)
}

/// The shared libraries of a program, as the loader finds them here; none where it is linked statically.
pub(crate) fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Ok(listed) = Run::new("ldd").arg(program).text() else { return Ok(vec![]) };
    // `name => /path (address)`, or the loader itself: `/path (address)`.
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(listed.lines().filter_map(path).collect())
}

/// For the C code of SQLite, of the cryptography and of the allocator.
fn musl_compiler() -> anyhow::Result<String> {
    let names = [format!("{}-linux-musl-gcc", architecture()), "musl-gcc".to_owned()];
    let found = names.into_iter().find(|name| Run::new(name).arg("--version").succeeds());
    found.context("images need a C compiler for musl: install musl-tools")
}

/// No path of this machine gets into what is built: not the repository's, not that of cargo's registry.
pub(crate) fn reproducible(cargo: Run, triple: &str) -> anyhow::Result<Run> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    // The target folder may be a link, or elsewhere. Of several that fit, rustc and gcc take the last.
    let linked = target();
    let real = linked.canonicalize().unwrap_or_else(|_| linked.clone());
    let paths = [
        (home.as_path(), "/cargo"),
        (repository(), "/vteam"),
        (&linked, "/vteam/target"),
        (&real, "/vteam/target"),
    ];
    let paths = paths.iter().map(|(path, name)| format!("{}={name}", path.display()));
    let (rust, c): (Vec<_>, Vec<_>) = paths
        .map(|path| (format!("--remap-path-prefix={path}"), format!("-ffile-prefix-map={path}")))
        .unzip();
    // Instead of RUSTFLAGS, which would be of this machine too.
    Ok(cargo
        .env("CARGO_ENCODED_RUSTFLAGS", rust.join("\u{1f}"))
        .env(&format!("CFLAGS_{}", triple.replace('-', "_")), c.join(" ")))
}

/// The environment in which a staged binary finds its siblings and plugins.
pub(crate) fn environment(run: Run, stage: &Path) -> Run {
    run.env("VTEAM_BIN_DIR", stage).env("VTEAM_PLUGINS_DIR", stage.join("plugins"))
}
