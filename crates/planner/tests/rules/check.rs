//! The linter can fail: each plan here was right for one world, and is held against another that moved on. So no
//! evidence is forged, and every kind of violation is seen.

use std::collections::BTreeSet;

use shardwright_planner::evidence::{Dead, Gone, LiveAt, RoleSeen, Unburdened};
use shardwright_planner::{
    Action, Desired, Limits, Plan, Reason, Severity, Step, ViolationKind, check, plan,
};
use shardwright_topology::{
    Address, Flags, NodeId, Observed, Seen, ServerName, SlotSet, Tied, Timestamp,
};

mod moves;
mod primaries;
mod replicas;

use crate::world::{NOW, World, claims, consenting, id, slot, slots, three};

/// A plan of these actions.
fn plan_of(actions: Vec<Action>) -> Plan {
    let step = |action| Step {
        action,
        because: Reason::Asked,
        requires: Vec::new(),
    };
    Plan {
        steps: actions.into_iter().map(step).collect(),
        waiting: Vec::new(),
    }
}

/// What the linter finds fatal in these actions.
pub(crate) fn found(actions: Vec<Action>, d: &Desired, o: &Observed) -> BTreeSet<ViolationKind> {
    check(&plan_of(actions), d, o)
        .into_iter()
        .filter(|v| v.severity == Severity::Fatal)
        .map(|v| v.kind)
        .collect()
}

/// Whoever is to begin a copy here may not be elected meanwhile: that has tests of its own.
pub(crate) fn hold_back(actions: &[Action], w: &World) {
    for action in actions {
        if let Action::Replicate { node, .. } = action {
            w.held_back.borrow_mut().insert(node.node());
        }
    }
}

/// Just this is found.
#[track_caller]
pub(crate) fn finds(actions: Vec<Action>, d: &Desired, w: &World, kind: ViolationKind) {
    hold_back(&actions, w);
    assert_eq!(found(actions, d, &w.observe()), BTreeSet::from([kind]));
}

/// Nothing is found.
#[track_caller]
pub(crate) fn passes(actions: Vec<Action>, d: &Desired, w: &World) {
    hold_back(&actions, w);
    assert_eq!(found(actions, d, &w.observe()), BTreeSet::new());
}

pub(crate) fn healthy() -> World {
    World::formed(3, 1)
}

fn with_a_dead() -> World {
    let mut w = healthy();
    w.kill("a", 0);
    w
}

fn dead(w: &World, name: &str) -> Dead {
    Dead::prove(&w.observe(), id(name)).expect("it is dead in that world")
}

pub(crate) fn unburdened(w: &World, name: &str) -> Unburdened {
    Unburdened::prove(&w.observe(), id(name)).expect("it is unburdened in that world")
}

fn start(name: &str) -> Vec<Action> {
    vec![Action::StartServer {
        server: ServerName(name.to_owned()),
    }]
}

fn failover(w: &World) -> Vec<Action> {
    vec![Action::Failover {
        dead: dead(w, "a"),
        seen: RoleSeen::prove(&w.observe(), id("a1"), id("a")).expect("all see it"),
    }]
}

fn takeover(w: &World, replica: &str) -> Action {
    Action::Takeover {
        replica: id(replica),
        dead: dead(w, "a"),
    }
}

fn add_slots(node: &str, slots: SlotSet) -> Action {
    Action::AddSlots {
        node: id(node),
        slots,
    }
}

pub(crate) fn replicate(w: &World, node: &str, primary: &str) -> Action {
    Action::Replicate {
        node: unburdened(w, node),
        primary: id(primary),
    }
}

fn meet(w: &World) -> Vec<Action> {
    vec![Action::Meet {
        teller: id("a"),
        target: LiveAt::prove(&w.observe(), id("b")).expect("it lives in that world"),
    }]
}

