//! Primaries whose servers were told to end, and servers that their hosts start by themselves.

use shardwright_planner::{Desired, FailoverPolicy};
use shardwright_topology::{AttemptKind, Seen, Starter, Why};

use crate::world::{World, claims, says, three};

#[test]
fn a_leaving_primary_hands_over_while_it_is_in_sync() {
    let mut w = World::formed(3, 1);
    w.node("a").leaving = true;
    assert_eq!(
        w.reasons(&three()),
        ["switch over from a to its replica a1: the primary is being stopped"]
    );
    w.asked("a1", AttemptKind::Switchover, 10);
    assert!(w.steps(&three()).is_empty());
    assert!(says(&w.waits(&three()), "becoming the primary"));
}

#[test]
fn the_replica_that_stays_is_chosen_even_when_another_is_fresher() {
    let mut w = World::formed(3, 2);
    w.node("a").leaving = true;
    w.node("a1").leaving = true;
    w.node("a2").offset = 4_990;
    assert_eq!(w.steps(&three()), ["switch over from a to its replica a2"]);
}

#[test]
fn nobody_hands_over_when_all_leave_or_none_is_in_sync() {
    let mut w = World::formed(3, 1);
    for name in ["a", "a1", "b", "b1", "c", "c1"] {
        w.node(name).leaving = true;
    }
    assert!(w.steps(&three()).is_empty());
    let mut w = World::formed(3, 1);
    w.node("a").leaving = true;
    w.node("a1").link_up = false;
    assert!(w.steps(&three()).is_empty());
}

#[test]
fn a_leaving_replica_is_left_alone() {
    let mut w = World::formed(3, 1);
    w.node("a1").leaving = true;
    assert!(w.steps(&three()).is_empty());
}

#[test]
fn what_its_host_starts_is_not_started_by_a_step() {
    let mut w = World::formed(3, 1);
    w.kill("a1", 100).starter = Starter::Host;
    assert!(w.steps(&three()).is_empty(), "{:?}", w.steps(&three()));
    let unheard = w.waits(&three());
    assert!(says(&unheard, "is not heard"), "{unheard:?}");
    w.node("a1").disk = Seen::Unknown(Why::NotAsked);
    assert!(!says(&w.waits(&three()), "is held"));
}

#[test]
fn a_dead_primary_is_promoted_away_from_though_its_host_will_start_it() {
    let mut w = World::formed(3, 1);
    w.kill("a", 0).starter = Starter::Host;
    assert_eq!(
        w.steps(&three()),
        ["fail over from dead a to its replica a1"]
    );
    let patient = Desired {
        failover: FailoverPolicy::KeepEveryWrite,
        ..three()
    };
    assert!(w.steps(&patient).is_empty());
    assert!(says(&w.waits(&patient), "to return"));
}

#[test]
fn what_a_start_gate_holds_is_released_once_its_successor_lives() {
    let mut w = World::formed(3, 1);
    let held = w.kill("a", 100);
    held.disk = Seen::Known(claims(1));
    assert_eq!(
        w.steps(&three()),
        ["fail over from dead a to its replica a1"]
    );
    let slots = w.get("a").slots.clone();
    let heir = w.node("a1");
    heir.primary = None;
    heir.slots = slots;
    heir.epoch = 9;
    w.node("a").slots = shardwright_topology::SlotSet::empty();
    assert_eq!(w.steps(&three()), ["start a"]);
}
