//! The broker's endpoints, for an authenticated runner.

use super::{Gateway, Runner};
use crate::broker::{SessionKey, answer_fetch, answer_model};
use axum::{Json, extract::State, response::Response};
use bytes::Bytes;
use protocol::http::FetchRequest;

pub(super) async fn model(State(gateway): State<Gateway>, runner: Runner, call: Bytes) -> Response {
    let who = SessionKey { uid: runner.uid, epoch: runner.epoch };
    answer_model(&gateway.broker, who, &call).await
}

pub(super) async fn fetch(
    State(gateway): State<Gateway>,
    runner: Runner,
    Json(request): Json<FetchRequest>,
) -> Response {
    // The approval is of this very URL, and the broker follows no redirect.
    let allowed = gateway.sessions.may_fetch(&runner.uid, &request).await;
    let who = SessionKey { uid: runner.uid, epoch: runner.epoch };
    answer_fetch(&gateway.broker, who, request, &|_| allowed).await
}
