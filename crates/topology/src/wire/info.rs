//! `INFO`.

use std::collections::BTreeMap;

use super::error::{Command, Fault, WireError};
use super::text::{host, lines, number, offset, port, split_once};
use super::words;
use crate::{
    Address, AtLimit, EngineKind, FullCopies, NoWrites, ReplicaLink, Replication, Role, ServerInfo,
    Stream, Version,
};

/// Reads the reply to `INFO` with at least the sections `server`, `replication`, `persistence` and `keyspace`
/// (Redis documentation, "INFO"); `memory` and `stats` add what is optional in [`ServerInfo`].
///
/// An optional field that is missing or malformed is `None`: unknown. A database without a line has no keys only if
/// the section of the keyspace is there.
///
/// # Errors
/// When a field that steers decisions (version, run id, role, offsets, loading, keys) is missing or malformed.
pub fn parse_server_info(text: &[u8]) -> Result<ServerInfo, WireError> {
    let found = Found::read(text)?;
    let (engine, version) = found.engine_and_version()?;
    let databases = found.databases()?;
    Ok(ServerInfo {
        engine,
        version,
        run_id: found.run_id()?,
        replication: found.replication()?,
        stream: found.stream(),
        stream_end: found.primary_offset.and_then(|(_, v)| number(v)),
        link_lost_s: found.link_lost.and_then(|(_, v)| number(v)),
        loading: found.flag("loading", found.loading)?,
        aof_enabled: found.aof_enabled.and_then(|(_, v)| flag(v)),
        used_memory_bytes: found.used_memory.and_then(|(_, v)| number(v)),
        maxmemory_bytes: found.maxmemory.and_then(|(_, v)| number(v)),
        at_limit: found.maxmemory_policy.and_then(|(_, v)| at_limit(v)),
        evicted_keys: found.evicted_keys.and_then(|(_, v)| number(v)),
        ops_per_s: found.ops_per_s.and_then(|(_, v)| number(v)),
        keys: all_keys(&databases),
        databases,
        databases_max: None,
        libraries: found.libraries.and_then(|(_, v)| number(v)),
        uptime_s: found.uptime_s.and_then(|(_, v)| number(v)),
        availability_zone: found.availability_zone.and_then(|(_, v)| zone(v)),
        no_writes: found.no_writes(),
        full_copies: found.full_copies(),
    })
}

/// Valkey tells an empty one where none is set.
fn zone(value: &[u8]) -> Option<String> {
    let zone = std::str::from_utf8(value).ok()?.trim();
    (!zone.is_empty()).then(|| zone.to_owned())
}

/// Reads the reply to `INFO keyspace`: the keys of each database that has some.
///
/// # Errors
/// When the section is missing, or the line of a database makes no sense.
pub fn parse_keyspace(text: &[u8]) -> Result<BTreeMap<u32, u64>, WireError> {
    Found::read(text)?.databases()
}

/// The keys of all databases together.
fn all_keys(databases: &BTreeMap<u32, u64>) -> u64 {
    databases.values().fold(0, |sum, n| sum.saturating_add(*n))
}

/// A value and the number of its line.
type At<'a> = (usize, &'a [u8]);

/// The lines that matter, as they stand.
#[derive(Default)]
struct Found<'a> {
    text: &'a [u8],
    server_name: Option<At<'a>>,
    redis_version: Option<At<'a>>,
    valkey_version: Option<At<'a>>,
    run_id: Option<At<'a>>,
    uptime_s: Option<At<'a>>,
    availability_zone: Option<At<'a>>,
    role: Option<At<'a>>,
    primary_offset: Option<At<'a>>,
    primary_host: Option<At<'a>>,
    primary_port: Option<At<'a>>,
    link_status: Option<At<'a>>,
    syncing: Option<At<'a>>,
    replica_offset: Option<At<'a>>,
    stream_id: Option<At<'a>>,
    stream_before: Option<At<'a>>,
    stream_before_end: Option<At<'a>>,
    link_lost: Option<At<'a>>,
    replicas: Vec<ReplicaLink>,
    loading: Option<At<'a>>,
    aof_enabled: Option<At<'a>>,
    used_memory: Option<At<'a>>,
    maxmemory: Option<At<'a>>,
    maxmemory_policy: Option<At<'a>>,
    evicted_keys: Option<At<'a>>,
    ops_per_s: Option<At<'a>>,
    libraries: Option<At<'a>>,
    log_status: Option<At<'a>>,
    snapshot_status: Option<At<'a>>,
    good_replicas: Option<At<'a>>,
    full_copies: Option<At<'a>>,
    closed_for_output: Option<At<'a>>,
    not_counted: Option<At<'a>>,
    keyspace: bool,
    /// Each database's number and line.
    databases: Vec<(u32, At<'a>)>,
}

