//! What a caller may have to decide on.

use protocol::control::RequestError;
use store::{AppendError, BlobError, CreateError, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(
        "no session of this name runs or ran in this project; `vteam sessions ls` lists those that did, and those that were not accepted"
    )]
    NotFound,
    #[error("a session of this name exists: choose another name, or delete that one")]
    NameTaken,
    /// Nothing of that id waits for a person.
    #[error("nothing of this id waits for an answer")]
    NothingPending,
    /// Not in this state; the text says why and what to do.
    #[error("{0}")]
    Conflict(String),
    #[error(
        "its workspace ended with its pod, and nothing can go on in it: start a new session, with workspace.persistent where one \
         is to take further messages after it came to rest"
    )]
    WorkspaceGone,
    #[error("the session has stored its {limit} bytes of events: start a new one")]
    Quota { limit: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the server is shutting down")]
    Closed,
}

#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The session has no runner, and its last snapshot does not hold this.
    #[error(
        "the session is asleep and left nothing of this: send it a message to wake it, then ask again (one whose workspace went \
         with its pod cannot be woken)"
    )]
    NotAwake,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the runner did not answer in time")]
    Timeout,
}

/// Why a runner is sent away.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("this runner's epoch is over")]
    Stale,
    /// It is to come again: whoever counts the runners has not counted it yet.
    #[error("this runner is not counted yet")]
    NotYet,
    #[error("the session does not run")]
    NotWanted,
    #[error("this server speaks other versions of the protocol")]
    Version,
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl From<AppendError> for SessionError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Gone => Self::NotFound,
            AppendError::Quota { limit } => Self::Quota { limit },
            // Only a runner's events are fenced, and they do not come through here.
            AppendError::Fenced { epoch } => Self::Conflict(format!("epoch {epoch} is revoked")),
            AppendError::Store(error) => Self::Store(error),
        }
    }
}

impl From<CreateError> for SessionError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Taken => Self::NameTaken,
            CreateError::Store(error) => Self::Store(error),
        }
    }
}

impl From<BlobError> for SessionError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Store(error) => Self::Store(error),
            other => Self::Conflict(other.to_string()),
        }
    }
}

impl From<StoreError> for FilesError {
    fn from(error: StoreError) -> Self {
        Self::Session(error.into())
    }
}
