//! Who calls, and what each route asks leave for: a verb on a resource of a project, as Kubernetes names them. On one
//! machine whoever holds the token may do everything; on a cluster its API server decides.

use crate::{problem::Problem, sessions::Caller};
use axum::http::{HeaderMap, Method, StatusCode};
use futures::future::BoxFuture;
use model::id::{ProjectName, SessionName, SessionRef};
use resources::authority::{self, SESSIONS, SETTINGS};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// How often a stream that lasts asks again, and how long it waits for the answer.
pub const AGAIN: Duration = Duration::from_secs(10);

/// Who it is, and whether they may.
pub type Admission = (Caller, Result<(), Problem>);

/// Who callers are and what they may do.
pub trait Callers: Send + Sync + 'static {
    /// Who sent these headers.
    ///
    /// # Errors
    /// 401, with what to send.
    fn identify<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, Result<Caller, Problem>>;

    /// # Errors
    /// 403, with what they would have to be allowed.
    fn permit<'a>(&'a self, caller: &'a Caller, access: Access) -> BoxFuture<'a, Result<(), Problem>>;

    /// Both.
    ///
    /// # Errors
    /// As [`Self::identify`].
    fn admit<'a>(
        &'a self,
        headers: &'a HeaderMap,
        access: &'a Access,
    ) -> BoxFuture<'a, Result<Admission, Problem>> {
        Box::pin(async move {
            let caller = self.identify(headers).await?;
            let leave = self.permit(&caller, access.clone()).await;
            Ok((caller, leave))
        })
    }
}

/// What somebody asks leave for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Access {
    pub verb: &'static str,
    /// In the group of our kinds.
    pub resource: &'static str,
    pub project: ProjectName,
    /// Of one object; absent: all of the project.
    pub name: Option<String>,
}

/// How the leave for a request was asked: to ask again while its answer lasts.
#[derive(Clone)]
pub(crate) struct Leave {
    pub(crate) headers: HeaderMap,
    pub(crate) access: Option<Access>,
}

impl Leave {
    /// # Errors
    /// 401 or 403, or why there is no answer.
    async fn ask(&self, callers: &dyn Callers) -> Result<(), Problem> {
        match &self.access {
            Some(access) => callers.admit(&self.headers, access).await?.1,
            None => callers.identify(&self.headers).await.map(|_| ()),
        }
    }

    /// Returns once the answer is no. One that cannot be had changes nothing: whoever reads was let in.
    pub(crate) async fn taken_back(self, callers: Arc<dyn Callers>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            if let Ok(Err(problem)) = tokio::time::timeout(AGAIN, self.ask(&*callers)).await
                && (problem.status == StatusCode::UNAUTHORIZED || problem.status == StatusCode::FORBIDDEN)
            {
                return;
            }
        }
    }
}

/// The verb and resource of a route, by its method and template. `None`: whoever is known may.
fn needed(method: &Method, route: &str) -> Option<(&'static str, &'static str)> {
    let rest = route.strip_prefix("/api/projects/{project}")?;
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let session = rest.strip_prefix("/agentic-sessions/{session}");
    Some(match (session, rest) {
        (Some("/clone"), _) => ("create", SESSIONS),
        (Some(""), _) if *method == Method::DELETE => ("delete", SESSIONS),
        (Some(_), _) if reads => ("get", SESSIONS),
        (Some(_), _) => ("update", SESSIONS),
        (None, "/agentic-sessions") if reads => ("list", SESSIONS),
        (None, "/agentic-sessions" | "/archives") => ("create", SESSIONS),
        (None, _) if reads => ("get", SETTINGS),
        (None, "") if *method == Method::DELETE => ("delete", SETTINGS),
        (None, _) => ("update", SETTINGS),
    })
}

