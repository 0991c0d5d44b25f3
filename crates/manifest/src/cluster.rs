//! The validated cluster: what a document means once it passed every check.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::acl::Rules;
use crate::checks;
use crate::config;
use crate::document::{
    AclStorage, AppendFsync, EngineKind, FailoverPolicy, ImagePullPolicy, KIND, PodOverrides,
    RedisCluster,
};
use crate::problem::{Findings, Problems, Warning};
use crate::read;
use crate::schema;
use crate::secret::PasswordHash;
use crate::shape;

/// The administrator. The engines know this name: it is who a connection is before it logs in.
pub const DEFAULT_USER: &str = "default";
/// Whom replicas log in as at their primary.
pub const REPLICATION_USER: &str = "replication";
/// Whom Shardwright itself logs in as.
pub const SHARDWRIGHT_USER: &str = "shardwright";

/// A document that passed every check, and what is odd about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The cluster.
    pub cluster: Cluster,
    /// What the author should know; the caller shows it.
    pub warnings: Vec<Warning>,
}

/// A cluster as it is wanted. There is no other way to one than [`Cluster::from_text`] and its
/// siblings, so who holds one need not check anything again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) shards: u32,
    pub(crate) replicas_per_shard: u32,
    pub(crate) engine: Option<EngineKind>,
    pub(crate) version: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) users: Vec<User>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) persistence: Persistence,
    pub(crate) storage_bytes: Option<u64>,
    pub(crate) memory_limit_bytes: Option<u64>,
    pub(crate) memory_request_bytes: Option<u64>,
    pub(crate) cpu_limit_milli: Option<u64>,
    pub(crate) cpu_request_milli: Option<u64>,
    pub(crate) failover: FailoverPolicy,
    pub(crate) drain_seconds: u32,
    pub(crate) kubernetes: Kubernetes,
    pub(crate) local: LocalLayout,
}

/// A user of the servers, with checked rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub(crate) name: String,
    pub(crate) rules: Rules,
    pub(crate) password_secret: Option<PasswordSecret>,
    pub(crate) password_hashes: Vec<PasswordHash>,
}

/// Which key of which Kubernetes Secret holds a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordSecret {
    /// The name of the Secret.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// What the nodes write to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    /// Whether there is an append-only file.
    pub aof: bool,
    /// How often it is forced to the disk.
    pub fsync: AppendFsync,
    /// Whether snapshots are written.
    pub rdb: bool,
}

/// What only Kubernetes needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// Whether the operator keeps its hands off.
    pub paused: bool,
    /// The image with the node program, if it is to be another than the usual one.
    pub node_image: Option<String>,
    /// When images are fetched, if it was said.
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// The Secrets with logins for image registries.
    pub image_pull_secrets: Vec<String>,
    /// What kind of object holds the ACL file.
    pub acl_storage: AclStorage,
    /// The storage class of the volumes, if one was named.
    pub storage_class: Option<String>,
    /// What to do about a pod that its volume pins to an unreachable Kubernetes node.
    pub on_unreachable: Unreachable,
    /// Whether the volumes outlive the cluster's object.
    pub retain_volumes: bool,
    /// Changes to the pods, for the builder of the pods to read.
    pub pod: PodOverrides,
}

/// What to do about a pod that its volume pins to an unreachable Kubernetes node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// Wait for the Kubernetes node, or for a person.
    Wait,
    /// Give up the volume after that time and make the node anew. Never the last copy of a shard.
    RecreateAfter {
        /// The time, in seconds: 30 to 604800.
        seconds: u32,
    },
}

/// How a cluster lies on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalLayout {
    pub(crate) port: Option<u16>,
    pub(crate) bind: Vec<IpAddr>,
    pub(crate) hosts: Vec<HostLabel>,
}

/// A pretended host of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLabel {
    /// The name of the host.
    pub host: String,
    /// The zone the host is in, if one was given.
    pub zone: Option<String>,
}

impl Cluster {
    /// Reads YAML or JSON. Fails with every problem of the document at once.
    pub fn from_text(text: &str) -> Result<Accepted, Problems> {
        Self::from_text_with(text, |_| {})
    }

