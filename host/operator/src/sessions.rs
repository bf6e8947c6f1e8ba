//! AgenticSessions: each is brought to what its plan says, one at a time and as often as something of it changes.
//!
//! [`object`] and [`pods`] read what there is, [`decide`] says what is to be (pure: no clock, no client), [`pod`] says what a
//! runner's pod is, and [`reconcile`] does it.

pub(crate) mod decide;
pub(crate) mod object;
pub(crate) mod pod;
pub(crate) mod pods;
pub(crate) mod reconcile;
pub(crate) mod status;
