//! Redundancy: every shard has its replicas, and each follows a primary that owns slots.

use shardwright_planner::Desired;
use shardwright_topology::SlotSet;

use crate::world::{World, id, says, three};

/// A blank node that everyone already knows.
fn spare(w: &mut World, name: &str) {
    w.add(name).island = Some(0);
}

#[test]
fn a_bare_shard_gets_the_free_node() {
    let mut w = World::formed(3, 1);
    w.nodes.retain(|n| n.name != "b1");
    spare(&mut w, "new");
    assert_eq!(
        w.reasons(&three()),
        ["make new a replica of b: its shard has too few replicas"]
    );
}

#[test]
fn a_node_is_met_before_it_is_made_a_replica() {
    let mut w = World::formed(3, 1);
    w.nodes.retain(|n| n.name != "b1");
    w.add("new");
    let steps = w.steps(&three());
    assert_eq!(steps.len(), 5, "{steps:?}");
    assert!(steps.iter().all(|s| s.starts_with("tell ")));
    assert!(says(&w.waits(&three()), "new has no news of b yet"));
}

#[test]
fn a_node_with_keys_of_its_own_is_not_taken() {
    let mut w = World::formed(3, 1);
    w.nodes.retain(|n| n.name != "b1");
    spare(&mut w, "new");
    w.node("new").keys = 3;
    assert!(w.steps(&three()).is_empty());
    assert!(says(&w.waits(&three()), "primary b has 0 of 1 replicas"));
}

#[test]
fn an_empty_primary_is_no_replica_while_a_shard_is_missing() {
    let mut w = World::formed(3, 1);
    spare(&mut w, "new");
    w.nodes.retain(|n| n.name != "c1");
    let lost = std::mem::take(&mut w.node("c").slots);
    assert!(w.steps(&three()).is_empty());
    w.node("c").slots = lost;
    let d = Desired::managed(4, 1);
    assert_eq!(w.steps(&d), ["make new a replica of c"], "redundancy first");
    assert!(says(
        &w.waits(&d),
        "new shards need 3 free nodes, and 1 are there"
    ));
}

#[test]
fn a_replica_that_is_only_away_keeps_its_seat() {
    let mut w = World::formed(3, 1);
    w.hush("b1");
    spare(&mut w, "new");
    assert!(w.steps(&three()).is_empty());
}

#[test]
fn a_replica_of_a_replica_follows_its_primary() {
    let mut w = World::formed(3, 1);
    w.add_replica("x", "a").primary = Some(id("a1"));
    assert_eq!(
        w.reasons(&three()),
        ["make x a replica of a: it follows a node that owns no slots"]
    );
}

#[test]
fn replicas_of_each_other_are_free() {
    let mut w = World::formed(3, 1);
    w.nodes.retain(|n| n.name != "b1" && n.name != "c1");
    w.add_replica("x", "b").primary = Some(id("y"));
    w.add_replica("y", "c").primary = Some(id("x"));
    assert_eq!(
        w.steps(&three()),
        ["make x a replica of b", "make y a replica of c"]
    );
}

#[test]
fn a_replica_of_a_lost_node_without_slots_is_repointed() {
    for d in [three(), Desired::guest()] {
        let mut w = World::formed(3, 1);
        w.nodes.retain(|n| n.name != "b1");
        w.add_replica("x", "b").primary = Some(id("nobody"));
        assert_eq!(w.steps(&d), ["make x a replica of b"]);
    }
}

#[test]
fn an_empty_live_primary_is_given_to_a_shard_and_its_replica_follows() {
    let mut w = World::formed(3, 1);
    w.nodes.retain(|n| n.name != "b1");
    spare(&mut w, "old");
    assert_eq!(w.steps(&three()), ["make old a replica of b"]);
}

#[test]
fn a_bare_shard_borrows_where_another_has_two() {
    for d in [Desired::guest(), Desired::managed(3, 1)] {
        let mut w = World::formed(3, 1);
        w.nodes.retain(|n| n.name != "b1");
        w.add_replica("a2", "a");
        assert_eq!(w.steps(&d), ["make a1 a replica of b"]);
        // Not the one on the borrower's own host.
        w.node("a1").place.host = Some("host-b".to_owned());
        assert_eq!(w.steps(&d), ["make a2 a replica of b"]);
    }
}

#[test]
fn only_live_replicas_are_lent_and_one_stays() {
    let mut w = World::formed(3, 1);
    w.nodes.retain(|n| n.name != "b1");
    w.add_replica("a2", "a");
    w.hush("a2");
    assert!(w.steps(&Desired::guest()).is_empty());
    assert!(w.steps(&three()).is_empty());
}

#[test]
fn two_bare_shards_are_not_lent_the_same_replica() {
    let mut w = World::formed(3, 0);
    w.add_replica("a1", "a");
    w.add_replica("a2", "a");
    let steps = w.steps(&three());
    assert_eq!(steps, ["make a1 a replica of b"]);
    assert!(says(
        &w.waits(&three()),
        "primary c has 0 of 1 replicas, and no node is free"
    ));
}

#[test]
fn a_guest_cluster_without_replicas_is_left_as_it_is() {
    let w = World::formed(3, 0);
    assert!(w.plan(&Desired::guest()).is_settled());
}

#[test]
fn free_nodes_do_not_wait_for_a_silent_primary() {
    let mut w = World::formed(3, 0);
    w.hush("a");
    spare(&mut w, "new");
    assert_eq!(w.steps(&three()), ["make new a replica of b"]);
}

#[test]
fn coverage_comes_before_redundancy() {
    let mut w = World::formed(3, 1);
    w.kill("a", 0);
    w.nodes.retain(|n| n.name != "b1");
    spare(&mut w, "new");
    assert_eq!(
        w.steps(&three()),
        ["fail over from dead a to its replica a1"]
    );
    // Once it is done, the old primary starts, and the bare shard gets its replica.
    let range = std::mem::take(&mut w.node("a").slots);
    w.node("a1").primary = None;
    w.node("a1").slots = range;
    w.node("a1").epoch = 9;
    let steps = w.steps(&three());
    assert!(says(&steps, "start a"), "{steps:?}");
    assert!(says(&steps, "make new a replica of b") || says(&steps, "make new a replica of a1"));
    assert_eq!(w.get("a").slots, SlotSet::empty());
}

#[test]
fn a_replica_that_takes_its_copy_is_waited_for() {
    let mut w = World::formed(3, 1);
    w.node("a1").syncing = true;
    w.node("b1").link_up = false;
    w.node("b1").offset = 4_900;
    let waits = w.waits(&three());
    assert!(says(&waits, "replica a1 takes its first copy"));
    assert!(says(&waits, "replica b1 catches up, 100 bytes behind"));
}
