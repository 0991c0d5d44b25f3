//! Nodes of another cluster that were met while a verb worked: what they cost is told once it is seen, and again at the end,
//! for by then nobody may list them any more.

use std::collections::BTreeMap;

use shardwright_planner::{Action, ForeignNodesMet, Plan, Reason, Waiting};
use shardwright_runtime::Report;
use shardwright_topology::{Holding, NodeId, Observed, SlotSet};

use crate::exit::{NotDone, WhyNotDone};
use crate::report::named;

/// The nodes of another cluster that a plan tells of.
pub(crate) fn foreign_nodes_met(plan: &Plan) -> Option<&ForeignNodesMet> {
    plan.waiting.iter().find_map(|wait| match wait {
        Waiting::ForeignNodesMet(met) => Some(met.as_ref()),
        _ => None,
    })
}

/// What was seen of such nodes in the passes of one run.
#[derive(Debug)]
pub(crate) struct MetNodes {
    last: Option<ForeignNodesMet>,
    /// The slots that they owned in any pass.
    taken: SlotSet,
    /// What is lost, by the node that held it, with nodes named.
    lost: BTreeMap<NodeId, String>,
    /// The slots of theirs that were given to nodes of ours without a key.
    given_empty: SlotSet,
}

impl Default for MetNodes {
    fn default() -> Self {
        Self {
            last: None,
            taken: SlotSet::empty(),
            lost: BTreeMap::new(),
            given_empty: SlotSet::empty(),
        }
    }
}

impl MetNodes {
    /// Takes note of a pass. Returns what to tell of it, where more of these nodes are seen, or more is lost.
    pub(crate) fn pass(&mut self, report: &Report) -> Option<String> {
        let told = self.see(&report.plan, &report.observed);
        for done in report.outcomes.iter().filter(|o| o.result.is_ok()) {
            self.given(&done.step.action, &done.step.because, &report.observed);
        }
        told
    }

    fn see(&mut self, plan: &Plan, o: &Observed) -> Option<String> {
        let met = foreign_nodes_met(plan)?;
        self.taken = self.taken.union(&met.slots);
        for lost in &met.replaced {
            self.lost.insert(lost.node, named(&lost.to_string(), o));
        }
        let told = self.last.replace(met.clone());
        let is_news = !told.is_some_and(|told| told.is_like(met));
        is_news.then(|| named(&met.to_string(), o))
    }

    fn given(&mut self, action: &Action, because: &Reason, o: &Observed) {
        if let (Action::AddSlots { slots, .. }, Reason::NoKeys) = (action, because) {
            let theirs = slots.intersection(&self.taken).difference(&kept(o));
            self.given_empty = self.given_empty.union(&theirs);
        }
    }

    /// What these nodes cost, if anything: then the cluster is not what it was, be it healthy.
    pub(crate) fn loss(&self) -> Option<NotDone> {
        let mut parts: Vec<String> = self.lost.values().cloned().collect();
        if !self.given_empty.is_empty() {
            let slots = &self.given_empty;
            parts.push(format!("slots {slots} were given out without a key"));
        }
        if parts.is_empty() {
            return None;
        }
        let text = format!(
            "data was lost to nodes of another cluster that were met (CLUSTER MEET): {}; restore it",
            parts.join("; ")
        );
        Some(NotDone {
            remedy: Some("restore what was replaced".to_owned()),
            ..NotDone::new(WhyNotDone::DataReplaced, text)
        })
    }
}

/// The slots whose last owner has no fewer keys than it had with them: those without a key had none.
fn kept(o: &Observed) -> SlotSet {
    let whole = |(id, before): &(&NodeId, &Holding)| {
        let now = o.view_of(**id).map(|view| view.server.keys);
        now.is_some_and(|now| now >= before.keys)
    };
    let kept = o.holdings.iter().filter(whole);
    kept.fold(SlotSet::empty(), |all, (_, before)| {
        all.union(&before.slots)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use shardwright_planner::Replaced;
    use shardwright_topology::{Address, SlotRange, Timestamp};

    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 20])
    }

    fn slots(first: u64, last: u64) -> SlotSet {
        SlotRange::new(first, last).expect("a range").into()
    }

    fn met(lost: &[(u8, u64)]) -> Plan {
        let replaced = |(node, keys_now): &(u8, u64)| Replaced {
            node: id(*node),
            by: Some(id(9)),
            keys_before: 100,
            keys_now: *keys_now,
        };
        let met = ForeignNodesMet {
            nodes: BTreeMap::from([(id(9), Address::loopback(7_009))]),
            ours: BTreeSet::new(),
            slots: slots(0, 99),
            unremembered: BTreeMap::new(),
            taken_from: BTreeMap::new(),
            followers: BTreeMap::new(),
            replaced: lost.iter().map(replaced).collect(),
        };
        Plan {
            steps: Vec::new(),
            waiting: vec![Waiting::ForeignNodesMet(Box::new(met))],
        }
    }

    fn nothing() -> Observed {
        Observed::new(Timestamp(1), None, Vec::new())
    }

    #[test]
    fn each_loss_is_told_once_and_kept_to_the_end() {
        let (o, mut seen) = (nothing(), MetNodes::default());
        assert!(seen.see(&met(&[]), &o).is_some());
        assert!(seen.see(&met(&[]), &o).is_none());
        assert!(seen.loss().is_none());
        assert!(seen.see(&met(&[(1, 3)]), &o).is_some());
        assert!(seen.see(&met(&[(1, 4)]), &o).is_none(), "figures change");
        assert!(seen.see(&met(&[(2, 0)]), &o).is_some());
        assert!(seen.see(&Plan::default(), &o).is_none());
        let loss = seen.loss().expect("data was replaced").text;
        for (node, keys) in [(1, "4 now"), (2, "0 now")] {
            let (node, by) = (id(node).short(), id(9).short());
            let one = format!("the data of {node} was replaced by that of {by} (100 keys before, ");
            assert!(loss.contains(&one) && loss.contains(keys), "{loss}");
        }
    }

    #[test]
    fn slots_that_they_took_and_come_back_without_keys_are_a_loss() {
        let (o, mut seen) = (nothing(), MetNodes::default());
        let give = |slots: SlotSet| Action::AddSlots { node: id(1), slots };
        seen.given(&give(slots(0, 200)), &Reason::NoKeys, &o);
        assert!(seen.loss().is_none(), "nobody was met");
        assert!(seen.see(&met(&[]), &o).is_some());
        seen.given(&give(slots(0, 49)), &Reason::HoldsKeys, &o);
        assert!(seen.loss().is_none());
        seen.given(&give(slots(50, 200)), &Reason::NoKeys, &o);
        let loss = seen.loss().expect("they may have had keys").text;
        assert!(loss.contains("slots 50-99 were given out"), "{loss}");
    }
}
