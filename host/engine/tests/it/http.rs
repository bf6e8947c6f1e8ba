//! `wasi:http`: gated, without credentials, capped.

use crate::{guest::*, hosts::Recorder};
use engine::{CallEnd, Called, LogSource, Verdict};
use model::approval::Subject;
use serde_json::json;
use std::sync::Arc;

async fn fetch(recorder: &Arc<Recorder>, granted: bool, input: &str) -> Called {
    let mut fetching = call(input);
    fetching.host = recorder.host();
    fetching.limits.hostcall_bytes = 1 << 20;
    if granted {
        fetching.grants = effects(&["net.fetch"]);
    }
    plugin("http_get").call(fetching).await
}

fn refused(called: Called) -> String {
    match called.end {
        CallEnd::Refused(error) => error.message().raw().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn http_get() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(folder.path());
    let got = fetch(&recorder, true, "GET https://example.com:8443/a/b?c=d x-plain").await;
    let url = "https://example.com:8443/a/b?c=d";
    assert_eq!(got.seen[0].value, json!({"method": "GET", "url": url, "status": 200}));
    assert_eq!(text(got), "200 [content-type,x-seen] body.body.");
    assert_eq!(
        recorder.asked.lock().unwrap()[0],
        ("net.fetch".to_owned(), Subject::Fetch { method: "GET".to_owned(), url: url.into() })
    );
    assert_eq!(recorder.fetched.lock().unwrap()[0].2, [("x-plain".to_owned(), "secret".to_owned())]);
}

#[tokio::test]
async fn what_may_not_leave_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(folder.path());
    let get = "GET https://example.com/";
    assert!(refused(fetch(&recorder, false, get).await).contains("HttpRequestDenied"));
    assert!(refused(fetch(&recorder, true, "POST https://example.com/").await).contains("MethodInvalid"));
    assert!(refused(fetch(&recorder, true, "GET https://user:pw@example.com/").await).contains("UriInvalid"));
    for header in ["authorization", "Cookie", "x-api-key", "host", "proxy-authorization"] {
        let said = refused(fetch(&recorder, true, &format!("{get} {header}")).await);
        assert!(said.contains("header") && said.contains("Forbidden"), "{header}: {said}");
    }
    assert!(recorder.fetched.lock().unwrap().is_empty());

    recorder.rule(Verdict::Refuse("example.com is not on the list".to_owned()));
    assert!(refused(fetch(&recorder, true, get).await).contains("HttpRequestDenied"));
    assert!(recorder.logged(LogSource::Host).contains(&"example.com is not on the list".to_owned()));
    recorder.rule(Verdict::Ask);
    let asked = fetch(&recorder, true, get).await;
    assert!(matches!(asked.end, CallEnd::NeedsApproval { subject: Subject::Fetch { .. }, .. }), "{asked:?}");
    assert!(recorder.fetched.lock().unwrap().is_empty());
}

#[tokio::test]
async fn failures_and_floods_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(folder.path());
    assert!(
        refused(fetch(&recorder, true, "GET https://unreachable.example/").await)
            .contains("DestinationUnavailable")
    );
    assert_eq!(recorder.logged(LogSource::Host), ["nobody answers there"]);
    let said = refused(fetch(&recorder, true, "GET https://endless.example/").await);
    assert!(said.starts_with("\"after 10"), "{said}");
}
