//! What a problem is, in words.

use std::collections::BTreeSet;
use std::fmt;

use shardwright_topology::{Address, Dissent, EngineKind, NodeId, SlotSet, Version};

use super::there::{self, Taken};
use super::{ProblemKind, functions, keys, open_slots, primaries, writes};
use crate::Unspread;

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uncovered(slots) => write!(f, "{} slots have no owner: {slots}", slots.count()),
            Self::CoverageUnknown { slots, not_heard } => {
                f.write_str(&keys::coverage_unknown(slots, *not_heard))
            }
            Self::Unowned { slots, nodes, .. } => f.write_str(&keys::unowned(slots, nodes)),
            Self::Contested(slots) => write!(f, "two nodes claim slots {slots}"),
            Self::MajorityLost(lost) => write!(f, "{lost}"),
            Self::PrimaryDown {
                node,
                slots,
                proved,
                lives,
                ..
            } => {
                let how = there::state(*proved, *lives);
                write!(f, "primary {} of slots {slots} is {how}", node.short())
            }
            Self::RefusesWrites {
                node,
                why,
                is_replica,
                ..
            } => f.write_str(&writes::refused(*node, *why, *is_replica)),
            Self::IdLost { node, slots, .. } => f.write_str(&id_lost(*node, slots)),
            Self::Unheard { server, why, .. } => write!(f, "{server} is not heard: {why}"),
            Self::Refuses {
                server,
                by,
                of,
                address,
                ..
            } => f.write_str(&there::refuses(server, *by, *of, address)),
            Self::Unanswered { server } => write!(f, "{server} answers other nodes, but no client"),
            Self::Busy { server, .. } => f.write_str(&there::busy(server)),
            Self::Lost { node, taken } => f.write_str(&lost(*node, taken.as_ref())),
            Self::Disagree {
                dissent,
                speakers,
                about,
            } => {
                let what = believed(*dissent, speakers.len());
                write!(f, "{} {what} {}", list(speakers), list(about))
            }
            Self::OpenSlots { .. } => f.write_str(&open_slots::text(self)),
            Self::StrayKeys {
                node,
                keys,
                slots,
                owners,
            } => f.write_str(&stray_keys(*node, *keys, slots, owners)),
            Self::StrayKeysUnknown { node, why } => f.write_str(&stray_keys_unknown(*node, why)),
            Self::FunctionsDiffer(differ) => write!(f, "{differ}"),
            Self::FunctionsUnknown { node, why, .. } => {
                f.write_str(&functions::unknown(*node, why))
            }
            Self::StateFail(nodes) => write!(f, "cluster_state is fail at {}", list(nodes)),
            Self::CopiesElsewhere { node, from } => f.write_str(&elsewhere(*node, from)),
            Self::ReplicaLinkDown { node } => f.write_str(&no_link(*node)),
            Self::RepeatedCopy(again) => write!(f, "{again}"),
            Self::CannotCopy { replica, primary } => f.write_str(&too_old(*replica, *primary)),
            Self::ReplicaAstray { node } => f.write_str(&astray(*node)),
            Self::NoReplica { primary } => {
                write!(f, "primary {} has no live replica", primary.short())
            }
            Self::UnevenReplicas { most, least, .. } => f.write_str(&divided(*most, *least)),
            Self::EmptyPrimary { node } => write!(f, "primary {} owns no slots", node.short()),
            Self::Majority { at, .. } => f.write_str(&primaries::majority(at)),
            Self::SameHost(u) => f.write_str(&same_host(u)),
            Self::HeldBack { node, .. } => f.write_str(&held_back(*node)),
            Self::Failing { about, by } => {
                write!(f, "{by} node(s) hold {} to be failing", about.short())
            }
            Self::Islands { sizes } => f.write_str(&islands(sizes.len())),
            Self::DuplicateId(duplicate) => write!(f, "{duplicate}"),
            Self::MixedVersions(found) => f.write_str(&versions(found)),
        }
    }
}

