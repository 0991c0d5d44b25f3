//! Measures parsing and merging at 1 000 nodes: every node's `CLUSTER NODES` has 1 000 rows.
//!
//! `cargo run --release -p shardwright-topology --example thousand`

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::Instant;

use shardwright_topology::wire::{parse_cluster_info, parse_nodes, parse_server_info};
use shardwright_topology::{
    Address, ClusterInfo, Host, NodeId, NodeView, Observed, Place, Process, Seen, Server,
    ServerInfo, ServerName, Timestamp, Why,
};

const NODES: usize = 1_000;
/// Half of the nodes are primaries.
const PRIMARIES: usize = NODES / 2;

const CLUSTER_INFO: &[u8] = include_bytes!("../tests/wire/samples/valkey-9.1.2/cinfo-formed.txt");
const INFO: &[u8] = include_bytes!("../tests/wire/samples/valkey-9.1.2/info-primary.txt");

/// One shape of a cluster.
struct Shape {
    name: &'static str,
    /// How many ranges each primary's slots lie in.
    ranges: usize,
    hostnames: bool,
    /// Every server has another address than all views believe.
    moved: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let shapes = [
        ("addresses, one range each", 1, false, false),
        ("host names, one range each", 1, true, false),
        ("addresses, 16 ranges each", 16, false, false),
        ("all addresses changed", 1, false, true),
    ];
    let mut out = std::io::stdout().lock();
    for (name, ranges, hostnames, moved) in shapes {
        let shape = Shape {
            name,
            ranges,
            hostnames,
            moved,
        };
        writeln!(out, "{}", measure(&shape)?)?;
    }
    Ok(())
}

fn measure(shape: &Shape) -> Result<String, Box<dyn Error>> {
    let mut random = Random(7);
    let ids: Vec<NodeId> = (0..NODES).map(|_| random.id()).collect();
    let rows = (0..NODES)
        .map(|i| row(shape, &ids, i))
        .collect::<Result<Vec<String>, _>>()?;
    let texts: Vec<String> = (0..NODES).map(|i| text(&rows, i, &mut random)).collect();
    let bytes: usize = texts.iter().map(String::len).sum();

    let begun = Instant::now();
    let mut tables = Vec::with_capacity(NODES);
    for text in &texts {
        tables.push(parse_nodes(text.as_bytes())?);
    }
    let nodes_took = begun.elapsed();

    let begun = Instant::now();
    let mut facts: Vec<(ClusterInfo, ServerInfo)> = Vec::with_capacity(NODES);
    for _ in 0..NODES {
        facts.push((parse_cluster_info(CLUSTER_INFO)?, parse_server_info(INFO)?));
    }
    let infos_took = begun.elapsed();

    let servers: Vec<Server> = tables
        .into_iter()
        .zip(facts)
        .enumerate()
        .map(|(i, (rows, (cluster, server)))| Server {
            name: ServerName(format!("redis-{i}")),
            address: Seen::Known(address(if shape.moved { i + NODES } else { i })),
            place: Place::default(),
            process: Process::Running,
            view: Seen::Known(NodeView {
                id: ids[i],
                rows,
                cluster,
                server,
                keys_in_slot: std::collections::BTreeMap::new(),
            }),
            last_heard: None,
            disk: Seen::Unknown(Why::NotAsked),
            recorded_id: Some(ids[i]),
        })
        .collect();
    let begun = Instant::now();
    let observed = Observed::new(Timestamp(0), None, servers);
    let merge_took = begun.elapsed();
    let begun = Instant::now();
    let islands = observed.islands().len();
    let islands_took = begun.elapsed();
    Ok(format!(
        "{} ({} MB): CLUSTER NODES {} ms, INFO and CLUSTER INFO {} ms, merge {} ms, islands {} ms \
         [{} members, {} uncovered, {} disagreements, {islands} island]",
        shape.name,
        bytes / 1_000_000,
        nodes_took.as_millis(),
        infos_took.as_millis(),
        merge_took.as_millis(),
        islands_took.as_millis(),
        observed.members().len(),
        observed.uncovered().count(),
        observed.disagreements().len(),
    ))
}

fn address(i: usize) -> Address {
    let [.., high, low] = i.to_be_bytes();
    Address::new(Host::Ip([10, 0, high, low].into()), 6379)
}

/// The row of a node, without the flag `myself`.
fn row(shape: &Shape, ids: &[NodeId], i: usize) -> Result<String, fmt::Error> {
    let address = address(i);
    let mut row = format!("{} {}@{}", ids[i], address, address.bus_port);
    if shape.hostnames {
        write!(row, ",redis-{i}.redis.redis.svc.cluster.local")?;
    }
    if i >= PRIMARIES {
        let primary = i - PRIMARIES;
        let (id, epoch) = (ids[primary], primary + 1);
        write!(row, " slave {id} 0 1795359539230 {epoch} connected")?;
        return Ok(row);
    }
    write!(row, " master - 0 1795359539230 {} connected", i + 1)?;
    // Pieces of all slots in turn, so that ranges do not join.
    let pieces = PRIMARIES * shape.ranges;
    for piece in (i..pieces).step_by(PRIMARIES) {
        let (first, next) = (piece * 16_384 / pieces, (piece + 1) * 16_384 / pieces);
        match next - first {
            1 => write!(row, " {first}")?,
            _ => write!(row, " {first}-{}", next - 1)?,
        }
    }
    Ok(row)
}

/// The table of node `speaker`, in an order of its own, as the engines' hash tables give it.
fn text(rows: &[String], speaker: usize, random: &mut Random) -> String {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, random.below(i + 1));
    }
    let mut text = String::new();
    for i in order {
        if i == speaker {
            let own = rows[i].replacen(" master", " myself,master", 1);
            text += &own.replacen(" slave", " myself,slave", 1);
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
