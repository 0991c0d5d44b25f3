//! Keys that a primary holds of slots that it does not own are carried to their owners, and nothing drops them before.

use std::collections::BTreeMap;

use shardwright_planner::{Action, Desired, ProblemKind, Reason, Request, Severity, diagnose};
use shardwright_topology::{OpenSlot, Seen, SizedBy, SlotSet, SlotSize, Why};

use crate::world::{World, consenting, id, says, slot, slots, three};

/// `b` holds three keys of slot 7, which is `a`'s.
fn astray() -> World {
    let mut w = World::formed(3, 1);
    w.node("b").stray_keys = Seen::Known([(slot(7), 3)].into());
    w
}

fn leaves(node: &str) -> Desired {
    Desired::guest().with(Request::Leave { node: id(node) })
}

#[test]
fn they_are_carried_to_the_owner_and_overwrite_nothing() {
    for d in [three(), Desired::guest()] {
        let plan = astray().plan(&d);
        let [step] = &plan.steps[..] else {
            panic!("{:?}", plan.steps);
        };
        assert!(
            matches!(&step.action, Action::MoveKeys { from, to, replace: false, .. }
            if (*from, to.node()) == (id("b"), id("a")))
        );
        assert_eq!(step.because, Reason::StrayKeys);
        assert!(!plan.is_settled());
    }
}

#[test]
fn a_slot_that_is_open_is_closed_first() {
    let mut w = astray();
    w.node("b").open = vec![OpenSlot::Importing {
        slot: slot(7),
        from: id("a"),
    }];
    w.node("b").keys_in_slot = [(slot(7), 3)].into();
    let steps = w.steps(&three());
    assert_eq!(steps, ["move up to 500 keys of slot 7 from b to a"]);
    assert_eq!(w.plan(&three()).steps[0].because, Reason::HalfMoved);
}

#[test]
fn an_owner_that_is_silent_or_nobody_gets_nothing() {
    let mut w = astray();
    w.hush("a");
    assert!(!says(&w.steps(&three()), "move"), "{:?}", w.steps(&three()));
    assert!(says(
        &w.waits(&three()),
        "b holds 3 keys of slots 7, which it does not own"
    ));
    let mut w = astray();
    w.node("a").slots = w.node("a").slots.difference(&slots(7, 7));
    assert!(!says(&w.steps(&three()), "move"), "{:?}", w.steps(&three()));
}

#[test]
fn a_great_number_of_slots_is_carried_bit_by_bit() {
    let mut w = World::formed(3, 1);
    let many: BTreeMap<_, _> = (0..200).map(|n| (slot(n), 1)).collect();
    w.node("b").stray_keys = Seen::Known(many);
    assert_eq!(w.steps(&three()).len(), 64);
    assert!(says(&w.waits(&three()), "b holds 200 keys of slots 0-199"));
}

#[test]
fn they_wait_for_room_at_their_owner() {
    const MB: u64 = 1_000_000;
    let held = |slot_bytes: Option<u64>| {
        let mut w = World::formed(3, 1);
        w.node("b").stray_keys = Seen::Known([(slot(7), 3), (slot(8), 3)].into());
        w.node("a").memory = Some((4 * MB, 6 * MB));
        for number in slot_bytes.iter().flat_map(|_| [7, 8]) {
            let size = SlotSize {
                keys: 3,
                bytes: slot_bytes.unwrap_or(0),
                largest: 1,
                by: SizedBy::Keys,
            };
            w.sizes
                .entry(id("b"))
                .or_default()
                .insert(slot(number), size);
        }
        w
    };
    // What is not measured is not nothing.
    let unmeasured = held(None).plan(&three());
    assert_eq!(unmeasured.steps, []);
    assert_eq!(unmeasured.unmeasured(), [(id("b"), slots(7, 8))].into());
    assert_eq!(held(Some(1_000)).steps(&three()).len(), 2);
    // The first fits, and both together do not.
    let half = held(Some(3 * MB / 2));
    assert_eq!(
        half.steps(&three()),
        ["move up to 500 keys of slot 7 from b to a"]
    );
    assert!(says(
        &half.waits(&three()),
        "b holds 6 keys of slots 7-8, which it does not own, and they stay there: a uses 4000000 bytes"
    ));
    let full = held(Some(3 * MB)).plan(&three());
    assert!(full.steps.is_empty() && full.is_stuck(), "{full:?}");
}

