//! Projects and their settings: one YAML file each, written by people or through the API, always read as it is now.
//!
//! A file that is not valid any more does not open anything: the last valid one stays in force and the part is shown
//! as degraded; without one, the project refuses work until the file is repaired.

use crate::{problem::Problem, sessions::Caller};
use futures::future::BoxFuture;
use model::id::{ProjectName, ProjectUid};
use resources::{Invalid, ProjectPolicy, ProjectSettings, ProjectSettingsSpec, project};
use std::{
    collections::HashMap,
    fs,
    future::ready,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use telemetry::Health;

/// The project that is always there.
pub const DEFAULT: &str = "default";

const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    pub name: ProjectName,
    pub settings: ProjectSettings,
    pub policy: ProjectPolicy,
}

/// Where projects and their settings come from.
pub trait Projects: Send + Sync + 'static {
    /// The project as it is now.
    ///
    /// # Errors
    /// When there is none, or its settings are not valid and never were.
    fn get(&self, name: &ProjectName) -> Result<Arc<Project>, SettingsError>;

    /// Which of all that ever had this name it is: what was of one that is gone is not the next one's. `None`: there is
    /// none.
    fn uid(&self, name: &ProjectName) -> Option<ProjectUid>;

    /// The project as the caller finds it.
    ///
    /// # Errors
    /// As [`Projects::get`], and when the caller may not.
    fn read<'a>(
        &'a self,
        _caller: &'a Caller,
        name: &'a ProjectName,
    ) -> BoxFuture<'a, Result<Arc<Project>, SettingsError>> {
        Box::pin(ready(self.get(name)))
    }

    /// All projects that the caller may see, by name.
    ///
    /// # Errors
    /// When they cannot be read.
    fn list<'a>(&'a self, caller: &'a Caller) -> BoxFuture<'a, Result<Vec<ProjectName>, SettingsError>>;

    /// # Errors
    /// When it exists or the settings are not valid.
    fn create<'a>(
        &'a self,
        caller: &'a Caller,
        name: &'a ProjectName,
        spec: ProjectSettingsSpec,
    ) -> BoxFuture<'a, Result<Arc<Project>, SettingsError>>;

    /// Replaces the settings, atomically.
    ///
    /// # Errors
    /// When the settings are not valid or cannot be written.
    fn put<'a>(
        &'a self,
        caller: &'a Caller,
        name: &'a ProjectName,
        spec: ProjectSettingsSpec,
    ) -> BoxFuture<'a, Result<Arc<Project>, SettingsError>>;

    /// Forgets the project; its sessions must be gone.
    ///
    /// # Errors
    /// When there is none, or it is not to be removed here.
    fn remove<'a>(
        &'a self,
        caller: &'a Caller,
        name: &'a ProjectName,
    ) -> BoxFuture<'a, Result<(), SettingsError>>;
}

/// A file a project in one folder. Clones share it.
#[derive(Clone)]
pub struct Folder(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    health: Health,
    last: Mutex<HashMap<ProjectName, Arc<Project>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("there is no such project: create it with POST /api/projects")]
    NotFound,
    #[error("there is a project of this name")]
    Exists,
    #[error("the project {DEFAULT:?} is always there")]
    Default,
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("the settings file {} is not valid: {why}", path.display())]
    Unreadable { path: PathBuf, why: String },
    /// It is done elsewhere; the text says where.
    #[error("{0}")]
    Elsewhere(String),
    /// Whoever decides answered this.
    #[error("{}", .0.detail)]
    Answered(Box<Problem>),
    #[error("the settings folder cannot be used")]
    Io(#[from] io::Error),
}

impl Projects for Folder {
    fn get(&self, name: &ProjectName) -> Result<Arc<Project>, SettingsError> {
        Self::get(self, name)
    }

    /// All that ever had the name are one person's.
    fn uid(&self, name: &ProjectName) -> Option<ProjectUid> {
        name.as_str().parse().ok()
    }

    fn list<'a>(&'a self, _caller: &'a Caller) -> BoxFuture<'a, Result<Vec<ProjectName>, SettingsError>> {
        Box::pin(ready(Self::list(self).map_err(SettingsError::from)))
    }

    fn create<'a>(
        &'a self,
        _caller: &'a Caller,
        name: &'a ProjectName,
        spec: ProjectSettingsSpec,
    ) -> BoxFuture<'a, Result<Arc<Project>, SettingsError>> {
        Box::pin(ready(Self::create(self, name, spec)))
    }

    fn put<'a>(
        &'a self,
        _caller: &'a Caller,
        name: &'a ProjectName,
        spec: ProjectSettingsSpec,
    ) -> BoxFuture<'a, Result<Arc<Project>, SettingsError>> {
        Box::pin(ready(Self::put(self, name, spec)))
    }

    fn remove<'a>(
        &'a self,
        _caller: &'a Caller,
        name: &'a ProjectName,
    ) -> BoxFuture<'a, Result<(), SettingsError>> {
        Box::pin(ready(Self::remove(self, name)))
    }
}