/// Before an object is written in place of another, or of none: each field that carries authority takes a verb of its own
/// where it says something else now. A cluster refuses the same whatever it is written with; here it is told all at once.
///
/// # Errors
/// 403, with each field and its verb.
pub(crate) async fn fields(
    callers: &dyn Callers,
    caller: &Caller,
    (resource, project): (&'static str, &ProjectName),
    before: Option<&Value>,
    now: &Value,
) -> Result<(), Problem> {
    let mut errors = Vec::new();
    for authority in authority::changed(resource, before, Some(now)) {
        let access = Access { verb: authority.verb, resource, project: project.clone(), name: None };
        match callers.permit(caller, access).await {
            Err(problem) if problem.status == StatusCode::FORBIDDEN => {
                let (field, message) = (authority.field(), authority.message());
                errors.push(resources::Problem { field, message });
            }
            other => other?,
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    let detail = errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>().join("; ");
    Err(Problem { errors, ..Problem::forbidden(detail) })
}

/// What a request to this route asks leave for.
///
/// # Errors
/// When the path names a project or session that cannot be one.
pub(crate) fn of(method: &Method, route: &str, path: &str) -> Result<Option<Access>, Problem> {
    let Some((verb, resource)) = needed(method, route) else { return Ok(None) };
    let (project, name) = named(path);
    let one = route.contains("{session}") && verb != "create";
    let name = name.filter(|_| one).map(str::parse::<SessionName>).transpose()?;
    let name = name.map(|name| name.to_string());
    Ok(Some(Access { verb, resource, project: project.parse()?, name }))
}

/// Who copies a session sees what it says.
///
/// # Errors
/// 403, where one may not be read.
pub(crate) async fn reads(
    callers: &dyn Callers,
    caller: &Caller,
    session: &SessionRef,
) -> Result<(), Problem> {
    let (project, name) = (session.project.clone(), Some(session.name.to_string()));
    callers.permit(caller, Access { verb: "get", resource: SESSIONS, project, name }).await
}

/// What a path names below the projects: one of them, and an object in it.
pub(crate) fn named(path: &str) -> (&str, Option<&str>) {
    let mut parts = path.strip_prefix("/api/projects/").unwrap_or_default().split('/');
    (parts.next().unwrap_or_default(), parts.nth(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every route that is documented, with what it asks leave for.
    #[test]
    fn every_route_asks_leave() {
        let (_, openapi) = crate::api::documented();
        let mut table = String::new();
        for (route, item) in &openapi.paths.paths {
            let methods = [
                (Method::GET, &item.get),
                (Method::PUT, &item.put),
                (Method::POST, &item.post),
                (Method::DELETE, &item.delete),
            ];
            for (method, _) in methods.iter().filter(|(_, operation)| operation.is_some()) {
                let needs = needed(method, route)
                    .map_or("whoever is known".to_owned(), |(verb, resource)| format!("{verb} {resource}"));
                table.push_str(&format!("{method} {route}: {needs}\n"));
            }
        }
        insta::assert_snapshot!(table);
    }

    /// May do this and nothing else.
    struct Only(&'static str);

    impl Callers for Only {
        fn identify<'a>(&'a self, _: &'a HeaderMap) -> BoxFuture<'a, Result<Caller, Problem>> {
            Box::pin(async { Ok(Caller { name: "ada".into(), credential: None }) })
        }

        fn permit<'a>(&'a self, _: &'a Caller, access: Access) -> BoxFuture<'a, Result<(), Problem>> {
            let may = access.verb == self.0;
            Box::pin(async move { if may { Ok(()) } else { Err(Problem::forbidden("no")) } })
        }
    }

    #[tokio::test]
    async fn each_field_takes_its_verb() {
        let spec = serde_json::json!({"permissionMode": "bypass", "budget": 5, "prompt": "p"});
        let (caller, project) = (Only("").identify(&HeaderMap::new()).await.unwrap(), "p".parse().unwrap());
        let check = async |may: &'static str, before: Option<&Value>, expected: &[&str]| {
            let refused = fields(&Only(may), &caller, (SESSIONS, &project), before, &spec).await;
            let problem = refused.err();
            assert_eq!(problem.as_ref().map(|problem| problem.status), (!expected.is_empty()).then_some(403));
            let errors = problem.into_iter().flat_map(|problem| problem.errors);
            let refused: Vec<_> = errors.map(|error| error.message).collect();
            assert_eq!(refused.len(), expected.len(), "{refused:?}");
            assert!(refused.iter().zip(expected).all(|(said, verb)| said.contains(verb)), "{refused:?}");
        };
        check("get", None, &["bypass-approvals", "set-budget"]).await;
        check("set-budget", None, &["bypass-approvals"]).await;
        check("get", Some(&spec), &[]).await;
    }

    #[test]
    fn names_are_of_the_path() {
        let check =
            |method: Method, route: &str, path: &str, expected: Option<(&str, &str, Option<&str>)>| {
                let access = of(&method, route, path).unwrap();
                let seen = access.as_ref().map(|a| (a.verb, a.project.as_str(), a.name.as_deref()));
                assert_eq!(seen, expected, "{method} {path}");
            };
        let one = "/api/projects/{project}/agentic-sessions/{session}";
        check(Method::GET, one, "/api/projects/a/agentic-sessions/s", Some(("get", "a", Some("s"))));
        check(
            Method::POST,
            &format!("{one}/agui/run"),
            "/api/projects/a/agentic-sessions/s/agui/run",
            Some(("update", "a", Some("s"))),
        );
        check(
            Method::POST,
            &format!("{one}/clone"),
            "/api/projects/a/agentic-sessions/s/clone",
            Some(("create", "a", None)),
        );
        check(Method::GET, "/api/projects", "/api/projects", None);
        // Who asks is told of the name that is acted on, so that it is written in one way only.
        for path in ["A%2Fb/agentic-sessions/s", "a/agentic-sessions/%73", "a/agentic-sessions/S"] {
            assert!(of(&Method::GET, one, &format!("/api/projects/{path}")).is_err(), "{path}");
        }
    }
}
