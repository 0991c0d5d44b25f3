//! The one spot of this crate that spells the wire words of the engines.
//!
//! Everywhere else a node is a primary or a replica. The names below are what the servers read in
//! `redis.conf` and in ACL rules; Redis knows no others, and Valkey still takes these.

/// The directive with the name a replica logs in with at its primary.
pub(crate) const REPLICATION_USER_DIRECTIVE: &str = "masteruser";

/// The directive with the password a replica logs in with at its primary.
pub(crate) const REPLICATION_PASSWORD_DIRECTIVE: &str = "masterauth";

/// The old spelling and the new one of a part of several keys (`replicaof`, `replica-priority`, …).
/// The engines take both, so without care the same setting could be given twice.
pub(crate) const OLD_AND_NEW_SPELLING: (&str, &str) = ("slave", "replica");

/// Commands of the engines that are named with wire words.
pub(crate) const COMMANDS: [&str; 2] = ["cluster|slaves", "slaveof"];
