//! The key-value store of each plugin: in memory, written to the log as events, folded from it by the next runner.

use crate::link::Link;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use engine::{State, StateError, async_trait};
use model::{
    event::{Event, PluginState},
    id::PluginId,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

const MAX_KEYS: usize = 1000;
const MAX_KEY_BYTES: usize = 256;

pub type Stored = Arc<Mutex<BTreeMap<(PluginId, String), Vec<u8>>>>;

/// One plugin's part of it.
pub struct PluginStore {
    pub stored: Stored,
    pub plugin: PluginId,
    /// Bytes of its keys and values.
    pub quota: u64,
    pub link: Link,
}

impl PluginStore {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<(PluginId, String), Vec<u8>>) -> T) -> T {
        work(&mut self.stored.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn own<'a>(
        &self,
        all: &'a BTreeMap<(PluginId, String), Vec<u8>>,
    ) -> impl Iterator<Item = (&'a str, &'a Vec<u8>)> + use<'a> {
        let plugin = self.plugin.clone();
        let from = (plugin.clone(), String::new());
        let own = all.range(from..).take_while(move |((of, _), _)| *of == plugin);
        own.map(|((_, key), value)| (key.as_str(), value))
    }

    fn check(&self, key: &str, value: &[u8]) -> Result<(), StateError> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(StateError::Quota(format!("a key has 1 to {MAX_KEY_BYTES} bytes")));
        }
        let (others, bytes) = self.with(|all| {
            let others = self.own(all).filter(|(of, _)| *of != key);
            others.fold((0, 0), |(keys, bytes), (key, value)| (keys + 1, bytes + key.len() + value.len()))
        });
        if others >= MAX_KEYS {
            return Err(StateError::Quota(format!("a plugin has at most {MAX_KEYS} keys")));
        }
        if (bytes + key.len() + value.len()) as u64 > self.quota {
            return Err(StateError::Quota(format!("a plugin's state has at most {} bytes", self.quota)));
        }
        Ok(())
    }

    fn say(&self, key: &str, value: Option<&[u8]>) {
        let value = value.map(|value| STANDARD.encode(value));
        let state = PluginState { plugin: self.plugin.clone(), key: key.to_owned(), value };
        self.link.record(Event::PluginState(state));
    }
}

#[async_trait]
impl State for PluginStore {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.with(|all| all.get(&(self.plugin.clone(), key.to_owned())).cloned()))
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), StateError> {
        self.check(key, &value)?;
        self.say(key, Some(&value));
        self.with(|all| all.insert((self.plugin.clone(), key.to_owned()), value));
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), StateError> {
        if self.with(|all| all.remove(&(self.plugin.clone(), key.to_owned()))).is_some() {
            self.say(key, None);
        }
        Ok(())
    }

    async fn keys(&self) -> Result<Vec<String>, StateError> {
        Ok(self.with(|all| self.own(all).map(|(key, _)| key.to_owned()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plugins_do_not_see_each_other_and_have_a_quota() {
        let stored = Stored::default();
        let store = |plugin: &str| PluginStore {
            stored: stored.clone(),
            plugin: plugin.parse().unwrap(),
            quota: 10,
            link: Link::default(),
        };
        let (a, b) = (store("x.a"), store("x.b"));
        a.set("k", b"12345".to_vec()).await.unwrap();
        b.set("j", b"1".to_vec()).await.unwrap();
        a.set("k", b"123456789".to_vec()).await.unwrap();
        assert!(matches!(a.set("l", b"".to_vec()).await, Err(StateError::Quota(_))));
        assert!(matches!(a.set("k", vec![0; 10]).await, Err(StateError::Quota(_))));
        assert_eq!(a.get("j").await.unwrap(), None);
        assert_eq!((a.keys().await.unwrap(), b.keys().await.unwrap()), (vec!["k".into()], vec!["j".into()]));
        a.delete("k").await.unwrap();
        assert_eq!(a.keys().await.unwrap(), Vec::<String>::new());
    }
}
