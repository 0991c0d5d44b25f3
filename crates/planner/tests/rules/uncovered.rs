//! Slots that nobody owns go to the node that holds their keys; where none does, to where the shape wants them.

use shardwright_planner::{Action, Desired, Ungiven, Waiting};
use shardwright_topology::{Role, SlotSet};

use crate::world::{World, consenting, guest_shape, id, says, slots, three};

/// Three shards of which the first lacks its first hundred slots.
fn lacking() -> World {
    let mut w = World::formed(3, 1);
    w.node("a").slots = slots(100, 5460);
    w
}

#[test]
fn slots_without_a_key_go_where_there_are_fewest() {
    for d in [three(), Desired::guest()] {
        let mut w = lacking();
        w.counted(&slots(0, 99), &[]);
        assert_eq!(
            w.reasons(&d),
            ["give slots 0-99 to a: nobody owns the slots, and no node holds a key of them"],
        );
    }
}

#[test]
fn slots_go_to_the_one_that_holds_their_keys() {
    for d in [three(), Desired::guest(), consenting(three())] {
        let mut w = lacking();
        w.counted(&slots(0, 99), &[]);
        // Its replica's copy is no second holder.
        w.counted(&slots(7, 8), &[("c", 3), ("c1", 3)]);
        assert_eq!(
            w.reasons(&d),
            [
                "give slots 7-8 to c: nobody owns the slots, and it holds their keys",
                "give slots 0-6,9-99 to a: nobody owns the slots, and no node holds a key of them",
            ],
        );
    }
}

#[test]
fn a_slot_whose_keys_are_at_several_is_for_a_person() {
    let mut w = lacking();
    w.counted(&slots(0, 99), &[]);
    w.counted(&slots(7, 7), &[("b", 2), ("c", 3)]);
    let others = "give slots 0-6,8-99 to a";
    assert_eq!(w.steps(&three()), [others]);
    let wait = "nobody owns slots 7, b and c hold keys of them, and nothing proves which";
    assert!(says(&w.waits(&three()), wait), "{:?}", w.waits(&three()));
    assert_eq!(
        w.steps(&consenting(three())),
        ["give slots 7 to c", others],
        "with consent: the one with most keys"
    );
    // Keys that only a replica has: its primary may have deleted them, or never have had them.
    w.counted(&slots(7, 7), &[("c1", 3)]);
    assert_eq!(w.steps(&three()), [others]);
    assert_eq!(w.steps(&consenting(three())), [others]);
    assert!(says(&w.waits(&three()), "c1 hold keys of them"));
}

#[test]
fn a_node_that_did_not_count_is_waited_for() {
    for d in [three(), consenting(three())] {
        let mut w = lacking();
        assert!(w.steps(&d).is_empty(), "not counted is not zero");
        w.counted(&slots(0, 99), &[]);
        w.node("c1").keys_in_slot.clear();
        assert!(w.steps(&d).is_empty(), "a replica may alone have some");
        let wait = "c1 did not say how many keys it has of slots 0-99";
        assert!(says(&w.waits(&d), wait), "{:?}", w.waits(&d));
        w.node("c1").keys = 0;
        assert_eq!(w.steps(&d), ["give slots 0-99 to a"], "it has none at all");
    }
}

#[test]
fn nothing_is_given_while_someone_is_not_heard() {
    for d in [three(), consenting(three())] {
        let mut w = lacking();
        w.counted(&slots(0, 99), &[]);
        w.hush("c1");
        assert!(w.steps(&d).is_empty());
        assert!(says(&w.waits(&d), "nobody owns slots 0-99"));
        let plan = w.plan(&d);
        assert!(plan.is_stuck());
        // That is no loss, and consent does nothing about it.
        let (slots, why) = (slots(0, 99), Ungiven::Unheard);
        assert!(plan.waiting.contains(&Waiting::Uncovered { slots, why }));
    }
}

#[test]
fn a_shard_that_lost_its_slots_gets_them_back_from_nobody_else() {
    // The whole first shard is gone, and an empty primary is there: full ones get nothing that they would give back.
    let mut w = World::formed(3, 1);
    w.nodes.retain(|n| !n.name.starts_with('a'));
    w.add("d").island = Some(0);
    w.counted(&slots(0, 5460), &[]);
    for d in [three(), consenting(guest_shape(3, 1))] {
        let given = w.steps(&d);
        assert_eq!(given[0], "give slots 0-5460 to d", "{given:?}");
        assert!(!says(&given, "to b") && !says(&given, "to c"), "{given:?}");
    }
    // Where nobody declared a shape, the slots are divided among those that have some.
    let given = w.steps(&consenting(Desired::guest()));
    assert!(says(&given, "to b") && says(&given, "to c"), "{given:?}");
}

