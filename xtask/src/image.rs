//! `image`: OCI images as archives, without a daemon and the same bytes twice.
//!
//! What is in which image stands in [`IMAGES`]; what an image is made of is a tree in memory, so neither the umask nor the
//! owner, the clock or the path of the machine that builds gets into it.

mod archive;
mod base;
mod config;
mod contents;
mod debian;
mod foreign;
mod layer;
mod licences;
mod python;
mod sbom;
mod tools;
mod tree;

use crate::{
    binaries::{self, Binary, Profile},
    machine::{advise, repository, target},
    plugins,
    run::{Run, say, step},
};
use anyhow::{Context, bail};
pub(crate) use archive::Reference;
use clap::Args;
pub(crate) use config::{About, Origin, Process};
use contents::{Contents, Made, Ours};
use flate2::Compression;
use model::id::Digest;
use serde::Serialize;
use std::path::{Path, PathBuf};
pub(crate) use tree::Tree;

#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    /// Which: server, operator, runner, tools. Without a name, all.
    names: Vec<String>,
    /// Where the archives go, each with its SBOM beside it [default: target/images].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Optimised binaries: the default.
    #[arg(long, conflicts_with = "dev")]
    release: bool,
    /// Binaries as built for tests, with this machine's libraries: sooner there, and not measured against the limit of size.
    #[arg(long)]
    dev: bool,
    /// What an import calls the images: PREFIX/server and so on, with the version as tag.
    #[arg(long, value_name = "PREFIX", default_value = REPOSITORY)]
    repository: String,
    /// Write the files of each image into DIR/NAME and DIR/NAME.own (the user's) instead: for a Containerfile.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "json"])]
    root: Option<PathBuf>,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
    /// Choose the Debian packages anew, by the indices of the last `apt-get update`, and build nothing.
    #[arg(long)]
    update_lock: bool,
}

struct Image {
    name: &'static str,
    description: &'static str,
    contents: Contents,
    process: Process,
    /// Bytes of its compressed layers at most.
    limit: Option<usize>,
}

/// What a node has to pull before it can start one of ours.
const SMALL: Option<usize> = Some(25_000_000);

const IMAGES: &[Image] = &[
    Image {
        name: "server",
        description: "REST, event log, gateway for runners and broker of vteam",
        contents: Contents::Ours(Ours {
            binaries: &[&binaries::VTEAM, &binaries::COMPILE, &binaries::EXEC],
            plugins: true,
            certificates: true,
            data: Some(DATA),
        }),
        process: Process {
            entrypoint: &["/usr/lib/vteam/vteam"],
            arguments: &["up"],
            environment: &["PATH=/usr/lib/vteam", "VTEAM_DATA_DIR=/var/lib/vteam"],
            folder: "/",
        },
        limit: SMALL,
    },
    Image {
        name: "operator",
        description: "Turns vteam's custom resources into pods",
        contents: Contents::Ours(Ours {
            binaries: &[&binaries::OPERATOR],
            plugins: false,
            certificates: false,
            data: None,
        }),
        process: Process {
            entrypoint: &["/usr/lib/vteam/vteam-operator"],
            arguments: &[],
            environment: &["PATH=/usr/lib/vteam"],
            folder: "/",
        },
        limit: SMALL,
    },
    Image {
        name: "runner",
        description: "Agent loop of one vteam session, and the launcher that it hands to the tools container",
        contents: Contents::Ours(Ours {
            binaries: &[&binaries::RUNNER, &binaries::EXEC],
            plugins: false,
            certificates: false,
            data: None,
        }),
        process: Process {
            entrypoint: &["/usr/lib/vteam/vteam-runner"],
            arguments: &[],
            environment: &["PATH=/usr/lib/vteam"],
            folder: "/",
        },
        limit: SMALL,
    },
    Image {
        name: "tools",
        description: "Native programs for vteam sessions: shell, coreutils, git, make, Python",
        contents: Contents::Tools,
        process: Process {
            entrypoint: &[],
            arguments: &["/bin/bash"],
            environment: &[
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG=C.UTF-8",
                "HOME=/home/vteam",
            ],
            folder: "/workspace",
        },
        limit: None,
    },
];

