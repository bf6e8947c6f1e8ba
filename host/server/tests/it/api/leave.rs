//! Leave that is taken back while an answer lasts.

use super::harness::{PATIENCE, Server};
use crate::sessions::world::diligent;
use axum::http::HeaderMap;
use futures::{StreamExt as _, future::BoxFuture};
use reqwest::Method;
use serde_json::json;
use server::{
    access::{Access, Callers},
    auth::Token,
    problem::Problem,
    sessions::Caller,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};

/// Says to everybody what it is told to say.
#[derive(Clone)]
struct Told {
    token: Arc<Token>,
    identify: watch::Sender<Option<Problem>>,
    permit: watch::Sender<Option<Problem>>,
    asked: watch::Sender<u64>,
}

impl Told {
    fn new(token: Token) -> Self {
        let (identify, permit) = (watch::Sender::new(None), watch::Sender::new(None));
        Self { token: Arc::new(token), identify, permit, asked: watch::Sender::new(0) }
    }

    async fn asked_again(&self) {
        let so_far = *self.asked.borrow();
        let mut asked = self.asked.subscribe();
        timeout(PATIENCE, asked.wait_for(|asked| *asked > so_far + 1)).await.unwrap().unwrap();
    }
}

fn said(told: &watch::Sender<Option<Problem>>) -> Result<(), Problem> {
    told.borrow().clone().map_or(Ok(()), Err)
}

impl Callers for Told {
    fn identify<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, Result<Caller, Problem>> {
        self.asked.send_modify(|asked| *asked += 1);
        let told = said(&self.identify);
        Box::pin(async move { told.map(|()| self.token.identify(headers))?.await })
    }

    fn permit<'a>(&'a self, _: &'a Caller, access: Access) -> BoxFuture<'a, Result<(), Problem>> {
        // Of this session, as for the request itself.
        let asked = access.verb == "get" && access.project.as_str() == "p" && access.name.is_some();
        let told = if asked { said(&self.permit) } else { Ok(()) };
        Box::pin(async move { told })
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_leave_to_read_it() {
    async fn check(path: &str, taken: Problem, identify: bool) {
        let (sender, told) = std::sync::mpsc::channel();
        let server = Server::with(diligent(), Duration::from_millis(5), move |token| {
            let told = Told::new(token);
            sender.send(told.clone()).unwrap();
            told
        })
        .await;
        let told = told.recv().unwrap();
        let session = server.create(json!({"prompt": "do"})).await;
        let request = server.request(Method::GET, &format!("{session}/{path}"));
        let answer = request.header("accept", "text/event-stream").send().await.unwrap();
        let mut bytes = answer.bytes_stream();
        assert!(bytes.next().await.unwrap().is_ok());
        // That nobody can be asked takes nothing from anybody.
        let by = if identify { &told.identify } else { &told.permit };
        by.send_replace(Some(Problem::unavailable("later")));
        told.asked_again().await;
        by.send_replace(None);
        told.asked_again().await;
        let (ended, mut end) = tokio::sync::oneshot::channel();
        let rest = tokio::spawn(async move {
            while let Some(more) = bytes.next().await {
                more.unwrap();
            }
            let _ = ended.send(());
        });
        told.asked_again().await;
        assert!(end.try_recv().is_err(), "{path}: it ended for nothing");
        let status = taken.status;
        by.send_replace(Some(taken));
        timeout(PATIENCE, rest)
            .await
            .unwrap_or_else(|_| panic!("{path}: it goes on after {status}"))
            .unwrap();
        assert_eq!(server.get(&format!("{session}/{path}")).await.0, status);
    }
    for path in ["events", "agui/events"] {
        check(path, Problem::unauthorized("no more"), true).await;
        check(path, Problem::forbidden("no more"), false).await;
    }
}
