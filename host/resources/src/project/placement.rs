//! On which nodes a project permits its sessions.

use crate::{
    invalid::Problems,
    session::placement::{Resources, Toleration},
};

/// What sessions may name, beside the verb that naming anything takes. Absent: whatever there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PermittedNodes {
    /// `key`, or `key=value`.
    pub labels: Option<Vec<String>>,
    /// Keys of taints.
    pub taints: Option<Vec<String>>,
}

impl PermittedNodes {
    /// Each label and taint that is not permitted.
    pub(crate) fn check(&self, resources: &Resources, problems: &mut Problems) {
        for (key, value) in &resources.node_selector {
            if let Some(permitted) = &self.labels
                && !permitted.iter().any(|label| label == key || *label == format!("{key}={value}"))
            {
                problems.add(
                    format!("spec.resources.nodeSelector.{key}"),
                    format_args!(
                        "this project permits {}: see permissions.nodeLabels in its settings",
                        words(permitted)
                    ),
                );
            }
        }
        // Nodes with one have a taint of its name as a rule, which the session then tolerates.
        if let (Some(permitted), Some(gpu)) = (&self.taints, &resources.gpu)
            && !permitted.iter().any(|key| key == gpu.extended())
        {
            problems.add(
                "spec.resources.gpu",
                format_args!(
                    "tolerates the taint {}, and this project permits {}: see permissions.taints in its settings",
                    gpu.extended(),
                    words(permitted)
                ),
            );
        }
        for (at, Toleration { key, .. }) in resources.tolerations.iter().enumerate() {
            let Some(permitted) = &self.taints else { continue };
            // Without a key it is of all taints.
            if !key.as_ref().is_some_and(|key| permitted.contains(key)) {
                problems.add(
                    format!("spec.resources.tolerations[{at}]"),
                    format_args!(
                        "this project permits {}: see permissions.taints in its settings",
                        words(permitted)
                    ),
                );
            }
        }
    }
}

fn words(permitted: &[String]) -> String {
    if permitted.is_empty() { "none".to_owned() } else { permitted.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_is_not_permitted_is_named() {
        let check =
            |labels: Option<&[&str]>, taints: Option<&[&str]>, resources: Value, expected: &[&str]| {
                let list =
                    |words: Option<&[&str]>| words.map(|words| words.iter().map(|&w| w.to_owned()).collect());
                let nodes = PermittedNodes { labels: list(labels), taints: list(taints) };
                let mut problems = Problems::default();
                nodes.check(&serde_json::from_value(resources.clone()).unwrap(), &mut problems);
                let refused = problems.finish(()).err().map(|invalid| invalid.0).unwrap_or_default();
                let fields: Vec<_> = refused.iter().map(|problem| problem.field.as_str()).collect();
                assert_eq!(fields, expected, "{labels:?} {taints:?} {resources}");
            };
        let anywhere = json!({"nodeSelector": {"pool": "a", "zone": "b"}, "tolerations": [{"key": "team"}, {"operator": "Exists"}]});
        let (pool, zone) = ("spec.resources.nodeSelector.pool", "spec.resources.nodeSelector.zone");
        check(None, None, anywhere.clone(), &[]);
        check(
            Some(&["pool", "zone=b"]),
            Some(&["team"]),
            anywhere.clone(),
            &["spec.resources.tolerations[1]"],
        );
        check(Some(&["zone=c"]), None, anywhere.clone(), &[pool, zone]);
        check(Some(&[]), Some(&[]), json!({}), &[]);
        let gpu = json!({"gpu": {"count": 1}});
        check(None, None, gpu.clone(), &[]);
        check(None, Some(&["nvidia.com/gpu"]), gpu.clone(), &[]);
        check(None, Some(&["team"]), gpu, &["spec.resources.gpu"]);
        let both = [pool, zone, "spec.resources.tolerations[0]", "spec.resources.tolerations[1]"];
        check(Some(&[]), Some(&[]), anywhere, &both);
    }
}
