//! The `CustomResourceDefinition`: the schema of the document in the form that Kubernetes takes
//! (structural, <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>).

mod lists;
mod rules;

use serde_json::{Value, json};

use crate::document::KIND;
use crate::limits;
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

/// Which rules in the Common Expression Language the definition carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cel {
    /// For Kubernetes 1.29 and later: many mistakes are refused at once, with a reason and the field.
    With,
    /// For Kubernetes 1.25 to 1.28, which know no functions about amounts, and no rule that points at a field.
    WithoutQuantities,
    /// For older ones, which refuse the definition otherwise. The operator finds the same mistakes.
    Without,
}

impl Cel {
    /// What the API server of this version (major, minor) takes.
    pub fn of_version(version: (u32, u32)) -> Self {
        match version {
            (1, ..25) | (0, _) => Self::Without,
            (1, 25..29) => Self::WithoutQuantities,
            _ => Self::With,
        }
    }
}

/// The `CustomResourceDefinition` of a `RedisCluster`, as `kubectl apply` takes it.
pub fn crd(cel: Cel) -> Value {
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
                "schema": { "openAPIV3Schema": object_schema(cel) },
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

/// The schema of an object: what people write, what we say of it, and the rules that an API server of this kind takes.
fn object_schema(cel: Cel) -> Value {
    let mut document = schema::schema();
    let mut spec = document["properties"]["spec"].take();
    let mut status = schema::of::<RedisClusterStatus>();
    limits::limit_status(&mut status);
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
                    // The one thing of the metadata that a definition may narrow.
                    "name": { "type": "string", "maxLength": 52 },
                },
            },
            "spec": spec,
            "status": status,
        },
    });
    if cel == Cel::Without {
        // That of a Service, whose name it becomes. Where there are rules, one of them says the same in words.
        let pattern = json!({ "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$" });
        schema::add(&mut root, "metadata.name", pattern);
    }
    // So that what is stored shows the defaults within.
    for object in ["spec.persistence", "spec.acl"] {
        schema::add(&mut root, object, json!({ "default": {} }));
    }
    for (path, keywords) in lists::lists() {
        schema::add(&mut root, path, keywords);
    }
    for rule in rules::rules(cel) {
        let rules = schema::at(&mut root, rule.path)
            .entry("x-kubernetes-validations")
            .or_insert_with(|| json!([]));
        if let Value::Array(rules) = rules {
            rules.push(rule.validation(cel));
        }
    }
    root
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
        column(
            "Observed",
            "date",
            ".status.lastObserved",
            "How long ago the operator looked at it, to the minute."
        ),
        column("Age", "date", ".metadata.creationTimestamp", "Since when."),
        version,
        why,
    ])
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
