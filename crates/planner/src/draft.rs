//! The plan while it is being made: what the rules read and what they add to.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{Attempt, AttemptKind, NodeId, Observed, Server, ServerName, Timestamp};

use crate::evidence::{Dead, foreign_nodes};
use crate::ours::Standing;
use crate::shape::{Reshaping, reshaping};
use crate::surplus::surplus;
use crate::{Action, Authority, Desired, Limits, Precondition, Reason, Step, Waiting};

pub(crate) struct Draft<'a> {
    pub(crate) d: &'a Desired,
    pub(crate) o: &'a Observed,
    pub(crate) l: &'a Limits,
    pub(crate) now: Timestamp,
    pub(crate) standings: BTreeMap<ServerName, Standing>,
    /// The nodes that were heard and belong here, or may join.
    pub(crate) ours: BTreeSet<NodeId>,
    /// The servers that are too many.
    surplus: BTreeSet<ServerName>,
    /// How the shards differ from those that are declared.
    pub(crate) reshaping: Reshaping,
    /// Primaries whose server now speaks as a node that does not belong here, with the proof.
    pub(crate) replaced: BTreeMap<NodeId, Dead>,
    /// Nodes that speak at servers that do not belong here.
    pub(crate) strangers: BTreeSet<NodeId>,
    /// Nodes of another cluster that nodes of ours list.
    pub(crate) foreign: BTreeSet<NodeId>,
    pub(crate) steps: Vec<Step>,
    pub(crate) waiting: BTreeSet<Waiting>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(
        d: &'a Desired,
        o: &'a Observed,
        l: &'a Limits,
        now: Timestamp,
        standings: BTreeMap<ServerName, Standing>,
    ) -> Self {
        let ours: BTreeSet<NodeId> = standings
            .iter()
            .filter(|(_, standing)| standing.is_ours())
            .filter_map(|(name, _)| o.servers().get(name)?.view.known().map(|v| v.id))
            .filter(|id| !o.has_duplicate(*id))
            .collect();
        let surplus = surplus(d, o).into_iter().map(|s| s.name.clone()).collect();
        let reshaping = reshaping(d, o, &ours, &surplus);
        let foreign = match d.authority {
            Authority::Managed => foreign_nodes(o),
            Authority::Guest => BTreeSet::new(),
        };
        Self {
            d,
            o,
            l,
            now,
            standings,
            ours,
            surplus,
            reshaping,
            replaced: BTreeMap::new(),
            strangers: BTreeSet::new(),
            foreign,
            steps: Vec::new(),
            waiting: BTreeSet::new(),
        }
    }

    pub(crate) fn act(&mut self, action: Action, because: Reason) {
        self.act_if(action, because, Vec::new());
    }

    pub(crate) fn act_if(&mut self, action: Action, because: Reason, requires: Vec<Precondition>) {
        // Of two processes with one id it is not known which a command would reach, or which is copied, forgotten or
        // promoted past; that is waited for already.
        if self.involves_a_duplicate(&action) {
            return;
        }
        self.steps.push(Step {
            action,
            because,
            requires,
        });
    }

    /// Whether a node that the action is about is two processes, or the server that it is about is such a node's.
    fn involves_a_duplicate(&self, action: &Action) -> bool {
        let lives = action
            .server()
            .and_then(|name| self.o.servers().get(name)?.id());
        let mut nodes = action.nodes().into_iter().chain(lives);
        nodes.any(|node| self.o.has_duplicate(node))
    }

    pub(crate) fn wait(&mut self, what: Waiting) {
        self.waiting.insert(what);
    }

    pub(crate) fn is_ours(&self, node: NodeId) -> bool {
        self.ours.contains(&node)
    }

    /// Whether a node is one of this cluster's: also one that was asked to leave.
    pub(crate) fn belongs(&self, node: NodeId) -> bool {
        let leaves = |name| matches!(self.standings.get(name), Some(Standing::Leaving));
        let server = || self.o.server_of(node);
        self.is_ours(node) || server().is_some_and(|s| leaves(&s.name))
    }

    /// Whether nodes of another cluster own slots: then it is not known who of ours is to own how much.
    pub(crate) fn slots_are_taken(&self) -> bool {
        self.o.voters().any(|m| self.foreign.contains(&m.id))
    }

    /// Whether a node is at a server that is too many.
    pub(crate) fn is_surplus(&self, node: NodeId) -> bool {
        let server = self.o.server_of(node);
        server.is_some_and(|s| self.surplus.contains(&s.name))
    }

    /// The servers that belong here and were heard.
    pub(crate) fn our_servers(&self) -> impl Iterator<Item = &'a Server> {
        let speaks = |s: &&Server| s.view.known().is_some_and(|v| self.is_ours(v.id));
        self.o.servers().values().filter(speaks)
    }

    /// The first time since then that this was asked of the node, if it was.
    pub(crate) fn asked(
        &self,
        node: NodeId,
        kind: AttemptKind,
        since: Timestamp,
    ) -> Option<&'a Attempt> {
        let attempts = self.o.attempts.iter();
        attempts
            .filter(|a| a.node == node && a.kind == kind && a.at >= since)
            .min_by_key(|a| a.at)
    }

    /// Whether this was asked of the node in the last so many milliseconds.
    pub(crate) fn asked_within(&self, node: NodeId, kind: AttemptKind, ms: u64) -> bool {
        let mut attempts = self.o.attempts.iter();
        attempts.any(|a| a.node == node && a.kind == kind && self.now.since_ms(a.at) < ms)
    }
}
