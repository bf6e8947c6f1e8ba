//! The life of a session: one closed table.

use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Accepted, not yet given to a runner.
    Pending,
    /// A runner is being started.
    Creating,
    /// A run is under way.
    Running,
    /// For a person: an approval, an answer, or (interactive) the next message.
    Waiting,
    Suspending,
    Suspended,
    Stopping,
    Stopped,
    Completed,
    Failed,
}

impl Phase {
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Creating,
        Self::Running,
        Self::Waiting,
        Self::Suspending,
        Self::Suspended,
        Self::Stopping,
        Self::Stopped,
        Self::Completed,
        Self::Failed,
    ];

    /// Nothing happens any more unless a person asks for it.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Suspended | Self::Stopped | Self::Completed | Self::Failed)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What moves a session on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Trigger {
    /// A runner is started for it.
    RunnerStarted,
    /// The runner dialled in and was given work.
    RunBegun,
    /// Something waits for a person.
    Asked,
    /// Nothing waits any more.
    Answered,
    /// The run ended and the session stays open for messages.
    RunIdle,
    /// The run ended and so did the session.
    RunCompleted,
    /// A further message.
    Message,
    /// The runner is gone and another one may follow.
    RunnerLost,
    StopRequested,
    SuspendRequested,
    /// A stopping or suspending session has no runner any more.
    RunnerGone,
    /// A reason from which there is no way on.
    Failed,
}

impl Trigger {
    pub const ALL: [Self; 12] = [
        Self::RunnerStarted,
        Self::RunBegun,
        Self::Asked,
        Self::Answered,
        Self::RunIdle,
        Self::RunCompleted,
        Self::Message,
        Self::RunnerLost,
        Self::StopRequested,
        Self::SuspendRequested,
        Self::RunnerGone,
        Self::Failed,
    ];
}

/// The phase after `trigger`, or `None` where it means nothing in this phase (the caller ignores it and says so in its
/// log). Total: each pair is decided here.
#[must_use]
pub const fn step(from: Phase, trigger: Trigger) -> Option<Phase> {
    use Phase::{
        Completed, Creating, Failed, Pending, Running, Stopped, Stopping, Suspended, Suspending, Waiting,
    };
    use Trigger as T;
    match (from, trigger) {
        (Pending, T::RunnerStarted) => Some(Creating),
        (Creating | Waiting, T::RunBegun) => Some(Running),
        (Running, T::Asked | T::RunIdle) => Some(Waiting),
        (Creating, T::Asked | T::RunIdle) => Some(Waiting),
        (Waiting, T::Answered) => Some(Running),
        (Waiting, T::Message) => Some(Running),
        (Running | Waiting, T::RunCompleted) => Some(Completed),
        (Suspended | Stopped | Completed | Failed, T::Message) => Some(Pending),
        (Creating | Running | Waiting, T::RunnerLost) => Some(Pending),
        (Pending | Suspended, T::StopRequested) => Some(Stopped),
        (Creating | Running | Waiting | Suspending, T::StopRequested) => Some(Stopping),
        (Pending, T::SuspendRequested) => Some(Suspended),
        (Creating | Running | Waiting, T::SuspendRequested) => Some(Suspending),
        (Stopping, T::RunnerGone | T::RunnerLost) => Some(Stopped),
        (Suspending, T::RunnerGone | T::RunnerLost) => Some(Suspended),
        (Pending | Creating | Running | Waiting | Suspending | Stopping, T::Failed) => Some(Failed),
        _ => None,
    }
}

/// Why a session is in its phase. Open on the wire: an unknown reason is shown as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    Accepted,
    RunnerStarting,
    RunnerLost,
    Working,
    ApprovalPending,
    QuestionPending,
    /// Interactive and idle.
    MessageAwaited,
    Finished,
    StoppedByUser,
    Inactivity,
    Timeout,
    TurnLimit,
    BudgetSpent,
    ModelUnauthorized,
    ModelUnavailable,
    PersonaMissing,
    PluginMissing,
    NotConfined,
    WorkspaceLost,
    WorkspaceFull,
    /// What it was to begin with cannot be unpacked.
    WorkspaceInvalid,
    RunnerCrashLoop,
    Internal,
    #[serde(untagged)]
    Other(String),
}

impl Reason {
    /// The one that is written so.
    #[must_use]
    pub fn from_word(word: impl Into<String>) -> Self {
        let word = word.into();
        let read = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&word);
        Self::deserialize(read).unwrap_or_else(|_| Self::Other(word.clone()))
    }

    /// As it is written: one word.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Other(other) => other.clone(),
            known => format!("{known:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words() {
        for reason in [Reason::RunnerCrashLoop, Reason::Other("OOMKilled".to_owned())] {
            assert_eq!(Reason::from_word(reason.word()), reason);
        }
    }

    #[test]
    fn the_whole_table() {
        let mut table = String::new();
        for from in Phase::ALL {
            for trigger in Trigger::ALL {
                if let Some(to) = step(from, trigger) {
                    table.push_str(&format!("{from} + {trigger:?} -> {to}\n"));
                }
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn settled_phases_are_left_by_people_only() {
        for from in Phase::ALL.into_iter().filter(|p| p.is_settled()) {
            for trigger in Trigger::ALL {
                if step(from, trigger).is_some() {
                    assert!(
                        matches!(trigger, Trigger::Message | Trigger::StopRequested),
                        "{from} leaves by {trigger:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_phase_can_end() {
        for from in Phase::ALL.into_iter().filter(|p| !p.is_settled()) {
            assert_eq!(step(from, Trigger::Failed), Some(Phase::Failed), "{from}");
        }
    }
}
