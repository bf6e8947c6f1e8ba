//! Sessions that are objects and that the server does not run: people are shown them with the others, with why.

use crate::objects::Seen;
use model::id::{ProjectName, SessionRef, SessionUid};
use server::records::Refused;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Of one project that are shown in lists; each can be looked at by its name.
const MOST: usize = 100;

#[derive(Default)]
pub(crate) struct Refusals(Mutex<HashMap<ProjectName, HashMap<SessionUid, Refused>>>);

impl Refusals {
    pub(crate) fn note(&self, seen: &Seen) {
        let mut all = self.lock();
        let of = all.entry(seen.reference.project.clone()).or_default();
        if of.len() < MOST || of.contains_key(&seen.uid) {
            of.insert(seen.uid.clone(), seen.refused());
        }
    }

    /// It is gone, or runs.
    pub(crate) fn forget(&self, uid: &SessionUid, session: &SessionRef) {
        let mut all = self.lock();
        if let Some(of) = all.get_mut(&session.project) {
            of.remove(uid);
            if of.is_empty() {
                all.remove(&session.project);
            }
        }
    }

    /// All but those that are there.
    pub(crate) fn keep(&self, is_there: impl Fn(&SessionUid) -> bool) {
        let mut all = self.lock();
        all.values_mut().for_each(|of| of.retain(|uid, _| is_there(uid)));
        all.retain(|_, of| !of.is_empty());
    }

    pub(crate) fn of(&self, project: &ProjectName) -> Vec<Refused> {
        self.lock().get(project).into_iter().flat_map(HashMap::values).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProjectName, HashMap<SessionUid, Refused>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
