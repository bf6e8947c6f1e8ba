//! Who calls, and what each route asks leave for: a verb on a resource of a project, as Kubernetes names them. On one
//! machine whoever holds the token may do everything; on a cluster its API server decides.

use crate::{problem::Problem, sessions::Caller};
use axum::http::{HeaderMap, Method};
use futures::future::BoxFuture;
use model::id::ProjectName;

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

const SESSIONS: &str = "agenticsessions";
const SETTINGS: &str = "projectsettings";

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

/// What a request to this route asks leave for.
///
/// # Errors
/// When the path names a project that cannot be one.
pub(crate) fn of(method: &Method, route: &str, path: &str) -> Result<Option<Access>, Problem> {
    let Some((verb, resource)) = needed(method, route) else { return Ok(None) };
    let mut parts = path.strip_prefix("/api/projects/").unwrap_or_default().split('/');
    let project = parts.next().unwrap_or_default().parse()?;
    let one = route.contains("{session}") && verb != "create";
    let name = parts.nth(1).filter(|_| one).map(str::to_owned);
    Ok(Some(Access { verb, resource, project, name }))
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
        assert!(of(&Method::GET, one, "/api/projects/A%2Fb/agentic-sessions/s").is_err());
    }
}
