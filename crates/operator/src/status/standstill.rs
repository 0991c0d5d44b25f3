//! Whether nothing more happens by itself: a person has to end every wait, or what it follows from.

use std::collections::BTreeSet;

use shardwright_planner::{Plan, Waiting};
use shardwright_topology::{NodeId, Observed, ServerName, Why};

use crate::reason::needs_a_person;

/// What a plan without steps waits for, by who ends it.
pub(super) struct Standstill<'a> {
    /// The first wait that only a person ends.
    pub(super) manual: &'a Waiting,
    /// The first that ends by itself, whatever the person does; `None` where nothing more happens without that person.
    pub(super) goes_on: Option<&'a Waiting>,
}

impl<'a> Standstill<'a> {
    /// What is so, if a person has to end anything.
    pub(super) fn of(plan: &'a Plan, o: &Observed) -> Option<Self> {
        let manual = plan.waiting.iter().find(|w| needs_a_person(w))?;
        let held: BTreeSet<&ServerName> = plan
            .waiting
            .iter()
            .filter(|w| needs_a_person(w))
            .filter_map(|w| server(w, o))
            .collect();
        let mut others = plan.waiting.iter();
        let goes_on = others.find(|w| !needs_a_person(w) && !follows(w, &held, o));
        Some(Self { manual, goes_on })
    }
}

/// Whether a wait comes of one that only a person ends; `held` are the servers that those are about.
fn follows(wait: &Waiting, held: &BTreeSet<&ServerName>, o: &Observed) -> bool {
    let is_held = |node: NodeId| o.server_of(node).is_some_and(|s| held.contains(&s.name));
    match wait {
        // Once it answers, what waits for a person may be over without one.
        Waiting::ServerUnheard {
            why: Why::Loading, ..
        } => false,
        Waiting::ServerUnheard { .. }
        | Waiting::PlaceFollowed { .. }
        | Waiting::NoCandidate { .. }
        | Waiting::PrimarySilent { .. } => server(wait, o).is_some_and(|name| held.contains(name)),
        Waiting::MajorityLost(lost) => lost.primaries.iter().all(|node| is_held(*node)),
        Waiting::ReplicaCatchUp { node, .. } => {
            let primary = o.member(*node).and_then(|m| m.primary);
            primary.is_some_and(is_held)
        }
        // The node that is missing is at a server that waits for a person.
        Waiting::ReplicaMissing { .. } | Waiting::NodesMissing { .. } => !held.is_empty(),
        // A node says so as long as slots are not served.
        Waiting::StateNotOk { .. } => true,
        _ => false,
    }
}

/// The server that a wait is about, where it is about one.
fn server<'a>(wait: &'a Waiting, o: &'a Observed) -> Option<&'a ServerName> {
    match wait {
        Waiting::Foreign { server, .. }
        | Waiting::AnnouncedUnheard { server, .. }
        | Waiting::ServerUnheard { server, .. }
        | Waiting::StartHeld { server }
        | Waiting::DirectoryUnread { server, .. }
        | Waiting::TableRefused { server }
        | Waiting::DataRefused { server, .. }
        | Waiting::PlaceFollowed { server, .. } => Some(server),
        Waiting::ShardLost { primary: node, .. }
        | Waiting::NoCandidate { primary: node }
        | Waiting::PrimarySilent { node }
        | Waiting::IdLost { node }
        | Waiting::DeathUnproved { node, .. } => o.server_of(*node).map(|s| &s.name),
        _ => None,
    }
}
