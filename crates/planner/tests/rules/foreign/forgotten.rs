//! What is left of a met cluster once ours have forgotten it: what it cost is named, and its nodes may come again.

use shardwright_planner::{Desired, Memory, ProblemKind, Waiting, diagnose};
use shardwright_topology::{EngineKind, SlotSet, Timestamp, Version};

use super::{lost_one, meet, planned, remembered, seen, steps, waits};
use crate::world::{NOW, World, id, says, three};

/// Everyone is a Valkey of this version.
fn valkey(w: &mut World, major: u16, minor: u16) {
    for node in &mut w.nodes {
        node.engine = EngineKind::Valkey;
        node.version = Version {
            major,
            minor,
            patch: 0,
        };
    }
}

/// What is remembered after a look at which `x` was listed.
fn having_met() -> Memory {
    let mut memory = remembered();
    let mut w = World::formed(3, 1);
    meet(&mut w, "x", SlotSet::empty());
    seen(&w, &mut memory);
    memory
}

/// `x` took the slots of `a` after it was seen without any, and was forgotten: Valkey leaves `a` a primary without slots, and
/// 9.1 without their keys.
fn parted(keys: u64) -> World {
    let mut w = World::formed(3, 1);
    let owned = std::mem::replace(&mut w.node("a").slots, SlotSet::empty());
    let held: &[(&str, u64)] = if keys > 0 {
        &[("a", 1), ("a1", 1)]
    } else {
        &[]
    };
    w.counted(&owned, held);
    (w.node("a").keys, w.node("a1").keys) = (keys, keys);
    w
}

#[test]
fn keys_that_were_deleted_after_the_look_are_named() {
    let w = parted(0);
    let made = planned(&w, &three(), &mut having_met());
    assert!(says(&steps(&w, &made), "give slots 0-5460 to a"));
    let waits = waits(&w, &made);
    let lost = "a deleted the keys of slots that it lost (100 keys before, 0 now)";
    assert!(says(&waits, lost), "{waits:?}");
    assert!(says(&waits, "they took slots 0-5460 of a"), "{waits:?}");
    let met = made.waiting.iter().find_map(|wait| match wait {
        Waiting::ForeignNodesMet(met) => Some(met),
        _ => None,
    });
    assert!(met.is_some_and(|met| met.nodes.contains_key(&id("x"))));
}

#[test]
fn nothing_is_named_where_no_key_is_missing_or_nobody_was_met() {
    let w = parted(100);
    let made = planned(&w, &three(), &mut having_met());
    assert!(says(&steps(&w, &made), "give slots 0-5460 to a"));
    assert!(!says(&waits(&w, &made), "were met"), "{:?}", made.waiting);
    let w = parted(0);
    let made = planned(&w, &three(), &mut remembered());
    assert!(!says(&waits(&w, &made), "were met"), "{:?}", made.waiting);
    let met = |p: &ProblemKind| matches!(p, ProblemKind::ForeignNodesMet(_));
    let problems = diagnose(&seen(&w, &mut having_met()));
    assert!(!problems.iter().any(|p| met(&p.kind)));
}

#[test]
fn who_may_meet_them_again_takes_a_greater_epoch() {
    let raised = |w: &World, d: &Desired, memory: &mut Memory| steps(w, &planned(w, d, memory));
    let mut memory = remembered();
    seen(&lost_one(), &mut memory);
    let mut w = World::formed(3, 1);
    valkey(&mut w, 9, 1);
    let steps = raised(&w, &three(), &mut memory);
    assert_eq!(steps, ["let a raise its epoch"]);
    w.node("a").epoch = 101;
    w.node("a1").epoch = 101;
    let steps = raised(&w, &three(), &mut memory);
    assert_eq!(steps, ["let b raise its epoch"]);
    // They come again, and take nothing.
    meet(&mut w, "x", SlotSet::empty());
    for (name, epoch) in [("b", 102), ("b1", 102), ("c", 103), ("c1", 103)] {
        w.node(name).epoch = epoch;
    }
    let steps = raised(&w, &three(), &mut memory);
    assert!(
        steps.iter().all(|step| step.ends_with(" forget x")),
        "{steps:?}"
    );
}

#[test]
fn nobody_takes_a_greater_epoch_without_need() {
    // Redis, and Valkey before 8.1, do not introduce themselves again; nobody was met; or it was long ago.
    let quiet = |w: &World, memory: &mut Memory| {
        let made = planned(w, &three(), memory);
        assert_eq!(steps(w, &made), Vec::<String>::new());
    };
    let mut w = World::formed(3, 1);
    quiet(&w, &mut having_met_taken());
    valkey(&mut w, 8, 0);
    quiet(&w, &mut having_met_taken());
    valkey(&mut w, 9, 1);
    quiet(&w, &mut remembered());
    let mut old = remembered();
    let mut o = lost_one().observe();
    o.at = Timestamp(NOW - 600_000);
    old.recall(&mut o);
    quiet(&w, &mut old);
}

/// What is remembered after a look at which `x` had the slots of `a`.
fn having_met_taken() -> Memory {
    let mut memory = remembered();
    seen(&lost_one(), &mut memory);
    memory
}
