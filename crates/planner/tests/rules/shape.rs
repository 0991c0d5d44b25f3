//! Shards that come, shards that go, and slots that move. A plan is carried out in the hand-made world, so that each
//! story ends where nothing is left to do.

use shardwright_planner::{Action, Desired, Reason, Request, Step};
use shardwright_topology::{EngineKind, NoWrites, OpenSlot, SlotSet, Version};

use crate::world::{World, id, says, slot, slots, three};

/// A healthy cluster in which the servers have the ranks of their order: primaries first, if so wanted.
fn ranked(shards: u16, replicas: u16, primaries_first: bool) -> World {
    let mut w = World::formed(shards, replicas);
    if primaries_first {
        w.nodes
            .sort_by_key(|n| (n.primary.is_some(), n.name.clone()));
    }
    rank(&mut w);
    w
}

fn rank(w: &mut World) {
    for (node, rank) in w.nodes.iter_mut().zip(0..) {
        node.place.leave_rank = rank;
    }
}

/// Three shards of two, and two more servers that have joined.
fn with_two_more() -> World {
    let mut w = ranked(3, 1, true);
    for name in ["d", "e"] {
        w.add(name).island = Some(0);
    }
    rank(&mut w);
    w
}

fn node_mut(w: &mut World, node: shardwright_topology::NodeId) -> &mut crate::world::Node {
    let at = w.nodes.iter().position(|n| n.id == node);
    &mut w.nodes[at.expect("a step names a node that is there")]
}

/// Does what a step says, at once and for all to see.
fn carry_out(w: &mut World, step: &Step) {
    match &step.action {
        Action::Replicate { node, primary } => {
            node_mut(w, node.node()).primary = Some(*primary);
        }
        Action::MoveSlots { .. } => w.move_slots(step),
        Action::Switchover { replica, primary } => {
            let epoch = w.nodes.iter().map(|n| n.epoch).max().unwrap_or(0) + 1;
            let old = node_mut(w, *primary);
            let slots = std::mem::take(&mut old.slots);
            old.primary = Some(*replica);
            let new = node_mut(w, *replica);
            (new.primary, new.slots, new.epoch) = (None, slots, epoch);
            for node in &mut w.nodes {
                if node.primary == Some(*primary) && node.id != *replica {
                    node.primary = Some(*replica);
                }
            }
        }
        Action::Reset { node } => {
            let node = node_mut(w, node.node());
            node.id = id(&format!("{}'", node.name));
            (node.island, node.primary, node.epoch, node.keys) = (None, None, 0, 0);
        }
        Action::RemoveServer { server } => w.nodes.retain(|n| n.name != server.0),
        // The one who is reset is in no island any more.
        Action::Forget { .. } => {}
        other => panic!("no story here has this step: {other}"),
    }
}

/// Carries out plan after plan. Returns what kinds of steps there were, each as often as it began anew.
fn play(w: &mut World, d: &Desired) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    for _ in 0..200 {
        let plan = w.plan(d);
        if plan.is_settled() {
            return kinds;
        }
        assert!(!plan.steps.is_empty(), "{:?}", w.waits(d));
        for step in &plan.steps {
            let text = w.name_all(&step.action.to_string());
            let kind = text.split(' ').next().unwrap_or_default().to_owned();
            if kinds.last() != Some(&kind) {
                kinds.push(kind);
            }
        }
        for step in plan.steps {
            carry_out(w, &step);
        }
    }
    panic!("it does not end: {:?}", w.reasons(d));
}

fn owned(w: &World) -> Vec<(String, u16)> {
    let owners = w.nodes.iter().filter(|n| !n.slots.is_empty());
    owners.map(|n| (n.name.clone(), n.slots.count())).collect()
}

fn counts(w: &World) -> Vec<u16> {
    let mut counts: Vec<u16> = owned(w).into_iter().map(|(_, n)| n).collect();
    counts.sort_unstable();
    counts
}

fn assign(goal: &[(&str, SlotSet)]) -> Request {
    Request::Assign {
        goal: goal.iter().map(|(n, s)| (id(n), s.clone())).collect(),
    }
}

