//! Whoever takes slots gives none at the same time: nobody waits for another in a circle. Over arbitrary goals.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use shardwright_planner::{Action, Desired, Request};
use shardwright_topology::{NodeId, SlotSet};

use crate::world::{World, id, slots};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A goal that gives each stretch of slots to one node.
fn goal(cuts: &[(u16, usize)]) -> Vec<(NodeId, SlotSet)> {
    let mut goal: Vec<(NodeId, SlotSet)> =
        NAMES.iter().map(|n| (id(n), SlotSet::empty())).collect();
    let mut first = 0;
    for (length, who) in cuts {
        let last = (first + u64::from(length % 900)).min(16_383);
        let set = &mut goal[who % NAMES.len()].1;
        *set = set.union(&slots(first, last));
        first = last + 1;
        if first > 16_383 {
            break;
        }
    }
    goal
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(13),
        ..ProptestConfig::default()
    })]

    #[test]
    fn nobody_gives_while_it_takes(cuts in prop::collection::vec((any::<u16>(), 0_usize..5), 1..30)) {
        let goal = goal(&cuts);
        let d = Desired::guest().with(Request::Assign { goal: goal.clone() });
        let mut w = World::formed(5, 0);
        let mut ends = false;
        for _ in 0..400 {
            let plan = w.plan(&d);
            if plan.is_settled() {
                ends = true;
                break;
            }
            let (mut gives, mut takes) = (BTreeSet::new(), BTreeSet::new());
            for step in &plan.steps {
                let Action::MoveSlots { from, to, .. } = &step.action else {
                    return Err(TestCaseError::fail(format!("no move: {step}")));
                };
                gives.insert(*from);
                takes.insert(to.node());
            }
            prop_assert!(!gives.is_empty(), "{:?}", w.waits(&d));
            prop_assert!(gives.is_disjoint(&takes), "{gives:?} give and {takes:?} take");
            for step in plan.steps {
                w.move_slots(&step);
            }
        }
        prop_assert!(ends);
        for (node, slots) in goal {
            let owner = w.nodes.iter().find(|n| n.id == node).expect("it is there");
            prop_assert!(slots.difference(&owner.slots).is_empty());
        }
    }
}
