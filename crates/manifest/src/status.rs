//! The status of a cluster, as `kubectl get` and `kubectl describe` show it. A rendering of the
//! last look, for people and for other programs: nothing is steered by it, and deleting it loses
//! nothing. What is not known is left out, never 0.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// How the cluster was at the last look. Written by the operator; deleting it loses nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RedisClusterStatus {
    /// The generation of the object that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The whole in one word: `Pending`, `Forming`, `Healthy`, `Progressing`, `Degraded`, `Down`,
    /// `DataLost`, `Invalid` or `Paused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<StateWord>,
    /// The nodes that are members and in order, of those wanted: `6/6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// How many shards have slots.
    #[schemars(range(min = 0, max = 16384))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard_count: Option<u32>,
    /// How many nodes are members of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_count: Option<u32>,
    /// How many of these nodes are in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_node_count: Option<u32>,
    /// How many of the 16384 hash slots are served.
    #[schemars(range(min = 0, max = 16384))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots_covered: Option<u32>,
    /// The image that pods are made from. What runs is the `version` of each node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What the servers that were reached run, such as `Redis 7.4.1`; several where they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What there is to say of the whole: the text of the condition that tells the worst.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How far slots have moved that have to: only while some have to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moves: Option<MovesStatus>,
    /// The shape that the cluster had when all was last as declared: what a change of it can be taken back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_shape: Option<ShapeStatus>,
    /// When the operator looked at the cluster last, as in RFC 3339. Renewed at most once a minute: a status whose time is
    /// several minutes old is no longer updated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_observed: Option<String>,
    /// `Ready`, `Progressing`, `Degraded` and `UpToDate`, each with its reason and what happens next.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The shards, in the order of their first slots. Of a cluster of more than 1000 nodes only those with a node that is
    /// not in order, and without the replicas that are: `shardwright status k8s:NAMESPACE/NAME` shows all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardStatus>,
    /// How many shards are not listed, where some are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlisted_shards: Option<u32>,
}

/// How far slots have moved. Counted since the operator that runs now began with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MovesStatus {
    /// How many slots have to move yet.
    #[schemars(range(min = 0, max = 16384))]
    pub slots_left: u32,
    /// How many slots have changed their owner.
    pub slots_moved: u32,
    /// How many keys went with them.
    pub keys_moved: u64,
    /// How many keys move in a second, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_per_second: Option<u64>,
    /// How many bytes move in a second. Not known where the engine moves slots by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// How long it takes yet at this speed, in seconds, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
}

/// How many shards and replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ShapeStatus {
    /// Primaries with slots.
    #[schemars(range(min = 0, max = 1000))]
    pub shards: u32,
    /// Replicas of each.
    #[schemars(range(min = 0, max = 10))]
    pub replicas_per_shard: u32,
}

/// A primary and its replicas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShardStatus {
    /// The hash slots, as ranges: `0-5460` or `0-99,200-299`.
    pub slots: String,
    /// How many these are.
    #[schemars(range(min = 0, max = 16384))]
    pub slot_count: u32,
    /// Who serves them, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<NodeStatus>,
    /// Who copies from the primary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<NodeStatus>,
}

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// The id by which the nodes know each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The pod, if it is one of this cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The Kubernetes node that the pod runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The zone of that Kubernetes node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The engine and version of its server, such as `Redis 7.4.1`, if it was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What there is to say of it, if it is not in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// One aspect of the cluster.
//
// The fields and their rules are those of `metav1.Condition`, so that `kubectl wait` works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect: `Ready`, `Progressing`, `Degraded`, `UpToDate`, or `RequestDone` once something was asked for.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it is so: `True`, `False` or `Unknown`.
    pub status: ConditionStatus,
    /// Why, in one word for programs.
    pub reason: String,
    /// Why, and what happens next, for people.
    #[serde(default)]
    pub message: String,
    /// When `status` changed last, as in RFC 3339.
    pub last_transition_time: String,
    /// The generation of the object that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    Unknown,
}

/// A cluster in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateWord {
    /// Its pods are being made; nothing is known of it yet.
    Pending,
    /// It is being formed.
    Forming,
    /// As it was asked for.
    Healthy,
    /// It serves all slots, and is being changed to what was asked for.
    Progressing,
    /// It serves all slots, and something is missing.
    Degraded,
    /// Some slots are not served.
    Down,
    /// It was formed, and its data is gone: nothing is done without consent.
    DataLost,
    /// The manifest is refused; what runs is left as it is.
    Invalid,
    /// The operator keeps its hands off.
    Paused,
    /// No server lets the operator in: how it is can't be told.
    Unknown,
}

impl fmt::Display for StateWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "Pending",
            Self::Forming => "Forming",
            Self::Healthy => "Healthy",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::Down => "Down",
            Self::DataLost => "DataLost",
            Self::Invalid => "Invalid",
            Self::Paused => "Paused",
            Self::Unknown => "Unknown",
        })
    }
}

impl JsonSchema for StateWord {
    fn schema_name() -> Cow<'static, str> {
        "StateWord".into()
    }

    fn inline_schema() -> bool {
        true
    }

    // Without the list of the words: an operator with a new one could not tell it where the CRD is
    // still the old one.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}
