//! What this machine can hold, looked at before anything is started.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use shardwright_manifest::Cluster;
use shardwright_topology::Address;

use crate::ports::{Listener, listener};

/// This machine can't hold the cluster.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A port is taken.
    #[error(
        "port {port} ({what} of {server}) is in use on {ip}{by}; choose other ports with --port, or stop what listens there"
    )]
    PortInUse {
        /// Which.
        port: u16,
        /// Client port or bus port.
        what: &'static str,
        /// Whose.
        server: String,
        /// At which address.
        ip: IpAddr,
        /// By whom.
        by: Listener,
    },
    /// A port can't be used.
    #[error("cannot listen on {ip} port {port}; see the spec.local.bind of the manifest")]
    Port {
        /// Which.
        port: u16,
        /// At which address.
        ip: IpAddr,
        /// Why.
        source: io::Error,
    },
    /// The ports do not fit.
    #[error(
        "{nodes} nodes from port {first} need ports up to {last}, and their bus ports up to {bus}; the last port is 65535: choose a smaller --port"
    )]
    PortsTooHigh {
        /// How many nodes.
        nodes: usize,
        /// The first port.
        first: u16,
        /// The last client port.
        last: u32,
        /// The last bus port.
        bus: u32,
    },
    /// There is not enough memory.
    #[error(
        "{nodes} nodes request {requested_mib} MiB of memory, and this machine has {available_mib} MiB to give; \
         lower spec.resources.requests.memory or the number of nodes"
    )]
    Memory {
        /// How many nodes.
        nodes: usize,
        /// What they request together.
        requested_mib: u64,
        /// What there is.
        available_mib: u64,
    },
    /// There is not enough disk.
    #[error(
        "{} has {free_mib} MiB free, and {nodes} nodes need {needed_mib} MiB to begin with; free some, or choose another --dir",
        dir.display()
    )]
    DiskFull {
        /// Where.
        dir: PathBuf,
        /// What is free.
        free_mib: u64,
        /// What is needed.
        needed_mib: u64,
        /// How many nodes.
        nodes: usize,
    },
    /// The machine could not be asked.
    #[error("cannot tell {what}")]
    Unknown {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

const MIB: u64 = 1024 * 1024;

/// What a node writes before its first key: its table, an empty log and snapshot, its own log; with room to rewrite.
const DISK_TO_BEGIN_WITH: u64 = 32 * MIB;

/// Whether all ports fit below 65536, bus ports included.
pub(crate) fn ports_fit(first: u16, nodes: usize) -> Result<(), MachineError> {
    let last = u32::from(first) + u32::try_from(nodes).unwrap_or(u32::MAX).saturating_sub(1);
    let bus = last + u32::from(Address::BUS_OFFSET);
    if bus > 65_535 {
        return Err(MachineError::PortsTooHigh {
            nodes,
            first,
            last,
            bus,
        });
    }
    Ok(())
}

/// Whether a server that is about to start could listen on its ports.
pub(crate) fn port_free(ip: IpAddr, address: &Address, server: &str) -> Result<(), MachineError> {
    for (port, what) in [
        (address.port, "client port"),
        (address.bus_port, "bus port"),
    ] {
        match TcpListener::bind(SocketAddr::new(ip, port)) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                return Err(MachineError::PortInUse {
                    port,
                    what,
                    server: server.to_owned(),
                    ip,
                    by: listener(ip, port),
                });
            }
            Err(source) => return Err(MachineError::Port { port, ip, source }),
        }
    }
    Ok(())
}

/// Whether memory and disk suffice for so many more nodes. Returns what there is to warn of.
pub(crate) fn holds(
    cluster: &Cluster,
    dir: &Path,
    nodes: usize,
) -> Result<Vec<String>, MachineError> {
    let count = u64::try_from(nodes).unwrap_or(u64::MAX);
    let mut warnings = Vec::new();
    let memory = Memory::read().map_err(|source| MachineError::Unknown {
        what: "how much memory is free",
        source,
    })?;
    let requested = cluster
        .memory_request_bytes()
        .map(|each| each.saturating_mul(count));
    if let Some(requested) = requested.filter(|r| *r > memory.available) {
        let (requested_mib, available_mib) = (requested / MIB, memory.available / MIB);
        return Err(MachineError::Memory {
            nodes,
            requested_mib,
            available_mib,
        });
    }
    let limit = cluster
        .memory_limit_bytes()
        .map(|each| each.saturating_mul(count));
    if let Some(limit) = limit.filter(|l| *l > memory.total) {
        warnings.push(format!(
            "the nodes may grow to {} MiB together, and this machine has {} MiB",
            limit / MIB,
            memory.total / MIB
        ));
    }
    let stat = rustix::fs::statvfs(dir).map_err(|e| MachineError::Unknown {
        what: "how much disk is free",
        source: e.into(),
    })?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let needed = DISK_TO_BEGIN_WITH.saturating_mul(count);
    if free < needed {
        let (free_mib, needed_mib) = (free / MIB, needed / MIB);
        return Err(MachineError::DiskFull {
            dir: dir.to_owned(),
            free_mib,
            needed_mib,
            nodes,
        });
    }
    let storage = cluster
        .storage_bytes()
        .map(|each| each.saturating_mul(count));
    if let Some(storage) = storage.filter(|s| *s > free) {
        warnings.push(format!(
            "the nodes may use {} MiB of disk together, and {} has {} MiB free",
            storage / MIB,
            dir.display(),
            free / MIB
        ));
    }
    Ok(warnings)
}

struct Memory {
    total: u64,
    available: u64,
}

impl Memory {
    fn read() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/meminfo")?;
        let field = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name));
            let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
            kib.map(|k| k * 1024)
                .ok_or_else(|| io::Error::other(format!("/proc/meminfo has no {name}")))
        };
        Ok(Self {
            total: field("MemTotal:")?,
            available: field("MemAvailable:")?,
        })
    }
}
