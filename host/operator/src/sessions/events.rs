//! What becomes of a session, as Events of its object. They are news and no record: what cannot be written soon is left out,
//! and the status says how it stands.

use super::{draft::Draft, view::View};
use crate::{MANAGER, calls, leader::Leading};
use k8s_openapi::api::{core::v1::ObjectReference, events::v1::Event};
use kinds::News;
use kube::{Api, Client};
use model::lifecycle::{Phase, Reason};
use telemetry::{Shutdown, field::chain};
use tokio::sync::mpsc;

/// That wait to be written.
const WAITING: usize = 256;

pub(crate) struct Events {
    sender: mpsc::Sender<Event>,
    waiting: tokio::sync::Mutex<mpsc::Receiver<Event>>,
}

impl Events {
    pub(crate) fn new() -> Self {
        let (sender, waiting) = mpsc::channel(WAITING);
        Self { sender, waiting: waiting.into() }
    }

    /// Tells of what was just written, where people look for it.
    pub(crate) fn tell(&self, view: &View, draft: &Draft) {
        let reason = draft.status.reason.as_deref().unwrap_or_default();
        let message = draft.status.message.as_deref().unwrap_or_default();
        let Some(news) = news(draft.phase(), reason, message) else { return };
        let kind = kinds::session();
        let of = ObjectReference {
            api_version: Some(kind.api_version),
            kind: Some(kind.kind),
            name: Some(view.name.clone()),
            namespace: Some(view.namespace.clone()),
            uid: Some(view.uid.clone()),
            ..ObjectReference::default()
        };
        if self.sender.try_send(kinds::event(of, MANAGER, news)).is_err() {
            tracing::debug!(session = view.name, "too many Events wait: this one is left out");
        }
    }

    /// Writes them, until shutdown.
    pub(crate) async fn write(&self, client: Client, leading: &Leading, shutdown: &Shutdown) {
        let mut waiting = self.waiting.lock().await;
        while let Some(Some(event)) = shutdown.or(waiting.recv()).await {
            let namespace = event.metadata.namespace.clone().unwrap_or_default();
            let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
            if let Err(error) = calls::write(leading, api.create(&calls::post_params(), &event)).await {
                tracing::debug!(namespace, error = %chain(&error), "an Event is not taken");
            }
        }
    }
}

/// Nothing of what goes as it is to go, until it ends or waits for a person.
fn news(phase: Phase, reason: &str, message: &str) -> Option<News> {
    let warning = match (phase, Reason::from_word(reason)) {
        (Phase::Failed, _) => true,
        (Phase::Completed | Phase::Stopped | Phase::Suspended, _) => false,
        (Phase::Waiting, Reason::ApprovalPending | Reason::QuestionPending) => false,
        (Phase::Waiting, Reason::MessageAwaited | Reason::StoppedByUser) => return None,
        (Phase::Waiting, _) => true,
        (Phase::Pending | Phase::Creating, Reason::Accepted | Reason::RunnerStarting) => return None,
        (Phase::Pending | Phase::Creating, _) => true,
        (Phase::Running | Phase::Suspending | Phase::Stopping, _) => return None,
    };
    let note = match phase {
        _ if message.is_empty() => phase.to_string(),
        // It says so itself.
        Phase::Waiting if !warning => message.to_owned(),
        _ => format!("{phase}: {message}"),
    };
    Some(News { warning, reason: reason.to_owned(), action: "Run", note })
        .filter(|news| !news.reason.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told() {
        let check = |phase, reason: &str, expected: Option<(bool, &str)>| {
            let told = news(phase, reason, "why").map(|news| (news.warning, news.note));
            assert_eq!(told, expected.map(|(warning, note)| (warning, note.to_owned())), "{phase} {reason}");
        };
        check(Phase::Pending, "Accepted", None);
        check(Phase::Pending, "QuotaExceeded", Some((true, "Pending: why")));
        check(Phase::Creating, "RunnerStarting", None);
        check(Phase::Creating, "Unschedulable", Some((true, "Creating: why")));
        check(Phase::Running, "Working", None);
        check(Phase::Waiting, "MessageAwaited", None);
        check(Phase::Waiting, "ApprovalPending", Some((false, "why")));
        check(Phase::Waiting, "TurnLimit", Some((true, "Waiting: why")));
        check(Phase::Completed, "Finished", Some((false, "Completed: why")));
        check(Phase::Failed, "Timeout", Some((true, "Failed: why")));
        check(Phase::Failed, "", None);
    }
}
