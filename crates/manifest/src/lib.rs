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
mod document;
mod problem;
mod quantity;
mod quote;
mod read;
mod render;
mod schema;
mod secret;
mod shape;
mod wire_words;

pub use cluster::{
    Accepted, Cluster, DEFAULT_USER, HostLabel, LocalLayout, PasswordSecret, Persistence,
    REPLICATION_USER, SHARDWRIGHT_USER, User,
};
pub use config::{DefaultSetting, OwnedSetting, default_settings, owned_setting};
pub use document::{
    API_VERSION, AppendFsync, ConfigValue, EngineKind, FailoverPolicy, KIND, LocalHost, LocalSpec,
    Metadata, PasswordSecretRef, PersistenceSpec, RedisCluster, RedisClusterSpec, ResourceAmounts,
    ResourcesSpec, StorageSpec, UserSpec,
};
pub use problem::{Problem, Problems, Warning};
pub use quantity::{Quantity, QuantityError};
pub use quote::quote;
pub use render::{NodeSettings, RenderError, redis_conf, replication_auth, users_acl};
pub use schema::schema;
pub use secret::{PasswordHash, PasswordHashError, Secret};
