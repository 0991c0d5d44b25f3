//! When a drain may evict a server: only while every shard has a replica that can take over.

use shardwright_planner::safety::{NoEviction, why_no_eviction};
use shardwright_planner::{Desired, Limits};
use shardwright_topology::{Address, Timestamp};

use crate::world::{NOW, World, id, three};

fn why(w: &World, wanted: &Desired) -> Vec<NoEviction> {
    why_no_eviction(wanted, &w.observe(), &Limits::default(), Timestamp(NOW))
}

/// What is said of shard `a`, whose replica is `a1`.
fn of_a() -> Vec<NoEviction> {
    vec![NoEviction::NoSyncedReplica {
        primary: id("a"),
        replica: id("a1"),
    }]
}

#[test]
fn a_healthy_cluster_gives_up_any_one_server() {
    assert_eq!(why(&World::formed(3, 1), &three()), []);
    assert_eq!(why(&World::formed(3, 2), &Desired::managed(3, 2)), []);
}

#[test]
fn none_goes_while_the_only_replica_of_a_shard_is_still_copying() {
    let mut w = World::formed(3, 1);
    let replica = w.node("a1");
    (replica.link_up, replica.syncing) = (false, true);
    assert_eq!(why(&w, &three()), of_a());
    // The same where it is only cut off, has never been linked, or copies from elsewhere.
    let mut w = World::formed(3, 1);
    w.node("a1").link_up = false;
    assert_eq!(why(&w, &three()), of_a());
    let mut w = World::formed(3, 1);
    w.node("a1").target = Some(Address::loopback(9_999));
    w.unlisted.push(id("a1"));
    assert_eq!(why(&w, &three()), of_a());
}

#[test]
fn one_synced_replica_is_enough() {
    let mut w = World::formed(3, 2);
    let replica = w.node("a1");
    (replica.link_up, replica.syncing) = (false, true);
    assert_eq!(why(&w, &Desired::managed(3, 2)), []);
    w.hush("a2");
    assert_eq!(why(&w, &Desired::managed(3, 2)), of_a());
}

#[test]
fn a_replica_that_is_away_or_being_stopped_takes_nothing_over() {
    let mut w = World::formed(3, 1);
    w.hush("a1");
    assert_eq!(why(&w, &three()), of_a());
    let mut w = World::formed(3, 1);
    w.node("a1").leaving = true;
    assert_eq!(why(&w, &three()), of_a());
    let mut w = World::formed(3, 1);
    w.kill("a1", 5);
    assert_eq!(why(&w, &three()), of_a());
}

#[test]
fn a_replica_that_may_not_be_asked_yet_is_waited_for() {
    let mut w = World::formed(3, 1);
    let ms = 2 * Limits::default().node_timeout_ms;
    w.wins = vec![(id("a1"), ms - 1_000)];
    assert_eq!(why(&w, &three()), of_a());
    w.wins = vec![(id("a1"), ms)];
    assert_eq!(why(&w, &three()), []);
}

#[test]
fn what_is_not_known_counts_against_an_eviction() {
    let mut w = World::formed(3, 1);
    w.hush("b");
    let primary = id("b");
    assert_eq!(
        why(&w, &three()),
        [NoEviction::PrimaryUnreachable { primary }]
    );
    let mut w = World::formed(3, 1);
    let gone = std::mem::take(&mut w.node("c").slots);
    assert_eq!(
        why(&w, &three()),
        [NoEviction::SlotsUncovered { slots: gone }]
    );
    let mut w = World::formed(3, 1);
    w.nodes.retain(|node| node.name != "b1");
    assert_eq!(why(&w, &three()), [NoEviction::NoReplica { primary }]);
}

#[test]
fn each_shard_is_named_once_in_the_order_of_its_slots() {
    let mut w = World::formed(3, 1);
    w.hush("c1");
    w.hush("a1");
    let text: Vec<String> = why(&w, &three()).iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 2, "{text:?}");
    let short = |name| format!("{:?}", id(name));
    assert!(
        text[0].contains(&short("a1")) && text[1].contains(&short("c1")),
        "{text:?}"
    );
}

#[test]
fn there_is_nothing_to_protect_without_data_or_without_declared_replicas() {
    assert_eq!(why(&World::blank(6), &three()), []);
    assert_eq!(why(&World::formed(3, 0), &Desired::managed(3, 0)), []);
}
