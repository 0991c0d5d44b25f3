//! What happens to shards, as it is told by events and in the log.

#[path = "../../planner/tests/rules/world.rs"]
#[expect(dead_code, reason = "the planner's tests use the rest of it")]
mod world;

use std::collections::BTreeSet;

use shardwright_operator::events::Note;
use shardwright_operator::incidents::Incidents;
use shardwright_topology::Timestamp;
use world::World;

/// What a look tells that is made so many milliseconds after the first.
fn look(incidents: &mut Incidents, w: &World, after_ms: u64) -> Vec<Note> {
    let mut observed = w.observe();
    observed.at = Timestamp(world::NOW + after_ms);
    incidents.see(&observed, BTreeSet::new())
}

fn reasons(notes: &[Note]) -> Vec<(bool, &'static str)> {
    notes.iter().map(|n| (n.warning, n.reason)).collect()
}

/// `a1` has taken the place of `a`.
fn promote(w: &mut World) {
    let slots = std::mem::take(&mut w.node("a").slots);
    w.node("a").primary = Some(world::id("a1"));
    let successor = w.node("a1");
    successor.slots = slots;
    successor.primary = None;
    successor.epoch += 10;
}

#[test]
fn a_healthy_cluster_tells_nothing() {
    let (mut incidents, w) = (Incidents::default(), World::formed(3, 1));
    for ms in [0, 1_000, 2_000] {
        assert_eq!(look(&mut incidents, &w, ms), []);
    }
}

#[test]
fn a_shard_without_a_primary_is_told_with_its_length_and_the_engines_own_failover() {
    let (mut incidents, mut w) = (Incidents::default(), World::formed(3, 1));
    assert_eq!(look(&mut incidents, &w, 0), []);
    w.hush("a");
    // One look may have met a time-out.
    assert_eq!(look(&mut incidents, &w, 1_000), []);
    let told = look(&mut incidents, &w, 1_500);
    assert_eq!(reasons(&told), [(true, "ShardWithoutPrimary")]);
    assert_eq!(
        told[0].text,
        "slots 0-5460 have no primary: a is unreachable"
    );
    assert_eq!(look(&mut incidents, &w, 2_000), [], "it was told");
    promote(&mut w);
    let told = look(&mut incidents, &w, 3_300);
    assert_eq!(
        reasons(&told),
        [(true, "EngineFailover"), (false, "ShardHasPrimary")]
    );
    assert!(
        told[0].text.contains("a1 is the primary of slots 0-5460"),
        "{}",
        told[0].text
    );
    assert_eq!(
        told[1].text,
        "slots 0-5460 have a primary again, 2.3 s after a was unreachable"
    );
}

#[test]
fn a_promotion_of_ours_is_told_as_the_step_and_one_of_others_as_theirs() {
    let mut w = World::formed(3, 1);
    let (mut ours, mut theirs) = (Incidents::default(), Incidents::default());
    let step = BTreeSet::from([world::id("a1")]);
    assert_eq!(ours.see(&w.observe(), step), []);
    assert_eq!(look(&mut theirs, &w, 0), []);
    promote(&mut w);
    assert_eq!(look(&mut ours, &w, 1_000), []);
    let told = look(&mut theirs, &w, 1_000);
    assert_eq!(reasons(&told), [(true, "PromotedByOthers")]);
}

#[test]
fn a_majority_that_is_lost_is_told_and_that_it_is_back() {
    let (mut incidents, mut w) = (Incidents::default(), World::formed(3, 1));
    assert_eq!(look(&mut incidents, &w, 0), []);
    for name in ["a", "b"] {
        w.hush(name);
    }
    assert_eq!(look(&mut incidents, &w, 1_000), []);
    let told = look(&mut incidents, &w, 2_000);
    let told: Vec<&Note> = told.iter().filter(|n| n.reason == "NoMajority").collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].text.starts_with("1 of 3 primaries can be reached"));
    w.node("a").silent = None;
    let told = look(&mut incidents, &w, 4_000);
    assert!(reasons(&told).contains(&(false, "MajorityRestored")));
    assert!(reasons(&told).contains(&(false, "ShardHasPrimary")));
}

#[test]
fn where_nothing_is_reached_nothing_is_told_to_be_over() {
    let (mut incidents, mut w) = (Incidents::default(), World::formed(3, 1));
    w.hush("a");
    look(&mut incidents, &w, 0);
    look(&mut incidents, &w, 1_000);
    for name in ["a1", "b", "b1", "c", "c1"] {
        w.hush(name);
    }
    assert_eq!(look(&mut incidents, &w, 2_000), []);
}
