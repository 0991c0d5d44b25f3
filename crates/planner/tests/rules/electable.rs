//! A replica that takes its first copy is not elected meanwhile.

use shardwright_planner::{Action, Desired, ViolationKind, check};

use crate::world::{World, id, three};

/// What would be done about elections, and what else.
fn electable(w: &World, d: &Desired) -> Vec<String> {
    let plan = w.plan_once(d);
    plan.steps
        .iter()
        .map(|s| w.name_all(&s.action.to_string()))
        .collect()
}

fn lacks_a_replica() -> World {
    let mut w = World::formed(3, 1);
    w.nodes.retain(|n| n.name != "b1");
    w.add_replica("a2", "a");
    w
}

#[test]
fn whoever_is_to_copy_a_primary_with_keys_is_held_back_first() {
    let mut w = lacks_a_replica();
    let hold = "set that a1 may not take its primary's place by itself";
    assert_eq!(electable(&w, &three()), [hold, "make a1 a replica of b"]);
    w.held_back.borrow_mut().insert(id("a1"));
    assert_eq!(electable(&w, &three()), ["make a1 a replica of b"]);
    // Where there is nothing to copy there is nothing to lose.
    w.held_back.borrow_mut().clear();
    w.node("b").keys = 0;
    assert_eq!(electable(&w, &three()), ["make a1 a replica of b"]);
}

#[test]
fn it_is_set_back_once_its_copy_is_proved() {
    let release = "set that a1 may take its primary's place by itself";
    let mut w = World::formed(3, 1);
    w.held_back.borrow_mut().insert(id("a1"));
    assert_eq!(electable(&w, &three()), [release]);
    w.node("a1").syncing = true;
    assert!(electable(&w, &three()).is_empty());
    (w.node("a1").syncing, w.node("a1").link_up) = (false, false);
    assert!(electable(&w, &three()).is_empty());
    w.node("a1").link_up = true;
    // In a cluster that is not ours somebody else may want it so; what we set ourselves is remembered.
    assert!(electable(&w, &Desired::guest()).is_empty());
    w.remembers_held_back = vec![id("a1")];
    assert_eq!(electable(&w, &Desired::guest()), [release]);
    // A primary that was a replica so set is set back too.
    let w = World::formed(3, 1);
    w.held_back.borrow_mut().insert(id("a"));
    assert_eq!(
        electable(&w, &three()),
        ["set that a may take its primary's place by itself"]
    );
}

#[test]
fn the_linter_refuses_a_copy_that_may_be_elected_and_a_release_without_one() {
    let mut w = lacks_a_replica();
    let mut plan = w.plan_once(&three());
    let hold = plan.steps.remove(0);
    assert!(matches!(hold.action, Action::SetElectable { .. }));
    let kind = ViolationKind::ElectsItself { node: id("a1") };
    let found = check(&plan, &three(), &w.observe());
    assert!(found.iter().any(|v| v.kind == kind), "{found:?}");
    // Nor does it help to hold it back once it follows.
    plan.steps.push(hold);
    let found = check(&plan, &three(), &w.observe());
    assert!(found.iter().any(|v| v.kind == kind), "{found:?}");
    w = World::formed(3, 1);
    w.held_back.borrow_mut().insert(id("a1"));
    let plan = w.plan_once(&three());
    w.node("a1").syncing = true;
    let found = check(&plan, &three(), &w.observe());
    let kind = ViolationKind::NoCopy { replica: id("a1") };
    assert!(found.iter().any(|v| v.kind == kind), "{found:?}");
}
