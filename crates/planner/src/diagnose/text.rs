//! What a problem is, in words.

use std::collections::BTreeSet;

use shardwright_topology::{Address, Dissent, EngineKind, NodeId, SlotSet, Version};

use super::there::Taken;
use crate::Unspread;

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

pub(super) fn believed(dissent: Dissent) -> &'static str {
    match dissent {
        Dissent::NotListed => "do not know",
        Dissent::Handshake => "are still greeting",
        Dissent::Address => "have a wrong address of",
        Dissent::Role => "believe another role of",
        Dissent::Slots => "believe other slots of",
        Dissent::Health => "hold to have failed, though it lives:",
        Dissent::Link => "have no bus link to",
    }
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
