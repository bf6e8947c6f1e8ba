//! Debian packages without a Debian installation: chosen by the index of the machine's package sources, written down in a
//! lock file, fetched by digest and unpacked into a tree. No maintainer script runs.

mod fetch;
mod index;
mod lock;
mod package;

pub(crate) use self::{
    fetch::fetch,
    index::resolve,
    lock::{Entry, Lock},
    package::{Control, MERGED, unpack},
};

/// Debian 12. Its `-updates` and `-security` belong to it.
pub(crate) const SUITE: &str = "bookworm";

/// Part of every Debian; reads what sources are set, through the proxies that are set, and judges signatures.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";