impl<'a> Found<'a> {
    fn read(text: &'a [u8]) -> Result<Self, WireError> {
        let mut found = Self {
            text,
            ..Self::default()
        };
        for (line, bytes) in lines(text) {
            if bytes.starts_with(b"#") {
                found.keyspace |= bytes[1..].trim_ascii() == b"Keyspace";
            } else if let Some((key, value)) = split_once(bytes, b':') {
                if words::replica_line(key).is_some() {
                    let link = replica(value)
                        .map_err(|(field, fault)| wrong(line, field, fault, value))?;
                    found.replicas.extend(link);
                } else if let Some(number) = database(key) {
                    found.databases.push((number, (line, value)));
                } else if let Some(place) = found.place_of(key) {
                    *place = Some((line, value));
                }
            }
        }
        Ok(found)
    }

    fn place_of(&mut self, key: &[u8]) -> Option<&mut Option<At<'a>>> {
        Some(match std::str::from_utf8(key).ok()? {
            "server_name" => &mut self.server_name,
            "redis_version" => &mut self.redis_version,
            "valkey_version" => &mut self.valkey_version,
            "run_id" => &mut self.run_id,
            "uptime_in_seconds" => &mut self.uptime_s,
            "availability_zone" => &mut self.availability_zone,
            "role" => &mut self.role,
            words::PRIMARY_OFFSET => &mut self.primary_offset,
            words::PRIMARY_HOST => &mut self.primary_host,
            words::PRIMARY_PORT => &mut self.primary_port,
            words::LINK_STATUS => &mut self.link_status,
            words::SYNCING => &mut self.syncing,
            words::REPLICA_OFFSET => &mut self.replica_offset,
            words::STREAM_ID => &mut self.stream_id,
            words::STREAM_BEFORE => &mut self.stream_before,
            words::STREAM_BEFORE_END => &mut self.stream_before_end,
            words::LINK_LOST => &mut self.link_lost,
            "loading" => &mut self.loading,
            "aof_enabled" => &mut self.aof_enabled,
            "used_memory" => &mut self.used_memory,
            "maxmemory" => &mut self.maxmemory,
            "maxmemory_policy" => &mut self.maxmemory_policy,
            "evicted_keys" => &mut self.evicted_keys,
            "instantaneous_ops_per_sec" => &mut self.ops_per_s,
            "number_of_libraries" => &mut self.libraries,
            "aof_last_write_status" => &mut self.log_status,
            "rdb_last_bgsave_status" => &mut self.snapshot_status,
            words::GOOD_REPLICAS => &mut self.good_replicas,
            "sync_full" => &mut self.full_copies,
            "client_output_buffer_limit_disconnections" => &mut self.closed_for_output,
            "mem_not_counted_for_evict" => &mut self.not_counted,
            _ => return None,
        })
    }

    fn need(&self, field: &'static str, at: Option<At<'a>>) -> Result<At<'a>, WireError> {
        at.ok_or_else(|| WireError::new(Command::Info, None, field, Fault::Missing, self.text))
    }

    /// A field read by `read`, or an error that says what it has to be.
    fn field<T>(
        &self,
        field: &'static str,
        at: Option<At<'a>>,
        what: &'static str,
        read: impl Fn(&'a [u8]) -> Option<T>,
    ) -> Result<T, WireError> {
        let (line, value) = self.need(field, at)?;
        read(value).ok_or_else(|| wrong(line, field, Fault::IsNot(what), value))
    }

    fn flag(&self, field: &'static str, at: Option<At<'a>>) -> Result<bool, WireError> {
        self.field(field, at, "0 or 1", flag)
    }

    /// Valkey gives `redis_version:7.2.4` too, for old clients: its own version counts.
    fn engine_and_version(&self) -> Result<(EngineKind, Version), WireError> {
        let named_valkey = self.server_name.is_some_and(|(_, name)| name == b"valkey");
        let what = "a version";
        if named_valkey || self.valkey_version.is_some() {
            let v = self.field("valkey_version", self.valkey_version, what, version)?;
            Ok((EngineKind::Valkey, v))
        } else {
            let v = self.field("redis_version", self.redis_version, what, version)?;
            Ok((EngineKind::Redis, v))
        }
    }

    fn run_id(&self) -> Result<String, WireError> {
        self.field("run_id", self.run_id, "text", |v| {
            let text = std::str::from_utf8(v).ok()?;
            (!text.is_empty()).then(|| text.to_owned())
        })
    }

    fn replication(&self) -> Result<Replication, WireError> {
        let role = self.field("role", self.role, "a role", words::role)?;
        let offset_of = |field, at| self.field(field, at, "an offset", offset);
        match role {
            Role::Primary => Ok(Replication::Primary {
                offset: offset_of(words::PRIMARY_OFFSET, self.primary_offset)?,
                replicas: self.replicas.clone(),
            }),
            Role::Replica => {
                let host = self.field(words::PRIMARY_HOST, self.primary_host, "text", host)?;
                let port = self.field(words::PRIMARY_PORT, self.primary_port, "a port", port)?;
                let link = (words::LINK_STATUS, self.link_status);
                let link_up = self.field(link.0, link.1, "`up` or `down`", |v| match v {
                    b"up" => Some(true),
                    b"down" => Some(false),
                    _ => None,
                })?;
                let offset = offset_of(words::REPLICA_OFFSET, self.replica_offset)?;
                let never_copied = !link_up && offset == NO_COPY_OFFSET;
                Ok(Replication::Replica {
                    primary: Address::new(host, port),
                    link_up,
                    syncing: self.flag(words::SYNCING, self.syncing)?,
                    offset: if never_copied { 0 } else { offset },
                })
            }
        }
    }

    /// The engine names the first offset that is *not* in the stream before (`masterTryPartialResynchronization` refuses
    /// what is greater); its -1 is no number, so that there is none before.
    fn stream(&self) -> Option<Stream> {
        let id = |at: Option<At<'a>>| Some(std::str::from_utf8(at?.1).ok()?.to_owned());
        let before =
            id(self.stream_before).zip(self.stream_before_end.and_then(|(_, v)| number(v)));
        Some(Stream {
            id: id(self.stream_id).filter(|id| !id.is_empty())?,
            before: before
                .filter(|(_, end)| *end > 0)
                .map(|(id, end)| (id, end - 1)),
        })
    }

    /// As `processCommand` of both engines decides; but whether a failed snapshot counts is a setting that is not told here,
    /// nor is how many replicas have to keep up: wherever some have to, it is said how many do, and may be enough.
    fn no_writes(&self) -> Option<NoWrites> {
        let failed = |at: Option<At<'a>>| at.is_some_and(|(_, status)| status == b"err");
        let value = |at: Option<At<'a>>| at.and_then(|(_, v)| number(v));
        let limit = value(self.maxmemory).filter(|limit| *limit > 0);
        let counted = value(self.used_memory).map(|used| match value(self.not_counted) {
            Some(apart) => used.saturating_sub(apart),
            None => used,
        });
        let full = counted.zip(limit).is_some_and(|(used, limit)| used > limit);
        let policy = self.maxmemory_policy.and_then(|(_, v)| at_limit(v));
        let logs = self.aof_enabled.and_then(|(_, v)| flag(v)) == Some(true);
        // A replica has no replicas that would have to keep up.
        let primary = self.role.and_then(|(_, v)| words::role(v)) == Some(Role::Primary);
        if logs && failed(self.log_status) {
            Some(NoWrites::Log)
        } else if full && policy == Some(AtLimit::Refuses) {
            Some(NoWrites::Memory)
        } else if failed(self.snapshot_status) {
            Some(NoWrites::Snapshot)
        } else {
            let good = value(self.good_replicas).filter(|_| primary)?;
            Some(NoWrites::Replicas { good })
        }
    }

    /// What limits them is a setting, which is not told here.
    fn full_copies(&self) -> Option<FullCopies> {
        Some(FullCopies {
            begun: self.full_copies.and_then(|(_, v)| number(v))?,
            closed: self.closed_for_output.and_then(|(_, v)| number(v)),
            buffer_limit_bytes: None,
        })
    }

    fn databases(&self) -> Result<BTreeMap<u32, u64>, WireError> {
        if self.databases.is_empty() && !self.keyspace {
            self.need("db0", None)?;
        }
        let keys = |(number_, at): &(u32, At<'a>)| {
            let read = |v: &'a [u8]| number(pair(v, b"keys")?);
            let keys = self.field("a database's keys", Some(*at), "keys=N,...", read)?;
            Ok((*number_, keys))
        };
        self.databases.iter().map(keys).collect()
    }
}

