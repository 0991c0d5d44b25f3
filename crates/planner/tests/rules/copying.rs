//! What proves that a replica holds its primary's data, and whom it copies.

use shardwright_planner::evidence::{Copy, copies_elsewhere};
use shardwright_planner::safety::{NoSwitchover, why_not_switch_over};
use shardwright_planner::{
    Action, Limits, Manner, Plan, ProblemKind, Request, Step, ViolationKind, Waiting, check,
    diagnose,
};
use shardwright_topology::{Address, FullCopies, Seen, Stream, Timestamp, Why};

use crate::world::{NOW, World, id, says, slot, stream, three};

/// A replica that was another primary, and has not taken its first copy: an offset, a stream and no link of its own.
fn first_copy() -> World {
    let mut w = World::formed(3, 1);
    let replica = w.node("a1");
    replica.offset = 2_381_145;
    replica.keys = 0;
    replica.link_up = false;
    replica.never_linked = true;
    replica.stream = Some(stream("of its former life"));
    w
}

/// Whether the linter refuses to let `a1` take the place of the dead `a`.
fn refused(w: &World) -> bool {
    let mut healthy = World::formed(3, 1);
    healthy.kill("a", 0);
    let plan = healthy.plan(&three());
    let found = check(&plan, &three(), &w.observe());
    let no_copy = ViolationKind::NoCopy { replica: id("a1") };
    found.iter().any(|v| v.kind == no_copy)
}

fn takes_the_place(w: &World) -> bool {
    let plan = w.plan(&three());
    let promotes = |a: &Action| matches!(a, Action::Failover { .. } | Action::Takeover { .. });
    plan.steps.iter().any(|s| promotes(&s.action))
}

#[test]
fn an_offset_of_a_former_life_is_no_copy() {
    let mut w = first_copy();
    w.kill("a", 0)
        .last_heard
        .as_mut()
        .expect("it was heard")
        .server
        .replication = shardwright_topology::Replication::Primary {
        offset: 5_000,
        replicas: Vec::new(),
    };
    assert!(!takes_the_place(&w));
    assert!(says(&w.waits(&three()), "is proved to have a copy"));
    w.node("a").last_heard = None;
    assert!(
        !takes_the_place(&w),
        "nor when nobody remembers the primary"
    );
}

#[test]
fn nor_does_a_person_promote_it_by_force() {
    let mut w = first_copy();
    w.kill("a", 0).last_heard = None;
    w.node("a").disk = Seen::Unknown(Why::NotAsked);
    for manner in [Manner::Force, Manner::Takeover] {
        let node = id("a1");
        let d = three().with(Request::Promote { node, manner });
        assert!(says(
            &w.waits(&d),
            "nothing proves that it has a copy of the data of"
        ));
        let promotes = |a: &Action| matches!(a, Action::Failover { .. } | Action::Takeover { .. });
        assert!(!w.plan(&d).steps.iter().any(|s| promotes(&s.action)));
        // What can't come back may be given up.
        let mut given_up = d.clone();
        given_up.consent.lose_data = true;
        assert!(w.plan(&given_up).steps.iter().any(|s| promotes(&s.action)));
    }
}

#[test]
fn a_link_that_was_seen_or_lost_is_a_copy_where_the_stream_is_not_known() {
    let mut w = World::formed(3, 1);
    w.kill("a", 0).last_heard = None;
    w.node("a1").link_up = false;
    assert!(
        takes_the_place(&w),
        "it lost a link, and its stream is no other shard's"
    );
    w.held_back.borrow_mut().insert(id("a1"));
    assert!(!takes_the_place(&w), "the link that it lost was another's");
    w.held_back.borrow_mut().clear();
    w.node("a1").stream = Some(stream(&id("b").to_string()));
    assert!(!takes_the_place(&w), "it has the stream of another shard");
    w.linked = vec![(id("a1"), id("a"))];
    assert!(
        !takes_the_place(&w),
        "its link was seen, and it read another shard's stream since"
    );
    w.node("a1").stream = Some(stream("nobody's"));
    w.held_back.borrow_mut().insert(id("a1"));
    assert!(takes_the_place(&w), "its link was seen");
}

#[test]
fn the_stream_that_the_primary_continued_counts_up_to_its_promotion() {
    let mut w = World::formed(3, 1);
    w.node("a").stream = Some(Stream {
        id: "new".to_owned(),
        before: Some(("old".to_owned(), 3_000)),
    });
    let replica = w.node("a1");
    (replica.link_up, replica.never_linked, replica.offset) = (false, true, 3_000);
    replica.stream = Some(stream("old"));
    w.kill("a", 120_000);
    if let Some(view) = &mut w.node("a").last_heard {
        view.server.replication = shardwright_topology::Replication::Primary {
            offset: 5_000,
            replicas: Vec::new(),
        };
    }
    assert!(takes_the_place(&w));
    w.node("a1").offset = 3_001;
    assert!(!takes_the_place(&w));
}

