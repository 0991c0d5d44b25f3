//! What a person asks for, once.

use shardwright_planner::{Desired, Manner, Request};
use shardwright_topology::{AttemptKind, Flags, ServerName};

use crate::world::{World, consenting, id, says, slots, three};

fn promote(name: &str, manner: Manner) -> Request {
    Request::Promote {
        node: id(name),
        manner,
    }
}

fn join(server: &str, replica: bool, of: Option<&str>) -> Desired {
    Desired::guest().with(Request::Join {
        server: ServerName(server.to_owned()),
        replica,
        of: of.map(id),
    })
}

#[test]
fn a_switchover_is_asked_for_and_not_again_for_six_seconds() {
    let mut w = World::formed(3, 1);
    let d = three().with(promote("a1", Manner::Switchover));
    assert_eq!(w.steps(&d), ["switch over from a to its replica a1"]);
    w.asked("a1", AttemptKind::Switchover, 5_999);
    assert!(w.steps(&d).is_empty());
    assert!(says(&w.waits(&d), "a1 is becoming the primary"));
    w.attempts.clear();
    w.asked("a1", AttemptKind::Switchover, 6_000);
    assert_eq!(w.steps(&d).len(), 1);
}

#[test]
fn a_switchover_says_every_reason_against_it() {
    let mut w = World::formed(3, 1);
    let d = three().with(promote("a1", Manner::Switchover));
    w.node("a1").link_up = false;
    w.hush("a");
    assert!(w.steps(&d).is_empty());
    let waits = w.waits(&d);
    assert!(
        says(&waits, "not in sync with its primary yet"),
        "{waits:?}"
    );
    assert!(says(&waits, "its primary is not heard"));
    w.hush("a1");
    assert!(says(&w.waits(&d), "the replica itself is not heard"));
}

#[test]
fn a_fulfilled_request_asks_for_nothing() {
    let w = World::formed(3, 1);
    for manner in [Manner::Switchover, Manner::Force, Manner::Takeover] {
        let d = three().with(promote("a", manner));
        assert!(w.plan(&d).is_settled());
    }
    let gone = three().with(Request::Leave { node: id("nobody") });
    assert!(w.plan(&gone).is_settled());
}

#[test]
fn who_joins_goes_where_it_was_asked_to_whatever_another_shard_lacks() {
    let mut w = World::formed(3, 1);
    // `b` has no replica, and `c` has two.
    w.nodes.retain(|n| n.name != "b1");
    w.add_replica("c2", "c");
    w.add("x").island = Some(0);
    assert!(says(
        &w.steps(&join("x", true, Some("a"))),
        "make x a replica of a"
    ));
    assert!(says(
        &w.steps(&join("x", true, None)),
        "make x a replica of b"
    ));
}

#[test]
fn an_unknown_node_is_refused() {
    let w = World::formed(3, 1);
    let d = three().with(promote("nobody", Manner::Switchover));
    assert!(w.steps(&d).is_empty());
    assert!(says(&w.waits(&d), "is in this cluster"));
}

#[test]
fn force_and_takeover_need_a_death() {
    let mut w = World::formed(3, 1);
    for manner in [Manner::Force, Manner::Takeover] {
        let d = Desired::guest().with(promote("a1", manner));
        assert!(w.steps(&d).is_empty());
        assert!(says(&w.waits(&d), "primary a is not proved dead"));
    }
    w.hush("a");
    let d = Desired::guest().with(promote("a1", Manner::Takeover));
    assert!(
        w.steps(&d).is_empty(),
        "a time-out is no death, whoever asks"
    );
}

#[test]
fn a_persons_takeover_passes_an_unheard_sibling_and_is_not_repeated_at_once() {
    let mut w = World::formed(3, 2);
    w.kill("a", 100);
    w.hush("a2");
    let d = Desired::guest().with(promote("a1", Manner::Takeover));
    assert_eq!(w.steps(&d), ["let a1 take over from dead a without votes"]);
    w.asked("a1", AttemptKind::Takeover, 100);
    assert!(w.steps(&d).is_empty());
}

#[test]
fn nobody_takes_over_what_it_did_not_hear_was_given_away() {
    let mut w = World::formed(3, 1);
    let all = w.get("a").slots.clone();
    w.node("a").slots = slots(1, 5_460);
    w.node("b").slots = w.get("b").slots.union(&slots(0, 0));
    w.believes("a1", "a", move |row| row.slots = all.clone());
    w.kill("a", 100);
    for manner in [Manner::Force, Manner::Takeover] {
        let d = Desired::guest().with(promote("a1", manner));
        assert!(!says(&w.steps(&d), "dead a"));
        assert!(says(&w.waits(&d), "does not know yet who took slots of a"));
    }
}

