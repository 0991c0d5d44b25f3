//! Settings of `redis.conf`: which are Shardwright's own, which have another default than the
//! engine's, and what can be said of a value without asking a server.

use std::borrow::Cow;

use crate::wire_words::{
    OLD_AND_NEW_SPELLING, REPLICATION_PASSWORD_DIRECTIVE, REPLICATION_USER_DIRECTIVE,
};

/// A setting that a manifest may not give, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedSetting {
    /// The key, or with a `*` at the end the beginning of several.
    pub key: &'static str,
    /// Why it is refused, and what to use instead.
    pub reason: &'static str,
}

/// A setting with another default than the engine's; a manifest may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultSetting {
    /// The key.
    pub key: &'static str,
    /// The value unless the manifest gives one.
    pub value: &'static str,
    /// Why.
    pub reason: &'static str,
}

const fn owned(key: &'static str, reason: &'static str) -> OwnedSetting {
    OwnedSetting { key, reason }
}

const NODE: &str = "it differs from node to node, so Shardwright sets it for each";
const USERS: &str = "users and passwords are declared in spec.users";
const REPLICATION: &str =
    "replicas log in as the user `replication`, whose password stays out of this file";
const ROLES: &str = "who replicates whom is decided while the cluster runs, never by a file";
const PROCESS: &str = "Shardwright starts and supervises the process itself";
const FILES: &str = "file names are fixed, so that Shardwright can tell whether a node has data";
const MODULES: &str = "modules are not managed yet: a node that lacks the file does not start";
const TLS: &str = "TLS is not managed yet";

const OWNED: [OwnedSetting; 39] = [
    owned("aclfile", USERS),
    owned("appenddirname", FILES),
    owned("appendfilename", FILES),
    owned("appendfsync", "use spec.persistence.fsync"),
    owned("appendonly", "use spec.persistence.aof"),
    owned("bind", NODE),
    owned("bind-source-addr", NODE),
    owned(
        "cluster-allow-replica-migration",
        "it is always no: a primary that gave away its last slot would turn itself into a replica, and replicas would change shards unplanned",
    ),
    owned("cluster-announce-*", NODE),
    owned(
        "cluster-config-file",
        "it is the node's memory of the cluster: the server writes it, and no one else may",
    ),
    owned("cluster-enabled", "it is always yes"),
    owned("cluster-port", NODE),
    owned(
        "cluster-replica-no-failover",
        "it is yes while a replica takes its first copy, and no once it has it",
    ),
    owned("daemonize", PROCESS),
    owned("dbfilename", FILES),
    owned("dir", NODE),
    owned("include", "it would bring in settings that nobody checked"),
    owned("loadmodule", MODULES),
    owned("logfile", NODE),
    owned(REPLICATION_PASSWORD_DIRECTIVE, REPLICATION),
    owned(REPLICATION_USER_DIRECTIVE, REPLICATION),
    owned("pidfile", NODE),
    owned("port", NODE),
    owned("primaryauth", REPLICATION),
    owned("primaryuser", REPLICATION),
    owned("proc-title-template", PROCESS),
    owned(
        "rename-command",
        "Shardwright calls commands by their names; take one away from a user with a rule such as `-flushall`",
    ),
    owned("replica-announce-*", NODE),
    owned("replicaof", ROLES),
    owned("requirepass", USERS),
    owned("save", "use spec.persistence.rdb"),
    owned("sentinel", "a cluster fails over without Sentinel"),
    owned("set-proc-title", PROCESS),
    owned("supervised", PROCESS),
    owned("tls-*", TLS),
    owned("unixsocket", NODE),
    owned("unixsocketperm", NODE),
    owned("upstart", PROCESS),
    owned("user", USERS),
];

const DEFAULTS: [DefaultSetting; 5] = [
    DefaultSetting {
        key: "cluster-node-timeout",
        value: "5000",
        reason: "milliseconds; the engines' own 15000 makes every election and every lock after one three times as long",
    },
    DefaultSetting {
        key: "cluster-require-full-coverage",
        value: "no",
        reason: "a shard that is lost for a while takes down its own slots only; a node cut off from the majority still stops",
    },
    DefaultSetting {
        key: "maxmemory-policy",
        value: "noeviction",
        reason: "a full node refuses writes and says so; a cache asks for allkeys-lru itself",
    },
    DefaultSetting {
        key: "repl-diskless-sync-delay",
        value: "0",
        reason: "seconds; the engines' 5 wait for more replicas to sync at once, and a primary here has few",
    },
    DefaultSetting {
        key: "shutdown-timeout",
        value: "10",
        reason: "seconds a stopping primary waits for its replicas; within the 30 that Kubernetes gives a pod",
    },
];

/// The settings with another default than the engine's, in the order of their keys. `maxmemory`
/// and `repl-backlog-size` follow from the memory limit and are not among them.
pub fn default_settings() -> &'static [DefaultSetting] {
    &DEFAULTS
}

/// The settings that a manifest may not give, in the order of their keys.
pub(crate) fn owned_settings() -> &'static [OwnedSetting] {
    &OWNED
}

/// Why a manifest may not give `key`, or None if it may.
pub fn owned_setting(key: &str) -> Option<&'static OwnedSetting> {
    let key = modern_key(key);
    OWNED
        .iter()
        .find(|owned| match owned.key.strip_suffix('*') {
            Some(beginning) => key.starts_with(beginning),
            None => key == owned.key,
        })
}

/// The key in lower case and in the spelling of today.
pub(crate) fn modern_key(key: &str) -> String {
    let (old, new) = OLD_AND_NEW_SPELLING;
    key.to_ascii_lowercase().replace(old, new)
}

