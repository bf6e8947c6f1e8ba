//! One model call from reservation to settlement.

use super::{
    Inner,
    failure::{self, Refusal, Told, truncated},
    ledger::Charge,
    meter::{Ending, Meter},
    retry::Refused,
    upstream::{Decoded, Endpoint},
};
use egress::{Caps, EgressError, Response};
use eventsource_stream::{EventStreamError, Eventsource};
use futures::StreamExt;
use http::header;
use model::{
    Untrusted,
    message::{ModelEvent, ModelFailure, StopReason},
    render,
};
use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

const CAPS: Caps = Caps {
    head: Duration::from_secs(300),
    // Local servers may read a long prompt for minutes before they say the first word.
    idle: Duration::from_secs(300),
    total: Duration::from_secs(3600),
    body_bytes: 64 << 20,
};
/// How long a runner may leave an answer unread.
const SLOWEST_READER: Duration = Duration::from_secs(60);
const ERROR_BYTES: usize = 64 << 10;

pub(super) struct Call {
    pub(super) broker: Arc<Inner>,
    pub(super) endpoint: Endpoint,
    pub(super) charge: Charge,
    pub(super) outgoing: egress::Request,
    pub(super) meter: Meter,
    pub(super) events: mpsc::Sender<ModelEvent>,
}

/// How the answer went: what is owed, and what the runner is told last. `None` where it is gone.
struct Outcome {
    ending: Ending,
    last: Option<Last>,
}

enum Last {
    Stop(StopReason),
    Failed(ModelFailure),
}

impl Outcome {
    const fn failed(ending: Ending, failure: ModelFailure) -> Self {
        Self { ending, last: Some(Last::Failed(failure)) }
    }

    const fn gone(ending: Ending) -> Self {
        Self { ending, last: None }
    }
}

impl Call {
    pub(super) async fn run(mut self, admitted: oneshot::Sender<Result<(), Refusal>>) {
        if let Err(error) = self.broker.ledger.reserve(&self.charge, self.meter.worst()).await {
            tracing::info!(session = %self.charge.who.uid, %error, "model call not admitted");
            let refusal = failure::refused_by_ledger(&error, &self.charge.model);
            // Nobody left to tell, and nothing to settle.
            let _ = admitted.send(Err(refusal));
            return;
        }
        let outcome = match admitted.send(Ok(())) {
            Ok(()) => self.ask().await,
            Err(_) => Outcome::gone(Ending::Unserved),
        };
        let settlement = self.meter.settle(outcome.ending);
        // Before the runner hears the end: whoever sees the answer can see the charge.
        self.broker.ledger.settle(&self.charge, settlement).await;
        self.log(&outcome, &settlement);
        let last = outcome.last.map(|last| match last {
            Last::Stop(stop_reason) => {
                ModelEvent::Stop { stop_reason, usage: settlement.usage, cost: settlement.cost }
            }
            Last::Failed(failure) => ModelEvent::Error(failure),
        });
        if let Some(last) = last {
            // A runner that is gone has the charge in its log.
            let _ = self.events.send_timeout(last, SLOWEST_READER).await;
        }
    }

    fn log(&self, outcome: &Outcome, settlement: &super::Settlement) {
        let failure = match &outcome.last {
            Some(Last::Failed(failure)) => Some(failure.message.as_str()),
            Some(Last::Stop(_)) => None,
            None => Some("the runner went away"),
        };
        let (session, model) = (&self.charge.who.uid, &self.charge.model);
        let (usage, cost_micro_usd) = (settlement.usage, settlement.cost.0);
        let (input, output) =
            (usage.input_tokens + usage.cache_write_tokens + usage.cache_read_tokens, usage.output_tokens);
        match failure {
            None => tracing::info!(%session, model, input, output, cost_micro_usd, "model call"),
            Some(why) => {
                tracing::warn!(%session, model, input, output, cost_micro_usd, why, "model call failed")
            }
        }
    }

    async fn ask(&mut self) -> Outcome {
        match self.dispatch().await {
            Ok(response) => self.relay(response).await,
            Err(outcome) => outcome,
        }
    }

