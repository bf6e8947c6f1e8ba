//! The broker's accounts: each promise and each charge is in the session's record before anything is sent or forgotten.

use super::{Sessions, actor::Command};
use crate::broker::{Charge, Ledger, ReserveError, Settlement};
use futures::future::BoxFuture;
use model::money::MicroUsd;

impl Ledger for Sessions {
    fn reserve<'a>(
        &'a self,
        charge: &'a Charge,
        worst: Option<MicroUsd>,
    ) -> BoxFuture<'a, Result<(), ReserveError>> {
        Box::pin(async move {
            let asked = charge.clone();
            let answer =
                self.0.ask(&charge.who.uid, |reply| Command::Reserve { charge: asked, worst, reply });
            answer.await.unwrap_or(Err(ReserveError::Stale))
        })
    }

    fn settle<'a>(&'a self, charge: &'a Charge, settlement: Settlement) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let settled = charge.clone();
            let answer =
                self.0.ask(&charge.who.uid, |reply| Command::Settle { charge: settled, settlement, reply });
            // A session that was deleted meanwhile has no account any more.
            let _ = answer.await;
        })
    }
}
