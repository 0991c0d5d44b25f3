//! Receivers with a memory limit: what comes is measured slot by slot, and has to fit.

use std::collections::BTreeMap;

use shardwright_planner::evidence::LiveAt;
use shardwright_planner::{Action, Desired, Plan, Request, ViolationKind, Waiting};
use shardwright_topology::{NodeId, OpenSlot, SizedBy, SlotSet, SlotSize};

use crate::check::{finds, passes};
use crate::world::{World, id, slot, slots, three};

const MB: u64 = 1_000_000;

fn of(bytes: u64, largest: u64) -> SlotSize {
    SlotSize {
        keys: 10,
        bytes,
        largest,
        by: SizedBy::Keys,
    }
}

/// Each of these slots at a node takes so much.
fn measure(w: &mut World, node: &str, slots: &SlotSet, size: SlotSize) {
    let sizes = w.sizes.entry(id(node)).or_default();
    sizes.extend(slots.slots().map(|slot| (slot, size)));
}

/// Three shards, of which the second lacks 2539 slots, and may use 5 MB.
fn lopsided(used: u64) -> World {
    let mut w = World::formed(3, 1);
    w.node("a").slots = slots(0, 8_000);
    w.node("b").slots = slots(8_001, 10_922);
    w.node("b").memory = Some((used, 5 * MB));
    w
}

fn asks(plan: &Plan) -> BTreeMap<NodeId, SlotSet> {
    plan.unmeasured()
}

#[test]
fn what_goes_to_a_limited_receiver_is_measured_first() {
    let mut w = lopsided(3 * MB);
    // The average of the source says that it fits: it says nothing of the slots that go.
    w.node("a").memory = Some((MB, 0));
    let plan = w.plan(&three());
    assert_eq!(plan.steps, []);
    let comes = slots(5_462, 8_000);
    assert_eq!(asks(&plan), BTreeMap::from([(id("a"), comes.clone())]));
    measure(&mut w, "a", &comes, of(100, 10));
    assert!(!w.steps(&three()).is_empty());
    assert_eq!(asks(&w.plan(&three())), BTreeMap::new());
    // One of them is not known any more.
    w.sizes.entry(id("a")).or_default().remove(&slot(8_000));
    assert!(w.steps(&three()).is_empty());
    assert_eq!(asks(&w.plan(&three()))[&id("a")], slots(8_000, 8_000));
}

#[test]
fn a_receiver_without_room_gets_nothing_unless_it_is_forced() {
    let mut w = lopsided(3 * MB);
    measure(&mut w, "a", &slots(5_462, 8_000), of(1_000, 10));
    assert!(w.steps(&three()).is_empty());
    assert_eq!(
        w.waits(&three()),
        [
            "slots left to move: 2539, which wait: b uses 3000000 bytes of memory, about 2539000 would come, and its limit is 5000000, at which it deletes keys"
        ]
    );
    assert!(w.plan(&three()).is_stuck(), "a person decides");
    let mut forced = three();
    forced.consent.force_memory = true;
    assert!(!w.steps(&forced).is_empty());
    w.node("b").memory = Some((3 * MB, 0));
    assert!(!w.steps(&three()).is_empty(), "no limit");
}

#[test]
fn one_great_key_is_found_whatever_the_average_says() {
    let mut w = lopsided(MB);
    measure(&mut w, "a", &slots(5_462, 8_000), of(100, 10));
    assert!(!w.steps(&three()).is_empty());
    measure(&mut w, "a", &slots(6_000, 6_000), of(4 * MB, 4 * MB));
    assert!(w.steps(&three()).is_empty());
    // While it is taken in it is there twice.
    measure(&mut w, "a", &slots(6_000, 6_000), of(2 * MB, 2 * MB));
    assert!(w.steps(&three()).is_empty());
    measure(&mut w, "a", &slots(6_000, 6_000), of(MB, MB));
    assert!(!w.steps(&three()).is_empty());
}

#[test]
fn slots_without_keys_go_to_a_full_receiver() {
    let mut w = lopsided(5 * MB);
    measure(&mut w, "a", &slots(5_462, 8_000), of(0, 0));
    assert!(!w.steps(&three()).is_empty());
}

#[test]
fn a_slot_that_is_half_moved_stays_so_where_the_rest_has_no_room() {
    let mut w = World::formed(3, 1);
    let seven = slot(7);
    w.node("a").open = vec![OpenSlot::Migrating {
        slot: seven,
        to: id("b"),
    }];
    w.node("b").open = vec![OpenSlot::Importing {
        slot: seven,
        from: id("a"),
    }];
    w.node("a").keys_in_slot = BTreeMap::from([(seven, 4)]);
    w.node("b").keys_in_slot = BTreeMap::from([(seven, 5)]);
    w.node("b").memory = Some((4 * MB, 5 * MB));
    for d in [three(), Desired::guest()] {
        assert!(w.steps(&d).is_empty());
        assert_eq!(asks(&w.plan(&d)), BTreeMap::from([(id("a"), slots(7, 7))]));
    }
    measure(&mut w, "a", &slots(7, 7), of(2 * MB, 1_000));
    assert!(w.steps(&three()).is_empty());
    let plan = w.plan(&three());
    assert!(plan.is_stuck(), "a person decides");
    assert!(matches!(plan.waiting[0], Waiting::OpenSlotHeld { .. }));
    assert_eq!(
        w.waits(&three())[0],
        "slot 7 stays half moved: b uses 4000000 bytes of memory, about 2000000 would come, and its limit is 5000000, at which it deletes keys"
    );
    w.node("b").memory = Some((4 * MB, 9 * MB));
    assert_eq!(
        w.steps(&three()),
        ["move up to 500 keys of slot 7 from a to b"]
    );
}

#[test]
fn the_linter_weighs_what_comes_by_itself() {
    let mut w = World::formed(3, 1);
    w.node("b").memory = Some((4 * MB, 5 * MB));
    let to = LiveAt::prove(&w.observe(), id("b")).expect("it lives in that world");
    let moves = |from: &str, which: SlotSet| Action::MoveSlots {
        from: id(from),
        to: to.clone(),
        slots: which,
    };
    let both = vec![moves("a", slots(0, 9)), moves("c", slots(16_000, 16_009))];
    let d = Desired::guest().with(Request::Assign { goal: Vec::new() });
    let (node, unknown) = (id("b"), slots(0, 9));
    let unmeasured = ViolationKind::MovesUnmeasured {
        node,
        slots: unknown,
    };
    finds(vec![both[0].clone()], &d, &w, unmeasured);
    measure(&mut w, "a", &slots(0, 9), of(60_000, 0));
    measure(&mut w, "c", &slots(16_000, 16_009), of(30_000, 0));
    passes(both.clone(), &d, &w);
    measure(&mut w, "c", &slots(16_000, 16_009), of(60_000, 0));
    passes(vec![both[0].clone()], &d, &w);
    let (comes, left) = (1_200_000, MB);
    let full = ViolationKind::MovesWithoutRoom { node, comes, left };
    finds(both.clone(), &d, &w, full);
    let mut forced = d.clone();
    forced.consent.force_memory = true;
    passes(both, &forced, &w);
}
