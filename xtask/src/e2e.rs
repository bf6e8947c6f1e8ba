//! `e2e`: the product on a real cluster. Images of what the tests run, a cluster with them, the tests, and nothing left.

use crate::{
    cluster, image,
    run::{Run, say, step},
    test::counted,
};
use anyhow::{Context, bail};
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct E2eArgs {
    /// Leave the cluster as the tests left it.
    #[arg(long)]
    keep: bool,
    /// Passed on to the test binaries.
    #[arg(last = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &E2eArgs) -> anyhow::Result<()> {
    let images = image::for_tests()?;
    let programs = cluster::programs()?;
    step("testing the definitions against an API server");
    // One of its own: what runs on the cluster would have its say about their objects.
    let cargo = Run::cargo()
        .args(["test", "--package", "operator", "--test", "cluster"])
        .env("KUBEBUILDER_ASSETS", &programs);
    let (definitions, passed) = counted(cargo)?;
    let cluster = cluster::ensure(&images)?;
    if !cluster.ours {
        say(
            "KUBECONFIG names another cluster. Its nodes have to have these images (kind load image-archive FILE, k3d image import FILE):",
        );
        images.iter().for_each(|image| say(&format!("  {}", image.display())));
    }
    let on_cluster = |what: &str, args: &[&str]| {
        step(what);
        let cargo = Run::cargo().args(["test", "--package", "e2e", "--test", "kubernetes", "--"]).args(args);
        let path = cluster::with_programs(&programs);
        counted(cargo.env("KUBECONFIG", &cluster.kubeconfig).env("PATH", path))
    };
    let rest: Vec<&str> = args.rest.iter().map(String::as_str).collect();
    let (mut count, mut succeeded) = on_cluster("running the tests on the cluster", &rest)?;
    // Only where nobody else may count on it.
    if cluster.ours && !args.keep && rest.is_empty() {
        let (last, went) = on_cluster("uninstalling", &["--ignored", "uninstalled"])?;
        (count, succeeded) = (count.plus(last), succeeded && went);
    }
    let (count, succeeded) = (definitions.plus(count), passed && succeeded);
    say(&format!("\n{} passed, {} failed on the cluster", count.passed, count.failed));
    if !cluster.ours {
        // It may do everything on each node.
        let watch = Run::new(programs.join("kubectl")).args([
            "delete",
            "namespace",
            "test-nodes",
            "--ignore-not-found",
        ]);
        watch.env("KUBECONFIG", &cluster.kubeconfig).go()?;
        say("vteam stays as the tests left it: kubectl delete -k manifests/overlays/dev takes it away");
    }
    if cluster.ours && !args.keep {
        cluster::Verb::Down.run().context("the cluster is not removed")?;
    }
    if count.failed > 0 || !succeeded {
        bail!("there are failed tests");
    }
    Ok(())
}
