//! Pages for components.

use super::*;
use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::Redirect,
    routing::get,
};
use futures::TryStreamExt;
use protocol::http::{FetchFailure, FetchFailureKind as Kind, FetchHead, FetchRequest};
use server::broker::answer_fetch;

async fn site() -> SocketAddr {
    let app = Router::new()
        .route(
            "/page",
            get(|headers: HeaderMap| async move {
                let names: Vec<&str> = headers.keys().map(|name| name.as_str()).collect();
                ([("set-cookie", "a=b"), ("content-type", "text/plain")], names.join(","))
            }),
        )
        .route("/moved", get(|| async { Redirect::to("http://169.254.169.254/") }))
        .route("/big", get(|| async { vec![0_u8; (10 << 20) + 1] }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
    address
}

fn request(method: &str, url: &str) -> FetchRequest {
    let headers = [
        ("accept", "text/html"),
        ("authorization", "Bearer x"),
        ("cookie", "c"),
        ("x-token", "t"),
        ("host", "evil"),
    ];
    FetchRequest {
        run: "r1".parse().unwrap(),
        call: "c1".parse().unwrap(),
        method: method.to_owned(),
        url: url.to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
    }
}

fn reaching(address: SocketAddr) -> Broker {
    let exception = format!("127.0.0.1:{}=127.0.0.0/8", address.port()).parse().unwrap();
    broker(BrokerConfig { exceptions: vec![exception], ..config() }).0
}

async fn fetched(broker: &Broker, method: &str, url: &str) -> Result<(FetchHead, Vec<u8>), FetchFailure> {
    let (head, body) = broker.fetch(who(), request(method, url), &|_| true).await?;
    let body = body.map_ok(|part| part.to_vec()).try_concat().await?;
    Ok((head, body))
}

#[tokio::test]
async fn a_page_is_fetched_without_what_the_guest_added() {
    let address = site().await;
    let (head, body) =
        fetched(&reaching(address), "GET", &format!("http://{address}/page#part")).await.unwrap();
    assert_eq!((head.status, String::from_utf8(body).unwrap().as_str()), (200, "accept,user-agent,host"));
    let names: Vec<&str> = head.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"content-type") && !names.contains(&"set-cookie"), "{names:?}");
    let (head, body) = fetched(&reaching(address), "HEAD", &format!("http://{address}/page")).await.unwrap();
    assert_eq!((head.status, body.len()), (200, 0));
}

#[tokio::test]
async fn a_redirect_is_the_callers_to_judge() {
    let address = site().await;
    let (head, _) = fetched(&reaching(address), "GET", &format!("http://{address}/moved")).await.unwrap();
    let location = head.headers.iter().find(|(name, _)| name == "location").unwrap();
    assert_eq!((head.status, location.1.raw()), (303, "http://169.254.169.254/"));
}

#[tokio::test]
async fn what_is_not_permitted_does_not_leave() {
    let address = site().await;
    let page = format!("http://{address}/page");
    let refused =
        async |broker: &Broker, method: &str, url: &str| fetched(broker, method, url).await.unwrap_err().kind;
    let open = reaching(address);
    assert_eq!(refused(&open, "POST", &page).await, Kind::Invalid);
    assert_eq!(refused(&open, "GET", "not a url").await, Kind::Invalid);
    assert_eq!(refused(&open, "GET", "file:///etc/passwd").await, Kind::Invalid);
    assert_eq!(refused(&open, "GET", &format!("http://u:p@{address}/page")).await, Kind::Invalid);
    assert_eq!(refused(&open, "GET", "http://169.254.169.254/latest/meta-data").await, Kind::Prohibited);
    assert_eq!(
        refused(&open, "GET", &format!("http://localhost:{}/page", address.port())).await,
        Kind::Prohibited
    );
    assert_eq!(refused(&open, "GET", "http://no-such-host.invalid/").await, Kind::NotFound);
    assert_eq!(refused(&open, "GET", &format!("http://{address}/big")).await, Kind::TooLarge);
    let denied = open.fetch(who(), request("GET", &page), &|url| url.host_str() != Some("127.0.0.1")).await;
    assert_eq!(denied.map(|_| ()).unwrap_err().kind, Kind::Denied);
}

#[tokio::test]
async fn a_host_with_a_credential_is_not_fetched_from() {
    let address = site().await;
    let exceptions = vec![format!("127.0.0.1:{}=127.0.0.0/8", address.port()).parse().unwrap()];
    let (broker, _) =
        broker(BrokerConfig { endpoint: Some(endpoint(Api::Anthropic, address)), exceptions, ..config() });
    let denied = fetched(&broker, "GET", &format!("http://{address}/page")).await.unwrap_err();
    assert_eq!(denied.kind, Kind::Denied);
    let (playing, _) = playing("[{reply: [{text: hi}]}]").await;
    assert_eq!(fetched(&playing, "GET", "http://127.0.0.1:1/").await.unwrap_err().kind, Kind::Prohibited);
}

#[tokio::test]
async fn the_route_speaks_the_runner_protocol() {
    let address = site().await;
    let page = request("GET", &format!("http://{address}/page"));
    let answer = answer_fetch(&reaching(address), who(), page.clone(), &|_| true).await;
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let line = body.iter().position(|byte| *byte == b'\n').unwrap();
    let head: FetchHead = serde_json::from_slice(&body[..line]).unwrap();
    assert_eq!((head.status, &body[line + 1..]), (200, b"accept,user-agent,host".as_slice()));
    let refused = answer_fetch(&reaching(address), who(), page, &|_| false).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}
