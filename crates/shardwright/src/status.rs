//! What a cluster is like now, for people and for programs.

use crate::moves::seconds;
use crate::table::{Room, table};
use serde::Serialize;
use shardwright_planner::evidence::copies_elsewhere;
use shardwright_topology::{Member, NodeView, Observed, Replication, Role, Seen, Server, Source};

/// A cluster, as `status -o json` tells it.
#[derive(Debug, Serialize)]
pub(crate) struct ClusterStatus {
    /// Whether every slot is covered by a heard primary.
    covered: bool,
    slots_covered: u16,
    /// Keys of all heard primaries; `null` when a primary was not heard.
    keys: Option<u64>,
    shards: Vec<Shard>,
    /// Nodes that belong to no shard.
    others: Vec<Node>,
    /// Slots that have to move; `null` where all are where they belong, or nothing is declared.
    moves: Option<Moves>,
}

/// How it stands with slots that have to move.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Moves {
    pub(crate) slots_left: u64,
    /// Whether a person paused it.
    pub(crate) paused: bool,
    /// `null`: only who moves them knows.
    pub(crate) slots_moved: Option<u64>,
    pub(crate) keys_moved: Option<u64>,
    pub(crate) eta_s: Option<u64>,
}

impl Moves {
    fn line(&self) -> String {
        let Self {
            slots_left, paused, ..
        } = self;
        let how = if *paused { ", and that is paused" } else { "" };
        let moved = match (self.slots_moved, self.keys_moved) {
            (Some(slots), Some(keys)) => format!("; moved: {slots} slots, {keys} keys"),
            _ => String::new(),
        };
        let eta = self
            .eta_s
            .map_or_else(String::new, |s| format!("; about {} left", seconds(s)));
        format!("slots left to move: {slots_left}{how}{moved}{eta}")
    }
}

#[derive(Debug, Serialize)]
struct Shard {
    slots: String,
    /// The same, for people.
    #[serde(skip)]
    shown: String,
    slot_count: u16,
    nodes: Vec<Node>,
}

const HEAD: [&str; 10] = [
    "SLOTS", "ROLE", "NODE", "ADDRESS", "HOST", "STATE", "LAG", "KEYS", "MEMORY", "OPS/S",
];
/// Where ADDRESS stands.
const ADDRESS: usize = 3;
/// Where HOST stands.
const HOST: usize = 4;
/// How many columns at the end hold numbers.
const NUMBERS: usize = 4;

#[derive(Debug, Serialize)]
struct Node {
    /// `null`: nobody told.
    role: Option<&'static str>,
    /// `null`: nobody told, and none is recorded.
    id: Option<String>,
    server: Option<String>,
    address: String,
    host: Option<String>,
    engine: Option<String>,
    state: String,
    /// Bytes of the stream that a replica has not confirmed.
    lag_bytes: Option<u64>,
    keys: Option<u64>,
    memory_bytes: Option<u64>,
    maxmemory_bytes: Option<u64>,
    ops_per_s: Option<u64>,
}

impl ClusterStatus {
    pub(crate) fn of(o: &Observed) -> Self {
        let mut primaries: Vec<&Member> = o.voters().collect();
        primaries.sort_by_key(|m| m.slots.ranges().first().copied());
        let mut told = Vec::new();
        let mut shards = Vec::new();
        for primary in &primaries {
            let mut nodes = vec![node(o, primary)];
            told.push(primary.id);
            for replica in o.replicas_of(primary.id) {
                nodes.push(node(o, replica));
                told.push(replica.id);
            }
            shards.push(Shard {
                slots: primary.slots.listed(),
                shown: primary.slots.brief(1).to_string(),
                slot_count: primary.slots.count(),
                nodes,
            });
        }
        let mut others: Vec<Node> = o
            .members()
            .values()
            .filter(|m| !told.contains(&m.id))
            .map(|m| node(o, m))
            .collect();
        let known = |server: &Server| {
            let name = Some(&server.name);
            o.members().values().any(|m| m.server.as_ref() == name)
        };
        others.extend(o.servers().values().filter(|s| !known(s)).map(unheard));
        let heard = primaries.iter().filter(|m| m.source == Source::Itself);
        let slots_covered = heard.map(|m| m.slots.count()).sum();
        let told = primaries
            .iter()
            .map(|m| o.view_of(m.id).map(|v| v.server.keys));
        // Where no primary is known, neither are its keys.
        let keys = if primaries.is_empty() {
            None
        } else {
            told.sum()
        };
        Self {
            covered: slots_covered == shardwright_topology::SLOT_COUNT,
            slots_covered,
            keys,
            shards,
            others,
            moves: None,
        }
    }

