//! Calls of the API server: each has a deadline, and none writes once another operator may work.

use crate::{MANAGER, leader::Leading};
use kube::api::PostParams;
use std::{future::Future, time::Duration};

const DEADLINE: Duration = Duration::from_secs(15);

/// Under the name that everything of the operator is written by.
pub(crate) fn post_params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("the API server refused")]
    Api(#[source] Box<kube::core::Status>),
    #[error("the API server cannot be asked")]
    Transport(#[source] kube::Error),
    #[error("the API server did not answer within {0:?}")]
    Late(Duration),
    #[error("the lease is not held any more: nothing is written")]
    NotLeading,
}

impl CallError {
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Api(status) => Some(status.code),
            _ => None,
        }
    }
}

/// # Errors
/// What the API server says, or that it says nothing.
pub(crate) async fn read<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(CallError::Api(status)),
        Ok(Err(error)) => Err(CallError::Transport(error)),
        Err(_) => Err(CallError::Late(DEADLINE)),
    }
}

/// # Errors
/// As [`read`], and where the lease is lost.
pub(crate) async fn write<T>(
    leading: &Leading,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    if !leading.holds() {
        return Err(CallError::NotLeading);
    }
    read(call).await
}
