use crate::Web;
use serde_json::json;
use vteam_sdk::{Content, Outcome, ToolError, http::Response, native};

fn page(status: u16, header: (&str, &str), body: &[u8]) -> Response {
    Response {
        status,
        headers: vec![(header.0.to_owned(), header.1.to_owned())],
        body: body.to_vec(),
        cut: false,
    }
}

fn fetch(url: &str) -> String {
    match native::call::<Web>(
        "WebFetch",
        &json!({"url": url, "prompt": "What is it?"}),
        &native::context(&[]),
    ) {
        Ok(Outcome::Done(done)) => match done.content.as_slice() {
            [Content::Text(text)] => text.clone(),
            [Content::Image(image)] => format!("{} of {} bytes", image.media_type, image.data.len()),
            other => format!("{other:?}"),
        },
        Ok(other) => format!("{other:?}"),
        Err(ToolError::InvalidInput(m) | ToolError::Failed(m)) => format!("refused: {m}"),
        Err(ToolError::Denied(denial)) => format!("denied: {}", denial.effect),
        Err(other) => format!("{other:?}"),
    }
}

const HTML: &[u8] = b"<html><head><title>T</title><script>alert(1)</script><style>x{}</style></head><body><nav>menu</nav>\
    <h1>Hello</h1><p>A <b>bold</b> <a href='/x'>link</a>.</p><ul><li>one<li>two</ul>\
    <pre><code>let x = 1;\nx</code></pre><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table></body></html>";

#[test]
fn pages_become_readable() {
    let check = |header: &str, body: &[u8], expected: &str| {
        native::serve("https://example.com/", page(200, ("content-type", header), body));
        assert_eq!(fetch("http://example.com"), expected, "{header}");
    };
    let said = |text: &str| format!("The content of https://example.com/:\n\n{text}");
    check("text/plain; charset=utf-8", b"plain", &said("plain"));
    check("text/plain; charset=ISO-8859-1", b"caf\xe9", &said("caf\u{e9}"));
    check("application/json", b"{}", &said("{}"));
    check("application/ld+json", b"[]", &said("[]"));
    check("image/png", b"\x89PNG", "image/png of 4 bytes");
    check("text/html", b"<p> </p>", "https://example.com/ holds no text.");
    check(
        "application/pdf",
        b"%PDF",
        "refused: the page is \"application/pdf\", which is neither text nor an image that can be shown",
    );
    native::serve("https://example.com/", page(200, ("content-type", "text/html"), HTML));
    let text = fetch("https://example.com/");
    for part in ["# Hello", "**bold**", "[link](/x)", "one", "```\nlet x = 1;\nx\n```", "| a", "| 1"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    for part in ["alert", "x{}", "menu"] {
        assert!(!text.contains(part), "{part:?} in {text}");
    }
}

#[test]
fn a_granted_model_answers_about_the_page() {
    native::serve("https://example.com/", page(200, ("content-type", "text/plain"), b"It is a teapot."));
    native::answer_completions("A teapot.");
    assert_eq!(fetch("https://example.com"), "A teapot.");
    let prompts = native::take_prompts().concat();
    assert!(prompts.contains("It is a teapot.") && prompts.contains("Question: What is it?"), "{prompts}");
}

#[test]
fn redirects_stay_on_their_host() {
    let to = |location: &str| page(302, ("location", location), b"");
    native::serve("https://a.org/", to("/one"));
    native::serve("https://a.org/one", to("two"));
    native::serve("https://a.org/two", page(200, ("content-type", "text/plain"), b"arrived"));
    native::serve("https://a.org/away", to("https://b.org/x"));
    native::serve("https://a.org/loop", to("/loop"));
    native::serve("https://a.org/closed", to("/not-permitted"));
    native::serve("https://a.org/odd", to("mailto://x"));
    native::serve("https://a.org/gone", page(404, ("content-type", "text/plain"), b""));
    let elsewhere = |from: &str, to: &str| {
        format!(
            "https://a.org/{from} redirects to {to}. Nothing was read there. To read it, call WebFetch again with that URL."
        )
    };
    let check = |path: &str, expected: &str| assert_eq!(fetch(&format!("https://a.org/{path}")), expected);
    check("", "The content of https://a.org/two:\n\narrived");
    check("away", &elsewhere("away", "https://b.org/x"));
    check("loop", &elsewhere("loop", "https://a.org/loop"));
    check("closed", &elsewhere("closed", "https://a.org/not-permitted"));
    check("odd", "refused: https://a.org/odd redirects to \"mailto://x\", which cannot be fetched");
    check("gone", "refused: https://a.org/gone answered with status 404");
    check("unknown", "denied: net.fetch");
    assert!(fetch("ftp://a.org/").starts_with("refused: "));
}

#[test]
fn a_long_page_is_cut() {
    native::serve(
        "https://a.org/",
        page(200, ("content-type", "text/plain"), "é".repeat(200_000).as_bytes()),
    );
    let text = fetch("https://a.org/");
    assert!(text.ends_with("[The page goes on; it was cut here.]") && text.chars().count() < 101_000);
}
