//! What is done about a session on the cluster. Everything may be done twice.

use super::{
    draft::Draft,
    judge::Wish,
    pod::{self, ACCOUNT, Server},
    seen::PodSeen,
    turn::{Delete, Refusal, RefusalKind},
    view::{self, View},
};
use crate::{
    MANAGER,
    calls::{self, CallError},
    leader::Leading,
    metrics::{Metrics, Write},
    settings::Images,
};
use k8s_openapi::{
    Resource as _,
    api::core::v1::{PersistentVolumeClaim, Pod, ServiceAccount},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kinds::Lenient;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
    core::{DynamicObject, ObjectMeta, Status},
};
use model::{id::Epoch, lifecycle::Reason};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
};

const DEFINITION: &str = "agenticsessions.vteam.ambient-code";

pub(crate) struct Hands {
    client: Client,
    leading: Leading,
    images: Images,
    metrics: Metrics,
    /// Namespaces in which the runners' account was seen.
    accounts: Mutex<HashSet<String>>,
}

impl Hands {
    pub(crate) fn new(client: Client, leading: Leading, images: Images, metrics: Metrics) -> Self {
        Self { client, leading, images, metrics, accounts: Mutex::default() }
    }

    pub(crate) const fn leading(&self) -> &Leading {
        &self.leading
    }

    /// The pod of this epoch: made now, or before.
    ///
    /// # Errors
    /// Only what says nothing of the pod, such as an API server that does not answer.
    pub(crate) async fn create(
        &self,
        view: &View,
        wish: &Wish,
        epoch: Epoch,
        server: &Server,
    ) -> Result<Result<PodSeen, Refusal>, CallError> {
        if let Err(error) = self.account(&view.namespace).await {
            return refused(error);
        }
        if wish.accepted.persistent {
            match self.claim(view, wish).await {
                Ok(None) => {}
                Ok(Some(lost)) => return Ok(Err(lost)),
                Err(error) => return refused(error),
            }
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &view.namespace);
        let wanted = pod::pod(view, wish, epoch, server, &self.images);
        let made = calls::write(&self.leading, api.create(&calls::post_params(), &wanted)).await;
        let made = match made {
            Ok(made) => {
                self.metrics.wrote(Write::PodCreate);
                made
            }
            Err(CallError::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
                let name = pod::name(&view.uid, epoch);
                match calls::read(api.get(&name)).await {
                    Ok(there) if is_of(&there.metadata, view) => there,
                    Ok(_) => return Ok(Err(taken(&name))),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => {
                // Somebody may have removed it: it is looked for again.
                self.accounts().remove(&view.namespace);
                return refused(error);
            }
        };
        Ok(PodSeen::read(&made).ok_or_else(|| taken(&made.name_any())))
    }

    /// Asks for a pod that the watch does not know.
    pub(crate) async fn look(&self, namespace: &str, name: &str) -> Result<Option<PodSeen>, CallError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        Ok(calls::read(api.get_opt(name)).await?.as_ref().and_then(PodSeen::read))
    }

    /// Writes our part of the status, if the object is still as it was decided by.
    pub(crate) async fn write(&self, view: &View, draft: &Draft) -> Result<DynamicObject, CallError> {
        let kind = kinds::session();
        let mut status = serde_json::to_value(&draft.status).unwrap_or_default();
        if let Some(status) = status.as_object_mut() {
            status.insert("conditions".to_owned(), json!(draft.conditions));
        }
        let body = json!({
            "apiVersion": kind.api_version, "kind": kind.kind,
            "metadata": {"name": view.name, "namespace": view.namespace, "uid": view.uid, "resourceVersion": view.version},
            "status": status,
        });
        let api = kinds::lenient(self.client.clone(), &view.namespace, &kind);
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&body);
        let Lenient(mut written) =
            calls::write(&self.leading, api.patch_status(&view.name, &params, &patch)).await?;
        self.metrics.wrote(Write::Status);
        view::strip(&mut written);
        Ok(written)
    }

