//! What a watch of the API server tells. Asking again and again would load the node that is measured.

use futures::StreamExt as _;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event, watcher},
};
use std::fmt::Debug;

/// Gives each object at each change, and whether it is gone; returns when those that are there were given.
pub(crate) async fn follow<K>(api: Api<K>, mut note: impl FnMut(K, bool) + Send + 'static)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let (begun, listed) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut begun = Some(begun);
        let mut events = watcher(api, watcher::Config::default()).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => note(object, false),
                Ok(Event::Delete(object)) => note(object, true),
                Ok(Event::InitDone) => drop(begun.take().map(|begun| begun.send(()))),
                Ok(_) => {}
                Err(error) => eprintln!("not followed for now: {error}"),
            }
        }
    });
    listed.await.unwrap();
}
