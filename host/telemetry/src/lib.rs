//! What every process of vteam needs to be operated: log set-up ([`log`]), fixed names of span fields ([`field`]),
//! metrics ([`metrics`]), health ([`health`]), and who owns the tasks and ends them ([`supervisor`]).
//!
//! It knows nothing of sessions beyond the names of fields, and reads neither the environment nor a file.

pub mod field;
pub mod health;
pub mod log;
pub mod metrics;
pub mod supervisor;

pub use health::Health;
pub use metrics::Metrics;
pub use supervisor::{Shutdown, Supervisor};