    /// Reads bytes, as of a file. Fails as [`Cluster::from_text`] does, and on bytes that are not
    /// UTF-8.
    pub fn from_bytes(bytes: &[u8]) -> Result<Accepted, Problems> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::from_text(text),
            Err(error) => Err(Problems::of_document(format!(
                "this is not text: byte {} is not UTF-8",
                error.valid_up_to()
            ))),
        }
    }

    /// Reads YAML or JSON and lets `change` alter the document before its meaning is checked: what
    /// a command line overrides is held to the same rules as what a file says.
    pub fn from_text_with(
        text: &str,
        change: impl FnOnce(&mut RedisCluster),
    ) -> Result<Accepted, Problems> {
        Self::from_object(read::document(text)?, change)
    }

    /// Checks an object as Kubernetes gives it, with all that it fills in. Fails as
    /// [`Cluster::from_text`] does.
    pub fn from_value(value: serde_json::Value) -> Result<Accepted, Problems> {
        Self::from_object(read::object(value)?, |_| {})
    }

    fn from_object(
        mut object: serde_json::Map<String, serde_json::Value>,
        change: impl FnOnce(&mut RedisCluster),
    ) -> Result<Accepted, Problems> {
        let mut findings = Findings::default();
        // Every field of another kind would be unknown here, and that would say nothing.
        if let Some(kind) = object.get("kind").and_then(|kind| kind.as_str())
            && kind != KIND
        {
            checks::wrong_kind(kind, &mut findings);
            return accept(findings, None);
        }
        shape::mend(&mut object, &schema::schema(), &mut findings);
        let parsed = serde_json::from_value::<RedisCluster>(serde_json::Value::Object(object));
        let cluster = match parsed {
            Ok(mut document) => {
                change(&mut document);
                Some(checks::cluster(&document, &mut findings))
            }
            Err(error) => {
                // The form was mended along the schema of the same types; not to be met.
                findings.problem("", format!("cannot be read: {error}"));
                None
            }
        };
        accept(findings, cluster.flatten())
    }

    /// Checks a document that was built in memory or came from Kubernetes. Fails with every
    /// problem at once.
    pub fn from_document(document: &RedisCluster) -> Result<Accepted, Problems> {
        let mut findings = Findings::default();
        let cluster = checks::cluster(document, &mut findings);
        accept(findings, cluster)
    }

    /// The name: a DNS label that begins with a letter, at most 52 bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Kubernetes namespace, if the document names one.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Kubernetes labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Kubernetes annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// How many shards: 3 to 1000.
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// How many replicas each primary has: 0 to 10.
    pub fn replicas_per_shard(&self) -> u32 {
        self.replicas_per_shard
    }

    /// How many nodes in all.
    pub fn nodes(&self) -> u32 {
        self.shards * (1 + self.replicas_per_shard)
    }

    /// The engine, if the document names one.
    pub fn engine(&self) -> Option<EngineKind> {
        self.engine
    }

    /// The version of the engine, as one to three numbers with dots, if the document names one.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The container image, if the document names one.
    pub fn image(&self) -> Option<&str> {
        self.image.as_deref()
    }

    /// All users: first `default`, `replication` and `shardwright`, then the document's in its
    /// order.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// The settings that the document gives, in the order of their keys.
    pub fn config(&self) -> &BTreeMap<String, String> {
        &self.config
    }

    /// The settings that hold for every node alike and may be changed while it runs (by
    /// `CONFIG SET`, mostly): Shardwright's defaults, and over them the document's.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut settings: BTreeMap<String, String> = config::default_settings()
            .iter()
            .map(|default| (default.key.to_owned(), default.value.to_owned()))
            .collect();
        if let Some(limit_bytes) = self.memory_limit_bytes {
            let bytes = config::maxmemory_for(limit_bytes);
            settings.insert("maxmemory".to_owned(), bytes.to_string());
        }
        if self.default_user_has_no_password() {
            // The engines would let only their own machine in, and no node its fellows.
            settings.insert("protected-mode".to_owned(), "no".to_owned());
        }
        let backlog_bytes = config::backlog_for(self.maxmemory_bytes());
        settings.insert("repl-backlog-size".to_owned(), backlog_bytes.to_string());
        settings.extend(self.config.clone());
        settings
    }

    fn default_user_has_no_password(&self) -> bool {
        self.users
            .iter()
            .any(|user| user.name == DEFAULT_USER && user.rules.without_password)
    }

    /// How long a stopping primary waits for its replicas, in seconds.
    pub fn shutdown_timeout_seconds(&self) -> u32 {
        // Checked to be a number when the document was; the default of the engines is the same.
        self.settings()
            .get("shutdown-timeout")
            .and_then(|value| value.parse().ok())
            .unwrap_or(10)
    }

    /// How long a node may be silent before the others call it failed, in milliseconds.
    pub fn node_timeout_ms(&self) -> u64 {
        let text = &self.settings()["cluster-node-timeout"];
        text.parse()
            .expect("it has a default, and the check of meaning takes whole numbers only")
    }

    /// The planner's bounds and times for a cluster of these settings.
    pub fn limits(&self) -> shardwright_planner::Limits {
        shardwright_planner::Limits {
            node_timeout_ms: self.node_timeout_ms(),
            drain_ms: u64::from(self.drain_seconds) * 1_000,
            ..shardwright_planner::Limits::default()
        }
    }

    /// `maxmemory` of each node in bytes; None if nothing bounds it.
    pub fn maxmemory_bytes(&self) -> Option<u64> {
        let given = self.config.get("maxmemory").and_then(|v| config::memory(v));
        match given {
            // For the engines 0 is "no bound".
            Some(0) => None,
            Some(bytes) => Some(bytes),
            None => self.memory_limit_bytes.map(config::maxmemory_for),
        }
    }

    /// What the nodes write to disk.
    pub fn persistence(&self) -> Persistence {
        self.persistence
    }

    /// The size of each node's volume in bytes.
    pub fn storage_bytes(&self) -> Option<u64> {
        self.storage_bytes
    }

    /// The most memory a node may use, in bytes.
    pub fn memory_limit_bytes(&self) -> Option<u64> {
        self.memory_limit_bytes
    }

    /// The memory kept free for a node, in bytes.
    pub fn memory_request_bytes(&self) -> Option<u64> {
        self.memory_request_bytes
    }

    /// The most processor time a node may use, in thousandths of a processor.
    pub fn cpu_limit_milli(&self) -> Option<u64> {
        self.cpu_limit_milli
    }

    /// The processor time kept free for a node, in thousandths of a processor.
    pub fn cpu_request_milli(&self) -> Option<u64> {
        self.cpu_request_milli
    }

    /// What matters more when a primary dies.
    pub fn failover(&self) -> FailoverPolicy {
        self.failover
    }

    /// What only Kubernetes needs to know.
    pub fn kubernetes(&self) -> &Kubernetes {
        &self.kubernetes
    }

    /// How the cluster lies on this machine.
    pub fn local(&self) -> &LocalLayout {
        &self.local
    }
}

