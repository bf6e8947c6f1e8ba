//! What runs sessions on a cluster: [`sessions`] brings each AgenticSession to what its plan says, and [`crds`] makes the
//! definitions of our kinds of the types in `resources`. It opens no database, hosts no plugin and serves nobody: that is
//! the server's.

mod backoff;
mod clock;
pub mod crds;
mod kinds;
mod leader;
mod policies;
mod projects;
mod run;
mod server;
mod sessions;
mod settings;
mod verbs;

pub use verbs::Verbs;
