//! Slots that nobody owns are given out anew only when a person agreed that what they held is lost.

use shardwright_planner::Desired;

use crate::world::{World, consenting, says, slots, three};

#[test]
fn uncovered_slots_need_consent() {
    for (d, with) in [
        (three(), consenting(three())),
        (Desired::guest(), consenting(Desired::guest())),
    ] {
        let mut w = World::formed(3, 1);
        w.node("a").slots = slots(100, 5460);
        assert!(w.steps(&d).is_empty());
        assert!(says(&w.waits(&d), "nobody owns slots 0-99"));
        assert!(w.plan(&d).is_stuck());
        assert_eq!(
            w.steps(&with),
            ["give slots 0-99 to a"],
            "who has fewest gets them"
        );
    }
}

#[test]
fn consent_is_not_enough_while_someone_is_not_heard() {
    let mut w = World::formed(3, 1);
    w.node("a").slots = slots(100, 5460);
    w.hush("c1");
    assert!(w.steps(&consenting(three())).is_empty());
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
