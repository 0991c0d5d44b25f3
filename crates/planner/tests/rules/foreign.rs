//! A cluster that was met by mistake: its nodes are forgotten by all of ours at once, what they took is taken back, and it is
//! said who they are and what is lost.

use std::collections::BTreeSet;

use shardwright_planner::evidence::{ForeignNode, OwnData};
use shardwright_planner::{
    Action, Desired, Limits, Memory, Plan, Precondition, ProblemKind, Request, Severity, Step,
    ViolationKind, Waiting, check, diagnose, plan,
};
use shardwright_topology::{Observed, SlotSet, Stream, Timestamp};

use crate::check::found;
use crate::world::{NOW, World, consenting, id, says, slots, stream, three};

mod forgotten;
mod linter;
mod no_primary;

const OURS: [&str; 6] = ["a", "a1", "b", "b1", "c", "c1"];

/// A living node of another cluster, which all of ours list.
fn meet(w: &mut World, name: &str, slots: SlotSet) {
    let node = w.add(name);
    node.housed = false;
    node.recorded = None;
    node.island = Some(0);
    node.epoch = 100;
    node.slots = slots;
    for speaker in OURS {
        w.believes(speaker, name, |row| row.link_up = true);
    }
}

/// This node of ours follows a foreign one, and has still its own data.
fn follow(w: &mut World, name: &str, shard: &str, foreign: &str) {
    let node = w.node(name);
    node.slots = SlotSet::empty();
    node.primary = Some(id(foreign));
    node.stream = Some(stream(&id(shard).to_string()));
    node.link_up = false;
}

/// The copy that it took is done.
fn replace(w: &mut World, name: &str, keys: u64) {
    let node = w.node(name);
    node.stream = None;
    node.link_up = true;
    node.keys = keys;
}

/// What is remembered of a healthy cluster of ours.
fn remembered() -> Memory {
    let mut memory = Memory::default();
    memory.recall(&mut World::formed(3, 1).observe());
    memory
}

/// `x`, `y` and `z` took the slots of `a`, `b` and `c`, which follow them with their replicas.
fn taken() -> World {
    let mut w = World::formed(3, 1);
    for (foreign, shard) in [("x", "a"), ("y", "b"), ("z", "c")] {
        let owned = w.get(shard).slots.clone();
        meet(&mut w, foreign, owned);
        follow(&mut w, shard, shard, foreign);
        follow(&mut w, &format!("{shard}1"), shard, foreign);
    }
    w
}

/// `x` took the slots of `a`, which follows it with its replica.
fn lost_one() -> World {
    let mut w = World::formed(3, 1);
    let owned = w.get("a").slots.clone();
    meet(&mut w, "x", owned);
    follow(&mut w, "a", "a", "x");
    follow(&mut w, "a1", "a", "x");
    w
}

fn seen(w: &World, memory: &mut Memory) -> Observed {
    let mut o = w.observe();
    memory.recall(&mut o);
    o
}

/// The plan, which passes its linter.
fn planned(w: &World, d: &Desired, memory: &mut Memory) -> Plan {
    let o = seen(w, memory);
    let made = plan(d, &o, &Limits::default(), Timestamp(NOW));
    let mut found = check(&made, d, &o);
    found.retain(|v| v.severity == Severity::Fatal);
    assert_eq!(found, [], "{made:#?}");
    made
}

/// What the linter finds fatal in a plan of this step alone.
fn found_in(step: &Step, d: &Desired, o: &Observed) -> BTreeSet<ViolationKind> {
    let made = Plan {
        steps: vec![step.clone()],
        waiting: Vec::new(),
    };
    let mut found = check(&made, d, o);
    found.retain(|v| v.severity == Severity::Fatal);
    found.into_iter().map(|v| v.kind).collect()
}

fn steps(w: &World, made: &Plan) -> Vec<String> {
    let steps = made.steps.iter();
    steps.map(|s| w.name_all(&s.action.to_string())).collect()
}

fn waits(w: &World, made: &Plan) -> Vec<String> {
    let waits = made.waiting.iter();
    waits.map(|wait| w.name_all(&wait.to_string())).collect()
}