#[test]
fn acts_unheard() {
    let mut w = healthy();
    let close = vec![Action::CloseSlot {
        node: id("a"),
        slot: slot(7),
    }];
    passes(close.clone(), &three(), &w);
    w.hush("a");
    finds(close, &three(), &w, ViolationKind::ActsUnheard);
}

#[test]
fn slots_owned_and_twice_and_given_up() {
    let mut w = healthy();
    w.node("a").slots = slots(10, 5460);
    let one = vec![add_slots("b", slots(0, 9))];
    let given_up = |set| ViolationKind::GivesUpData { slots: set };
    finds(one.clone(), &consenting(three()), &w, given_up(slots(0, 9)));
    w.counted(&slots(0, 9), &[]);
    passes(one.clone(), &three(), &w);
    w.node("c1").keys_in_slot.remove(&slot(9));
    finds(one.clone(), &three(), &w, given_up(slots(9, 9)));
    w.counted(&slots(0, 9), &[]);
    w.hush("c1");
    finds(one.clone(), &three(), &w, given_up(slots(0, 9)));
    w.node("c1").silent = None;
    let two = vec![add_slots("b", slots(0, 9)), add_slots("c", slots(5, 9))];
    let twice = ViolationKind::SlotsTwice { slots: slots(5, 9) };
    finds(two, &consenting(three()), &w, twice);
    w.node("a").slots = slots(5, 5460);
    let owned = ViolationKind::SlotsOwned { slots: slots(5, 9) };
    finds(one, &consenting(three()), &w, owned);
}

#[test]
fn slots_that_one_who_is_not_seen_may_own() {
    let past = |set| ViolationKind::GivesPastForgotten { slots: set };
    let mut w = World::formed(4, 0);
    w.nodes.retain(|n| n.name != "a");
    w.counted(&slots(0, 4095), &[]);
    let one = vec![add_slots("b", slots(0, 4095))];
    let few = vec![add_slots("b", slots(0, 9))];
    let guest = Desired::guest();
    finds(one.clone(), &guest, &w, past(slots(0, 4095)));
    finds(few.clone(), &guest, &w, past(slots(0, 9)));
    passes(one.clone(), &consenting(guest.clone()), &w);
    passes(one.clone(), &Desired::managed(3, 0), &w);
    w.believes("c", "d", |row| {
        row.slots = row.slots.union(&slots(0, 4095));
    });
    passes(one, &guest, &w);
    let mut w = healthy();
    w.node("a").slots = slots(10, 5460);
    w.counted(&slots(0, 9), &[]);
    passes(few, &guest, &w);
    // One that has keys, knows nobody, and has no epoch.
    let mut lone = World::empty();
    let node = lone.add("b");
    (node.keys, node.slots) = (9, slots(10, 16_383));
    lone.counted(&slots(0, 9), &[]);
    let few = vec![add_slots("b", slots(0, 9))];
    finds(few.clone(), &guest, &lone, past(slots(0, 9)));
    passes(few, &consenting(guest), &lone);
}

/// The old id of a server that speaks as another, with its data.
#[test]
fn forgets_an_old_id_only_when_its_server_is_there() {
    let mut before = World::formed(3, 0);
    for speaker in ["b", "c"] {
        before.believes(speaker, "a", |row| {
            row.flags = row.flags.with(Flags::NOADDR);
        });
    }
    before.lose_directory("a", "x").keys = 5;
    let d = Desired::managed(3, 0);
    let limits = Limits::default();
    let plan = plan(&d, &before.observe(), &limits, Timestamp(NOW));
    let step: Vec<Action> = plan.steps.into_iter().map(|s| s.action).collect();
    assert_eq!(step.len(), 2, "b and c forget it: {step:?}");
    passes(step.clone(), &d, &before);
    let living = || ViolationKind::ForgetsTheLiving { node: id("a") };
    let changes: [fn(&mut World); 5] = [
        |w| w.node("x").keys = 0,
        |w| w.node("x").recorded = Some(id("b")),
        |w| w.node("x").slots = slots(5461, 5461),
        |w| w.node("x").island = Some(0),
        |w| w.add_replica("a1", "a").slots = SlotSet::empty(),
    ];
    for change in changes {
        let mut w = World::formed(3, 0);
        for speaker in ["b", "c"] {
            w.believes(speaker, "a", |row| {
                row.flags = row.flags.with(Flags::NOADDR);
            });
        }
        w.lose_directory("a", "x").keys = 5;
        change(&mut w);
        finds(step.clone(), &d, &w, living());
    }
}

