//! The process: what it does first decides what it may do ever after.
//!
//! Invariant: on the only thread, in this order: the engine's pool is built (it opens `/proc/self/pagemap`), the process
//! confines itself, the runtimes start.

mod install;
mod single;

use crate::{
    session,
    settings::{Command, Job, Session, SessionFolder, SettingsError},
};
use confine::{ConfineError, CoverError, Dial, Features, RunnerPaths};
use engine::{Engine, EngineError};
use model::limits::Limits;
use std::{
    io,
    path::{Path, PathBuf},
};
use telemetry::log::{self, Format, LogError, Target};
use tokio::runtime::{Builder, Runtime};

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("the log could not be set up")]
    Log(#[from] LogError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the launcher of native programs cannot be put where the container beside looks for it")]
    Install(#[source] io::Error),
    #[error("the session's folder cannot be used")]
    Folder(#[source] io::Error),
    #[error("git's own files in the folder could not be covered, so it is not worked on itself")]
    InPlace(#[source] CoverError),
    #[error("the runner could not confine itself")]
    Confine(#[from] ConfineError),
    #[error("the runner's threads could not be started")]
    Threads(#[source] io::Error),
    #[error(transparent)]
    Session(#[from] session::SessionError),
    #[error(transparent)]
    Single(#[from] single::SingleError),
}

/// Does what the command line says. The answer, if there is one, is for stdout.
///
/// # Errors
/// Says what to do.
pub fn run(command: Command) -> Result<Option<String>, ProcessError> {
    match command.job()? {
        Job::Session(settings) => serve(settings).map(|()| None),
        Job::TakeStock { folder, of } => {
            confine::take_stock(&folder, &of.workspace(), &of.tmp(), &of.covers())
                .map_err(ProcessError::InPlace)?;
            Ok(None)
        }
        Job::Describe(plugin) => {
            let (engine, runtime) = start(nowhere(vec![]))?;
            Ok(Some(runtime.block_on(single::describe(&engine, plugin))?))
        }
        Job::Call { plugin, tool, input, workspace } => {
            let (engine, runtime) = start(nowhere(workspace.iter().cloned().collect()))?;
            Ok(Some(runtime.block_on(single::call(&engine, plugin, &tool, &input, workspace))?))
        }
    }
}

fn serve(settings: Session) -> Result<(), ProcessError> {
    confine::hold_termination();
    log::init(&settings.log, Format::Json, Target::Stderr)?;
    settings.install_launcher.as_deref().map_or(Ok(()), install::launcher).map_err(ProcessError::Install)?;
    let of = &settings.folder;
    let cover = |folder| confine::work_in_place(folder, &of.workspace(), &of.tmp(), &of.covers());
    let covers = settings.in_place.as_deref().map(cover).transpose().map_err(ProcessError::InPlace)?;
    let (engine, runtime) = start(RunnerPaths {
        read_write: folders(&settings.folder).map_err(ProcessError::Folder)?,
        read_only: settings.server.reads().map(Path::to_owned).into_iter().collect(),
        dial: settings.server.dial(),
    })?;
    let served = runtime.block_on(session::serve(settings, engine, covers));
    // A program's output that is still being read, or a file, does not hold up the end.
    runtime.shutdown_background();
    Ok(served?)
}

/// For a plugin without a session, which has nobody to dial.
fn nowhere(read_only: Vec<PathBuf>) -> RunnerPaths {
    RunnerPaths { read_write: vec![], read_only, dial: Dial::Unix }
}

fn start(paths: RunnerPaths) -> Result<(Engine, Runtime), ProcessError> {
    let engine = Engine::new(&Limits::shipped().session)?;
    confine::runner(&paths, Features::of_this_host(&[]))?;
    engine.start()?;
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(8).build();
    Ok((engine, runtime.map_err(ProcessError::Threads)?))
}

/// What the runner keeps of the file system. What native programs have for themselves is not in it.
fn folders(folder: &SessionFolder) -> io::Result<Vec<PathBuf>> {
    let folders = vec![folder.workspace(), folder.baseline(), folder.journal()];
    folders.iter().try_for_each(std::fs::create_dir_all)?;
    Ok(folders)
}