    /// Sends until there is an answer that is not to be retried. A request whose fate is not known is not sent again
    /// here: it may have been served, and would be paid for twice under one reservation.
    async fn dispatch(&self) -> Result<Response, Outcome> {
        let policy = &self.broker.config.retry;
        let mut attempt = 0;
        loop {
            let sent = tokio::select! {
                sent = self.broker.models.send(self.outgoing.clone(), CAPS) => sent,
                () = self.events.closed() => return Err(Outcome::gone(Ending::Cut)),
            };
            let jitter = rand::random::<f64>();
            let (pause, failure) = match sent {
                Ok(response) if response.status.is_success() => return Ok(response),
                Ok(response) => self.refused(response, attempt, jitter).await,
                Err(error) => {
                    let failure = failure::unreachable(&error, &self.endpoint);
                    match error {
                        EgressError::Cut { .. } | EgressError::Timeout { .. } => {
                            return Err(Outcome::failed(Ending::Cut, failure));
                        }
                        EgressError::Unreachable { .. } => (policy.pause(attempt, jitter), failure),
                        _ => (None, failure),
                    }
                }
            };
            let Some(pause) = pause else { return Err(Outcome::failed(Ending::Unserved, failure)) };
            tracing::debug!(session = %self.charge.who.uid, attempt, ?pause, why = failure.message, "model call is sent again");
            tokio::select! {
                () = sleep(pause) => attempt += 1,
                () = self.events.closed() => return Err(Outcome::gone(Ending::Unserved)),
            }
        }
    }

    async fn refused(
        &self,
        response: Response,
        attempt: u32,
        jitter: f64,
    ) -> (Option<Duration>, ModelFailure) {
        let Response { status, headers, mut body } = response;
        let mut text = Vec::new();
        while let Some(Ok(part)) = body.next().await {
            text.extend_from_slice(&part);
            if text.len() > ERROR_BYTES {
                break;
            }
        }
        let said = render::line(&Untrusted::new(String::from_utf8_lossy(&text)), 2000);
        tracing::debug!(session = %self.charge.who.uid, %status, said, "the model's endpoint refused");
        let told = Told::read(&text);
        let refused = Refused { status, headers: &headers, told: &told };
        let pause = refused.pause(&self.broker.config.retry, attempt, jitter, SystemTime::now());
        (pause, failure::status(status, &told, &self.endpoint, &self.charge.model))
    }

    async fn relay(&mut self, response: Response) -> Outcome {
        let kind =
            response.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !kind.starts_with("text/event-stream") {
            let setting = self.endpoint.url_setting;
            let message = format!("{} does not answer with a stream: check {setting}", self.endpoint.host());
            // JSON may be a whole answer of a server that does not stream; a web page is nobody's answer.
            let ending = if kind.starts_with("application/json") { Ending::Cut } else { Ending::Unserved };
            return Outcome::failed(ending, failure::invalid(message));
        }
        let mut decoder = self.endpoint.decoder();
        let mut stream = pin!(response.body.eventsource());
        loop {
            let next = tokio::select! {
                next = stream.next() => next,
                () = self.events.closed() => return Outcome::gone(Ending::Cut),
            };
            let decoded = match next {
                Some(Ok(event)) => decoder.feed(&event.data),
                Some(Err(error)) => vec![Decoded::Failed(truncated(&broken(&error)))],
                None => decoder.end(),
            };
            for decoded in decoded {
                if let Some(outcome) = self.take(decoded).await {
                    return outcome;
                }
            }
        }
    }

    async fn take(&mut self, decoded: Decoded) -> Option<Outcome> {
        match decoded {
            Decoded::Usage { usage, complete } => self.meter.reported(usage, complete),
            Decoded::Done(reason) => {
                return Some(Outcome { ending: Ending::Whole, last: Some(Last::Stop(reason)) });
            }
            Decoded::Failed(failure) => return Some(Outcome::failed(Ending::Cut, failure)),
            Decoded::Event(event) => {
                self.meter.passed(&event);
                if self.events.send_timeout(event, SLOWEST_READER).await.is_err() {
                    return Some(Outcome::gone(Ending::Cut));
                }
            }
        }
        None
    }
}

fn broken(error: &EventStreamError<EgressError>) -> String {
    match error {
        EventStreamError::Transport(error) => error.to_string(),
        EventStreamError::Utf8(_) | EventStreamError::Parser(_) => {
            "the endpoint sent no server-sent events".to_owned()
        }
    }
}
