//! The operator's half of a session's status: the copy that is decided on, and how it is written.

use super::{
    object::{Session, Task},
    pods::Seen,
};
use crate::clock;
use model::{
    id::UnixMillis,
    lifecycle::{Phase, Reason},
    render,
};
use resources::{
    condition::{Condition, ConditionStatus, operator as kinds},
    session::{
        OF_ONE_MACHINE,
        status::{OperatorStatus, StoppedReason},
    },
};
use serde_json::{Value, json};

const MESSAGE_CHARACTERS: usize = 2000;

/// What the status is to say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Next {
    pub(crate) phase: Phase,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) epoch: u64,
    pub(crate) pod_name: Option<String>,
    pub(crate) pod_uid: Option<String>,
    pub(crate) pod_restarts: u32,
    pub(crate) workspace_used: bool,
    pub(crate) losses: u32,
    pub(crate) lost: Option<UnixMillis>,
    pub(crate) completed: Option<UnixMillis>,
    pub(crate) stopped_by: Option<StoppedReason>,
    pub(crate) observed_work: u64,
    persona: Option<String>,
}

impl Next {
    /// As it was written last.
    pub(crate) fn of(session: &Session, task: &Task) -> Self {
        let was = &session.status.operator;
        Self {
            phase: was.phase.unwrap_or(Phase::Pending),
            reason: was.reason.clone().map_or(Reason::Accepted, Reason::from_word),
            message: was.message.clone().unwrap_or_default(),
            epoch: was.epoch.unwrap_or(0),
            pod_name: was.pod_name.clone(),
            pod_uid: was.pod_uid.clone(),
            pod_restarts: was.pod_restarts.unwrap_or(0),
            workspace_used: was.workspace_used.unwrap_or(false),
            losses: was.losses.unwrap_or(0),
            lost: was.lost_time.as_deref().map(clock::parse),
            completed: was.completion_time.as_deref().map(clock::parse),
            stopped_by: was.stopped_reason,
            observed_work: was.observed_work.unwrap_or(0),
            persona: task.accepted.persona.as_ref().map(ToString::to_string),
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase, now: UnixMillis) {
        if phase.is_settled() {
            self.completed = self.completed.or(Some(now));
        } else {
            self.completed = None;
            if !matches!(phase, Phase::Stopping | Phase::Suspending) {
                self.stopped_by = None;
            }
        }
        self.phase = phase;
    }

    pub(crate) fn because(&mut self, reason: Reason, message: &str) {
        self.reason = reason;
        self.message = render::line(&message.into(), MESSAGE_CHARACTERS);
    }

    fn fields(&self, session: &Session) -> OperatorStatus {
        OperatorStatus {
            observed_generation: Some(session.generation),
            phase: Some(self.phase),
            reason: Some(render::line(&self.reason.word().as_str().into(), 100)),
            message: Some(self.message.clone()).filter(|message| !message.is_empty()),
            persona: self.persona.clone(),
            start_time: Some(clock::second(session.created)),
            completion_time: self.completed.map(clock::second),
            stopped_reason: self.stopped_by,
            pod_name: self.pod_name.clone(),
            pod_uid: self.pod_uid.clone(),
            pod_restarts: Some(self.pod_restarts).filter(|count| *count > 0),
            workspace_used: Some(self.workspace_used).filter(|used| *used),
            epoch: Some(self.epoch).filter(|epoch| *epoch > 0),
            losses: Some(self.losses).filter(|losses| *losses > 0),
            lost_time: self.lost.map(clock::exact),
            observed_work: Some(self.observed_work).filter(|seq| *seq > 0),
            job_name: None,
        }
    }

    /// The whole of what the operator writes; `None` where all of it is written already.
    pub(crate) fn document(
        &self,
        session: &Session,
        task: &Task,
        pod: Option<&Seen>,
        now: UnixMillis,
    ) -> Option<Value> {
        let mut conditions = vec![(kinds::ACCEPTED, true, "Accepted".to_owned(), String::new())];
        let has_pod = self.pod_uid.is_some();
        if self.epoch > 0 {
            let reason = if has_pod { "Created" } else { "Missing" };
            conditions.push((kinds::POD_CREATED, has_pod, reason.to_owned(), String::new()));
        }
        if let Some(pod) = pod.filter(|pod| Some(&pod.uid) == self.pod_uid.as_ref()) {
            let trouble = pod.trouble.clone();
            let (reason, message) = trouble.clone().filter(|_| !pod.scheduled).unwrap_or_else(|| {
                (if pod.scheduled { "Scheduled" } else { "Waiting" }.to_owned(), String::new())
            });
            conditions.push((kinds::POD_SCHEDULED, pod.scheduled, reason, message));
            if pod.scheduled {
                let (reason, message) = trouble.filter(|_| !pod.started).unwrap_or_else(|| {
                    (if pod.started { "Started" } else { "Waiting" }.to_owned(), String::new())
                });
                conditions.push((kinds::POD_STARTED, pod.started, reason, message));
            }
        }
        let mut all: Vec<Condition> = conditions
            .into_iter()
            .map(|(kind, holds, reason, message)| condition(session, kind, holds, reason, &message, now))
            .collect();
        for warning in &task.accepted.warnings {
            // What is true of one machine alone is not of a cluster.
            if !OF_ONE_MACHINE.contains(&warning.reason.as_str()) {
                let mut of_field =
                    Condition::without_effect(warning, clock::second(now), Some(session.generation));
                keep_time(session, &mut of_field);
                all.push(of_field);
            }
        }
        document(session, &self.fields(session), &all)
    }
}

/// Of an object that cannot be worked by: it says why, and waits for a change.
pub(crate) fn refused(
    session: &Session,
    phase: Phase,
    reason: &str,
    message: &str,
    now: UnixMillis,
) -> Option<Value> {
    held_up(session, phase, kinds::ACCEPTED, reason, message, now)
}

/// Of a session whose pod cannot be made for now.
pub(crate) fn without_pod(session: &Session, reason: &str, message: &str, now: UnixMillis) -> Option<Value> {
    held_up(session, Phase::Pending, kinds::POD_CREATED, reason, message, now)
}

fn held_up(
    session: &Session,
    phase: Phase,
    kind: &str,
    reason: &str,
    message: &str,
    now: UnixMillis,
) -> Option<Value> {
    let message = render::line(&message.into(), MESSAGE_CHARACTERS);
    let was = session.status.operator.clone();
    let fields = OperatorStatus {
        observed_generation: Some(session.generation),
        phase: Some(phase),
        reason: Some(reason.to_owned()),
        message: Some(message.clone()),
        start_time: Some(clock::second(session.created)),
        completion_time: phase
            .is_settled()
            .then(|| was.completion_time.clone().unwrap_or_else(|| clock::second(now))),
        ..was
    };
    let broken = condition(session, kind, false, reason.to_owned(), &message, now);
    document(session, &fields, &[broken])
}

fn condition(
    session: &Session,
    kind: &str,
    holds: bool,
    reason: String,
    message: &str,
    now: UnixMillis,
) -> Condition {
    let mut condition = Condition {
        kind: kind.to_owned(),
        status: if holds { ConditionStatus::True } else { ConditionStatus::False },
        reason: word(&reason),
        message: render::line(&message.into(), MESSAGE_CHARACTERS),
        last_transition_time: clock::second(now),
        observed_generation: Some(session.generation),
    };
    keep_time(session, &mut condition);
    condition
}

/// A condition changes its time only with its status.
fn keep_time(session: &Session, condition: &mut Condition) {
    let was = session.status.conditions.iter().find(|was| was.kind == condition.kind);
    if let Some(was) = was.filter(|was| was.status == condition.status) {
        condition.last_transition_time.clone_from(&was.last_transition_time);
    }
}

/// The API server's own bound of a reason.
fn word(reason: &str) -> String {
    let word: String = reason.chars().filter(|c| c.is_ascii_alphanumeric()).take(100).collect();
    if word.is_empty() { "Unknown".to_owned() } else { word }
}

/// `None`: it says what is there already. How much of the log was seen is no reason to write.
fn document(session: &Session, fields: &OperatorStatus, conditions: &[Condition]) -> Option<Value> {
    let ours = |condition: &&Condition| {
        let kind = condition.kind.as_str();
        !resources::condition::server::ALL.contains(&kind)
    };
    let was: Vec<&Condition> = session.status.conditions.iter().filter(ours).collect();
    let same_conditions =
        was.len() == conditions.len() && conditions.iter().all(|condition| was.contains(&condition));
    let without = |fields: &OperatorStatus| OperatorStatus { observed_work: None, ..fields.clone() };
    if same_conditions && without(fields) == without(&session.status.operator) {
        return None;
    }
    let mut status = serde_json::to_value(fields).unwrap_or_default();
    if let Some(status) = status.as_object_mut() {
        status.insert("conditions".to_owned(), json!(conditions));
    }
    Some(json!({
        "apiVersion": resources::API_VERSION,
        "kind": crate::kinds::SESSION,
        "metadata": {"name": session.name, "namespace": session.namespace, "uid": session.uid},
        "status": status,
    }))
}