#[test]
fn a_new_shard_gets_its_replica_before_its_slots() {
    let mut w = with_two_more();
    let d = Desired::managed(4, 1);
    assert_eq!(
        w.reasons(&d),
        ["make e a replica of d: its shard has too few replicas"]
    );
    w.node("e").primary = Some(id("d"));
    w.node("e").syncing = true;
    assert!(w.steps(&d).is_empty());
    let waits = w.waits(&d);
    assert!(
        says(
            &waits,
            "slots left to move: 4096, which wait: replica e is not in sync"
        ),
        "{waits:?}"
    );
    w.node("e").syncing = false;
    assert_eq!(
        w.reasons(&d),
        [
            "move slots 4949-5460 (512) from a to d: one more shard is wanted",
            "move slots 10411-10922 (512) from b to d: one more shard is wanted",
            "move slots 15872-16383 (512) from c to d: one more shard is wanted",
        ]
    );
    assert_eq!(play(&mut w, &d), ["move"]);
    assert_eq!(counts(&w), [4096; 4]);
}

#[test]
fn new_shards_wait_until_there_are_nodes_for_their_replicas_too() {
    let mut w = with_two_more();
    w.nodes.retain(|n| n.name != "e");
    let d = Desired::managed(4, 1);
    assert!(w.steps(&d).is_empty());
    assert_eq!(
        w.waits(&d),
        ["new shards need 2 free nodes, and 1 are there"]
    );
    assert!(w.plan(&d).is_stuck());
}

#[test]
fn heads_of_new_shards_are_on_the_hosts_with_the_fewest_primaries() {
    let mut w = with_two_more();
    w.node("d").place.host = Some("host-a".to_owned());
    let d = Desired::managed(4, 1);
    assert_eq!(w.steps(&d), ["make d a replica of e"]);
}

#[test]
fn a_replica_that_no_shard_needs_becomes_the_head_of_a_new_one() {
    // Nine servers, as three shards of three or as four of two and one more.
    let mut w = ranked(3, 3, true);
    let d = Desired::managed(4, 2);
    assert_eq!(w.reasons(&d), ["reset c3: one more shard is wanted"]);
    let mut other = ranked(3, 3, true);
    other.node("a3").syncing = true;
    assert!(other.steps(&d).is_empty());
    // It has joined again, as a new node, and those that others do not need follow it.
    let plan = w.plan(&d);
    carry_out(&mut w, &plan.steps[0]);
    let new = w.get("c3").id;
    let node = w.node("c3");
    (node.island, node.recorded) = (Some(0), Some(new));
    assert_eq!(play(&mut w, &d), ["make", "move"]);
    assert_eq!(counts(&w), [4096; 4]);
}

#[test]
fn paused_no_slot_is_given_out_and_one_that_is_half_moved_is_finished() {
    let mut w = with_two_more();
    w.node("e").primary = Some(id("d"));
    let wanted = Desired::managed(4, 1);
    let paused = Desired {
        moves_paused: true,
        ..wanted.clone()
    };
    for step in w.plan(&wanted).steps {
        carry_out(&mut w, &step);
    }
    assert!(w.steps(&paused).is_empty());
    assert_eq!(
        w.waits(&paused),
        ["slots left to move: 2560, which wait: they are paused until a person resumes them"]
    );
    let plan = w.plan(&paused);
    assert!(plan.is_stuck() && plan.is_paused());
    assert_eq!(plan.moves().map(|(left, _)| left), Some(2_560));
    // What was under way when it was paused.
    let (slot, peer) = (slot(0), id("d"));
    w.node("a").open = vec![OpenSlot::Migrating { slot, to: peer }];
    w.node("d").open = vec![OpenSlot::Importing {
        slot,
        from: id("a"),
    }];
    w.node("a").keys_in_slot = [(slot, 4)].into();
    w.node("d").keys_in_slot = [(slot, 5)].into();
    assert_eq!(
        w.steps(&paused),
        ["move up to 500 keys of slot 0 from a to d"]
    );
    (w.node("a").open, w.node("d").open) = (Vec::new(), Vec::new());
    // Another number counts at once, and where nothing has to move nothing is paused.
    assert_eq!(
        w.plan(&Desired {
            moves_paused: true,
            ..three()
        })
        .moves()
        .map(|(left, _)| left),
        Some(1_536)
    );
    assert_eq!(play(&mut w, &wanted), ["move"]);
    assert!(w.plan(&paused).is_settled());
}

