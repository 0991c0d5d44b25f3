//! One observation of one node, in one round trip.

use std::collections::BTreeMap;
use std::time::Duration;

use shardwright_topology::wire::{
    Command, RoleLink, RoleReply, WireError, parse_cluster_info, parse_inbound_links,
    parse_keyspace, parse_my_id, parse_nodes, parse_role, parse_server_info,
};
use shardwright_topology::{
    NoWrites, NodeId, NodeView, ReplicaLink, Replication, Seen, ServerInfo, Why, has_databases,
};

use crate::client::{Request, to_reply};
use crate::{Client, Error};

/// Everything one node says of itself and of its cluster, as it came: for the parsers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawView {
    /// `CLUSTER MYID`.
    pub my_id: Vec<u8>,
    /// `CLUSTER NODES`.
    pub cluster_nodes: Vec<u8>,
    /// `CLUSTER INFO`.
    pub cluster_info: Vec<u8>,
    /// `INFO`, the default sections: server, memory, persistence, stats, replication, keyspace.
    pub info: Vec<u8>,
}

impl RawView {
    /// Reads the texts. Keys of open slots are not among them: see [`Client::view`].
    pub fn parse(&self) -> Result<NodeView, WireError> {
        Ok(NodeView {
            id: parse_my_id(&self.my_id)?,
            rows: parse_nodes(&self.cluster_nodes)?,
            cluster: parse_cluster_info(&self.cluster_info)?,
            server: parse_server_info(&self.info)?,
            keys_in_slot: BTreeMap::new(),
            stray_keys: Seen::Unknown(Why::NotAsked),
            functions: Seen::Unknown(Why::NotAsked),
        })
    }
}

impl Client {
    /// Observes the node and reads what it said. Where it has open slots their keys are
    /// counted too, in a second round trip, unless it has keys in several databases.
    pub async fn view(&self) -> Result<NodeView, Error> {
        let raw = self.observe().await?;
        let mut view = raw
            .parse()
            .map_err(|error| self.asked(name(error.command)).strange(&error))?;
        let one_database = view.server.databases.keys().all(|n| *n == self.database());
        let own = view.own().filter(|_| one_database);
        let open: Vec<_> = own
            .into_iter()
            .flat_map(|own| own.open.iter().map(|open| open.slot()))
            .collect();
        let counts = self.count_keys_of(&open).await?;
        view.keys_in_slot = open.into_iter().zip(counts).collect();
        self.read_settings(&mut view).await?;
        Ok(view)
    }

    /// Asks for the settings by which what it said before is judged.
    pub async fn read_settings(&self, view: &mut NodeView) -> Result<(), Error> {
        self.judge_writes(view).await?;
        self.read_buffer_limit(view).await?;
        if has_databases(view.server.engine, view.server.version) {
            let told = self.setting("cluster-databases").await?;
            view.server.databases_max = told.and_then(|value| value.parse().ok());
        }
        Ok(())
    }

    /// Whether what `INFO` says of failed snapshots and of replicas that keep up makes a server refuse writes is a matter of
    /// its settings.
    async fn judge_writes(&self, view: &mut NodeView) -> Result<(), Error> {
        let refuses = match view.server.no_writes {
            Some(NoWrites::Snapshot) => self.minds_failed_snapshots().await?,
            Some(NoWrites::Replicas { good }) => self.wants_more_replicas(good).await?,
            Some(NoWrites::Log | NoWrites::Memory) | None => return Ok(()),
        };
        if !refuses {
            view.server.no_writes = None;
        }
        Ok(())
    }

    /// Asks a primary that has begun several full copies for the limit of its replicas' output buffers, which may have ended
    /// them. Where none was closed for that, nothing is asked.
    async fn read_buffer_limit(&self, view: &mut NodeView) -> Result<(), Error> {
        let Some(copies) = &mut view.server.full_copies else {
            return Ok(());
        };
        if copies.begun < 2 || copies.closed == Some(0) {
            return Ok(());
        }
        let limits = self.setting("client-output-buffer-limit").await?;
        copies.buffer_limit_bytes = limits.as_deref().and_then(replica_buffer_limit);
        Ok(())
    }

    /// Whether it refuses writes when a snapshot failed: it is set to, and to take snapshots by itself. Where that is not
    /// told, what the engines do unless they are told otherwise counts.
    async fn minds_failed_snapshots(&self) -> Result<bool, Error> {
        let minds = self.setting("stop-writes-on-bgsave-error").await?;
        let takes = self.setting("save").await?;
        Ok(minds.is_none_or(|value| value != "no") && takes.is_none_or(|value| !value.is_empty()))
    }

    /// Whether so many replicas that keep up are too few. Where that is not told, only none is.
    async fn wants_more_replicas(&self, good: u64) -> Result<bool, Error> {
        let wanted = self.setting("min-replicas-to-write").await?;
        let wanted = wanted.and_then(|value| value.parse().ok());
        Ok(wanted.map_or(good == 0, |wanted: u64| good < wanted))
    }

