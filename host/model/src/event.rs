//! Events: what the log keeps. AG-UI, the CLI's view and the page are projections of this.
//!
//! Versioned by kind: a kind's meaning never changes, fields are only added and optional, and a reader keeps what it
//! does not know ([`Event::Unknown`]). Each kind has one [`Author`]; the server refuses its own kinds from runners.

use crate::{
    Untrusted,
    approval::{ApprovalRequest, Decision, Question},
    id::{
        AskId, CallId, Digest, Effect, Epoch, MessageId, PersonaKey, PluginId, RunId, RunnerSeq, Seq,
        ToolName, UnixMillis,
    },
    lifecycle::{Phase, Reason},
    message::{Block, StopReason},
    money::{MicroUsd, Usage},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    Server,
    Runner,
}

/// An event as the log holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    pub seq: Seq,
    pub at: UnixMillis,
    /// Set for a runner's event: the unique key that makes a replay harmless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    pub epoch: Epoch,
    pub runner_seq: RunnerSeq,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data")]
pub enum Event {
    // -- written by the server
    #[serde(rename = "session.created")]
    SessionCreated(SessionCreated),
    #[serde(rename = "session.phase")]
    PhaseChanged(PhaseChanged),
    #[serde(rename = "session.warning")]
    Warning(Warning),
    #[serde(rename = "run.started")]
    RunStarted(RunStarted),
    #[serde(rename = "run.finished")]
    RunFinished(RunFinished),
    #[serde(rename = "user.message")]
    UserMessage(UserMessage),
    #[serde(rename = "runner.bound")]
    RunnerBound(RunnerBound),
    #[serde(rename = "runner.lost")]
    RunnerLost(RunnerLost),
    #[serde(rename = "approval.requested")]
    ApprovalRequested(ApprovalRequest),
    #[serde(rename = "approval.decided")]
    ApprovalDecided(ApprovalDecided),
    #[serde(rename = "question.asked")]
    QuestionAsked(Question),
    #[serde(rename = "question.answered")]
    QuestionAnswered(QuestionAnswered),
    #[serde(rename = "usage")]
    Usage(UsageCharged),
    #[serde(rename = "workspace.snapshot")]
    Snapshot(Snapshot),

    // -- written by the runner
    #[serde(rename = "persona.prompted")]
    PersonaPrompted(PersonaPrompted),
    #[serde(rename = "assistant.message")]
    AssistantMessage(AssistantMessage),
    #[serde(rename = "call.intended")]
    CallIntended(CallIntended),
    #[serde(rename = "call.finished")]
    CallFinished(CallFinished),
    #[serde(rename = "plugin.state")]
    PluginState(PluginState),
    #[serde(rename = "plugin.log")]
    PluginLog(PluginLog),
    #[serde(rename = "analysis.judged")]
    AnalysisJudged(AnalysisJudged),
    #[serde(rename = "context.compacted")]
    ContextCompacted(ContextCompacted),
    #[serde(rename = "run.ended")]
    RunEnded(RunEnded),

