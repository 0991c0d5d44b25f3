//! The document as it is written. The doc comments of the fields are the descriptions in the JSON
//! schema, so they speak to the author of a manifest.

mod kubernetes;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

pub use self::kubernetes::{
    AclSpec, AclStorage, ImagePullPolicy, OnUnreachable, PodOverrides, RawObject, SecretName,
};
use crate::quantity::Quantity;

/// The one `apiVersion` this crate reads.
pub const API_VERSION: &str = "shardwright.dev/v1alpha1";
/// The one `kind` this crate reads.
pub const KIND: &str = "RedisCluster";

/// A sharded Redis or Valkey cluster: declared once, for Kubernetes and for this machine alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisCluster {
    /// Always `shardwright.dev/v1alpha1`.
    pub api_version: String,
    /// Always `RedisCluster`.
    pub kind: String,
    /// The name of the cluster, and what else is known about it.
    pub metadata: Metadata,
    /// What is wanted. `spec: {}` is a cluster of three shards with a replica each.
    pub spec: RedisClusterSpec,
}

/// The name of the cluster, and what else is known about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// The name of the cluster: at most 52 lower-case letters, digits and dashes, beginning with a
    /// letter. On Kubernetes the pods are called after it (`redis-0`, `redis-1`, …).
    pub name: String,
    /// The Kubernetes namespace. Without meaning on a local machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Kubernetes labels, put on every object that belongs to the cluster but its pods, which would
    /// have to restart: labels of pods are in `spec.pod`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Kubernetes annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What is wanted of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RedisClusterSpec {
    /// How many shards the 16384 hash slots are divided among. Each has one primary. At least 3:
    /// with fewer no majority of primaries is left to vote when one dies.
    #[schemars(range(min = 3, max = 1000))]
    pub shards: u32,
    /// How many replicas each primary has. With 0, losing a node loses the data of its shard.
    #[schemars(range(min = 0, max = 10))]
    pub replicas_per_shard: u32,
    /// The server. Default: whichever is found on this machine or in the image; where no image is
    /// named either, Valkey, or Redis for a version before 7.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineKind>,
    /// The version of the engine, as text. Example: `"9.1"` or `"7.0.15"`. Default: on Kubernetes
    /// `"9.1"` of Valkey and `"7.4"` of Redis; on a local machine that of the program that is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The container image, if it is to be another than the usual one of that engine and version.
    /// Without meaning on a local machine, where a program is run as it is. Example:
    /// `docker.io/valkey/valkey:9.1-alpine`. Default: the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When Kubernetes fetches the images. Without meaning on a local machine. Default: as
    /// Kubernetes has it, which depends on the tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// The Secrets with logins for image registries. Without meaning on a local machine. Example:
    /// `[{name: registry}]`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<SecretName>,
    /// The image with `shardwright-node`, the small program in every pod that guards the start and
    /// the end of the server. Without meaning on a local machine, where Shardwright itself does.
    /// Default: `ghcr.io/shardwright/node:1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_image: Option<String>,
    /// Hands off: nothing is changed in the cluster, whatever happens to it. The engine's own
    /// failover still works. Only of the operator: on a local machine nothing happens unasked.
    pub paused: bool,
    /// The users and what each may do. `default` (the administrator), `replication` (replicas log
    /// in with it at their primary) and `shardwright` exist in any case, and need to be listed only
    /// to say where their password comes from. Default: these three.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserSpec>,
    /// How the users are given to the servers. Without meaning on a local machine.
    pub acl: AclSpec,
    /// Settings of `redis.conf`, for all nodes alike. Those that Shardwright itself answers for,
    /// such as `port` or `cluster-enabled`, are refused. Example: `{maxmemory-policy: allkeys-lru,
    /// hz: 20}`. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, ConfigValue>,
    /// What the nodes write to disk.
    pub persistence: PersistenceSpec,
    /// The disk of each node. Default: 8Gi of the default storage class on Kubernetes; on a local
    /// machine what there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Keep the volumes with the data when the cluster is deleted; one of the same name takes them
    /// up again. On a local machine `shardwright down` keeps the data, and `--purge` removes it.
    pub retain_volumes: bool,
    /// Memory and processor time of each node.
    pub resources: ResourcesSpec,
    /// What matters more when a primary dies.
    pub failover: FailoverPolicy,
    /// How long a server that is not wanted any more, and gave its slots away, stays to tell
    /// clients who has them now.
    #[schemars(range(max = 3600))]
    pub drain_seconds: u32,
    /// Changes to the pods. Without meaning on a local machine.
    pub pod: PodOverrides,
    /// For `shardwright up` on this machine; without meaning on Kubernetes. Default: ports from 7000 on
    /// at 127.0.0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalSpec>,
}

impl Default for RedisClusterSpec {
    fn default() -> Self {
        Self {
            shards: 3,
            replicas_per_shard: 1,
            engine: None,
            version: None,
            image: None,
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            node_image: None,
            paused: false,
            users: Vec::new(),
            acl: AclSpec::default(),
            config: BTreeMap::new(),
            persistence: PersistenceSpec::default(),
            storage: None,
            retain_volumes: true,
            resources: ResourcesSpec::default(),
            failover: FailoverPolicy::default(),
            drain_seconds: 15,
            pod: PodOverrides::default(),
            local: None,
        }
    }
}

/// The server program.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Redis, 7.0 or later.
    Redis,
    /// Valkey, 7.2 or later.
    Valkey,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
        })
    }
}

