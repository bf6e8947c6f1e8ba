//! Who calls, and what they may: said by the cluster's API server, asked with the caller's own token. What the server's own
//! account may do counts for nothing here.

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
};
use kube::{Api, Client, Config, api::PostParams, client::Body, config::AuthInfo};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use server::{
    access::{Access, Admission, Callers},
    auth,
    problem::Problem,
    sessions::Caller,
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// How long an answer of the API server counts.
const ANSWERED: Duration = Duration::from_secs(5);
/// How long a token is known after the last time that it was reviewed.
const KEPT: Duration = Duration::from_secs(60);
/// Tokens that are known at once: whoever may make tokens can make many. The one that was reviewed the longest ago goes first.
const AT_MOST: usize = 4096;
/// Questions at once of tokens that nobody knows yet: anybody may send one.
const AT_ONCE: usize = 32;
/// The API server's own bound is far below it.
const TOKEN_BYTES: usize = 16 * 1024;

type Key = [u8; 32];

/// Clients of the API server that act as callers.
pub(crate) struct Clients {
    /// The connections that all share.
    nobody: Client,
    known: Mutex<HashMap<Key, Known>>,
    /// For those that nobody knows yet.
    asking: Semaphore,
}

struct Known {
    /// When it was last found to be one.
    since: Instant,
    /// Who the API server says that it is.
    name: Option<(String, Instant)>,
    may: HashMap<Access, (bool, Instant)>,
}

impl Clients {
    /// # Errors
    /// When no client can be made of the configuration.
    pub(crate) fn new(mut config: Config) -> Result<Self, kube::Error> {
        config.auth_info = AuthInfo::default();
        let nobody = Client::try_from(config)?;
        Ok(Self { nobody, known: Mutex::default(), asking: Semaphore::new(AT_ONCE) })
    }

    /// The API server, as this caller.
    ///
    /// # Errors
    /// When the caller has no token of their own, or it cannot be sent.
    pub(crate) fn of(&self, caller: &Caller) -> Result<Client, Problem> {
        let token = caller.credential.as_deref().ok_or_else(|| unauthorized("this caller has no token"))?;
        self.client(token)
    }

    /// By connections that all share.
    fn client(&self, token: &SecretString) -> Result<Client, Problem> {
        let authorization = authorization(token)?;
        let shared = self.nobody.clone();
        let service = tower::service_fn(move |mut request: http::Request<Body>| {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
            let shared = shared.clone();
            async move { shared.send(request).await }
        });
        Ok(Client::new(service, self.nobody.default_namespace()))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| known.since.elapsed() < KEPT);
        known
    }

    fn knows(&self, token: &SecretString) -> bool {
        self.known().contains_key(&key(token))
    }

    async fn who(&self, token: &SecretString) -> Result<String, Problem> {
        let key = key(token);
        let fresh = |known: &Known| known.name.clone().filter(|(_, at)| at.elapsed() < ANSWERED);
        if let Some((name, _)) = self.known().get(&key).and_then(fresh) {
            return Ok(name);
        }
        // An error: this process ends.
        let turn =
            if self.knows(token) { None } else { Some(self.asking.acquire().await.map_err(|_| busy())?) };
        let review = self.review(token, &SelfSubjectReview::default()).await?;
        drop(turn);
        let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
        let name = user.ok_or_else(|| unauthorized("the cluster does not know whose token this is"))?;
        let now = Instant::now();
        let mut known = self.known();
        make_room(&mut known, &key);
        let one = known.entry(key).or_insert_with(|| Known { since: now, name: None, may: HashMap::new() });
        one.since = now;
        one.name = Some((name.clone(), now));
        Ok(name)
    }

    /// Whether the caller may, by the cluster's own rules.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub(crate) async fn may(&self, caller: &Caller, access: &Access) -> Result<bool, Problem> {
        let token = caller.credential.as_deref().ok_or_else(|| unauthorized("this caller has no token"))?;
        self.may_with(token, access).await
    }

    async fn may_with(&self, token: &SecretString, access: &Access) -> Result<bool, Problem> {
        let key = key(token);
        let fresh = |known: &Known| known.may.get(access).copied().filter(|(_, at)| at.elapsed() < ANSWERED);
        if let Some((may, _)) = self.known().get(&key).and_then(fresh) {
            return Ok(may);
        }
        let answer = self.review(token, &asked(access)).await?;
        let may = answer.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        if let Some(known) = self.known().get_mut(&key) {
            known.may.retain(|_, (_, at)| at.elapsed() < ANSWERED);
            known.may.insert(access.clone(), (may, Instant::now()));
        }
        Ok(may)
    }

    /// Anybody may say anything: nothing is made or kept for a token before it is known to be one.
    async fn review<R>(&self, token: &SecretString, review: &R) -> Result<R, Problem>
    where
        R: kube::Resource<DynamicType = (), Scope = ClusterResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let api = Api::all(self.client(token)?);
        api.create(&PostParams::default(), review).await.map_err(|error| refused(&error))
    }
}

