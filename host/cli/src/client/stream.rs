//! The live stream of a session: history, then what happens, over as many connections as it takes.

use super::Client;
use crate::exit::{Code, Failure, Outcome};
use bytes::Bytes;
use eventsource_stream::Eventsource;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use model::{
    event::{Live, Stored},
    id::{Seq, SessionName},
};
use reqwest::{Method, Response, header};
use std::time::Duration;

/// A server says something every fifteen seconds, if only that it is there.
const QUIET: Duration = Duration::from_secs(60);

/// Something in the stream.
#[derive(Debug)]
pub(crate) enum Item {
    Stored(Box<Stored>),
    Live(Box<Live>),
    /// The connection was cut, and the stream goes on by itself: what was only live may be missing.
    Cut,
    /// Nobody answers for now; it is tried again.
    Away,
}

/// Gap-free and without doubles: it remembers where it is.
pub(crate) struct Stream {
    client: Client,
    name: SessionName,
    after: Seq,
    failures: u32,
    /// That nobody answers was told.
    away: bool,
    events: Option<BoxStream<'static, Result<eventsource_stream::Event, String>>>,
}

impl Client {
    /// From after `after`, for ever.
    pub(crate) fn stream(&self, name: &SessionName, after: Seq) -> Stream {
        Stream { client: self.clone(), name: name.clone(), after, failures: 0, away: false, events: None }
    }
}

impl Stream {
    /// The next item. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Outcome<Item> {
        loop {
            if self.events.is_none() {
                self.connect().await?;
            }
            let Some(events) = &mut self.events else {
                if std::mem::replace(&mut self.away, true) {
                    continue;
                }
                return Ok(Item::Away);
            };
            match events.next().await {
                Some(Ok(event)) => {
                    if let Some(item) = self.read(&event) {
                        (self.failures, self.away) = (0, false);
                        return Ok(item);
                    }
                }
                Some(Err(_)) | None => {
                    self.events = None;
                    return Ok(Item::Cut);
                }
            }
        }
    }

    async fn connect(&mut self) -> Outcome {
        if self.failures > 0 {
            tokio::time::sleep(Duration::from_millis(100 << self.failures.min(6))).await;
        }
        self.failures += 1;
        let path = format!("{}?after={}", self.client.session(&self.name, "/events"), self.after);
        match self.open(&path).await {
            Ok(answer) => {
                let events = heard(answer).eventsource();
                self.events = Some(events.map(|event| event.map_err(|e| e.to_string())).boxed());
                Ok(())
            }
            Err(failure)
                if failure.code == Code::Unreachable
                    && self.after > Seq(0)
                    && self.failures < self.client.address.attempts() =>
            {
                Ok(())
            }
            Err(failure) if failure.code == Code::NotFound && self.after > Seq(0) => {
                Err(Failure::new(Code::NotFound, format!("the session {} was removed meanwhile", self.name)))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn open(&self, path: &str) -> Outcome<Response> {
        let request = self.client.request(Method::GET, path).await?;
        self.client.send(request.header(header::ACCEPT, "text/event-stream")).await
    }

    fn read(&mut self, event: &eventsource_stream::Event) -> Option<Item> {
        if event.event == "live" {
            return serde_json::from_str(&event.data).ok().map(|live| Item::Live(Box::new(live)));
        }
        let stored: Stored = serde_json::from_str(&event.data).ok()?;
        if stored.seq <= self.after {
            return None;
        }
        self.after = stored.seq;
        Some(Item::Stored(Box::new(stored)))
    }
}

/// The body, until nothing is heard for so long that nobody can be there.
fn heard(answer: Response) -> impl futures::Stream<Item = Result<Bytes, String>> {
    stream::unfold(answer.bytes_stream().boxed(), async |mut bytes| {
        let next = tokio::time::timeout(QUIET, bytes.next()).await;
        let next = next.unwrap_or_else(|_| None)?;
        Some((next.map_err(|e| e.to_string()), bytes))
    })
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("name", &self.name).field("after", &self.after).finish_non_exhaustive()
    }
}