/// A user of the servers' access control list (ACL).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserSpec {
    /// The name to log in with. Example: `worker`.
    pub name: String,
    /// What the user may do, in the ACL language of the engine. Passwords do not belong here.
    /// Example: `~* &* +@all -@dangerous` is all keys, all channels, all commands but the dangerous
    /// ones. Default: those of `default`, `replication` and `shardwright`; others need some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
    /// The Kubernetes Secret with the password. Without it (and without `passwordHashes`) a
    /// password is generated. Locally it comes from the directory given with `--secrets`, from the
    /// file called like the user. Example: `{name: redis-passwords, key: worker}`. Default: a
    /// generated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<PasswordSecretRef>,
    /// SHA-256 hashes of passwords, 64 lower-case hexadecimal digits each. Any of them lets the
    /// user in, so a password can be changed without a moment in which none is valid. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub password_hashes: Vec<String>,
}

/// A key of a Kubernetes Secret.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PasswordSecretRef {
    /// The name of the Secret, in the namespace of the cluster.
    pub name: String,
    /// The key in it.
    #[serde(default = "password_key")]
    pub key: String,
}

fn password_key() -> String {
    "password".to_owned()
}

/// The value of a setting of `redis.conf`: text, a number, or true or false (written as yes or no).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ConfigValue {
    /// Written as it is, quoted where need be.
    Text(String),
    /// Written in decimal.
    Number(serde_json::Number),
    /// Written as `yes` or `no`.
    Switch(bool),
}

impl fmt::Display for ConfigValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Switch(true) => f.write_str("yes"),
            Self::Switch(false) => f.write_str("no"),
        }
    }
}

impl<'de> Deserialize<'de> for ConfigValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self::Text(text)),
            serde_json::Value::Number(number) => Ok(Self::Number(number)),
            serde_json::Value::Bool(switch) => Ok(Self::Switch(switch)),
            _ => Err(serde::de::Error::custom(
                "a setting is text, a number, true or false",
            )),
        }
    }
}

impl JsonSchema for ConfigValue {
    fn schema_name() -> Cow<'static, str> {
        "ConfigValue".into()
    }

    fn inline_schema() -> bool {
        true
    }

    // A CRD has one type for each field or none: this form stands in the CRD as it is, and
    // `schema()` adds the three types for editors.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Text, a number, or true or false (written as yes or no).",
            "x-kubernetes-preserve-unknown-fields": true,
        })
    }
}

/// What the nodes write to disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PersistenceSpec {
    /// Keep the append-only file: every write is logged, and a restarted node has its data again.
    pub aof: bool,
    /// How often the append-only file is forced to the disk.
    pub fsync: AppendFsync,
    /// Also write a snapshot (RDB) now and then, at the usual intervals of the engines.
    pub rdb: bool,
}

impl Default for PersistenceSpec {
    fn default() -> Self {
        Self {
            aof: true,
            fsync: AppendFsync::default(),
            rdb: true,
        }
    }
}

/// How often the append-only file is forced to the disk.
//
// `never` and not `no`, as the engines have it: many YAML readers, kubectl's too, take a bare `no`
// for the boolean false.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AppendFsync {
    /// Once a second: a crash of the machine loses a second of writes at most.
    #[default]
    Everysec,
    /// Before each answer: an acknowledged write is on the disk. Slower.
    Always,
    /// When the operating system likes.
    Never,
}

/// The disk of each node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageSpec {
    /// The size of the volume of each node. Three times `maxmemory` leaves room for a rewrite of
    /// the append-only file beside the old one and a snapshot. It can grow, and not shrink. Example:
    /// `10Gi`.
    pub size: Quantity,
    /// The storage class of the volumes. Cannot be changed later. Without meaning on a local machine.
    /// Example: `fast`. Default: that of the Kubernetes cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// What to do about a pod whose Kubernetes node is unreachable while its volume pins it there.
    /// Without meaning on a local machine, which is one host.
    #[serde(default)]
    pub on_unreachable: OnUnreachable,
    /// How long to wait before `RecreateAfter` acts, in seconds. Default: 300.
    #[schemars(range(min = 30, max = 604_800))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recreate_after_seconds: Option<u32>,
}

/// Memory and processor time of each node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResourcesSpec {
    /// What a node may use at most. `maxmemory` follows from `memory`, with head-room, unless
    /// `config` sets it.
    pub limits: ResourceAmounts,
    /// What is kept free for a node.
    pub requests: ResourceAmounts,
}

/// Amounts of memory and processor time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResourceAmounts {
    /// Memory. Example: `2Gi` or `500M`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Processor time. Not enforced on a local machine. Example: `2` is two processors, `250m` a
    /// quarter of one. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
}

/// What matters more when a primary dies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailoverPolicy {
    /// A replica is promoted at once. Writes that had not reached it yet may be lost, and are
    /// reported.
    #[default]
    Availability,
    /// A primary that keeps an append-only file is given time to come back with every write first.
    KeepEveryWrite,
}

/// For `shardwright up` on this machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LocalSpec {
    /// The port of the first node; the others follow. The cluster bus is at the port + 10000.
    /// Default: 7000.
    #[schemars(range(min = 1024, max = 55535))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The addresses the nodes listen on. Default: `[127.0.0.1]`, which only this machine reaches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bind: Vec<String>,
    /// Pretended hosts, to see how nodes are placed: node 0 gets the first label, node 1 the
    /// second, and so on in turn. A replica is never put on the host of its primary while another
    /// choice exists. Example: `[{name: a, zone: z1}, {name: b, zone: z2}]`. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<LocalHost>,
}

/// A pretended host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalHost {
    /// The name of the host.
    pub name: String,
    /// The zone the host is in. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}
