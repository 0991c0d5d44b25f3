//! Who should own how many slots, and what moves for it: properties over arbitrary owners.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use shardwright_planner::balance::{Owned, Transfer, drain, even, quotas};
use shardwright_planner::layout;
use shardwright_topology::{NodeId, SlotSet};

use crate::world::{id, slots};

const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

fn settings() -> ProptestConfig {
    ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(7),
        ..ProptestConfig::default()
    }
}

fn names(count: usize) -> BTreeSet<NodeId> {
    NAMES[..count].iter().map(|n| id(n)).collect()
}

/// Every slot has one of so many owners, in stretches that the cuts end.
fn owners(cuts: &[u16], count: usize) -> Owned {
    let ends: BTreeSet<u64> = cuts.iter().map(|c| u64::from(c % 16_383)).collect();
    let mut owned = Owned::new();
    let mut first = 0;
    for (i, end) in ends.into_iter().chain([16_383]).enumerate() {
        let who = id(NAMES[(i * 5 + i / 3) % count]);
        let set = owned.entry(who).or_default();
        *set = set.union(&slots(first, end));
        first = end + 1;
    }
    owned
}

fn as_laid_out(shards: u16) -> Owned {
    let ranges = layout(shards).into_iter().map(SlotSet::from);
    NAMES.iter().map(|n| id(n)).zip(ranges).collect()
}

fn apply(owned: &mut Owned, moves: &[Transfer]) {
    for t in moves {
        let from = &owned[&t.from];
        assert_eq!(from.intersection(&t.slots), t.slots, "it gives what it has");
        let rest = from.difference(&t.slots);
        owned.insert(t.from, rest);
        let to = owned.entry(t.to).or_default();
        *to = to.union(&t.slots);
    }
    owned.retain(|_, slots| !slots.is_empty());
}

fn moved(moves: &[Transfer]) -> u32 {
    moves.iter().map(|t| u32::from(t.slots.count())).sum()
}

fn counts(owned: &Owned) -> Vec<u16> {
    let mut counts: Vec<u16> = owned.values().map(SlotSet::count).collect();
    counts.sort_unstable();
    counts
}

fn unweighted() -> BTreeMap<NodeId, u32> {
    BTreeMap::new()
}

/// The fewest slots that must move so that no two of those who stay differ by more than one.
fn fewest(owned: &Owned, stay: &BTreeSet<NodeId>) -> u32 {
    let many = u32::try_from(stay.len()).expect("few");
    let (part, mut rest) = (16_384 / many, 16_384 % many);
    let mut have: Vec<u32> = stay
        .iter()
        .map(|id| owned.get(id).map_or(0, |s| u32::from(s.count())))
        .collect();
    have.sort_unstable_by_key(|n| std::cmp::Reverse(*n));
    let kept: u32 = have
        .into_iter()
        .map(|n| {
            let extra = u32::from(rest > 0);
            rest -= extra;
            n.min(part + extra)
        })
        .sum();
    16_384 - kept
}

#[test]
fn a_fourth_shard_gets_exactly_a_quarter() {
    let owned = as_laid_out(3);
    let moves = even(&owned, &names(4), &unweighted());
    assert_eq!(moved(&moves), 4_096);
    assert!(moves.iter().all(|t| t.to == id("d")));
    let given: Vec<String> = moves.iter().map(|t| t.slots.to_string()).collect();
    assert_eq!(given, ["4096-5460", "9557-10922", "15019-16383"]);
}

#[test]
fn more_and_back_returns_the_counts() {
    for (a, b) in [(3_u16, 4_u16), (3, 5), (4, 7), (5, 9)] {
        let before = as_laid_out(a);
        let mut owned = before.clone();
        let out = even(&owned, &names(usize::from(b)), &unweighted());
        apply(&mut owned, &out);
        let back = even(&owned, &names(usize::from(a)), &unweighted());
        apply(&mut owned, &back);
        assert_eq!(moved(&out), moved(&back), "{a} → {b} → {a}");
        assert_eq!(counts(&owned), counts(&before), "{a} → {b} → {a}");
    }
}

#[test]
fn weights_divide_the_slots() {
    let weights = BTreeMap::from([(id("a"), 2), (id("b"), 1), (id("c"), 0)]);
    let quotas = quotas(&as_laid_out(3), &names(3), &weights);
    assert_eq!(
        quotas.values().copied().collect::<Vec<_>>(),
        [10_922, 5_462, 0]
    );
    let none = BTreeMap::from([(id("a"), 0), (id("b"), 0), (id("c"), 0)]);
    assert_eq!(even(&as_laid_out(3), &names(3), &none), []);
}

