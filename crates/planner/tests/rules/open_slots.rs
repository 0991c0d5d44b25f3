//! Slots that were left half moved: the keys show the direction.

use shardwright_planner::{Action, Desired, Precondition};
use shardwright_topology::{OpenSlot, SlotSet};

use crate::world::{World, id, says, slot, three};

/// Slot 7 of `a` is open towards `b`, with so many keys at each end; `None`: not counted.
fn half_moved(at_source: Option<u64>, at_target: Option<u64>) -> World {
    let mut w = World::formed(3, 1);
    w.node("a").open = vec![OpenSlot::Migrating {
        slot: slot(7),
        to: id("b"),
    }];
    w.node("b").open = vec![OpenSlot::Importing {
        slot: slot(7),
        from: id("a"),
    }];
    w.node("a").keys_in_slot = at_source.map(|n| (slot(7), n)).into_iter().collect();
    w.node("b").keys_in_slot = at_target.map(|n| (slot(7), n)).into_iter().collect();
    w
}

#[test]
fn nothing_moved_closes_both_ends() {
    let w = half_moved(Some(9), Some(0));
    assert_eq!(
        w.steps(&three()),
        ["close slot 7 at b", "close slot 7 at a"]
    );
    assert_eq!(w.steps(&Desired::guest()).len(), 2);
    for step in w.plan(&three()).steps {
        let node = id("b");
        let slot = slot(7);
        assert_eq!(step.requires, [Precondition::HoldsNoKeyOf { node, slot }]);
    }
}

#[test]
fn half_moved_goes_on_and_the_source_wins() {
    let w = half_moved(Some(4), Some(5));
    assert_eq!(
        w.steps(&three()),
        ["move up to 500 keys of slot 7 from a to b"]
    );
    assert!(matches!(
        w.plan(&three()).steps[0].action,
        Action::MoveKeys { replace: true, .. }
    ));
}

#[test]
fn all_moved_is_assigned_at_the_target_then_at_the_source() {
    let mut w = half_moved(Some(0), Some(5));
    assert_eq!(w.steps(&three()), ["tell b that slot 7 belongs to b"]);
    // The target has it, with a new epoch; the source still shows it open.
    let seven = SlotSet::from(shardwright_topology::SlotRange::from(slot(7)));
    w.node("b").slots = w.node("b").slots.union(&seven);
    w.node("b").epoch = 9;
    w.node("b").open.clear();
    assert!(
        says(&w.steps(&three()), "tell a that slot 7 belongs to b"),
        "{:?}",
        w.steps(&three())
    );
}

#[test]
fn a_target_that_claims_it_with_a_lower_epoch_is_followed_by_the_source() {
    let mut w = half_moved(Some(0), Some(5));
    let seven = SlotSet::from(shardwright_topology::SlotRange::from(slot(7)));
    w.node("b").slots = w.node("b").slots.union(&seven);
    w.node("a").epoch = 9;
    w.node("a1").epoch = 9;
    assert!(says(&w.steps(&three()), "tell a that slot 7 belongs to b"));
}

#[test]
fn an_importer_that_owns_the_slot_stops_importing() {
    let mut w = World::formed(3, 1);
    w.node("a").open = vec![OpenSlot::Importing {
        slot: slot(7),
        from: id("b"),
    }];
    assert_eq!(w.steps(&three()), ["tell a that slot 7 belongs to a"]);
}

#[test]
fn an_importer_that_nobody_gives_to_returns_its_keys_without_overwriting() {
    let mut w = half_moved(Some(4), Some(5));
    w.node("a").open.clear(); // the source was failed over
    assert_eq!(
        w.steps(&three()),
        ["move up to 500 keys of slot 7 from b to a"]
    );
    assert!(matches!(
        w.plan(&three()).steps[0].action,
        Action::MoveKeys { replace: false, .. }
    ));
    w.node("b").keys_in_slot = [(slot(7), 0)].into();
    assert_eq!(w.steps(&three()), ["close slot 7 at b"]);
}

#[test]
fn unknown_counts_are_not_zero() {
    for (source, target) in [(None, Some(0)), (Some(3), None), (None, None)] {
        let w = half_moved(source, target);
        assert!(w.steps(&three()).is_empty(), "{source:?} {target:?}");
        assert!(says(&w.waits(&three()), "slot 7 is open at a"));
        assert!(!w.plan(&three()).is_settled());
    }
    let mut w = half_moved(Some(3), None);
    w.node("a").open.clear();
    assert!(w.steps(&three()).is_empty());
    assert!(says(&w.waits(&three()), "slot 7 is open at b"));
}

#[test]
fn a_silent_other_end_is_waited_for() {
    let mut w = half_moved(Some(3), Some(4));
    w.hush("b");
    assert!(w.steps(&three()).is_empty());
    assert!(says(&w.waits(&three()), "slot 7 is open at a"));
}

#[test]
fn a_slot_open_towards_nobody_is_closed() {
    let mut w = half_moved(Some(3), Some(0));
    w.node("a").open = vec![OpenSlot::Migrating {
        slot: slot(7),
        to: id("nobody"),
    }];
    w.node("b").open.clear();
    assert_eq!(w.steps(&three()), ["close slot 7 at a"]);
}

#[test]
fn a_target_that_was_failed_over_is_sent_nothing() {
    for (copy, closes) in [(Some(0), true), (Some(2), false), (None, false)] {
        let mut w = half_moved(Some(3), copy);
        let range = std::mem::take(&mut w.node("b").slots);
        w.node("b").open.clear();
        w.node("b").primary = Some(id("b1"));
        w.node("b1").primary = None;
        w.node("b1").slots = range;
        w.node("b1").epoch = 9;
        w.node("b").epoch = 9;
        assert_eq!(says(&w.steps(&three()), "close slot 7 at a"), closes);
        assert!(!says(&w.steps(&three()), "move"));
    }
}

#[test]
fn what_a_failed_over_target_had_stays_with_its_heir_and_the_rest_follows() {
    let mut w = half_moved(Some(3), Some(2));
    let range = std::mem::take(&mut w.node("b").slots);
    w.node("b").open.clear();
    w.node("b").primary = Some(id("b1"));
    w.node("b1").primary = None;
    w.node("b1").slots = range;
    w.node("b1").epoch = 9;
    w.node("b").epoch = 9;
    w.node("b1").keys_in_slot = [(slot(7), 2)].into();
    let steps = w.steps(&three());
    assert!(
        says(&steps, "move up to 500 keys of slot 7 from a to b1"),
        "{steps:?}"
    );
    assert!(!says(&steps, "from b1"), "{steps:?}");
}