/// Told that a slot is another's, its owner gives up its claim; the others still hold it to be the owner's.
#[test]
fn a_slot_that_only_one_view_gives_away_is_taken_back() {
    let mut w = World::formed(3, 1);
    w.node("a").slots = slots(1, 5460);
    w.believes("a", "b", |row| row.slots = row.slots.union(&slots(0, 0)));
    for speaker in ["a1", "b", "b1", "c", "c1"] {
        w.believes(speaker, "a", |row| row.slots = slots(0, 5460));
    }
    w.counted(&slots(0, 0), &[]);
    let given_back = Action::AssignSlot {
        node: id("a"),
        slot: slots(0, 0).slots().next().expect("there is one"),
        owner: id("a"),
    };
    for d in [three(), Desired::guest()] {
        let plan = w.plan(&d);
        let actions: Vec<&Action> = plan.steps.iter().map(|s| &s.action).collect();
        assert!(
            actions.contains(&&given_back),
            "its table gives the slot to b: {actions:?}"
        );
        assert!(!actions.iter().any(|a| matches!(a, Action::AddSlots { .. })));
    }
    w.counted(&slots(0, 0), &[("c", 1)]);
    let plan = w.plan(&three());
    let taken = plan
        .steps
        .iter()
        .find(|s| matches!(s.action, Action::AssignSlot { .. }));
    assert_eq!(
        taken.and_then(|s| s.action.at()),
        Some(id("c")),
        "it holds the key"
    );
}

#[test]
fn nothing_goes_to_a_replica_or_to_one_that_leaves() {
    let mut w = lacking();
    w.counted(&slots(0, 99), &[]);
    w.node("a").primary = Some(id("b"));
    w.node("a").slots = SlotSet::empty();
    w.counted(&slots(0, 5460), &[]);
    for step in w.plan(&three()).steps {
        let to = step
            .action
            .at()
            .and_then(|id| w.observe().member(id).map(|m| m.role));
        assert!(!matches!(step.action, Action::AddSlots { .. }) || to == Some(Role::Primary));
    }
}

#[test]
fn contested_slots_are_left_to_the_engines() {
    let mut w = World::formed(3, 1);
    w.node("b").slots = w.get("b").slots.union(&slots(5, 5));
    w.node("b").epoch = 1;
    let waits = w.waits(&three());
    assert!(says(&waits, "two nodes claim slots 5"), "{waits:?}");
    assert!(!says(&w.steps(&three()), "give slots"));
}

/// Four primaries, of which the others were made to forget the first: it is not found from them.
fn forgetful() -> World {
    let mut w = World::formed(4, 0);
    w.nodes.retain(|n| n.name != "a");
    w.counted(&slots(0, 4095), &[]);
    w
}

#[test]
fn slots_that_a_forgotten_primary_may_own_are_given_out_by_consent_only() {
    let w = forgetful();
    for d in [Desired::guest(), guest_shape(3, 0)] {
        assert!(w.steps(&d).is_empty(), "{:?}", w.steps(&d));
        let waits = w.waits(&d);
        let wait = "nobody owns slots 0-4095, and a node that all others were made to forget may";
        assert!(says(&waits, wait), "{waits:?}");
        assert!(w.plan(&d).is_stuck());
        assert_eq!(w.steps(&consenting(d)).len(), 3);
    }
    // The servers of a cluster of ours are recorded, and each was heard.
    assert_eq!(w.steps(&Desired::managed(3, 0)).len(), 3);
}

#[test]
fn slots_whose_owner_is_known_need_no_consent() {
    let given = |w: &World| {
        let steps = w.steps(&Desired::guest());
        steps.iter().filter(|s| s.starts_with("give slots")).count()
    };
    // A few slots, and each epoch that was ever taken is one of these primaries', or may be a replica's.
    let mut few = lacking();
    few.counted(&slots(0, 99), &[]);
    assert_eq!(given(&few), 1);
    for node in ["a1", "b1"] {
        few.nodes.retain(|n| n.name != node);
    }
    assert_eq!(
        given(&few),
        0,
        "two epochs are nobody's, and one replica is left"
    );
    // Somebody's table gives them to a primary that is here.
    few.believes("c1", "a", |row| row.slots = slots(0, 5460));
    assert_eq!(given(&few), 1);
    // As many as any primary has may be a shard, made without epochs.
    let mut shard = World::formed(3, 1);
    shard.node("a").slots = SlotSet::empty();
    shard.counted(&slots(0, 5460), &[]);
    assert_eq!(given(&shard), 0);
}

/// A server that lost its table of nodes claims what it has keys of, and knows nobody.
#[test]
fn a_lone_node_with_keys_is_not_given_what_others_may_own() {
    let mut w = World::empty();
    let node = w.add("a");
    (node.keys, node.slots, node.state_ok) = (9, slots(0, 9_999), false);
    w.counted(&slots(10_000, 16_383), &[]);
    let d = Desired::guest();
    assert!(w.steps(&d).is_empty(), "{:?}", w.steps(&d));
    let waits = w.waits(&d);
    let wait = "a, which has keys and knows no other node, may have lost its table of nodes";
    assert!(says(&waits, wait), "{waits:?}");
    assert!(w.plan(&d).is_stuck());
    assert_eq!(w.steps(&consenting(d)), ["give slots 10000-16383 to a"]);
}
