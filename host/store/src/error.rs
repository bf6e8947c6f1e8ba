//! What a caller may have to decide on.

use model::id::Epoch;

/// The store itself is in the way.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the disk of the data folder is full: free space there, or remove old sessions (`vteam sessions rm`), then try again"
    )]
    Full(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the data folder is in use by another server")]
    InUse,
    #[error("the data folder was written by a later release (format {found}, this one knows {known})")]
    Newer { found: i64, known: i64 },
    #[error("{0} is not empty")]
    NotEmpty(std::path::PathBuf),
    #[error("the store failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the store is closed")]
    Closed,
}

#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("the name is taken")]
    Taken,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("the session is gone")]
    Gone,
    /// A newer runner has taken over, or this one was declared lost.
    #[error("epoch {epoch} is revoked")]
    Fenced { epoch: Epoch },
    #[error("the session has stored its {limit} bytes of events")]
    Quota { limit: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("there is no such blob")]
    NotFound,
    #[error("more than {max} bytes")]
    TooLarge { max: u64 },
    #[error("the bytes are not those of the digest")]
    WrongDigest,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full(error.into()),
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::Full(error.into()),
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<rusqlite::Error> for BlobError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<std::io::Error> for BlobError {
    fn from(error: std::io::Error) -> Self {
        Self::Store(error.into())
    }
}
