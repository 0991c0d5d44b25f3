//! What a keeper remembers, and what it takes a refused connection for.

use shardwright_planner::{Memory, lived_here};
use shardwright_topology::{Address, NodeView, Process, Seen, ServerName, Starter, Timestamp, Why};

use crate::world::{World, claims, id};

#[test]
fn a_refusal_where_nobody_knew_the_node_proves_no_death() {
    let mut memory = Memory::default();
    let server = ServerName("redis-0".to_owned());
    let refused = Seen::Unknown(Why::Refused);
    let mut process = |here| {
        let told = Process::Unknown;
        memory.process(&server, &told, Starter::Host, &refused, here, Timestamp(9))
    };
    assert!(process(true).death().is_some());
    assert_eq!(process(false), Process::Unknown, "its pod was made anew");
}

#[test]
fn a_node_lived_where_another_lists_it_or_where_its_gate_holds_it() {
    let w = World::formed(3, 1);
    let old = Seen::Known(w.get("a").address.clone());
    let new = Seen::Known(Address::loopback(9_999));
    let unasked = Seen::Unknown(Why::NotAsked);
    let held = Seen::Known(claims(1));
    let tables = [w.view(w.get("b"))];
    let nobody: [NodeView; 0] = [];

    assert!(lived_here(Some(id("a")), &old, &unasked, tables.iter()));
    assert!(!lived_here(Some(id("a")), &new, &unasked, tables.iter()));
    assert!(!lived_here(Some(id("a")), &old, &unasked, nobody.iter()));
    assert!(!lived_here(None, &old, &unasked, tables.iter()));
    assert!(lived_here(Some(id("a")), &new, &held, tables.iter()));
}
