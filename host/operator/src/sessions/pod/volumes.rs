//! What the containers of a pod see of disks. The tools never see the runner's credential, journal or baseline.

use super::{ACCOUNT, CA_ANNOTATION, base_name, command, place::amount};
use crate::sessions::judge::Wish;
use k8s_openapi::api::core::v1::{
    DownwardAPIProjection, DownwardAPIVolumeFile, EmptyDirVolumeSource, ObjectFieldSelector,
    PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource, ProjectedVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection, VolumeResourceRequirements,
};
use std::collections::BTreeMap;

const SHARED: &str = "launcher";
const SECRETS: &str = "credential";
const WORKSPACE: &str = "workspace";
const SESSION: &str = "session";
const HOME: &str = "home";
const TMP: &str = "tmp";
/// Both in the claim of a workspace that is kept, each in a folder of its own.
const KEPT: &str = "kept";

/// The launcher is some 3 MB.
const SHARED_BYTES: u64 = 64 << 20;
/// Journal and baseline: as much as the workspace itself, and something.
const SESSION_BYTES: u64 = 256 << 20;
const HOME_BYTES: u64 = 1 << 30;
const TMP_BYTES: u64 = 1 << 30;
const TOKEN_SECONDS: i64 = 3600;

pub(super) fn of(uid: &str, wish: &Wish) -> Vec<Volume> {
    let mut volumes =
        vec![empty(SHARED, SHARED_BYTES), credential(), empty(HOME, HOME_BYTES), empty(TMP, TMP_BYTES)];
    if wish.accepted.persistent {
        let claim = PersistentVolumeClaimVolumeSource { claim_name: base_name(uid), read_only: None };
        let (name, persistent_volume_claim) = (KEPT.to_owned(), Some(claim));
        volumes.push(Volume { name, persistent_volume_claim, ..Volume::default() });
    } else {
        let bytes = wish.workspace_bytes();
        volumes.extend([empty(WORKSPACE, bytes), empty(SESSION, bytes.saturating_add(SESSION_BYTES))]);
    }
    volumes
}

pub(super) fn claim(wish: &Wish) -> PersistentVolumeClaimSpec {
    let bytes = wish.workspace_bytes().saturating_mul(2).saturating_add(SESSION_BYTES);
    let requests = BTreeMap::from([("storage".to_owned(), amount(&bytes.to_string()))]);
    PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
        resources: Some(VolumeResourceRequirements { limits: None, requests: Some(requests) }),
        storage_class_name: wish.overrides.storage_class.clone(),
        ..PersistentVolumeClaimSpec::default()
    }
}

pub(super) fn of_runner(persistent: bool) -> Vec<VolumeMount> {
    let credential = VolumeMount { read_only: Some(true), ..mount(SECRETS, command::SECRETS) };
    vec![mount(SHARED, command::SHARED), credential, workspace(persistent), session(persistent)]
}

pub(super) fn of_tools(persistent: bool) -> Vec<VolumeMount> {
    vec![
        mount(SHARED, command::SHARED),
        workspace(persistent),
        mount(HOME, command::HOME),
        mount(TMP, command::TMP),
    ]
}

fn workspace(persistent: bool) -> VolumeMount {
    folder(persistent, WORKSPACE, command::WORKSPACE)
}

fn session(persistent: bool) -> VolumeMount {
    folder(persistent, SESSION, command::SESSION)
}

/// A volume of its own, or a folder of the claim.
fn folder(persistent: bool, name: &str, path: &str) -> VolumeMount {
    if persistent {
        VolumeMount { sub_path: Some(name.to_owned()), ..mount(KEPT, path) }
    } else {
        mount(name, path)
    }
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

fn empty(name: &str, bytes: u64) -> Volume {
    let source = EmptyDirVolumeSource { medium: None, size_limit: Some(amount(&bytes.to_string())) };
    Volume { name: name.to_owned(), empty_dir: Some(source), ..Volume::default() }
}

/// The runner's token, which kubelet renews, and the certificate of whom it may be shown to.
fn credential() -> Volume {
    let token = ServiceAccountTokenProjection {
        audience: Some(ACCOUNT.to_owned()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: command::TOKEN.to_owned(),
    };
    let field = ObjectFieldSelector {
        api_version: Some("v1".to_owned()),
        field_path: format!("metadata.annotations['{CA_ANNOTATION}']"),
    };
    let ca = DownwardAPIVolumeFile {
        path: command::CA.to_owned(),
        field_ref: Some(field),
        ..DownwardAPIVolumeFile::default()
    };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection { items: Some(vec![ca]) }),
            ..VolumeProjection::default()
        },
    ];
    let projected = ProjectedVolumeSource { default_mode: Some(0o440), sources: Some(sources) };
    Volume { name: SECRETS.to_owned(), projected: Some(projected), ..Volume::default() }
}
