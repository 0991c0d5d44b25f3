//! How much there may be of what, and how names look: one table, of which the schema for editors, the definition for
//! Kubernetes and the check of form are made. So one document gets one answer, wherever it is read.
//!
//! A pattern says what the check of meaning says with a reason; a test holds the two together.

use serde_json::{Value, json};

use crate::schema;

/// The size of a volume on Kubernetes that nothing was said about, in bytes. Part of the template of every such cluster,
/// so it stays as it is.
pub const STORAGE_BYTES_DEFAULT: u64 = 8 << 30;
/// The least size of a volume, in bytes: less was meant in another unit.
pub(crate) const STORAGE_BYTES_MIN: u64 = 1 << 20;

/// A DNS label (RFC 1123) of at most 63 characters.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// The name of a Kubernetes object such as a Secret: labels with dots between (RFC 1123 subdomain).
const OBJECT_NAME: &str =
    "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";
/// The value of a Kubernetes label, which may be empty.
const LABEL_VALUE: &str = "^([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?$";
/// The name of a user: narrower than the engines', as it is also that of a file and of a key of a Secret.
const USER_NAME: &str = "^[A-Za-z0-9][-_.A-Za-z0-9]*$";
/// The key of a Secret: neither `.` nor anything that begins with `..`, which cannot be files of a volume.
const SECRET_KEY: &str = "^([-_A-Za-z0-9]|[.][-_A-Za-z0-9])[-._A-Za-z0-9]*$";
/// A SHA-256 as the engines write it.
const HASH: &str = "^[0-9a-f]{64}$";
/// The name of an image.
const IMAGE: &str = "^[-._/:@A-Za-z0-9]+$";
/// What an IP address is made of.
const ADDRESS: &str = "^[0-9A-Fa-f:.]+$";

/// A path as [`schema::at`] takes it, and the keywords of the value there.
type Limit = (&'static str, Value);

fn text(length_max: u32, pattern: &str) -> Value {
    json!({ "minLength": 1, "maxLength": length_max, "pattern": pattern })
}

/// The limits of what people write, apart from the ranges of numbers, which stand at their fields.
fn of_spec() -> Vec<Limit> {
    let label = || text(63, LABEL);
    let label_value = || json!({ "maxLength": 63, "pattern": LABEL_VALUE });
    let object_name = || text(253, OBJECT_NAME);
    let image = || text(500, IMAGE);
    vec![
        ("spec.version", json!({ "minLength": 1, "maxLength": 20 })),
        ("spec.image", image()),
        ("spec.nodeImage", image()),
        ("spec.imagePullSecrets", json!({ "maxItems": 100 })),
        ("spec.imagePullSecrets[].name", object_name()),
        ("spec.users", json!({ "maxItems": 1000 })),
        ("spec.users[].name", text(63, USER_NAME)),
        (
            "spec.users[].rules",
            json!({ "minLength": 1, "maxLength": 4096 }),
        ),
        ("spec.users[].passwordHashes", json!({ "maxItems": 100 })),
        ("spec.users[].passwordHashes[]", text(64, HASH)),
        ("spec.users[].passwordSecret.name", object_name()),
        ("spec.users[].passwordSecret.key", text(253, SECRET_KEY)),
        ("spec.storage.storageClassName", object_name()),
        ("spec.pod.labels.*", label_value()),
        ("spec.pod.nodeSelector.*", label_value()),
        ("spec.pod.priorityClassName", object_name()),
        ("spec.pod.schedulerName", object_name()),
        ("spec.pod.runtimeClassName", object_name()),
        ("spec.pod.serviceAccountName", object_name()),
        ("spec.local.bind[]", text(45, ADDRESS)),
        ("spec.local.hosts[].name", label()),
        ("spec.local.hosts[].zone", label()),
    ]
}

/// How much there may be of what has no limit of its own: an API server takes anything without one for as large as a whole
/// request, and refuses rules about it as too expensive. Nothing that makes sense comes near.
struct Bounds {
    items: u32,
    properties: u32,
    length: u32,
}

/// Of what people write.
const SPEC: Bounds = Bounds {
    items: 1_000,
    properties: 1_000,
    length: 65_536,
};

/// Of what we write: a node each, and messages that may name ranges of slots.
const STATUS: Bounds = Bounds {
    items: 16_384,
    properties: 16_384,
    length: 262_144,
};

/// Puts the limits into the schema of the document.
pub(crate) fn limit_spec(root: &mut Value) {
    for (path, keywords) in of_spec() {
        schema::add(root, path, keywords);
    }
    bound(&mut root["properties"]["spec"], &SPEC);
}

/// Puts the limits into the schema of the status.
pub(crate) fn limit_status(status: &mut Value) {
    bound(status, &STATUS);
}

/// Gives every list, map and string below a schema a bound, where it has none.
fn bound(schema: &mut Value, bounds: &Bounds) {
    let Value::Object(object) = schema else {
        return;
    };
    let limit = match object.get("type").and_then(Value::as_str) {
        Some("array") => Some(("maxItems", bounds.items)),
        Some("object")
            if object
                .get("additionalProperties")
                .is_some_and(Value::is_object) =>
        {
            Some(("maxProperties", bounds.properties))
        }
        Some("string") if !object.contains_key("enum") => Some(("maxLength", bounds.length)),
        Some(_) | None => None,
    };
    if let Some((keyword, most)) = limit {
        object.entry(keyword).or_insert_with(|| json!(most));
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties
            .values_mut()
            .for_each(|inner| bound(inner, bounds));
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(inner) {
            bound(inner, bounds);
        }
    }
}

/// Why there is more of `value` than its schema allows, or None.
pub(crate) fn too_much(value: &Value, schema: &Value) -> Option<String> {
    let (keyword, count, of_what) = match value {
        Value::Array(items) => ("maxItems", items.len(), "items"),
        Value::Object(fields) => ("maxProperties", fields.len(), "entries"),
        // Kubernetes counts characters too.
        Value::String(text) => ("maxLength", text.chars().count(), "characters"),
        Value::Null | Value::Bool(_) | Value::Number(_) => return None,
    };
    let most = schema.get(keyword)?.as_u64()?;
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    (count > most).then(|| format!("has {count} {of_what}: at most {most} are allowed"))
}
