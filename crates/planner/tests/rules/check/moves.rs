//! Slots that move, held against worlds in which they must not.

use shardwright_planner::evidence::{LiveAt, Unburdened};
use shardwright_planner::{Action, Desired, ViolationKind};
use shardwright_topology::{AttemptKind, CodeDigest, OpenSlot, Seen, SlotSet, Why};

use super::{finds, found, healthy, passes};
use crate::functions::load;
use crate::world::{World, id, slot, slots, three};

fn moving(w: &World, from: &str, to: &str, slots: SlotSet) -> Action {
    Action::MoveSlots {
        from: id(from),
        to: LiveAt::prove(&w.observe(), id(to)).expect("it lives in that world"),
        slots,
    }
}

fn some() -> Vec<Action> {
    vec![moving(&healthy(), "a", "b", slots(0, 99))]
}

fn unfit(node: &str) -> ViolationKind {
    ViolationKind::MovesToUnfit { node: id(node) }
}

#[test]
fn moves_unowned() {
    passes(some(), &three(), &healthy());
    passes(some(), &Desired::guest(), &healthy());
    let kind = |slots: SlotSet| ViolationKind::MovesUnowned {
        from: id("a"),
        slots,
    };
    let more = slots(5_400, 5_500);
    let too_many = vec![moving(&healthy(), "a", "b", more.clone())];
    finds(too_many, &three(), &healthy(), kind(more));
    let mut differs = healthy();
    differs.believes("c1", "a", |row| row.slots = slots(50, 5_460));
    finds(some(), &three(), &differs, kind(slots(0, 99)));
    let twice = vec![
        moving(&healthy(), "a", "b", slots(0, 99)),
        moving(&healthy(), "a", "c", slots(99, 120)),
    ];
    let slots = slots(99, 99);
    finds(
        twice,
        &three(),
        &healthy(),
        ViolationKind::SlotsTwice { slots },
    );
}

#[test]
fn moves_paused() {
    let paused = Desired {
        moves_paused: true,
        ..three()
    };
    finds(some(), &paused, &healthy(), ViolationKind::MovesPaused);
}

#[test]
fn moves_while_passed() {
    let mut asked = healthy();
    asked.asked("c1", AttemptKind::Switchover, 10);
    passes(some(), &three(), &asked);
    asked.asked("b1", AttemptKind::Failover, 10);
    let (node, by) = (id("b"), id("b1"));
    let passed = ViolationKind::MovesWhilePassed { node, by };
    finds(some(), &three(), &asked, passed);
}

#[test]
fn moves_in_disorder() {
    let mut open = healthy();
    open.node("c").open = vec![OpenSlot::Migrating {
        slot: slot(12_000),
        to: id("a"),
    }];
    finds(some(), &three(), &open, ViolationKind::MovesInDisorder);
    let mut silent = healthy();
    silent.hush("c");
    finds(some(), &three(), &silent, ViolationKind::MovesInDisorder);
    let mut bare = healthy();
    bare.node("c").slots = slots(11_000, 16_383);
    finds(some(), &three(), &bare, ViolationKind::MovesInDisorder);
    let mut beside = healthy();
    beside.add("new").island = Some(0);
    let node = Unburdened::prove(&beside.observe(), id("new")).expect("it is blank");
    let primary = id("a");
    let mut both = some();
    both.push(Action::Replicate { node, primary });
    finds(both, &three(), &beside, ViolationKind::MovesInDisorder);
}

#[test]
fn moves_to_unfit() {
    let mut lacks = healthy();
    lacks.node("b1").syncing = true;
    finds(some(), &three(), &lacks, unfit("b"));
    passes(some(), &Desired::guest(), &lacks);
    let mut leaving = healthy();
    leaving.node("b").leaving = true;
    finds(some(), &three(), &leaving, unfit("b"));
    let w = healthy();
    let replica = vec![moving(&w, "a", "b1", slots(0, 99))];
    finds(replica, &Desired::guest(), &w, unfit("b1"));
    let back = vec![
        moving(&w, "a", "b", slots(0, 99)),
        moving(&w, "b", "c", slots(6_000, 6_099)),
    ];
    finds(back, &three(), &w, unfit("b"));
}

#[test]
fn moves_to_a_server_that_goes() {
    let mut w = World::formed(4, 1);
    w.add("e").island = Some(0);
    w.add_replica("e1", "e");
    for (node, rank) in w.nodes.iter_mut().zip(0..) {
        node.place.leave_rank = rank;
    }
    let empty = vec![moving(&w, "a", "e", slots(0, 99))];
    passes(empty.clone(), &Desired::managed(5, 1), &w);
    finds(empty, &Desired::managed(4, 1), &w, unfit("e"));
    // What has slots already hands them over with the rest.
    let owner = vec![moving(&w, "a", "d", slots(0, 99))];
    passes(owner, &three(), &w);
}

#[test]
fn nothing_moves_to_where_nobody_was_heard() {
    let mut silent = healthy();
    silent.hush("b");
    let node = id("b");
    let kinds = found(some(), &three(), &silent.observe());
    assert!(kinds.contains(&ViolationKind::MeetsUnproved { node }));
    assert!(kinds.contains(&unfit("b")), "{kinds:?}");
}

