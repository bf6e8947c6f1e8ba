//! What the broker needs of whoever keeps the sessions' accounts. It knows no store and no session record.

use super::SessionKey;
use futures::future::BoxFuture;
use model::{
    id::RunId,
    money::{MicroUsd, Overspent, Usage},
};

/// One model call, as the account knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    pub who: SessionKey,
    pub run: RunId,
    /// The call's idempotency key, unique within the session: reserved once, settled once.
    pub key: String,
    pub model: String,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    pub usage: Usage,
    pub cost: MicroUsd,
    /// The answer was cut off, by whichever side: what upstream did not report is charged at its worst.
    pub aborted: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    #[error(transparent)]
    Overspent(#[from] Overspent),
    /// The session has a budget, and nobody knows what the model costs.
    #[error("the model has no price")]
    Unpriced,
    /// The key is reserved or settled already.
    #[error("this call was made already")]
    Duplicate,
    /// The epoch is no longer the session's, or the session or run is not known or at its end.
    #[error("the call belongs to no running session")]
    Stale,
    #[error("the account cannot be written")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The accounts of sessions. Durable: a reservation that outlives the process is settled at `worst`, as aborted, when
/// the log is opened again.
pub trait Ledger: Send + Sync + 'static {
    /// Promises `worst` out of the session's budget, before anything is sent. `None`: the model has no price, which a
    /// budget without limit accepts and any other refuses.
    fn reserve<'a>(
        &'a self,
        charge: &'a Charge,
        worst: Option<MicroUsd>,
    ) -> BoxFuture<'a, Result<(), ReserveError>>;

    /// Ends that promise with what the call cost and records `usage.charged`. Called once for each successful
    /// [`Ledger::reserve`], also when the runner is gone. A call that never reached the provider settles with zeros
    /// and is not worth an event.
    fn settle<'a>(&'a self, charge: &'a Charge, settlement: Settlement) -> BoxFuture<'a, ()>;
}
