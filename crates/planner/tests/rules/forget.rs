//! Nodes that will not return are forgotten, by all in one pass, and only once they own nothing.

use shardwright_planner::Desired;
use shardwright_planner::evidence::Gone;
use shardwright_topology::Why;

use crate::world::{World, consenting, id, says, three};

/// `a` lost its directory; `new` lives in its place, and is known to all; `a1` took the slots.
fn after_failover() -> World {
    let mut w = World::formed(3, 1);
    w.lose_directory("a", "new").island = Some(0);
    let range = std::mem::take(&mut w.node("a").slots);
    w.node("a1").primary = None;
    w.node("a1").slots = range;
    w.node("a1").epoch = 9;
    w
}

#[test]
fn a_lost_node_is_forgotten_on_all_in_one_pass_and_the_new_one_takes_its_place() {
    let w = after_failover();
    let steps = w.steps(&three());
    for teller in ["a1", "b", "b1", "c", "c1", "new"] {
        assert!(
            says(&steps, &format!("make {teller} forget a")),
            "{steps:?}"
        );
    }
    assert!(says(&steps, "make new a replica of a1"));
    assert_eq!(steps.len(), 7);
    assert!(says(
        &w.reasons(&three()),
        "its directory was lost, and its server now runs another node"
    ));
}

#[test]
fn while_it_owns_slots_it_is_not_forgotten() {
    let mut w = World::formed(3, 0);
    w.lose_directory("a", "new").island = Some(0);
    let d = Desired::managed(3, 0);
    assert!(!says(&w.steps(&d), "forget"));
    assert!(says(
        &w.waits(&d),
        "the last copy of slots 0-5460 is gone with node a"
    ));
    // With consent its slots do not keep it.
    assert!(says(&w.steps(&consenting(d)), "make b forget a"));
}

#[test]
fn with_consent_it_is_kept_while_a_silent_replica_may_have_its_data() {
    let mut w = World::formed(3, 1);
    w.lose_directory("a", "new").island = Some(0);
    w.hush("a1");
    assert!(!says(&w.steps(&consenting(three())), "forget"));
}

#[test]
fn while_a_replica_follows_it_it_is_not_forgotten() {
    let mut w = after_failover();
    w.add_replica("a2", "a");
    let steps = w.steps(&three());
    assert!(!says(&steps, "forget"), "{steps:?}");
    assert_eq!(
        steps,
        ["make a2 a replica of a1"],
        "it gets another primary first"
    );
}

#[test]
fn a_node_that_may_return_is_not_forgotten() {
    // Some server is silent, and it is not known who lives there.
    let mut w = after_failover();
    let quiet = w.hush("b1");
    quiet.recorded = None;
    assert!(!says(&w.steps(&three()), "forget"));
    // Its own server is merely dead.
    let mut w = World::formed(3, 1);
    w.kill("a1", 60_000);
    assert!(!says(&w.steps(&three()), "forget"));
    // Its own server is silent.
    let mut w = World::formed(3, 1);
    w.hush("a1").silent = Some(Why::TimedOut);
    assert!(!says(&w.steps(&three()), "forget"));
    assert_eq!(w.get("a1").recorded, Some(id("a1")));
}

#[test]
fn guests_are_never_forgotten_unasked() {
    let w = after_failover();
    assert!(!says(&w.steps(&Desired::guest()), "forget"));
}

#[test]
fn one_that_others_look_for_at_a_silent_server_is_not_gone() {
    // A newer node than the recorded one lives there, and nobody remembers that it spoke.
    let mut w = World::formed(3, 1);
    w.hush("b1").recorded = Some(id("old"));
    assert_eq!(Gone::prove(&three(), &w.observe(), id("b1")), None);
    assert!(w.steps(&three()).is_empty());
    // Elsewhere it would have been heard.
    w.node("b1").address = shardwright_topology::Address::loopback(7_999);
    for speaker in ["a", "b", "c", "a1", "c1"] {
        w.believes(speaker, "b1", |row| row.address.port = 7_998);
    }
    assert!(Gone::prove(&three(), &w.observe(), id("b1")).is_some());
}
