//! The `CustomResourceDefinition`: the schema of the document in the form that Kubernetes takes
//! (structural, <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>).

use serde_json::{Map, Value, json};

use crate::document::KIND;
use crate::schema;
use crate::status::RedisClusterStatus;

/// The API group.
pub const GROUP: &str = "shardwright.dev";
/// The version of the API.
pub const VERSION: &str = "v1alpha1";
/// The name of the objects in URLs.
pub const PLURAL: &str = "redisclusters";
/// The name of the definition itself.
pub const CRD_NAME: &str = "redisclusters.shardwright.dev";

/// Whether the definition carries rules in the Common Expression Language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cel {
    /// For Kubernetes 1.25 and later: some mistakes are refused at once, with a reason.
    With,
    /// For older ones, which refuse the definition otherwise. The operator finds the same mistakes.
    Without,
}

/// A rule about the value at `path`; a name with `[]` is each item of a list.
struct Rule {
    path: &'static [&'static str],
    cel: &'static str,
    message: &'static str,
}

/// What the schema alone cannot say. Only what never becomes right by itself: whoever makes one of
/// these mistakes is told by `kubectl apply`. Those with `oldSelf` hold for changes only.
const RULES: [Rule; 8] = [
    Rule {
        path: &["spec"],
        cel: "(has(self.storage) && has(self.storage.storageClassName) ? self.storage.storageClassName : '') == (has(oldSelf.storage) && has(oldSelf.storage.storageClassName) ? oldSelf.storage.storageClassName : '')",
        message: "storage.storageClassName cannot be changed: make another cluster and move the data",
    },
    Rule {
        path: &["spec", "engine"],
        cel: "self == oldSelf || oldSelf == 'redis'",
        message: "a Valkey cluster cannot become a Redis one: Redis does not read its files",
    },
    Rule {
        path: &["spec", "version"],
        cel: "self.matches('^[0-9]{1,5}([.][0-9]{1,5}){0,2}$')",
        message: "write one to three numbers, such as \"7.0\" or \"9.1.0\"",
    },
    Rule {
        path: &["spec", "users", "[]"],
        cel: "self.name in ['default', 'replication', 'shardwright'] || has(self.rules)",
        message: "rules is missing: say what the user may do, for example `~* &* +@all -@dangerous`",
    },
    Rule {
        path: &["spec", "users", "[]"],
        cel: "!(self.name in ['replication', 'shardwright']) || !has(self.rules)",
        message: "the rules of `replication` and `shardwright` are Shardwright's own: leave the field out",
    },
    Rule {
        path: &["spec", "users", "[]"],
        cel: "!(self.name in ['replication', 'shardwright']) || !has(self.passwordHashes) || self.passwordHashes.size() == 0",
        message: "Shardwright has to know the passwords of `replication` and `shardwright` themselves: use passwordSecret",
    },
    Rule {
        path: &["spec", "storage"],
        cel: "!has(self.recreateAfterSeconds) || (has(self.onUnreachable) && self.onUnreachable == 'RecreateAfter')",
        message: "recreateAfterSeconds says nothing without onUnreachable: RecreateAfter",
    },
    Rule {
        path: &["spec", "pod", "labels"],
        cel: "!('app.kubernetes.io/name' in self) && !('app.kubernetes.io/instance' in self) && !('app.kubernetes.io/managed-by' in self) && !('app.kubernetes.io/component' in self)",
        message: "the labels app.kubernetes.io/name, instance, managed-by and component are set by Shardwright",
    },
];