#[test]
fn nothing_moves_where_nobody_stays() {
    assert_eq!(even(&as_laid_out(3), &BTreeSet::new(), &unweighted()), []);
    assert_eq!(drain(&as_laid_out(3), &names(1), &BTreeSet::new()), []);
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn the_fewest_slots_move_and_all_are_even(
        cuts in prop::collection::vec(any::<u16>(), 0..12),
        count in 1_usize..9,
        stay in 1_usize..10,
    ) {
        let mut owned = owners(&cuts, count);
        let stay = names(stay);
        let quotas = quotas(&owned, &stay, &unweighted());
        prop_assert_eq!(quotas.values().map(|q| u32::from(*q)).sum::<u32>(), 16_384);
        let moves = even(&owned, &stay, &unweighted());
        prop_assert_eq!(moved(&moves), fewest(&owned, &stay));
        let gives: BTreeSet<NodeId> = moves.iter().map(|t| t.from).collect();
        prop_assert!(moves.iter().all(|t| !gives.contains(&t.to)), "{:?}", moves);
        prop_assert!(moves.len() < owned.len() + stay.len());
        apply(&mut owned, &moves);
        let counts = counts(&owned);
        prop_assert!(counts[counts.len() - 1] - counts[0] <= 1, "{:?}", counts);
        prop_assert_eq!(even(&owned, &stay, &unweighted()), vec![]);
    }

    /// Each plan takes the first part of some moves, and the next begins anew.
    #[test]
    fn begun_anew_it_never_asks_for_more_than_was_left(
        cuts in prop::collection::vec(any::<u16>(), 0..12),
        count in 1_usize..9,
        stay in 1_usize..10,
        weights in prop::collection::vec(0_u32..5, 9),
        stops in prop::collection::vec((any::<usize>(), 0_u16..600), 0..20),
    ) {
        let mut owned = owners(&cuts, count);
        let stay = names(stay);
        let weights: BTreeMap<NodeId, u32> = NAMES.iter().map(|n| id(n)).zip(weights).collect();
        let mut left = moved(&even(&owned, &stay, &weights));
        for (which, many) in stops {
            let moves = even(&owned, &stay, &weights);
            prop_assert!(moved(&moves) <= left);
            left = moved(&moves);
            if moves.is_empty() {
                break;
            }
            let mut part = moves[which % moves.len()].clone();
            part.slots = part.slots.slots().take(usize::from(many)).collect();
            left -= u32::from(part.slots.count());
            apply(&mut owned, &[part]);
        }
        prop_assert!(moved(&even(&owned, &stay, &weights)) <= left);
    }

    #[test]
    fn weighted_quotas_are_within_one_of_their_part(
        cuts in prop::collection::vec(any::<u16>(), 0..12),
        weights in prop::collection::vec(1_u32..9, 5),
    ) {
        let owned = owners(&cuts, 5);
        let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        let by_node: BTreeMap<NodeId, u32> = NAMES.iter().map(|n| id(n)).zip(weights).collect();
        let quotas = quotas(&owned, &names(5), &by_node);
        prop_assert_eq!(quotas.values().map(|q| u32::from(*q)).sum::<u32>(), 16_384);
        for (id, quota) in quotas {
            let part = 16_384 * u64::from(by_node[&id]) / sum;
            prop_assert!((part..=part + 1).contains(&u64::from(quota)));
        }
    }

    #[test]
    fn only_the_drained_gives_and_the_poorest_get(
        cuts in prop::collection::vec(any::<u16>(), 0..12),
        count in 2_usize..9,
        which in any::<usize>(),
    ) {
        let mut owned = owners(&cuts, count);
        let nodes: Vec<NodeId> = owned.keys().copied().collect();
        let node = nodes[which % nodes.len()];
        let stay: BTreeSet<NodeId> = nodes.iter().copied().filter(|n| *n != node).collect();
        prop_assume!(!stay.is_empty());
        let before = owned.clone();
        let moves = drain(&owned, &BTreeSet::from([node]), &stay);
        prop_assert!(moves.iter().all(|t| t.from == node && stay.contains(&t.to)));
        apply(&mut owned, &moves);
        prop_assert!(!owned.contains_key(&node));
        // Whoever got some has no more than one above the poorest.
        let poorest = counts(&owned)[0];
        for (id, slots) in &owned {
            let got = slots.count() > before.get(id).map_or(0, SlotSet::count);
            prop_assert!(!got || slots.count() <= poorest + 1);
        }
    }
}
