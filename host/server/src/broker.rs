//! The broker: the only way out of a session, to models and to the web. It holds the credentials and the accounts'
//! arithmetic, and knows nothing of stores, runners' sockets or the REST API.
//!
//! The model route is a typed endpoint, not a proxy: a request is parsed into [`protocol::http::ModelCall`], checked,
//! cut to what the model can do, paid for in advance ([`Ledger::reserve`]), and only then written anew for its
//! upstream, with path, headers and credential that nobody else chooses.

mod answer;
mod call;
mod check;
mod failure;
mod fetch;
pub mod ledger;
mod meter;
mod prices;
mod retry;
pub mod scripted;
mod upstream;

pub use answer::{answer_fetch, answer_model};
pub use check::parse;
pub use failure::Refusal;
pub use ledger::{Charge, Ledger, ReserveError, Settlement};
pub use prices::{InvalidPrices, LongPrompt, ModelCard, Models, Thinking};
pub use retry::RetryPolicy;
pub use upstream::{ANTHROPIC, ANTHROPIC_VERSION, Api, Endpoint, KeyStyle};

use call::Call;
use egress::{Egress, Exception};
use failure::invalid;
use futures::{FutureExt, Stream, future::BoxFuture};
use http::StatusCode;
use model::{
    id::{Epoch, SessionUid},
    message::{ModelEvent, ModelFailure},
};
use protocol::http::ModelCall;
use scripted::Scripted;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;

/// Where people say which models there are.
pub(crate) const SET_UP: &str =
    "ANTHROPIC_API_KEY (on a cluster in the Secret vteam-model), or VTEAM_MODEL_URL and VTEAM_MODEL_KEY";

/// Events of an answer that wait for a runner to take them.
const WAITING_EVENTS: usize = 64;

/// Who calls: a session's runner of one epoch, as the gateway has authenticated it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    pub uid: SessionUid,
    pub epoch: Epoch,
}

#[derive(Debug)]
pub struct BrokerConfig {
    /// Where models answer; `None` where nobody has set one up.
    pub endpoint: Option<Endpoint>,
    /// The scripted model under way on loopback; it answers to `scripted/<name>` and lives as long as the broker.
    pub scripted: Option<Scripted>,
    /// What sessions use that name no model; `None` lets the broker choose.
    pub default_model: Option<String>,
    pub models: Models,
    pub retry: RetryPolicy,
    /// Non-public places that components may fetch from. The administrator's to give.
    pub exceptions: Vec<Exception>,
}

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error(
        "{setting} is not the URL of a model endpoint: it needs http or https and a host, and no user name, such as https://api.anthropic.com"
    )]
    Endpoint { setting: &'static str },
}

#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    config: BrokerConfig,
    scripted: Option<Endpoint>,
    ledger: Arc<dyn Ledger>,
    models: Egress,
    pages: Egress,
    calls: TaskTracker,
}

impl Broker {
    /// # Errors
    /// When the endpoint's URL cannot be one.
    pub fn new(config: BrokerConfig, ledger: Arc<dyn Ledger>) -> Result<Self, BrokerError> {
        let scripted = config.scripted.as_ref().map(Scripted::endpoint);
        let endpoints = || config.endpoint.iter().chain(&scripted);
        for endpoint in endpoints() {
            let (url, setting) = (&endpoint.base, endpoint.url_setting);
            let plain = url.username().is_empty() && url.password().is_none() && url.has_host();
            if !plain || !matches!(url.scheme(), "http" | "https") {
                return Err(BrokerError::Endpoint { setting });
            }
        }
        let models =
            Egress::new(endpoints().filter_map(|endpoint| Exception::named(&endpoint.base)).collect());
        let pages = Egress::new(config.exceptions.clone());
        Ok(Self(Arc::new(Inner { config, scripted, ledger, models, pages, calls: TaskTracker::new() })))
    }