/// For one more.
fn make_room(known: &mut HashMap<Key, Known>, key: &Key) {
    if known.len() < AT_MOST || known.contains_key(key) {
        return;
    }
    if let Some(oldest) = known.iter().min_by_key(|(_, known)| known.since).map(|(key, _)| *key) {
        known.remove(&oldest);
    }
}

fn authorization(token: &SecretString) -> Result<HeaderValue, Problem> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
        .map_err(|_| unauthorized("this is no bearer token"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn asked(access: &Access) -> SelfSubjectAccessReview {
    let group = resources::API_VERSION.split_once('/').map(|(group, _)| group.to_owned());
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group,
                verb: Some(access.verb.to_owned()),
                resource: Some(access.resource.to_owned()),
                namespace: Some(access.project.to_string()),
                name: access.name.clone(),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

impl Callers for Clients {
    fn identify<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, Result<Caller, Problem>> {
        Box::pin(async move {
            let token = sent(headers)?;
            let name = self.who(&token).await?;
            Ok(caller(&name, token))
        })
    }

    fn permit<'a>(&'a self, caller: &'a Caller, access: Access) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move { leave(caller, &access, self.may(caller, &access).await?) })
    }

    fn admit<'a>(
        &'a self,
        headers: &'a HeaderMap,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Admission, Problem>> {
        Box::pin(async move {
            let token = sent(headers)?;
            let (name, may) = if self.knows(&token) {
                let (name, may) = tokio::join!(self.who(&token), self.may_with(&token, access));
                (name?, may)
            } else {
                // A made-up token costs the API server one question.
                (self.who(&token).await?, self.may_with(&token, access).await)
            };
            let caller = caller(&name, token);
            let leave = may.and_then(|may| leave(&caller, access, may));
            Ok((caller, leave))
        })
    }
}

/// The token among these headers.
fn sent(headers: &HeaderMap) -> Result<SecretString, Problem> {
    let token = auth::bearer(headers).filter(|token| !token.is_empty() && token.len() <= TOKEN_BYTES);
    token.map(SecretString::from).ok_or_else(|| {
        unauthorized(
            "send `Authorization: Bearer <token>`: one that `kubectl create token` gives, or your own",
        )
    })
}

fn caller(name: &str, token: SecretString) -> Caller {
    Caller { name: name.into(), credential: Some(Arc::new(token)) }
}

fn leave(caller: &Caller, access: &Access, may: bool) -> Result<(), Problem> {
    if may {
        return Ok(());
    }
    let Access { verb, resource, project, .. } = access;
    let name = model::render::line(&caller.name, 200);
    Err(Problem::forbidden(format!(
        "{name} may not {verb} {resource} in the project {project}: ask whoever administers it for a role there"
    )))
}

fn busy() -> Problem {
    Problem::unavailable("the server ends; try again")
}

fn key(token: &SecretString) -> Key {
    Sha256::digest(token.expose_secret()).into()
}

fn unauthorized(detail: &str) -> Problem {
    Problem::unauthorized(detail)
}

/// What the API server's refusal means for the caller.
pub(crate) fn refused(error: &kube::Error) -> Problem {
    let kube::Error::Api(answer) = error else {
        return Problem::failed("the cluster's API server cannot be asked", error);
    };
    // It speaks of what the caller wrote and of names; it is shown as it is, one line of it.
    let message = model::render::line(&answer.message.as_str().into(), 2000);
    match answer.code {
        401 => Problem::unauthorized("the cluster does not know this token, or it is over: get a new one"),
        403 => Problem::forbidden(message),
        404 => Problem::not_found(message),
        409 => Problem::conflict(message),
        400 | 422 => Problem::invalid(message),
        429 | 503 | 504 => Problem::unavailable("the cluster's API server is busy; try again"),
        _ => Problem::failed("the cluster's API server refused", error),
    }
}

#[cfg(test)]
mod tests;
