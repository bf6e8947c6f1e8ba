//! YAML that people have applies as it is.

use crate::server::{cluster, repository};

#[test]
fn examples_apply_without_a_warning() {
    let cluster = cluster();
    let namespace = cluster.namespace("examples");
    let mut files: Vec<_> = std::fs::read_dir(repository("examples/kubernetes"))
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    files.sort();
    assert!(files.len() >= 6, "{files:?}");
    for file in files {
        let answer = namespace.kubectl(&["apply", "-f", &file]);
        assert!(
            answer.good && answer.err.is_empty() && answer.out.ends_with(" created\n"),
            "{file}: {answer:?}"
        );
        // What was written before is no change, also where rules compare with what was.
        let again = namespace.kubectl(&["apply", "-f", &file]);
        assert!(again.good && again.err.is_empty(), "{file}: {again:?}");
        // Server-side apply takes null for a value of its own, which has no type.
        let nulls = std::fs::read_to_string(&file).unwrap().contains(": null");
        let by_server = namespace.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &file]);
        assert!(by_server.good != nulls, "{file}: {by_server:?}");
    }
    // Nothing was filled in, and a status is not taken from whoever writes a specification.
    let spec =
        namespace.kubectl(&["get", "as", "session-triage", "-o", "jsonpath={.spec.repos[1]}{.status}"]);
    assert_eq!(spec.out, r#"{"url":"https://github.com/example/parser-docs.git"}"#);
    let exported = ["get", "as", "agentic-session-1757600001", "-o", "jsonpath={.spec.userContext}{.status}"];
    assert_eq!(namespace.kubectl(&exported).out, "");
    let all = namespace.kubectl(&["get", "vteam", "-o", "name"]);
    assert_eq!(all.out.lines().count(), 6, "{all:?}");
}

#[test]
fn fields_are_explained() {
    let cluster = cluster();
    let namespace = cluster.namespace("explained");
    let check = |field: &str, part: &str| {
        let answer = namespace.kubectl(&["explain", field]);
        assert!(answer.out.contains(part), "{field}: {answer:?}");
    };
    check("as.spec.timeout", "Hard limit of one run's active time, seconds: 1 to 14400.");
    check("as.spec.permissionMode", "* acceptEdits: Changing files in the workspace is free too.");
    check("as.spec.repos", "answered by a condition");
    check("as.status.phase", "    Suspending\n");
    check("ps.spec.permissions.fetchHosts", "`host` or `host:port`, exact");
    check("rfe.spec.umbrellaRepo", "-required-");
}
