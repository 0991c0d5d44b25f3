//! What is left of a met cluster once ours have forgotten it: what it cost is named.

use shardwright_planner::{Memory, ProblemKind, Waiting, diagnose};
use shardwright_topology::SlotSet;

use super::{meet, planned, remembered, seen, steps, waits};
use crate::world::{World, id, says, three};

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
