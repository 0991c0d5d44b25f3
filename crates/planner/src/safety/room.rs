//! Whether a receiver has room for what is to come: its memory limit, and the size of just the slots that would move.

use shardwright_topology::{NodeId, Observed, SlotSet};

use super::NoMove;
use crate::Desired;

/// So much of what comes is counted once more, as one part of so many: a receiver needs somewhat more for the same keys
/// than their source (tables that grow, what is being read).
const MORE_PART: u64 = 8;

/// Why these slots may not go to a receiver, as far as its memory is concerned. Nothing where it has no limit, or a
/// person agreed to exceed it.
///
/// What is not measured has no size: the average of a server says nothing of the slot with the great key.
pub(crate) fn why_no_room(
    d: &Desired,
    o: &Observed,
    to: NodeId,
    coming: &[(NodeId, SlotSet)],
) -> Vec<NoMove> {
    let server = o.view_of(to).map(|v| &v.server);
    let limit = server.and_then(|s| s.maxmemory_bytes);
    let (Some(server), Some(limit)) = (server, limit.filter(|limit| *limit > 0)) else {
        return Vec::new();
    };
    if d.consent.force_memory {
        return Vec::new();
    }
    let Some(used) = server.used_memory_bytes else {
        return vec![NoMove::RoomUnknown { node: to }];
    };
    let (mut moves, mut largest) = (0_u64, 0);
    let mut unmeasured = Vec::new();
    for (from, slots) in coming {
        let sizes = o.slot_sizes.get(from);
        let size = |slot| sizes.and_then(|sizes| sizes.get(&slot));
        let unknown: SlotSet = slots.slots().filter(|s| size(*s).is_none()).collect();
        if !unknown.is_empty() {
            let (node, slots) = (*from, unknown);
            unmeasured.push(NoMove::SizeUnknown { node, slots });
        }
        for size in slots.slots().filter_map(size) {
            moves = moves.saturating_add(size.bytes);
            largest = largest.max(size.largest);
        }
    }
    if !unmeasured.is_empty() {
        return unmeasured;
    }
    // While a key is taken in it is there twice: as it came, and as it is kept.
    let needs = moves
        .saturating_add(moves / MORE_PART)
        .saturating_add(if moves > 0 { largest } else { 0 });
    if moves == 0 || used.saturating_add(needs) <= limit {
        return Vec::new();
    }
    vec![NoMove::Memory {
        node: to,
        used,
        moves,
        limit,
        at_limit: server.at_limit,
    }]
}
