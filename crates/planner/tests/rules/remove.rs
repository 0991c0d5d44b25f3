//! Servers that are too many: three shards of two are declared, and more is there.

use shardwright_planner::safety::{NoRemove, why_not_remove, why_not_retire};
use shardwright_planner::{Action, Desired, Limits, Precondition, Request, Step, Waiting, plan};
use shardwright_topology::{ServerName, SlotSet, Timestamp};

use crate::world::{NOW, World, id, says, slots, three};

/// A healthy cluster in which each server has the rank of its place, and primaries the lowest.
fn ranked(shards: u16, replicas: u16) -> World {
    let mut w = World::formed(shards, replicas);
    w.nodes
        .sort_by_key(|n| (n.primary.is_some(), n.name.clone()));
    rank(&mut w);
    w
}

fn rank(w: &mut World) {
    for (node, rank) in w.nodes.iter_mut().zip(0..) {
        node.place.leave_rank = rank;
    }
}

/// Three shards of two and these blank servers beside them.
fn with_blank(names: &[&str]) -> World {
    let mut w = ranked(3, 1);
    for name in names {
        w.add(name).recorded = None;
    }
    rank(&mut w);
    w
}

fn remove_why(w: &World, d: &Desired, name: &str) -> Vec<NoRemove> {
    let o = w.observe();
    why_not_remove(d, &o, &o.servers()[&ServerName(name.to_owned())])
}

fn retire_why(w: &World, d: &Desired, name: &str) -> Vec<NoRemove> {
    let o = w.observe();
    why_not_retire(d, &o, &o.servers()[&ServerName(name.to_owned())])
}

/// Takes the server away, as a runtime would.
fn gone(w: &mut World, name: &str) {
    w.nodes.retain(|n| n.name != name);
}

/// Everyone has forgotten it, and it is a new node.
fn reset(w: &mut World, name: &str) {
    let node = w.node(name);
    node.id = id(&format!("{name}'"));
    node.island = None;
    node.primary = None;
    node.epoch = 0;
    node.keys = 0;
}

#[test]
fn blank_servers_that_are_too_many_do_not_join_and_go_together() {
    let mut w = with_blank(&["x", "y"]);
    assert_eq!(
        w.reasons(&three()),
        [
            "take y away: fewer servers are wanted",
            "take x away: fewer servers are wanted"
        ]
    );
    let plan = w.plan(&three());
    for (step, name) in plan.steps.iter().zip(["y", "x"]) {
        let blank = Precondition::IsBlank { node: id(name) };
        assert_eq!(step.requires, [blank]);
    }
    gone(&mut w, "y");
    assert_eq!(w.steps(&three()), ["take x away"]);
    gone(&mut w, "x");
    assert!(w.plan(&three()).is_settled());
}

/// What is planned and waited for where this node gave its last slot away so many ms ago.
fn planned(w: &World, d: &Desired, node: &str, gave_ms_ago: u64) -> (Vec<String>, Vec<String>) {
    let mut o = w.observe();
    o.gave_all.insert(id(node), Timestamp(NOW - gave_ms_ago));
    let made = plan(d, &o, &Limits::default(), o.at);
    let steps = made.steps.iter().map(|s| s.action.to_string());
    (
        steps.collect(),
        made.waiting.iter().map(ToString::to_string).collect(),
    )
}

#[test]
fn one_that_gave_its_slots_away_stays_to_tell_clients_where_they_are() {
    let mut w = with_blank(&["x"]);
    let x = w.node("x");
    (x.island, x.recorded) = (Some(0), Some(x.id));
    let d = three();
    let (steps, waits) = planned(&w, &d, "x", 14_999);
    assert_eq!(steps, [""; 0]);
    let why = "x is not wanted any more, and stays for now: it tells clients for 15 s who has its slots now";
    assert!(says(&waits, why), "{waits:?}");
    let (steps, _) = planned(&w, &d, "x", 15_000);
    assert!(says(&steps, "forget"), "{steps:?}");
    // Whom a person asks to leave does as well.
    let d = Desired::guest().with(Request::Leave { node: id("x") });
    let (steps, waits) = planned(&w, &d, "x", 14_999);
    assert_eq!(steps, [""; 0]);
    assert!(
        says(&waits, "leaves soon: it tells clients for 15 s"),
        "{waits:?}"
    );
    let (steps, _) = planned(&w, &d, "x", 15_000);
    assert!(says(&steps, "reset"), "{steps:?}");
}

