//! Nobody of ours is a primary any more: all follow nodes of another cluster, directly or by another of ours.

use std::collections::BTreeSet;

use shardwright_planner::{Action, Desired, Memory, Step, ViolationKind};

use super::{
    OURS, follow, found_in, lost_one, meet, planned, remembered, replace, seen, steps, taken, waits,
};
use crate::check::unburdened;
use crate::world::{World, consenting, id, says, stream, three};

/// `y` is the last foreign node that is listed, and owns the slots of `b`. `a`, `b` and `b1` follow it, and the others follow
/// `b`; all have its data.
fn all_follow() -> World {
    let mut w = World::formed(3, 1);
    let owned = w.get("b").slots.clone();
    meet(&mut w, "y", owned);
    for name in OURS {
        let direct = ["a", "b", "b1"].contains(&name);
        follow(&mut w, name, "y", if direct { "y" } else { "b" });
        replace(&mut w, name, 3);
        w.node(name).stream = Some(stream(&id("y").to_string()));
    }
    w
}

fn resets(w: &World, d: &Desired, memory: &mut Memory) -> Vec<String> {
    let mut steps = steps(w, &planned(w, d, memory));
    steps.retain(|step| step.starts_with("reset "));
    steps
}

#[test]
fn where_all_follow_foreign_nodes_as_many_begin_anew_as_there_are_shards() {
    let w = all_follow();
    let made = planned(&w, &three(), &mut remembered());
    // `b` is followed by others of ours.
    assert_eq!(steps(&w, &made), ["reset a", "reset a1", "reset b1"]);
    let because = made.steps[0].because.to_string();
    assert!(because.contains("it has only that one's data"), "{because}");
    let waits = waits(&w, &made);
    for node in OURS {
        let lost = format!("the data of {node} was replaced by that of y (100 keys before, 3 now)");
        assert!(says(&waits, &lost), "{waits:?}");
    }
}

#[test]
fn one_at_least_stays_what_it_is() {
    // Blank nodes alone would be a cluster whose data is lost.
    let mut w = World::formed(3, 0);
    let (d, mut memory) = (Desired::managed(3, 0), Memory::default());
    memory.recall(&mut w.observe());
    meet_by(&mut w, &["a", "b", "c"]);
    assert_eq!(resets(&w, &d, &mut memory), ["reset a", "reset b"]);
}

/// `y` owns the slots of `b`, and these follow it, with its data.
fn meet_by(w: &mut World, names: &[&str]) {
    let owned = w.get("b").slots.clone();
    let node = w.add("y");
    (node.housed, node.recorded, node.island) = (false, None, Some(0));
    (node.epoch, node.slots) = (100, owned);
    for name in names {
        follow(w, name, "y", "y");
        replace(w, name, 3);
        w.believes(name, "y", |row| row.link_up = true);
    }
}

#[test]
fn who_may_have_the_last_of_a_shard_keeps_it() {
    // The copy of `a1` is not done.
    let mut w = all_follow();
    follow(&mut w, "a1", "a", "b");
    w.node("a1").keys = 100;
    let (d, mut memory) = (three(), remembered());
    assert_eq!(
        resets(&w, &d, &mut memory),
        ["reset b1", "reset c", "reset c1"]
    );
    // By consent, what is left of it does not count.
    assert!(resets(&w, &consenting(d), &mut memory).contains(&"reset a".to_owned()));
    // So it is where nobody remembers what anyone had.
    let w = all_follow();
    let (unasked, asked) = (three(), consenting(three()));
    assert!(resets(&w, &unasked, &mut Memory::default()).is_empty());
    assert_eq!(resets(&w, &asked, &mut Memory::default()).len(), 3);
    // Where one is not heard, it may be a primary still, with all of its data.
    let mut w = all_follow();
    w.hush("c1");
    assert_eq!(resets(&w, &three(), &mut memory), Vec::<String>::new());
}

#[test]
fn the_others_follow_those_that_began_anew_and_forget() {
    let mut w = all_follow();
    for (old, new) in [("a", "p"), ("a1", "q"), ("b1", "r")] {
        w.lose_directory(old, new).island = Some(0);
    }
    let steps = steps(&w, &planned(&w, &three(), &mut remembered()));
    assert!(says(&steps, "make b a replica of p"), "{steps:?}");
    assert!(!says(&steps, "reset "), "{steps:?}");
    for teller in ["b", "c", "c1", "p", "q", "r"] {
        assert!(
            says(&steps, &format!("make {teller} forget y")),
            "{steps:?}"
        );
    }
}

#[test]
fn the_linter_sees_by_itself_who_may_begin_anew() {
    let (d, mut memory) = (three(), remembered());
    let w = all_follow();
    let step = |w: &World, name: &str| Step {
        action: Action::Reset {
            node: unburdened(w, name),
        },
        ..planned(&all_follow(), &three(), &mut remembered())
            .steps
            .remove(0)
    };
    let o = seen(&w, &mut memory);
    assert_eq!(found_in(&step(&w, "c"), &d, &o), BTreeSet::new());
    // Its data is its own, a primary of ours is left, or nobody remembers what it had.
    let unasked = |name: &str| ViolationKind::ResetsUnasked { node: id(name) };
    let own = taken();
    let o = seen(&own, &mut memory);
    assert!(found_in(&step(&own, "a"), &d, &o).contains(&unasked("a")));
    let mut led = lost_one();
    replace(&mut led, "a", 3);
    replace(&mut led, "a1", 3);
    let o = seen(&led, &mut memory);
    assert!(found_in(&step(&led, "a"), &d, &o).contains(&unasked("a")));
    let o = seen(&w, &mut Memory::default());
    assert!(found_in(&step(&w, "a"), &d, &o).contains(&unasked("a")));
    let mut sibling = all_follow();
    follow(&mut sibling, "c1", "c", "b");
    sibling.node("c1").keys = 100;
    let o = seen(&sibling, &mut memory);
    assert!(found_in(&step(&sibling, "c"), &d, &o).contains(&unasked("c")));
}
