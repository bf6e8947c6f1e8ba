//! What each account can do, as the cluster says it, is what was decided.

use crate::world::{Project, SYSTEM, kubectl_with};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

const DECIDED: &str = include_str!("accounts.txt");

/// Verbs by what they are on.
type Rules = BTreeMap<String, BTreeSet<String>>;

fn words(rule: &Value, field: &str) -> Vec<String> {
    let list = rule[field].as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Everything that this account may do in a namespace, of whatever binding.
fn rules(account: &str, namespace: &str) -> anyhow::Result<Rules> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}});
    let who = format!("--as=system:serviceaccount:{account}");
    let answer =
        kubectl_with(&[&who, "create", "--validate=false", "-f", "-", "-o", "json"], &review.to_string())?;
    let answer: Value = serde_json::from_str(&answer)?;
    let mut rules = Rules::new();
    for rule in answer["status"]["resourceRules"].as_array().context("no rules")? {
        let names = words(rule, "resourceNames");
        let names = if names.is_empty() { String::new() } else { format!(" called {}", names.join(", ")) };
        for group in words(rule, "apiGroups") {
            let group = if group.is_empty() { group } else { format!(".{group}") };
            for resource in words(rule, "resources") {
                let verbs = rules.entry(format!("{resource}{group}{names}")).or_default();
                verbs.extend(words(rule, "verbs"));
            }
        }
    }
    for rule in answer["status"]["nonResourceRules"].as_array().into_iter().flatten() {
        for url in words(rule, "nonResourceURLs") {
            rules.entry(url).or_default().extend(words(rule, "verbs"));
        }
    }
    Ok(rules)
}

#[tokio::test]
async fn each_account_can_do_what_was_decided() -> anyhow::Result<()> {
    let project = Project::new("accounts")?;
    let at = project.name.as_str();
    let accounts = [
        ("the operator, in its own namespace", format!("{SYSTEM}:vteam-operator"), SYSTEM),
        ("the operator, anywhere else", format!("{SYSTEM}:vteam-operator"), at),
        ("the server, in its own namespace", format!("{SYSTEM}:vteam-server"), SYSTEM),
        ("the server, anywhere else", format!("{SYSTEM}:vteam-server"), at),
        ("whatever else runs beside them", format!("{SYSTEM}:default"), SYSTEM),
        ("a runner, in its project", format!("{at}:vteam-runner"), at),
        ("vteam-view, in its project", format!("{at}:view"), at),
        ("vteam-edit, in its project", format!("{at}:edit"), at),
        ("vteam-admin, in its project", format!("{at}:admin"), at),
        ("the dev overlay's developer, in the project demo", "demo:developer".to_owned(), "demo"),
        (
            "the dev overlay's developer, by vteam-connect, in vteam's namespace",
            "demo:developer".to_owned(),
            SYSTEM,
        ),
        ("the dev overlay's developer, anywhere else", "demo:developer".to_owned(), at),
    ];
    let mut text = String::new();
    for (what, account, namespace) in accounts {
        // What everybody may do who is known is not about it.
        let known = rules(&format!("{at}:nobody"), namespace)?;
        writeln!(text, "{what}")?;
        for (on, verbs) in rules(&account, namespace)? {
            let more: Vec<_> = verbs
                .iter()
                .filter(|verb| !known.get(&on).is_some_and(|known| known.contains(*verb)))
                .map(String::as_str)
                .collect();
            if !more.is_empty() {
                writeln!(text, "  {on}: {}", more.join(" "))?;
            }
        }
    }
    assert!(text == DECIDED, "tests/kubernetes/accounts.txt says otherwise; this is so:\n{text}");
    Ok(())
}
