//! Serves a script as an Anthropic-compatible endpoint, for other clients than ours:
//! `cargo run -p server --example scripted -- SCRIPT [ADDRESS]` prints the address and runs until it is stopped.

use anyhow::Context;
use server::broker::scripted::{Script, serve};
use std::future::pending;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "its one line of output is the address")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("usage: scripted SCRIPT [ADDRESS]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let script = Script::parse(&std::fs::read_to_string(&path).with_context(|| path.clone())?)?;
    let scripted = serve(script, TcpListener::bind(&address).await.with_context(|| address.clone())?)?;
    println!("http://{}", scripted.address());
    pending().await
}
