//! Sessions and how they end.

use super::follow::follow;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// By name, the status of each that has one.
pub(crate) struct Sessions(Arc<Mutex<HashMap<String, Value>>>);

impl Sessions {
    pub(crate) async fn follow(client: Client, namespace: &str) -> Self {
        let sessions = Self(Arc::default());
        let of = Arc::clone(&sessions.0);
        let kind = GroupVersionKind::gvk("vteam.ambient-code", "v1alpha1", "AgenticSession");
        let api = Api::<DynamicObject>::namespaced_with(client, namespace, &ApiResource::from_gvk(&kind));
        follow(api, move |object, _| {
            of.lock().unwrap().insert(object.name_any(), object.data["status"].clone());
        })
        .await;
        sessions
    }

    /// Its status, once it has come to rest.
    ///
    /// # Errors
    /// The last status, after a time in which it should have.
    pub(crate) async fn settled(&self, session: &str, patience: Duration) -> Result<Value, Value> {
        let begun = Instant::now();
        loop {
            let status = self.0.lock().unwrap().get(session).cloned().unwrap_or_default();
            let phase = status["phase"].as_str().unwrap_or_default();
            if ["Completed", "Failed", "Stopped"].contains(&phase) {
                return Ok(status);
            }
            if begun.elapsed() > patience {
                return Err(status);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