impl Folder {
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(dir: PathBuf, health: Health) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self(Arc::new(Inner { dir, health, last: Mutex::default() })))
    }

    fn list(&self) -> io::Result<Vec<ProjectName>> {
        let mut names: Vec<ProjectName> = DEFAULT.parse().into_iter().collect();
        for entry in fs::read_dir(&self.0.dir)? {
            let file = entry?.file_name();
            let stem = file.to_str().and_then(|file| file.strip_suffix(".yaml"));
            names.extend(stem.and_then(|stem| stem.parse().ok()));
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn get(&self, name: &ProjectName) -> Result<Arc<Project>, SettingsError> {
        let path = self.path(name);
        let part = format!("settings of {name}");
        match read(&path) {
            Ok(text) => match parse(name, text.as_deref()) {
                Ok(project) => {
                    self.0.health.recover(&part);
                    Ok(self.keep(project))
                }
                Err(why) => {
                    let why = why.to_string();
                    tracing::warn!(project = %name, path = %path.display(), %why, "the settings file is not valid");
                    self.0.health.degrade(
                        part,
                        format!("{}: {why}; the last valid settings are in force", path.display()),
                    );
                    self.last(name).ok_or(SettingsError::Unreadable { path, why })
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(SettingsError::NotFound),
            Err(error) => Err(error.into()),
        }
    }

    fn create(&self, name: &ProjectName, spec: ProjectSettingsSpec) -> Result<Arc<Project>, SettingsError> {
        if self.path(name).exists() || name.as_str() == DEFAULT {
            return Err(SettingsError::Exists);
        }
        self.put(name, spec)
    }

    fn put(&self, name: &ProjectName, spec: ProjectSettingsSpec) -> Result<Arc<Project>, SettingsError> {
        let policy = ProjectPolicy::try_from(spec.clone())?;
        let settings = ProjectSettings::new(spec);
        let text = serde_saphyr::to_string(&settings).map_err(io::Error::other)?;
        write(&self.path(name), text.as_bytes())?;
        Ok(self.keep(Project { name: name.clone(), settings, policy }))
    }

    fn remove(&self, name: &ProjectName) -> Result<(), SettingsError> {
        if name.as_str() == DEFAULT {
            return Err(SettingsError::Default);
        }
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SettingsError::NotFound),
            removed => removed?,
        }
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    fn path(&self, name: &ProjectName) -> PathBuf {
        self.0.dir.join(format!("{name}.yaml"))
    }

    fn keep(&self, project: Project) -> Arc<Project> {
        let project = Arc::new(project);
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(project.name.clone(), Arc::clone(&project));
        project
    }

    fn last(&self, name: &ProjectName) -> Option<Arc<Project>> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// `None`: the project that is always there has no file yet.
fn read(path: &Path) -> io::Result<Option<String>> {
    use io::Read as _;
    let mut text = String::new();
    match fs::File::open(path) {
        Ok(file) => file.take(MAX_BYTES).read_to_string(&mut text).map(|_| Some(text)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && path.file_stem().is_some_and(|stem| stem == DEFAULT) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn parse(name: &ProjectName, text: Option<&str>) -> Result<Project, Box<dyn std::error::Error>> {
    let settings = match text {
        Some(text) => project::read(&serde_saphyr::from_str(text)?)?,
        None => ProjectSettings::new(ProjectSettingsSpec::default()),
    };
    let policy = ProjectPolicy::try_from(settings.spec.clone())?;
    Ok(Project { name: name.clone(), settings, policy })
}

/// Whole or not at all, also after power loss.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write as _;
    let temporary = path.with_extension(format!("tmp-{}", uuid::Uuid::new_v4().simple()));
    let written = fs::File::create_new(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    path.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_valid_settings_stay_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let health = Health::new();
        let projects = Folder::open(dir.path().to_owned(), health.clone()).unwrap();
        let name: ProjectName = "p".parse().unwrap();
        assert!(matches!(projects.get(&name), Err(SettingsError::NotFound)));
        assert!(projects.get(&DEFAULT.parse().unwrap()).is_ok());

        let mut spec = ProjectSettingsSpec::default();
        spec.permissions.allow_bypass = true;
        projects.create(&name, spec.clone()).unwrap();
        assert!(matches!(projects.create(&name, spec), Err(SettingsError::Exists)));
        let file = dir.path().join("p.yaml");
        let written = fs::read_to_string(&file).unwrap();

        fs::write(&file, "permissions: {allowBypas: true}").unwrap();
        assert!(projects.get(&name).unwrap().policy.allow_bypass, "the last valid one");
        assert!(
            health.degraded().values().any(|why| why.contains("did you mean")),
            "{:?}",
            health.degraded()
        );
        let fresh = Folder::open(dir.path().to_owned(), Health::new()).unwrap();
        assert!(matches!(fresh.get(&name), Err(SettingsError::Unreadable { .. })));

        fs::write(&file, written).unwrap();
        assert!(fresh.get(&name).unwrap().policy.allow_bypass);
        assert!(projects.get(&name).is_ok() && health.degraded().is_empty());
        projects.remove(&name).unwrap();
        assert!(matches!(projects.get(&name), Err(SettingsError::NotFound)));
    }
}
