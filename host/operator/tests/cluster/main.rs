//! What people see who write our kinds to a cluster, and what the admission policies keep from them: a real API server,
//! asked by a real kubectl.
//!
//! `cargo test -p operator --test cluster` runs it. `KUBEBUILDER_ASSETS` names a folder with `etcd`, `kube-apiserver` and
//! `kubectl`, of which a server of its own is made; where that is not set, `KUBECONFIG` names a cluster for tests, which
//! keeps `manifests/base` afterwards. With neither it fails.
#![cfg(test)]

mod changes;
mod examples;
mod people;
mod policies;
mod refusals;
mod server;
mod shown;
