//! A replica that takes its first copy is not elected meanwhile.

use shardwright_planner::{Action, Desired, FailoverPolicy, Request, ViolationKind, check};
use shardwright_topology::{Health, ServerName, Why};

use crate::world::{World, id, says, three};

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
    // An interrupted add-node, begun again, ends what the first one began.
    w.remembers_held_back.clear();
    let again = Desired::guest().with(Request::Join {
        server: ServerName("a1".to_owned()),
        replica: true,
        of: None,
    });
    assert_eq!(electable(&w, &again), [release]);
    // A primary that was a replica so set is set back too.
    let w = World::formed(3, 1);
    w.held_back.borrow_mut().insert(id("a"));
    assert_eq!(
        electable(&w, &three()),
        ["set that a may take its primary's place by itself"]
    );
}

#[test]
fn replicas_without_a_copy_wait_with_us_for_a_primary_that_is_away() {
    let hold = "set that a1 may not take its primary's place by itself";
    // Dead, with the only copy on its disk.
    let mut w = World::formed(3, 1);
    let replica = w.node("a1");
    (replica.offset, replica.keys, replica.link_up) = (0, 0, false);
    w.kill("a", 0);
    assert_eq!(electable(&w, &three()), [hold, "start a"]);
    assert!(!says(&electable(&w, &Desired::guest()), "may not take"));
    // Merely not heard.
    let mut w = World::formed(3, 1);
    w.node("a1").syncing = true;
    w.hush("a").silent = Some(Why::TimedOut);
    assert_eq!(electable(&w, &three()), [hold]);
    w.node("a1").syncing = false;
    assert!(electable(&w, &three()).is_empty(), "it has a copy");
    // Its restart is given its time: then a copy does not count either.
    let first = Desired {
        failover: FailoverPolicy::KeepEveryWrite,
        ..three()
    };
    let mut w = World::formed(3, 1);
    w.kill("a", 0);
    assert_eq!(electable(&w, &first), [hold, "start a"]);
    w.node("a1").leaving = true;
    assert_eq!(electable(&w, &first), [hold, "start a"]);
}

#[test]
fn nobody_is_elected_past_a_primary_that_is_back() {
    let hold = "set that a1 may not take its primary's place by itself";
    let mut w = World::formed(3, 1);
    w.believes("a1", "a", |row| row.health = Health::Failed);
    assert_eq!(electable(&w, &three()), [hold]);
    assert!(electable(&w, &Desired::guest()).is_empty());
    // It stays held back although it has its copy, until it does not hold its primary to have failed.
    w.held_back.borrow_mut().insert(id("a1"));
    assert!(electable(&w, &three()).is_empty());
    let release = World::formed(3, 1);
    release.held_back.borrow_mut().insert(id("a1"));
    let plan = release.plan_once(&three());
    assert!(check(&plan, &three(), &release.observe()).is_empty());
    let kind = ViolationKind::ElectsItself { node: id("a1") };
    let found = check(&plan, &three(), &w.observe());
    assert!(found.iter().any(|v| v.kind == kind), "{found:?}");
    // A primary that most do not reach has failed, whether we hear it or not.
    w.held_back.borrow_mut().clear();
    for other in ["b", "c"] {
        w.believes(other, "a", |row| row.link_up = false);
    }
    assert!(electable(&w, &three()).is_empty());
}

#[test]
fn one_that_just_came_back_comes_first_although_nobody_reaches_it_yet() {
    let hold = "set that a1 may not take its primary's place by itself";
    let mut w = World::formed(3, 1);
    w.believes("a1", "a", |row| row.health = Health::Failed);
    for voter in ["b", "c"] {
        w.believes(voter, "a", |row| row.link_up = false);
    }
    // For long: then most are cut off from it, and the engine is right to elect another.
    assert!(electable(&w, &three()).is_empty());
    // Not one that has just begun, nor before a replica that has: whoever does not know where it is is told later.
    w.node("a").uptime_s = Some(1);
    assert_eq!(electable(&w, &three()), [hold]);
    w.node("a").uptime_s = Some(600);
    w.node("a1").uptime_s = Some(30);
    assert_eq!(electable(&w, &three()), [hold]);
    w.believes("b", "a", |row| row.address.port = 1);
    let steps = electable(&w, &three());
    assert!(steps.len() > 1, "{steps:?}");
    assert_eq!(steps.first().map(String::as_str), Some(hold));
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
