//! The JSON schema of the document, for editors and for the check of form.

use std::fmt::Write as _;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::document::{API_VERSION, KIND, RedisCluster};
use crate::limits;

/// The JSON schema (2020-12) of a `RedisCluster`, without references, with a description at each
/// field, and with nothing allowed that is not named.
pub fn schema() -> Value {
    let mut root = of::<RedisCluster>();
    root["properties"]["apiVersion"]["const"] = json!(API_VERSION);
    root["properties"]["kind"]["const"] = json!(KIND);
    limits::limit_spec(&mut root);
    tell_defaults(&mut root["properties"]["spec"]);
    root
}

/// Ends the description of each field that has a default with it: `kubectl explain` shows nothing else of it.
fn tell_defaults(schema: &mut Value) {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        if let Some(items) = schema.get_mut("items") {
            tell_defaults(items);
        }
        return;
    };
    for inner in properties.values_mut() {
        let default = match inner.get("default") {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => None,
            Some(number @ (Value::Bool(_) | Value::Number(_))) => Some(number.to_string()),
        };
        if let (Some(default), Some(Value::String(description))) =
            (default, inner.get_mut("description"))
        {
            // The choices have a line each.
            let gap = if description.contains('\n') {
                '\n'
            } else {
                ' '
            };
            write!(description, "{gap}Default: `{default}`.")
                .expect("writing to a String cannot fail");
        }
        tell_defaults(inner);
    }
}

/// The schema of the value at `path`: names with dots between, with `[]` behind one for each item of a list, and `*` for
/// each value of a map; empty is the root. Panics where there is none: the paths are constants, and tests walk them all.
pub(crate) fn at<'a>(root: &'a mut Value, path: &str) -> &'a mut Map<String, Value> {
    let names = path.split('.').filter(|name| !name.is_empty());
    let found = names.fold(root, |schema, name| match name.strip_suffix("[]") {
        Some(list) => &mut schema["properties"][list]["items"],
        None if name == "*" => &mut schema["additionalProperties"],
        None => &mut schema["properties"][name],
    });
    found
        .as_object_mut()
        .unwrap_or_else(|| panic!("there is no schema at {path:?}"))
}

/// Adds these keywords, a mapping, to the schema of the value at `path`.
pub(crate) fn add(root: &mut Value, path: &str, keywords: Value) {
    let schema = at(root, path);
    if let Value::Object(keywords) = keywords {
        schema.extend(keywords);
    }
}

/// The JSON schema of `T`, in the few forms that [`crate::shape`] and [`crate::crd()`] read.
pub(crate) fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut root: Value = settings.into_generator().into_root_schema_for::<T>().into();
    tidy(&mut root);
    root
}

/// Brings the derived schema into the few forms that [`crate::shape`] reads: an absent field is
/// left out and never null, a choice is an `enum`.
fn tidy(schema: &mut Value) {
    let Value::Object(object) = schema else {
        return;
    };
    unwrap_nullable(object);
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = unwrapped(text);
    }
    gather_choices(object);
    if object
        .remove("x-kubernetes-preserve-unknown-fields")
        .is_some()
    {
        object.insert("type".into(), json!(["string", "number", "boolean"]));
    }
    // The name of the Rust type, and a default that says no more than the fields within.
    object.remove("title");
    if object
        .get("default")
        .is_some_and(|d| d.is_null() || d.is_object())
    {
        object.remove("default");
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(inner) {
            tidy(inner);
        }
    }
}

/// A doc comment without the line breaks of the source; paragraphs stay apart.
fn unwrapped(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|p| p.replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n")
}

/// `type: [X, null]` becomes `type: X`, and `anyOf: [X, null]` becomes X.
fn unwrap_nullable(object: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|t| t != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            object.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(options)) = object.get_mut("anyOf") {
        options.retain(|option| option["type"] != "null");
        if let [Value::Object(one)] = options.as_slice() {
            let one = one.clone();
            object.remove("anyOf");
            for (key, value) in one {
                // The description of the field says more than that of its type.
                object.entry(key).or_insert(value);
            }
        }
    }
}

/// `oneOf: [{const, description}…]` becomes `enum` and a longer description.
fn gather_choices(object: &mut Map<String, Value>) {
    let Some(Value::Array(options)) = object.remove("oneOf") else {
        return;
    };
    let mut description = object
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_owned();
    let mut choices = Vec::new();
    for option in &options {
        if let (Some(name), Some(text)) = (option["const"].as_str(), option["description"].as_str())
        {
            let text = unwrapped(text);
            write!(description, "\n`{name}`: {text}").expect("writing to a String cannot fail");
            choices.push(json!(name));
        }
    }
    object.insert("description".into(), json!(description));
    object.insert("enum".into(), Value::Array(choices));
    object.insert("type".into(), json!("string"));
}
