//! The server about itself.

use super::Api;
use crate::problem::Problem;
use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use telemetry::{
    Metrics,
    metrics::{CONTENT_TYPE, Gauge},
};

/// The one route that needs no token.
pub(super) const HEALTH: &str = "/health";

/// What is measured when somebody looks.
pub(super) struct Gauges {
    awake: Gauge,
    plugins: Gauge,
    degraded: Gauge,
}

impl Gauges {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            awake: metrics.add("sessions_awake", "Sessions that have a runner", Gauge::default()),
            plugins: metrics.add("plugins", "Plugins in use", Gauge::default()),
            degraded: metrics.add(
                "degraded_parts",
                "Parts that work less well than they should",
                Gauge::default(),
            ),
        }
    }
}

/// The process answers. Needs no token.
#[utoipa::path(get, path = "/health", tag = "system", responses((status = 200, body = Object)), security(()))]
pub(crate) async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Start-up is over; what is degraded, and what to do about it.
#[utoipa::path(get, path = "/ready", tag = "system", responses((status = 200, body = Object), (status = 503, body = Problem)))]
pub(crate) async fn ready(State(api): State<Api>) -> Result<Json<Value>, Problem> {
    if !api.health.is_ready() || api.shutdown.is_requested() {
        return Err(Problem::unavailable("the server is starting or stopping"));
    }
    Ok(Json(json!({"status": "ready", "degraded": api.health.degraded()})))
}

/// Metrics in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "system", responses((status = 200, body = String)))]
pub(crate) async fn metrics(State(api): State<Api>) -> Response {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let gauges = api.gauges();
    gauges.awake.set(count(api.sessions.awake()));
    gauges.plugins.set(count(api.catalogue.count()));
    gauges.degraded.set(count(api.health.degraded().len()));
    let kind = HeaderValue::from_static(CONTENT_TYPE);
    (StatusCode::OK, [(header::CONTENT_TYPE, kind)], api.metrics.encode()).into_response()
}

/// What this server is.
#[utoipa::path(get, path = "/api/version", tag = "system", responses((status = 200, body = Object)))]
pub(crate) async fn version(State(api): State<Api>) -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "apiVersion": resources::API_VERSION,
        "agui": "1.0",
        "defaultModel": api.broker.default_model(),
        "scripted": api.broker.script(),
    }))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "system", responses((status = 200, body = Object)))]
pub(crate) async fn openapi() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], crate::openapi::document()).into_response()
}
