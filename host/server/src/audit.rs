//! Who did what: a line of the log for each request that changes something, and for each that is refused. Its target is
//! `audit`, so that it can be told from the rest; nothing of what was written is in it.

use crate::{access::Access, sessions::Caller};
use axum::{
    http::{Method, StatusCode},
    response::Response,
};
use model::{Untrusted, id::SessionName, render};

/// Bytes of a caller's name.
const NAME: usize = 200;

/// In a response: the session that was made, which no path names.
#[derive(Debug, Clone)]
pub(crate) struct Made(pub(crate) SessionName);

/// A request under way. It is told of once, also when nobody waits for its answer any more.
pub(crate) struct Record {
    method: Method,
    route: String,
    access: Option<Access>,
    who: Option<String>,
    told: bool,
}

impl Record {
    pub(crate) fn new(method: Method, route: Option<&str>, access: Option<Access>) -> Self {
        let route = route.unwrap_or("none").to_owned();
        Self { method, route, access, who: None, told: false }
    }

    pub(crate) fn by(&mut self, caller: &Caller) {
        self.who = Some(named(&caller.name));
    }

    pub(crate) fn answered(&mut self, response: &Response) {
        let made = response.extensions().get::<Made>().map(|Made(name)| name.as_str());
        self.tell(Some(response.status()), made);
    }

    fn tell(&mut self, status: Option<StatusCode>, made: Option<&str>) {
        self.told = true;
        let outcome = match status {
            None => "unanswered",
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => "refused",
            Some(status) if status.is_client_error() || status.is_server_error() => "failed",
            Some(_) => "done",
        };
        let reads = matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if reads && outcome != "refused" {
            return;
        }
        let access = self.access.as_ref();
        let name = made.or(access.and_then(|access| access.name.as_deref()));
        let session = access.zip(name).map(|(access, name)| {
            let name = render::line(&name.into(), NAME);
            format!("{}/{name}", access.project)
        });
        tracing::info!(
            target: "audit",
            who = self.who.as_deref().unwrap_or("unknown"),
            verb = access.map_or("", |access| access.verb),
            resource = access.map_or("", |access| access.resource),
            project = access.map_or("", |access| access.project.as_str()),
            session = session.as_deref().unwrap_or(""),
            method = %self.method,
            route = self.route,
            status = status.map_or(0, |status| status.as_u16()),
            outcome,
            "request"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.told {
            self.tell(None, None);
        }
    }
}

fn named(name: &Untrusted) -> String {
    render::line(name, NAME)
}
