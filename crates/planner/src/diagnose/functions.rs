//! Libraries of functions in which the primaries differ: what a client calls at one shard is not what it calls at another.

use std::collections::BTreeSet;

use shardwright_topology::{Address, NodeId, Observed, Why};

use super::{Found, ProblemKind, add};
use crate::Severity;
use crate::diagnose::text::list;
use crate::functions::compare;

/// A primary and where it answers.
pub(super) type Place = (NodeId, Address);

/// Compares the libraries of all owners of slots. Of those that could not be read it is noted that nothing is known.
pub(super) fn of(o: &Observed, found: &mut Found) {
    let compared = compare(o);
    for (node, why) in compared.unread {
        if let Some((node, address)) = place(o, node) {
            let kind = ProblemKind::FunctionsUnknown { node, address, why };
            add(found, Severity::Note, kind);
        }
    }
    for (library, codes) in compared.differ {
        let mut codes: Vec<BTreeSet<NodeId>> = codes.into_values().collect();
        // What most have comes first; of as many, that of the lowest node id.
        codes.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let with: BTreeSet<NodeId> = codes.iter().flatten().copied().collect();
        let (Some(most), without) = (codes.first(), &compared.nodes - &with) else {
            continue;
        };
        let from = most.first().and_then(|node| place(o, *node));
        let others = compared.nodes.difference(most);
        let others = others.filter_map(|node| place(o, *node)).collect();
        if let Some(from) = from {
            let kind = ProblemKind::FunctionsDiffer {
                library,
                codes,
                without,
                from,
                others,
            };
            add(found, Severity::Fatal, kind);
        }
    }
}

fn place(o: &Observed, node: NodeId) -> Option<Place> {
    let address = o.server_of(node)?.address.known()?;
    Some((node, address.clone()))
}

pub(super) fn differ(
    library: &str,
    codes: &[BTreeSet<NodeId>],
    without: &BTreeSet<NodeId>,
) -> String {
    let mut parts: Vec<String> = codes
        .iter()
        .enumerate()
        .map(|(i, nodes)| {
            let code = if i == 0 { "one code" } else { "another code" };
            format!("{code} at {}", list(nodes))
        })
        .collect();
    if !without.is_empty() {
        parts.push(format!("missing at {}", list(without)));
    }
    format!(
        "library {library} of functions is not the same at all primaries: {}",
        parts.join(", ")
    )
}

/// The command that gives the libraries of one primary to the others. `head` takes off the line end that `redis-cli` adds.
pub(super) fn remedy(from: &Place, others: &[Place]) -> String {
    let (node, at) = from;
    let copies: Vec<String> = others
        .iter()
        .map(|(_, to)| {
            format!(
                "redis-cli -h {} -p {} --raw FUNCTION DUMP | head -c -1 | redis-cli -h {} -p {} -X dump FUNCTION RESTORE dump REPLACE",
                at.host, at.port, to.host, to.port
            )
        })
        .collect();
    format!(
        "load the same code at all primaries; to give all libraries of {} to the others (replaces those of the same names, deletes none): {}",
        node.short(),
        copies.join("; ")
    )
}

pub(super) fn unknown(node: NodeId, why: &Why) -> String {
    let node = node.short();
    format!(
        "it is not known whether {node} has the same libraries of functions as the others: {why}"
    )
}

/// What lets the libraries of a server be read.
pub(super) fn allow_list(address: &Address, why: &Why) -> String {
    match why {
        Why::Denied(_) => format!(
            "let the user that shardwright logs in as read them: redis-cli -h {} -p {} ACL SETUSER USER +function|list",
            address.host, address.port
        ),
        Why::NotAsked
        | Why::TimedOut
        | Why::Refused
        | Why::Unreachable(_)
        | Why::Loading
        | Why::Busy(_)
        | Why::Strange(_) => "look again; if it stays, see its log".to_owned(),
    }
}
