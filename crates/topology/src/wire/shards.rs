//! `CLUSTER SHARDS`.

use super::error::{Command, Fault, WireError};
use super::reply::Reply;
use super::words;
use crate::{Host, NodeId, Role, ShardId, SlotRange, SlotSet};

/// A node's health, as `CLUSTER SHARDS` tells it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ShardHealth {
    /// It answers.
    Online,
    /// It is held to have failed.
    Failed,
    /// It loads its data set, or takes its first copy.
    Loading,
}

/// One node of a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardNode {
    /// The node.
    pub id: NodeId,
    /// What clients are told to connect to.
    pub endpoint: Host,
    /// Its IP address.
    pub ip: Host,
    /// The host name it announces, if any.
    pub hostname: Option<Box<str>>,
    /// The port without TLS, if it has one.
    pub port: Option<u16>,
    /// The port with TLS, if it has one.
    pub tls_port: Option<u16>,
    /// Its role.
    pub role: Role,
    /// How far its replication stream has come, in bytes, as the speaker heard.
    pub offset: u64,
    /// Its health.
    pub health: ShardHealth,
}

/// One shard, as `CLUSTER SHARDS` tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardRow {
    /// Its id, on engines that tell it here.
    pub id: Option<ShardId>,
    /// Its slots.
    pub slots: SlotSet,
    /// Its nodes, as listed.
    pub nodes: Vec<ShardNode>,
}

/// Reads the reply to `CLUSTER SHARDS` (Redis documentation, "CLUSTER SHARDS"), of RESP2 or RESP3. Unknown keys are
/// passed over.
///
/// # Errors
/// Where a key that is needed is missing, or a value is malformed. The line is the shard's place in the list.
pub fn parse_shards(reply: &Reply) -> Result<Vec<ShardRow>, WireError> {
    let Some(items) = reply.list() else {
        return Err(error(
            None,
            ("the reply", Fault::IsNot("a list"), Some(reply)),
        ));
    };
    items
        .iter()
        .enumerate()
        .map(|(i, item)| shard(item).map_err(|wrong| error(Some(i + 1), wrong)))
        .collect()
}

/// A field that is wrong: its name, how, and what stood there.
type Wrong<'a> = (&'static str, Fault, Option<&'a Reply>);

fn error(line: Option<usize>, (field, fault, near): Wrong<'_>) -> WireError {
    let near = near.map(Reply::excerpt).unwrap_or_default();
    WireError::new(Command::ClusterShards, line, field, fault, &near)
}

fn shard(item: &Reply) -> Result<ShardRow, Wrong<'_>> {
    let keys = Keys::of("a shard", item)?;
    let id = match keys.get("id") {
        Some(id) => Some(id.text().and_then(|t| ShardId::parse(t).ok()).ok_or((
            "a shard's id",
            FORTY_HEX,
            Some(id),
        ))?),
        None => None,
    };
    let bounds = keys.need("slots")?;
    let slots = slots(bounds).ok_or(("slots", Fault::IsNot("pairs of slots"), Some(bounds)))?;
    let nodes = keys.need("nodes")?;
    let nodes = nodes
        .list()
        .ok_or(("nodes", Fault::IsNot("a list"), Some(nodes)))?
        .iter()
        .map(node)
        .collect::<Result<_, _>>()?;
    Ok(ShardRow { id, slots, nodes })
}

const FORTY_HEX: Fault = Fault::IsNot("40 hexadecimal digits");

fn slots(bounds: &Reply) -> Option<SlotSet> {
    let bounds = bounds.list()?;
    if bounds.len() % 2 != 0 {
        return None;
    }
    bounds
        .chunks_exact(2)
        .map(|pair| {
            let first = u64::try_from(pair[0].number()?).ok()?;
            let last = u64::try_from(pair[1].number()?).ok()?;
            SlotRange::new(first, last).ok()
        })
        .collect()
}

fn node(item: &Reply) -> Result<ShardNode, Wrong<'_>> {
    let keys = Keys::of("a node", item)?;
    let id = keys.need("id")?;
    let role = keys.need("role")?;
    let health = keys.need("health")?;
    let offset = keys.need("replication-offset")?;
    Ok(ShardNode {
        id: id
            .text()
            .and_then(|t| NodeId::parse(t).ok())
            .ok_or(("id", FORTY_HEX, Some(id)))?,
        endpoint: keys.host("endpoint")?,
        ip: keys.host("ip")?,
        hostname: match keys.text("hostname")? {
            None | Some("") => None,
            Some(name) => Some(name.into()),
        },
        port: keys.port("port")?,
        tls_port: keys.port("tls-port")?,
        role: role.text().and_then(words::role).ok_or((
            "role",
            Fault::IsNot("a role"),
            Some(role),
        ))?,
        offset: offset.number().and_then(|n| u64::try_from(n).ok()).ok_or((
            "replication-offset",
            Fault::IsNot("a number"),
            Some(offset),
        ))?,
        health: match health.text() {
            Some(b"online") => ShardHealth::Online,
            Some(b"failed" | b"fail") => ShardHealth::Failed,
            Some(b"loading") => ShardHealth::Loading,
            _ => {
                let fault = Fault::IsNot("`online`, `failed` or `loading`");
                return Err(("health", fault, Some(health)));
            }
        },
    })
}

/// A map of the reply, by key.
struct Keys<'a> {
    whole: &'a Reply,
    pairs: Vec<(&'a Reply, &'a Reply)>,
}

impl<'a> Keys<'a> {
    fn of(field: &'static str, whole: &'a Reply) -> Result<Self, Wrong<'a>> {
        let pairs = whole
            .pairs()
            .ok_or((field, Fault::IsNot("a map"), Some(whole)))?;
        Ok(Self { whole, pairs })
    }

    fn get(&self, key: &str) -> Option<&'a Reply> {
        self.pairs
            .iter()
            .find(|(k, _)| k.text() == Some(key.as_bytes()))
            .map(|(_, v)| *v)
    }

    fn need(&self, key: &'static str) -> Result<&'a Reply, Wrong<'a>> {
        self.get(key).ok_or((key, Fault::Missing, Some(self.whole)))
    }

    fn text(&self, key: &'static str) -> Result<Option<&'a str>, Wrong<'a>> {
        match self.get(key) {
            None | Some(Reply::Nil) => Ok(None),
            Some(value) => value
                .text()
                .and_then(|t| std::str::from_utf8(t).ok())
                .map(Some)
                .ok_or((key, Fault::IsNot("text"), Some(value))),
        }
    }

    fn host(&self, key: &'static str) -> Result<Host, Wrong<'a>> {
        Ok(self.text(key)?.map_or(Host::Unstated, Host::parse))
    }

    fn port(&self, key: &'static str) -> Result<Option<u16>, Wrong<'a>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let port = value.number().and_then(|n| u16::try_from(n).ok());
        port.map(Some)
            .ok_or((key, Fault::IsNot("a port"), Some(value)))
    }
}
