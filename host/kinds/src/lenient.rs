//! Objects of all tenants, read in one list: what one of them wrote must not keep the others from being read.
//!
//! `serde_json` gives up on what is nested deeper than 128 levels, the API server above 10,000; fields of our kinds that take
//! anything, and the field manager's notes on them, may be as deep as that. What lies deeper than [`DEEPEST`] is left out.

use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event, watcher},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use std::{borrow::Cow, fmt};

/// Levels of an object that are read. Nothing that means anything to us is half as deep.
const DEEPEST: usize = 64;

/// An object without its field manager's notes, and without what nobody could mean.
#[derive(Debug, Clone)]
pub struct Lenient<K>(pub K);

/// What `kube::runtime::watcher` tells.
pub fn watch<K>(
    api: Api<Lenient<K>>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource + DeserializeOwned + Clone + fmt::Debug + Send + 'static,
{
    watcher(api, config).map(|event| {
        event.map(|event| match event {
            Event::Init => Event::Init,
            Event::InitApply(Lenient(object)) => Event::InitApply(object),
            Event::InitDone => Event::InitDone,
            Event::Apply(Lenient(object)) => Event::Apply(object),
            Event::Delete(Lenient(object)) => Event::Delete(object),
        })
    })
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Shallow(DEEPEST).deserialize(deserializer)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        serde_json::from_value(object).map(Self).map_err(D::Error::custom)
    }
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &K::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &K::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &K::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &K::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// Reads this many levels.
struct Shallow(usize);

impl<'de> DeserializeSeed<'de> for Shallow {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0 == 0 {
            // Without a limit, as it needs no stack.
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Value::Null);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shallow {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Shallow(self.0 - 1))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            map.insert(key, entries.next_value_seed(Shallow(self.0 - 1))?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::{DynamicObject, ObjectList, WatchEvent};

    fn deep(levels: usize) -> String {
        format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
    }

    fn session(name: &str, context: &str) -> String {
        format!(
            r#"{{"apiVersion": "vteam.ambient-code/v1alpha1", "kind": "AgenticSession",
            "metadata": {{"name": "{name}", "managedFields": [{{"manager": "m", "fieldsV1": {context}}}]}},
            "spec": {{"budget": 1.5, "maxTurns": -3, "list": [true, null], "userContext": {context}}}}}"#
        )
    }

    #[test]
    fn a_deep_object_is_read_among_the_others() {
        let (deep, flat) = (session("deep", &deep(9_000)), session("flat", "{}"));
        let list = format!(
            r#"{{"kind": "List", "apiVersion": "v1", "metadata": {{"resourceVersion": "7"}}, "items": [{deep}, {flat}]}}"#
        );
        assert!(serde_json::from_str::<ObjectList<DynamicObject>>(&list).is_err(), "the test tests nothing");
        let read: ObjectList<Lenient<DynamicObject>> = serde_json::from_str(&list).unwrap();
        let names: Vec<_> = read.items.iter().map(|item| item.0.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["deep", "flat"]);
        let Lenient(flat) = &read.items[1];
        assert_eq!(flat.metadata.managed_fields, None);
        let spec =
            serde_json::json!({"budget": 1.5, "maxTurns": -3, "list": [true, null], "userContext": {}});
        assert_eq!(flat.data["spec"], spec);

        let news = format!(r#"{{"type": "MODIFIED", "object": {deep}}}"#);
        let WatchEvent::Modified(Lenient(object)) = serde_json::from_str::<WatchEvent<_>>(&news).unwrap()
        else {
            panic!("another event");
        };
        let object: DynamicObject = object;
        assert_eq!(object.metadata.name.as_deref(), Some("deep"));
        assert!(object.data["spec"]["userContext"].is_object());
    }

    #[test]
    fn a_kind_of_the_cluster_is_read_too() {
        let text = r#"{"metadata": {"name": "m"}, "data": {"k": "v"}, "binaryData": {"b": "AAE="}}"#;
        let Lenient(map) = serde_json::from_str::<Lenient<ConfigMap>>(text).unwrap();
        assert_eq!(map.data.unwrap()["k"], "v");
        assert_eq!(map.binary_data.unwrap()["b"].0, [0, 1]);
    }
}
