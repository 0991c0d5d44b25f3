//! What only Kubernetes needs to know. As in the rest of the document, the doc comments of the
//! fields are what `kubectl explain` shows.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// When Kubernetes fetches an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// Before each start.
    Always,
    /// If the Kubernetes node does not have it.
    IfNotPresent,
    /// Not at all: the Kubernetes node has to have it.
    Never,
}

/// A Kubernetes Secret, by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretName {
    /// The name of the Secret, in the namespace of the cluster.
    pub name: String,
}

/// How the users are given to the servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AclSpec {
    /// What kind of object holds the ACL file. There are no passwords in it, only their hashes, but
    /// the hash of a weak password can be guessed from. On a local machine it is a file.
    pub storage: AclStorage,
}

/// What kind of object holds the ACL file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AclStorage {
    /// A Secret.
    #[default]
    Secret,
    /// A `ConfigMap`: whoever may read the configuration may read the hashes.
    ConfigMap,
}

/// What to do about a pod whose Kubernetes node is unreachable while its volume pins it there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnUnreachable {
    /// Wait for the Kubernetes node to come back, or for a person.
    #[default]
    Wait,
    /// After `recreateAfterSeconds` give up the volume and make the node anew, empty, elsewhere; it
    /// copies its data from its primary. Never done to the last copy of a shard.
    RecreateAfter,
}

/// Changes to the pods, beyond what the rest of the document says. On a local machine there are no
/// pods, and all of it is passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodOverrides {
    /// More labels. Those that select the pods of the cluster are refused. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a Kubernetes node must have. Example: `{disk: ssd}`. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Affinity, as in any pod. In addition to the spread over hosts and zones. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<RawObject>,
    /// Tolerations, as in any pod. Example: `[{key: dedicated, operator: Exists}]`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<RawObject>,
    /// Topology spread constraints, as in any pod. They replace the usual ones; an empty list means
    /// no spread. Example: `[{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable:
    /// DoNotSchedule}]`. Default: spread over hosts and over zones as far as possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology_spread_constraints: Option<Vec<RawObject>>,
    /// Whether the platform chooses the users and groups that the pods run as, as some do: then
    /// they are left out, and not 999. A null in `securityContext` says the same, but a later
    /// `kubectl apply` drops it. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_user_ids: Option<bool>,
    /// The priority class. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// The scheduler. Default: that of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// The runtime class. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    /// The service account. Its token is not mounted in any case: the servers do not talk to
    /// Kubernetes. Default: that of the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// How long a pod may take to end, in seconds. Default: the time to hand over, the time to
    /// wait for replicas, and the time to write a snapshot of `maxmemory`.
    #[schemars(range(min = 1, max = 86400))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<u32>,
    /// The security context of the pod, as in any pod. Its fields replace the usual ones one by one.
    /// Example: `{runAsUser: 1000}`. Default: not root, user and groups 999, seccomp
    /// `RuntimeDefault`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<RawObject>,
    /// Environment variables of the server, as in any container. Example: `[{name: TZ, value: UTC}]`.
    /// Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<RawObject>,
    /// More mounts of the server, as in any container; the volumes are listed in `volumes`. Example:
    /// `[{name: extra, mountPath: /extra}]`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<RawObject>,
    /// More volumes, as in any pod. Example: `[{name: extra, emptyDir: {}}]`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<RawObject>,
    /// More containers beside the server, as in any pod. Example: `[{name: exporter, image:
    /// "example.com/exporter:1"}]`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sidecars: Vec<RawObject>,
    /// More containers that run before the server, as in any pod. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<RawObject>,
}

/// An object of the Kubernetes API as it was written. What may stand in it is known to the builder
/// of the pods, which refuses the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawObject(pub Map<String, Value>);

impl JsonSchema for RawObject {
    fn schema_name() -> Cow<'static, str> {
        "RawObject".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": true,
        })
    }
}