#[test]
fn slots_are_taken_back_and_the_foreign_nodes_forgotten_in_the_first_pass() {
    let w = taken();
    let made = planned(&w, &three(), &mut remembered());
    let steps = steps(&w, &made);
    assert_eq!(
        steps[..3],
        [
            "let a take its shard's slots back from x",
            "let b take its shard's slots back from y",
            "let c take its shard's slots back from z",
        ]
    );
    for (foreign, replica) in [("x", "a1"), ("y", "b1"), ("z", "c1")] {
        for teller in OURS {
            let forgets = steps.contains(&format!("make {teller} forget {foreign}"));
            assert_eq!(forgets, teller != replica, "{teller} {foreign}: {steps:?}");
        }
    }
    assert_eq!(steps.len(), 3 + 15, "{steps:?}");
    let waits = waits(&w, &made);
    assert!(
        says(&waits, "nodes of another cluster were met"),
        "{waits:?}"
    );
    assert!(
        says(&waits, "they took slots 0-16383 of a, b, c"),
        "{waits:?}"
    );
    for never in ["is silent", "the last copy", "dead"] {
        assert!(!says(&waits, never) && !says(&steps, never), "{waits:?}");
    }
}

#[test]
fn whether_it_has_its_data_is_read_again_before_it_takes_slots_back() {
    let w = taken();
    let made = planned(&w, &three(), &mut remembered());
    let before = w.get("a").stream.clone().expect("it follows another");
    let reads = Precondition::HoldsDataOf {
        node: id("a"),
        stream: before.id,
        keys_min: 1,
    };
    assert!(
        made.steps[0].requires.contains(&reads),
        "{:?}",
        made.steps[0]
    );
    let holds = |w: &World, keys_min| {
        let view = w.view(w.get("a"));
        let stream = &w.get("a1").stream.as_ref().expect("its own").id;
        view.server.holds_data_of(stream, keys_min)
    };
    assert!(holds(&w, 1));
    let mut emptied = taken();
    emptied.node("a").keys = 0;
    assert!(!holds(&emptied, 1) && holds(&emptied, 0));
    let mut replaced = taken();
    replace(&mut replaced, "a", 3);
    assert!(!holds(&replaced, 0));
}

#[test]
fn a_met_node_that_took_nothing_is_forgotten_at_once() {
    let mut w = World::formed(3, 1);
    meet(&mut w, "x", SlotSet::empty());
    let made = planned(&w, &three(), &mut remembered());
    let all: BTreeSet<String> = OURS.map(|node| format!("make {node} forget x")).into();
    assert_eq!(steps(&w, &made).into_iter().collect::<BTreeSet<_>>(), all);
    assert!(says(&waits(&w, &made), "were met (CLUSTER MEET): x at "));
    // Without what is remembered the records are proof enough.
    let made = planned(&w, &three(), &mut Memory::default());
    assert_eq!(made.steps.len(), 6);
}

#[test]
fn whole_foreign_nodes_are_forgotten_up_to_a_bound_for_a_pass() {
    let mut w = World::formed(3, 1);
    for name in ["x", "y", "z"] {
        meet(&mut w, name, SlotSet::empty());
    }
    w.node("z").slots = slots(0, 99);
    let l = Limits {
        meets_per_pass_max: 7,
        ..Limits::default()
    };
    let o = seen(&w, &mut remembered());
    let made = plan(&three(), &o, &l, Timestamp(NOW));
    let steps = steps(&w, &made);
    assert_eq!(steps.len(), 2 * OURS.len(), "{steps:?}");
    for node in ["z", "x"] {
        assert!(says(&steps, &format!("forget {node}")), "{steps:?}");
    }
}

#[test]
fn who_is_asked_to_leave_forgets_too() {
    let mut w = World::formed(3, 1);
    meet(&mut w, "x", SlotSet::empty());
    let mut d = three();
    d.request = Some(Request::Leave { node: id("a1") });
    let steps = steps(&w, &planned(&w, &d, &mut remembered()));
    for teller in OURS {
        assert!(
            says(&steps, &format!("make {teller} forget x")),
            "{steps:?}"
        );
    }
}

