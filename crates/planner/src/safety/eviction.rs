//! Why no server of a cluster may be stopped by others now, such as by the drain of a Kubernetes node.

use std::fmt;

use shardwright_topology::{Member, NodeId, Observed, SlotSet, Timestamp};

use super::won_lately;
use crate::evidence::in_sync;
use crate::{Desired, Limits, Shape};

/// Why a shard would be away if the server of its primary were stopped now.
///
/// Whatever is not known counts against an eviction: an eviction can wait, a shard that is away cannot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoEviction {
    /// Nobody is known to own these slots: how their shard stands is not known.
    SlotsUncovered {
        /// Which slots.
        slots: SlotSet,
    },
    /// The primary is unreachable: whether a replica has its newest data can't be proved.
    PrimaryUnreachable {
        /// The primary.
        primary: NodeId,
    },
    /// Two processes answer as this node: it is not known which of them holds the newest data.
    DuplicateId {
        /// The node.
        node: NodeId,
    },
    /// The shard has no replica at all.
    NoReplica {
        /// Its primary.
        primary: NodeId,
    },
    /// None of its replicas could take over now: unreachable, being stopped, still copying, or not to be asked yet.
    NoSyncedReplica {
        /// Its primary.
        primary: NodeId,
        /// The replica that is named for all of them.
        replica: NodeId,
    },
}

impl fmt::Display for NoEviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SlotsUncovered { slots } => {
                write!(f, "slots {slots} have no owner that is known")
            }
            Self::PrimaryUnreachable { primary } => write!(f, "primary {primary:?} is unreachable"),
            Self::DuplicateId { node } => write!(f, "two processes answer as node {node:?}"),
            Self::NoReplica { primary } => write!(f, "primary {primary:?} has no replica"),
            Self::NoSyncedReplica { primary, replica } => write!(
                f,
                "replica {replica:?} is not in sync with primary {primary:?}, and no other replica of it is"
            ),
        }
    }
}

/// Every reason why no server may be evicted now, one for each shard, in the order of the shards' slots.
///
/// Empty where any one server may go: each shard has a replica that can take over. Empty too where there is nothing to
/// protect: a cluster that was never formed has no data, and shards that are declared without replicas can't be handed
/// over at all.
pub fn why_no_eviction(d: &Desired, o: &Observed, l: &Limits, now: Timestamp) -> Vec<NoEviction> {
    let without_replicas = matches!(
        d.shape,
        Shape::Declared {
            replicas_per_shard: 0,
            ..
        }
    );
    if without_replicas || o.formed.is_none() {
        return Vec::new();
    }
    let mut primaries: Vec<&Member> = o.voters().collect();
    primaries.sort_by_key(|m| m.slots.ranges().first().copied());
    let slots = o.uncovered();
    let uncovered = (!slots.is_empty()).then_some(NoEviction::SlotsUncovered { slots });
    let shards = primaries
        .into_iter()
        .filter_map(|primary| why_not_handed_over(o, l, primary.id, now));
    uncovered.into_iter().chain(shards).collect()
}

/// Why none of the replicas of this primary could take over now.
///
/// Links that are down for a moment, as after an introduction, do not count: they are up again long before a pod ends.
fn why_not_handed_over(
    o: &Observed,
    l: &Limits,
    primary: NodeId,
    now: Timestamp,
) -> Option<NoEviction> {
    if o.view_of(primary).is_none() {
        return Some(NoEviction::PrimaryUnreachable { primary });
    }
    if o.has_duplicate(primary) {
        return Some(NoEviction::DuplicateId { node: primary });
    }
    let can_take_over = |replica: NodeId| {
        let view = o.view_of(replica).filter(|view| in_sync(o, view));
        let stays = o.server_of(replica).is_some_and(|server| !server.leaving);
        view.is_some()
            && stays
            && !o.has_duplicate(replica)
            && won_lately(o, l, replica, now).is_none()
    };
    let mut replicas = o.replicas_of(primary).map(|m| m.id).peekable();
    let Some(replica) = replicas.peek().copied() else {
        return Some(NoEviction::NoReplica { primary });
    };
    (!replicas.any(can_take_over)).then_some(NoEviction::NoSyncedReplica { primary, replica })
}
