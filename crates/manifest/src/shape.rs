//! The check of form: every unknown field, wrong type and missing field at once.
//!
//! serde stops at the first mistake. So the tree of values is walked along the JSON schema first,
//! and each value of a wrong form is taken out (or, where it must be there, replaced by a stand-in),
//! after which serde reads the rest and the check of meaning can speak too.

use serde_json::{Map, Value, json};

use crate::limits::too_much;
use crate::problem::{Findings, field, item};

/// Reports what does not fit `schema` and mends `object` so that it does.
pub(crate) fn mend(object: &mut Map<String, Value>, schema: &Value, findings: &mut Findings) {
    mend_mapping("", object, schema, findings);
}

fn mend_mapping(path: &str, object: &mut Map<String, Value>, schema: &Value, out: &mut Findings) {
    // An object of the Kubernetes API: the builder of the pods knows what may stand in it.
    if schema["additionalProperties"] == Value::Bool(true) {
        return;
    }
    let no_properties = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&no_properties);
    let values_schema = schema.get("additionalProperties").filter(|s| s.is_object());
    // A schema without the list requires no field.
    let required = schema["required"].as_array().into_iter().flatten();
    let required: Vec<&str> = required.filter_map(Value::as_str).collect();

    let names: Vec<String> = object.keys().cloned().collect();
    for name in names {
        let at = field(path, &name);
        let Some(inner) = properties.get(&name).or(values_schema) else {
            out.problem(at, unknown_field(&name, properties));
            object.remove(&name);
            continue;
        };
        let Some(value) = object.get_mut(&name) else {
            continue;
        };
        // As in Kubernetes, null is the same as leaving the field out.
        if value.is_null() {
            if !properties.contains_key(&name) {
                out.warning(&at, "is empty, which is the same as leaving it out");
            }
            object.remove(&name);
            continue;
        }
        if let Some(message) = misfit(value, inner) {
            out.replaced(&at, message);
            object.remove(&name);
            if required.contains(&name.as_str()) {
                object.insert(name, stand_in(inner));
            }
        } else {
            mend_inside(&at, value, inner, out);
        }
    }
    for name in required {
        // A field that was of a wrong form has its stand-in already.
        if !object.contains_key(name) {
            let inner = &properties[name];
            out.replaced(&field(path, name), missing(inner));
            object.insert(name.to_owned(), stand_in(inner));
        }
    }
}

fn mend_inside(path: &str, value: &mut Value, schema: &Value, out: &mut Findings) {
    match value {
        Value::Object(object) => mend_mapping(path, object, schema, out),
        Value::Array(items) => {
            let inner = &schema["items"];
            for (index, value) in items.iter_mut().enumerate() {
                let at = item(path, index);
                if let Some(message) = misfit(value, inner) {
                    out.replaced(&at, message);
                    *value = stand_in(inner);
                }
                mend_inside(&at, value, inner, out);
            }
        }
        _ => {}
    }
}

fn missing(schema: &Value) -> String {
    match schema["const"].as_str() {
        Some(value) => format!("is missing: write `{value}`"),
        None => "is missing".to_owned(),
    }
}

/// Why `value` itself (not what is inside of it) does not fit, or None.
fn misfit(value: &Value, schema: &Value) -> Option<String> {
    if schema.get("x-kubernetes-int-or-string").is_some() {
        let fits = value.is_string() || value.is_i64() || value.is_u64();
        return (!fits).then(|| {
            let quotes = if value.is_number() {
                ": put it in quotes"
            } else {
                ""
            };
            format!(
                "must be a quantity such as 2Gi, not {}{quotes}",
                shown(value)
            )
        });
    }
    if let Some(choices) = schema["enum"].as_array() {
        return (!choices.contains(value)).then(|| {
            let names: Vec<_> = choices.iter().filter_map(Value::as_str).collect();
            format!("must be one of {}, not {}", names.join(", "), shown(value))
        });
    }
    let Some(kind) = schema["type"].as_str() else {
        // The settings of redis.conf are the one place with several types.
        let fits = value.is_string() || value.is_number() || value.is_boolean();
        return (!fits).then(|| {
            format!(
                "must be text, a number, true or false, not {}",
                shown(value)
            )
        });
    };
    let (fits, wanted) = match kind {
        "object" => (value.is_object(), "a mapping".to_owned()),
        "array" => (value.is_array(), "a list".to_owned()),
        "string" => (value.is_string(), "text".to_owned()),
        "boolean" => (value.is_boolean(), "true or false".to_owned()),
        "integer" => integer(value, schema),
        other => (false, format!("a value of the type {other}")),
    };
    let quotes = if kind == "string" && (value.is_number() || value.is_boolean()) {
        ": put it in quotes"
    } else {
        ""
    };
    let found = match kind {
        // Who writes a password where a reference to it belongs should not see it again in a log.
        "object" | "array" if value.is_string() => "text".to_owned(),
        _ => shown(value),
    };
    if fits {
        too_much(value, schema)
    } else {
        Some(format!("must be {wanted}, not {found}{quotes}"))
    }
}

/// Whether the value fits the Rust type; the narrower range of the field is a matter of meaning,
/// where the reason for it can be told.
fn integer(value: &Value, schema: &Value) -> (bool, String) {
    let largest = match schema["format"].as_str() {
        Some("uint16") => u64::from(u16::MAX),
        _ => u64::from(u32::MAX),
    };
    let wanted = match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
        (Some(min), Some(max)) => format!("a whole number from {min} to {max}"),
        _ => format!("a whole number from 0 to {largest}"),
    };
    (value.as_u64().is_some_and(|v| v <= largest), wanted)
}

/// A value in a message: short ones as they are, others by their kind.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(v) => v.to_string(),
        Value::Number(v) => v.to_string(),
        Value::String(v) if v.chars().count() <= 40 => format!("{v:?}"),
        Value::String(_) => "a long text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

fn stand_in(schema: &Value) -> Value {
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let mut object = Map::new();
            for name in schema["required"].as_array().into_iter().flatten() {
                if let Some(name) = name.as_str() {
                    object.insert(name.to_owned(), stand_in(&schema["properties"][name]));
                }
            }
            Value::Object(object)
        }
        Some("array") => json!([]),
        Some("integer") => json!(0),
        Some("boolean") => json!(false),
        _ => json!(""),
    }
}

fn unknown_field(name: &str, properties: &Map<String, Value>) -> String {
    if name == "password" && properties.contains_key("passwordSecret") {
        return "is not a field: passwords do not stand in a manifest; use passwordSecret or passwordHashes, or have one generated".to_owned();
    }
    if let Some(known) = nearest(name, properties.keys()) {
        return format!("is not a field: did you mean `{known}`?");
    }
    let known: Vec<_> = properties.keys().map(String::as_str).collect();
    format!("is not a field; there are: {}", known.join(", "))
}

/// The known name that was probably meant: the same letters in another spelling, a beginning of
/// it, or at most two letters off.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let plain = |text: &str| -> String {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).take(64).collect()
    };
    let wanted = plain(name);
    known
        .filter_map(|candidate| {
            let other = plain(candidate);
            let distance = if wanted.len() >= 4
                && (other.starts_with(&wanted) || wanted.starts_with(&other))
            {
                0
            } else {
                edit_distance(&wanted, &other)
            };
            (distance <= 2 && distance * 2 < wanted.len()).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, taken out or changed (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
