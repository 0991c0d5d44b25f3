//! Libraries of functions in which the primaries differ: what a client calls at one shard is not what it calls at another.

use std::collections::BTreeSet;
use std::fmt;

use shardwright_topology::{Address, NodeId, Observed, Why};

use super::{Found, ProblemKind, add};
use crate::Severity;
use crate::diagnose::text::list;
use crate::functions::compare;

/// A library of functions that is not the same at all primaries with slots.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FunctionsDiffer {
    /// Its name.
    pub library: String,
    /// The primaries that have it, those with the same code together: the code that most have comes first.
    pub codes: Vec<BTreeSet<NodeId>>,
    /// The primaries that do not have it.
    pub without: BTreeSet<NodeId>,
    /// One that has the code that most have, and where it answers.
    pub from: (NodeId, Address),
    /// The primaries that do not have that code, and where they answer.
    pub others: Vec<(NodeId, Address)>,
}

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
            let kind = ProblemKind::FunctionsDiffer(FunctionsDiffer {
                library,
                codes,
                without,
                from,
                others,
            });
            add(found, Severity::Fatal, kind);
        }
    }
}

fn place(o: &Observed, node: NodeId) -> Option<(NodeId, Address)> {
    let address = o.server_of(node)?.address.known()?;
    Some((node, address.clone()))
}

impl fmt::Display for FunctionsDiffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let library = &self.library;
        write!(
            f,
            "library {library} of functions is not the same at all primaries: "
        )?;
        for (i, nodes) in self.codes.iter().enumerate() {
            let code = if i == 0 { "one" } else { ", another" };
            write!(f, "{code} code at {}", list(nodes))?;
        }
        if self.without.is_empty() {
            return Ok(());
        }
        write!(f, ", missing at {}", list(&self.without))
    }
}

impl FunctionsDiffer {
    /// The command that gives this library of one primary to the others, and no other: of that another may have the code that
    /// most have. `sed` leaves the code, which is told last, and `head` takes off the line end that `redis-cli` adds.
    pub(super) fn remedy(&self) -> String {
        let (node, at) = &self.from;
        let copies = self.others.iter().map(|(_, to)| {
            format!(
                "redis-cli -h {} -p {} --raw FUNCTION LIST LIBRARYNAME {} WITHCODE | sed '1,/^library_code$/d' | head -c -1 | redis-cli -h {} -p {} -x FUNCTION LOAD REPLACE",
                at.host, at.port, self.library, to.host, to.port
            )
        });
        let copies: Vec<String> = copies.collect();
        format!(
            "load the same code at all primaries; to give the others what {} has: {}",
            node.short(),
            copies.join("; ")
        )
    }
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
            "let the user that shardwright logs in as read them: redis-cli -h {} -p {} ACL SETUSER USER '+function|list' '+function|load'",
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