#[test]
fn a_guest_that_was_asked_for_is_met_then_made_a_replica() {
    let mut w = World::formed(3, 1);
    w.add("new");
    assert!(w.steps(&Desired::guest()).is_empty(), "not unasked");
    let d = join("new", true, None);
    assert_eq!(w.steps(&d).len(), 6, "it meets all");
    w.node("new").island = Some(0);
    assert_eq!(w.steps(&d), ["make new a replica of a"]);
    assert_eq!(
        w.steps(&join("new", true, Some("c"))),
        ["make new a replica of c"]
    );
    assert!(
        w.steps(&join("new", false, None)).is_empty(),
        "an empty primary it is already"
    );
}

#[test]
fn a_guest_of_another_cluster_does_not_join_nor_turn_ours_into_strangers() {
    let mut w = World::formed(3, 1);
    for name in ["x", "y", "z"] {
        let range = w.get(match name {
            "x" => "a",
            "y" => "b",
            _ => "c",
        });
        let range = range.slots.clone();
        let node = w.add(name);
        node.island = Some(9);
        node.slots = range;
        node.epoch = 99;
        node.keys = 1_000_000;
    }
    let d = join("x", true, None);
    assert!(w.steps(&d).is_empty(), "{:?}", w.steps(&d));
    let waits = w.waits(&d);
    assert!(
        says(
            &waits,
            "x does not belong here: it already knows 2 other node(s)"
        ),
        "{waits:?}"
    );
    assert!(!says(&waits, "a does not belong here"));
}

#[test]
fn a_node_without_slots_leaves() {
    let w = World::formed(3, 1);
    let d = Desired::guest().with(Request::Leave { node: id("c1") });
    let steps = w.steps(&d);
    assert_eq!(
        steps,
        [
            "make a forget c1",
            "make a1 forget c1",
            "make b forget c1",
            "make b1 forget c1",
            "make c forget c1",
            "reset c1",
        ]
    );
}

#[test]
fn a_node_that_is_still_greeted_leaves_when_that_is_done() {
    let mut w = World::formed(3, 1);
    w.believes("b", "c1", |row| {
        row.flags = row.flags.with(Flags::HANDSHAKE);
    });
    let d = Desired::guest().with(Request::Leave { node: id("c1") });
    let steps = w.steps(&d);
    let leaves = |s: &String| s.contains("forget c1") || s.contains("reset");
    assert!(!steps.iter().any(leaves), "{steps:?}");
    assert!(says(&w.waits(&d), "b has no news of c1 yet"));
}

#[test]
fn a_node_with_slots_or_replicas_does_not_leave_at_once() {
    let mut w = World::formed(3, 1);
    let d = Desired::guest().with(Request::Leave { node: id("c") });
    assert!(w.steps(&d).is_empty());
    let why = "c can't leave: 2 primaries with slots would be left, and a cluster needs 3";
    assert!(says(&w.waits(&d), why));
    w.add("e").island = Some(0);
    w.add_replica("e1", "e");
    let d = Desired::guest().with(Request::Leave { node: id("e") });
    assert_eq!(w.steps(&d), ["make e1 a replica of a"]);
    assert!(says(&w.waits(&d), "e can't leave: 1 replica(s) follow it"));
}

#[test]
fn a_replica_leaves_only_in_sync_if_it_has_anything() {
    let mut w = World::formed(3, 1);
    w.node("c1").link_up = false;
    let d = Desired::guest().with(Request::Leave { node: id("c1") });
    assert!(w.steps(&d).is_empty());
    assert!(says(&w.waits(&d), "c1 can't leave: it is not in sync yet"));
    assert!(says(&w.steps(&consenting(d.clone())), "reset c1"));
    w.node("c1").keys = 0;
    assert!(says(&w.steps(&d), "reset c1"));
}

#[test]
fn a_dead_node_that_was_asked_to_leave_is_forgotten() {
    let mut w = World::formed(3, 1);
    w.kill("c1", 60_000);
    let d = Desired::guest().with(Request::Leave { node: id("c1") });
    assert_eq!(w.steps(&d).len(), 5);
}
