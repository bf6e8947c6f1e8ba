//! What a server is shown to know us by.

use super::Address;
use crate::{context::Identity, exit::Outcome};
use secrecy::SecretString;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(crate) enum Credential {
    Token(SecretString),
    /// That the context of a cluster gives, renewed before it ends.
    Context(Arc<Identity>),
}

impl Credential {
    /// # Errors
    /// When there is none to be had.
    pub(crate) async fn token(&self) -> Outcome<SecretString> {
        match self {
            Self::Token(token) => Ok(token.clone()),
            Self::Context(identity) => identity.token().await,
        }
    }

    /// A service account, where we are one for another's sake.
    pub(crate) fn acts_as(&self) -> Option<String> {
        match self {
            Self::Token(_) => None,
            Self::Context(identity) => identity.account(),
        }
    }

    /// Where it is not taken.
    pub(super) fn what_to_do(&self, address: &Address) -> String {
        match (self, address) {
            (Self::Token(_), Address::Socket(_)) => {
                "is --token-file the one that `vteam up` names?".to_owned()
            }
            (Self::Token(_), Address::Url { url, .. }) if !url.starts_with("https:") => {
                "is --token-file the one that `vteam up` names?".to_owned()
            }
            (Self::Token(_), _) => {
                "for a cluster, `kubectl create token ACCOUNT --namespace PROJECT` gives one".to_owned()
            }
            (Self::Context(_), _) => {
                "log in to the cluster again, as for kubectl, or give --service-account NAME".to_owned()
            }
        }
    }
}
