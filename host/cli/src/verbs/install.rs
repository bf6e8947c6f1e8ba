//! `install`: what a cluster is given, as it was rendered when this command was built. Applying it is kubectl's.

use crate::{
    args::{InstallArgs, Overlay},
    exit::{Code, Failure, Outcome},
    settings::Settings,
};
use serde_json::{Value, json};

/// By `cargo xtask codegen`, with kubectl's own kustomize.
const DEV: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/rendered/dev.yaml"));
const PRODUCTION: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/rendered/production.yaml"));

/// The namespace that stands in them, also within account names and addresses.
const NAMESPACE: &str = "vteam-system";
/// Before the name of each image in `production`.
const REGISTRY: &str = "registry.example/vteam";

pub(super) fn run(settings: &Settings, args: &InstallArgs) -> Outcome {
    if !args.render {
        return Err(Failure::new(
            Code::Usage,
            "installing is kubectl's: vteam install --render --registry PREFIX | kubectl apply --server-side -f -",
        ));
    }
    if matches!(args.overlay, Overlay::Production) && args.registry == REGISTRY {
        warn("the images are of registry.example, which is nowhere: give --registry PREFIX");
    }
    let text = rendered(args.overlay, args.namespace.as_str(), &args.registry);
    if !settings.output.json {
        return settings.output.text(&text);
    }
    let items: Vec<Value> = serde_saphyr::from_multiple(&text)
        .map_err(|e| Failure::of(Code::Failed, "the manifests of this build are no YAML", &e))?;
    // kubectl takes a list as it takes the documents.
    settings.output.json(&json!({ "apiVersion": "v1", "kind": "List", "items": items }))
}

#[expect(clippy::print_stderr, reason = "stdout is for kubectl")]
fn warn(text: &str) {
    eprintln!("vteam: {text}");
}

fn rendered(overlay: Overlay, namespace: &str, registry: &str) -> String {
    let text = match overlay {
        Overlay::Dev => DEV,
        Overlay::Production => PRODUCTION,
    };
    text.replace(NAMESPACE, namespace).replace(REGISTRY, registry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn another_namespace_is_meant_everywhere() {
        for overlay in [Overlay::Dev, Overlay::Production] {
            let text = rendered(overlay, "elsewhere", "registry.here/them");
            assert!(!text.contains(NAMESPACE) && !text.contains(REGISTRY));
            let images = text.matches("registry.here/them/").count();
            assert_eq!(images, if matches!(overlay, Overlay::Production) { 4 } else { 0 });
            let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
            let of = |kind: &str| -> Vec<&Value> { objects.iter().filter(|o| o["kind"] == kind).collect() };
            let namespaces: BTreeSet<&str> =
                of("Namespace").iter().map(|o| o["metadata"]["name"].as_str().unwrap()).collect();
            assert!(namespaces.contains("elsewhere"), "{namespaces:?}");
            assert_eq!(of("StatefulSet")[0]["metadata"]["namespace"], "elsewhere");
            assert_eq!(of("CustomResourceDefinition").len(), 3);
        }
    }
}