/// What imports call the images where nobody says otherwise.
const REPOSITORY: &str = "localhost/vteam";

const DATA: &str = "var/lib/vteam";

/// A line of the table that is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Built {
    name: &'static str,
    /// For `ctr`, `skopeo` and a pod.
    reference: String,
    file: PathBuf,
    sbom: PathBuf,
    /// Of the manifest: what a pod can pin.
    digest: Digest,
    /// Of what a node pulls: configuration and compressed layers.
    bytes: usize,
}

pub(crate) fn run(args: &ImageArgs) -> anyhow::Result<()> {
    if args.update_lock {
        return update_lock();
    }
    let images = chosen(&args.names)?;
    let profile = if args.dev { Profile::Dev } else { Profile::Release };
    if let Some(root) = &args.root {
        return made(&images, profile, |image, _, made| {
            made.tree.write_to(&root.join(image.name), &root.join(format!("{}.own", image.name)))
        });
    }
    let out = args.out.clone().unwrap_or_else(|| target().join("images"));
    print(&archives(&images, profile, &out, &args.repository)?, args.json)
}

fn archives(images: &[&Image], profile: Profile, out: &Path, prefix: &str) -> anyhow::Result<Vec<Built>> {
    let mut table = Vec::new();
    made(images, profile, |image, origin, made| {
        let dev = profile == Profile::Dev;
        let level = if dev { Compression::fast() } else { Compression::best() };
        let built = pack(image, &made, origin, format!("{prefix}/{}", image.name), out, level)?;
        if !dev {
            check_size(image, built.bytes)?;
        }
        table.push(built);
        Ok(())
    })?;
    Ok(table)
}

/// Makes the files of each image and hands them over.
fn made(
    images: &[&Image],
    profile: Profile,
    mut then: impl FnMut(&Image, &Origin, Made) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let lock = debian::Lock::read()?;
    let stage = build(images, profile)?;
    let origin = origin()?;
    for image in images {
        step(&format!("image {}", image.name));
        then(image, &origin, contents::make(image.name, &image.contents, &stage, &lock, &origin)?)?;
    }
    Ok(())
}

/// Images of what the tests run, for a cluster to test on, and one of somebody else's; their archives.
pub(crate) fn for_tests() -> anyhow::Result<Vec<PathBuf>> {
    let mut archives = all_of(Profile::Dev)?;
    archives.push(foreign::archive(&target().join("images"))?);
    Ok(archives)
}

/// Images as they are shipped; their archives.
pub(crate) fn for_release() -> anyhow::Result<Vec<PathBuf>> {
    all_of(Profile::Release)
}

fn all_of(profile: Profile) -> anyhow::Result<Vec<PathBuf>> {
    let images: Vec<&Image> = IMAGES.iter().collect();
    let table = archives(&images, profile, &target().join("images"), REPOSITORY)?;
    Ok(table.into_iter().map(|built| built.file).collect())
}

/// The images of these names, or all.
fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Image>> {
    let known = || IMAGES.iter().map(|image| image.name).collect::<Vec<_>>().join(", ");
    if let Some(name) = names.iter().find(|name| IMAGES.iter().all(|image| image.name != **name)) {
        bail!("there is no image {name}: it is one of {}", known());
    }
    let is_chosen = |image: &&Image| names.is_empty() || names.iter().any(|name| name == image.name);
    Ok(IMAGES.iter().filter(is_chosen).collect())
}

/// All binaries that the images hold, and plugins where one holds them; the folder they are in.
fn build(images: &[&Image], profile: Profile) -> anyhow::Result<PathBuf> {
    let ours = || images.iter().filter_map(|image| image.contents.ours());
    let mut wanted: Vec<&Binary> = ours().flat_map(|ours| ours.binaries.iter().copied()).collect();
    let with_plugins = ours().any(|ours| ours.plugins);
    if with_plugins {
        wanted.extend([&binaries::COMPILE, &binaries::RUNNER]);
    }
    wanted.sort_by_key(|binary| binary.name);
    wanted.dedup_by_key(|binary| binary.name);
    if wanted.is_empty() {
        return Ok(target());
    }
    if profile == Profile::Dev {
        if with_plugins {
            plugins::build(profile)?;
        }
        return binaries::build_for_dev_images(&wanted);
    }
    let stage = binaries::build_for_images(&wanted, profile)?;
    if with_plugins {
        plugins::build_with(&stage)?;
    }
    Ok(stage)
}

