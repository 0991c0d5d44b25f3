//! Servers that answer everything but what clients write.

use shardwright_topology::{Address, NoWrites, NodeId, NodeView, Observed, Role};

use super::{Found, ProblemKind, add};
use crate::Severity;
use crate::evidence::in_sync;

/// Primaries with slots are an error: their shards take no writes. Replicas are noted.
pub(super) fn of(o: &Observed, found: &mut Found) {
    for (server, view) in o.views() {
        let (Some(why), Some(own)) = (view.server.no_writes, view.own()) else {
            continue;
        };
        let Some(address) = server.address.known() else {
            continue;
        };
        let severity = match own.role {
            Role::Primary if own.slots.is_empty() => continue,
            // It is its primary's replicas that count, and its primary that refuses writes for lack of memory.
            Role::Replica if matches!(why, NoWrites::Replicas { .. } | NoWrites::Memory) => {
                continue;
            }
            Role::Primary => Severity::Fatal,
            Role::Replica => Severity::Note,
        };
        let kind = ProblemKind::RefusesWrites {
            node: view.id,
            address: address.clone(),
            why,
            replica: replica(o, view.id, why),
            is_replica: own.role == Role::Replica,
        };
        add(found, severity, kind);
    }
}

/// A replica in sync that would take writes: where the disk is the cause, it could take the primary's place.
fn replica(o: &Observed, primary: NodeId, why: NoWrites) -> Option<NodeId> {
    if !matches!(why, NoWrites::Log | NoWrites::Snapshot) {
        return None;
    }
    let well = |v: &&NodeView| in_sync(o, v) && v.server.no_writes.is_none();
    let mut replicas = o.replicas_of(primary).filter_map(|m| o.view_of(m.id));
    replicas.find(well).map(|v| v.id)
}

pub(super) fn refused(node: NodeId, why: NoWrites, is_replica: bool) -> String {
    let who = node.short();
    let cause = no_writes(why);
    if is_replica {
        format!("replica {who} would refuse writes as a primary: {cause}")
    } else {
        format!("primary {who} refuses writes: {cause}")
    }
}

pub(super) fn mend(
    target: &str,
    address: &Address,
    why: NoWrites,
    replica: Option<NodeId>,
) -> String {
    let meanwhile = replica.map_or_else(String::new, |replica| {
        format!(
            "; meanwhile: shardwright failover {target} {}",
            replica.short()
        )
    });
    let again = take_writes_again(address, why);
    match why {
        NoWrites::Log => format!("{again}: it then takes writes again by itself{meanwhile}"),
        NoWrites::Snapshot => format!("{again}{meanwhile}"),
        NoWrites::Replicas { .. } => format!("{again}; see what else is said of its replicas"),
        NoWrites::Memory => format!(
            "{again}, delete keys, or move slots away (shardwright rebalance {target} --by memory)"
        ),
    }
}

/// What lets a server at this address take writes again.
pub fn take_writes_again(address: &Address, why: NoWrites) -> String {
    let cli = format!("redis-cli -h {} -p {}", address.host, address.port);
    match why {
        NoWrites::Log => "make room on its disk (its log says more)".to_owned(),
        NoWrites::Snapshot => {
            format!("make room on its disk (its log says more), then: {cli} BGSAVE")
        }
        NoWrites::Replicas { .. } => format!(
            "bring its replicas back, or let it take writes without them ({cli} CONFIG SET min-replicas-to-write 0)"
        ),
        NoWrites::Memory => format!("raise its limit ({cli} CONFIG SET maxmemory BYTES)"),
    }
}

/// Why a server refuses writes.
pub(crate) fn no_writes(why: NoWrites) -> &'static str {
    match why {
        NoWrites::Log => "its append-only file can't be written (MISCONF): is its disk full?",
        NoWrites::Snapshot => "its last snapshot failed (MISCONF): is its disk full?",
        NoWrites::Replicas { .. } => {
            "fewer replicas keep up than min-replicas-to-write asks for (NOREPLICAS)"
        }
        NoWrites::Memory => "its memory limit is reached, and nothing is evicted (OOM)",
    }
}
