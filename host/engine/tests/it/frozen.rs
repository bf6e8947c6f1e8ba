//! Components built against 0.1.0 link and run on this host.

use crate::guest::*;
use std::path::Path;

fn frozen(name: &str) -> Built {
    finished(
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/frozen").join(name)).unwrap(),
    )
}

#[tokio::test]
async fn tool_0_1_0() {
    let tool = load(engine(), &frozen("tool-0.1.0.wasm"));
    assert_eq!(text(tool.call(call("{\"a\":1}")).await), "{\"a\":1}");
}

#[tokio::test]
async fn persona_0_1_0() {
    let persona = load(engine(), &frozen("persona-0.1.0.wasm"));
    let prompt = persona.system_prompt("Go.".to_owned(), Vec::new(), &limits()).await.unwrap();
    assert_eq!(prompt.raw(), "You are Tess. Go. 0");
}
