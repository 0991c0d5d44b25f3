//! What the linter says about foreign nodes, by code of its own.

use std::collections::BTreeSet;

use shardwright_planner::evidence::Gone;
use shardwright_planner::{Action, Memory, Step, ViolationKind};
use shardwright_topology::{DuplicateId, Instance, Observed, ServerName};

use super::{found_in, lost_one, planned, remembered, replace, resharded, seen, taken};
use crate::check::{found, unburdened};
use crate::world::{World, consenting, id, slots, three};

#[test]
fn the_linter_sees_by_itself_who_is_foreign_and_what_may_be_taken_back() {
    let (d, mut memory) = (three(), remembered());
    let w = taken();
    let o = seen(&w, &mut memory);
    let step = planned(&w, &d, &mut memory).steps.remove(0);
    let back = |o: &Observed| found_in(&step, &d, o);
    let forget = || {
        let gone = Gone::prove(&d, &o, id("x")).expect("it is at no server");
        let teller = id("b");
        vec![Action::Forget { teller, gone }]
    };
    assert_eq!(back(&o), BTreeSet::new());
    let unread = Step {
        requires: vec![step.requires[0].clone()],
        ..step.clone()
    };
    let kind = ViolationKind::TakesBackUnread { node: id("a") };
    assert_eq!(found_in(&unread, &d, &o), BTreeSet::from([kind]));
    assert_eq!(found(forget(), &d, &o), BTreeSet::new());

    let mut replaced = taken();
    replace(&mut replaced, "a", 3);
    let o = seen(&replaced, &mut memory);
    let no_copy = ViolationKind::NoCopy { replica: id("a") };
    assert_eq!(back(&o), BTreeSet::from([no_copy]));

    let mut more = taken();
    more.node("x").slots = slots(0, 6_000);
    let o = seen(&more, &mut memory);
    let not_its = ViolationKind::SlotsOwned {
        slots: slots(5_461, 6_000),
    };
    assert_eq!(back(&o), BTreeSet::from([not_its]));

    // Where its own server may only be away, it is none of another cluster.
    let mut ours = taken();
    ours.hush("c1").recorded = Some(id("x"));
    let o = seen(&ours, &mut memory);
    let living = ViolationKind::PrimaryNotDead { primary: id("x") };
    assert_eq!(back(&o), BTreeSet::from([living]));
    let living = ViolationKind::ForgetsTheLiving { node: id("x") };
    assert_eq!(found(forget(), &d, &o), BTreeSet::from([living]));

    // Who follows a foreign node may have the last copy.
    let mut w = taken();
    let healthy = World::formed(3, 1);
    let moved = Action::Replicate {
        node: unburdened(&healthy, "a1"),
        primary: id("c"),
    };
    w.node("c").primary = None;
    let o = seen(&w, &mut memory);
    let kinds = found(vec![moved], &d, &o);
    let loses = ViolationKind::WouldLoseData { node: id("a1") };
    assert!(kinds.contains(&loses), "{kinds:?}");
}

#[test]
fn the_linter_sees_by_itself_whose_slots_a_foreign_node_owns() {
    let w = resharded();
    let forget = |teller: &str| {
        let gone = Gone::prove(&three(), &w.observe(), id("x")).expect("it is at no server");
        let teller = id(teller);
        vec![Action::Forget { teller, gone }]
    };
    let healthy = World::formed(3, 1);
    let follows = || {
        vec![Action::Replicate {
            node: unburdened(&healthy, "a1"),
            primary: id("c"),
        }]
    };
    let unknown = seen(&w, &mut Memory::default());
    let known = seen(&w, &mut remembered());
    let living = ViolationKind::ForgetsTheLiving { node: id("x") };
    let loses = ViolationKind::WouldLoseData { node: id("a1") };
    assert!(found(forget("b"), &three(), &unknown).contains(&living));
    assert!(found(follows(), &three(), &unknown).contains(&loses));
    for (d, o) in [(three(), &known), (consenting(three()), &unknown)] {
        assert!(!found(forget("b"), &d, o).contains(&living));
        assert!(!found(follows(), &d, o).contains(&loses));
    }
}

/// The recorded node owns slots, others look for it at a server that is away, or two processes answer as a node of ours.
#[test]
fn nobody_is_foreign_while_it_is_not_sure_who_is_at_each_server() {
    let (d, mut memory) = (three(), remembered());
    let step = planned(&lost_one(), &d, &mut memory).steps.remove(0);
    let back = |o: &Observed| found_in(&step, &d, o);
    let mut owner = lost_one();
    owner.hush("c");
    let mut there = lost_one();
    there.hush("c1");
    let at = there.get("c1").address.clone();
    there.believes("b", "x", move |row| row.address = at.clone());
    let mut doubled = seen(&lost_one(), &mut memory);
    let instance = |run: &str| Instance {
        at: ServerName("c1".to_owned()),
        address: None,
        run_id: run.to_owned(),
        uptime_s: None,
        offset: 7,
    };
    doubled.note_duplicate(DuplicateId {
        node: id("c1"),
        first: instance("one"),
        second: instance("two"),
    });
    assert_eq!(back(&seen(&lost_one(), &mut memory)), BTreeSet::new());
    for o in [
        seen(&owner, &mut memory),
        seen(&there, &mut memory),
        doubled,
    ] {
        let living = ViolationKind::PrimaryNotDead { primary: id("x") };
        assert!(back(&o).contains(&living), "{:?}", back(&o));
    }
}
