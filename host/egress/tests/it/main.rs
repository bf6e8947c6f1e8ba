//! The client against real servers on loopback.
#![expect(clippy::unwrap_used, reason = "a test's helper fails like the test")]

use axum::{Router, body::Body, http::HeaderMap, response::Redirect, routing::get};
use bytes::Bytes;
use egress::{Caps, Egress, EgressError, Exception, Request, Response};
use futures::{TryStreamExt, stream};
use std::{net::SocketAddr, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CAPS: Caps = Caps {
    head: Duration::from_secs(5),
    idle: Duration::from_secs(5),
    total: Duration::from_secs(10),
    body_bytes: 1000,
};

async fn server() -> SocketAddr {
    let forever = || async { Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()) };
    let app = Router::new()
        .route("/ok", get(|headers: HeaderMap| async move { format!("{:?}", headers.get("user-agent")) }))
        .route("/moved", get(|| async { Redirect::temporary("/ok") }))
        .route("/big", get(|| async { "x".repeat(1001) }))
        .route("/fits", get(|| async { "x".repeat(1000) }))
        .route("/never", get(std::future::pending::<()>))
        .route("/stalls", get(forever));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
    address
}

fn get_of(url: &str) -> Request {
    Request {
        method: http::Method::GET,
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
    }
}

fn to(address: SocketAddr) -> Egress {
    let exceptions = [
        format!("127.0.0.1:{}=127.0.0.0/8", address.port()),
        format!("localhost:{}=127.0.0.0/8,::1/128", address.port()),
    ];
    Egress::new(exceptions.iter().map(|text| text.parse::<Exception>().unwrap()).collect())
}

async fn body(response: Response) -> Result<Vec<u8>, EgressError> {
    response.body.map_ok(|part| part.to_vec()).try_concat().await
}

#[tokio::test]
async fn an_exception_opens_exactly_one_place() {
    let address = server().await;
    let other = server().await;
    let egress = to(address);
    for host in ["127.0.0.1", "localhost"] {
        let response =
            egress.send(get_of(&format!("http://{host}:{}/ok", address.port())), CAPS).await.unwrap();
        assert!(String::from_utf8(body(response).await.unwrap()).unwrap().contains("vteam/"));
        let refused =
            egress.send(get_of(&format!("http://{host}:{}/ok", other.port())), CAPS).await.unwrap_err();
        assert!(matches!(refused, EgressError::Prohibited { .. }), "{host}: {refused:?}");
    }
    let refused =
        Egress::new(vec![]).send(get_of(&format!("http://localhost:{}/", address.port())), CAPS).await;
    assert!(matches!(refused, Err(EgressError::Prohibited { .. })));
}

#[tokio::test]
async fn literals_in_every_spelling_are_checked() {
    let egress = Egress::new(vec![]);
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "0.0.0.0",
    ] {
        let refused = egress.send(get_of(&format!("http://{host}/")), CAPS).await.unwrap_err();
        assert!(matches!(refused, EgressError::Prohibited { .. }), "{host}: {refused:?}");
    }
}

#[tokio::test]
async fn urls_that_are_not_for_us_are_refused() {
    let egress = Egress::new(vec![]);
    for url in [
        "ftp://example.com/",
        "file:///etc/passwd",
        "http://user@example.com/",
        "http://:pw@example.com/",
        "data:,x",
    ] {
        let refused = egress.send(get_of(url), CAPS).await.unwrap_err();
        assert!(matches!(refused, EgressError::Invalid(_)), "{url}: {refused:?}");
    }
}

#[tokio::test]
async fn redirects_come_back_to_the_caller() {
    let address = server().await;
    let response = to(address).send(get_of(&format!("http://{address}/moved")), CAPS).await.unwrap();
    assert_eq!((response.status.as_u16(), response.headers["location"].to_str().unwrap()), (307, "/ok"));
}

#[tokio::test]
async fn an_answer_meets_its_caps() {
    let address = server().await;
    let egress = to(address);
    let get = |path: &str, caps: Caps| egress.send(get_of(&format!("http://{address}{path}")), caps);
    let quick = Duration::from_millis(50);

    assert_eq!(body(get("/fits", CAPS).await.unwrap()).await.unwrap().len(), 1000);
    let error = body(get("/big", CAPS).await.unwrap()).await.unwrap_err();
    assert!(matches!(error, EgressError::TooLarge { limit: 1000 }), "{error:?}");
    let error = get("/never", Caps { head: quick, ..CAPS }).await.unwrap_err();
    assert!(matches!(error, EgressError::Timeout { .. }), "{error:?}");
    for caps in [Caps { idle: quick, ..CAPS }, Caps { total: quick, ..CAPS }] {
        let error = body(get("/stalls", caps).await.unwrap()).await.unwrap_err();
        assert!(matches!(error, EgressError::Timeout { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_early_is_cut() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        assert!(connection.read(&mut [0; 1024]).await.unwrap() > 0);
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
        connection.shutdown().await.unwrap();
        connection.read_to_end(&mut Vec::new()).await.unwrap();
    });
    let response = to(address).send(get_of(&format!("http://{address}/")), CAPS).await.unwrap();
    let error = body(response).await.unwrap_err();
    assert!(matches!(error, EgressError::Cut { .. }), "{error:?}");
}

#[tokio::test]
async fn a_closed_port_and_an_unknown_name_say_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error =
        to(address).send(get_of(&format!("http://{address}/secret?token=x")), CAPS).await.unwrap_err();
    assert!(matches!(error, EgressError::Unreachable { .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("secret"), "the path stays out of errors: {error:?}");
    let error = Egress::new(vec![]).send(get_of("http://no-such-host.invalid/"), CAPS).await.unwrap_err();
    assert!(matches!(error, EgressError::NotFound { .. }), "{error:?}");
}