    /// The same, with what is known of slots that have to move.
    pub(crate) fn moving(self, moves: Option<Moves>) -> Self {
        Self { moves, ..self }
    }

    /// In a line: which slots have to move yet.
    pub(crate) fn moves_line(&self) -> Option<String> {
        self.moves.as_ref().map(Moves::line)
    }

    /// A table: the nodes of each shard together, its primary first. Not `wide`, long lists of slots are cut, and columns
    /// that tell nothing are left out.
    pub(crate) fn table(&self, wide: bool, room: Room) -> String {
        let mut rows = Vec::new();
        for shard in &self.shards {
            let slots = if wide { &shard.slots } else { &shard.shown };
            for (i, node) in shard.nodes.iter().enumerate() {
                rows.push(node.row(if i == 0 { slots } else { "" }));
            }
        }
        rows.extend(self.others.iter().map(|node| node.row("-")));
        let room = if wide { Room::Unbounded } else { room };
        let mut head = HEAD.to_vec();
        // A host that stands in the address is told already.
        let placed = rows
            .iter()
            .any(|row| row[HOST] != "-" && !row[ADDRESS].starts_with(&row[HOST]));
        if !wide && !placed {
            head.remove(HOST);
            for row in &mut rows {
                row.remove(HOST);
            }
        }
        table(&head, &rows, head.len() - NUMBERS, room)
    }

    /// One line: shards, coverage, keys.
    pub(crate) fn summary(&self) -> String {
        let keys = self
            .keys
            .map_or_else(|| "keys unknown".to_owned(), |keys| format!("{keys} keys"));
        format!(
            "{} shards, {} of 16384 slots covered, {keys}",
            self.shards.len(),
            self.slots_covered
        )
    }
}

impl Node {
    fn row(&self, slots: &str) -> Vec<String> {
        let dash = || "-".to_owned();
        let number = |n: Option<u64>| n.map_or_else(dash, |n| n.to_string());
        let memory = match (self.memory_bytes, self.maxmemory_bytes) {
            (Some(used), Some(max)) if max > 0 => format!("{}/{}", bytes(used), bytes(max)),
            (Some(used), _) => bytes(used),
            (None, _) => dash(),
        };
        let lag = self.lag_bytes.map_or_else(dash, bytes);
        let name = self
            .server
            .clone()
            .filter(|s| *s != self.address)
            .or_else(|| self.id.as_ref().map(|id| id.chars().take(8).collect()))
            .unwrap_or_else(dash);
        let host = self.host.clone().unwrap_or_else(dash);
        vec![
            slots.to_owned(),
            self.role.map_or_else(dash, str::to_owned),
            name,
            self.address.clone(),
            host,
            self.state.clone(),
            lag,
            number(self.keys),
            memory,
            number(self.ops_per_s),
        ]
    }
}

fn node(o: &Observed, m: &Member) -> Node {
    let server = o.server_of(m.id);
    let view = o.view_of(m.id);
    let info = view.map(|v| &v.server);
    Node {
        role: Some(match m.role {
            Role::Primary => "primary",
            Role::Replica => "replica",
        }),
        id: Some(m.id.to_string()),
        server: m.server.as_ref().map(ToString::to_string),
        address: m.address.to_string(),
        host: server.and_then(|s| s.place.host.clone()),
        engine: info.map(|i| format!("{} {}", i.engine, i.version)),
        state: state(o, m, view),
        lag_bytes: lag(o, m),
        keys: info.map(|i| i.keys),
        memory_bytes: info.and_then(|i| i.used_memory_bytes),
        maxmemory_bytes: info.and_then(|i| i.maxmemory_bytes),
        ops_per_s: info.and_then(|i| i.ops_per_s),
    }
}

