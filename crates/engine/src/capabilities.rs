//! What a server is and what it can do.

use std::collections::BTreeSet;
use std::fmt;

use redis::Value;
use shardwright_topology::{EngineKind, Version};

use crate::client::Request;
use crate::{Client, Error};

/// Which engine a server says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
    /// Another one that speaks the same protocol, by the name it gives itself.
    Other(String),
}

impl Engine {
    /// The kind, where it is one of the two that are tested.
    pub fn kind(&self) -> Option<EngineKind> {
        match self {
            Self::Redis => Some(EngineKind::Redis),
            Self::Valkey => Some(EngineKind::Valkey),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis => f.write_str("Redis"),
            Self::Valkey => f.write_str("Valkey"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// Something that not every server can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// `CLUSTER ADDSLOTSRANGE` (7.0).
    AddSlotsRange,
    /// `CLUSTER SHARDS` (7.0).
    ClusterShards,
    /// `CLUSTER SLOT-STATS` (Valkey 8, Redis 8.4).
    SlotStats,
    /// `CLUSTER MIGRATESLOTS` (Valkey 9): slots move as a whole, started at the source.
    MigrateSlots,
    /// `CLUSTER MIGRATION` (Redis 8.4): slots move as a whole, started at the destination.
    ClusterMigration,
}

impl Feature {
    const ALL: [(Self, &str); 5] = [
        (Self::AddSlotsRange, "cluster|addslotsrange"),
        (Self::ClusterShards, "cluster|shards"),
        (Self::SlotStats, "cluster|slot-stats"),
        (Self::MigrateSlots, "cluster|migrateslots"),
        (Self::ClusterMigration, "cluster|migration"),
    ];
}

/// What a server is and can do, as it said itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The engine.
    pub engine: Engine,
    /// Its own version, not the one it is compatible with.
    pub version: Version,
    /// What it can do.
    pub features: BTreeSet<Feature>,
}

impl Capabilities {
    /// Whether it can do this.
    pub fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}

impl Client {
    /// Asks the server what it is and which commands it has, in one round trip.
    pub async fn capabilities(&self) -> Result<Capabilities, Error> {
        const INFO: &str = "INFO";
        const COMMANDS: &str = "COMMAND INFO";
        let mut commands = Request::new(COMMANDS);
        for (_, name) in Feature::ALL {
            commands = commands.arg(name);
        }
        let requests = vec![Request::new(INFO).arg("server"), commands];
        let mut replies = self.ask_all("a probe", requests).await?.into_iter();
        let mut next = |name| {
            replies
                .next()
                .unwrap_or_else(|| Err(self.asked(name).strange("no reply")))
        };
        let info = self.utf8(INFO, next(INFO)?)?;
        let known = next(COMMANDS)?;
        let (engine, version) = identity(&info).ok_or_else(|| {
            self.asked(INFO)
                .strange("no version that can be understood")
        })?;
        let Value::Array(known) = known else {
            return Err(self.asked(COMMANDS).strange(format!("{known:?}")));
        };
        let features = Feature::ALL
            .into_iter()
            .zip(known)
            .filter(|(_, entry)| matches!(entry, Value::Array(entry) if !entry.is_empty()))
            .map(|((feature, _), _)| feature)
            .collect();
        Ok(Capabilities {
            engine,
            version,
            features,
        })
    }
}

/// Valkey also reports a `redis_version`, the one it is compatible with: its own comes first.
fn identity(info: &str) -> Option<(Engine, Version)> {
    let field = |name: &str| {
        let mut fields = info
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'));
        fields.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    if let Some(version) = field("valkey_version") {
        return Some((Engine::Valkey, parse_version(version)?));
    }
    let version = parse_version(field("redis_version")?)?;
    let engine = match field("server_name") {
        None | Some("redis") => Engine::Redis,
        Some(other) => Engine::Other(other.to_owned()),
    };
    Some((engine, version))
}

fn parse_version(text: &str) -> Option<Version> {
    let mut parts = text.split(['.', '-']);
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    // "8.0" and "8.2-rc1" have no patch that counts.
    let patch = parts
        .next()
        .and_then(|patch| patch.parse().ok())
        .map_or(0, |patch: u16| patch);
    Some(Version {
        major,
        minor,
        patch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u16, minor: u16, patch: u16) -> Version {
        Version {
            major,
            minor,
            patch,
        }
    }

    #[test]
    fn an_engine_is_what_it_says_it_is() {
        let valkey =
            "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n";
        assert_eq!(identity(valkey), Some((Engine::Valkey, version(9, 1, 2))));
        let redis = "# Server\r\nredis_version:7.0.15\r\n";
        assert_eq!(identity(redis), Some((Engine::Redis, version(7, 0, 15))));
        let other = "redis_version:8.0-rc1\nserver_name:kvrocks\n";
        assert_eq!(
            identity(other),
            Some((Engine::Other("kvrocks".into()), version(8, 0, 0)))
        );
        assert_eq!(identity("# Server\r\n"), None);
    }
}
