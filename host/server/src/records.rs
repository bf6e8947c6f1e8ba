//! Where sessions are recorded: on one machine in the store alone; on a cluster in the object, which people also write
//! with kubectl, and the store follows.

use crate::{
    problem::Problem,
    sessions::{Caller, Decided, NewSession, SessionView, Sessions},
};
use futures::future::BoxFuture;
use model::{
    Untrusted,
    id::{ProjectName, SessionRef, SessionUid, UnixMillis},
    plan::Desired,
};
use serde_json::Value;

/// A session that is on record and that this server does not run, as what it says is not accepted.
#[derive(Debug, Clone)]
pub struct Refused {
    pub uid: SessionUid,
    pub reference: SessionRef,
    pub created_at: UnixMillis,
    pub created_by: Untrusted,
    /// Its phase, and why.
    pub decided: Decided,
}

/// A session that is on record.
pub enum Record {
    /// It runs here; with what its object warns of and only whoever makes its pods knows.
    Taken(Box<SessionView>, Vec<Value>),
    /// It does not: the object as it is written.
    Object(Value),
}

/// What reads and changes the record of a session at a caller's word.
pub trait Records: Send + Sync + 'static {
    /// # Errors
    /// When the name is taken or the caller may not.
    fn create<'a>(
        &'a self,
        sessions: &'a Sessions,
        caller: &'a Caller,
        project: &'a ProjectName,
        new: NewSession,
    ) -> BoxFuture<'a, Result<SessionView, Problem>>;

    /// What the caller wants of the session from now on.
    ///
    /// # Errors
    /// When there is none or the caller may not.
    fn want<'a>(
        &'a self,
        sessions: &'a Sessions,
        caller: &'a Caller,
        session: &'a SessionRef,
        desired: Desired,
    ) -> BoxFuture<'a, Result<SessionView, Problem>>;

    /// Before a message: a session that was stopped is wanted again.
    ///
    /// # Errors
    /// As [`Records::want`].
    fn wake<'a>(
        &'a self,
        sessions: &'a Sessions,
        caller: &'a Caller,
        session: &'a SessionRef,
    ) -> BoxFuture<'a, Result<(), Problem>>;

    /// Waits, not for long, for a session that is on record and that the server has not heard of yet.
    fn heard_of<'a>(
        &'a self,
        _sessions: &'a Sessions,
        _caller: &'a Caller,
        _session: &'a SessionRef,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    /// What is on record and does not run.
    fn refused(&self, _project: &ProjectName) -> Vec<Refused> {
        Vec::new()
    }

    /// One session, as the caller finds it on record.
    ///
    /// # Errors
    /// When there is none or the caller may not.
    fn read<'a>(
        &'a self,
        sessions: &'a Sessions,
        caller: &'a Caller,
        session: &'a SessionRef,
    ) -> BoxFuture<'a, Result<Record, Problem>>;

    /// # Errors
    /// As [`Records::want`].
    fn remove<'a>(
        &'a self,
        sessions: &'a Sessions,
        caller: &'a Caller,
        session: &'a SessionRef,
    ) -> BoxFuture<'a, Result<(), Problem>>;
}

/// The store is the record.
pub struct InStore;

impl Records for InStore {
    fn create<'a>(
        &'a self,
        sessions: &'a Sessions,
        caller: &'a Caller,
        project: &'a ProjectName,
        new: NewSession,
    ) -> BoxFuture<'a, Result<SessionView, Problem>> {
        Box::pin(async move { Ok(sessions.create(caller, project, new).await?) })
    }

    fn want<'a>(
        &'a self,
        sessions: &'a Sessions,
        _caller: &'a Caller,
        session: &'a SessionRef,
        desired: Desired,
    ) -> BoxFuture<'a, Result<SessionView, Problem>> {
        Box::pin(async move { Ok(sessions.set_desired(session, desired).await?) })
    }

    fn wake<'a>(
        &'a self,
        _sessions: &'a Sessions,
        _caller: &'a Caller,
        _session: &'a SessionRef,
    ) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async { Ok(()) })
    }

    fn read<'a>(
        &'a self,
        sessions: &'a Sessions,
        _caller: &'a Caller,
        session: &'a SessionRef,
    ) -> BoxFuture<'a, Result<Record, Problem>> {
        Box::pin(async move { Ok(Record::Taken(Box::new(sessions.get(session).await?), vec![])) })
    }

    fn remove<'a>(
        &'a self,
        sessions: &'a Sessions,
        _caller: &'a Caller,
        session: &'a SessionRef,
    ) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move { Ok(sessions.delete(session).await?) })
    }
}
