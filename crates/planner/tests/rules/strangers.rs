//! Who belongs here, and who must not be touched.

use shardwright_planner::{Desired, Standing, standings};
use shardwright_topology::ServerName;

use crate::world::{World, consenting, id, says, three};

#[test]
fn a_foreign_node_changes_nothing_for_ours() {
    let mut w = World::formed(3, 1);
    w.nodes.retain(|n| n.name != "b1");
    w.add("new").island = Some(0);
    let alone = w.steps(&three());
    assert_eq!(alone, ["make new a replica of b"]);
    // A stranger with greater epochs, who claims everything for itself and nodes that we do not hear.
    let x = w.add("x");
    x.slots = shardwright_topology::SlotSet::all();
    x.epoch = 1_000;
    x.island = Some(5);
    x.recorded = None;
    x.keys = 77;
    let y = w.add("y");
    y.island = Some(5);
    y.housed = false;
    for d in [three(), consenting(three())] {
        assert_eq!(w.steps(&d), alone);
        let waits = w.waits(&d);
        assert!(says(&waits, "x does not belong here"), "{waits:?}");
        assert!(!says(&waits, "has no news of"));
    }
}

#[test]
fn the_recorded_island_is_ours_even_when_it_is_the_smaller() {
    let mut w = World::formed(3, 0);
    for name in ["x", "y", "z", "v"] {
        let node = w.add(name);
        node.island = Some(5);
        node.recorded = None;
        node.epoch = 100;
        node.keys = 1;
    }
    let all = standings(&Desired::managed(3, 0), &w.observe());
    assert_eq!(all[&ServerName("a".to_owned())], Standing::Member);
    assert!(matches!(
        all[&ServerName("x".to_owned())],
        Standing::Foreign(_)
    ));
}

#[test]
fn the_last_of_a_guest_cluster_is_no_stranger() {
    let mut w = World::formed(3, 0);
    w.hush("b");
    w.hush("c");
    let all = standings(&Desired::guest(), &w.observe());
    assert_eq!(all[&ServerName("a".to_owned())], Standing::Member);
    assert_eq!(all[&ServerName("b".to_owned())], Standing::Unheard);
}

#[test]
fn a_node_that_returns_with_an_old_claim_is_not_led_in() {
    let mut w = World::formed(3, 1);
    let mut old = w.get("a").clone();
    old.name = "x".to_owned();
    old.id = id("x");
    old.epoch = 0;
    old.island = Some(5);
    old.recorded = Some(id("x"));
    w.nodes.push(old);
    assert!(w.steps(&three()).is_empty());
    assert!(says(&w.waits(&three()), "x does not belong here"));
}

#[test]
fn nothing_is_done_at_a_twin() {
    let mut w = World::formed(3, 1);
    let copy = w.add("copy");
    copy.id = id("c1");
    copy.island = Some(0);
    copy.primary = Some(id("c"));
    w.node("c1").primary = Some(id("nobody")); // it would be repointed
    let steps = w.steps(&three());
    assert!(!says(&steps, "c1"), "{steps:?}");
    assert!(says(
        &w.waits(&three()),
        "two processes answer as node c1 (c1 (127.0.0.1:7005): replica, run run-c1, up 600 s, 100 keys, offset 5000; copy"
    ));
    assert!(w.plan(&three()).is_stuck());
}