#[test]
fn slots_of_which_another_holds_keys() {
    let mut w = healthy();
    w.node("a").slots = slots(10, 5460);
    let past = || ViolationKind::GivesPastHolder { slots: slots(7, 7) };
    let takes = |node: &str| Action::AssignSlot {
        node: id(node),
        slot: slot(7),
        owner: id(node),
    };
    let add = |node: &str| vec![add_slots(node, slots(0, 9))];
    for (held, d, allowed) in [
        (vec![("b", 1), ("b1", 1)], three(), vec!["b"]),
        (vec![("b", 1), ("c1", 1)], three(), vec![]),
        (
            vec![("b", 1), ("c", 1)],
            consenting(three()),
            vec!["b", "c"],
        ),
        // A copy whose primary has nothing proves nothing.
        (vec![("b1", 1)], three(), vec![]),
        (vec![("b1", 1)], consenting(three()), vec![]),
    ] {
        w.counted(&slots(0, 9), &[]);
        w.counted(&slots(7, 7), &held);
        for node in ["a", "b", "c"] {
            if allowed.contains(&node) {
                passes(add(node), &d, &w);
                passes(vec![takes(node)], &d, &w);
            } else {
                finds(add(node), &d, &w, past());
                finds(vec![takes(node)], &d, &w, past());
            }
        }
    }
}

#[test]
fn primary_not_dead() {
    let before = with_a_dead();
    passes(failover(&before), &three(), &before);
    let primary = id("a");
    finds(
        failover(&before),
        &three(),
        &healthy(),
        ViolationKind::PrimaryNotDead { primary },
    );
    let mut silent = healthy();
    silent.hush("a");
    finds(
        failover(&before),
        &three(),
        &silent,
        ViolationKind::PrimaryNotDead { primary },
    );
    let over = vec![takeover(&before, "a1")];
    finds(
        over,
        &three(),
        &silent,
        ViolationKind::PrimaryNotDead { primary },
    );
}

#[test]
fn not_its_replica() {
    let w = with_a_dead();
    passes(vec![takeover(&w, "a1")], &three(), &w);
    let node = id("b1");
    finds(
        vec![takeover(&w, "b1")],
        &three(),
        &w,
        ViolationKind::NotItsReplica { node },
    );
    let switch = vec![Action::Switchover {
        replica: id("b1"),
        primary: id("c"),
    }];
    finds(switch, &three(), &w, ViolationKind::NotItsReplica { node });
}

#[test]
fn two_heirs() {
    let mut w = World::formed(3, 2);
    w.kill("a", 0);
    let both = vec![takeover(&w, "a1"), takeover(&w, "a2")];
    finds(
        both,
        &three(),
        &w,
        ViolationKind::TwoHeirs { primary: id("a") },
    );
}

#[test]
fn no_majority() {
    let before = with_a_dead();
    let mut w = with_a_dead();
    w.believes("b", "a1", |row| row.primary = Some(id("c")));
    finds(
        failover(&before),
        &three(),
        &w,
        ViolationKind::NoMajority { replica: id("a1") },
    );
}

#[test]
fn resets_unasked() {
    let w = healthy();
    let reset = vec![Action::Reset {
        node: unburdened(&w, "a1"),
    }];
    finds(
        reset,
        &three(),
        &w,
        ViolationKind::ResetsUnasked { node: id("a1") },
    );
}

