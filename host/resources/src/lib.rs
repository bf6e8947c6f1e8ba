//! AgenticSession and ProjectSettings as people write them in YAML or post them as JSON, and their one conversion into
//! model types: [`Accepted`] and [`ProjectPolicy`]. It knows nothing of HTTP, storage or Kubernetes clients.
//!
//! Every field that is accepted is enforced by whoever uses the model type, or is named in a warning.

mod accepted;
mod invalid;
pub mod project;
pub mod session;

pub use accepted::{Accepted, ProcessNetwork, Source};
pub use invalid::{Invalid, Problem};
pub use project::{ProjectPolicy, ProjectSettings, ProjectSettingsSpec};
pub use session::{AgenticSession, AgenticSessionSpec};

/// The group and version of all kinds.
pub const API_VERSION: &str = "vteam.ambient-code/v1alpha1";