#[test]
fn two_shards_more_and_two_fewer_return_the_counts() {
    let mut w = ranked(3, 1, false);
    let before = counts(&w);
    for name in ["d", "d1", "e", "e1"] {
        w.add(name).island = Some(0);
    }
    rank(&mut w);
    assert_eq!(play(&mut w, &Desired::managed(5, 1)), ["make", "move"]);
    assert_eq!(counts(&w), [3276, 3277, 3277, 3277, 3277]);
    let kinds = play(&mut w, &three());
    assert_eq!(kinds[0], "move");
    assert!(kinds.contains(&"take".to_owned()), "{kinds:?}");
    assert_eq!(counts(&w), before);
    assert_eq!(w.nodes.len(), 6);
}

#[test]
fn taken_back_in_the_middle_no_empty_shard_remains() {
    let mut w = with_two_more();
    let d = Desired::managed(4, 1);
    for step in w.plan(&d).steps {
        carry_out(&mut w, &step);
    }
    // Before a slot has moved.
    let steps = w.steps(&three());
    assert!(says(&steps, "make e a replica of"), "{steps:?}");
    // And after.
    for step in w.plan(&d).steps {
        carry_out(&mut w, &step);
    }
    assert_eq!(w.get("d").slots.count(), 3 * 512);
    let reasons = w.reasons(&three());
    assert!(
        reasons
            .iter()
            .all(|r| r.ends_with("from d to a: its shard gives up its slots")
                || r.ends_with("from d to b: its shard gives up its slots")
                || r.ends_with("from d to c: its shard gives up its slots")),
        "{reasons:?}"
    );
    play(&mut w, &three());
    assert_eq!(counts(&w), [5461, 5461, 5462]);
    assert_eq!(w.nodes.len(), 6);
    assert!(
        w.nodes
            .iter()
            .all(|n| n.primary.is_some() || !n.slots.is_empty())
    );
}

#[test]
fn the_shard_with_most_members_on_servers_that_go_gives_up_its_slots() {
    // Four shards of two: the last two servers are d's.
    let mut w = ranked(4, 1, false);
    play(&mut w, &three());
    let names: Vec<String> = owned(&w).into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(w.nodes.len(), 6);
    // All primaries stay, and two replicas go: the shards that have them come first, then who has fewest slots.
    let mut w = ranked(4, 1, true);
    w.node("d").slots = slots(12_288, 16_382);
    w.node("a").slots = w.get("a").slots.union(&slots(16_383, 16_383));
    let kinds = play(&mut w, &three());
    assert_eq!(kinds[0], "move");
    let names: Vec<String> = owned(&w).into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let primaries: Vec<_> = w.nodes.iter().filter_map(|n| n.primary).collect();
    assert_eq!(primaries.len(), 3);
    assert_eq!(counts(&w), [5461, 5461, 5462]);
}

#[test]
fn a_shard_that_stays_is_handed_over_by_the_server_that_goes() {
    // a is on the last server: its shard has as many members there as d's, and more slots.
    let mut w = ranked(4, 1, true);
    let at = w
        .nodes
        .iter()
        .position(|n| n.name == "a")
        .expect("it is there");
    let a = w.nodes.remove(at);
    w.nodes.push(a);
    rank(&mut w);
    w.node("d").slots = slots(12_289, 16_383);
    w.node("c").slots = slots(8_192, 12_288);
    let kinds = play(&mut w, &three());
    assert!(kinds.contains(&"move".to_owned()), "{kinds:?}");
    assert_eq!(counts(&w), [5461, 5461, 5462]);
    assert_eq!(w.nodes.len(), 6);
    assert!(w.nodes.iter().all(|n| n.name != "a"));
}

