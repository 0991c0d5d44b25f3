//! Which node a runtime records at which server.

use std::collections::BTreeMap;

use shardwright_planner::to_record;
use shardwright_topology::{NodeId, ServerName};

use crate::world::{World, id, three};

fn recorded(w: &World) -> BTreeMap<ServerName, NodeId> {
    to_record(&three(), &w.observe())
}

fn at(server: &str, node: &str) -> BTreeMap<ServerName, NodeId> {
    BTreeMap::from([(ServerName(server.to_owned()), id(node))])
}

#[test]
fn a_forming_cluster_is_recorded_once_its_nodes_know_one_another() {
    let mut blank = World::blank(6);
    for node in &mut blank.nodes {
        node.recorded = None;
    }
    assert!(recorded(&blank).is_empty());
    let mut w = World::formed(3, 1);
    for node in &mut w.nodes {
        node.recorded = None;
    }
    w.formed = false;
    assert_eq!(recorded(&w).len(), 6);
}

#[test]
fn what_is_recorded_already_is_not_named_again() {
    assert!(recorded(&World::formed(3, 1)).is_empty());
}

#[test]
fn a_new_node_waits_until_the_one_before_it_is_forgotten() {
    let mut w = World::formed(3, 1);
    w.lose_directory("a1", "new").island = Some(0);
    assert!(
        recorded(&w).is_empty(),
        "its record proves the old one gone"
    );
    w.nodes.retain(|n| n.name != "a1");
    assert_eq!(recorded(&w), at("new", "new"));
}

#[test]
fn a_stranger_is_never_recorded() {
    let mut w = World::formed(3, 1);
    // Another cluster's primary now answers at a server of ours.
    let stranger = w.add("x");
    stranger.recorded = None;
    stranger.island = Some(7);
    stranger.keys = 10;
    stranger.epoch = 90;
    stranger.slots = crate::world::slots(0, 99);
    let friend = w.add("y");
    friend.recorded = None;
    friend.island = Some(7);
    assert!(recorded(&w).is_empty());
    // Nor while none of the recorded nodes is heard.
    for name in ["a", "a1", "b", "b1", "c", "c1"] {
        w.hush(name);
    }
    assert!(recorded(&w).is_empty());
}

#[test]
fn of_a_copied_directory_neither_is_recorded() {
    let mut w = World::formed(3, 1);
    let twin = w.add("z");
    twin.id = id("a");
    twin.recorded = None;
    twin.island = Some(0);
    assert!(recorded(&w).is_empty());
}