#[test]
fn who_is_believed_to_own_slots_comes_before_who_is_remembered() {
    let mut w = World::formed(3, 0);
    let d = Desired::managed(3, 0);
    let mut memory = Memory::default();
    memory.recall(&mut w.observe());
    w.node("a").slots = slots(100, 5_460);
    // News of its failover reached `c` alone.
    w.believes("c", "b", |row| row.slots = row.slots.union(&slots(0, 99)));
    w.counted(&slots(0, 99), &[]);
    let steps = steps(&w, &planned(&w, &d, &mut memory));
    assert_eq!(steps, ["give slots 0-99 to b"]);
}

#[test]
fn a_node_whose_data_was_replaced_takes_nothing_back_and_is_named() {
    let mut w = taken();
    for node in ["a", "a1"] {
        replace(&mut w, node, 3);
    }
    let made = planned(&w, &three(), &mut remembered());
    let steps = steps(&w, &made);
    assert!(!says(&steps, "let a"), "{steps:?}");
    assert!(says(&steps, "let b take its shard's slots back from y"));
    assert!(!says(&steps, "make a forget x"), "it follows it: {steps:?}");
    assert!(!says(&steps, "replica of"), "{steps:?}");
    let waits = waits(&w, &made);
    let lost = "the data of a was replaced by that of x (100 keys before, 3 now)";
    assert!(says(&waits, lost), "{waits:?}");
    // Where nobody remembers what it had, that it was replaced is not said.
    let made = planned(&w, &three(), &mut Memory::default());
    let waits = self::waits(&w, &made);
    assert!(!says(&waits, "was replaced"), "{waits:?}");
}

/// `x` owns slots of `a`, by what all of ours say; `a1` follows it, with a copy.
fn resharded() -> World {
    let mut w = World::formed(3, 1);
    meet(&mut w, "x", slots(0, 99));
    w.node("x").keys = 7;
    w.node("a").slots = slots(100, 5_460);
    follow(&mut w, "a1", "a", "x");
    replace(&mut w, "a1", 7);
    w
}

#[test]
fn what_was_taken_while_nobody_looked_may_have_been_moved() {
    let made = |ms: u64| {
        let mut memory = Memory::default();
        let mut o = World::formed(3, 1).observe();
        o.at = Timestamp(NOW - ms);
        memory.recall(&mut o);
        let w = lost_one();
        let first = planned(&w, &three(), &mut memory);
        let later = planned(&w, &three(), &mut memory);
        assert_eq!(steps(&w, &first), steps(&w, &later));
        (steps(&w, &first), waits(&w, &first))
    };
    let (steps, _) = made(30_000);
    assert!(says(&steps, "let a take its shard's slots back from x"));
    let (steps, waits) = made(30_001);
    assert!(
        !says(&steps, "forget") && !says(&steps, "back"),
        "{steps:?}"
    );
    assert!(
        says(&waits, "nobody remembers whose they were"),
        "{waits:?}"
    );
}

#[test]
fn who_owns_slots_that_nobody_remembers_is_not_forgotten_without_consent() {
    let w = resharded();
    let made = planned(&w, &three(), &mut Memory::default());
    assert_eq!(steps(&w, &made), Vec::<String>::new());
    let waits = self::waits(&w, &made);
    let unclear = "x owns slots 0-99, and nobody remembers whose they were";
    assert!(says(&waits, unclear), "{waits:?}");
    assert!(!says(&waits, "they took"), "{waits:?}");
    let met = |p: &ProblemKind| matches!(p, ProblemKind::ForeignNodesMet(_));
    let remedy = |memory: &mut Memory| {
        let mut problems = diagnose(&seen(&w, memory)).into_iter().map(|p| p.kind);
        problems.find(met).expect("it is named").mend("local")
    };
    let (x, at, a) = (id("x"), &w.get("x").address, id("a"));
    let back = format!("shardwright reshard {at} --from {x} --to {a} --slots 100; or ");
    let unclear = remedy(&mut Memory::default());
    assert!(
        unclear.contains(&back) && unclear.contains("--askpass"),
        "{unclear}"
    );
    assert!(unclear.ends_with("shardwright fix local --accept-data-loss"));
    // One that follows it stays with it, and so does another of the same cluster.
    let mut w = resharded();
    meet(&mut w, "x1", SlotSet::empty());
    w.node("x1").primary = Some(id("x"));
    meet(&mut w, "y", SlotSet::empty());
    let made = planned(&w, &three(), &mut Memory::default());
    assert_eq!(steps(&w, &made), Vec::<String>::new());
    // By consent, or where it is remembered that all of it was ours, it is parted from.
    let w = resharded();
    for (d, memory) in [
        (consenting(three()), &mut Memory::default()),
        (three(), &mut remembered()),
    ] {
        let steps = steps(&w, &planned(&w, &d, memory));
        assert!(says(&steps, "make b forget x"), "{steps:?}");
        assert!(says(&steps, "make a1 a replica of"), "{steps:?}");
    }
}