#[test]
fn gives_up_a_volume() {
    let step = vec![Action::Recreate {
        server: ServerName("b1".to_owned()),
        host: "host-b1".to_owned(),
    }];
    let wanted = Desired {
        recreate_after_ms: Some(1_000),
        ..three()
    };
    let kind = |name: &str| ViolationKind::GivesUpVolume {
        server: ServerName(name.to_owned()),
    };
    let mut w = healthy();
    finds(step.clone(), &wanted, &w, kind("b1"));
    let tied = |w: &mut World, name: &str, ms: u64| {
        w.hush(name).place.tied = Some(Tied {
            host: format!("host-{name}"),
            away_since: Some(Timestamp(NOW - ms)),
        });
    };
    tied(&mut w, "b1", 999);
    finds(step.clone(), &wanted, &w, kind("b1"));
    tied(&mut w, "b1", 1_000);
    passes(step.clone(), &wanted, &w);
    finds(step.clone(), &three(), &w, kind("b1"));
    let elsewhere = vec![Action::Recreate {
        server: ServerName("b1".to_owned()),
        host: "host-x".to_owned(),
    }];
    finds(elsewhere, &wanted, &w, kind("b1"));
    for change in [
        (|w| w.node("b1").silent = None) as fn(&mut World),
        |w| w.node("b1").recorded = None,
        |w| w.hush("b").leaving = false,
        |w| w.node("b1").recorded = Some(id("b")),
    ] {
        let mut other = healthy();
        tied(&mut other, "b1", 1_000);
        change(&mut other);
        finds(step.clone(), &wanted, &other, kind("b1"));
    }
    // One at a time.
    tied(&mut w, "c1", 1_000);
    let mut both = step;
    both.push(Action::Recreate {
        server: ServerName("c1".to_owned()),
        host: "host-c1".to_owned(),
    });
    finds(both, &wanted, &w, kind("c1"));
}

#[test]
fn forgets_the_living() {
    let mut before = World::formed(3, 1);
    before.nodes.retain(|n| n.name != "a1");
    before.add_replica("a1", "a");
    before.lose_directory("a1", "new");
    let gone = Gone::prove(&three(), &before.observe(), id("a1")).expect("another lives there");
    let step = vec![Action::Forget {
        teller: id("b"),
        gone,
    }];
    passes(step.clone(), &three(), &before);
    let kind = || ViolationKind::ForgetsTheLiving { node: id("a1") };
    finds(step.clone(), &three(), &healthy(), kind());
    let mut silent = healthy();
    silent.hush("a1");
    finds(step.clone(), &three(), &silent, kind());
    finds(step.clone(), &Desired::guest(), &before, kind());
    before.node("a1").primary = None;
    before.node("a1").slots = slots(0, 10);
    before.node("a1").epoch = 99;
    before.node("a").slots = slots(11, 5460);
    finds(step, &three(), &before, kind());
}

#[test]
fn meets_unproved() {
    let before = healthy();
    passes(meet(&before), &three(), &before);
    let mut w = healthy();
    w.node("b").address = Address::loopback(9_999);
    let node = id("b");
    finds(
        meet(&before),
        &three(),
        &w,
        ViolationKind::MeetsUnproved { node },
    );
    let mut silent = healthy();
    silent.hush("b");
    finds(
        meet(&before),
        &three(),
        &silent,
        ViolationKind::MeetsUnproved { node },
    );
    let keys = vec![Action::MoveKeys {
        from: id("a"),
        to: LiveAt::prove(&before.observe(), node).expect("it lives in that world"),
        slot: slot(7),
        keys_max: 1,
        replace: false,
    }];
    finds(
        keys,
        &three(),
        &silent,
        ViolationKind::MeetsUnproved { node },
    );
}

#[test]
fn starts_running() {
    passes(start("a"), &three(), &with_a_dead());
    let server = || ServerName("a".to_owned());
    finds(
        start("a"),
        &three(),
        &healthy(),
        ViolationKind::StartsRunning { server: server() },
    );
    let mut silent = healthy();
    silent.hush("a");
    finds(
        start("a"),
        &three(),
        &silent,
        ViolationKind::StartsRunning { server: server() },
    );
}