/// What the engines write as a replica's offset when it has neither a link nor a copy (`genRedisInfoString` begins with
/// this value). No real stream stands there: its first ping alone is 14 bytes.
const NO_COPY_OFFSET: u64 = 1;

/// The number in `dbN`, the name of a database's line.
fn database(key: &[u8]) -> Option<u32> {
    number(key.strip_prefix(b"db")?).and_then(|n| u32::try_from(n).ok())
}

/// One connected replica. The second connection that a replica opens to fetch its copy is none of its own.
fn replica(value: &[u8]) -> Result<Option<ReplicaLink>, (&'static str, Fault)> {
    if pair(value, b"type") == Some(b"rdb-channel") {
        return Ok(None);
    }
    let need = |field, key: &[u8]| pair(value, key).ok_or((field, Fault::Missing));
    let ip = need("a replica's ip", b"ip")?;
    let ip = host(ip).ok_or(("a replica's ip", Fault::IsNot("text")))?;
    let number_ = need("a replica's port", b"port")?;
    let number_ = port(number_).ok_or(("a replica's port", Fault::IsNot("a port")))?;
    let state = need("a replica's state", b"state")?;
    let at = need("a replica's offset", b"offset")?;
    let at = offset(at).ok_or(("a replica's offset", Fault::IsNot("an offset")))?;
    Ok(Some(ReplicaLink {
        address: Address::new(ip, number_),
        online: state == b"online",
        offset: at,
    }))
}

/// The value of a key in `key=value,key=value`.
fn pair<'a>(list: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    list.split(|b| *b == b',')
        .find_map(|p| p.strip_prefix(key)?.strip_prefix(b"="))
}

/// All policies but one delete keys.
fn at_limit(policy: &[u8]) -> Option<AtLimit> {
    match policy {
        b"" => None,
        b"noeviction" => Some(AtLimit::Refuses),
        _ => Some(AtLimit::Evicts),
    }
}

fn flag(value: &[u8]) -> Option<bool> {
    match value {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

/// `major.minor[.patch]`; a suffix such as `-rc1` is passed over.
fn version(value: &[u8]) -> Option<Version> {
    let end = value
        .iter()
        .position(|b| !b.is_ascii_digit() && *b != b'.')
        .unwrap_or(value.len());
    let mut parts = value[..end].split(|b| *b == b'.').map(port);
    let version = Version {
        major: parts.next()??,
        minor: parts.next()??,
        patch: match parts.next() {
            Some(patch) => patch?,
            None => 0,
        },
    };
    Some(version)
}

fn wrong(line: usize, field: &'static str, fault: Fault, near: &[u8]) -> WireError {
    WireError::new(Command::Info, Some(line), field, fault, near)
}