#[test]
fn whose_data_was_replaced_follows_ours_again_and_forgets_too() {
    let mut w = World::formed(3, 1);
    let owned = w.get("a").slots.clone();
    meet(&mut w, "x", owned);
    for node in ["a", "a1"] {
        follow(&mut w, node, "a", "x");
        replace(&mut w, node, 3);
    }
    let steps = steps(&w, &planned(&w, &three(), &mut remembered()));
    for (node, primary) in [("a", "b"), ("a1", "c")] {
        let follows = steps
            .iter()
            .position(|s| *s == format!("make {node} a replica of {primary}"));
        let forgets = steps
            .iter()
            .position(|s| *s == format!("make {node} forget x"));
        assert!(follows.is_some() && follows < forgets, "{steps:?}");
    }
    // As long as its copy is not done, it may have the last of its shard's data.
    follow(&mut w, "a1", "a", "x");
    let steps = self::steps(&w, &planned(&w, &three(), &mut Memory::default()));
    assert!(!says(&steps, "make a1 a replica"), "{steps:?}");
}

#[test]
fn a_replica_with_its_copy_takes_back_what_its_primary_can_not() {
    let mut w = taken();
    replace(&mut w, "a", 3);
    let steps = steps(&w, &planned(&w, &three(), &mut remembered()));
    assert!(
        says(&steps, "let a1 take its shard's slots back from x"),
        "{steps:?}"
    );
    assert!(says(&steps, "make a1 forget x"), "{steps:?}");
    assert!(!says(&steps, "make a forget x"), "{steps:?}");
}

#[test]
fn who_owned_the_slots_last_takes_them_back() {
    // `a` died while not all was well, `a1` owned its slots since, and `a` came back as its replica.
    let mut memory = remembered();
    let mut w = World::formed(3, 1);
    w.hush("c");
    w.node("a1").slots = std::mem::replace(&mut w.node("a").slots, SlotSet::empty());
    (w.node("a1").primary, w.node("a").primary) = (None, Some(id("a1")));
    let mut o = w.observe();
    o.at = Timestamp(NOW - 5_000);
    memory.recall(&mut o);
    let mut w = taken();
    w.node("a1").stream = Some(Stream {
        before: Some((id("a").to_string(), 5_000)),
        ..stream("since")
    });
    w.node("a").stream = w.get("a1").stream.clone();
    let steps = steps(&w, &planned(&w, &three(), &mut memory));
    assert!(
        says(&steps, "let a1 take its shard's slots back from x"),
        "{steps:?}"
    );
    assert!(!says(&steps, "let a take"), "{steps:?}");
}

#[test]
fn past_a_met_node_that_died_who_has_our_data_is_promoted() {
    let mut w = World::formed(3, 1);
    let owned = w.get("a").slots.clone();
    meet(&mut w, "x", owned);
    for (node, offset) in [("a", 10), ("a1", 9_000)] {
        follow(&mut w, node, "a", "x");
        let node = w.node(node);
        (node.never_linked, node.offset) = (true, offset);
    }
    // Its copy was done, and it has read much more of the other's stream than `a` has of ours.
    let copy = stream(&id("x").to_string());
    w.node("a1").stream = Some(copy);
    w.cut_off("x", 6);
    let steps = steps(&w, &planned(&w, &three(), &mut remembered()));
    assert!(says(&steps, "from dead x to its replica a"), "{steps:?}");
    assert!(!says(&steps, "its replica a1"), "{steps:?}");
}