    /// A kind of a later version, or data of a known kind that does not parse: kept and passed on as it is.
    #[serde(untagged)]
    Unknown(Unknown),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unknown {
    pub kind: String,
    #[serde(default)]
    pub data: Value,
}

impl Event {
    /// Who may write this kind; `None` for one that this version does not know.
    #[must_use]
    pub const fn author(&self) -> Option<Author> {
        match self {
            Self::SessionCreated(_)
            | Self::PhaseChanged(_)
            | Self::Warning(_)
            | Self::RunStarted(_)
            | Self::RunFinished(_)
            | Self::UserMessage(_)
            | Self::RunnerBound(_)
            | Self::RunnerLost(_)
            | Self::ApprovalRequested(_)
            | Self::ApprovalDecided(_)
            | Self::QuestionAsked(_)
            | Self::QuestionAnswered(_)
            | Self::Usage(_)
            | Self::Snapshot(_) => Some(Author::Server),
            Self::PersonaPrompted(_)
            | Self::AssistantMessage(_)
            | Self::CallIntended(_)
            | Self::CallFinished(_)
            | Self::PluginState(_)
            | Self::PluginLog(_)
            | Self::AnalysisJudged(_)
            | Self::ContextCompacted(_)
            | Self::RunEnded(_) => Some(Author::Runner),
            Self::Unknown(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionCreated {
    pub created_by: Untrusted,
    /// The spec as it was accepted, normalised.
    pub spec: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseChanged {
    pub phase: Phase,
    pub reason: Reason,
    #[serde(default)]
    pub message: Untrusted,
}

/// Something the person should know that stops nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    pub reason: String,
    pub message: Untrusted,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunStarted {
    pub run: RunId,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFinished {
    pub run: RunId,
    pub outcome: RunOutcome,
    pub reason: Reason,
    #[serde(default)]
    pub message: Untrusted,
    /// Spent by this run.
    #[serde(default)]
    pub cost: MicroUsd,
    #[serde(default)]
    pub usage: Usage,
    /// Model requests answered.
    #[serde(default)]
    pub turns: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RunOutcome {
    Completed,
    Interrupted,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserMessage {
    pub run: RunId,
    pub message: MessageId,
    pub content: Vec<Block>,
    #[serde(default)]
    pub sent_by: Untrusted,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerBound {
    pub epoch: Epoch,
    pub runner_version: Untrusted,
    pub plugins: Vec<PinnedPlugin>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinnedPlugin {
    pub id: PluginId,
    pub version: String,
    pub digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerLost {
    pub epoch: Epoch,
    pub message: Untrusted,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalDecided {
    pub id: AskId,
    #[serde(flatten)]
    pub decision: Decision,
    pub decided_by: Untrusted,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuestionAnswered {
    pub id: AskId,
    pub answer: Value,
    pub answered_by: Untrusted,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageCharged {
    pub run: RunId,
    pub model: String,
    pub usage: Usage,
    pub cost: MicroUsd,
    /// Of the session, this charge included.
    pub total: MicroUsd,
    /// The answer was cut off; the reserved worst case was charged where upstream's count was not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aborted: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    pub run: RunId,
    /// Blob: unified diff against the baseline.
    pub diff: Digest,
    /// Blob: tar (gzip) of the changed files.
    pub archive: Digest,
    pub files_changed: u64,
    pub added: u64,
    pub removed: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PersonaPrompted {
    pub run: RunId,
    pub persona: PersonaKey,
    pub name: Untrusted,
    pub plugin_digest: Digest,
    /// Of the system prompt as it went to the model.
    pub prompt_digest: Digest,
    /// `act` or `analyse`.
    pub purpose: String,
}

/// A whole answer of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssistantMessage {
    pub run: RunId,
    pub message: MessageId,
    pub model: String,
    pub content: Vec<Block>,
    pub stop_reason: StopReason,
}

/// Written and committed before a call with effects begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallIntended {
    pub run: RunId,
    pub call: CallId,
    /// The message whose block asked for it, and that block's id.
    pub message: MessageId,
    pub tool_use_id: String,
    pub tool: ToolName,
    pub plugin: PluginId,
    pub plugin_digest: Digest,
    /// Canonical, as the component gets it.
    pub input: Value,
    pub effects: Vec<Effect>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallFinished {
    pub run: RunId,
    pub call: CallId,
    pub message: MessageId,
    pub tool_use_id: String,
    /// As the model named it, which may be no tool at all.
    pub tool: Untrusted,
    pub outcome: CallOutcome,
    /// What the model is shown.
    pub content: Vec<Block>,
    /// What the host saw the call do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observations: Vec<Observation>,
    pub duration_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum CallOutcome {
    Done,
    /// A person refused it.
    Denied,
    Failed {
        blame: Blame,
    },
    /// Stopped by a person.
    Interrupted,
    /// The runner ended while it was under way: whether it took effect is not known, and it is not repeated.
    Lost,
    #[serde(untagged)]
    Other(Value),
}

/// Who has to act on a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Blame {
    /// Its input: it can try again differently.
    Model,
    /// The plugin's author: trapped, over its limits, nonsense returned.
    Plugin,
    /// Whoever runs this host: not confined, disk full, not granted.
    Setup,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// `host` for what the host saw itself, `guest` for what the plugin says it did.
    pub by: String,
    pub kind: String,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginState {
    pub plugin: PluginId,
    pub key: String,
    /// Base64; `None` when deleted.
    pub value: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginLog {
    pub plugin: PluginId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
    pub level: String,
    pub text: Untrusted,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisJudged {
    pub run: RunId,
    pub persona: PersonaKey,
    /// 0 for the first answer, at most 2.
    pub revision: u32,
    pub answer: Value,
    pub accepted: bool,
    #[serde(default)]
    pub reasons: Vec<Untrusted>,
}

/// From here on the model is shown `summary` in place of everything up to `upto`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextCompacted {
    pub run: RunId,
    /// The last message that the summary stands for.
    pub upto: MessageId,
    pub summary: Untrusted,
}

/// The runner's word that it is done; the server writes `run.finished`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunEnded {
    pub run: RunId,
    pub end: RunEnd,
    #[serde(default)]
    pub message: Untrusted,
    pub turns: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RunEnd {
    /// The model ended its turn, or an analysis was accepted.
    Done,
    Interrupted,
    TurnLimit,
    Timeout,
    Refused,
    BudgetSpent,
    ModelUnauthorized,
    ModelUnavailable,
    /// An analysis was still not accepted after two revisions.
    NotAccepted,
    PersonaFailed,
    WorkspaceFull,
    /// What it was to begin with cannot be unpacked.
    WorkspaceInvalid,
    Internal,
    #[serde(untagged)]
    Other(String),
}

/// What is shown as it happens and never stored. A reader that joins in mid-message is first given what was said of it so
/// far, from its block 0 on; one that joins later has the whole message in the log instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "camelCase")]
pub enum Live {
    /// A part of an assistant message under way. `index` is its block.
    #[serde(rename_all = "camelCase")]
    MessageDelta { run: RunId, message: MessageId, index: u32, delta: crate::message::Delta },
    /// A block of an assistant message begins; carries its type, and id and name for a tool use.
    #[serde(rename_all = "camelCase")]
    BlockStarted { run: RunId, message: MessageId, index: u32, block: Block },
    /// A part of what a call prints.
    #[serde(rename_all = "camelCase")]
    CallOutput { run: RunId, call: CallId, stream: String, text: Untrusted },
    #[serde(untagged)]
    Unknown(Unknown),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, known: bool) {
        let event: Event = serde_json::from_str(json).unwrap();
        assert_eq!(!matches!(event, Event::Unknown(_)), known, "{json}");
        assert_eq!(
            serde_json::to_value(&event).unwrap(),
            serde_json::from_str::<Value>(json).unwrap(),
            "{json}"
        );
    }

    #[test]
    fn known_and_unknown_kinds_survive_a_round_trip() {
        check(r#"{"kind":"run.started","data":{"run":"r1"}}"#, true);
        check(
            r#"{"kind":"session.phase","data":{"phase":"Failed","reason":"BrandNew","message":"x"}}"#,
            true,
        );
        check(r#"{"kind":"of.tomorrow","data":{"a":[1]}}"#, false);
        check(r#"{"kind":"run.started","data":{"later":true}}"#, false);
        check(
            r#"{"kind":"approval.decided","data":{"id":"a1","decision":"deny","reason":"no","decidedBy":"me"}}"#,
            true,
        );
    }

    #[test]
    fn a_stored_event_is_flat() {
        let json =
            r#"{"seq":1,"at":5,"origin":{"epoch":1,"runnerSeq":2},"kind":"run.started","data":{"run":"r1"}}"#;
        let stored: Stored = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&stored).unwrap(), json);
    }
}