/// Bounds without which Kubernetes takes a rule for too expensive, and lists with a key each, whose
/// items several managers can own. Beyond them nothing sensible is refused.
fn bounds() -> [(&'static [&'static str], Value); 6] {
    let by_name = json!(["name"]);
    [
        (
            &["spec", "users"],
            json!({ "maxItems": 1000, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": by_name }),
        ),
        (&["spec", "users", "[]", "name"], json!({ "maxLength": 63 })),
        (
            &["spec", "users", "[]", "passwordHashes"],
            json!({ "maxItems": 100 }),
        ),
        (&["spec", "version"], json!({ "maxLength": 20 })),
        (
            &["spec", "storage", "storageClassName"],
            json!({ "maxLength": 253 }),
        ),
        (
            &["status", "conditions"],
            json!({ "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"] }),
        ),
    ]
}

/// How much there may be of what has no bound of its own: an API server takes anything without one for as large as a whole
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

/// Gives every list, map and string below a schema a bound, where it has none.
fn bounded(schema: &mut Value, bounds: &Bounds) {
    let Value::Object(object) = schema else {
        return;
    };
    let bound = match object.get("type").and_then(Value::as_str) {
        Some("array") => Some(("maxItems", bounds.items)),
        Some("object") if object.contains_key("additionalProperties") => {
            Some(("maxProperties", bounds.properties))
        }
        Some("string") if !object.contains_key("enum") => Some(("maxLength", bounds.length)),
        Some(_) | None => None,
    };
    if let Some((keyword, most)) = bound {
        object.entry(keyword).or_insert_with(|| json!(most));
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties
            .values_mut()
            .for_each(|inner| bounded(inner, bounds));
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(inner) {
            bounded(inner, bounds);
        }
    }
}

/// The `CustomResourceDefinition` of a `RedisCluster`, as `kubectl apply` takes it.
pub fn crd(rules: Cel) -> Value {
    let mut document = schema::schema();
    let mut spec = document["properties"]["spec"].take();
    let mut status = schema::of::<RedisClusterStatus>();
    structural(&mut spec);
    structural(&mut status);
    let mut root = json!({
        "type": "object",
        "description": document["description"],
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string", "description": document["properties"]["apiVersion"]["description"] },
            "kind": { "type": "string", "description": document["properties"]["kind"]["description"] },
            "metadata": {
                "type": "object",
                "properties": {
                    // The one thing of the metadata that a definition may narrow. The pattern is
                    // that of a Service, whose name it becomes.
                    "name": { "type": "string", "maxLength": 52, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$" },
                },
            },
            "spec": spec,
            "status": status,
        },
    });
    for (path, keywords) in bounds() {
        let at = schema_at(&mut root, path);
        for (keyword, value) in keywords.as_object().into_iter().flatten() {
            at.insert(keyword.clone(), value.clone());
        }
    }
    bounded(&mut root["properties"]["spec"], &SPEC);
    bounded(&mut root["properties"]["status"], &STATUS);
    if rules == Cel::With {
        for Rule { path, cel, message } in &RULES {
            let rules = schema_at(&mut root, path)
                .entry("x-kubernetes-validations")
                .or_insert_with(|| json!([]));
            if let Value::Array(rules) = rules {
                rules.push(json!({ "rule": cel, "message": message }));
            }
        }
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": CRD_NAME },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": "RedisClusterList",
                "plural": PLURAL,
                "singular": "rediscluster",
                // Not `rc`: so kubectl calls ReplicationControllers.
                "shortNames": ["rdc"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": root },
                "additionalPrinterColumns": columns(),
                "subresources": {
                    "status": {},
                    // No selector: an autoscaler would divide what the pods use by the shards.
                    "scale": {
                        "specReplicasPath": ".spec.shards",
                        "statusReplicasPath": ".status.shardCount",
                    },
                },
            }],
        },
    })
}

fn columns() -> Value {
    let column = |name, kind, path, description| json!({ "name": name, "type": kind, "jsonPath": path, "description": description });
    let mut why = column(
        "Why",
        "string",
        ".status.message",
        "What there is to say of it.",
    );
    let mut version = column(
        "Version",
        "string",
        ".status.version",
        "What the servers run.",
    );
    // Only with `-o wide`.
    version["priority"] = json!(1);
    why["priority"] = json!(1);
    json!([
        column(
            "Shards",
            "integer",
            ".spec.shards",
            "How many shards are wanted."
        ),
        column(
            "Ready",
            "string",
            ".status.ready",
            "The nodes that are in order, of those wanted."
        ),
        column("State", "string", ".status.state", "The whole in one word."),
        column(
            "Slots",
            "integer",
            ".status.slotsCovered",
            "How many of the 16384 hash slots are served."
        ),
        column("Age", "date", ".metadata.creationTimestamp", "Since when."),
        version,
        why,
    ])
}

/// The schema of the value at `path`.
fn schema_at<'a>(root: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let found = path.iter().fold(root, |schema, name| match *name {
        "[]" => &mut schema["items"],
        name => &mut schema["properties"][name],
    });
    // The paths above are constants, and a test walks them all.
    found
        .as_object_mut()
        .unwrap_or_else(|| panic!("there is no schema at {}", path.join(".")))
}

/// Rewrites what a structural schema says in another way.
fn structural(schema: &mut Value) {
    let Value::Object(object) = schema else {
        return;
    };
    for keyword in ["$schema", "title", "const"] {
        object.remove(keyword);
    }
    // Several types at once (the settings of redis.conf), or whatever Kubernetes itself takes.
    let free = object.get("additionalProperties") == Some(&json!(true));
    if object.get("type").is_some_and(Value::is_array) {
        object.remove("type");
        object.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
    } else if free {
        object.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
    }
    // What is not named is dropped there, or refused by kubectl; the keyword itself is not allowed.
    if object
        .get("additionalProperties")
        .is_some_and(Value::is_boolean)
    {
        object.remove("additionalProperties");
    }
    if let Some(format) = object.get_mut("format")
        && format.as_str().is_some_and(|f| f.starts_with("uint"))
    {
        *format = json!("int64");
    }
    // A default is written into every object. Nothing is written where there is nothing to say.
    if object
        .get("default")
        .is_some_and(|d| d.is_array() || d == "")
    {
        object.remove("default");
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(structural);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(inner) {
            structural(inner);
        }
    }
}
