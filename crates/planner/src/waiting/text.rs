//! What is waited for, in words.

use std::collections::BTreeSet;

use shardwright_topology::{
    Address, DuplicateId, NodeId, ServerName, Slot, SlotSet, StartFailure, Why,
};

use super::{OnlyOnDisk, Rest};
use crate::evidence::Follower;
use crate::safety::{NoMove, NoRecreate, NoRemove};
use crate::{LostMajority, NoDeath};

pub(super) const DATA_LOST: &str = "it was formed, and every node is empty: its data is lost";

pub(super) fn shard_lost(primary: NodeId, slots: &SlotSet) -> String {
    format!("the last copy of slots {slots} is gone with node {primary:?}")
}

pub(super) fn drains(node: NodeId, for_ms: u64) -> String {
    format!("{node:?} leaves soon: {}", crate::safety::drains(for_ms))
}

pub(super) fn start_held(server: &ServerName) -> String {
    format!("{server} is held: it may come back as a primary without its newest data")
}

pub(super) fn starts_again(server: &ServerName, rest: &Rest) -> String {
    let (times, left) = (rest.times, rest.left_ms.div_ceil(1_000));
    let Some(StartFailure { why, remedy }) = rest.failure.as_deref() else {
        return format!(
            "{server} was started {times} times and never heard: once more in {left} s"
        );
    };
    let text =
        format!("{server} does not start: {why} (started {times} times, once more in {left} s)");
    match remedy {
        Some(remedy) => format!("{text}; {remedy}"),
        None => text,
    }
}

pub(super) fn data_refused(server: &ServerName, failure: Option<&StartFailure>) -> String {
    match failure {
        Some(failure) => format!("{server} can't load its data: {}", failure.why),
        None => format!("{server} can't load its data"),
    }
}

pub(super) fn primary_silent(node: NodeId) -> String {
    format!(
        "primary {node:?} is silent, and nothing proves it dead: the other primaries vote on it"
    )
}

pub(super) fn majority_lost(lost: &LostMajority) -> String {
    match lost.takeover {
        Some((primary, _)) => format!(
            "{lost}, or on the word of a person who knows that {primary:?} is dead: shardwright check shows the command"
        ),
        None => lost.to_string(),
    }
}

pub(super) fn id_lost(node: NodeId) -> String {
    format!(
        "primary {node:?} is listed without an address: its server lost its nodes.conf or was reset, and the engine promotes nobody in its place"
    )
}

pub(super) fn no_candidate(primary: NodeId) -> String {
    format!("no replica of {primary:?} is proved to have a copy of its data")
}

pub(super) fn role_not_seen(replica: NodeId, seen_by: usize, of: usize) -> String {
    format!("{seen_by} of {of} primaries see {replica:?} as a replica: no majority")
}

pub(super) fn copies_elsewhere(
    node: NodeId,
    primary: NodeId,
    from: &Address,
    drops: Option<u64>,
) -> String {
    let what = format!(
        "replica {node:?} copies from {from}, which is not the address of its primary {primary:?}"
    );
    drops.map_or_else(
        || what.clone(),
        |keys| format!("{what}, and holds {keys} key(s) that its primary has lost"),
    )
}

pub(super) fn uncounted(node: NodeId, slots: &SlotSet) -> String {
    format!("{node:?} did not say how many keys it has of slots {slots}, which nobody owns")
}

pub(super) fn unclaimed(nodes: &BTreeSet<NodeId>, slots: &SlotSet) -> String {
    let nodes: Vec<String> = nodes.iter().map(NodeId::short).collect();
    let nodes = nodes.join(" and ");
    format!(
        "nobody owns slots {slots}, {nodes} hold keys of them, and nothing proves which of them is to own them"
    )
}

pub(super) fn announced_unheard(server: &ServerName, node: NodeId, why: &Why) -> String {
    format!("{node:?} announces {server}, and is not heard there: {why}")
}