pub(super) fn lost(node: NodeId, taken: Option<&Taken>) -> String {
    match taken {
        None => format!(
            "node {} is listed, but it is not known where it lives",
            node.short()
        ),
        Some(Taken { at, by, linked }) => format!(
            "node {} is listed at {at}, where {} answers: it {}",
            node.short(),
            by.short(),
            if *linked {
                "lives, by its bus links, and announces a wrong address"
            } else {
                "is gone, or announces a wrong address"
            }
        ),
    }
}

pub(super) fn stray_keys(
    node: NodeId,
    keys: u64,
    slots: &SlotSet,
    owners: &BTreeSet<NodeId>,
) -> String {
    format!(
        "{} holds {keys} key(s) of slots {slots}, which it does not own: nobody reaches them there (owned by {})",
        node.short(),
        list(owners)
    )
}

pub(super) fn stray_keys_unknown(node: NodeId, why: &impl std::fmt::Display) -> String {
    let node = node.short();
    format!("it is not known whether {node} holds keys of slots that it does not own: {why}")
}

pub(super) fn elsewhere(node: NodeId, from: &Address) -> String {
    format!(
        "replica {} copies from {from}, which is not its primary's address: it has no copy of its primary's data",
        node.short()
    )
}

pub(super) fn no_link(node: NodeId) -> String {
    format!(
        "replica {} has no copy or no link to its primary",
        node.short()
    )
}

pub(super) fn astray(node: NodeId) -> String {
    format!("replica {} follows a node that owns no slots", node.short())
}

pub(super) fn held_back(node: NodeId) -> String {
    format!(
        "replica {} does not take its primary's place by itself (cluster-replica-no-failover yes): set so on purpose, or left so by an interrupted command",
        node.short()
    )
}

pub(super) fn same_host(u: &Unspread) -> String {
    let (replica, primary) = (u.replica.short(), u.primary.short());
    format!(
        "replica {replica} is on the host of its primary {primary} ({})",
        u.host
    )
}

pub(super) fn islands(count: usize) -> String {
    format!("the nodes are in {count} groups that do not know one another")
}

pub(super) fn versions(versions: &BTreeSet<(EngineKind, Version)>) -> String {
    let names: Vec<String> = versions.iter().map(|(e, v)| format!("{e} {v}")).collect();
    format!("several major versions: {}", names.join(", "))
}

pub(super) fn id_lost(node: NodeId, slots: &SlotSet) -> String {
    let node = node.short();
    format!(
        "primary {node} of slots {slots} is listed without an address: the engine will promote nobody; its server lost its nodes.conf or was reset"
    )
}

/// What so many nodes believe of others.
pub(super) fn believed(dissent: Dissent, speakers: usize) -> &'static str {
    let (of_one, of_many) = match dissent {
        Dissent::NotListed => ("does not know", "do not know"),
        Dissent::Handshake => ("is still meeting", "are still meeting"),
        Dissent::Address => ("has a wrong address of", "have a wrong address of"),
        Dissent::Role => ("believes another role of", "believe another role of"),
        Dissent::Slots => ("believes other slots of", "believe other slots of"),
        Dissent::Health => (
            "holds to have failed, though it lives:",
            "hold to have failed, though it lives:",
        ),
        Dissent::Link => ("has no bus link to", "have no bus link to"),
    };
    if speakers == 1 { of_one } else { of_many }
}

pub(super) type Runs = (NodeId, EngineKind, Version);

pub(super) fn too_old((replica, reads, by): Runs, (primary, writes, version): Runs) -> String {
    format!(
        "replica {} runs {reads} {by}, which can't read all that its primary {} ({writes} {version}) writes: its copy fails, or lacks what it does not know",
        replica.short(),
        primary.short()
    )
}

pub(super) fn divided((most, many): (NodeId, usize), (least, few): (NodeId, usize)) -> String {
    let (most, least) = (most.short(), least.short());
    format!("primary {most} has {many} replicas, and primary {least} has {few}")
}

pub(super) fn list(nodes: &BTreeSet<NodeId>) -> String {
    let names: Vec<String> = nodes.iter().take(6).map(NodeId::short).collect();
    let more = nodes.len().saturating_sub(6);
    if more > 0 {
        format!("{} and {more} more", names.join(", "))
    } else {
        names.join(", ")
    }
}
