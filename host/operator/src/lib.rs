//! What runs sessions on a cluster. So far it knows its kinds: [`crds`] makes their definitions of the types in
//! `resources`. It opens no database, hosts no plugin and serves nobody: that is the server's.

pub mod crds;
mod verbs;

pub use verbs::Verbs;