pub(super) fn sibling_unheard(sibling: NodeId) -> String {
    format!("replica {sibling:?} is not heard, and may have the fresher copy")
}

pub(super) fn place_followed(server: &ServerName, by: &Follower) -> String {
    format!("{server} has no data, and starts once nobody copies it: {by}")
}

pub(super) fn death_unproved(node: NodeId, why: &NoDeath) -> String {
    format!("primary {node:?} refuses connections, which proves no death: {why}")
}

pub(super) fn doubled(duplicate: &DuplicateId) -> String {
    format!(
        "{duplicate}: a disk was copied; nothing is done about this node until one of them is stopped"
    )
}

pub(super) fn cannot_copy(node: NodeId, primary: NodeId) -> String {
    format!(
        "{node:?} runs a version that can't read all that {primary:?} writes: its copy fails, or lacks what it does not know"
    )
}

pub(super) fn stranded(server: &ServerName, host: &str, why: &NoRecreate) -> String {
    format!("{server} waits for {host}, which is away and has its volume: {why}")
}

pub(super) fn restart_grace(server: &ServerName, left_ms: u64, has: OnlyOnDisk) -> String {
    let why = match has {
        OnlyOnDisk::LastWrites => String::new(),
        OnlyOnDisk::MovedKeys => {
            ": it was taking slots in, and may alone have keys that moved".to_owned()
        }
        OnlyOnDisk::WritesSinceLink { replica } => {
            format!(
                ": it may alone have what was written while its replica {replica:?} had no link"
            )
        }
    };
    format!("{server} has {left_ms} ms to return{why}")
}

pub(super) fn surplus(server: &ServerName, why: &[NoRemove]) -> String {
    let why: Vec<String> = why.iter().map(ToString::to_string).collect();
    format!(
        "{server} is not wanted any more, and stays for now: {}",
        why.join("; ")
    )
}

pub(super) fn moves(slots_left: u32, why: &[NoMove]) -> String {
    let why: Vec<String> = why.iter().map(ToString::to_string).collect();
    let wait = if why.is_empty() { "" } else { ", which wait: " };
    format!("slots left to move: {slots_left}{wait}{}", why.join("; "))
}

pub(super) fn nodes_missing(have: usize, want: usize) -> String {
    format!("new shards need {want} free nodes, and {have} are there")
}

pub(super) fn open_slot(slot: Slot, node: NodeId) -> String {
    format!("slot {slot} is open at {node:?}, and the keys at its other end are not known")
}

pub(super) fn open_slot_held(slot: Slot, why: &[NoMove]) -> String {
    let why: Vec<String> = why.iter().map(ToString::to_string).collect();
    format!("slot {slot} stays half moved: {}", why.join("; "))
}

pub(super) fn stray_keys(node: NodeId, keys: u64, slots: &SlotSet, why: &[NoMove]) -> String {
    let text = format!("{node:?} holds {keys} keys of slots {slots}, which it does not own");
    let why: Vec<String> = why.iter().map(ToString::to_string).collect();
    if why.is_empty() {
        return text;
    }
    format!("{text}, and they stay there: {}", why.join("; "))
}

pub(super) fn lend(replica: NodeId, primary: NodeId) -> String {
    format!(
        "replica {replica:?} moves to primary {primary:?} once its shard keeps a copy without it"
    )
}

pub(super) fn behind(lag_bytes: Option<u64>) -> String {
    match lag_bytes {
        Some(lag) => format!("catches up, {lag} bytes behind"),
        None => "takes its first copy".to_owned(),
    }
}

pub(super) fn forgotten(node: NodeId) -> String {
    format!(
        "others had forgotten {node:?}: for a minute after a CLUSTER FORGET they may drop it again"
    )
}

pub(super) fn replica_missing(primary: NodeId, have: u16, want: u16) -> String {
    format!("primary {primary:?} has {have} of {want} replicas, and no node is free")
}