#[test]
fn starts_an_old_primary() {
    let mut w = with_a_dead();
    let server = ServerName("a".to_owned());
    w.node("a").disk = Seen::Known(claims(1));
    finds(
        start("a"),
        &three(),
        &w,
        ViolationKind::StartsOldPrimary { server },
    );
    passes(start("a"), &consenting(three()), &w);
}

#[test]
fn assigns_away_keys() {
    let away = |node: &str| {
        vec![Action::AssignSlot {
            node: id(node),
            slot: slot(7),
            owner: id("b"),
        }]
    };
    let mut w = healthy();
    passes(away("b"), &three(), &w);
    // Not counted is not zero.
    finds(
        away("a"),
        &three(),
        &w,
        ViolationKind::AssignsAwayKeys { slot: slot(7) },
    );
    w.node("a").keys_in_slot = [(slot(7), 1)].into();
    finds(
        away("a"),
        &three(),
        &w,
        ViolationKind::AssignsAwayKeys { slot: slot(7) },
    );
    w.node("a").keys_in_slot = [(slot(7), 0)].into();
    passes(away("a"), &three(), &w);
}

#[test]
fn formed_uncovered() {
    let mut w = healthy();
    passes(vec![Action::RecordFormed], &three(), &w);
    w.node("a").slots = slots(1, 5460);
    finds(
        vec![Action::RecordFormed],
        &three(),
        &w,
        ViolationKind::FormedUncovered,
    );
}

#[test]
fn acts_on_a_duplicate() {
    let mut w = World::formed(3, 2);
    let step = vec![replicate(&w, "c1", "a")];
    passes(step.clone(), &three(), &w);
    let copy = w.add("copy");
    copy.id = id("c1");
    copy.island = Some(0);
    copy.primary = Some(id("c"));
    let node: NodeId = id("c1");
    finds(step, &three(), &w, ViolationKind::ActsOnDuplicate { node });
}

#[test]
fn a_finding_names_its_step() {
    let w = healthy();
    let mut actions = meet(&w);
    actions.extend(start("a"));
    let found = check(&plan_of(actions), &three(), &w.observe());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].step, 1, "counted from 0");
    assert_eq!(found[0].to_string(), "step 2: starts a, not proved dead");
}

#[test]
fn takes_a_server_away() {
    let step = |name: &str| {
        vec![Action::RemoveServer {
            server: ServerName(name.to_owned()),
        }]
    };
    let kind = |name: &str| ViolationKind::TakesAway {
        server: ServerName(name.to_owned()),
    };
    let mut w = healthy();
    for name in ["x", "y"] {
        w.add(name).recorded = None;
    }
    for (node, rank) in w.nodes.iter_mut().zip(0..) {
        node.place.leave_rank = rank;
    }
    passes(step("y"), &three(), &w);
    passes(step("x"), &three(), &w);
    finds(step("c1"), &three(), &w, kind("c1"));
    finds(step("y"), &Desired::managed(4, 1), &w, kind("y"));
    finds(step("y"), &Desired::guest(), &w, kind("y"));
    for change in [
        (|w| w.node("y").keys = 1) as fn(&mut World),
        |w| w.node("y").island = Some(0),
        |w| w.node("y").recorded = Some(id("c1")),
        |w| w.node("y").leaving = true,
        |w| w.hush("y").keys = 0,
        |w| w.formed = false,
    ] {
        change(&mut w);
        finds(step("y"), &three(), &w, kind("y"));
        // The one before it would take it along; not so where it is going by itself.
        if !w.get("y").leaving {
            finds(step("x"), &three(), &w, kind("x"));
        }
        let node = w.node("y");
        (node.keys, node.island, node.recorded) = (0, None, None);
        (node.leaving, node.silent) = (false, None);
    }
}
