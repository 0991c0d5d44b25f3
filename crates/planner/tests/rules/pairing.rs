//! Pairing by place: as few pairs on one host as any pairing has, balanced, and quick.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shardwright_planner::pair;
use shardwright_topology::{NodeId, Place};

fn node(kind: u8, number: usize) -> NodeId {
    let mut bytes = [0; 20];
    bytes[0] = kind;
    bytes[1..9].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(bytes)
}

fn placed(kind: u8, hosts: &[u8]) -> Vec<(NodeId, Place)> {
    let place = |host: &u8| Place {
        host: (*host != 0).then(|| format!("host-{host}")),
        ..Place::default()
    };
    hosts
        .iter()
        .enumerate()
        .map(|(i, host)| (node(kind, i), place(host)))
        .collect()
}

/// The fewest pairs on one host, by trying everything.
fn fewest(primaries: &[u8], free: &[u8], used: u32) -> u32 {
    let Some((host, rest)) = primaries.split_first() else {
        return 0;
    };
    let mut best = u32::MAX;
    for (f, at) in free.iter().enumerate() {
        if used & (1 << f) == 0 {
            let same = u32::from(*host != 0 && host == at);
            best = best.min(same.saturating_add(fewest(rest, free, used | (1 << f))));
        }
    }
    best
}

fn settings() -> ProptestConfig {
    ProptestConfig {
        cases: 600,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(11),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn no_pairing_has_fewer_pairs_on_one_host(
        primaries in prop::collection::vec(0_u8..4, 1..4),
        spare in prop::collection::vec(0_u8..4, 0..3),
        free in prop::collection::vec(0_u8..4, 6),
        per_shard in 1_u16..3,
    ) {
        let want = primaries.len() * usize::from(per_shard);
        let mut hosts = free;
        hosts.truncate(want);
        while hosts.len() < want { hosts.push(0); }
        hosts.extend(spare);
        let pairing = pair(&placed(1, &primaries), &placed(2, &hosts), per_shard);
        prop_assert_eq!(pairing.pairs.len(), want);
        let mut seats = Vec::new();
        for _ in 0..per_shard { seats.extend(&primaries); }
        let found = u32::try_from(pairing.unspread.len()).expect("few");
        prop_assert_eq!(found, fewest(&seats, &hosts, 0));
    }

    #[test]
    fn shards_are_balanced_and_nobody_sits_twice(
        primaries in prop::collection::vec(0_u8..4, 1..8),
        free in prop::collection::vec(0_u8..4, 0..20),
        per_shard in 0_u16..4,
    ) {
        let pairing = pair(&placed(1, &primaries), &placed(2, &free), per_shard);
        let mut counts: BTreeMap<NodeId, usize> =
            placed(1, &primaries).into_iter().map(|(id, _)| (id, 0)).collect();
        let mut seen = std::collections::BTreeSet::new();
        for (replica, primary) in &pairing.pairs {
            prop_assert!(seen.insert(*replica));
            *counts.get_mut(primary).expect("one of the primaries") += 1;
        }
        let least = counts.values().min().copied().unwrap_or(0);
        let most = counts.values().max().copied().unwrap_or(0);
        prop_assert!(most - least <= 1, "{:?}", counts);
        let expected = (primaries.len() * usize::from(per_shard)).min(free.len());
        prop_assert_eq!(pairing.pairs.len(), expected);
    }
}

#[test]
fn a_pair_on_one_host_is_said() {
    let pairing = pair(&placed(1, &[1]), &placed(2, &[1]), 1);
    assert_eq!(pairing.unspread.len(), 1);
    assert_eq!(pairing.unspread[0].host, "host-1");
}

#[test]
fn unknown_hosts_are_not_one_host() {
    let pairing = pair(&placed(1, &[0]), &placed(2, &[0]), 1);
    assert!(pairing.unspread.is_empty());
}

#[test]
fn siblings_are_spread_too() {
    let pairing = pair(&placed(1, &[1]), &placed(2, &[2, 2, 3]), 2);
    let replicas: Vec<NodeId> = pairing.pairs.iter().map(|(r, _)| *r).collect();
    assert_eq!(replicas, [node(2, 0), node(2, 2)]);
}

#[test]
fn zones_are_spread_where_hosts_leave_a_choice() {
    let at = |host: &str, zone: &str| Place {
        host: Some(host.to_owned()),
        zone: Some(zone.to_owned()),
        ..Place::default()
    };
    let primaries = [
        (node(1, 0), at("h1", "east")),
        (node(1, 1), at("h2", "west")),
    ];
    let free = [
        (node(2, 0), at("h3", "east")),
        (node(2, 1), at("h4", "west")),
    ];
    let pairing = pair(&primaries, &free, 1);
    assert_eq!(
        pairing.pairs,
        [(node(2, 1), node(1, 0)), (node(2, 0), node(1, 1))]
    );
}
