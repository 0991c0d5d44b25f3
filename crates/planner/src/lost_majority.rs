//! Fewer than a majority of the primaries are reachable: then no vote promotes anybody, and only their return, or a
//! person's statement that one of them is dead, gives slots a primary again.

use std::collections::BTreeSet;
use std::fmt;

use shardwright_topology::{Member, NodeId, Observed, SlotSet, Source};

use crate::evidence::Dead;
use crate::refused::{answers_others, unproved};
use crate::rules::promote::{candidate, has_copy};
use crate::{Desired, NoDeath, Waiting};

/// How many names a text lists.
const NAMES_MAX: usize = 6;

/// The primaries of which too few are reachable for a vote.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LostMajority {
    /// How many of the primaries with slots are reachable, by us or by a node that is.
    pub reachable: usize,
    /// How many there are.
    pub of: usize,
    /// The slots of those that are unreachable and not proved dead.
    pub slots: SlotSet,
    /// Those primaries.
    pub primaries: BTreeSet<NodeId>,
    /// The hosts that they run on; `None` where one of them is not known, or runs a node that is reachable.
    pub hosts: Option<BTreeSet<String>>,
    /// One of them, and its replica that may be promoted on a person's word; `None` where there is no such replica.
    pub takeover: Option<(NodeId, NodeId)>,
}

impl LostMajority {
    /// What is so now, if no majority is reachable. A primary that is proved dead is not among them: it is replaced
    /// without votes. Nor is one that answers something, for it lives.
    pub(crate) fn of(d: &Desired, o: &Observed) -> Option<Self> {
        let voters: Vec<&Member> = o.voters().collect();
        let reachable = voters.iter().filter(|m| is_reachable(o, m)).count();
        if reachable * 2 > voters.len() {
            return None;
        }
        let silent: Vec<&Member> = voters
            .iter()
            .copied()
            .filter(|m| !is_reachable(o, m) && is_silent(d, o, m.id))
            .collect();
        if silent.is_empty() {
            return None;
        }
        let away = |host: &String| {
            let mut reached = o.views().map(|(server, _)| server.place.host.as_ref());
            !reached.any(|at| at == Some(host))
        };
        let host = |m: &&Member| o.server_of(m.id)?.place.host.clone().filter(away);
        let hosts = silent.iter().map(host).collect();
        let slots = silent
            .iter()
            .fold(SlotSet::empty(), |all, m| all.union(&m.slots));
        // A copy is asked for, as the request that names it will.
        let copy = |m: &&Member| {
            let replica = candidate(d, o, m.id)?;
            let view = o.view_of(replica)?;
            has_copy(o, m.id, view).then_some((m.id, replica))
        };
        Some(Self {
            reachable,
            of: voters.len(),
            slots,
            primaries: silent.iter().map(|m| m.id).collect(),
            hosts,
            takeover: silent.iter().find_map(copy),
        })
    }

    /// What ends it; `target` is how the cluster is named on the command line.
    pub fn remedy(&self, target: &str) -> String {
        let back = "bring what is unreachable back: start it, or repair its host or network";
        match self.takeover {
            Some((primary, replica)) => format!(
                "{back}; or, where you know that primary {primary:?} is dead and will not come back with newer writes: \
                 shardwright failover {target} {replica} --takeover --i-know-the-primary-is-dead"
            ),
            None => format!("{back}; no replica that is reachable has a copy of their data"),
        }
    }
}

/// Whether a primary answers us or a node that does: it may be cut off from us alone, and then it votes.
fn is_reachable(o: &Observed, m: &Member) -> bool {
    let lives = || Dead::prove(o, m.id).is_none() && answers_others(o, m.id);
    m.source == Source::Itself || lives()
}

/// Whether a primary that is unreachable is silent, or refuses in a way that only votes could make a death of.
fn is_silent(d: &Desired, o: &Observed, node: NodeId) -> bool {
    if Dead::prove(o, node).is_some() {
        return false;
    }
    matches!(
        unproved(d, o, node),
        Waiting::PrimarySilent { .. }
            | Waiting::DeathUnproved {
                why: NoDeath::NoMajority { .. },
                ..
            }
    )
}

impl fmt::Display for LostMajority {
    /// Nodes are written short (`{:?}`), as in [`Waiting`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reachable, of, slots) = (self.reachable, self.of, &self.slots);
        let is = if reachable == 1 { "is" } else { "are" };
        let nodes: Vec<String> = self.primaries.iter().map(NodeId::short).collect();
        let back = match &self.hosts {
            Some(hosts) => {
                let hosts: Vec<String> = hosts.iter().cloned().collect();
                format!("{} (with {})", returns(&hosts), listed(&nodes))
            }
            None => returns(&nodes),
        };
        write!(
            f,
            "no majority: {reachable} of {of} primaries {is} reachable, so that no vote can promote a replica; no \
             reachable primary serves slots {slots}; it ends when {back}"
        )
    }
}

/// "X returns", "X and Y return".
fn returns(names: &[String]) -> String {
    let verb = if names.len() == 1 {
        "returns"
    } else {
        "return"
    };
    format!("{} {verb}", listed(names))
}

/// The first of these names, and how many more there are.
fn listed(names: &[String]) -> String {
    let first = &names[..names.len().min(NAMES_MAX)];
    match names.len().saturating_sub(NAMES_MAX) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