#[test]
fn one_stays_while_one_behind_it_is_more_than_nothing() {
    let mut w = with_blank(&["x", "y"]);
    let last = ServerName("y".to_owned());
    let behind = [NoRemove::NotLast { last }];
    w.node("y").keys = 3;
    assert_eq!(remove_why(&w, &three(), "x"), behind);
    assert!(w.steps(&three()).is_empty());
    w.node("y").keys = 0;
    assert_eq!(remove_why(&w, &three(), "x"), []);
    // Told to end, and silent: what it was is known as long as it is remembered.
    w.hush("y");
    w.node("y").leaving = true;
    assert_eq!(remove_why(&w, &three(), "x"), behind);
}

#[test]
fn none_is_too_many_where_it_is_not_declared_or_not_ours_or_not_formed() {
    let mut w = with_blank(&["x", "y"]);
    let bigger = Desired::managed(4, 1);
    let steps = w.steps(&bigger);
    assert!(steps.iter().all(|s| s.starts_with("tell ")), "{steps:?}");
    assert!(!steps.is_empty());
    assert!(w.steps(&Desired::guest()).is_empty());
    assert_eq!(remove_why(&w, &bigger, "y"), [NoRemove::Wanted]);
    assert_eq!(
        remove_why(&w, &three(), "a"),
        [
            NoRemove::Wanted,
            NoRemove::OwnsSlots { slots: 5461 },
            NoRemove::HoldsKeys { keys: 100 },
            NoRemove::KnowsOthers { nodes: 5 },
            NoRemove::Listed { node: id("a") },
        ]
    );
    w.formed = false;
    assert!(!says(&w.steps(&three()), "take"), "it is not formed");
}

#[test]
fn one_that_is_not_heard_is_waited_for() {
    let mut w = with_blank(&["x", "y"]);
    w.hush("y");
    assert!(w.steps(&three()).is_empty());
    assert!(says(
        &w.waits(&three()),
        "y is not wanted any more, and stays for now: it is not heard"
    ));
    w.node("y").silent = None;
    w.node("y").leaving = true;
    assert_eq!(remove_why(&w, &three(), "y"), [NoRemove::Ending]);
    assert_eq!(w.steps(&three()), ["take x away"]);
}

#[test]
fn one_whose_recorded_node_others_list_stays() {
    let mut w = with_blank(&["x"]);
    w.node("x").recorded = Some(id("c1"));
    assert_eq!(
        remove_why(&w, &three(), "x"),
        [NoRemove::Listed { node: id("c1") }]
    );
    assert!(w.steps(&three()).is_empty());
}

#[test]
fn empty_primaries_leave_before_their_servers_go() {
    let mut w = with_blank(&["x", "y"]);
    for name in ["x", "y"] {
        w.node(name).island = Some(0);
        w.node(name).recorded = Some(id(name));
    }
    let steps = w.reasons(&three());
    assert_eq!(steps.len(), 14, "{steps:?}");
    assert_eq!(steps[0], "make a forget y: fewer servers are wanted");
    assert_eq!(steps[6], "reset y: fewer servers are wanted");
    assert_eq!(steps[13], "reset x: fewer servers are wanted");
    // The forgetting was broken off: it goes on, and nobody greets it.
    w.believes("a", "y", |row| row.address.port = 1);
    let steps = w.steps(&three());
    assert!(!says(&steps, "tell "), "{steps:?}");
    // Each for itself: the last goes while the other is still to leave.
    reset(&mut w, "y");
    let steps = w.steps(&three());
    assert_eq!(steps.len(), 8, "{steps:?}");
    assert_eq!((&*steps[0], &*steps[7]), ("take y away", "reset x"));
    reset(&mut w, "x");
    assert_eq!(w.steps(&three()), ["take y away", "take x away"]);
    gone(&mut w, "y");
    assert_eq!(w.steps(&three()), ["take x away"]);
    gone(&mut w, "x");
    assert!(w.plan(&three()).is_settled());
}

