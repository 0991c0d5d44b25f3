//! The `RedisCluster` document: types, defaults, validation, schema, and the rendering of
//! `redis.conf` and `users.acl`. No IO, no clock, no randomness: text in, values and text out.
//!
//! ```text
//! text ──read──▶ RedisCluster (as written) ──validate──▶ Cluster ──render──▶ redis.conf, users.acl
//! ```
//!
//! [`Cluster`] is the only input to what follows. It can be had in one way, through the checks, and
//! a document that fails them is answered with every [`Problem`] at once, each with its path.
//!
//! The document is the same for processes of this machine and for Kubernetes, so what it means may
//! not depend on where it is read.

mod acl;
mod checks;
mod cluster;
mod config;
mod crd;
mod document;
mod limits;
mod policy;
mod problem;
mod quantity;
mod quote;
mod read;
mod render;
mod schema;
mod secret;
mod shape;
mod status;
mod wire_words;

pub use cluster::{
    Accepted, Cluster, DEFAULT_USER, HostLabel, Kubernetes, LocalLayout, PasswordSecret,
    Persistence, REPLICATION_USER, SHARDWRIGHT_USER, Unreachable, User,
};
pub use config::{DefaultSetting, OwnedSetting, default_settings, owned_setting};
pub use crd::{CRD_NAME, Cel, GROUP, PLURAL, VERSION, crd};
pub use document::{
    API_VERSION, AclSpec, AclStorage, AppendFsync, ConfigValue, EngineKind, FailoverPolicy,
    ImagePullPolicy, KIND, LocalHost, LocalSpec, Metadata, OnUnreachable, PasswordSecretRef,
    PersistenceSpec, PodOverrides, RawObject, RedisCluster, RedisClusterSpec, ResourceAmounts,
    ResourcesSpec, SecretName, StorageSpec, UserSpec,
};
pub use limits::STORAGE_BYTES_DEFAULT;
pub use policy::{config_policy, has_admission_policies};
pub use problem::{Problem, Problems, Warning};
pub use quantity::{Quantity, QuantityError};
pub use quote::quote;
pub use render::{NodeSettings, RenderError, Replication, redis_conf, replication_auth, users_acl};
pub use schema::schema;
pub use secret::{PasswordHash, PasswordHashError, Secret};
pub use status::{
    Condition, ConditionStatus, MovesStatus, NodeStatus, RedisClusterStatus, ShapeStatus,
    ShardStatus, StateWord,
};