#[test]
fn a_replica_that_only_the_shard_that_goes_could_give_is_freed_first() {
    let mut w = ranked(4, 1, false);
    w.node("c1").primary = Some(id("d"));
    w.nodes.retain(|n| n.name != "d1");
    w.add("x").recorded = None;
    w.node("x").place.leave_rank = 7;
    let steps = w.steps(&three());
    let to_c = steps.iter().any(|s| s.ends_with("to c"));
    assert!(says(&steps, "from d to a") && !to_c, "{steps:?}");
    let kinds = play(&mut w, &three());
    assert_eq!(kinds[..3], ["move", "make", "move"], "{kinds:?}");
    assert_eq!(w.get("c1").primary, Some(id("c")));
    assert_eq!(counts(&w), [5461, 5461, 5462]);
}

#[test]
fn without_replicas_shards_come_and_go_too() {
    let mut w = ranked(3, 0, true);
    w.add("d").island = Some(0);
    rank(&mut w);
    assert_eq!(play(&mut w, &Desired::managed(4, 0)), ["move"]);
    assert_eq!(counts(&w), [4096; 4]);
    play(&mut w, &Desired::managed(3, 0));
    assert_eq!(counts(&w), [5461, 5461, 5462]);
    assert_eq!(w.nodes.len(), 3);
}

#[test]
fn a_declared_cluster_is_kept_even_and_one_as_found_is_not() {
    let mut w = World::formed(3, 1);
    w.node("a").slots = slots(0, 8_000);
    w.node("b").slots = slots(8_001, 10_922);
    let reasons = w.reasons(&three());
    assert_eq!(
        reasons,
        ["move slots 7489-8000 (512) from a to b: some shards own more slots than others"]
    );
    assert!(w.plan(&Desired::guest()).is_settled());
    play(&mut w, &three());
    assert_eq!(counts(&w), [5461, 5461, 5462]);
}

#[test]
fn nothing_moves_while_something_else_is_to_do() {
    let mut w = World::formed(3, 1);
    w.node("a").slots = slots(0, 8_000);
    w.node("b").slots = slots(8_001, 10_922);
    w.kill("c1", 100);
    assert_eq!(w.steps(&three()), ["start c1"]);
    let waits = w.waits(&three());
    assert!(
        says(&waits, "something else is done first; c1 is not heard"),
        "{waits:?}"
    );
}

#[test]
fn slots_go_where_a_person_wants_them() {
    let mut w = World::formed(3, 1);
    let goal = [("a", slots(5_000, 5_999)), ("c", slots(0, 9))];
    let d = Desired::guest().with(assign(&goal));
    // Who gets slots gives none in the same pass.
    let first = ["move slots 5488-5999 (512) from b to a: it was asked for"];
    assert_eq!(w.reasons(&d), first);
    assert!(says(&w.waits(&d), "slots left to move: 549"));
    assert_eq!(play(&mut w, &d), ["move"]);
    assert_eq!(w.get("c").slots.intersection(&slots(0, 10)), slots(0, 9));
    assert_eq!(w.get("a").slots, slots(10, 5_999));
}

#[test]
fn what_cannot_be_assigned_is_refused() {
    let w = World::formed(3, 1);
    let waits = |goal: &[(&str, SlotSet)]| {
        let d = Desired::guest().with(assign(goal));
        assert!(w.steps(&d).is_empty());
        w.waits(&d).join("; ")
    };
    assert_eq!(
        waits(&[("a", slots(0, 9)), ("b", slots(9, 9))]),
        "slots 9 are to go to two nodes"
    );
    assert!(waits(&[("nobody", slots(0, 9))]).ends_with("is no primary of this cluster"));
    // Whose place another took since it was asked for.
    for node in ["a", "a1"] {
        let d = Desired::guest().with(assign(&[(node, slots(0, 9))]));
        assert!(w.plan(&d).is_settled(), "{node} has them");
    }
}