impl Cluster {
    /// What the planner is to want: a cluster of this shape, whose servers we run.
    pub fn desired(&self) -> shardwright_planner::Desired {
        let fits = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let desired =
            shardwright_planner::Desired::managed(fits(self.shards), fits(self.replicas_per_shard));
        let failover = match self.failover {
            FailoverPolicy::Availability => shardwright_planner::FailoverPolicy::Availability,
            FailoverPolicy::KeepEveryWrite => shardwright_planner::FailoverPolicy::KeepEveryWrite,
        };
        let recreate_after_ms = match self.kubernetes.on_unreachable {
            Unreachable::Wait => None,
            Unreachable::RecreateAfter { seconds } => Some(u64::from(seconds) * 1_000),
        };
        shardwright_planner::Desired {
            failover,
            recreate_after_ms,
            ..desired
        }
    }
}

fn accept(findings: Findings, cluster: Option<Cluster>) -> Result<Accepted, Problems> {
    let (cluster, warnings) = findings.finish(cluster)?;
    Ok(Accepted { cluster, warnings })
}

impl User {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the user may log in.
    pub fn enabled(&self) -> bool {
        self.rules.enabled
    }

    /// Where the password lies on Kubernetes, if the document says so.
    pub fn password_secret(&self) -> Option<&PasswordSecret> {
        self.password_secret.as_ref()
    }

    /// The hashes that the document gives.
    pub fn password_hashes(&self) -> &[PasswordHash] {
        &self.password_hashes
    }

    /// True if a password has to be found or made before `users.acl` can be written: the document
    /// gives no hash and does not let the user in without one.
    pub fn needs_password(&self) -> bool {
        self.password_hashes.is_empty() && !self.rules.without_password
    }
}

impl LocalLayout {
    /// The port of the first node, if one was asked for.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The addresses to listen on; empty where nothing was said.
    pub fn bind(&self) -> &[IpAddr] {
        &self.bind
    }

    /// The pretended hosts.
    pub fn hosts(&self) -> &[HostLabel] {
        &self.hosts
    }

    /// The pretended host of the node with this index (from 0): in turn. None without hosts.
    pub fn host_of(&self, index: usize) -> Option<&HostLabel> {
        let turn = index.checked_rem(self.hosts.len())?;
        self.hosts.get(turn)
    }
}
