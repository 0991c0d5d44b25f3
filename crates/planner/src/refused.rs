//! A refused connection is a fact about an address. What it takes for it to prove that a process is gone.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fmt;

use shardwright_topology::{
    Address, Disk, Health, NodeId, NodeView, Observed, Role, Row, Seen, Server, Why,
};

use crate::returned::has_lost_id;
use crate::{Authority, Desired, Waiting};

/// Why a refused connection proves no death.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoDeath {
    /// It is not known which node lived at this address, or nobody lists it there.
    NotThere,
    /// The node answers others on the cluster bus: it lives, and only its address for clients refuses.
    Linked {
        /// How many nodes have a link to it.
        by: usize,
        /// Of how many that were heard.
        of: usize,
    },
    /// Nodes show a link to it, and all of them hold it to have failed: a link that is being dialled, in vain, is shown as
    /// one for a moment.
    Dialled {
        /// How many nodes show a link to it.
        by: usize,
        /// Of how many that were heard.
        of: usize,
    },
    /// Its process is not ours to know, and no majority of the primaries holds it to have failed.
    NoMajority {
        /// How many primaries hold it to have failed.
        failed_by: usize,
        /// How many primaries were heard.
        heard: usize,
        /// How many there are.
        of: usize,
    },
}

impl NoDeath {
    /// Whether this stays so until a person does something.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::NotThere | Self::Dialled { .. } => false,
            Self::Linked { .. } => true,
            Self::NoMajority { heard, of, .. } => heard * 2 <= *of,
        }
    }
}

impl fmt::Display for NoDeath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere => f.write_str("nobody lists it at this address"),
            Self::Linked { by, of } => write!(
                f,
                "{by} of {of} nodes have a bus link to it, so it lives: a wrong announced port, or a firewall?"
            ),
            Self::Dialled { by, of } => write!(
                f,
                "{by} of {of} nodes show a bus link to it, which may be one that they are dialling"
            ),
            Self::NoMajority {
                failed_by,
                heard,
                of,
            } if heard * 2 <= *of => write!(
                f,
                "{failed_by} of {of} primaries hold it to have failed, and too few are heard for a majority: start them"
            ),
            Self::NoMajority { failed_by, of, .. } => write!(
                f,
                "{failed_by} of {of} primaries hold it to have failed so far; a majority has to"
            ),
        }
    }
}

/// All that was heard in one look, asked for what it tells of nodes that were not.
#[derive(Debug)]
pub struct Witnesses<'a> {
    views: Vec<&'a NodeView>,
    authority: Authority,
    /// A person said that what is gone is to be given up.
    consent: bool,
    voters: OnceCell<BTreeSet<NodeId>>,
}

impl<'a> Witnesses<'a> {
    /// These views; the processes are ours or not.
    pub fn new(d: &Desired, views: impl Iterator<Item = &'a NodeView>) -> Self {
        Self {
            views: views.collect(),
            authority: d.authority,
            consent: d.consent.lose_data,
            voters: OnceCell::new(),
        }
    }

    /// Why a refusal at this address does not prove that the node recorded there is gone, if it does not.
    ///
    /// Some node must list it at just this address, or its start gate must hold it there: a pod that was made anew
    /// refuses at a new address until its server listens, and that tells nothing of the old pod's process, which may
    /// live on behind a silent kubelet. And nobody may have a bus link to it. Where the process is not ours, a majority
    /// of the primaries must hold it to have failed as well; with a person's consent to give up what is gone, all those
    /// that were heard.
    pub fn why_not_dead(
        &self,
        node: Option<NodeId>,
        address: &Seen<Address>,
        disk: &Seen<Disk>,
    ) -> Option<NoDeath> {
        let held = matches!(disk, Seen::Known(Disk::Stale { .. }));
        let Some(node) = node else {
            return (!held).then_some(NoDeath::NotThere);
        };
        let rows: Vec<(&NodeView, &Row)> = self
            .views
            .iter()
            .filter(|v| v.id != node)
            .filter_map(|v| Some((*v, v.rows.get(node)?)))
            .collect();
        let there = |row: &Row| address.known().is_some_and(|a| row.address.same_socket(a));
        if !held && !rows.iter().any(|(_, row)| there(row)) {
            return Some(NoDeath::NotThere);
        }
        let linked: Vec<&Row> = rows
            .iter()
            .map(|(_, row)| *row)
            .filter(|row| row.link_up)
            .collect();
        let (by, of) = (linked.len(), self.views.len());
        if by > 0 {
            let all_failed = linked.iter().all(|row| row.health == Health::Failed);
            return Some(if all_failed {
                NoDeath::Dialled { by, of }
            } else {
                NoDeath::Linked { by, of }
            });
        }
        match self.authority {
            Authority::Managed => None,
            Authority::Guest => self.no_majority(node, &rows),
        }
    }

