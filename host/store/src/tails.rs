//! Who waits for a session's next event. One wake-up per flush, however many events it had.

use model::id::{Seq, SessionUid};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

#[derive(Default)]
pub(crate) struct Tails(Mutex<HashMap<SessionUid, watch::Sender<Seq>>>);

impl Tails {
    pub(crate) fn subscribe(&self, uid: &SessionUid) -> watch::Receiver<Seq> {
        let mut tails = self.lock();
        tails.retain(|id, sender| id == uid || sender.receiver_count() > 0);
        tails.entry(uid.clone()).or_insert_with(|| watch::Sender::new(Seq(0))).subscribe()
    }

    /// Never lowers.
    pub(crate) fn raise(&self, uid: &SessionUid, to: Seq) {
        if let Some(sender) = self.lock().get(uid) {
            sender.send_if_modified(|seq| {
                let raised = to > *seq;
                *seq = to.max(*seq);
                raised
            });
        }
    }

    pub(crate) fn close(&self, uid: &SessionUid) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionUid, watch::Sender<Seq>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