#[test]
fn replicas_leave_while_their_shard_keeps_those_it_should_have() {
    // Three shards of three: a2, b2 and c2 are too many.
    let mut w = World::formed(3, 2);
    w.nodes
        .sort_by_key(|n| (n.name.len(), n.name[1..].to_owned(), n.name.clone()));
    rank(&mut w);
    let steps = w.steps(&three());
    assert_eq!(steps.len(), 21, "{steps:?}");
    assert_eq!(steps[6], "reset c2");
    // The others of its shard may die meanwhile: then it has the only copy.
    let primary_lives = Precondition::OwnsSlots { node: id("c") };
    assert!(w.plan(&three()).steps[6].requires.contains(&primary_lives));
    w.node("c1").link_up = false;
    let needed = NoRemove::CopyNeeded {
        primary: id("c"),
        have: 0,
        want: 1,
    };
    assert_eq!(retire_why(&w, &three(), "c2"), [needed]);
    let steps = w.steps(&three());
    assert!(
        says(&steps, "reset b2") && !says(&steps, "reset c2"),
        "{steps:?}"
    );
    w.node("c1").link_up = true;
    w.hush("a1");
    let server = ServerName("a1".to_owned());
    assert_eq!(
        retire_why(&w, &three(), "c2"),
        [NoRemove::OtherUnheard { server }]
    );
    assert!(w.steps(&three()).is_empty());
    w.node("a1").silent = None;
    let all = ["c2", "b2", "a2"];
    for name in all {
        assert!(says(&w.steps(&three()), &format!("reset {name}")));
        reset(&mut w, name);
    }
    assert_eq!(
        w.steps(&three()),
        all.map(|name| format!("take {name} away"))
    );
    for name in all {
        gone(&mut w, name);
    }
    assert!(w.plan(&three()).is_settled());
}

#[test]
fn a_replica_that_is_too_many_gives_its_seat_to_one_that_stays() {
    let mut w = ranked(3, 1);
    gone(&mut w, "c1");
    w.add("new").island = Some(0);
    w.add_replica("c1", "c");
    rank(&mut w);
    assert_eq!(
        w.reasons(&three()),
        ["make new a replica of c: its shard has too few replicas"]
    );
    w.node("new").primary = Some(id("c"));
    w.node("new").syncing = true;
    assert!(w.steps(&three()).is_empty());
    let waits = w.waits(&three());
    assert!(
        says(&waits, "without it 0 of 1 replicas of c are in sync"),
        "{waits:?}"
    );
    w.node("new").syncing = false;
    assert!(says(&w.steps(&three()), "reset c1"));
    // With nobody to take its place it stays.
    gone(&mut w, "new");
    w.hush("b1");
    assert!(w.steps(&three()).is_empty());
}

#[test]
fn a_primary_that_is_too_many_hands_over_to_a_replica_that_stays() {
    let mut w = ranked(3, 1);
    w.add_replica("c2", "c");
    let at = w
        .nodes
        .iter()
        .position(|n| n.name == "c")
        .expect("it is there");
    let c = w.nodes.remove(at);
    w.nodes.push(c);
    rank(&mut w);
    assert_eq!(
        w.reasons(&three()),
        ["switch over from c to its replica c1: fewer servers are wanted"]
    );
    assert!(says(&w.waits(&three()), "it owns 5461 slots"));
}