/// A server of which nobody tells anything: it is silent, and so are those that know it.
fn unheard(server: &Server) -> Node {
    let state = match &server.view {
        _ if server.process.death().is_some() => "dead".to_owned(),
        Seen::Unknown(why) => why.to_string(),
        Seen::Known(_) => "not heard".to_owned(),
    };
    Node {
        role: None,
        id: server.recorded_id.map(|id| id.to_string()),
        server: Some(server.name.to_string()),
        address: server
            .address
            .known()
            .map_or_else(|| "-".to_owned(), ToString::to_string),
        host: server.place.host.clone(),
        engine: None,
        state,
        lag_bytes: None,
        keys: None,
        memory_bytes: None,
        maxmemory_bytes: None,
        ops_per_s: None,
    }
}

fn state(o: &Observed, m: &Member, view: Option<&NodeView>) -> String {
    let Some(view) = view else {
        return match o.server_of(m.id).map(|s| (&s.process, &s.view)) {
            Some((process, _)) if process.death().is_some() => "dead".to_owned(),
            Some((_, Seen::Unknown(why))) => why.to_string(),
            Some(_) | None => "not heard".to_owned(),
        };
    };
    match &view.server.replication {
        _ if view.server.loading => "loading".to_owned(),
        Replication::Replica { .. } if copies_elsewhere(o, m.id).is_some() => {
            "copies elsewhere".to_owned()
        }
        Replication::Replica { syncing: true, .. } => "copying".to_owned(),
        Replication::Replica { link_up: false, .. } => "link down".to_owned(),
        _ if !view.cluster.state_ok => "fail".to_owned(),
        Replication::Replica { .. } | Replication::Primary { .. } => "ok".to_owned(),
    }
}

/// How far a replica is behind. Only known when both ends were heard.
fn lag(o: &Observed, m: &Member) -> Option<u64> {
    if copies_elsewhere(o, m.id).is_some() {
        return None;
    }
    let Replication::Replica { offset, .. } = o.view_of(m.id)?.server.replication else {
        return None;
    };
    match o.view_of(m.primary?)?.server.replication {
        Replication::Primary { offset: end, .. } => Some(end.saturating_sub(offset)),
        Replication::Replica { .. } => None,
    }
}

/// A number of bytes with a unit a person reads.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut unit = 0;
    let mut tenths = u128::from(count) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 {
        format!("{count}B")
    } else {
        format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_table_fits_the_usual_terminal_and_wide_shows_all() {
        let node = |role: &'static str| Node {
            role: Some(role),
            id: Some("0".repeat(40)),
            server: Some("redis-10".to_owned()),
            address: "127.0.0.1:17010".to_owned(),
            host: None,
            engine: None,
            state: "ok".to_owned(),
            lag_bytes: Some(0),
            keys: Some(1_000_000),
            memory_bytes: Some(100 << 20),
            maxmemory_bytes: None,
            ops_per_s: Some(10_000),
        };
        let status = ClusterStatus {
            covered: true,
            slots_covered: 16_384,
            keys: None,
            shards: vec![Shard {
                slots: "0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38".to_owned(),
                shown: "0-99, … (1365)".to_owned(),
                slot_count: 20,
                nodes: vec![node("primary"), node("replica")],
            }],
            others: Vec::new(),
            moves: None,
        };
        let usual = status.table(false, Room::Terminal(80));
        let widest = usual.lines().map(|l| l.chars().count()).max();
        assert!(widest <= Some(80), "{widest:?}\n{usual}");
        assert_eq!(usual.lines().count(), 3, "nothing is wrapped: {usual}");
        assert!(!usual.contains("HOST"), "{usual}");
        let wide = status.table(true, Room::Terminal(80));
        assert!(wide.contains("34,36,38") && wide.contains("HOST"), "{wide}");
    }

    #[test]
    fn bytes_are_told_in_units_that_a_person_reads() {
        let told: Vec<String> = [0, 1023, 1024, 1536, 10 << 20, 3 << 40]
            .into_iter()
            .map(bytes)
            .collect();
        assert_eq!(told, ["0B", "1023B", "1.0K", "1.5K", "10.0M", "3.0T"]);
    }
}
