//! Which lists have a key in each item, or each item once: then several managers can each own their items (server-side
//! apply), and nothing stands twice.
//!
//! The items of `spec.pod` are objects of Kubernetes; of their fields only those are named here that a key needs, and those
//! without which no pod could be made.

use serde_json::{Value, json};

/// The keywords of the list at each path.
pub(super) fn lists() -> Vec<(&'static str, Value)> {
    let container = || {
        let fields = json!({ "name": label(), "image": text(4096) });
        of_objects(&["name"], &fields, &["name", "image"])
    };
    vec![
        ("spec.users", by(&["name"])),
        ("spec.users[].passwordHashes", set()),
        ("spec.imagePullSecrets", by(&["name"])),
        ("spec.local.bind", set()),
        ("spec.local.hosts", by(&["name"])),
        (
            "spec.pod.env",
            of_objects(&["name"], &json!({ "name": text(4096) }), &["name"]),
        ),
        (
            "spec.pod.volumeMounts",
            of_objects(
                &["mountPath"],
                &json!({ "name": label(), "mountPath": text(4096) }),
                &["name", "mountPath"],
            ),
        ),
        (
            "spec.pod.volumes",
            of_objects(&["name"], &json!({ "name": label() }), &["name"]),
        ),
        ("spec.pod.sidecars", container()),
        ("spec.pod.initContainers", container()),
        (
            "spec.pod.topologySpreadConstraints",
            of_objects(
                &["topologyKey", "whenUnsatisfiable"],
                &json!({
                    "maxSkew": { "type": "integer", "format": "int32", "minimum": 1 },
                    "topologyKey": text(317),
                    "whenUnsatisfiable": { "type": "string", "enum": ["DoNotSchedule", "ScheduleAnyway"] },
                }),
                &["maxSkew", "topologyKey", "whenUnsatisfiable"],
            ),
        ),
        // As in a pod: two tolerations may have the same key.
        ("spec.pod.tolerations", whole()),
        ("status.conditions", by(&["type"])),
        ("status.shards", whole()),
        ("status.shards[].replicas", whole()),
    ]
}

/// Each item belongs to who wrote it; these fields tell items apart.
fn by(keys: &[&str]) -> Value {
    json!({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys })
}

/// Each item once.
fn set() -> Value {
    json!({ "x-kubernetes-list-type": "set" })
}

/// The list belongs to one manager as a whole.
fn whole() -> Value {
    json!({ "x-kubernetes-list-type": "atomic" })
}

/// A list of Kubernetes' own objects with a key.
fn of_objects(keys: &[&str], fields: &Value, required: &[&str]) -> Value {
    let mut keywords = by(keys);
    keywords["items"] = json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": fields,
        "required": required,
    });
    keywords
}

fn text(length_max: u32) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": length_max })
}

/// The name of a container or a volume.
fn label() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" })
}
