//! AgenticSession, ProjectSettings and RFEWorkflow as people write them in YAML or post them as JSON, and their one
//! conversion into model types: [`Accepted`] and [`ProjectPolicy`]. It knows nothing of HTTP, storage or Kubernetes
//! clients; what a cluster has to know beside the types (bounds, rules) stands in their schemas.
//!
//! Every field that is accepted is enforced by whoever uses the model type, or is named in a warning.

mod accepted;
pub mod authority;
pub mod condition;
mod invalid;
pub mod mcp;
pub mod project;
mod quantity;
pub mod rfe_workflow;
mod rules;
mod schema;
pub mod session;

pub use accepted::{Accepted, ProcessNetwork, Source};
pub use condition::{Condition, ConditionStatus};
pub use invalid::{Invalid, Problem};
pub use project::{ProjectPolicy, ProjectSettings, ProjectSettingsSpec, ProjectSettingsStatus};
pub use quantity::{InvalidQuantity, Quantity};
pub use rfe_workflow::{RfeWorkflow, RfeWorkflowSpec, RfeWorkflowStatus};
pub use rules::{Reason as RuleReason, Rule};
pub use session::{AgenticSession, AgenticSessionSpec, status::AgenticSessionStatus};

/// The group and version of all kinds.
pub const API_VERSION: &str = "vteam.ambient-code/v1alpha1";