#[test]
fn who_was_emptied_for_a_copy_that_failed_takes_nothing_back() {
    // Its stream is its own still, and it loads nothing.
    let mut w = taken();
    w.node("a").keys = 0;
    let (d, mut memory) = (three(), remembered());
    let made = planned(&w, &d, &mut memory);
    let steps = steps(&w, &made);
    assert!(says(&steps, "let a1 take its shard's slots back from x"));
    let lost = "the data of a was replaced by that of x (100 keys before, 0 now)";
    assert!(says(&waits(&w, &made), lost));
    // The linter does not let it either.
    let own = OwnData::prove(&d, &seen(&taken(), &mut memory), id("a")).expect("it has its data");
    let o = seen(&w, &mut memory);
    let no_copy = ViolationKind::NoCopy { replica: id("a") };
    assert!(found(vec![Action::TakeBack { own }], &d, &o).contains(&no_copy));
}

#[test]
fn nobody_takes_back_what_was_not_its_shards() {
    // One foreign node owns everything: whoever takes its place in the table takes all of it.
    let mut w = World::formed(3, 1);
    meet(&mut w, "x", SlotSet::all());
    for name in ["a", "b", "c"] {
        follow(&mut w, name, name, "x");
    }
    let made = planned(&w, &three(), &mut remembered());
    let steps = steps(&w, &made);
    assert!(!says(&steps, "take its shard's"), "{steps:?}");
    assert!(!says(&steps, "replica of"), "{steps:?}");
    let waits = waits(&w, &made);
    assert!(
        says(&waits, "a follows x, b follows x, c follows x"),
        "{waits:?}"
    );
}

#[test]
fn deleted_keys_are_named() {
    let mut w = World::formed(3, 1);
    meet(&mut w, "x", slots(0, 99));
    w.node("a").slots = slots(100, 5460);
    w.node("a").keys = 40;
    let made = planned(&w, &three(), &mut remembered());
    let waits = waits(&w, &made);
    let lost = "a deleted the keys of slots that it lost (100 keys before, 40 now)";
    assert!(says(&waits, lost), "{waits:?}");
    assert!(says(&waits, "they took slots 0-99 of a"), "{waits:?}");
}

#[test]
fn what_nobody_owns_any_more_goes_back_to_its_last_owner() {
    let mut w = World::formed(3, 0);
    w.node("a").slots = slots(0, 8_000);
    w.node("b").slots = slots(8_001, 10_922);
    let d = Desired::managed(3, 0);
    let mut memory = Memory::default();
    memory.recall(&mut w.observe());
    w.node("a").slots = slots(100, 8_000);
    w.counted(&slots(0, 99), &[]);
    let back = steps(&w, &planned(&w, &d, &mut memory));
    assert_eq!(back, ["give slots 0-99 to a"]);
    let fewest = steps(&w, &planned(&w, &d, &mut Memory::default()));
    assert_eq!(fewest, ["give slots 0-99 to b"]);
}

#[test]
fn nobody_is_foreign_who_may_be_ours() {
    let proved = |o: &Observed, d: &Desired| ForeignNode::prove(d, o, id("x")).is_some();
    let mut w = World::formed(3, 1);
    meet(&mut w, "x", SlotSet::empty());
    assert!(proved(&w.observe(), &three()));
    // Nobody has a link to it, somebody is silent whose node is not recorded, or it is recorded itself.
    let mut dead = World::formed(3, 1);
    meet(&mut dead, "x", SlotSet::empty());
    for speaker in OURS {
        dead.believes(speaker, "x", |row| row.link_up = false);
    }
    assert!(!proved(&dead.observe(), &three()));
    w.hush("b1").recorded = None;
    assert!(!proved(&w.observe(), &three()));
    w.hush("b1").recorded = Some(id("x"));
    assert!(!proved(&w.observe(), &three()));
    // Among servers that others run any node may be theirs.
    let mut guest = World::formed(3, 1);
    guest.formed = false;
    meet(&mut guest, "x", SlotSet::empty());
    assert!(!proved(&guest.observe(), &Desired::guest()));
    assert!(!says(&guest.steps(&Desired::guest()), "forget"));
    // It was at a server of ours, which is there no more.
    let mut gone = World::formed(3, 1);
    let mut memory = remembered();
    gone.node("c1").housed = false;
    for speaker in ["a", "b", "c"] {
        gone.believes(speaker, "c1", |row| row.link_up = true);
    }
    let o = seen(&gone, &mut memory);
    assert_eq!(ForeignNode::prove(&three(), &o, id("c1")), None);
}