    /// What is known of a model.
    #[must_use]
    pub fn card(&self, model: &str) -> ModelCard {
        self.0.config.models.card(model)
    }

    /// The model of sessions that name none: what is configured, else the script's, else one that fits the endpoint.
    #[must_use]
    pub fn default_model(&self) -> Option<String> {
        let config = &self.0.config;
        let scripted = config.scripted.as_ref().map(|scripted| scripted.model().to_owned());
        let fitting = config.endpoint.as_ref().and_then(|endpoint| match endpoint.api {
            Api::Anthropic => Some("claude-sonnet-5-5".to_owned()),
            Api::OpenAi => None,
        });
        config.default_model.clone().or(scripted).or(fitting)
    }

    /// The scripted model that plays in place of a real one, if there is one.
    #[must_use]
    pub fn script(&self) -> Option<&str> {
        self.0.config.scripted.as_ref().map(Scripted::model)
    }

    /// Whether a model could be called at all, for a check before a session begins.
    ///
    /// # Errors
    /// A failure that says what to set up.
    pub fn reaches(&self, model: &str) -> Result<(), ModelFailure> {
        self.0.endpoint(model).map(|_| ())
    }

    /// Asks a model. The call is checked, reserved, sent and settled by a task of its own, so that it ends in the
    /// account also when the runner goes away; then it is cut off and charged as [`Settlement::aborted`].
    ///
    /// # Errors
    /// The HTTP status and failure to answer with, when nothing was sent. What fails later is the stream's last event.
    pub async fn model(
        &self,
        who: SessionKey,
        call: ModelCall,
    ) -> Result<impl Stream<Item = ModelEvent> + Send + use<>, Refusal> {
        let ModelCall { run, idempotency_key, request } = call;
        let bad = |failure| (StatusCode::BAD_REQUEST, failure);
        if idempotency_key.is_empty() || idempotency_key.len() > 128 {
            return Err(bad(invalid("an idempotency key is 1 to 128 bytes")));
        }
        let card = self.card(&request.model);
        let request = check::admit(request, &card).map_err(bad)?;
        let endpoint =
            self.0.endpoint(&request.model).map_err(|failure| (StatusCode::UNPROCESSABLE_ENTITY, failure))?;
        let outgoing = endpoint.request(&request, &card).map_err(bad)?;
        let charge = Charge { who, run, key: idempotency_key, model: request.model.clone() };
        let (events, stream) = mpsc::channel(WAITING_EVENTS);
        let (admitted, admission) = oneshot::channel();
        let call = Call {
            meter: meter::Meter::new(&request, card),
            broker: Arc::clone(&self.0),
            endpoint: endpoint.clone(),
            charge,
            outgoing,
            events,
        };
        self.0.calls.spawn(call.run(admitted));
        let gone = |_| (StatusCode::INTERNAL_SERVER_ERROR, invalid("the call's task ended"));
        admission.await.map_err(gone)??;
        Ok(ReceiverStream::new(stream))
    }

    /// Waits until every call under way is settled. For shutting down, after the runners are gone.
    pub fn drain(&self) -> BoxFuture<'static, ()> {
        let calls = self.0.calls.clone();
        calls.close();
        async move { calls.wait().await }.boxed()
    }
}

impl Inner {
    fn endpoint(&self, model: &str) -> Result<&Endpoint, ModelFailure> {
        if model.starts_with(scripted::PREFIX) {
            let none = || {
                invalid(format!(
                    "{model} is a scripted model, and no script is loaded: start the server with --script FILE"
                ))
            };
            return self.scripted.as_ref().ok_or_else(none);
        }
        let only = self
            .config
            .scripted
            .as_ref()
            .map(|scripted| format!(", or use the scripted model {}", scripted.model()));
        self.config.endpoint.as_ref().ok_or_else(|| {
            let only = only.unwrap_or_default();
            invalid(format!("no model endpoint is set up: set {SET_UP}, and start the server again{only}"))
        })
    }
}
