//! Runners on this machine: two processes per session, `vteam-exec` and `vteam-runner`, joined by a socket that neither
//! can reach in another way. What runs is on record in the session's folder, so that the next server finds it.
//!
//! It knows processes and folders, nothing of phases.

mod process;

use crate::{
    sessions::{Exited, Launch, LaunchError, Launcher},
    workspace,
};
use futures::future::BoxFuture;
use model::{
    event::Warning,
    id::{Epoch, SessionUid},
    lifecycle::Reason,
};
use process::{Pair, Programs};
use resources::Source;
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::task::spawn_blocking;

/// Where things are.
#[derive(Debug, Clone)]
pub struct LocalSettings {
    /// The server's own folder, of which no session gets anything.
    pub data: PathBuf,
    /// The folder of all sessions' folders.
    pub sessions: PathBuf,
    /// The socket that runners dial.
    pub socket: PathBuf,
    /// The folder of `vteam-runner` and `vteam-exec`.
    pub programs: PathBuf,
    /// The folder of first-party plugins.
    pub plugins: PathBuf,
    /// Log filter of runners.
    pub log: String,
}

impl LocalSettings {
    /// With what is never anybody's workspace.
    fn own<T>(&self, ask: impl FnOnce(&workspace::Own<'_>) -> T) -> T {
        let Self { data, programs, plugins, .. } = self;
        ask(&workspace::Own { data, programs: &[programs, plugins] })
    }
}

/// The launcher of one machine.
#[derive(Clone)]
pub struct LocalScheduler(Arc<Inner>);

struct Inner {
    settings: LocalSettings,
    /// Starting and ending the same session's runner do not overlap.
    turns: Mutex<HashMap<SessionUid, Arc<tokio::sync::Mutex<()>>>>,
}

impl LocalScheduler {
    #[must_use]
    pub fn new(settings: LocalSettings) -> Self {
        Self(Arc::new(Inner { settings, turns: Mutex::default() }))
    }

    fn folder(&self, uid: &SessionUid) -> PathBuf {
        // `.` and `..` are valid uids, and a colon is a nuisance in paths.
        self.0.settings.sessions.join(uid.as_str().replace([':', '.'], "_"))
    }

    fn turn(&self, uid: &SessionUid) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(uid.clone()).or_default())
    }

    async fn launch(&self, launch: Launch) -> Result<Vec<Warning>, LaunchError> {
        let turn = self.turn(&launch.uid);
        let _turn = turn.lock().await;
        let Launch { uid, epoch, token, workspace, workspace_bytes, needs_programs, exited } = launch;
        let folder = self.folder(&uid);
        let in_place = match &workspace {
            Source::InPlace { path } => Some(path.clone()),
            _ => None,
        };
        let place = folder.clone();
        let settings = self.0.settings.clone();
        let prepare =
            move || settings.own(|own| workspace::prepare(&place, &workspace, own, workspace_bytes));
        let prepared = spawn_blocking(prepare).await;
        let left_out = match prepared.map_err(|error| LaunchError::Failed(error.to_string()))? {
            Ok(left_out) => left_out,
            Err(error) => return Err(refused(&error)),
        };
        let programs = Programs {
            settings: &self.0.settings,
            folder: &folder,
            in_place: in_place.as_deref(),
            dial_at_once: !needs_programs,
        };
        if let Some(why) = programs.take_stock().await.map_err(|e| LaunchError::Failed(e.to_string()))? {
            let reason = Reason::Other(workspace::REFUSED.to_owned());
            return Err(LaunchError::Hopeless { reason, message: why });
        }
        let pair = programs.start(epoch, &token).map_err(|error| LaunchError::Failed(error.to_string()))?;
        tokio::spawn(pair.watch(folder, exited));
        Ok(warnings(&left_out, in_place.is_some()))
    }

    async fn end(&self, uid: &SessionUid, epoch: Epoch) {
        let turn = self.turn(uid);
        let _turn = turn.lock().await;
        let folder = self.folder(uid);
        if let Some(pair) = Pair::recorded(&folder).filter(|pair| pair.epoch == epoch) {
            pair.kill().await;
        }
    }

    fn take_over(&self, uid: &SessionUid, epoch: Epoch, exited: Exited) -> bool {
        let folder = self.folder(uid);
        let alive = Pair::recorded(&folder).filter(|pair| pair.epoch == epoch && pair.runner.is_alive());
        match alive {
            Some(pair) => {
                tokio::spawn(pair.watch(folder, exited));
                true
            }
            None => false,
        }
    }
}

impl Launcher for LocalScheduler {
    fn refuses(&self, workspace: Source) -> BoxFuture<'_, Option<String>> {
        let settings = self.0.settings.clone();
        let asked = spawn_blocking(move || settings.own(|own| workspace::admit(&workspace, own)));
        Box::pin(async move { asked.await.ok()?.err().map(|error| telemetry::field::chain(&error)) })
    }

    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<Vec<Warning>, LaunchError>> {
        Box::pin(self.launch(launch))
    }

    fn adopt(&self, uid: SessionUid, epoch: Epoch, exited: Exited) -> BoxFuture<'_, bool> {
        Box::pin(async move { self.take_over(&uid, epoch, exited) })
    }

    fn kill(&self, uid: SessionUid, epoch: Epoch) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.end(&uid, epoch).await })
    }

    fn remove(&self, uid: SessionUid) -> BoxFuture<'_, io::Result<()>> {
        let folder = self.folder(&uid);
        Box::pin(async move { spawn_blocking(move || remove(&folder)).await.map_err(io::Error::other)? })
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn refused(error: &workspace::PrepareError) -> LaunchError {
    let message = telemetry::field::chain(error);
    match error.reason() {
        Some(reason) => LaunchError::Hopeless { reason, message },
        None => LaunchError::Failed(message),
    }
}

fn warnings(left_out: &workspace::LeftOut, in_place: bool) -> Vec<Warning> {
    let workspace::LeftOut { special, links, git, own } = *left_out;
    if in_place {
        let message = "the session works in the folder itself; git's own files in it are out of its reach";
        return vec![Warning { reason: "InPlace".to_owned(), message: message.into() }];
    }
    let mut warnings = Vec::new();
    let mut warn = |count: u64, reason: &str, message: String| {
        if count > 0 {
            warnings.push(Warning { reason: reason.to_owned(), message: message.into() });
        }
    };
    warn(
        own,
        "OwnDataLeftOut",
        "the server's own data folder was not copied: it holds tokens and keys".to_owned(),
    );
    warn(
        git,
        "GitLeftOut",
        format!("{git} .git entries were not copied: git metadata lie outside the workspace"),
    );
    warn(links, "LinksLeftOut", format!("{links} links that lead outside the folder were not copied"));
    warn(special, "SpecialFilesLeftOut", format!("{special} devices, pipes or sockets were not copied"));
    warnings
}
