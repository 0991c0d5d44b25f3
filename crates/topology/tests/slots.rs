//! Sets of slots against a model: one bit for each slot.

use std::collections::BTreeSet;

use proptest::prelude::*;
use shardwright_topology::{SLOT_COUNT, Slot, SlotRange, SlotSet};

/// The model. Which slots are in the set.
type Bits = Vec<bool>;

fn blank() -> Bits {
    vec![false; usize::from(SLOT_COUNT)]
}

fn bits(set: &SlotSet) -> Bits {
    let mut bits = blank();
    for slot in set.slots() {
        bits[usize::from(slot.number())] = true;
    }
    bits
}

fn both(a: &Bits, b: &Bits, keep: impl Fn(bool, bool) -> bool) -> Bits {
    a.iter().zip(b).map(|(a, b)| keep(*a, *b)).collect()
}

/// A set is written in one way only: ranges rise, and between two of them a slot is missing.
fn is_normal(set: &SlotSet) -> bool {
    let gap = |w: &[SlotRange]| w[0].last().number() + 1 < w[1].first().number();
    set.ranges().windows(2).all(gap)
}

fn range() -> impl Strategy<Value = SlotRange> {
    let places = prop_oneof![0..64_u64, 16_320..16_384_u64, 0..16_384_u64];
    (places, prop_oneof![Just(0), 0..8_u64, 0..3_000_u64])
        .prop_filter_map("a range", |(first, more)| {
            SlotRange::new(first, (first + more).min(16_383)).ok()
        })
}

fn ranges() -> impl Strategy<Value = Vec<SlotRange>> {
    prop::collection::vec(range(), 0..24)
}

fn model(ranges: &[SlotRange]) -> Bits {
    let mut bits = blank();
    for range in ranges {
        bits[usize::from(range.first().number())..=usize::from(range.last().number())].fill(true);
    }
    bits
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn collected_and_inserted_sets_are_the_model(ranges in ranges()) {
        let collected: SlotSet = ranges.iter().copied().collect();
        let mut inserted = SlotSet::empty();
        for range in &ranges {
            inserted.insert(*range);
            prop_assert!(is_normal(&inserted));
        }
        prop_assert_eq!(&collected, &inserted);
        let model = model(&ranges);
        prop_assert_eq!(bits(&collected), model.clone());
        let count = model.iter().filter(|b| **b).count();
        prop_assert_eq!(usize::from(collected.count()), count);
        prop_assert_eq!(collected.is_empty(), count == 0);
        for slot in Slot::all() {
            prop_assert_eq!(collected.contains(slot), model[usize::from(slot.number())]);
        }
        prop_assert_eq!(collected.slots().collect::<SlotSet>(), collected);
    }

    #[test]
    fn algebra_is_the_models(a in ranges(), b in ranges()) {
        let (x, y): (SlotSet, SlotSet) = (a.iter().copied().collect(), b.iter().copied().collect());
        let (p, q) = (model(&a), model(&b));
        let results = [
            (x.union(&y), both(&p, &q, |a, b| a || b)),
            (x.intersection(&y), both(&p, &q, |a, b| a && b)),
            (x.difference(&y), both(&p, &q, |a, b| a && !b)),
            (x.complement(), p.iter().map(|b| !b).collect()),
        ];
        for (set, model) in results {
            prop_assert!(is_normal(&set), "{set}");
            prop_assert_eq!(bits(&set), model);
        }
    }

    #[test]
    fn the_text_lists_the_ranges(a in ranges()) {
        let set: SlotSet = a.into_iter().collect();
        let mut read = BTreeSet::new();
        for part in set.listed().split(',').filter(|p| *p != "none") {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let bounds = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
            let (first, last) = bounds.ok_or_else(|| TestCaseError::fail(part.to_owned()))?;
            read.extend(first..=last);
        }
        prop_assert_eq!(read, set.slots().map(Slot::number).collect::<BTreeSet<_>>());
    }
}

#[test]
fn the_bounds() {
    assert!(
        Slot::new(16_383).is_ok() && Slot::new(16_384).is_err() && Slot::new(u64::MAX).is_err()
    );
    assert!(SlotRange::new(5, 4).is_err() && SlotRange::new(0, 16_384).is_err());
    assert_eq!(SlotSet::all().count(), SLOT_COUNT);
    assert_eq!(SlotSet::all().complement(), SlotSet::empty());
    assert_eq!(SlotSet::empty().complement(), SlotSet::all());
    assert_eq!(SlotSet::empty().to_string(), "none");
}

#[test]
fn people_are_shown_the_first_ranges_and_the_number() {
    let every_other: SlotSet = (0..100)
        .step_by(2)
        .filter_map(|n| Slot::new(n).ok())
        .collect();
    assert_eq!(every_other.to_string(), "0,2,4,6, … (50)");
    assert_eq!(every_other.counted().to_string(), "0,2,4,6, … (50)");
    assert_eq!(every_other.brief(1).to_string(), "0, … (50)");
    assert_eq!(every_other.listed().split(',').count(), 50);
    assert_eq!(format!("{every_other:?}"), every_other.listed());
    let few = every_other.intersection(&SlotRange::new(0, 6).expect("slots").into());
    assert_eq!(few.to_string(), "0,2,4,6");
    assert_eq!(few.counted().to_string(), "0,2,4,6 (4)");
}