    /// The value of a setting; `None` where this user may not ask.
    async fn setting(&self, key: &str) -> Result<Option<String>, Error> {
        match self.config_get(key).await {
            Ok(pairs) => Ok(pairs
                .into_iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value)),
            Err(error) if error.is_withheld() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Observes the node with a third of the bytes, where it is in the same run as when `before` was read, so long ago.
    /// What it takes over from there is what only `INFO` tells: its memory, its load and its functions. That it is still in
    /// its stream is told by its replication, which goes on.
    ///
    /// `None` where its replication is not the same as before, or not in sync: then it has to be observed.
    pub async fn glance(
        &self,
        before: &ServerInfo,
        age: Duration,
    ) -> Result<Option<NodeView>, Error> {
        const NAMES: [&str; 5] = [
            "CLUSTER MYID",
            "CLUSTER NODES",
            "CLUSTER INFO",
            KEYSPACE,
            "ROLE",
        ];
        let requests = NAMES.into_iter().map(Request::new).collect();
        let replies = self.ask_all("a glance", requests).await?;
        let replies: Vec<_> = replies.into_iter().collect::<Result<_, _>>()?;
        let [my_id, nodes, info, keyspace, role] = <[_; 5]>::try_from(replies).map_err(|_| {
            self.asked("a glance")
                .strange("not as many replies as questions")
        })?;
        let strange = |error: WireError| self.asked(name(error.command)).strange(&error);
        let keyspace = self.expect_text(NAMES[3], keyspace)?;
        let databases = parse_keyspace(&keyspace).map_err(strange)?;
        let role = parse_role(&to_reply(role)).map_err(strange)?;
        let Some(replication) = going_on(&before.replication, &role) else {
            return Ok(None);
        };
        let (Replication::Primary { offset, .. } | Replication::Replica { offset, .. }) =
            replication;
        let uptime_s = before.uptime_s.map(|s| s.saturating_add(age.as_secs()));
        Ok(Some(NodeView {
            id: parse_my_id(&self.expect_text(NAMES[0], my_id)?).map_err(strange)?,
            rows: parse_nodes(&self.expect_text(NAMES[1], nodes)?).map_err(strange)?,
            cluster: parse_cluster_info(&self.expect_text(NAMES[2], info)?).map_err(strange)?,
            server: ServerInfo {
                replication,
                stream_end: Some(offset),
                keys: databases.values().fold(0, |sum, n| sum.saturating_add(*n)),
                databases,
                uptime_s,
                ..before.clone()
            },
            keys_in_slot: BTreeMap::new(),
            stray_keys: Seen::Unknown(Why::NotAsked),
            functions: Seen::Unknown(Why::NotAsked),
        }))
    }

    /// Asks for everything in one round trip. The parts belong together as closely as a
    /// server allows: it answers them one right after the other.
    ///
    /// How many keys it holds is in `INFO`: a replica that lost its primary may refuse `DBSIZE`
    /// (`replica-serve-stale-data no`), and is there all the same. A server that is loading does
    /// not know yet what it holds, and Redis then refuses the rest: [`Error::Loading`].
    pub async fn observe(&self) -> Result<RawView, Error> {
        const NAMES: [&str; 4] = ["CLUSTER MYID", "CLUSTER NODES", "CLUSTER INFO", "INFO"];
        let requests = NAMES.into_iter().map(Request::new).collect();
        let replies = self.ask_all("an observation", requests).await?;
        let mut replies = replies
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?
            .into_iter();
        let mut text = |name| {
            let value = replies
                .next()
                .ok_or_else(|| self.asked(name).strange("no reply"))?;
            self.expect_text(name, value)
        };
        let raw = RawView {
            my_id: text(NAMES[0])?,
            cluster_nodes: text(NAMES[1])?,
            cluster_info: text(NAMES[2])?,
            info: text(NAMES[3])?,
        };
        // Valkey answers all of it while it loads.
        if parse_server_info(&raw.info).is_ok_and(|info| info.loading) {
            let endpoint = self.endpoint().clone();
            return Err(Error::Loading { endpoint });
        }
        Ok(raw)
    }

    /// How many keys each database that has some holds, and how many changes the server has counted since it last saved
    /// its data: where both are the same twice, no key came or went between.
    pub async fn database_sizes(&self) -> Result<DatabaseSizes, Error> {
        const PERSISTENCE: &str = "INFO persistence";
        let requests = [KEYSPACE, PERSISTENCE].map(Request::new);
        let replies = self.ask_all(KEYSPACE, requests.into()).await?;
        let replies: Vec<_> = replies.into_iter().collect::<Result<_, _>>()?;
        let [keyspace, persistence] = <[_; 2]>::try_from(replies).map_err(|_| {
            self.asked(KEYSPACE)
                .strange("not as many replies as questions")
        })?;
        let databases = parse_keyspace(&self.expect_text(KEYSPACE, keyspace)?)
            .map_err(|error| self.asked(KEYSPACE).strange(&error))?;
        let persistence = self.expect_text(PERSISTENCE, persistence)?;
        let persistence = String::from_utf8_lossy(&persistence);
        let mut lines = persistence.lines();
        let changes = lines.find_map(|line| line.strip_prefix("rdb_changes_since_last_save:"));
        Ok(DatabaseSizes {
            databases,
            changes: changes.and_then(|number| number.trim_end().parse().ok()),
        })
    }

    /// When each node's link to this one was made, in one round trip. `None` where this user may not ask, or the engine
    /// does not tell.
    pub async fn inbound_links(&self) -> Result<Option<InboundLinks>, Error> {
        const CLOCK: &str = "INFO server";
        let requests = [LINKS, CLOCK].map(Request::new);
        let mut replies = self.ask_all(LINKS, requests.into()).await?.into_iter();
        let (Some(links), Some(clock)) = (replies.next(), replies.next()) else {
            return Err(self
                .asked(LINKS)
                .strange("not as many replies as questions"));
        };
        let links = match links {
            Err(Error::NoPerm { .. } | Error::UnknownCommand { .. } | Error::Server { .. }) => {
                return Ok(None);
            }
            other => to_reply(other?),
        };
        let made = parse_inbound_links(&links).map_err(|e| self.asked(LINKS).strange(&e))?;
        let clock = self.expect_text(CLOCK, clock?)?;
        let clock = String::from_utf8_lossy(&clock);
        let mut lines = clock.lines();
        let now_us = lines.find_map(|line| line.strip_prefix("server_time_usec:"));
        let now_us: Option<u64> = now_us.and_then(|number| number.trim_end().parse().ok());
        Ok(now_us.map(|us| InboundLinks {
            made,
            now_ms: us / 1_000,
        }))
    }
}

/// The links of others to a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboundLinks {
    /// When each was made, in milliseconds of the node's clock.
    pub made: BTreeMap<NodeId, u64>,
    /// The node's clock as it answered, in milliseconds.
    pub now_ms: u64,
}