#[test]
fn a_replica_that_copies_from_elsewhere_is_told_anew_whom_it_follows() {
    let mut w = World::formed(3, 1);
    let from = Address::loopback(9_999);
    w.node("a1").target = Some(from.clone());
    // The primary would list it if it were connected there.
    w.unlisted.push(id("a1"));
    let reasons = w.reasons(&three());
    assert_eq!(
        reasons,
        [
            "make a1 a replica of a: it copies from 127.0.0.1:9999, which is not its primary's address"
        ]
    );
    let node = id("a1");
    let problems = diagnose(&w.observe());
    let named = ProblemKind::CopiesElsewhere { node, from };
    assert!(problems.iter().any(|p| p.kind == named));
    w.kill("a", 0);
    assert!(
        !takes_the_place(&w),
        "what it copied is nobody's that we know"
    );
}

#[test]
fn a_replica_that_copies_from_elsewhere_takes_nobodys_place() {
    let mut w = World::formed(3, 1);
    w.node("a1").target = Some(Address::loopback(9_999));
    w.unlisted.push(id("a1"));
    let found = why_not_switch_over(
        &w.observe(),
        &Limits::default(),
        id("a1"),
        Timestamp(crate::world::NOW),
    );
    let from = Address::loopback(9_999);
    assert!(
        found.contains(&NoSwitchover::CopiesElsewhere { from }),
        "{found:?}"
    );
}

#[test]
fn the_last_keys_are_not_replaced_by_an_empty_primarys() {
    let mut w = World::formed(3, 1);
    let from = Address::loopback(9_999);
    w.node("a1").target = Some(from.clone());
    w.node("a1").stream = Some(stream("of before the primary lost its data"));
    w.node("a").keys = 0;
    w.unlisted.push(id("a1"));
    let (node, primary) = (id("a1"), id("a"));
    let keys = w.get("a1").keys;
    assert!(keys > 0);
    let plan = w.plan(&three());
    let waits = Waiting::CopiesElsewhere {
        node,
        primary,
        from,
        drops: Some(keys),
    };
    assert!(plan.waiting.contains(&waits), "{plan:?}");
    let follows = |p: &Plan| {
        p.steps
            .iter()
            .any(|s| matches!(s.action, Action::Replicate { .. }))
    };
    assert!(!follows(&plan));
    // They are those of a node that lives: it copies that one's stream, by an address that is not its primary's.
    let mut theirs = World::formed(3, 1);
    let at = theirs.get("b").address.clone();
    let others = theirs.view(theirs.get("b")).server.stream;
    theirs.node("a").keys = 0;
    theirs.unlisted.push(id("a1"));
    let replica = theirs.node("a1");
    (replica.target, replica.stream) = (Some(at), others);
    let plan = theirs.plan(&three());
    assert!(follows(&plan), "{plan:?}");
    theirs.node("a1").link_up = false;
    assert!(!follows(&theirs.plan(&three())));
    let found = check(&plan, &three(), &theirs.observe());
    let lost = ViolationKind::WouldLoseData { node };
    assert!(found.iter().any(|v| v.kind == lost), "{found:?}");
    let mut d = three();
    d.consent.lose_data = true;
    let given_up = w.plan(&d);
    assert!(follows(&given_up));
    let found = check(&given_up, &three(), &w.observe());
    let lost = ViolationKind::WouldLoseData { node };
    assert!(found.iter().any(|v| v.kind == lost), "{found:?}");
}

#[test]
fn the_linter_refuses_a_switchover_to_one_that_copies_from_elsewhere() {
    let mut w = World::formed(3, 1);
    let d = three().with(Request::Promote {
        node: id("a1"),
        manner: Manner::Switchover,
    });
    let plan = w.plan(&d);
    assert!(
        plan.steps
            .iter()
            .any(|s| matches!(s.action, Action::Switchover { .. }))
    );
    assert!(check(&plan, &d, &w.observe()).is_empty());
    w.node("a1").target = Some(Address::loopback(9_999));
    w.unlisted.push(id("a1"));
    let refused = ViolationKind::NoCopy { replica: id("a1") };
    let found = check(&plan, &d, &w.observe());
    assert!(found.iter().any(|v| v.kind == refused), "{found:?}");
}

#[test]
fn a_host_name_and_an_ip_address_may_be_one() {
    let mut w = World::formed(3, 1);
    let name = shardwright_topology::Host::parse("redis-0.redis");
    let port = w.get("a").address.port;
    w.node("a1").target = Some(Address::new(name, port));
    w.unlisted.push(id("a1"));
    assert!(w.plan(&three()).is_settled());
}

