//! The session's budget: promised before a call, charged after it.

use super::Actor;
use crate::{
    broker::{Charge, ReserveError, Settlement},
    sessions::{change::Change, error::SessionError},
};
use model::{
    event::{Event, UsageCharged},
    id::RunId,
    money::{MicroUsd, Usage},
};
use store::Reserved;

/// Settled keys that are remembered, to refuse a call that is sent again.
const SETTLED: usize = 64;

impl Actor {
    pub(super) async fn reserve(
        &mut self,
        charge: &Charge,
        worst: Option<MicroUsd>,
    ) -> Result<(), ReserveError> {
        let state = &self.record.state;
        let current = charge.who.epoch == state.epoch && state.fence <= state.epoch;
        if !current || state.run.as_ref() != Some(&charge.run) || self.story.ended.is_some() {
            return Err(ReserveError::Stale);
        }
        if state.reserved.contains_key(&charge.key) || state.settled.contains(&charge.key) {
            return Err(ReserveError::Duplicate);
        }
        if worst.is_none() && state.budget.limit.is_some() {
            return Err(ReserveError::Unpriced);
        }
        let worst = worst.unwrap_or_default();
        let mut change = self.change();
        change.state.budget.reserve(worst)?;
        let reserved = Reserved { run: charge.run.clone(), model: charge.model.clone(), worst };
        change.state.reserved.insert(charge.key.clone(), reserved);
        self.commit(change).await.map_err(|error| ReserveError::Unavailable(error.into()))
    }

    pub(super) async fn settle(&mut self, charge: &Charge, settlement: Settlement) {
        let mut change = self.change();
        if let Some(reserved) = change.state.reserved.remove(&charge.key) {
            charge_account(&mut change, &charge.key, reserved, settlement);
            if let Err(error) = self.commit(change).await {
                // The promise stays in the record and is charged in full when the log is opened again.
                let error = telemetry::field::chain(&error);
                tracing::error!(session = %self.record.reference, error, "a charge could not be written");
            }
        }
    }

    /// Promises that outlived the process: what they bought is not known, so all of it is charged.
    pub(super) async fn settle_forgotten(&mut self) -> Result<(), SessionError> {
        if self.record.state.reserved.is_empty() {
            return Ok(());
        }
        let mut change = self.change();
        for (key, reserved) in std::mem::take(&mut change.state.reserved) {
            let settlement = Settlement { usage: Usage::default(), cost: reserved.worst, aborted: true };
            charge_account(&mut change, &key, reserved, settlement);
        }
        Ok(self.commit(change).await?)
    }
}

fn charge_account(change: &mut Change, key: &str, reserved: Reserved, settlement: Settlement) {
    let Settlement { usage, cost, aborted } = settlement;
    let Reserved { run, model, worst } = reserved;
    let state = &mut change.state;
    state.budget.settle(worst, cost);
    state.settled.push(key.to_owned());
    let surplus = state.settled.len().saturating_sub(SETTLED);
    state.settled.drain(..surplus);
    if cost == MicroUsd::default() && usage == Usage::default() {
        return;
    }
    add(&mut state.totals, &run, state.run.as_ref(), usage, cost);
    let total = state.totals.cost;
    change.push(Event::Usage(UsageCharged { run, model, usage, cost, total, aborted }));
}

fn add(totals: &mut store::Totals, of: &RunId, under_way: Option<&RunId>, usage: Usage, cost: MicroUsd) {
    totals.usage = totals.usage.plus(usage);
    totals.cost = totals.cost.plus(cost);
    if under_way == Some(of) {
        totals.run_usage = totals.run_usage.plus(usage);
        totals.run_cost = totals.run_cost.plus(cost);
    }
}
