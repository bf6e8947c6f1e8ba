//! `/health`, `/ready` and `/metrics`, for kubelet and for whoever collects metrics. Nothing in them is a secret.

use crate::metrics::Metrics;
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use doors::Limits;
use serde_json::json;
use telemetry::{Health, Shutdown, metrics};
use tokio::net::TcpListener;

/// Kubelet and a collector need a few.
const CONNECTIONS: usize = 256;

#[derive(Clone)]
struct Shown {
    health: Health,
    metrics: Metrics,
}

pub(crate) async fn serve(
    listener: TcpListener,
    health: Health,
    counted: Metrics,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/health", get(alive))
        .route("/ready", get(ready))
        .route("/metrics", get(numbers))
        .with_state(Shown { health, metrics: counted });
    doors::serve(Limits::of(CONNECTIONS), listener, router, shutdown).await
}

async fn alive() -> impl IntoResponse {
    Json(json!({"status": "ok"}))
}

async fn ready(State(shown): State<Shown>) -> impl IntoResponse {
    let (code, word) = match shown.health.is_ready() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
    };
    (code, Json(json!({"status": word, "degraded": shown.health.degraded()})))
}

async fn numbers(State(shown): State<Shown>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], shown.metrics.encode())
}
