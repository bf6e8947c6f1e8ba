//! What a session's specification comes to under its project's policy: the same function that the server uses.

use super::view::View;
use model::{event::Warning, limits::Limits, plan::Desired};
use resources::{
    Accepted, ProcessNetwork, ProjectPolicy, ProjectSettingsSpec, Source,
    session::{
        self, Metadata, Posted,
        placement::{ResourceOverrides, Resources},
    },
};

/// What is to be made of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wish {
    pub(crate) accepted: Accepted,
    pub(crate) resources: Resources,
    pub(crate) overrides: ResourceOverrides,
}

impl Wish {
    /// What the session says, within what its project and we allow.
    pub(crate) fn workspace_bytes(&self) -> u64 {
        let most = Limits::shipped().session.workspace_bytes;
        let most = self.accepted.workspace_bytes.unwrap_or(most).min(most);
        self.resources.storage.as_ref().map_or(most, |storage| storage.units().clamp(1, most))
    }
}

/// A project, as far as sessions in it are judged by it.
#[derive(Debug, Clone)]
pub(crate) enum Project {
    /// The namespace is none.
    None,
    /// Its settings are not valid and were not before.
    Unreadable(String),
    Policy(Box<ProjectPolicy>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    /// It cannot be read: nothing but a change of it helps.
    Malformed(String),
    /// Its project does not permit it.
    Refused(String),
    /// Not its own fault: it is judged once that is mended.
    Open {
        reason: &'static str,
        message: String,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    /// Also of one that is refused, as far as it can be read: what runs already has its times and wishes.
    pub(crate) wish: Option<Wish>,
}

/// One that is being deleted is to stop: its pod is the cluster's to collect only once nothing holds the object any more.
pub(crate) fn judge(view: &View, project: &Project) -> Judged {
    let mut judged = as_written(view, project);
    if let Some(wish) = judged.wish.as_mut().filter(|_| view.deleting) {
        wish.accepted.desired = Desired::Stop;
    }
    judged
}

fn as_written(view: &View, project: &Project) -> Judged {
    let posted = match session::read(&view.spec) {
        Ok(posted) => Posted {
            metadata: Metadata { labels: view.labels.clone(), ..Metadata::default() },
            spec: posted.spec,
            raw: view.spec.clone(),
        },
        Err(error) => return Judged { verdict: Verdict::Malformed(error.to_string()), wish: None },
    };
    let open = |reason, message| Judged {
        verdict: Verdict::Open { reason, message },
        wish: permissive().and_then(|policy| wish(&posted, &policy).ok()),
    };
    let policy = match project {
        Project::None => {
            let label = kinds::PROJECT_LABEL;
            let namespace = &view.namespace;
            return open(
                "NoProject",
                format!("this namespace is no project: kubectl label namespace {namespace} {label}=true"),
            );
        }
        Project::Unreadable(why) => {
            return open("SettingsInvalid", format!("the project's ProjectSettings are not valid: {why}"));
        }
        Project::Policy(policy) => policy,
    };
    match wish(&posted, policy) {
        Ok(wish) => Judged { verdict: Verdict::Accepted, wish: Some(wish) },
        Err(refused) => match permissive().map(|policy| wish(&posted, &policy)) {
            Some(Ok(wish)) => Judged { verdict: Verdict::Refused(refused), wish: Some(wish) },
            _ => Judged { verdict: Verdict::Malformed(refused), wish: None },
        },
    }
}

fn wish(posted: &Posted, policy: &ProjectPolicy) -> Result<Wish, String> {
    let mut resources = posted.spec.resources.clone().unwrap_or_default();
    resources.tools_image = resources.tools_image.or_else(|| policy.default_tools_image.clone());
    let overrides = posted.spec.resource_overrides.clone().unwrap_or_default();
    let mut accepted = posted.clone().accept(policy).map_err(|error| error.to_string())?;
    if matches!(accepted.workspace, Source::Dir { .. } | Source::InPlace { .. }) {
        return Err(format!("spec.workspace.dir: {}", session::rules::NO_FOLDERS));
    }
    accepted.warnings.retain(|warning| !session::OF_ONE_MACHINE.contains(&warning.reason.as_str()));
    let mut wish = Wish { accepted, resources, overrides };
    let (wanted, given) =
        (wish.resources.storage.as_ref().map(|storage| storage.units()), wish.workspace_bytes());
    if wanted.is_some_and(|wanted| wanted > given) {
        let message = format!(
            "resources.storage is more than a workspace may have here, and {} MiB is what it gets",
            given >> 20
        );
        wish.accepted.warnings.push(Warning { reason: "StorageLimited".to_owned(), message: message.into() });
    }
    if wish.overrides.storage_class.is_some() && !wish.accepted.persistent {
        let message = "resourceOverrides.storageClass has no effect without workspace.persistent".into();
        wish.accepted.warnings.push(Warning { reason: "StorageClassUnused".to_owned(), message });
    }
    Ok(wish)
}

/// What no project could allow more than.
fn permissive() -> Option<ProjectPolicy> {
    let policy = ProjectPolicy::try_from(ProjectSettingsSpec::default()).ok()?;
    Some(ProjectPolicy { allow_bypass: true, process_network: ProcessNetwork::Loopback, ..policy })
}
