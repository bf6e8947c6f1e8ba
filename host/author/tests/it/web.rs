use crate::host::{Ended, World};
use serde_json::json;

#[tokio::test]
async fn pages_are_fetched_and_asked_about() {
    let world = World::new("tool-web", &[]);
    let pages = [
        ("https://example.com/", (302, "/page", "")),
        ("https://example.com/page", (200, "text/html", "<h1>Hi</h1><script>alert(1)</script><p>there")),
        ("https://example.com/away", (301, "https://other.org/", "")),
    ];
    world.pages.lock().unwrap().extend(pages.map(|(url, page)| (url.to_owned(), page)));
    let fetch = |url: &str| json!({"url": url, "prompt": "What?"});
    match world.call("WebFetch", fetch("http://example.com")).await {
        Ended::Text(text) => {
            assert!(
                text.contains("# Hi\n\nthere") && text.contains("Question: What?") && !text.contains("alert"),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    *world.completion.lock().unwrap() = Some("A greeting.");
    assert_eq!(
        world.call("WebFetch", fetch("https://example.com/page")).await,
        Ended::Text("A greeting.".to_owned())
    );
    match world.call("WebFetch", fetch("https://example.com/away")).await {
        Ended::Text(text) => assert!(text.contains("redirects to https://other.org/"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(world.call("WebFetch", fetch("https://closed.org")).await, Ended::Denied(_)));
}