const LINKS: &str = "CLUSTER LINKS";
const KEYSPACE: &str = "INFO keyspace";

/// The keys of a server, by database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSizes {
    /// How many keys each database holds; those without a key are left out.
    pub databases: BTreeMap<u32, u64>,
    /// How many changes it has counted since it last saved its data, if it tells.
    pub changes: Option<u64>,
}

/// The lower of the two limits of `class hard soft seconds` for replicas, in bytes; 0 is none.
fn replica_buffer_limit(setting: &str) -> Option<u64> {
    let words: Vec<&str> = setting.split_whitespace().collect();
    let mut classes = words.chunks_exact(4);
    let replicas = classes.find(|class| ["slave", "replica"].contains(&class[0]))?;
    let limits = replicas[1..3].iter().filter_map(|n| n.parse().ok());
    limits.filter(|bytes: &u64| *bytes > 0).min()
}

/// Replication as `ROLE` tells it, where it goes on as it was: the same primary or the same replicas, all in sync.
/// `ROLE` tells less of what is not. A replica whose offset fell copies another stream.
fn going_on(before: &Replication, role: &RoleReply) -> Option<Replication> {
    match (before, role) {
        (Replication::Primary { replicas: old, .. }, RoleReply::Primary { offset, replicas }) => {
            let same = |link: &ReplicaLink| {
                let mut now = replicas.iter();
                link.online && now.any(|r| r.address.same_socket(&link.address))
            };
            let links = replicas.iter().map(|r| ReplicaLink {
                address: r.address.clone(),
                online: true,
                offset: r.offset,
            });
            (old.len() == replicas.len() && old.iter().all(same)).then(|| Replication::Primary {
                offset: *offset,
                replicas: links.collect(),
            })
        }
        (
            Replication::Replica {
                primary: old,
                link_up: true,
                syncing: false,
                offset: read,
            },
            RoleReply::Replica {
                primary,
                link: RoleLink::Connected,
                offset: Some(offset),
            },
        ) if primary.same_socket(old) && offset >= read => Some(Replication::Replica {
            primary: primary.clone(),
            link_up: true,
            syncing: false,
            offset: *offset,
        }),
        _ => None,
    }
}

fn name(command: Command) -> &'static str {
    match command {
        Command::ClusterNodes => "CLUSTER NODES",
        Command::ClusterInfo => "CLUSTER INFO",
        Command::ClusterMyId => "CLUSTER MYID",
        Command::ClusterShards => "CLUSTER SHARDS",
        Command::ClusterLinks => LINKS,
        Command::Info => "INFO",
        Command::Role => "ROLE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_limit_of_replicas_is_the_lower_one() {
        let limit = |of: &str| replica_buffer_limit(&format!("normal 1 2 3 {of} pubsub 4 5 6"));
        assert_eq!(limit("slave 268435456 67108864 60"), Some(67_108_864));
        assert_eq!(limit("replica 1024 0 0"), Some(1_024));
        assert_eq!(limit("slave 0 0 0"), None);
        assert_eq!(replica_buffer_limit("normal 1 2 3"), None);
    }
}
