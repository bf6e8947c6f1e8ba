//! Model calls.

use super::*;
use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode, Uri, header},
    response::IntoResponse,
    routing::any,
};
use model::{message::ModelFailureKind as Kind, money::MicroUsd};
use server::broker::{ANTHROPIC_VERSION, KeyStyle, answer_model, parse};
use std::sync::Mutex;

#[tokio::test]
async fn an_answer_streams_and_is_charged() {
    let (broker, accounts) = playing(
        r#"[{reply: [{thinking: "let me see"}, {text: "I read."},
             {tool_use: {name: Read, input: {file_path: a}}}, {tool_use: {name: Grep, raw_input: '{"a":1,"a'}}],
             usage: {input: 1000, cache_read: 2000, output: 100}}]"#,
    )
    .await;
    let events = asked(&broker, call("scripted/test", "k1")).await;
    let blocks = ["thinking:let me see#", "text:I read.", r#"Read:{"file_path":"a"}"#, r#"Grep:{"a":1,"a"#];
    assert_eq!(told(&events), json!([blocks, "tool_use"]));
    assert!(matches!(&events[0], ModelEvent::Start { model } if model == "scripted/test"));
    let Some(ModelEvent::Stop { cost, usage, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(*cost, MicroUsd(3000 + 600 + 1500));
    let last = accounts.last();
    assert_eq!((last.cost, last.usage, last.aborted), (*cost, *usage, false));
    let budget = accounts.account().budget;
    assert_eq!((budget.spent, budget.reserved), (*cost, MicroUsd(0)));
}

#[tokio::test]
async fn faults_are_told_apart() {
    let check = async |fault: &str, expected: Value, owed: bool| {
        let (broker, accounts) =
            playing(&format!("[{{reply: [{{text: hello}}], pace: {{chunk: 1}}, fault: {fault}}}]")).await;
        let events = asked(&broker, call("scripted/test", "k1")).await;
        assert_eq!(told(&events), expected, "{fault}");
        let last = accounts.last();
        assert_eq!(
            (last.aborted, last.cost > MicroUsd(0)),
            (owed, owed || expected[1] == "end_turn"),
            "{fault}"
        );
        assert_eq!(accounts.account().budget.reserved, MicroUsd(0), "{fault}");
    };
    let whole = json!([["text:hello"], "end_turn"]);
    let failed = |blocks: &[&str], kind: Kind, retryable: bool| json!([blocks, {"failed": kind, "retryable": retryable}]);

    check("{kind: status, status: 529, times: 3}", whole.clone(), false).await;
    check("{kind: status, status: 529, times: 4}", failed(&[], Kind::Unavailable, true), false).await;
    check(
        "{kind: status, status: 500, should_retry: false, times: 1}",
        failed(&[], Kind::Unavailable, true),
        false,
    )
    .await;
    check("{kind: status, status: 400, should_retry: true, times: 1}", whole.clone(), false).await;
    check("{kind: status, status: 429, retry_after_ms: 5, times: 2}", whole.clone(), false).await;
    check(
        "{kind: status, status: 429, retry_after: '3600', times: 1}",
        failed(&[], Kind::Unavailable, true),
        false,
    )
    .await;
    check(
        "{kind: status, status: 429, code: enforced_spend_limit_reached, times: 1}",
        failed(&[], Kind::Unavailable, false),
        false,
    )
    .await;
    check("{kind: status, status: 401, times: 1}", failed(&[], Kind::Unauthorized, false), false).await;
    check("{kind: status, status: 400}", failed(&[], Kind::Invalid, false), false).await;
    check("{kind: status, status: 413}", failed(&[], Kind::TooLong, false), false).await;
    check("{kind: truncate, after: 5}", failed(&["text:he"], Kind::Truncated, true), true).await;
    check("{kind: truncate, after: 0}", failed(&[], Kind::Truncated, true), true).await;
    check("{kind: drop, after: 5}", failed(&["text:he"], Kind::Truncated, true), true).await;
    check("{kind: error, after: 4}", failed(&["text:h"], Kind::Unavailable, true), true).await;
    check("{kind: error, error: invalid_request_error}", failed(&[], Kind::Invalid, false), true).await;
    check("{kind: malformed, after: 3}", failed(&["text:"], Kind::Truncated, true), true).await;
    check("{kind: unknown_event, after: 3}", whole.clone(), false).await;
    check("{kind: unknown_delta, after: 5}", json!([["text:he?llo"], "end_turn"]), false).await;
}

#[tokio::test]
async fn unknown_blocks_and_stop_reasons_pass() {
    let (broker, _) =
        playing("[{reply: [{block: {type: server_tool_use, id: x}}, {text: hi}], stop: brand_new}]").await;
    let events = asked(&broker, call("scripted/test", "k1")).await;
    assert_eq!(told(&events), json!([["server_tool_use:", "text:hi"], "brand_new"]));
}

#[tokio::test]
async fn a_runner_that_goes_away_is_charged_the_worst() {
    let (broker, accounts) =
        playing("[{reply: [{text: hello}], usage: {input: 10}, fault: {kind: stall, after: 3}}]").await;
    let mut stream = broker.model(who(), call("scripted/test", "k1")).await.unwrap();
    let begun = stream.next().await;
    assert!(matches!(begun, Some(ModelEvent::Start { .. })), "{begun:?}");
    drop(stream);
    accounts.settled(1).await;
    let last = accounts.last();
    assert_eq!((last.aborted, last.usage.output_tokens, last.cost), (true, 1000, MicroUsd(30 + 15_000)));
    broker.drain().await;
}

#[tokio::test]
async fn a_budget_is_kept_under_concurrency() {
    let script = Script::parse(
        "name: test\nrules: [{reply: [{text: hi}], usage: {input: 5, output: 5}, pace: {first_ms: 20}}]",
    )
    .unwrap();
    let scripted = scripted::serve(script, TcpListener::bind("127.0.0.1:0").await.unwrap()).unwrap();
    // One worst case is about 617 tokens of input at 3.75 and 1000 of output at 15 dollars a million: 17.3 millidollars.
    let accounts = Arc::new(Accounts::new(Some(MicroUsd(40_000))));
    let broker =
        Broker::new(BrokerConfig { scripted: Some(scripted), ..config() }, accounts.clone()).unwrap();
    let calls = (0..8).map(|n| {
        let broker = broker.clone();
        async move {
            match broker.model(who(), call("scripted/test", &format!("k{n}"))).await {
                Ok(stream) => told(&stream.collect::<Vec<_>>().await)[1] == "end_turn",
                Err((status, failure)) => {
                    assert_eq!((status, failure.kind), (StatusCode::PAYMENT_REQUIRED, Kind::Budget));
                    assert!(failure.message.contains("begin another session"), "{failure}");
                    false
                }
            }
        }
    });
    let served = futures::future::join_all(calls).await.into_iter().filter(|served| *served).count();
    assert_eq!(served, 2, "only two worst cases fit");
    let spent = accounts.account().budget;
    assert_eq!((spent.spent, spent.reserved), (MicroUsd(2 * 90), MicroUsd(0)));
}

#[tokio::test]
async fn what_is_not_admitted_is_never_sent() {
    let (broker, accounts) = playing("[{reply: [{text: hi}]}]").await;
    let refused = async |call: ModelCall| broker.model(who(), call).await.map(|_| ()).unwrap_err();
    asked(&broker, call("scripted/test", "k1")).await;
    let (status, failure) = refused(call("scripted/test", "k1")).await;
    assert_eq!((status, failure.kind), (StatusCode::CONFLICT, Kind::Invalid));
    let (_, failure) = refused(call("claude-sonnet-5-5", "k2")).await;
    assert!(
        failure.message.contains("ANTHROPIC_API_KEY") && failure.message.contains("scripted/test"),
        "{failure}"
    );
    let mut odd = call("scripted/test", "k3");
    odd.request.messages[0].content = vec![Block::Other(json!({"type": "document"}))];
    assert_eq!(refused(odd).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(refused(call("scripted/test", "")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(accounts.account().settled.len(), 1);
}

#[tokio::test]
async fn a_model_without_a_price_needs_a_session_without_a_budget() {
    let address = recording("text/event-stream", "data: {\"type\":\"message_stop\"}\n\n").await.0;
    let accounts = Arc::new(Accounts::new(Some(MicroUsd(1_000_000))));
    let config = BrokerConfig { endpoint: Some(endpoint(Api::Anthropic, address)), ..config() };
    let broker = Broker::new(config, accounts.clone()).unwrap();
    let (status, failure) = broker.model(who(), call("llama3", "k1")).await.map(|_| ()).unwrap_err();
    assert_eq!((status, failure.kind), (StatusCode::PAYMENT_REQUIRED, Kind::Budget));
    assert!(failure.message.contains("prices.yaml"), "{failure}");
    accounts.account().budget.limit = None;
    assert!(broker.model(who(), call("llama3", "k1")).await.is_ok());
}

type Seen = Arc<Mutex<Vec<(String, HeaderMap, Value)>>>;

/// A server that answers everything alike and remembers what it was asked.
async fn recording(kind: &'static str, answer: &'static str) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let memory = Arc::clone(&seen);
    let handler = any(move |uri: Uri, headers: HeaderMap, body: Bytes| {
        let body = serde_json::from_slice(&body).unwrap_or_default();
        memory.lock().unwrap().push((uri.path().to_owned(), headers, body));
        async move { ([(header::CONTENT_TYPE, kind)], answer).into_response() }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(handler)).await.unwrap() });
    (address, seen)
}

#[tokio::test]
async fn the_key_travels_as_a_header_and_nowhere_else() {
    let check = async |api: Api, key_style: KeyStyle, path: &str, name: &str, value: &str| {
        let (address, seen) = recording("text/event-stream", "").await;
        let endpoint = Endpoint { key_style, ..endpoint(api, address) };
        let (broker, _) = broker(BrokerConfig { endpoint: Some(endpoint.clone()), ..config() });
        let events = asked(&broker, call("claude-sonnet-5-5", "k1")).await;
        let (asked_path, headers, body) = seen.lock().unwrap().pop().unwrap();
        assert_eq!((asked_path.as_str(), headers[name].to_str().unwrap()), (path, value));
        let version = headers.get("anthropic-version").map(|version| version.to_str().unwrap());
        assert_eq!(version, (api == Api::Anthropic).then_some(ANTHROPIC_VERSION));
        assert!(
            headers.get("cookie").is_none() && headers["user-agent"].to_str().unwrap().starts_with("vteam/")
        );
        let elsewhere = format!("{endpoint:?} {events:?} {body}");
        assert!(!elsewhere.contains("secret"), "{elsewhere}");
    };
    check(Api::Anthropic, KeyStyle::XApiKey, "/v1/messages", "x-api-key", "sk-very-secret").await;
    check(Api::Anthropic, KeyStyle::Bearer, "/v1/messages", "authorization", "Bearer sk-very-secret").await;
    check(Api::OpenAi, KeyStyle::Bearer, "/v1/chat/completions", "authorization", "Bearer sk-very-secret")
        .await;
}

#[tokio::test]
async fn failures_say_what_to_do() {
    let says = async |endpoint: Endpoint, kind: Kind, words: &[&str]| {
        let (broker, _) = broker(BrokerConfig { endpoint: Some(endpoint), ..config() });
        let events = asked(&broker, call("claude-sonnet-5-5", "k1")).await;
        let failure = failure(&events);
        assert_eq!(failure.kind, kind, "{failure}");
        for word in words {
            assert!(failure.message.contains(word), "{failure} lacks {word}");
        }
    };
    let script = Script::parse("name: t\nrules: [{fault: {kind: status, status: 401}}]").unwrap();
    let refusing = scripted::serve(script, TcpListener::bind("127.0.0.1:0").await.unwrap()).unwrap();
    says(endpoint(Api::Anthropic, refusing.address()), Kind::Unauthorized, &["(401)", "set VTEAM_MODEL_KEY"])
        .await;

    let (page, _) = recording("text/html", "<html>").await;
    says(
        endpoint(Api::Anthropic, page),
        Kind::Invalid,
        &["does not answer with a stream", "VTEAM_MODEL_URL"],
    )
    .await;

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    says(
        endpoint(Api::Anthropic, address),
        Kind::Unavailable,
        &["cannot reach 127.0.0.1", "VTEAM_MODEL_URL"],
    )
    .await;

    let nowhere = Endpoint {
        base: "http://no-such-host.invalid".parse().unwrap(),
        ..endpoint(Api::Anthropic, address)
    };
    says(nowhere, Kind::Unavailable, &["there is no host no-such-host.invalid", "VTEAM_MODEL_URL"]).await;

    let metadata =
        Endpoint { base: "http://169.254.169.254".parse().unwrap(), ..endpoint(Api::Anthropic, address) };
    says(metadata, Kind::Unavailable, &["plain HTTP", "VTEAM_MODEL_URL"]).await;

    let public = Endpoint { base: "http://1.1.1.1".parse().unwrap(), ..endpoint(Api::Anthropic, address) };
    says(public, Kind::Unavailable, &["use https"]).await;

    let broken = Endpoint { base: "ftp://x".parse().unwrap(), ..endpoint(Api::Anthropic, address) };
    let error =
        Broker::new(BrokerConfig { endpoint: Some(broken), ..config() }, Arc::new(Accounts::new(None))).err();
    assert!(error.unwrap().to_string().contains("VTEAM_MODEL_URL"));
}

#[tokio::test]
async fn an_openai_compatible_server_is_translated() {
    let (address, seen) = recording(
        "text/event-stream; charset=utf-8",
        concat!(
            "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"I \"}}]}\n\n",
            ": keep-alive\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"read.\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"Read\",\"arguments\":\"{}\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":10,\"prompt_tokens_details\":{\"cached_tokens\":600}}}\n\n",
            "data: [DONE]\n\n",
        ),
    )
    .await;
    let (broker, accounts) =
        broker(BrokerConfig { endpoint: Some(endpoint(Api::OpenAi, address)), ..config() });
    let events = asked(&broker, call("gpt-5.4", "k1")).await;
    assert_eq!(told(&events), json!([["text:I read.", "Read:{}"], "tool_use"]));
    assert_eq!(accounts.last().cost, MicroUsd(400 * 5 / 2 + 600 / 4 + 10 * 15));
    assert_eq!(
        seen.lock().unwrap()[0].2["messages"],
        json!([{"role": "user", "content": [{"type": "text", "text": "hi"}]}])
    );
}

#[tokio::test]
async fn the_route_speaks_the_runner_protocol() {
    let (broker, _) = playing("[{reply: [{text: hi}]}]").await;
    let body = serde_json::to_vec(&call("scripted/test", "k1")).unwrap();
    assert_eq!(parse(&body).unwrap(), call("scripted/test", "k1"));
    let answer = answer_model(&broker, who(), &body).await;
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
    let text = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let events: Vec<ModelEvent> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(told(&events), json!([["text:hi"], "end_turn"]));

    let refused = answer_model(&broker, who(), &body).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let failure = axum::body::to_bytes(refused.into_body(), usize::MAX).await.unwrap();
    assert_eq!(serde_json::from_slice::<ModelFailure>(&failure).unwrap().kind, Kind::Invalid);
    assert_eq!(answer_model(&broker, who(), b"{}").await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn every_shipped_script_is_one() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/scripts");
    let scripts: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!scripts.is_empty());
    for path in scripts {
        let script = Script::parse(&std::fs::read_to_string(&path).unwrap());
        assert!(script.is_ok(), "{}: {script:?}", path.display());
    }
}