#[test]
fn the_linter_refuses_to_promote_what_is_no_copy() {
    let mut before = World::formed(3, 1);
    before.kill("a", 0);
    let mut w = first_copy();
    w.unlisted.push(id("a1"));
    w.kill("a", 0);
    let replica = id("a1");
    assert!(!refused(&before));
    assert!(refused(&w), "its stream is another");
    let mut w = World::formed(3, 1);
    w.node("a1").target = Some(Address::loopback(9_999));
    w.unlisted.push(replica);
    w.kill("a", 0);
    assert!(refused(&w), "it copies from elsewhere");
}

#[test]
fn a_link_to_another_that_came_in_the_primarys_place_is_no_copy() {
    // a lost its directory and all with it, and the node that was born there is copied by a's replica, by its address.
    let mut w = World::formed(3, 1);
    w.lose_directory("a", "new");
    let at = w.get("new").address.clone();
    let replica = w.node("a1");
    (replica.target, replica.keys, replica.link_up) = (Some(at), 0, true);
    assert!(Copy::prove(&w.observe(), id("a1"), id("a")).is_none());
    // It is held back once, and stays so: what its link shows is no copy of a.
    w.held_back.borrow_mut().insert(id("a1"));
    let steps = w.plan_once(&three()).steps;
    let sets =
        |s: &&Step| matches!(s.action, Action::SetElectable { node, .. } if node == id("a1"));
    assert_eq!(steps.iter().filter(sets).count(), 0, "{steps:?}");
}

/// `a` died before anybody who remembers its stream looked; its replica has no link.
fn found_without_a_link() -> World {
    let mut w = World::formed(3, 1);
    w.kill("a", 0).last_heard = None;
    w.cut_off("a", 5);
    let replica = w.node("a1");
    (replica.link_up, replica.keys) = (false, 135);
    w
}

#[test]
fn a_link_that_was_lost_to_a_former_primary_is_no_copy() {
    let w = found_without_a_link();
    assert!(takes_the_place(&w));
    // It holds keys of another shard: those of the primary that it followed before.
    let mut w = found_without_a_link();
    w.node("a1").stray_keys = Seen::Known([(slot(7), 0), (slot(9_000), 135)].into());
    assert!(!takes_the_place(&w));
    assert!(refused(&w), "the linter as well");
    // Nobody counted.
    let mut w = found_without_a_link();
    w.node("a1").stray_keys = Seen::Unknown(Why::NotAsked);
    assert!(!takes_the_place(&w));
    assert!(refused(&w));
    // Its primary still spoke on the bus, long after the link was lost: it was lost to another, or is behind.
    let mut w = found_without_a_link();
    w.believes("a1", "a", |row| row.pong_received_ms = NOW - 1_000);
    assert!(!takes_the_place(&w));
    assert!(refused(&w));
}

#[test]
fn what_only_the_primary_believes_of_its_address_is_no_proof() {
    // a came back at another address. Its own row still has the old one, from which its replica copies.
    let mut w = World::formed(3, 1);
    let old = w.get("a").address.clone();
    let mut new = old.clone();
    new.port = 7_999;
    w.node("a").address = new;
    let back = old.clone();
    w.believes("a", "a", move |row| row.address = back.clone());
    let replica = w.node("a1");
    (replica.target, replica.link_up) = (Some(old.clone()), false);
    w.unlisted.push(id("a1"));
    assert_eq!(copies_elsewhere(&w.observe(), id("a1")), Some(old.clone()));
    // Where others believe it too, the two are two ways to one server.
    let back = old.clone();
    w.believes("b", "a", move |row| row.address = back.clone());
    assert_eq!(copies_elsewhere(&w.observe(), id("a1")), None);
}

#[test]
fn a_copy_that_begins_again_and_again_is_named_with_its_likely_cause() {
    let copies = |begun, closed, limit| {
        let mut w = World::formed(3, 1);
        w.node("a1").syncing = true;
        w.node("a").full_copies = Some(FullCopies {
            begun,
            closed,
            buffer_limit_bytes: limit,
        });
        let problems = diagnose(&w.observe());
        let named = problems.iter().find_map(|p| match &p.kind {
            ProblemKind::RepeatedCopy(_) => Some(p.kind.mend("T")),
            _ => None,
        });
        let waits = says(&w.waits(&three()), "of replica a1 begins again and again");
        assert_eq!(named.is_some(), waits);
        named
    };
    let named = copies(3, Some(2), Some(1_024)).expect("two were closed");
    assert!(
        named.ends_with("CONFIG SET client-output-buffer-limit \"replica 1073741824 0 0\""),
        "{named}"
    );
    assert_eq!(copies(1, Some(1), Some(1_024)), None, "its first copy");
    assert_eq!(copies(5, Some(0), Some(1_024)), None, "nobody was closed");
    assert_eq!(copies(5, Some(4), None), None, "there is no limit");
    // An engine that does not count them: one copy each, and two more.
    assert_eq!(copies(2, None, Some(1_024)), None);
    assert!(copies(3, None, Some(1_024)).is_some());
}
