//! Accounts in memory with the arithmetic of the real ones.

use futures::future::BoxFuture;
use model::money::{Budget, MicroUsd};
use server::broker::{Charge, Ledger, ReserveError, Settlement};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};
use tokio::sync::watch;

#[derive(Default)]
pub(super) struct Account {
    pub(super) budget: Budget,
    promised: BTreeMap<String, MicroUsd>,
    pub(super) settled: Vec<(Charge, Settlement)>,
}

pub(super) struct Accounts {
    account: Mutex<Account>,
    settlements: watch::Sender<usize>,
}

impl Accounts {
    pub(super) fn new(limit: Option<MicroUsd>) -> Self {
        let account = Account { budget: Budget { limit, ..Budget::default() }, ..Account::default() };
        Self { account: Mutex::new(account), settlements: watch::Sender::new(0) }
    }

    pub(super) fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap()
    }

    pub(super) async fn settled(&self, calls: usize) {
        self.settlements.subscribe().wait_for(|settled| *settled >= calls).await.unwrap();
    }

    pub(super) fn last(&self) -> Settlement {
        self.account().settled.last().unwrap().1
    }
}

impl Ledger for Accounts {
    fn reserve<'a>(
        &'a self,
        charge: &'a Charge,
        worst: Option<MicroUsd>,
    ) -> BoxFuture<'a, Result<(), ReserveError>> {
        Box::pin(async move {
            let mut account = self.account();
            if account.promised.contains_key(&charge.key) {
                return Err(ReserveError::Duplicate);
            }
            let worst = match (worst, account.budget.limit) {
                (None, Some(_)) => return Err(ReserveError::Unpriced),
                (worst, _) => worst.unwrap_or_default(),
            };
            account.budget.reserve(worst)?;
            account.promised.insert(charge.key.clone(), worst);
            Ok(())
        })
    }

    fn settle<'a>(&'a self, charge: &'a Charge, settlement: Settlement) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut account = self.account();
            let worst = account.promised[&charge.key];
            account.budget.settle(worst, settlement.cost);
            account.settled.push((charge.clone(), settlement));
            drop(account);
            self.settlements.send_modify(|settled| *settled += 1);
        })
    }
}