fn pack(
    image: &Image,
    made: &Made,
    origin: &Origin,
    repository: String,
    out: &Path,
    level: Compression,
) -> anyhow::Result<Built> {
    let about = About {
        name: image.name,
        description: image.description,
        process: &image.process,
        licences: image.contents.licences(),
    };
    let reference = Reference { repository, tag: origin.version.clone() };
    let Packed { archive, manifest, bytes } =
        packed(&about, origin, &reference, &made.tree, made.time, level)?;
    let file = out.join(format!("vteam-{}.tar", image.name));
    let sbom = out.join(format!("vteam-{}.cdx.json", image.name));
    std::fs::create_dir_all(out)?;
    write(&file, &archive)?;
    write(&sbom, &made.sbom)?;
    Ok(Built {
        name: image.name,
        reference: format!("{}:{}", reference.repository, reference.tag),
        file,
        sbom,
        digest: manifest,
        bytes,
    })
}

/// An image as one file.
pub(crate) struct Packed {
    pub(crate) archive: Vec<u8>,
    /// What a pod can pin.
    manifest: Digest,
    /// Of what a node pulls: configuration and compressed layers.
    bytes: usize,
}

/// A tree and what it runs. `time`: of the files, seconds since 1970.
pub(crate) fn packed(
    about: &About<'_>,
    origin: &Origin,
    reference: &Reference,
    tree: &Tree,
    time: u64,
    level: Compression,
) -> anyhow::Result<Packed> {
    let layers = [layer::layer(tree, time, level)?];
    let config = serde_json::to_vec(&config::config(about, origin, &layers))?;
    let manifest = config::manifest(&config, &layers, &config::labels(about, origin));
    let manifest = serde_json::to_vec(&manifest)?;
    let mut blobs = vec![config.as_slice()];
    blobs.extend(layers.iter().map(|layer| layer.compressed.as_slice()));
    Ok(Packed {
        archive: archive::archive(reference, &manifest, &blobs)?,
        manifest: Digest::of(&manifest),
        bytes: blobs.iter().map(|blob| blob.len()).sum(),
    })
}

fn write(place: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(place, bytes).with_context(|| format!("cannot write {}", place.display()))
}

fn check_size(image: &Image, bytes: usize) -> anyhow::Result<()> {
    match image.limit {
        Some(limit) if bytes > limit => {
            bail!("image {} has {bytes} bytes compressed; the limit is {limit}", image.name)
        }
        _ => Ok(()),
    }
}

/// The commit and its time, unless `SOURCE_DATE_EPOCH` sets another one
/// (<https://reproducible-builds.org/specs/source-date-epoch/>).
fn origin() -> anyhow::Result<Origin> {
    let git = |args: &[&str]| {
        let output = Run::new("git").args(args).dir(repository()).into_command().output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty());
    if changed {
        advise("there are changes that are not committed: nobody can build these images again");
    }
    let mark = if changed { "-modified" } else { "" };
    let time = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(time) => time.parse().context("SOURCE_DATE_EPOCH is no number of seconds")?,
        Err(_) => git(&["log", "-1", "--format=%ct"]).and_then(|time| time.parse().ok()).unwrap_or(0),
    };
    Ok(Origin {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: git(&["rev-parse", "HEAD"]).map(|revision| format!("{revision}{mark}")),
        time,
    })
}

fn update_lock() -> anyhow::Result<()> {
    step("choosing Debian packages");
    let lock = debian::Lock::new(debian::resolve(tools::WANTED, tools::LEFT_OUT)?);
    let place = debian::Lock::place();
    lock.write(&place)?;
    say(&format!("  {} packages in {}", lock.entries().len(), place.display()));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
fn print(table: &[Built], json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(table)?);
        return Ok(());
    }
    for Built { name, reference: _, file, sbom: _, digest, bytes } in table {
        println!("{name:<9} {:>6}  {}  {}", megabytes(*bytes), digest.as_str(), file.display());
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn megabytes(bytes: usize) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests;