#[test]
fn what_was_held_is_remembered_until_all_is_served_again() {
    let mut memory = remembered();
    let o = seen(&taken(), &mut memory);
    assert_eq!(o.holdings[&id("a")].slots, slots(0, 5_460));
    // They are forgotten, and nobody owns the slots yet.
    let mut w = World::formed(3, 1);
    w.node("a").slots = SlotSet::empty();
    let o = seen(&w, &mut memory);
    assert_eq!(o.holdings[&id("a")].slots, slots(0, 5_460));
    // All is served again, by others.
    w.node("b").slots = slots(0, 10_922);
    let o = seen(&w, &mut memory);
    assert!(o.holdings[&id("a")].slots.is_empty());
}

#[test]
fn people_are_told_of_the_met_nodes_alone() {
    let w = taken();
    let problems = diagnose(&seen(&w, &mut remembered()));
    let met = |p: &&ProblemKind| matches!(p, ProblemKind::ForeignNodesMet(_));
    let kinds: Vec<ProblemKind> = problems.into_iter().map(|p| p.kind).collect();
    assert_eq!(kinds.iter().filter(met).count(), 1, "{kinds:?}");
    for kind in &kinds {
        let other = matches!(
            kind,
            ProblemKind::PrimaryDown { .. } | ProblemKind::Lost { .. } | ProblemKind::IdLost { .. }
        );
        assert!(!other, "{kind}");
    }
}

#[test]
fn it_is_said_what_the_other_cluster_loses_and_which_command_prevents_it() {
    let w = lost_one();
    let made = planned(&w, &three(), &mut remembered());
    let because = w.name_all(&made.steps[0].because.to_string());
    let follows = "x, if it still knows a, then follows it, and the data of x is replaced";
    assert!(because.contains(follows), "{because}");
    let met = |p: &ProblemKind| matches!(p, ProblemKind::ForeignNodesMet(_));
    let problems = diagnose(&seen(&w, &mut remembered()));
    let mut kinds = problems.into_iter().map(|p| p.kind);
    let remedy = kinds.find(met).expect("it is named").mend("local");
    let ids = OURS.map(|name| id(name).to_string()).join(" ");
    let at = &w.get("x").address;
    let forget = format!(
        "for at in {at}; do for id in {ids}; do redis-cli -u redis://$at CLUSTER FORGET $id; done; done; then: shardwright fix local"
    );
    assert!(remedy.contains(&forget), "{remedy}");
    let again = "where nodes of the other cluster do not list each other any more, let them meet again after 60 s (CLUSTER MEET)";
    assert!(remedy.ends_with(again), "{remedy}");
}

#[test]
fn the_same_meeting_is_one_message() {
    let (d, mut memory) = (three(), remembered());
    let met = |w: &World, memory: &mut Memory| {
        let made = planned(w, &d, memory);
        made.waiting.into_iter().find_map(|wait| match wait {
            Waiting::ForeignNodesMet(met) => Some(met),
            _ => None,
        })
    };
    let mut w = taken();
    replace(&mut w, "a", 3);
    let first = met(&w, &mut memory).expect("they are there");
    w.node("a").keys = 4;
    let later = met(&w, &mut memory).expect("they are there");
    assert!(first != later && first.is_like(&later));
    assert_eq!(first.in_short(), later.in_short());
    replace(&mut w, "b", 5);
    let more = met(&w, &mut memory).expect("they are there");
    assert!(!first.is_like(&more));
    assert!(more.slots.count() == 16_384 && more.nodes.len() == 3);
}