/// Why `key` cannot be the name of a setting, or None.
pub(crate) fn bad_key(key: &str) -> Option<&'static str> {
    let first = key.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    // Modules have a dot or an underscore in the names of their settings.
    let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if !first || !key.bytes().all(rest) || key.len() > 100 {
        return Some("is not the name of a setting: letters, digits and dashes, as in redis.conf");
    }
    key.bytes()
        .any(|b| b.is_ascii_uppercase())
        .then_some("must be written in lower case")
}

/// What kind of value a setting takes. Only of settings whose meaning matters here: the server
/// itself judges the rest.
enum Kind {
    Memory,
    Switch,
    Whole { min: u64 },
    OneOf(&'static [&'static str]),
}

fn kind(key: &str) -> Option<Kind> {
    match key {
        "maxmemory" | "repl-backlog-size" => Some(Kind::Memory),
        "cluster-require-full-coverage"
        | "protected-mode"
        | "replica-read-only"
        | "replica-serve-stale-data"
        | "repl-diskless-sync" => Some(Kind::Switch),
        "cluster-node-timeout" => Some(Kind::Whole { min: 100 }),
        "repl-diskless-sync-delay" | "shutdown-timeout" => Some(Kind::Whole { min: 0 }),
        "maxmemory-policy" => Some(Kind::OneOf(&[
            "noeviction",
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
        ])),
        _ => None,
    }
}

/// Why `value` cannot stand for `key`, or None.
pub(crate) fn bad_value(key: &str, value: &str) -> Option<Cow<'static, str>> {
    if value.chars().any(char::is_control) {
        // A line break would begin a directive of its own.
        return Some("must be one line without control characters".into());
    }
    match kind(key)? {
        Kind::Memory => match memory(value) {
            Some(_) => None,
            None => Some("is not an amount of memory as redis.conf has it: write 100mb or 2gb (binary), or plain bytes".into()),
        },
        Kind::Switch => {
            let fits = matches!(value.to_ascii_lowercase().as_str(), "yes" | "no");
            (!fits).then(|| "must be yes or no".into())
        }
        Kind::Whole { min } => {
            // The engines hold these as signed 32 or 64 bits; the narrower one is safe for both.
            let fits = value.parse::<i32>().is_ok_and(|v| i64::from(v) >= min.cast_signed());
            (!fits).then(|| format!("must be a whole number of at least {min}").into())
        }
        Kind::OneOf(names) => {
            let fits = names.contains(&value.to_ascii_lowercase().as_str());
            (!fits).then(|| format!("must be one of {}", names.join(", ")).into())
        }
    }
}

/// An amount of memory in the notation of `redis.conf`, in bytes: `k` is 1000 and `kb` 1024.
pub(crate) fn memory(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The least memory limit a node can live with, in bytes: an empty server takes about 10 MiB, and
/// a fork for a snapshot, buffers and a replica's output need room beside the data.
pub(crate) const MEMORY_LIMIT_BYTES_MIN: u64 = 64 << 20;

/// `maxmemory` for a memory limit, both in bytes. A quarter of the limit, and 32 MiB at least, is
/// left to what `maxmemory` does not count or counts too late: pages copied during a snapshot,
/// output buffers of replicas, fragmentation, the program itself.
pub(crate) fn maxmemory_for(limit_bytes: u64) -> u64 {
    limit_bytes.saturating_sub((limit_bytes / 4).max(32 << 20))
}

/// `repl-backlog-size` for a `maxmemory`, both in bytes. The engines' 1 MiB is written over within
/// a blink on a busy node, and a replica that was away then copies everything anew. A 64th of the
/// memory, between 1 and 64 MiB; 16 MiB where no limit is known.
pub(crate) fn backlog_for(maxmemory_bytes: Option<u64>) -> u64 {
    maxmemory_bytes.map_or(16 << 20, |bytes| (bytes / 64).clamp(1 << 20, 64 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_settings_are_sorted_and_say_why() {
        assert!(
            OWNED
                .iter()
                .all(|o| o.reason.len() > 8 && bad_key(o.key.trim_end_matches('*')).is_none())
        );
        for key in [
            "port",
            "TLS-port",
            "cluster-announce-bus-port",
            "tls-replication",
        ] {
            assert!(owned_setting(key).is_some(), "{key}");
        }
        for key in [
            "maxmemory",
            "cluster-node-timeout",
            "appendonly-x",
            "cluster-announced",
        ] {
            assert!(owned_setting(key).is_none(), "{key}");
        }
        assert!(
            DEFAULTS
                .iter()
                .all(|d| owned_setting(d.key).is_none() && bad_value(d.key, d.value).is_none())
        );
    }

    #[test]
    fn old_spellings_are_the_same_setting() {
        let (old, _) = OLD_AND_NEW_SPELLING;
        assert_eq!(modern_key(&format!("{old}-priority")), "replica-priority");
        assert!(owned_setting(&format!("{old}of")).is_some());
    }

    #[test]
    fn memory_as_the_engines_read_it() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("1kb", Some(1024)),
            ("1K", Some(1000)),
            ("2GB", Some(2 << 30)),
            ("1.5gb", None),
            ("2Gi", None),
            ("gb", None),
            ("-1", None),
            ("99999999999gb", None),
        ] {
            assert_eq!(memory(text), bytes, "{text}");
        }
    }

    #[test]
    fn head_room_grows_with_the_limit() {
        assert_eq!(maxmemory_for(MEMORY_LIMIT_BYTES_MIN), 32 << 20);
        assert_eq!(maxmemory_for(2_000_000_000), 1_500_000_000);
        assert_eq!(backlog_for(Some(1_500_000_000)), 23_437_500);
        assert_eq!(backlog_for(Some(32 << 20)), 1 << 20);
        assert_eq!(backlog_for(None), 16 << 20);
    }
}