#[test]
fn a_primary_that_was_asked_to_leave_gives_its_slots_to_those_with_the_fewest() {
    let mut w = World::formed(4, 1);
    w.node("a").slots = slots(0, 6_000);
    w.node("b").slots = slots(6_001, 8_191);
    let d = Desired::guest().with(Request::Leave { node: id("d") });
    let mut moves = 0;
    while w.get("d").id == id("d") {
        let plan = w.plan(&d);
        assert!(!plan.steps.is_empty(), "{:?}", w.waits(&d));
        for step in plan.steps {
            moves += usize::from(matches!(step.action, Action::MoveSlots { .. }));
            carry_out(&mut w, &step);
        }
    }
    assert_eq!(moves, 9);
    assert_eq!(
        w.get("a").slots,
        slots(0, 6_000),
        "it had more than the others will have"
    );
    assert_eq!(
        owned(&w),
        [("a", 6_001), ("b", 5_191), ("c", 5_192)].map(|(n, c)| (n.to_owned(), c))
    );
}

#[test]
fn a_move_names_why() {
    let w = World::formed(3, 1);
    let d = Desired::guest().with(assign(&[("b", slots(0, 0))]));
    let plan = w.plan(&d);
    assert_eq!(plan.steps[0].because, Reason::Asked);
    assert!(!plan.is_settled());
    assert!(says(&w.waits(&d), "slots left to move: 1"));
}

#[test]
fn slots_do_not_go_to_a_version_that_cannot_read_them() {
    let version = |major, minor| Version {
        major,
        minor,
        patch: 1,
    };
    let asked = |from: (EngineKind, Version), to: (EngineKind, Version)| {
        let mut w = World::formed(3, 0);
        (w.node("a").engine, w.node("a").version) = from;
        (w.node("b").engine, w.node("b").version) = to;
        let d = Desired::guest().with(assign(&[("b", slots(0, 0))]));
        let plan = w.plan(&d);
        assert_eq!(plan.steps.is_empty(), plan.is_stuck());
        (!plan.steps.is_empty(), w.waits(&d))
    };
    let (old, new) = (
        (EngineKind::Redis, version(7, 0)),
        (EngineKind::Redis, version(7, 4)),
    );
    let (eight, nine) = (
        (EngineKind::Valkey, version(8, 0)),
        (EngineKind::Valkey, version(9, 1)),
    );
    let all = [old, new, eight, nine];
    let reads = |from| all.map(|to| asked(from, to).0);
    assert_eq!(reads(old), [true, true, true, true]);
    assert_eq!(reads(new), [false, true, false, false]);
    assert_eq!(reads(eight), [false, true, true, true]);
    assert_eq!(reads(nine), [false, false, false, true]);
    assert_eq!(
        asked(new, old).1,
        [
            "slots left to move: 1, which wait: b runs Redis 7.0.1, which can't read the keys of Redis 7.4.1, as a would send them"
        ]
    );
}

#[test]
fn slots_wait_while_an_end_of_their_move_refuses_writes() {
    let guest = Desired::guest().with(assign(&[("b", slots(0, 0))]));
    let with = |node: &str, why: NoWrites| {
        let mut w = World::formed(3, 1);
        w.node(node).no_writes = Some(why);
        w
    };
    let few = NoWrites::Replicas { good: 0 };
    // A replica that is silent is brought back by a person; one that answers is on its way.
    let mut w = with("b", few);
    w.hush("b1");
    assert!(says(
        &w.waits(&guest),
        "b refuses writes: fewer replicas keep up than min-replicas-to-write asks for (NOREPLICAS)"
    ));
    assert_eq!(w.steps(&guest), [""; 0]);
    assert!(w.plan(&guest).is_stuck());
    let mut w = with("b", few);
    w.node("b1").syncing = true;
    assert!(w.steps(&guest).is_empty() && !w.plan(&guest).is_stuck());
    // Keys can't be moved away from such a source either, except by Valkey 9 itself.
    let mut w = with("a", NoWrites::Snapshot);
    assert!(says(
        &w.waits(&guest),
        "a refuses writes: its last snapshot failed"
    ));
    for node in &mut w.nodes {
        (node.engine, node.version.major) = (EngineKind::Valkey, 9);
    }
    assert!(says(&w.steps(&guest), "from a to b"));
    // A full memory is judged by what would come.
    assert!(says(
        &with("b", NoWrites::Memory).steps(&guest),
        "from a to b"
    ));
}
