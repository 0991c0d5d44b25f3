//! Every reason not to do a thing, asked for directly.

use shardwright_planner::evidence::{Blank, Dead, Gone, HowDead, LiveAt, RoleSeen, Unburdened};
use shardwright_planner::safety::{
    NoForget, NoMove, NoStart, NoSwitchover, unheard_sibling, why_not_forget, why_not_move,
    why_not_start, why_not_switch_over,
};
use shardwright_planner::{Desired, Limits, Request};
use shardwright_topology::{AttemptKind, Disk, Observed, OpenSlot, Seen, ServerName, Timestamp};

use crate::world::{NOW, World, claims, id, slot, slots, three};

#[test]
fn silence_is_no_proof_of_anything() {
    let mut w = World::formed(3, 1);
    w.hush("a");
    let o = w.observe();
    assert_eq!(Dead::prove(&o, id("a")), None);
    assert_eq!(LiveAt::prove(&o, id("a")), None);
    assert_eq!(
        Unburdened::prove(&o, id("a1")).map(|u| u.node()),
        Some(id("a1"))
    );
    assert_eq!(Gone::prove(&three(), &o, id("a")), None);
    assert_eq!(Blank::prove(&o, &ServerName("a".to_owned())), None);
}

#[test]
fn who_speaks_is_not_dead_whatever_the_runtime_says() {
    let mut w = World::formed(3, 1);
    w.kill("a", 0).silent = None;
    assert_eq!(Dead::prove(&w.observe(), id("a")), None);
}

#[test]
fn a_replaced_node_is_dead_and_gone() {
    let mut w = World::formed(3, 1);
    w.lose_directory("a", "new");
    let o = w.observe();
    let dead = Dead::prove(&o, id("a")).expect("another lives in its place");
    assert!(matches!(dead.how(), HowDead::Replaced { by, .. } if *by == id("new")));
    assert!(Gone::prove(&three(), &o, id("a")).is_some());
    assert_eq!(Gone::prove(&Desired::guest(), &o, id("a")), None);
}

#[test]
fn only_a_majority_that_was_heard_proves_a_role() {
    let mut w = World::formed(3, 1);
    assert_eq!(
        RoleSeen::prove(&w.observe(), id("a1"), id("a")).map(|s| s.tally()),
        Some((3, 3))
    );
    w.hush("b");
    w.hush("c");
    assert_eq!(RoleSeen::prove(&w.observe(), id("a1"), id("a")), None);
}

#[test]
fn the_start_gate() {
    let stale = claims(1);
    for (replicas, disk, why) in [
        (1, Disk::Log, Some(NoStart::SuccessorFirst)),
        (0, Disk::Log, None),
        (0, stale, Some(NoStart::OldData)),
    ] {
        let mut w = World::formed(3, replicas);
        w.kill("a", 0).disk = Seen::Known(disk);
        let o = w.observe();
        let server = &o.servers()[&ServerName("a".to_owned())];
        assert_eq!(why_not_start(&three(), &o, server), why);
    }
}

#[test]
fn siblings_and_forgetting() {
    let mut w = World::formed(3, 1);
    let o = w.observe();
    assert_eq!(unheard_sibling(&o, id("a")), None);
    assert_eq!(
        why_not_forget(&three(), &o, id("a")),
        Some(NoForget::OwnsSlots { slots: 5461 })
    );
    assert_eq!(why_not_forget(&three(), &o, id("a1")), None);
    let why_not =
        |o: &Observed, name| why_not_switch_over(o, &Limits::default(), id(name), Timestamp(NOW));
    assert_eq!(why_not(&o, "a1"), []);
    assert_eq!(why_not(&o, "a").len(), 2);
    w.hush("a1");
    let o = w.observe();
    assert_eq!(unheard_sibling(&o, id("a")), Some(id("a1")));
    assert_eq!(why_not(&o, "a1"), [NoSwitchover::ReplicaUnheard]);
}

#[test]
fn leaving_is_asked_for_by_name_and_owns_nothing() {
    let w = World::formed(3, 1);
    let o = w.observe();
    let leave = |name| three().with(Request::Leave { node: id(name) });
    assert!(Gone::asked_to_leave(&leave("a1"), &o, id("a1")).is_some());
    assert_eq!(Gone::asked_to_leave(&leave("a1"), &o, id("b1")), None);
    assert_eq!(Gone::asked_to_leave(&leave("a"), &o, id("a")), None);
}

#[test]
fn every_reason_against_a_move_is_told() {
    let d = three();
    let w = World::formed(3, 1);
    let none: [NoMove; 0] = [];
    let ask = |w: &World| why_not_move(&d, &w.observe(), id("a"), id("b"), &slots(0, 99));
    assert_eq!(ask(&w), none);
    let why = why_not_move(&d, &w.observe(), id("a"), id("b1"), &slots(0, 99));
    assert_eq!(why, [NoMove::NotAPrimary { node: id("b1") }]);
    let why = why_not_move(&d, &w.observe(), id("a"), id("b"), &slots(0, 9_999));
    assert_eq!(why, [NoMove::NotTheOwner { node: id("a") }]);
    let mut w = World::formed(3, 1);
    w.node("c").open = vec![OpenSlot::Migrating {
        slot: slot(12_000),
        to: id("a"),
    }];
    let open = NoMove::SlotOpen {
        slot: slot(12_000),
        node: id("c"),
    };
    assert_eq!(ask(&w), [open]);
    for (replica, of) in [("a1", "a"), ("b1", "b")] {
        let mut w = World::formed(3, 1);
        w.asked(replica, AttemptKind::Switchover, 10);
        let passed = NoMove::MayBePassed {
            by: id(replica),
            node: id(of),
        };
        assert_eq!(ask(&w), [passed]);
        w.attempts[0].ended = true;
        assert_eq!(ask(&w), none);
    }
    let mut w = World::formed(3, 1);
    w.node("b").leaving = true;
    assert!(
        ask(&w)
            .iter()
            .any(|n| n.to_string() == "b is being stopped")
    );
    let mut w = World::formed(3, 1);
    w.hush("b");
    let why = ask(&w);
    assert!(why.contains(&NoMove::SlotsUnserved), "{why:?}");
    assert!(
        why.contains(&NoMove::EndUnheard { node: id("b") }),
        "{why:?}"
    );
    let mut w = World::formed(3, 1);
    w.node("b1").syncing = true;
    let lack = NoMove::ReplicasLack {
        primary: id("b"),
        have: 0,
        want: 1,
    };
    assert_eq!(ask(&w), [NoMove::NotInSync { node: id("b1") }, lack]);
    let mut w = World::formed(3, 1);
    w.believes("c1", "a", |row| row.slots = slots(0, 5_000));
    let differ = NoMove::ViewsDiffer {
        speaker: id("c1"),
        about: id("a"),
    };
    assert_eq!(ask(&w), [differ]);
}
