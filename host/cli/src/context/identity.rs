//! Who the server takes us for: the context's user by their own token, or a service account by a token that is asked for.

use crate::exit::{Code, Failure, Outcome};
use http::{Request, Response, header::AUTHORIZATION};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api,
    api::PostParams,
    client::{Body, middleware::AuthLayer},
    config::AuthInfo,
};
use model::id::ProjectName;
use secrecy::SecretString;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use tower::{BoxError, Layer as _, ServiceExt as _, service_fn};

/// The least that a cluster gives.
const LASTS: Duration = Duration::from_secs(600);
/// How long before its end a token is replaced.
const BEFORE: Duration = Duration::from_secs(60);

/// The user of a context.
pub(super) struct User {
    /// What puts their token or password on a request.
    layer: Option<Arc<AuthLayer>>,
    why_none: Option<&'static str>,
}

impl User {
    pub(super) async fn of(info: &AuthInfo, layer: Option<Arc<AuthLayer>>) -> kube::Result<Self> {
        let why_none = match &layer {
            _ if info.impersonate.is_some() => Some("it acts as somebody else, which a token does not say"),
            None => Some(
                "its user is known by a client certificate, which only the cluster's API server can judge",
            ),
            Some(layer) => match bearer(layer).await.map_err(kube::Error::Service)? {
                Some(_) => None,
                None => {
                    Some("its user is known by a password, which only the cluster's API server can judge")
                }
            },
        };
        Ok(Self { layer, why_none })
    }

    pub(super) fn layer(&self) -> Option<&Arc<AuthLayer>> {
        self.layer.as_ref()
    }

    pub(super) fn why_none(&self) -> &'static str {
        self.why_none.unwrap_or_default()
    }

    pub(super) fn token(&self) -> Option<Identity> {
        match (&self.layer, self.why_none) {
            (Some(layer), None) => Some(Identity::Own(Arc::clone(layer))),
            _ => None,
        }
    }
}

pub(crate) enum Identity {
    /// The context's user, by whatever the kubeconfig says: a token, a file, a plugin.
    Own(Arc<AuthLayer>),
    Account(Box<Account>),
}

/// A service account of the project.
pub(crate) struct Account {
    accounts: Api<ServiceAccount>,
    project: ProjectName,
    name: String,
    /// With the time from which it is replaced.
    token: Mutex<Option<(SecretString, Instant)>>,
}

impl Identity {
    pub(super) fn account_of(client: kube::Client, project: &ProjectName, name: &str) -> Self {
        let accounts = Api::namespaced(client, project.as_str());
        let (project, name) = (project.clone(), name.to_owned());
        Self::Account(Box::new(Account { accounts, project, name, token: Mutex::default() }))
    }

    /// # Errors
    /// When there is none to be had.
    pub(crate) async fn token(&self) -> Outcome<SecretString> {
        match self {
            Self::Own(layer) => {
                let token = bearer(layer).await.map_err(|e| {
                    Failure::of(Code::Unauthorized, "the context's token cannot be had: log in again", &*e)
                })?;
                token.ok_or_else(|| Failure::new(Code::Unauthorized, "the context gives no token any more"))
            }
            Self::Account(account) => account.token().await,
        }
    }

    /// As Kubernetes names it.
    pub(crate) fn account(&self) -> Option<String> {
        match self {
            Self::Own(_) => None,
            Self::Account(account) => {
                Some(format!("system:serviceaccount:{}:{}", account.project, account.name))
            }
        }
    }
}

impl Account {
    async fn token(&self) -> Outcome<SecretString> {
        let mut kept = self.token.lock().await;
        if let Some((token, _)) = kept.as_ref().filter(|(_, until)| Instant::now() < *until) {
            return Ok(token.clone());
        }
        let seconds = i64::try_from(LASTS.as_secs()).unwrap_or(600);
        let wanted = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(seconds), ..TokenRequestSpec::default() }),
            ..TokenRequest::default()
        };
        let begun = Instant::now();
        let given = self.accounts.create_token_request(&self.name, &PostParams::default(), &wanted).await;
        let status = given.map_err(|error| self.refused(&error))?.status;
        let token = status.and_then(|status| status.token).ok_or_else(|| {
            Failure::new(Code::Failed, format!("the cluster gave no token of {}", self.name))
        })?;
        let token = SecretString::from(token);
        *kept = Some((token.clone(), begun + LASTS.saturating_sub(BEFORE)));
        Ok(token)
    }

    fn refused(&self, error: &kube::Error) -> Failure {
        let Self { name, project, .. } = self;
        match error {
            kube::Error::Api(answer) if answer.code == 404 => Failure::new(
                Code::NotFound,
                format!(
                    "there is no service account {name} in {project}: name another one, or another --project"
                ),
            ),
            kube::Error::Api(answer) if answer.code == 403 => Failure::new(
                Code::Forbidden,
                format!("you may not ask for a token of {name} in {project}: {}", answer.message),
            ),
            _ => {
                Failure::of(Code::Unreachable, &format!("no token of {name} in {project} can be had"), error)
            }
        }
    }
}

/// The token that a layer puts on a request; `None` where it is no token.
async fn bearer(layer: &AuthLayer) -> Result<Option<SecretString>, BoxError> {
    let seen = service_fn(async |request: Request<Body>| {
        Ok::<_, BoxError>(Response::new(request.headers().get(AUTHORIZATION).cloned()))
    });
    let value = layer.layer(seen).oneshot(Request::new(Body::empty())).await?.into_body();
    let token = value.as_ref().and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    Ok(token.map(|token| SecretString::from(token.trim())))
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(_) => f.write_str("Own"),
            Self::Account(account) => f.debug_tuple("Account").field(&account.name).finish(),
        }
    }
}