    fn no_majority(&self, node: NodeId, rows: &[(&NodeView, &Row)]) -> Option<NoDeath> {
        let voters = self.voters();
        let is_voter = |v: &NodeView| voters.contains(&v.id);
        let heard = self.views.iter().filter(|v| is_voter(v)).count();
        let failed = rows.iter().filter(|(_, row)| row.health == Health::Failed);
        let failed_by = failed.filter(|(v, _)| is_voter(v)).count();
        let of = voters.len().max(usize::from(!voters.contains(&node)));
        let word = self.consent
            && !rows.is_empty()
            && rows.iter().all(|(_, row)| row.health != Health::Fine);
        (failed_by * 2 <= of && !word).then_some(NoDeath::NoMajority {
            failed_by,
            heard,
            of,
        })
    }

    /// The primaries with slots: by their own word, and where they were not heard by anybody's.
    fn voters(&self) -> &BTreeSet<NodeId> {
        self.voters.get_or_init(|| {
            let heard: BTreeSet<NodeId> = self.views.iter().map(|v| v.id).collect();
            let votes = |row: &&Row| row.role == Role::Primary && !row.slots.is_empty();
            let own = self.views.iter().filter_map(|v| v.own()).filter(votes);
            let told = self.views.iter().flat_map(|v| v.rows.iter());
            let told = told.filter(votes).filter(|row| !heard.contains(&row.id));
            own.chain(told).map(|row| row.id).collect()
        })
    }
}

/// Why a server that refuses is not held to be dead; nothing where it is dead, or does not refuse.
pub(crate) fn why_not_dead(d: &Desired, o: &Observed, server: &Server) -> Option<NoDeath> {
    if server.process.death().is_some() || server.view != Seen::Unknown(Why::Refused) {
        return None;
    }
    let witnesses = Witnesses::new(d, o.views().map(|(_, v)| v));
    witnesses.why_not_dead(server.recorded_id, &server.address, &server.disk)
}

/// What is waited for while a primary is not heard and not proved dead.
pub(crate) fn unproved(d: &Desired, o: &Observed, node: NodeId) -> Waiting {
    let Some(server) = o.server_of(node) else {
        // Among ours whoever is not heard may be that node.
        let lost = d.authority == Authority::Guest && has_lost_id(o, node);
        return if lost {
            Waiting::IdLost { node }
        } else {
            Waiting::PrimarySilent { node }
        };
    };
    if let Some(why) = why_not_dead(d, o, server) {
        return Waiting::DeathUnproved { node, why };
    }
    match &server.view {
        Seen::Unknown(why) if why.is_an_answer() => Waiting::ServerUnheard {
            server: server.name.clone(),
            why: why.clone(),
        },
        Seen::Known(_) | Seen::Unknown(_) => Waiting::PrimarySilent { node },
    }
}

/// How many of the nodes that were heard have a bus link to this one.
pub(crate) fn linked_by(o: &Observed, node: NodeId) -> usize {
    let others = o.beliefs(node).filter(|(speaker, _)| *speaker != node);
    others.filter(|(_, row)| row.link_up).count()
}

/// Whether a node answers any other on the bus, as that one sees it: then no process is gone.
pub(crate) fn answers_others(o: &Observed, node: NodeId) -> bool {
    let mut others = o.beliefs(node).filter(|(speaker, _)| *speaker != node);
    others.any(|(_, row)| row.link_up && row.health == Health::Fine)
}