#[test]
fn without_replicas_a_primary_that_is_too_many_gets_one_to_hand_over_to() {
    let d = Desired::managed(3, 0);
    let mut w = ranked(3, 0);
    let c = w.nodes.pop().expect("it is there");
    w.add("new").island = Some(0);
    w.nodes.push(c);
    rank(&mut w);
    assert_eq!(w.steps(&d), ["make new a replica of c"]);
    w.node("new").primary = Some(id("c"));
    assert_eq!(w.steps(&d), ["switch over from c to its replica new"]);
    let range = std::mem::take(&mut w.node("c").slots);
    w.node("new").slots = range;
    w.node("new").primary = None;
    w.node("new").epoch = 9;
    w.node("c").primary = Some(id("new"));
    assert!(says(&w.steps(&d), "reset c"));
}

#[test]
fn one_that_owns_slots_of_a_shard_too_many_stays_while_they_move() {
    let mut w = ranked(4, 1);
    w.nodes.sort_by_key(|n| n.name.clone());
    rank(&mut w);
    let steps = w.steps(&three());
    assert!(steps.iter().all(|s| s.starts_with("move ")), "{steps:?}");
    let waits = w.waits(&three());
    assert!(says(&waits, "slots left to move: 4096"), "{waits:?}");
    assert!(says(
        &waits,
        "d1 is not wanted any more, and stays for now: something else is done first"
    ));
    w.node("a1").link_up = false;
    gone(&mut w, "d1");
    assert!(w.steps(&three()).is_empty());
    assert!(says(
        &w.waits(&three()),
        "d is not wanted any more, and stays for now: it owns 4096 slots, which move to others first"
    ));
}

#[test]
fn what_is_more_urgent_comes_first() {
    let mut w = with_blank(&["x"]);
    w.kill("a", 0);
    let steps = w.steps(&three());
    assert!(!says(&steps, "take"), "{steps:?}");
    let mut w = with_blank(&["x"]);
    w.node("x").keys = 3;
    assert!(w.steps(&three()).is_empty());
    let mut w = with_blank(&["x"]);
    w.node("a").slots = slots(1, 5460);
    let steps = w.steps(&three());
    assert!(!says(&steps, "reset") && !says(&steps, "make"), "{steps:?}");
}

/// Made again on more volumes than are declared now: the servers of one shard start a little later than the others.
#[test]
fn a_shard_that_has_not_started_yet_is_neither_lost_nor_forgotten() {
    let mut w = ranked(4, 1);
    for name in ["d", "d1"] {
        w.hush(name);
    }
    let plan = w.plan(&three());
    let lost = |wait: &Waiting| matches!(wait, Waiting::ShardLost { .. } | Waiting::DataLost);
    assert!(!plan.waiting.iter().any(lost), "{plan:?}");
    let replaces = |step: &Step| {
        matches!(
            step.action,
            Action::Forget { .. } | Action::AddSlots { .. } | Action::AssignSlot { .. }
        )
    };
    assert!(!plan.steps.iter().any(replaces), "{plan:?}");
    assert!(!plan.is_settled());
}

#[test]
fn forming_anew_by_consent_gives_nothing_to_one_that_is_too_many() {
    let mut w = World::blank(7);
    w.formed = true;
    rank(&mut w);
    w.node("a").place.host = Some("host-b".to_owned());
    let mut d = three();
    d.consent.lose_data = true;
    let steps = w.steps(&d);
    assert!(says(&steps, "give slots"), "{steps:?}");
    assert!(!says(&steps, "to g"), "{steps:?}");
    assert_eq!(w.get("g").slots, SlotSet::empty());
}

#[test]
fn a_request_to_leave_is_answered_as_before() {
    let w = ranked(3, 2);
    let d = Desired::managed(3, 2).with(Request::Leave { node: id("c2") });
    assert!(says(&w.steps(&d), "reset c2"));
}
