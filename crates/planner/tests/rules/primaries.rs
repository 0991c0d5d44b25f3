//! Primaries are kept apart: what is done where a host or a zone holds too many of them, and what is said where nothing can
//! be done.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use shardwright_planner::{Crowded, Desired, ProblemKind, Reason, Severity, diagnose};
use shardwright_topology::{AttemptKind, NoWrites, NodeId, OpenSlot, Place, Tied, Timestamp};

use crate::spread::follow;
use crate::world::{NOW, World, id, says, slot, stream, three};

fn place(w: &mut World, places: &[(&str, &str)]) {
    for (name, host) in places {
        w.node(name).place.host = Some((*host).to_owned());
    }
}

/// Three shards on three hosts. Roles have moved, and `h1` holds two primaries.
fn together() -> World {
    let mut w = World::formed(3, 1);
    let places = [
        ("a", "h1"),
        ("b", "h1"),
        ("c", "h2"),
        ("a1", "h2"),
        ("b1", "h3"),
        ("c1", "h3"),
    ];
    place(&mut w, &places);
    w
}

/// What is noted of places without which there is no majority, and what mends it.
fn noted(w: &World) -> Vec<String> {
    let found = diagnose(&w.observe()).into_iter();
    let majorities = found.filter(|p| matches!(p.kind, ProblemKind::Majority { .. }));
    majorities
        .map(|p| {
            assert_eq!(p.severity, Severity::Note);
            w.name_all(&format!("{} | {}", p.kind, p.kind.mend("local")))
        })
        .collect()
}

#[test]
fn one_switchover_of_the_shard_that_has_a_replica_elsewhere() {
    let mut w = together();
    let d = three();
    let command = format!("shardwright failover local {}", id("b1"));
    assert_eq!(
        noted(&w),
        [w.name_all(&format!(
            "host h1 holds 2 of 3 primaries: if it is cut off, the others are no majority, and no slot is served | {command}"
        ))]
    );
    assert_eq!(
        w.reasons(&d),
        ["switch over from b to its replica b1: host h1 holds 2 of 3 primaries"]
    );
    assert!(follow(&mut w, &d));
    assert!(w.plan(&d).is_settled(), "it does not go back");
    assert_eq!(noted(&w), [""; 0]);
}

#[test]
fn a_primary_makes_room_for_another() {
    // b1 could not take writes; a1 is where c is, and c1 where nobody is.
    let mut w = together();
    w.node("b1").no_writes = Some(NoWrites::Log);
    let d = three();
    assert_eq!(
        w.reasons(&d),
        ["switch over from c to its replica c1: host h1 holds 2 of 3 primaries"]
    );
    assert!(follow(&mut w, &d));
    assert_eq!(w.steps(&d), ["switch over from a to its replica a1"]);
    assert!(follow(&mut w, &d));
    assert!(w.plan(&d).is_settled());
}

#[test]
fn of_two_hosts_one_holds_a_majority_and_that_is_said() {
    let mut w = World::formed(3, 1);
    let places = [
        ("a", "h1"),
        ("b", "h1"),
        ("c", "h2"),
        ("a1", "h2"),
        ("b1", "h2"),
        ("c1", "h1"),
    ];
    place(&mut w, &places);
    let said = "host h1 holds 2 of 3 primaries: if it is cut off, the others are no majority, and no slot is served | \
                where no switchover helps, spread its servers over more hosts, 3 at least, so that each shard has \
                copies on several";
    assert!(w.plan(&three()).is_settled());
    assert_eq!(noted(&w), [said]);
    // All three on one are more than its share.
    place(&mut w, &[("c", "h1"), ("c1", "h2")]);
    assert_eq!(
        w.reasons(&three()),
        ["switch over from a to its replica a1: host h1 holds 3 of 3 primaries"]
    );
    assert!(follow(&mut w, &three()));
    assert!(w.plan(&three()).is_settled());
    assert_eq!(noted(&w), [said]);
    // On one host alone it is as it is.
    for node in &mut w.nodes {
        node.place.host = Some("h1".to_owned());
    }
    assert!(w.plan(&three()).is_settled());
    assert_eq!(noted(&w), [""; 0]);
}

#[test]
fn primaries_are_kept_apart_by_zones_too() {
    let mut w = World::formed(3, 1);
    let zones = |w: &mut World, zones: [&str; 6]| {
        for (name, zone) in ["a", "b", "c", "a1", "b1", "c1"].into_iter().zip(zones) {
            w.node(name).place.zone = Some(zone.to_owned());
        }
    };
    zones(&mut w, ["east", "east", "west", "west", "south", "south"]);
    assert_eq!(
        w.reasons(&three()),
        ["switch over from b to its replica b1: zone east holds 2 of 3 primaries"]
    );
    assert!(says(
        &noted(&w),
        "zone east holds 2 of 3 primaries: if it is cut off"
    ));
    assert!(follow(&mut w, &three()));
    assert!(w.plan(&three()).is_settled());
    assert_eq!(noted(&w), [""; 0]);
    // Of two zones one holds a majority.
    let mut w = World::formed(3, 1);
    zones(&mut w, ["east", "east", "west", "west", "west", "east"]);
    assert!(w.plan(&three()).is_settled());
    assert!(says(
        &noted(&w),
        "spread its servers over more zones, 3 at least"
    ));
}

