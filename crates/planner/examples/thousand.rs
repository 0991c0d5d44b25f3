//! Measures a pass at 1 000 nodes, without the network: parse what all say, merge it, plan, check the plan.
//!
//! `cargo run --release -p shardwright-planner --example thousand`

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::{Duration, Instant};

use shardwright_planner::{Desired, Limits, check, layout, plan};
use shardwright_topology::wire::{parse_cluster_info, parse_nodes, parse_server_info};
use shardwright_topology::{
    Address, Death, DeathProof, Disk, Formed, Host, NodeId, NodeView, Observed, Place, Process,
    Replication, Seen, Server, ServerName, Starter, Timestamp, Why,
};

const NODES: usize = 1_000;
/// Half of the nodes are primaries.
const PRIMARIES: usize = NODES / 2;
const NOW: Timestamp = Timestamp(1_795_359_600_000);

const CLUSTER_INFO: &[u8] =
    include_bytes!("../../topology/tests/wire/samples/valkey-9.1.2/cinfo-formed.txt");
/// A real table, from which the protocol's words for the roles are taken.
const TABLE: &str = include_str!("../../topology/tests/wire/samples/valkey-9.1.2/nodes-formed.txt");
const INFO: &[u8] =
    include_bytes!("../../topology/tests/wire/samples/valkey-9.1.2/info-primary.txt");

/// What is the matter with the cluster.
#[derive(Clone, Copy, PartialEq)]
enum Matter {
    /// Nothing: all is well.
    Healthy,
    /// All nodes are blank.
    Blank,
    /// The primaries have their slots, nobody knows anybody.
    Strangers,
    /// All know each other; half of them are to become replicas, and all are on one host.
    NoReplicas,
    /// Every address is new.
    Moved,
    /// A tenth of the primaries died.
    Deaths,
}

fn main() -> Result<(), Box<dyn Error>> {
    let matters = [
        ("healthy", Matter::Healthy),
        ("blank, to be given slots", Matter::Blank),
        ("with slots, to meet", Matter::Strangers),
        ("one host, to be paired", Matter::NoReplicas),
        ("all addresses new", Matter::Moved),
        ("fifty primaries dead", Matter::Deaths),
    ];
    let mut out = std::io::stdout().lock();
    for (name, matter) in matters {
        writeln!(out, "{name}: {}", measure(matter)?)?;
    }
    Ok(())
}

fn measure(matter: Matter) -> Result<String, Box<dyn Error>> {
    let mut random = Random(7);
    let ids: Vec<NodeId> = (0..NODES).map(|_| random.id()).collect();
    let rows = (0..NODES)
        .map(|i| row(matter, &ids, i))
        .collect::<Result<Vec<String>, _>>()?;
    let alone = matches!(matter, Matter::Blank | Matter::Strangers);
    let texts: Vec<String> = (0..NODES)
        .map(|i| text(&rows, i, alone, &mut random))
        .collect();

    let begun = Instant::now();
    let mut servers = Vec::with_capacity(NODES);
    for (i, text) in texts.iter().enumerate() {
        servers.push(server(matter, &ids, i, text)?);
    }
    let parsed = begun.elapsed();

    let begun = Instant::now();
    let formed = (matter != Matter::Blank).then(|| Formed {
        cluster_id: "thousand".to_owned(),
        at: Timestamp(0),
    });
    let observed = Observed::new(NOW, formed, servers);
    let merged = begun.elapsed();

    let begun = Instant::now();
    let desired = Desired::managed(u16::try_from(PRIMARIES)?, 1);
    let made = plan(&desired, &observed, &Limits::default(), NOW);
    let planned = begun.elapsed();

    let begun = Instant::now();
    let found = check(&made, &desired, &observed);
    let checked = begun.elapsed();
    let total: Duration = [parsed, merged, planned, checked].iter().sum();
    Ok(format!(
        "parse {} ms, merge {} ms, plan {} ms, check {} ms, together {} ms [{} steps, {} waits, {} violations]",
        parsed.as_millis(),
        merged.as_millis(),
        planned.as_millis(),
        checked.as_millis(),
        total.as_millis(),
        made.steps.len(),
        made.waiting.len(),
        found.len(),
    ))
}

