//! A model that wants to be somewhere else's client.

use super::{allow_bypass, finished, script, shown};
use crate::world::{World, phase};
use model::{event::CallOutcome, lifecycle::Phase};
use serde_json::json;
use std::net::TcpListener;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_private_is_fetched_even_where_nothing_is_asked() -> anyhow::Result<()> {
    let trap = TcpListener::bind("127.0.0.1:0")?;
    trap.set_nonblocking(true)?;
    let port = trap.local_addr()?.port();
    let urls = [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://localhost.:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://0177.0.0.1:{port}/"),
        format!("http://127.1:{port}/"),
        format!("http://0:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://[::ffff:7f00:1]:{port}/"),
        format!("http://[64:ff9b::7f00:1]:{port}/"),
        format!("http://someone:secret@127.0.0.1:{port}/"),
        format!("http://public.example@127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}\\@public.example/"),
        format!("http://⑫⑦.⓪.⓪.①:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "ftp://127.0.0.1/".to_owned(),
        "gopher://127.0.0.1:70/_x".to_owned(),
    ];
    let calls: Vec<_> =
        urls.iter().map(|url| ("WebFetch", json!({ "url": url, "prompt": "what is it?" }))).collect();
    let world = World::up(&script(&calls)).await;
    allow_bypass(&world).await?;
    world.create("fetch", json!({ "prompt": "go", "permissionMode": "bypass" })).await?;
    let log = world.settled("fetch").await;
    assert_eq!(phase(&log), Some(Phase::Completed));
    assert_eq!(finished(&log).len(), urls.len());
    for ((url, call), text) in urls.iter().zip(finished(&log)).zip(shown(&log)) {
        assert_ne!(call.outcome, CallOutcome::Done, "{url}: {text}");
        assert!(!text.contains("root:x:0"), "{url}: {text}");
    }
    assert!(trap.accept().is_err(), "somebody was there");
    Ok(())
}
