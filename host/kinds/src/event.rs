//! Events of objects: what people read at the end of `kubectl describe`.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

/// Bytes of a note, as the API server permits it.
const NOTE: usize = 1024;

/// What is told of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Somebody should look at it.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// What was being done, one word.
    pub action: &'static str,
    /// For people; cut where it is too long.
    pub note: String,
}

/// The Event of an object that is named with its namespace and uid. `by` is its writer's field manager, such as
/// `vteam-server`.
#[must_use]
pub fn event(of: ObjectReference, by: &str, news: News) -> Event {
    let News { warning, reason, action, note } = news;
    let now = jiff::Timestamp::now();
    // Nanoseconds: two of one object never have one name.
    let stamp = format!("{:x}", now.as_nanosecond());
    let kept: String = of.name.iter().flat_map(|name| name.chars()).take(200).collect();
    let part = by.strip_prefix("vteam-").unwrap_or(by);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{stamp}", kept.trim_end_matches(['.', '-']))),
            namespace: of.namespace.clone(),
            ..ObjectMeta::default()
        },
        regarding: Some(of),
        action: Some(action.to_owned()),
        reason: Some(reason),
        note: Some(cut(note, NOTE)),
        type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(format!("vteam.ambient-code/{part}")),
        reporting_instance: Some(by.to_owned()),
        ..Event::default()
    }
}

/// At most this many bytes, whole characters.
#[must_use]
pub fn cut(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let end = (0..=bytes.saturating_sub(4)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ones_are_cut() {
        let text = cut("é".repeat(600), NOTE);
        assert!(text.len() <= NOTE && text.ends_with('…'), "{}", text.len());
        assert_eq!(cut("short".to_owned(), NOTE), "short");
    }

    #[test]
    fn an_event_is_beside_its_object() {
        let named = |text: &str| Some(text.to_owned());
        let of = ObjectReference { name: named("s"), namespace: named("p"), ..ObjectReference::default() };
        let news =
            News { warning: true, reason: "Lost".to_owned(), action: "Run", note: "it is gone".to_owned() };
        let event = event(of, "vteam-operator", news);
        assert!(event.metadata.name.unwrap().starts_with("s."));
        assert_eq!(event.metadata.namespace.as_deref(), Some("p"));
        assert_eq!(event.reporting_controller.as_deref(), Some("vteam.ambient-code/operator"));
        assert_eq!((event.type_.as_deref(), event.reason.as_deref()), (Some("Warning"), Some("Lost")));
    }
}
