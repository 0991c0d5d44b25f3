//! Libraries of functions: which ones all owners of slots have with the same code, and what a new shard lacks of them.
//!
//! They do not move with slots. Nobody but a person knows which of two codes is right, so only what all owners of slots
//! agree on is given to a new shard.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{CodeDigest, FunctionLibraries, NodeId, NodeView, Observed, Seen, Why};

use crate::safety::NoMove;

/// The libraries of the primaries that own slots, compared by name and code.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Those that all of them have with the same code.
    pub(crate) same: FunctionLibraries,
    /// All others: by name, who has which code.
    pub(crate) differ: BTreeMap<String, BTreeMap<CodeDigest, BTreeSet<NodeId>>>,
    /// The primaries that were compared.
    pub(crate) nodes: BTreeSet<NodeId>,
    /// Those that have libraries which could not be read, and why not. Nothing is known of what they have.
    pub(crate) unread: BTreeMap<NodeId, Why>,
}

/// Compares the libraries of the primaries that own slots and were heard. One that does not tell how many it has
/// knows no functions, and is left out.
pub(crate) fn compare(o: &Observed) -> Compared {
    let mut out = Compared::default();
    let mut by_name: BTreeMap<String, BTreeMap<CodeDigest, BTreeSet<NodeId>>> = BTreeMap::new();
    for m in o.voters() {
        match o.view_of(m.id).and_then(NodeView::functions) {
            Some(Seen::Known(libraries)) => {
                out.nodes.insert(m.id);
                for (name, digest) in libraries {
                    let codes = by_name.entry(name.clone()).or_default();
                    codes.entry(*digest).or_default().insert(m.id);
                }
            }
            Some(Seen::Unknown(why)) => {
                out.unread.insert(m.id, why);
            }
            None => {}
        }
    }
    for (name, codes) in by_name {
        let all = |nodes: &BTreeSet<NodeId>| *nodes == out.nodes;
        match codes.first_key_value().filter(|(_, nodes)| all(nodes)) {
            Some((digest, _)) => {
                out.same.insert(name, *digest);
            }
            None => {
                out.differ.insert(name, codes);
            }
        }
    }
    out
}

/// The libraries that no other owner of slots has with the same code: a primary that gives its last slot away becomes a
/// replica, and takes another's libraries in their place.
///
/// # Errors
/// [`NoMove::FunctionsUnknown`] where it has libraries, and its own or those of another could not be read.
pub(crate) fn only_at(o: &Observed, node: NodeId) -> Result<BTreeSet<String>, NoMove> {
    let some = |v: &NodeView| v.server.libraries.is_some_and(|n| n > 0);
    if !o.view_of(node).is_some_and(some) {
        return Ok(BTreeSet::new());
    }
    let compared = compare(o);
    if let Some((node, why)) = compared.unread.into_iter().next() {
        return Err(NoMove::FunctionsUnknown { node, why });
    }
    let alone = |codes: &BTreeMap<CodeDigest, BTreeSet<NodeId>>| {
        codes
            .values()
            .any(|nodes| nodes.len() == 1 && nodes.contains(&node))
    };
    let only = compared
        .differ
        .into_iter()
        .filter(|(_, codes)| alone(codes));
    Ok(only.map(|(name, _)| name).collect())
}

/// What a primary without slots is to be given before its first slots.
#[derive(Debug)]
pub(crate) struct Missing {
    /// An owner of slots that has all of it.
    pub(crate) from: NodeId,
    /// The libraries that all owners of slots have with the same code, and it has not.
    pub(crate) libraries: FunctionLibraries,
    /// The libraries in which the owners of slots differ: they are not given to it.
    pub(crate) left_out: BTreeSet<String>,
}

/// The libraries that a primary without slots lacks; `None` where it lacks none, has slots, or does not tell how many it has.
///
/// # Errors
/// [`NoMove::FunctionsUnknown`] where those of an owner of slots, or its own, could not be read, and it has fewer than one
/// of them: by their number alone it is known only that it lacks some.
pub(crate) fn missing(o: &Observed, to: NodeId) -> Result<Option<Missing>, NoMove> {
    let empty = o.member(to).is_some_and(|m| m.slots.is_empty());
    let count = |id| o.view_of(id).and_then(|v| v.server.libraries);
    let (true, Some(have), Some(own)) = (empty, count(to), o.view_of(to)) else {
        return Ok(None);
    };
    let compared = compare(o);
    let own = match own.functions() {
        Some(Seen::Known(own)) => own,
        Some(Seen::Unknown(why)) => return not_read(o, have, to, (to, why)),
        None => return Ok(None),
    };
    if let Some(unread) = compared.unread.into_iter().next() {
        return not_read(o, have, to, unread);
    }
    let lacks = |(name, digest): &(String, CodeDigest)| own.get(name) != Some(digest);
    let libraries: FunctionLibraries = compared.same.into_iter().filter(lacks).collect();
    let from = compared.nodes.first().filter(|_| !libraries.is_empty());
    Ok(from.map(|from| Missing {
        from: *from,
        libraries,
        left_out: compared.differ.into_keys().collect(),
    }))
}

/// What is known by the numbers alone.
fn not_read(
    o: &Observed,
    have: u64,
    to: NodeId,
    (node, why): (NodeId, Why),
) -> Result<Option<Missing>, NoMove> {
    let owners = o.voters().filter(|m| m.id != to);
    let most = owners.filter_map(|m| o.view_of(m.id)?.server.libraries);
    match most.max() {
        Some(most) if most > have => Err(NoMove::FunctionsUnknown { node, why }),
        Some(_) | None => Ok(None),
    }
}

/// The names of libraries as they are read.
pub(crate) fn names<'a>(libraries: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<&str> = libraries.into_iter().map(String::as_str).collect();
    names.join(", ")
}

/// Why a new shard is given libraries of functions, and which ones it is not given.
pub(crate) fn given(left_out: &BTreeSet<String>) -> String {
    let why = "clients of the slots that it gets may call them";
    if left_out.is_empty() {
        return why.to_owned();
    }
    format!("{why}; not given: {}", not_given(left_out))
}

/// Libraries that a shard which gets its first slots is not given, and why not.
pub fn not_given(left_out: &BTreeSet<String>) -> String {
    let names = names(left_out);
    format!("{names} (the primaries differ in them: `shardwright check` names the nodes)")
}

/// The libraries in which the owners of slots differ: a shard that gets its first slots is not given them.
pub fn left_out(o: &Observed) -> BTreeSet<String> {
    compare(o).differ.into_keys().collect()
}
