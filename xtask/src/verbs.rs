//! The verbs and their flags.

use crate::{
    bench::{self, Where},
    binaries::{self, Profile},
    check, cluster, codegen, demo,
    e2e::{self, E2eArgs},
    image::{self, ImageArgs},
    install, plugins, test,
};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Builds, demonstrates, tests, checks and measures vteam.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Verbs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build the first-party plugins into target/plugins (installs the wasm targets), also as the ConfigMaps that
    /// manifests/plugins applies.
    BuildPlugins,
    /// Build the shipped binaries, one `cargo build` each, and the plugins, into target/stage.
    Build(Optimised),
    /// Build everything and run the main job once: an agent mends a failing test, live, in a sandbox.
    ///
    /// The model is scripted unless ANTHROPIC_API_KEY, or VTEAM_MODEL_URL and VTEAM_MODEL_KEY, are set.
    Demo(Optimised),
    /// Run all tests against freshly built plugins and binaries.
    Test {
        /// Also have third-party clients judge our interfaces (needs node with npm, and python3 with venv).
        #[arg(long)]
        oracles: bool,
        /// Passed on to `cargo test`.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Formatting, lints, direction of dependencies, house rules.
    Check,
    /// A Kubernetes of one node on this machine, to test against.
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// Install vteam on a real cluster and test it there: the one that KUBECONFIG names, else one of this machine's own.
    E2e(E2eArgs),
    /// Run the benchmarks and write docs/benchmarks.md.
    Bench {
        #[command(subcommand)]
        at: Option<Where>,
    },
    /// Write the generated files: docs/openapi.json, docs/tools.md, docs/cli.md, manifests/crds, manifests/policies/fields.yaml.
    Codegen,
    /// Make OCI images as archives, without a daemon.
    Image(ImageArgs),
    /// Build for release and install the command.
    Install {
        /// Where: PREFIX/lib/vteam holds everything, PREFIX/bin/vteam points there.
        #[arg(long, value_name = "DIR")]
        prefix: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Optimised {
    /// Optimise the binaries; takes minutes longer.
    #[arg(long)]
    release: bool,
}

impl Optimised {
    fn profile(&self) -> Profile {
        if self.release { Profile::Release } else { Profile::Dev }
    }
}

impl Verbs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::BuildPlugins => plugins::build(Profile::Dev),
            Verb::Build(how) => binaries::build_all(how.profile()).map(drop),
            Verb::Demo(how) => demo::run(how.profile()),
            Verb::Test { oracles, rest } => test::run(oracles, &rest),
            Verb::Check => check::run(),
            Verb::Cluster(verb) => verb.run(),
            Verb::E2e(args) => e2e::run(&args),
            Verb::Bench { at } => bench::run(at.as_ref()),
            Verb::Codegen => codegen::run(),
            Verb::Image(args) => image::run(&args),
            Verb::Install { prefix } => install::run(prefix),
        }
    }
}
