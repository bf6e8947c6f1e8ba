//! The broker against real HTTP servers on loopback: the scripted endpoint, which also misbehaves on demand, and small
//! servers that record what they are sent.

mod fetching;
mod ledger;
mod models;

use futures::StreamExt;
use ledger::Accounts;
use model::message::{Block, Delta, ModelEvent, ModelFailure};
use protocol::http::ModelCall;
use serde_json::{Value, json};
use server::broker::{
    Api, Broker, BrokerConfig, Endpoint, Models, RetryPolicy, SessionKey,
    scripted::{self, Script},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;

const QUICK: RetryPolicy = RetryPolicy {
    retries: 3,
    first: Duration::from_millis(1),
    longest: Duration::from_millis(4),
    longest_asked: Duration::from_millis(200),
};

fn config() -> BrokerConfig {
    BrokerConfig {
        endpoint: None,
        scripted: None,
        default_model: None,
        models: Models::shipped().unwrap(),
        retry: QUICK,
        exceptions: vec![],
    }
}

fn broker(config: BrokerConfig) -> (Broker, Arc<Accounts>) {
    let accounts = Arc::new(Accounts::new(None));
    (Broker::new(config, accounts.clone()).unwrap(), accounts)
}

/// A broker whose scripted model plays these rules.
async fn playing(rules: &str) -> (Broker, Arc<Accounts>) {
    let script = Script::parse(&format!("name: test\nrules: {rules}")).unwrap();
    let scripted = scripted::serve(script, TcpListener::bind("127.0.0.1:0").await.unwrap()).unwrap();
    broker(BrokerConfig { scripted: Some(scripted), ..config() })
}

fn endpoint(api: Api, address: SocketAddr) -> Endpoint {
    Endpoint::new(api, format!("http://{address}").parse().unwrap(), Some("sk-very-secret".into()))
}

fn who() -> SessionKey {
    SessionKey { uid: "s1".parse().unwrap(), epoch: model::id::Epoch(1) }
}

fn call(model: &str, key: &str) -> ModelCall {
    let call = json!({"run": "r1", "idempotencyKey": key, "request": {"model": model, "max_tokens": 1000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}});
    serde_json::from_value(call).unwrap()
}

async fn asked(broker: &Broker, call: ModelCall) -> Vec<ModelEvent> {
    broker.model(who(), call).await.unwrap().collect().await
}

/// What an answer amounts to: its blocks in short, and how it ended.
fn told(events: &[ModelEvent]) -> Value {
    let mut blocks: Vec<String> = vec![];
    let mut end = Value::Null;
    for event in events {
        match event {
            ModelEvent::BlockStart { block, .. } => blocks.push(match block {
                Block::ToolUse { name, .. } => format!("{name}:"),
                block => format!("{}:", json!(block)["type"].as_str().unwrap()),
            }),
            ModelEvent::BlockDelta { index, delta } => blocks[*index as usize].push_str(match delta {
                Delta::Text { text } | Delta::Thinking { thinking: text } => text.raw(),
                Delta::InputJson { partial_json } => partial_json,
                Delta::Signature { .. } => "#",
                Delta::Other(_) => "?",
            }),
            ModelEvent::Stop { stop_reason, .. } => end = json!(stop_reason),
            ModelEvent::Error(failure) => {
                end = json!({"failed": failure.kind, "retryable": failure.retryable})
            }
            ModelEvent::Start { .. } | ModelEvent::BlockStop { .. } | ModelEvent::Other(_) => {}
        }
    }
    json!([blocks, end])
}

fn failure(events: &[ModelEvent]) -> &ModelFailure {
    match events.last() {
        Some(ModelEvent::Error(failure)) => failure,
        other => panic!("no failure: {other:?}"),
    }
}
