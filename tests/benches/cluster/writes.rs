//! What the API server was asked to write, by its own count.
//!
//! Source: `apiserver_request_total`, Kubernetes, "Kubernetes Metrics Reference".

use std::collections::BTreeMap;

/// By verb and resource, with its subresource.
pub(crate) type Writes = BTreeMap<(String, String), u64>;

/// Objects that a cluster writes all the time, and questions, which write nothing.
const ASIDE: [&str; 6] = [
    "leases",
    "events",
    "tokenreviews",
    "subjectaccessreviews",
    "selfsubjectaccessreviews",
    "selfsubjectreviews",
];

pub(crate) fn all() -> anyhow::Result<Writes> {
    let text = crate::world::kubectl(&["get", "--raw", "/metrics"])?;
    let mut writes = Writes::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
        let Some((labels, count)) = line.split_once("} ") else { continue };
        let label = |name: &str| {
            let of = format!("{name}=\"");
            labels.split_once(&of).and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default()
        };
        let (verb, resource) = (label("verb"), label("resource"));
        if ["POST", "PUT", "PATCH", "APPLY", "DELETE"].contains(&verb) && !ASIDE.contains(&resource) {
            let of = match label("subresource") {
                "" => resource.to_owned(),
                sub => format!("{resource}/{sub}"),
            };
            let refused = if label("code").starts_with('2') { "" } else { " refused" };
            let count: f64 = count.parse()?;
            *writes.entry((format!("{verb}{refused}"), of)).or_default() += count as u64;
        }
    }
    Ok(writes)
}

pub(crate) fn print(before: &Writes, after: &Writes, sessions: usize) {
    let (mut ours, mut all) = (0.0, 0.0);
    let mut rows = vec![];
    for (of, count) in after {
        let more = count - before.get(of).copied().unwrap_or_default();
        let each = more as f64 / sessions as f64;
        let (verb, resource) = of;
        if each < 0.05 {
            continue;
        }
        all += each;
        ours += match (verb.as_str(), resource.as_str()) {
            (_, "pods/status" | "pods/binding" | "serviceaccounts/token" | "nodes/status") => 0.0,
            // Kubelet says last that it is gone.
            ("DELETE", "pods") => each - 1.0,
            _ => each,
        };
        rows.push(format!("{verb} {resource} {each:.2}"));
    }
    println!(
        "row | cluster: writes of a session, those that each pod costs aside (kubelet, scheduler) | {ours:.2} | with them {all:.2}: {} |",
        rows.join(", ")
    );
}