#[test]
fn a_primary_that_holds_some_is_not_drained() {
    let mut w = World::formed(4, 0);
    w.node("b").stray_keys = Seen::Known([(slot(7), 3)].into());
    let steps = w.steps(&leaves("b"));
    assert_eq!(steps, ["move up to 500 keys of slot 7 from b to a"]);
    assert!(says(
        &w.waits(&leaves("b")),
        "b holds 3 keys of slots that it does not own"
    ));
    // Not counted is not none.
    w.node("b").stray_keys = Seen::Unknown(Why::TimedOut);
    assert_eq!(w.steps(&leaves("b")), [""; 0]);
    assert!(says(
        &w.waits(&leaves("b")),
        "it is not known whether b holds keys"
    ));
    w.node("b").stray_keys = Seen::Known(BTreeMap::new());
    assert!(says(&w.steps(&leaves("b")), "move slots"));
}

#[test]
fn slots_do_not_go_where_keys_of_theirs_lie() {
    let mut w = World::formed(3, 0);
    let goal = vec![(id("b"), slots(7, 7))];
    let d = Desired::guest().with(Request::Assign { goal });
    assert!(says(&w.steps(&d), "move slots 7 (1) from a to b"));
    w.node("b").stray_keys = Seen::Known([(slot(7), 3)].into());
    assert_eq!(w.steps(&d), ["move up to 500 keys of slot 7 from b to a"]);
}

#[test]
fn a_primary_without_slots_is_forgotten_once_its_keys_are_carried() {
    let mut w = World::formed(3, 0);
    let x = w.add("x");
    (x.island, x.epoch, x.keys) = (Some(0), 9, 3);
    x.stray_keys = Seen::Known([(slot(7), 3)].into());
    let steps = w.steps(&leaves("x"));
    assert_eq!(steps, ["move up to 500 keys of slot 7 from x to a"]);
    assert!(says(&w.waits(&leaves("x")), "x holds 3 keys of slots 7"));
    w.node("x").stray_keys = Seen::Unknown(Why::TimedOut);
    assert_eq!(w.steps(&leaves("x")), [""; 0]);
    assert!(says(
        &w.waits(&leaves("x")),
        "it holds 3 keys that are no copy"
    ));
    w.node("x").stray_keys = Seen::Known([(slot(7), 3)].into());
    assert!(says(&w.steps(&consenting(leaves("x"))), "forget x"));
    let x = w.node("x");
    x.keys = 0;
    x.stray_keys = Seen::Known(BTreeMap::new());
    let steps = w.steps(&leaves("x"));
    assert!(
        says(&steps, "forget x") && says(&steps, "reset x"),
        "{steps:?}"
    );
}

#[test]
fn they_are_told_with_their_owner() {
    let problems = diagnose(&astray().observe());
    let [problem] = &problems[..] else {
        panic!("{problems:?}");
    };
    let seven: SlotSet = slots(7, 7);
    assert!(
        matches!(&problem.kind, ProblemKind::StrayKeys { node, keys: 3, slots, owners }
        if *node == id("b") && *slots == seven && *owners == [id("a")].into())
    );
    assert_eq!(problem.severity, Severity::Fatal);
    assert_eq!(problem.kind.mend("c"), "shardwright fix c");
    let mut w = World::formed(3, 1);
    w.node("b").stray_keys = Seen::Unknown(Why::TimedOut);
    let problems = diagnose(&w.observe());
    assert!(
        matches!(problems[0].kind, ProblemKind::StrayKeysUnknown { .. }),
        "{problems:?}"
    );
}
