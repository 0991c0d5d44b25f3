//! The parts of a pod that a manifest gives as they are in Kubernetes: read strictly, so that a
//! misspelled field is told and not dropped.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use shardwright_manifest::{Problem, RawObject};

/// Reads overrides and keeps what is wrong with them.
#[derive(Default)]
pub(super) struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    /// Notes a problem.
    pub(super) fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let (path, message) = (path.into(), message.into());
        self.problems.push(Problem { path, message });
    }

    /// All problems, if there are any.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() {
            Ok(value)
        } else {
            Err(self.problems)
        }
    }

    /// The object at `path` as a `T`. None, and a problem, if it is none.
    pub(super) fn object<T>(&mut self, path: &str, raw: &RawObject) -> Option<T>
    where
        T: DeserializeOwned + Serialize,
    {
        let mut value = Value::Object(raw.0.clone());
        spell_quantities(&mut value);
        let read: T = match serde_json::from_value(value.clone()) {
            Ok(read) => read,
            Err(error) => {
                self.problem(path, format!("is not what Kubernetes takes here: {error}"));
                return None;
            }
        };
        // The types skip what they do not know: what does not come back was not understood.
        let back = serde_json::to_value(&read).unwrap_or(Value::Null);
        self.compare(path, &value, &back);
        Some(read)
    }

    /// Each object of the list at `path`.
    pub(super) fn list<T>(&mut self, path: &str, raw: &[RawObject]) -> Vec<T>
    where
        T: DeserializeOwned + Serialize,
    {
        let each = raw.iter().enumerate();
        each.filter_map(|(index, raw)| self.object(&format!("{path}[{index}]"), raw))
            .collect()
    }

    fn compare(&mut self, path: &str, given: &Value, back: &Value) {
        match (given, back) {
            (Value::Object(given), Value::Object(back)) => {
                for (name, value) in given {
                    let path = format!("{path}.{name}");
                    match back.get(name) {
                        Some(back) => self.compare(&path, value, back),
                        // As in Kubernetes, null is the same as leaving the field out.
                        None if value.is_null() => {}
                        None => self.problem(path, "is not a field that Kubernetes has here"),
                    }
                }
            }
            (Value::Array(given), Value::Array(back)) => {
                for (index, (given, back)) in given.iter().zip(back).enumerate() {
                    self.compare(&format!("{path}[{index}]"), given, back);
                }
            }
            _ => {}
        }
    }
}

/// `cpu: 1` is as good as `cpu: "1"` for Kubernetes.
fn spell_quantities(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (name, inner) in object.iter_mut() {
                if let ("limits" | "requests", Value::Object(amounts)) =
                    (name.as_str(), &mut *inner)
                {
                    spell_numbers(amounts);
                }
                spell_quantities(inner);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(spell_quantities),
        _ => {}
    }
}

fn spell_numbers(amounts: &mut Map<String, Value>) {
    for amount in amounts.values_mut() {
        if let Value::Number(number) = amount {
            *amount = Value::String(number.to_string());
        }
    }
}

/// `over` laid over `under`: its fields replace those of the same name, and null takes one away.
pub(super) fn laid_over(under: Value, over: Option<&RawObject>) -> RawObject {
    let mut object = match under {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    for (name, value) in over.into_iter().flat_map(|raw| &raw.0) {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    RawObject(object)
}
