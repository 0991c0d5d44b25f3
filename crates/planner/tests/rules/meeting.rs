//! Everyone knows everyone: MEET at once, each as it appears.

use shardwright_planner::{Desired, Limits, Memory, plan};
use shardwright_topology::{Address, ConfigEpoch, Flags, Role, SlotSet, Timestamp};

use crate::world::{NOW, World, id, says, slots, three};

#[test]
fn a_healthy_cluster_has_nothing_to_do() {
    let w = World::formed(3, 1);
    assert!(w.plan(&three()).is_settled(), "{:?}", w.waits(&three()));
    assert!(w.plan(&Desired::guest()).is_settled());
}

#[test]
fn each_node_is_met_at_its_new_address_as_it_appears() {
    let mut w = World::formed(3, 1);
    w.node("a").address = Address::loopback(8_000);
    for speaker in ["a1", "b", "b1", "c", "c1"] {
        w.believes(speaker, "a", |row| row.address = Address::loopback(7_000));
    }
    w.hush("c1"); // it has not appeared: it is neither told nor told of
    let steps = w.steps(&three());
    assert_eq!(
        steps,
        [
            "tell a1 that a is at 127.0.0.1:8000",
            "tell b that a is at 127.0.0.1:8000",
            "tell b1 that a is at 127.0.0.1:8000",
            "tell c that a is at 127.0.0.1:8000",
        ]
    );
    assert!(says(&w.reasons(&three()), "it has it at an old address"));
}

#[test]
fn an_address_that_is_not_known_is_told_too() {
    let mut w = World::formed(3, 1);
    w.believes("b", "a", |row| row.flags = row.flags.with(Flags::NOADDR));
    assert_eq!(w.steps(&three()), ["tell b that a is at 127.0.0.1:7000"]);
}

#[test]
fn two_islands_of_one_cluster_meet() {
    let mut w = World::formed(3, 1);
    for name in ["c", "c1"] {
        w.node(name).island = Some(1);
    }
    let steps = w.steps(&three());
    assert_eq!(steps.len(), 8, "4 × 2 pairs: {steps:?}");
    assert!(says(&steps, "tell a that c is at"));
    assert!(says(&steps, "tell b1 that c1 is at"));
}

#[test]
fn an_island_that_is_not_ours_is_left_alone() {
    let mut w = World::formed(3, 1);
    for name in ["c", "c1"] {
        w.node(name).island = Some(1);
        w.node(name).recorded = None;
    }
    let steps = w.steps(&three());
    assert!(!says(&steps, "that c"), "{steps:?}");
    assert!(says(&w.waits(&three()), "c does not belong here"));
}

#[test]
fn who_changed_greets_who_has_not_noticed() {
    let mut w = World::formed(3, 1);
    // a1 took over from a; c has not noticed.
    let range = w.get("a").slots.clone();
    w.node("a").slots = SlotSet::empty();
    w.node("a").primary = Some(id("a1"));
    w.node("a1").primary = None;
    w.node("a1").slots = range;
    w.node("a1").epoch = 9;
    w.node("a").epoch = 9;
    w.believes("c", "a1", |row| {
        row.role = Role::Replica;
        row.primary = Some(id("a"));
        row.slots = SlotSet::empty();
    });
    assert_eq!(w.steps(&three()), ["tell a1 that c is at 127.0.0.1:7004"]);
    assert_eq!(w.waits(&three()), ["c has no news of a1 yet"]);
}

#[test]
fn a_replica_that_is_not_believed_gets_a_primary_of_a_greater_epoch() {
    let mut w = World::formed(3, 1);
    w.believes("c1", "a1", |row| {
        row.role = Role::Primary;
        row.primary = None;
        row.epoch = ConfigEpoch(6);
    });
    let mut memory = Memory::default();
    let mut steps = |w: &World, at: u64| {
        let (mut o, now) = (w.observe(), Timestamp(at));
        o.at = now;
        memory.recall(&mut o);
        let made = plan(&three(), &o, &Limits::default(), now);
        let steps = made.steps.iter().map(|s| w.name_all(&s.to_string()));
        steps.collect::<Vec<_>>()
    };
    let greets = "tell a1 that c1 is at 127.0.0.1:7005: its role or slots changed";
    let raises = "let a raise its epoch: its role or slots changed";
    let max = Limits::default().disbelief_max_ms;
    assert_eq!(steps(&w, NOW), [greets]);
    assert_eq!(steps(&w, NOW + max - 1), [greets]);
    assert_eq!(steps(&w, NOW + max), [greets, raises]);
    // With an epoch that is great enough its word counts, and the greeting brings it.
    w.node("a").epoch = 7;
    w.node("a1").epoch = 7;
    assert_eq!(steps(&w, NOW + max + 1), [greets]);
    w.node("a").epoch = 1;
    assert_eq!(steps(&w, NOW + 2 * max), [greets], "it counts anew");
    // A silent primary takes no greater epoch: until then a greeting would say nothing new.
    w.hush("a").silent = Some(shardwright_topology::Why::TimedOut);
    assert_eq!(steps(&w, NOW + 2 * max + 1), [greets]);
    assert_eq!(steps(&w, NOW + 3 * max), [""; 0]);
}

#[test]
fn old_slots_are_news_too() {
    let mut w = World::formed(3, 1);
    w.believes("c", "a", |row| row.slots = slots(0, 10));
    assert_eq!(w.steps(&three()), ["tell a that c is at 127.0.0.1:7004"]);
}

#[test]
fn greetings_and_health_pass_by_themselves_and_are_waited_for() {
    let mut w = World::formed(3, 1);
    w.believes("c", "a", |row| row.link_up = false);
    assert!(w.steps(&three()).is_empty());
    assert_eq!(w.waits(&three()), ["c has no news of a yet"]);
}

#[test]
fn meets_of_one_pass_are_bounded() {
    let mut w = World::formed(3, 1);
    w.node("c").island = Some(1);
    let limits = Limits {
        meets_per_pass_max: 2,
        ..Limits::default()
    };
    let made = plan(&three(), &w.observe(), &limits, Timestamp(NOW));
    assert_eq!(made.steps.len(), 2);
}
