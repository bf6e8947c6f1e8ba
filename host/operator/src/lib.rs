//! What runs sessions on a cluster. [`crds`] makes the definitions of our kinds of the types in `resources`; `run` watches the
//! objects and makes pods and statuses of them. It opens no database, hosts no plugin and serves nobody but who asks for its
//! health: the rest is the server's.

mod backoff;
mod calls;
mod clock;
pub mod crds;
mod groups;
mod health;
mod leader;
mod metrics;
mod others;
mod policies;
mod projects;
mod run;
mod server;
mod sessions;
mod settings;
mod verbs;

pub use verbs::Verbs;

/// The operator's writes are known by it.
const MANAGER: &str = "vteam-operator";
