//! From a binding to a session that can work: workspace, log, plugins.

use super::{Parts, Session, SessionError};
use crate::{
    agent::Agent,
    beneath::Root,
    host::gate::Permissions,
    journal::{self, Journal},
    past::Past,
    settings::{SessionFolder, verifying_key},
    tools::{Loader, Toolbox},
    workspace::{self, Usage, Workspace},
};
use model::{
    event::Event,
    id::{Epoch, RunnerSeq},
};
use protocol::control::{Binding, WorkspaceSource};
use std::{
    fs, io,
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

/// In the journal's folder, once an archive was unpacked.
const UNPACKED: &str = "unpacked";
impl Parts {
    pub(super) async fn bind(self, binding: Binding) -> Result<Session, SessionError> {
        let Self { link, http, launcher, engine, folder, covers } = self;
        http.bind(binding.epoch);
        let key = verifying_key(&binding.artifact_key).ok_or(SessionError::Key)?;
        let toolbox = Toolbox::new(&binding, &Loader { http: http.clone(), engine, key });
        let history = http.history(model::id::Seq(0));
        let (history, prepared) = tokio::join!(history, prepare(&binding, &folder, &http));
        prepared?;
        let mut past = Past::default();
        history.map_err(SessionError::History)?.iter().for_each(|stored| past.absorb(stored));
        link.keep_in(Journal::open(&folder.journal(), binding.epoch).map_err(SessionError::Folder)?);
        for event in left_over(&folder, binding.epoch, &past) {
            past.apply(&event);
            link.record(event);
        }
        let root = Root::open(&folder.workspace()).map_err(SessionError::Folder)?;
        let baseline = Root::open(&folder.baseline()).map_err(SessionError::Folder)?;
        let permissions = Permissions {
            mode: binding.mode,
            policy: binding.policy.clone(),
            approved: Mutex::new(std::mem::take(&mut past.approved)),
        };
        let (queue, state) = (past.open_runs.clone(), std::mem::take(&mut past.state));
        // What was in a person's folder before is not the session's.
        let there = if covers.is_some() { root.bytes(u64::MAX) } else { 0 };
        let room = binding.limits.session.workspace_bytes.saturating_add(there);
        let usage = Usage::new(root.clone(), room);
        let workspace = Workspace {
            root: root.clone(),
            baseline,
            http: http.clone(),
            usage: usage.clone(),
            folder: folder.workspace(),
            covers: covers.clone(),
        };
        let agent = Arc::new(Agent {
            binding,
            link,
            http,
            toolbox,
            permissions: Arc::new(permissions),
            root,
            covers,
            workspace: folder.workspace(),
            usage,
            launcher,
            state: Arc::new(Mutex::new(state)),
            past: Mutex::new(past),
            answer: Mutex::new(None),
        });
        tokio::spawn({
            let agent = agent.clone();
            async move { agent.toolbox.load().await }
        });
        tokio::spawn({
            let agent = agent.clone();
            async move { agent.guard_room().await }
        });
        let (taken, owes_diff) = (queue.clone(), watch::Sender::new(false));
        Ok(Session { agent, workspace, queue: queue.into(), current: None, taken, owes_diff })
    }
}

/// What others have said since the log was last read.
pub(super) async fn catch_up(agent: &Agent) -> Result<(), SessionError> {
    let after = agent.past().seq;
    let news = agent.http.history(after).await.map_err(SessionError::History)?;
    let mut past = agent.past();
    for stored in news {
        // What this runner said was applied when it was said.
        if stored.origin.is_none_or(|origin| origin.epoch != agent.binding.epoch) {
            past.absorb(&stored);
        } else {
            past.seq = stored.seq;
        }
    }
    Ok(())
}

/// What the runners before said of runs that are still open, and the server did not hear.
fn left_over(folder: &SessionFolder, epoch: Epoch, past: &Past) -> Vec<Event> {
    let Some(before) = epoch.0.checked_sub(1).filter(|before| *before > 0).map(Epoch) else { return vec![] };
    let committed = past.committed.get(&before).copied().unwrap_or(RunnerSeq(0));
    let said = journal::uncommitted(&folder.journal(), before, committed).unwrap_or_else(|error| {
        tracing::warn!(%error, "the journal of the runner before cannot be read");
        vec![]
    });
    let events = said.into_iter().map(|sequenced| sequenced.event);
    events.filter(|event| run_of(event).is_none_or(|run| past.open_runs.contains(run))).collect()
}

fn run_of(event: &Event) -> Option<&model::id::RunId> {
    match event {
        Event::PersonaPrompted(of) => Some(&of.run),
        Event::AssistantMessage(of) => Some(&of.run),
        Event::CallIntended(of) => Some(&of.run),
        Event::CallFinished(of) => Some(&of.run),
        Event::AnalysisJudged(of) => Some(&of.run),
        Event::ContextCompacted(of) => Some(&of.run),
        Event::RunEnded(of) => Some(&of.run),
        _ => None,
    }
}

/// Unpacks the archive that a session begins with, once, into baseline and workspace.
async fn prepare(
    binding: &Binding,
    folder: &SessionFolder,
    http: &crate::http::Http,
) -> Result<(), SessionError> {
    let WorkspaceSource::Archive { blob } = &binding.workspace else { return Ok(()) };
    let marker = folder.journal().join(UNPACKED);
    if marker.exists() {
        return Ok(());
    }
    let archive = http.blob(blob).await.map_err(SessionError::Archive)?;
    let (baseline, root, max) =
        (folder.baseline(), folder.workspace(), binding.limits.session.workspace_bytes);
    let unpack = move || {
        for place in [baseline, root] {
            let place = Root::open(&place).map_err(SessionError::Folder)?;
            workspace::unpack(&archive, &place, max)?;
        }
        fs::write(marker, "").map_err(SessionError::Folder)
    };
    let unpacked = tokio::task::spawn_blocking(unpack).await;
    unpacked.unwrap_or_else(|error| Err(SessionError::Folder(io::Error::other(error))))
}
