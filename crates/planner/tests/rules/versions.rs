//! Who can take a copy of whom: no node is made a replica of one whose copy it can't read.

use shardwright_planner::evidence::Unburdened;
use shardwright_planner::{Action, Desired, Plan, Reason, Request, Step, check, diagnose, safety};
use shardwright_topology::{EngineKind, ServerName, Version};

use crate::world::{World, guest_shape, id, says, three};

fn version(w: &mut World, name: &str, major: u16, minor: u16) {
    w.node(name).version = Version {
        major,
        minor,
        patch: 0,
    };
}

fn valkey(w: &mut World, name: &str, major: u16) {
    w.node(name).engine = EngineKind::Valkey;
    version(w, name, major, 0);
}

#[test]
fn an_older_node_goes_to_a_primary_that_it_can_read() {
    let mut w = World::formed(3, 1);
    for name in ["a", "b", "c", "a1", "b1", "c1"] {
        version(&mut w, name, 7, 4);
    }
    // Two shards lack a replica; of the free nodes one is older, and so is one of the primaries.
    w.nodes.retain(|n| n.name != "a1" && n.name != "b1");
    version(&mut w, "b", 7, 0);
    for name in ["x", "y"] {
        w.add(name).island = Some(0);
    }
    version(&mut w, "y", 7, 4);
    let steps = w.steps(&three());
    assert!(says(&steps, "make x a replica of b"), "{steps:?}");
    assert!(says(&steps, "make y a replica of a"), "{steps:?}");
    // Where none can be read, none is copied.
    version(&mut w, "b", 7, 4);
    let steps = w.steps(&three());
    assert!(!says(&steps, "make x"), "{steps:?}");
    assert!(says(&steps, "make y a replica of"), "{steps:?}");
    assert!(says(&w.waits(&three()), "no node is free"));
}

#[test]
fn an_older_node_that_joins_goes_where_it_can_read() {
    let mut w = World::formed(3, 1);
    for name in ["a", "c", "a1", "b1", "c1"] {
        valkey(&mut w, name, 9);
    }
    valkey(&mut w, "b", 8);
    w.add_replica("b2", "b");
    valkey(&mut w, "b2", 9);
    w.add("x").island = Some(0);
    valkey(&mut w, "x", 8);
    w.node("x").recorded = None;
    let join = |of| {
        Desired::guest().with(Request::Join {
            server: ServerName("x".to_owned()),
            replica: true,
            of,
        })
    };
    assert!(says(&w.steps(&join(None)), "make x a replica of b"));
    let waits = w.waits(&join(Some(id("a"))));
    assert!(!says(&w.steps(&join(Some(id("a")))), "make x"), "{waits:?}");
}

#[test]
fn an_older_replica_is_neither_lent_nor_led_to_a_newer_primary() {
    let mut w = World::formed(3, 1);
    w.nodes.retain(|n| n.name != "b1");
    for name in ["a2", "a3"] {
        w.add_replica(name, "a");
    }
    assert!(says(&w.steps(&three()), "a replica of b"));
    version(&mut w, "b", 7, 4);
    assert!(!says(&w.steps(&three()), "a replica of b"));
    version(&mut w, "a3", 7, 4);
    assert!(says(&w.steps(&three()), "make a3 a replica of b"));
    // It copies a replica of a primary that it can't read.
    let mut w = World::formed(3, 2);
    version(&mut w, "a", 7, 4);
    version(&mut w, "a1", 7, 4);
    w.node("a2").primary = Some(id("a1"));
    let waits = w.waits(&Desired::guest());
    assert!(w.steps(&Desired::guest()).is_empty());
    assert!(
        says(
            &waits,
            "a2 runs a version that can't read all that a writes"
        ),
        "{waits:?}"
    );
}

#[test]
fn a_replica_that_cannot_read_is_named_and_waited_for_by_a_person() {
    let mut w = World::formed(3, 1);
    version(&mut w, "a", 7, 4);
    (w.node("a1").link_up, w.node("a1").offset) = (false, 0);
    let told = |w: &World| {
        let found = diagnose(&w.observe());
        let line = |p: &shardwright_planner::Problem| {
            w.name_all(&format!(
                "{:?} {} | {}",
                p.severity,
                p.kind,
                p.kind.mend("T")
            ))
        };
        found.iter().map(line).collect::<Vec<_>>()
    };
    let what = "replica a1 runs Redis 7.0.15, which can't read all that its primary a (Redis 7.4.0) writes: its copy fails, or lacks what it does not know";
    assert!(says(&told(&w), &format!("Fatal {what}")), "{:?}", told(&w));
    assert!(!says(&told(&w), "has no copy or no link"));
    let plan = w.plan(&guest_shape(3, 1));
    assert!(plan.is_stuck(), "{plan:?}");
    // A stream that goes on lacks what it does not know.
    (w.node("a1").link_up, w.node("a1").offset) = (true, 5_000);
    assert!(says(&told(&w), &format!("Fatal {what}")));
    assert!(w.plan(&guest_shape(3, 1)).is_stuck());
}

#[test]
fn who_would_be_left_behind_is_known_before_a_switchover() {
    let mut w = World::formed(3, 2);
    assert_eq!(safety::left_behind(&w.observe(), id("a1")), []);
    version(&mut w, "a1", 7, 4);
    assert_eq!(
        safety::left_behind(&w.observe(), id("a1")),
        [id("a"), id("a2")]
    );
    // Whoever leaves hands over to one that the others can follow.
    w.node("a").leaving = true;
    assert!(says(
        &w.steps(&three()),
        "switch over from a to its replica a2"
    ));
    version(&mut w, "a2", 7, 4);
    assert!(says(
        &w.steps(&three()),
        "switch over from a to its replica a1"
    ));
}

#[test]
fn a_plan_that_makes_an_older_node_a_replica_is_refused() {
    let mut w = World::formed(3, 2);
    w.held_back.borrow_mut().insert(id("a1"));
    let findings = |w: &World| {
        let seen = w.observe();
        let node = Unburdened::prove(&seen, id("a1")).expect("it is a replica");
        let action = Action::Replicate {
            node,
            primary: id("b"),
        };
        let steps = vec![Step {
            action,
            because: Reason::WrongPrimary,
            requires: Vec::new(),
        }];
        let found = check(
            &Plan {
                steps,
                waiting: Vec::new(),
            },
            &three(),
            &seen,
        );
        found
            .iter()
            .map(|v| w.name_all(&v.to_string()))
            .collect::<Vec<_>>()
    };
    assert!(findings(&w).is_empty(), "{:?}", findings(&w));
    version(&mut w, "b", 7, 4);
    assert!(says(&findings(&w), "a1 can't read what b writes"));
}