#[test]
fn it_waits_until_all_was_at_rest_for_a_while() {
    let mut w = together();
    for steady_ms in [None, Some(0), Some(9_999)] {
        w.steady_ms = steady_ms;
        assert!(w.steps(&three()).is_empty());
        assert_eq!(
            w.waits(&three()),
            [
                "replica b1 takes the role of primary b once all was at rest for a while: host h1 holds 2 of 3 primaries"
            ]
        );
        assert!(!w.plan(&three()).is_stuck());
    }
    w.steady_ms = Some(10_000);
    assert_eq!(w.steps(&three()).len(), 1);
}

#[test]
fn no_roles_change_while_anything_else_is_not_at_rest() {
    let away = Some(Timestamp(NOW - 1));
    let disturbances: [fn(&mut World); 7] = [
        |w| w.hush("c1").leaving = false,
        |w| w.hush("c").leaving = false,
        |w| w.node("c1").leaving = true,
        |w| w.node("c1").link_up = false,
        |w| w.node("c1").syncing = true,
        |w| w.believes("b", "c", |row| row.link_up = false),
        |w| {
            let to = id("c");
            w.node("b").open = vec![OpenSlot::Migrating {
                slot: slot(6_000),
                to,
            }];
        },
    ];
    for (i, disturb) in disturbances.iter().enumerate() {
        let mut w = together();
        disturb(&mut w);
        let steps = w.steps(&three());
        assert!(!says(&steps, "switch over"), "{i}: {steps:?}");
    }
    let mut w = together();
    w.node("c").place.away_since = away;
    assert!(w.steps(&three()).is_empty());
    w.node("c").place.away_since = None;
    w.node("c").place.tied = Some(Tied {
        host: "h9".to_owned(),
        away_since: away,
    });
    assert!(w.steps(&three()).is_empty());
    // What others run is left as it is.
    let w = together();
    assert!(w.plan(&Desired::guest()).is_settled());
    assert!(w.plan(&crate::world::guest_shape(3, 1)).is_settled());
}

#[test]
fn only_a_replica_with_its_primarys_data_takes_its_role() {
    let changes: [fn(&mut World); 3] = [
        |w| w.node("b1").syncing = true,
        |w| w.node("b1").link_up = false,
        |w| w.node("b1").stream = Some(stream("another")),
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut w = together();
        change(&mut w);
        let steps = w.steps(&three());
        assert!(!says(&steps, "switch over"), "{i}: {steps:?}");
        assert!(says(&noted(&w), "host h1 holds 2 of 3 primaries"), "{i}");
    }
    // It was asked a moment ago, or won an election a moment ago.
    let mut w = together();
    w.asked("b1", AttemptKind::Switchover, 10);
    assert!(w.steps(&three()).is_empty());
    assert!(says(&w.waits(&three()), "b1 is becoming the primary"));
    w.attempts.clear();
    w.wins.push((id("b1"), 100));
    assert!(w.steps(&three()).is_empty());
    assert!(says(
        &w.waits(&three()),
        "replica b1 takes the role of primary b"
    ));
}

#[test]
fn a_switchover_that_failed_lets_others_go_first() {
    let mut w = together();
    w.asked("b1", AttemptKind::Switchover, 10_000);
    // a could lead from h2 only once c has made room for it.
    assert_eq!(
        w.reasons(&three()),
        ["switch over from c to its replica c1: host h1 holds 2 of 3 primaries"]
    );
    w.asked("c1", AttemptKind::Switchover, 10_000);
    w.asked("a1", AttemptKind::Switchover, 10_000);
    assert!(w.steps(&three()).is_empty());
    assert!(says(&w.waits(&three()), "is becoming the primary"));
    w.attempts.clear();
    w.asked("b1", AttemptKind::Switchover, 20_000);
    assert_eq!(w.steps(&three()), ["switch over from b to its replica b1"]);
}

#[test]
fn a_host_that_is_being_emptied_gets_no_primary() {
    let mut w = together();
    for name in ["b1", "c1"] {
        w.node(name).place.cordoned = true;
    }
    assert!(w.steps(&three()).is_empty(), "{:?}", w.steps(&three()));
    assert!(says(&noted(&w), "host h1 holds 2 of 3 primaries"));
    for name in ["b1", "c1"] {
        w.node(name).place.cordoned = false;
    }
    assert_eq!(w.steps(&three()), ["switch over from b to its replica b1"]);
}