    /// Returns the pod as it is then, where it takes time to end.
    pub(crate) async fn delete(&self, namespace: &str, pod: &Delete) -> Result<Option<PodSeen>, CallError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let params = DeleteParams {
            grace_period_seconds: pod.grace_seconds,
            preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        self.metrics.wrote(Write::PodDelete);
        match calls::write(&self.leading, api.delete(&pod.name, &params)).await {
            Ok(left) => Ok(left.left().as_ref().and_then(PodSeen::read)),
            // Gone already, or another one of that name.
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The uids of a namespace's sessions, as the API server has them now.
    pub(crate) async fn sessions(&self, namespace: &str) -> Result<HashSet<String>, CallError> {
        let api = kinds::lenient(self.client.clone(), namespace, &kinds::session());
        let (mut uids, mut params) = (HashSet::new(), ListParams::default().limit(super::PAGE));
        loop {
            let page = calls::read(api.list(&params)).await?;
            uids.extend(page.items.into_iter().filter_map(|Lenient(session)| session.metadata.uid));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(uids);
            }
        }
    }

    /// The session's time is over. What belongs to it is collected by the cluster.
    pub(crate) async fn remove(&self, view: &View) -> Result<(), CallError> {
        let api = kinds::lenient(self.client.clone(), &view.namespace, &kinds::session());
        let preconditions =
            Preconditions { uid: Some(view.uid.clone()), resource_version: Some(view.version.clone()) };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        self.metrics.wrote(Write::SessionDelete);
        gone(calls::write(&self.leading, api.delete(&view.name, &params)).await)
    }

    /// The account that runners of a project run under. It goes with the definition of what it is for: with vteam.
    async fn account(&self, namespace: &str) -> Result<(), CallError> {
        if self.accounts().contains(namespace) {
            return Ok(());
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let metadata = ObjectMeta {
            name: Some(ACCOUNT.to_owned()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned())])),
            owner_references: Some(vec![self.definition().await?]),
            ..ObjectMeta::default()
        };
        let account = ServiceAccount {
            metadata,
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        };
        let made = calls::write(&self.leading, api.create(&calls::post_params(), &account)).await;
        there(made.map(|_| ()))?;
        self.accounts().insert(namespace.to_owned());
        Ok(())
    }

    async fn definition(&self) -> Result<OwnerReference, CallError> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let there = calls::read(api.get_metadata(DEFINITION)).await?;
        Ok(OwnerReference {
            api_version: CustomResourceDefinition::API_VERSION.to_owned(),
            kind: CustomResourceDefinition::KIND.to_owned(),
            name: DEFINITION.to_owned(),
            uid: there.metadata.uid.unwrap_or_default(),
            controller: None,
            block_owner_deletion: None,
        })
    }

    /// The claim of a workspace that is kept. One that was used and is not there is lost.
    async fn claim(&self, view: &View, wish: &Wish) -> Result<Option<Refusal>, CallError> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &view.namespace);
        let name = pod::base_name(&view.uid);
        match calls::read(api.get_opt(&name)).await? {
            Some(claim) if !is_of(&claim.metadata, view) => Ok(Some(taken(&name))),
            Some(claim) if claim.metadata.deletion_timestamp.is_none() => Ok(None),
            None if view.status.workspace_used != Some(true) => {
                let claim = pod::claim(view, wish);
                let made = calls::write(&self.leading, api.create(&calls::post_params(), &claim)).await;
                there(made.map(|_| self.metrics.wrote(Write::ClaimCreate)))?;
                Ok(None)
            }
            _ if view.status.workspace_used == Some(true) => Ok(Some(Refusal {
                word: "WorkspaceLost".to_owned(),
                message: format!("the workspace's volume is gone: somebody deleted the claim {name}"),
                kind: RefusalKind::Never(Reason::WorkspaceLost),
            })),
            _ => Ok(Some(Refusal {
                word: "WorkspaceEnding".to_owned(),
                message: format!(
                    "the claim {name} is being deleted; the workspace is made anew when it is gone"
                ),
                kind: RefusalKind::Later,
            })),
        }
    }

    fn accounts(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the API server's no to a pod means.
fn refused(error: CallError) -> Result<Result<PodSeen, Refusal>, CallError> {
    match error {
        CallError::Api(status) if matches!(status.code, 400 | 403 | 404 | 422) => Ok(Err(refusal(&status))),
        error => Err(error),
    }
}

fn refusal(status: &Status) -> Refusal {
    let said = &status.message;
    let (word, kind) = match status.code {
        403 if said.contains("exceeded quota") => ("QuotaExceeded", RefusalKind::Later),
        403 if said.contains("violates PodSecurity") => ("PodSecurity", RefusalKind::Later),
        403 => ("Forbidden", RefusalKind::Later),
        // The namespace is gone, or a class that may come.
        404 => ("NotFound", RefusalKind::Later),
        _ => ("PodInvalid", RefusalKind::Never(Reason::Other("PodInvalid".to_owned()))),
    };
    Refusal { word: word.to_owned(), message: format!("the cluster refuses the session's pod: {said}"), kind }
}

fn taken(name: &str) -> Refusal {
    Refusal {
        word: "NameTaken".to_owned(),
        message: format!("{name} is there and is not this session's: delete it"),
        kind: RefusalKind::Later,
    }
}

fn is_of(metadata: &ObjectMeta, view: &View) -> bool {
    metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true) && owner.uid == view.uid)
}

fn there(made: Result<(), CallError>) -> Result<(), CallError> {
    match made {
        Err(CallError::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => Ok(()),
        other => other,
    }
}

/// Gone already, or another one of that name.
fn gone<T>(deleted: Result<T, CallError>) -> Result<(), CallError> {
    match deleted {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_no_means() {
        let check = |code: u16, message: &str, word: &str, hopeless: bool| {
            let refusal = refusal(&Status { code, message: message.to_owned(), ..Status::default() });
            assert_eq!(refusal.word, word, "{message}");
            assert_eq!(matches!(refusal.kind, RefusalKind::Never(_)), hopeless, "{message}");
        };
        check(403, "pods \"x\" is forbidden: exceeded quota: few, requested: pods=1", "QuotaExceeded", false);
        check(
            403,
            "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"",
            "PodSecurity",
            false,
        );
        check(403, "pods \"x\" is forbidden: no PriorityClass with name y was found", "Forbidden", false);
        check(422, "Pod \"x\" is invalid: spec.tolerations[0].effect", "PodInvalid", true);
    }
}
