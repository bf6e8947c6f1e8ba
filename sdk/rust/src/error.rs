//! A tool's "no", and how the host's becomes it.

use crate::{
    Denial, ToolError,
    bindings::vteam::plugin::{
        changes::ChangeError, model::ModelError, process::StartError, state::StateError,
    },
    http::FetchError,
};

impl ToolError {
    /// The model's input does not fit the world: it should try again differently.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidInput(message.into())
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::NotFound(message.into())
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// A failed operation on a file, by the name that the model knows it by.
    #[must_use]
    pub fn io(path: &str, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::NotFound(format!("{path} does not exist")),
            std::io::ErrorKind::PermissionDenied => Self::InvalidInput(format!(
                "{path} cannot be reached: it leads out of the workspace or may not be read"
            )),
            _ => Self::Failed(format!("{path}: {error}")),
        }
    }
}

impl From<Denial> for ToolError {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<ChangeError> for ToolError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Denied(denial) => Self::Denied(denial),
            ChangeError::Conflict(m) => Self::Failed(format!("the file changed meanwhile: {m}")),
            ChangeError::Invalid(m) | ChangeError::TooLarge(m) => Self::InvalidInput(m),
            ChangeError::Other(other) => Self::Other(other),
        }
    }
}

impl From<StartError> for ToolError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Denied(denial) => Self::Denied(denial),
            StartError::NotFound(m) => Self::NotFound(m),
            StartError::Unavailable(m) => Self::Unavailable(m),
            StartError::Invalid(m) => Self::InvalidInput(m),
            StartError::Other(other) => Self::Other(other),
        }
    }
}

impl From<StateError> for ToolError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Denied(denial) => Self::Denied(denial),
            StateError::Quota(m) => Self::Failed(m),
            StateError::Other(other) => Self::Other(other),
        }
    }
}

impl From<ModelError> for ToolError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Denied(denial) => Self::Denied(denial),
            ModelError::Budget(m) | ModelError::Unavailable(m) => Self::Unavailable(m),
            ModelError::Other(other) => Self::Other(other),
        }
    }
}

impl From<FetchError> for ToolError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Invalid(m) => Self::InvalidInput(m),
            FetchError::Denied(message) => Self::Denied(Denial { effect: "net.fetch".to_owned(), message }),
            FetchError::Failed(m) => Self::Failed(m),
        }
    }
}
