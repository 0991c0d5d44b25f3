//! Which processes answered as which node, pass after pass.

use std::collections::BTreeMap;

use shardwright_topology::{DuplicateId, Instance, NodeId, Observed, Timestamp};

/// How long two processes are remembered after they last answered both, in milliseconds. An address that leads to two
/// in turn may lead to one of them for as long as a connection is held.
const KEPT_MS: u64 = 30_000;
/// By how much a process must be older than the last word of another to have run beside it, in milliseconds: its age
/// is told in whole seconds, and a word may have been on its way for as long as silent servers are waited for.
const OVERLAP_MIN_MS: u64 = 10_000;
/// How many runs of a node are remembered.
const RUNS_MAX: usize = 8;

/// One run that answered as a node.
#[derive(Debug)]
struct Run {
    instance: Instance,
    last: Timestamp,
}

/// What is remembered of who answered as whom.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    /// The runs of each node, the one that was heard last at the end.
    runs: BTreeMap<NodeId, Vec<Run>>,
    found: BTreeMap<NodeId, (DuplicateId, Timestamp)>,
}

impl Identities {
    pub(crate) fn duplicates(&self) -> Vec<DuplicateId> {
        self.found.values().map(|(d, _)| d.clone()).collect()
    }

    pub(crate) fn note(&mut self, found: Vec<DuplicateId>, at: Timestamp) {
        for duplicate in found {
            self.found.insert(duplicate.node, (duplicate, at));
        }
    }

    /// Takes note of who answered, and adds to the observation those that are two.
    pub(crate) fn recall(&mut self, o: &mut Observed) {
        let mut found = o.duplicates().to_vec();
        for (server, view) in o.views() {
            let instance = Instance::of(server, view);
            found.extend(self.heard(view.id, instance, o.at));
        }
        self.note(found, o.at);
        self.found.retain(|_, (_, at)| o.at.since_ms(*at) < KEPT_MS);
        self.runs.retain(|node, _| o.member(*node).is_some());
        for (duplicate, _) in self.found.values() {
            o.note_duplicate(duplicate.clone());
        }
    }

    /// A process that was started again has another run, and the one before is never heard again. Two processes show
    /// themselves when an earlier run returns, or when the new one began long before the other was last heard.
    fn heard(&mut self, node: NodeId, now: Instance, at: Timestamp) -> Option<DuplicateId> {
        let runs = self.runs.entry(node).or_default();
        let same = runs.iter().position(|r| r.instance.run_id == now.run_id);
        let before = runs.last();
        let other = before.filter(|r| r.instance.run_id != now.run_id);
        let began = now
            .uptime_s
            .map(|s| at.0.saturating_sub(s.saturating_mul(1_000)));
        let beside = |r: &&Run| began.is_some_and(|began| began + OVERLAP_MIN_MS < r.last.0);
        let two = other.filter(|r| same.is_some() || beside(r));
        let duplicate = two.map(|r| DuplicateId {
            node,
            first: r.instance.clone(),
            second: now.clone(),
        });
        if let Some(i) = same {
            runs.remove(i);
        }
        runs.push(Run {
            instance: now,
            last: at,
        });
        if runs.len() > RUNS_MAX {
            runs.remove(0);
        }
        duplicate
    }
}
