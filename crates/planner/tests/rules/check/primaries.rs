//! Changes of roles that are to keep primaries apart.

use std::collections::BTreeSet;

use shardwright_planner::{
    Action, Crowded, Plan, PrimariesAt, Reason, SharedPlace, Step, ViolationKind, check,
};

use super::healthy;
use crate::world::{World, id, three};

/// What the linter finds in a plan that changes these roles because `h1` is held to have two of three primaries.
fn found(w: &World, changes: &[(&str, &str)]) -> BTreeSet<ViolationKind> {
    let step = |(replica, primary): &(&str, &str)| Step {
        action: Action::Switchover {
            replica: id(replica),
            primary: id(primary),
        },
        because: Reason::Crowded(Crowded::Primaries(PrimariesAt {
            place: SharedPlace::Host("h1".to_owned()),
            primaries: 2,
            of: 3,
        })),
        requires: Vec::new(),
    };
    let plan = Plan {
        steps: changes.iter().map(step).collect(),
        ..Plan::default()
    };
    let found = check(&plan, &three(), &w.observe());
    found.into_iter().map(|v| v.kind).collect()
}

fn crowds(name: &str) -> BTreeSet<ViolationKind> {
    BTreeSet::from([ViolationKind::CrowdsPrimaries { replica: id(name) }])
}

/// `a` and `b` are on one host.
fn together() -> World {
    let mut w = healthy();
    for (name, host) in [
        ("a", "h1"),
        ("b", "h1"),
        ("c", "h2"),
        ("a1", "h2"),
        ("b1", "h3"),
        ("c1", "h3"),
    ] {
        w.node(name).place.host = Some(host.to_owned());
    }
    w
}

#[test]
fn roles_change_to_where_there_is_room() {
    let w = together();
    assert_eq!(found(&w, &[("b1", "b")]), BTreeSet::new());
    // It makes room for one of the two.
    assert_eq!(found(&w, &[("c1", "c")]), BTreeSet::new());
    // One at a time.
    let both = found(&w, &[("b1", "b"), ("c1", "c")]);
    assert_eq!(both.len(), 2, "{both:?}");
    // None are too many.
    assert_eq!(found(&healthy(), &[("b1", "b")]), crowds("b1"));
    // It would be one of three.
    let mut w = together();
    w.node("c1").place.host = Some("h1".to_owned());
    assert_eq!(found(&w, &[("c1", "c")]), crowds("c1"));
}

#[test]
fn roles_change_only_at_rest_and_where_no_copy_is_placed_worse() {
    let changes: [fn(&mut World); 4] = [
        |w| w.hush("c1").leaving = false,
        |w| w.node("c1").leaving = true,
        |w| w.node("b1").place.host = None,
        // With another replica beside it.
        |w| w.add_replica("b2", "b").place.host = Some("h3".to_owned()),
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut w = together();
        change(&mut w);
        assert_eq!(found(&w, &[("b1", "b")]), crowds("b1"), "{i}");
    }
    // For the same reason by zones.
    let mut w = together();
    w.add_replica("b2", "b");
    for node in &mut w.nodes {
        let south = node.name == "b1" || node.name == "b2";
        node.place.zone = Some(if south { "south" } else { "north" }.to_owned());
    }
    assert_eq!(found(&w, &[("b1", "b")]), crowds("b1"));
}