#[test]
fn one_unknown_zone_keeps_no_primaries_together() {
    let mut w = together();
    for name in ["a", "b", "c", "a1", "b1"] {
        w.node(name).place.zone = Some("east".to_owned());
    }
    let said = noted(&w);
    assert!(
        says(&said, "host h1 holds 2 of 3 primaries") && said.len() == 1,
        "{said:?}"
    );
    assert_eq!(w.steps(&three()), ["switch over from b to its replica b1"]);
}

#[test]
fn no_copy_is_placed_worse_by_it() {
    // b1 or b2 as the primary would have the other on its host.
    let mut w = World::formed(3, 2);
    let places = [
        ("a", "h1"),
        ("a1", "h2"),
        ("a2", "h3"),
        ("b", "h1"),
        ("b1", "h3"),
        ("b2", "h3"),
        ("c", "h2"),
        ("c1", "h1"),
        ("c2", "h3"),
    ];
    place(&mut w, &places);
    let d = Desired::managed(3, 2);
    assert_eq!(w.steps(&d), ["switch over from a to its replica a2"]);
    // Where a has no copy elsewhere, it stays as it is.
    place(&mut w, &[("a1", "h2"), ("a2", "h2")]);
    let steps = w.steps(&d);
    assert!(!says(&steps, "switch over from b "), "{steps:?}");
}

#[test]
fn a_primary_at_an_unknown_place_may_be_anywhere() {
    let mut w = together();
    w.node("c").place.host = None;
    assert!(w.plan(&three()).is_settled());
    // That two of three are on one host is known all the same.
    assert!(says(&noted(&w), "host h1 holds 2 of 3 primaries"));
    let mut w = together();
    w.node("b1").place.host = None;
    assert!(!says(&w.steps(&three()), "switch over from b "));
}

fn settings() -> ProptestConfig {
    ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(11),
        ..ProptestConfig::default()
    }
}

/// Who is a primary.
fn roles(w: &World) -> Vec<(NodeId, Option<NodeId>)> {
    w.nodes.iter().map(|n| (n.id, n.primary)).collect()
}

/// The hosts of each shard's copies, that of the primary first.
fn copies(w: &World) -> Vec<Vec<&Place>> {
    let primaries = w.nodes.iter().filter(|n| n.primary.is_none());
    primaries
        .map(|primary| {
            let replicas = w.nodes.iter().filter(|n| n.primary == Some(primary.id));
            [primary]
                .into_iter()
                .chain(replicas)
                .map(|n| &n.place)
                .collect()
        })
        .collect()
}

/// How many primaries the fullest host holds at least, whichever copy of each shard leads.
fn fullest<'a>(shards: &[Vec<&'a Place>], held: &mut BTreeMap<&'a Place, usize>) -> usize {
    let Some((first, others)) = shards.split_first() else {
        return held.values().copied().max().unwrap_or(0);
    };
    let each = first.iter().copied().map(|place| {
        *held.entry(place).or_insert(0) += 1;
        let most = fullest(others, held);
        *held.entry(place).or_insert(1) -= 1;
        most
    });
    each.min().unwrap_or(0)
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn no_host_keeps_a_majority_that_could_be_apart(
        shards in 3_u16..6,
        hosts in prop::collection::vec(0_u8..5, 10),
        zoned in any::<bool>(),
    ) {
        let mut w = World::formed(shards, 1);
        for (node, host) in w.nodes.iter_mut().zip(hosts) {
            node.place.host = Some(format!("h{host}"));
            node.place.zone = zoned.then(|| format!("z{}", host % 3));
        }
        let d = Desired::managed(shards, 1);
        let mut seen = BTreeSet::new();
        loop {
            prop_assert!(seen.insert(roles(&w)), "it goes round: {:?}", w.reasons(&d));
            let plan = w.plan(&d);
            let apart = |r: &Reason| matches!(r, Reason::Crowded(Crowded::Primaries(_)));
            let one = plan.steps.len() == 1;
            prop_assert!(one || !plan.steps.iter().any(|s| apart(&s.because)));
            if !follow(&mut w, &d) {
                break;
            }
        }
        prop_assert!(w.plan(&d).is_settled(), "{:?}", w.waits(&d));
        let all = copies(&w);
        let now: Vec<Vec<&Place>> = all.iter().map(|s| s[..1].to_vec()).collect();
        let voters = usize::from(shards);
        let no_majority = |held: usize| 2 * held >= voters;
        let now = fullest(&now, &mut BTreeMap::new());
        let best = fullest(&all, &mut BTreeMap::new());
        prop_assert!(!no_majority(now) || no_majority(best), "{} could be {}", now, best);
    }
}
