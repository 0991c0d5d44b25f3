//! Every reason not to do a thing. A reason is a wait, never a warning.

use std::fmt;

use shardwright_topology::{Disk, NodeId, Observed, Replication, Role, Server, Source};

use crate::Desired;
use crate::evidence::Dead;
use crate::rules::promote::candidate;

/// Why a dead server is not started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoStart {
    /// Its node owns slots, and a live replica is about to take them: it would come back as an old primary.
    SuccessorFirst,
    /// It would come back as a primary with slots but without its newest data, and empty its replicas.
    OldData,
    /// It is not known what it would come back with.
    DiskUnknown,
}

/// Why this dead server may not be started, if it may not.
///
/// A server that would come back as a primary, but not with everything its memory held, never does: its replicas
/// would copy the loss (kill -9 and a restart in place without a log leave 0 keys on both).
pub fn why_not_start(d: &Desired, o: &Observed, server: &Server) -> Option<NoStart> {
    let member = server.recorded_id.and_then(|id| o.member(id));
    let owns = member.is_some_and(|m| {
        m.source == Source::Others && m.role == Role::Primary && !m.slots.is_empty()
    });
    if owns
        && server
            .recorded_id
            .and_then(|id| candidate(d, o, id))
            .is_some()
    {
        return Some(NoStart::SuccessorFirst);
    }
    let replaced = member.is_some_and(|m| m.slots.is_empty());
    match server.disk.known() {
        None => Some(NoStart::DiskUnknown),
        // A blank directory makes a new node: it takes nobody's place by itself.
        Some(Disk::Blank | Disk::Log | Disk::CleanSnapshot | Disk::Stale { owns_slots: false }) => {
            None
        }
        Some(Disk::Stale { owns_slots: true }) if replaced || d.consent.lose_data => None,
        Some(Disk::Stale { owns_slots: true }) => Some(NoStart::OldData),
    }
}

/// A replica of this primary that was not heard, and is not proved dead: it may hold a fresher copy, and the others
/// may yet elect it.
pub fn unheard_sibling(o: &Observed, primary: NodeId) -> Option<NodeId> {
    o.replicas_of(primary)
        .find(|m| m.source == Source::Others && Dead::prove(o, m.id).is_none())
        .map(|m| m.id)
}

/// Why a node is not forgotten.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoForget {
    /// It owns slots.
    OwnsSlots {
        /// How many.
        slots: u16,
    },
    /// Nodes copy it.
    HasReplicas {
        /// How many.
        replicas: usize,
    },
}

impl fmt::Display for NoForget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnsSlots { slots } => write!(f, "it owns {slots} slots; move them away first"),
            Self::HasReplicas { replicas } => write!(
                f,
                "{replicas} replica(s) follow it; give them another primary first"
            ),
        }
    }
}

/// Why this node may not be forgotten, if it may not. With consent to lose data, its slots do not keep it, once no
/// replica is left that could have a copy of them.
pub fn why_not_forget(d: &Desired, o: &Observed, node: NodeId) -> Option<NoForget> {
    let member = o.member(node)?;
    let given_up = d.consent.lose_data && o.replicas_of(node).next().is_none();
    if !member.slots.is_empty() && !given_up {
        return Some(NoForget::OwnsSlots {
            slots: member.slots.count(),
        });
    }
    let replicas = o
        .replicas_of(node)
        .filter(|r| r.source == Source::Itself)
        .count();
    (replicas > 0).then_some(NoForget::HasReplicas { replicas })
}

/// Why a planned change of roles is not done.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoSwitchover {
    /// The primary was not heard.
    PrimaryUnheard,
    /// The replica was not heard.
    ReplicaUnheard,
    /// Its link to the primary is down, or its first copy is not done.
    NotInSync,
}

impl fmt::Display for NoSwitchover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PrimaryUnheard => "its primary is not heard; if it is dead, use --force",
            Self::ReplicaUnheard => "the replica itself is not heard",
            Self::NotInSync => {
                "the replica is not in sync with its primary yet; wait until its link is up"
            }
        })
    }
}

/// Every reason not to make this replica the primary of its shard by a switchover.
pub fn why_not_switch_over(o: &Observed, replica: NodeId) -> Vec<NoSwitchover> {
    let mut why = Vec::new();
    match o.view_of(replica).map(|v| &v.server.replication) {
        None => why.push(NoSwitchover::ReplicaUnheard),
        Some(Replication::Replica {
            link_up: true,
            syncing: false,
            ..
        }) => {}
        Some(Replication::Replica { .. } | Replication::Primary { .. }) => {
            why.push(NoSwitchover::NotInSync);
        }
    }
    let primary = o.member(replica).and_then(|m| m.primary);
    if primary.and_then(|id| o.view_of(id)).is_none() {
        why.push(NoSwitchover::PrimaryUnheard);
    }
    why
}
