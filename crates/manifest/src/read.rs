//! Text to one tree of values: YAML or JSON, one document, no key twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::problem::Problems;

/// Fields that Kubernetes fills in, so that what `kubectl get -o yaml` prints can be read again.
const FILLED_IN_METADATA: [&str; 10] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The one document in `text`, as a mapping.
pub(crate) fn document(text: &str) -> Result<Map<String, Value>, Problems> {
    let mut documents = if text.trim_start().starts_with('{') {
        json_or_flow_yaml(text)?
    } else {
        yaml(text)?
    };
    let Some(first) = documents.pop() else {
        return Err(Problems::of_document(
            "the document is empty: a RedisCluster is expected (see examples/minimal.yaml)",
        ));
    };
    if !documents.is_empty() {
        documents.push(first);
        let kinds: Vec<_> = documents.iter().map(kind_of).collect();
        return Err(Problems::of_document(format!(
            "the file holds {} documents ({}): give one RedisCluster, in a file of its own",
            documents.len(),
            kinds.join(", "),
        )));
    }
    object(first)
}

/// A value that has been read, as a mapping, without what Kubernetes fills in.
pub(crate) fn object(value: Value) -> Result<Map<String, Value>, Problems> {
    match value {
        Value::Object(mut object) => {
            drop_filled_in(&mut object);
            Ok(object)
        }
        other => Err(Problems::of_document(format!(
            "the document is {}: a mapping is expected, beginning with `apiVersion:`",
            kind_of(&other),
        ))),
    }
}

fn kind_of(document: &Value) -> String {
    match document {
        Value::Object(object) => object
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or("one without a kind")
            .to_owned(),
        Value::Array(_) => "a list".to_owned(),
        _ => "a single value".to_owned(),
    }
}

fn drop_filled_in(object: &mut Map<String, Value>) {
    object.remove("status");
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        for name in FILLED_IN_METADATA {
            metadata.remove(name);
        }
    }
}

fn yaml(text: &str) -> Result<Vec<Value>, Problems> {
    let documents: Vec<Strict> = serde_saphyr::from_multiple(text).map_err(|error| {
        let shown = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        Problems::of_document(format!("this is not readable YAML: {shown}"))
    })?;
    Ok(documents.into_iter().map(|document| document.0).collect())
}

/// A document that begins with a brace is JSON first, as the two differ in the escapes of text.
fn json_or_flow_yaml(text: &str) -> Result<Vec<Value>, Problems> {
    match serde_json::from_str::<Strict>(text) {
        Ok(document) => Ok(vec![document.0]),
        Err(error) => yaml(text)
            .map_err(|_| Problems::of_document(format!("this is not readable JSON: {error}"))),
    }
}

/// A value whose mappings have each key once. `serde_json::Value` would keep the last of two
/// without a word.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of YAML or JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let Strict(value) = map.next_value()?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` stands twice")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
