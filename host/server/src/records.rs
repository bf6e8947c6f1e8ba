//! Where sessions are recorded: on one machine in the store alone; on a cluster in the object, which people also write
//! with kubectl, and the store follows.

use crate::{
    problem::Problem,
    sessions::{Caller, NewSession, SessionView, Sessions},
};
use futures::future::BoxFuture;
use model::{
    id::{ProjectName, SessionRef},
    plan::Desired,
};

/// What changes the record of a session at a caller's word.
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

    fn remove<'a>(
        &'a self,
        sessions: &'a Sessions,
        _caller: &'a Caller,
        session: &'a SessionRef,
    ) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move { Ok(sessions.delete(session).await?) })
    }
}