#[test]
fn resets_a_replica_that_its_shard_needs() {
    let free = |w: &World| {
        let node = Unburdened::prove(&w.observe(), id("a3")).expect("it is a replica");
        vec![Action::Reset { node }]
    };
    let d = Desired::managed(4, 2);
    let mut w = World::formed(3, 3);
    passes(free(&w), &d, &w);
    let node = id("a3");
    let unasked = || ViolationKind::ResetsUnasked { node };
    finds(free(&w), &Desired::managed(3, 2), &w, unasked());
    w.node("a1").syncing = true;
    finds(free(&w), &d, &w, unasked());
}

#[test]
fn copies_or_leaves_out_functions_against_what_the_owners_have() {
    let mut w = World::formed(4, 0);
    w.add("e").island = Some(0);
    for (node, rank) in w.nodes.iter_mut().zip(0..) {
        node.place.leave_rank = rank;
    }
    let d = Desired::managed(5, 0);
    for name in ["a", "b", "c", "d"] {
        load(w.node(name), &[("one", 1), ("two", 2)]);
    }
    load(w.node("b"), &[("one", 1), ("two", 3)]);
    let copy = |name: &str, code: u8| {
        let digest = CodeDigest::from_bytes([code; 32]);
        vec![Action::CopyFunctions {
            from: id("a"),
            to: id("e"),
            libraries: [(name.to_owned(), digest)].into(),
        }]
    };
    passes(copy("one", 1), &d, &w);
    let differ = |library: &str| {
        let library = library.to_owned();
        ViolationKind::FunctionsDiffer { library }
    };
    finds(copy("two", 2), &d, &w, differ("two"));
    finds(copy("one", 9), &d, &w, differ("one"));
    let first = |w: &World| vec![moving(w, "a", "e", slots(0, 99))];
    let (node, library) = (id("e"), "one".to_owned());
    let lacks = ViolationKind::FunctionsLack { node, library };
    finds(first(&w), &d, &w, lacks);
    load(w.node("e"), &[("one", 1)]);
    passes(first(&w), &d, &w);
}

#[test]
fn moves_beside_stray_keys() {
    let astray = |node: &str, number: u64| {
        let mut w = healthy();
        w.node(node).stray_keys = Seen::Known([(slot(number), 1)].into());
        w
    };
    let kind = |node: &str| ViolationKind::MovesBesideStrayKeys { node: id(node) };
    finds(some(), &three(), &astray("a", 9_000), kind("a"));
    finds(some(), &three(), &astray("b", 7), kind("b"));
    // What the receiver holds of other slots is in nobody's way.
    passes(some(), &three(), &astray("b", 200));
    let mut uncounted = healthy();
    uncounted.node("a").stray_keys = Seen::Unknown(Why::TimedOut);
    finds(some(), &three(), &uncounted, kind("a"));
}

#[test]
fn gives_the_last_slot_of_one_that_holds_stray_keys() {
    let mut w = World::formed(4, 0);
    let x = w.add("x");
    (x.island, x.epoch, x.slots) = (Some(0), 9, SlotSet::empty());
    let rest = w.node("d").slots.difference(&slots(16_383, 16_383));
    w.node("d").slots = rest;
    let x = w.node("x");
    x.slots = slots(16_383, 16_383);
    x.open = vec![OpenSlot::Migrating {
        slot: slot(16_383),
        to: id("d"),
    }];
    let gives = || {
        vec![Action::AssignSlot {
            node: id("d"),
            slot: slot(16_383),
            owner: id("d"),
        }]
    };
    w.node("d").open = vec![OpenSlot::Importing {
        slot: slot(16_383),
        from: id("x"),
    }];
    w.node("x").keys_in_slot = [(slot(16_383), 0)].into();
    w.node("d").keys_in_slot = [(slot(16_383), 1)].into();
    let kind = ViolationKind::MovesBesideStrayKeys { node: id("x") };
    passes(gives(), &Desired::guest(), &w);
    w.node("x").stray_keys = Seen::Known([(slot(7), 1)].into());
    finds(gives(), &Desired::guest(), &w, kind.clone());
    let waits = w.waits(&Desired::guest());
    assert!(
        waits
            .iter()
            .any(|w| w.contains("slot 16383 stays half moved: x holds 1 keys")),
        "{waits:?}"
    );
    w.node("x").stray_keys = Seen::Unknown(Why::TimedOut);
    finds(gives(), &Desired::guest(), &w, kind);
}

#[test]
fn moves_keys_astray() {
    let keys = |from: &str, to: &str, replace| {
        vec![Action::MoveKeys {
            from: id(from),
            to: LiveAt::prove(&healthy().observe(), id(to)).expect("it lives in that world"),
            slot: slot(7),
            keys_max: 10,
            replace,
        }]
    };
    let astray = |to: &str| ViolationKind::MovesKeysAstray {
        slot: slot(7),
        to: id(to),
    };
    let w = healthy();
    passes(keys("b", "a", false), &three(), &w);
    finds(keys("b", "c", false), &three(), &w, astray("c"));
    finds(keys("b", "a1", false), &three(), &w, astray("a1"));
    finds(keys("a", "b", true), &three(), &w, astray("b"));
    let mut open = healthy();
    open.node("a").open = vec![OpenSlot::Migrating {
        slot: slot(7),
        to: id("b"),
    }];
    passes(keys("a", "b", true), &three(), &open);
    finds(keys("b", "a", true), &three(), &open, astray("a"));
}