fn server(matter: Matter, ids: &[NodeId], i: usize, text: &str) -> Result<Server, Box<dyn Error>> {
    let mut info = parse_server_info(INFO)?;
    info.keys = if matter == Matter::Blank || (matter == Matter::NoReplicas && i >= PRIMARIES) {
        0
    } else {
        info.keys
    };
    let copies =
        i >= PRIMARIES && matches!(matter, Matter::Healthy | Matter::Moved | Matter::Deaths);
    if copies {
        info.replication = Replication::Replica {
            primary: address(matter, i - PRIMARIES),
            link_up: true,
            syncing: false,
            offset: 1_000,
        };
    }
    let view = NodeView {
        id: ids[i],
        rows: parse_nodes(text.as_bytes())?,
        cluster: parse_cluster_info(CLUSTER_INFO)?,
        server: info,
        keys_in_slot: std::collections::BTreeMap::new(),
        stray_keys: Seen::Known(std::collections::BTreeMap::new()),
        functions: Seen::Known(std::collections::BTreeMap::new()),
    };
    let dead = matter == Matter::Deaths && i < PRIMARIES && i.is_multiple_of(10);
    let death = Death {
        proof: DeathProof::ChildReaped,
        since: NOW,
    };
    Ok(Server {
        name: ServerName(format!("redis-{i}")),
        address: Seen::Known(address(matter, i)),
        place: Place {
            host: Some(match matter {
                Matter::NoReplicas => "one".to_owned(),
                _ => format!("host-{}", i % 100),
            }),
            ..Place::default()
        },
        process: if dead {
            Process::Dead(death)
        } else {
            Process::Running
        },
        starter: Starter::Step,
        leaving: false,
        last_heard: dead.then(|| Box::new(view.clone())),
        view: if dead {
            Seen::Unknown(Why::Refused)
        } else {
            Seen::Known(view)
        },
        disk: Seen::Known(Disk::Log),
        disk_row: None,
        start_failure: None,
        recorded_id: Some(ids[i]),
    })
}

/// Where a node is now; its rows may tell of an earlier address.
fn address(matter: Matter, i: usize) -> Address {
    let subnet = if matter == Matter::Moved { 9 } else { 0 };
    in_subnet(subnet, i)
}

fn in_subnet(subnet: u8, i: usize) -> Address {
    let [.., high, low] = i.to_be_bytes();
    Address::new(Host::Ip([10, subnet, high, low].into()), 6379)
}

/// The row of a node, without the flag `myself`.
fn row(matter: Matter, ids: &[NodeId], i: usize) -> Result<String, fmt::Error> {
    let address = in_subnet(0, i);
    let mut row = format!("{} {}@{}", ids[i], address, address.bus_port);
    let copies = matches!(matter, Matter::Healthy | Matter::Moved | Matter::Deaths);
    if i >= PRIMARIES && copies {
        let primary = i - PRIMARIES;
        let (id, epoch) = (ids[primary], primary + 1);
        let word = role_word(false);
        write!(row, " {word} {id} 0 1795359539230 {epoch} connected")?;
        return Ok(row);
    }
    let epoch = if matter == Matter::Blank { 0 } else { i + 1 };
    let word = role_word(true);
    write!(row, " {word} - 0 1795359539230 {epoch} connected")?;
    if matter != Matter::Blank && i < PRIMARIES {
        let shards = u16::try_from(PRIMARIES).unwrap_or(u16::MAX);
        if let Some(range) = layout(shards).get(i) {
            write!(row, " {range}")?;
        }
    }
    Ok(row)
}

/// The protocol's flag for a primary, or a replica: as in a row that names no primary, or names one.
fn role_word(primary: bool) -> &'static str {
    let rows = TABLE.lines().map(|row| row.split(' ').collect::<Vec<_>>());
    let mut flags = rows.filter_map(|row| {
        let is_primary = *row.get(3)? == "-";
        (is_primary == primary).then_some(*row.get(2)?)
    });
    let flags = flags.next().unwrap_or_default();
    flags.rsplit(',').next().unwrap_or(flags)
}

/// The table of node `speaker`, in an order of its own, as the engines' hash tables give it.
fn text(rows: &[String], speaker: usize, alone: bool, random: &mut Random) -> String {
    let mut order: Vec<usize> = (0..rows.len())
        .filter(|i| !alone || *i == speaker)
        .collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i + 1));
    }
    let mut text = String::new();
    for i in order {
        if i == speaker {
            let (before, flags) = rows[i].split_once(' ').unwrap_or((&rows[i], ""));
            let (address, flags) = flags.split_once(' ').unwrap_or((flags, ""));
            for part in [before, " ", address, " myself,", flags] {
                text += part;
            }
        } else {
            text += &rows[i];
        }
        text.push('\n');
    }
    text
}

/// The same numbers on every run (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap_or(0)
    }

    fn id(&mut self) -> NodeId {
        let mut bytes = [0; 20];
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_be_bytes()[..part.len()]);
        }
        NodeId::from_bytes(bytes)
    }
}
