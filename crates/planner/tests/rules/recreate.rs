//! Servers that their volumes tie to a host that is away: three shards of two.

use shardwright_planner::safety::{NoRecreate, why_not_recreate};
use shardwright_planner::{Authority, Desired, Precondition};
use shardwright_topology::{AttemptKind, SlotSet, Tied, Timestamp};

use crate::world::{NOW, World, id, says, slots, three};

const AFTER_MS: u64 = 60_000;

fn desired() -> Desired {
    Desired {
        recreate_after_ms: Some(AFTER_MS),
        ..three()
    }
}

/// Its volume is on a host that is away for so long, or well; and it is silent.
fn strand(w: &mut World, name: &str, away_ms: Option<u64>) {
    let place = &mut w.hush(name).place;
    let away_since = away_ms.map(|ms| Timestamp(NOW - ms));
    place.away_since = away_since;
    place.tied = place.host.clone().map(|host| Tied { host, away_since });
}

fn why(w: &World, name: &str) -> Option<NoRecreate> {
    let o = w.observe();
    let server = o.servers().values().find(|s| s.name.0 == name);
    why_not_recreate(&desired(), &o, server.expect("it is there"))
}

#[test]
fn a_replica_is_made_anew_once_its_host_was_away_for_long_and_its_primary_speaks() {
    let mut w = World::formed(3, 1);
    assert_eq!(why(&w, "b1"), Some(NoRecreate::NotTied));
    strand(&mut w, "b1", Some(AFTER_MS));
    assert_eq!(why(&w, "b1"), None);
    assert_eq!(
        w.reasons(&desired()),
        [
            "make b1 anew without its volume: host-b1, where its volume is, is away for too long, and others have its data"
        ]
    );
    let plan = w.plan(&desired());
    let lives =
        |p: &Precondition| matches!(p, Precondition::LivesAt { node, .. } if *node == id("b"));
    assert!(plan.steps[0].requires.iter().any(lives), "{plan:?}");
    strand(&mut w, "b1", None);
    assert_eq!(why(&w, "b1"), Some(NoRecreate::HostIsThere));
    strand(&mut w, "b1", Some(AFTER_MS - 1));
    assert_eq!(why(&w, "b1"), Some(NoRecreate::NotYet { left_ms: 1 }));
    assert!(w.steps(&desired()).is_empty());
    assert!(says(
        &w.waits(&desired()),
        "b1 waits for host-b1, which is away and has its volume: it may return for 1 s"
    ));
}

#[test]
fn the_last_copy_of_a_shard_is_never_given_up() {
    let mut w = World::formed(3, 1);
    strand(&mut w, "b", Some(AFTER_MS));
    assert_eq!(why(&w, "b"), Some(NoRecreate::OwnsSlots { node: id("b") }));
    strand(&mut w, "b1", Some(AFTER_MS));
    let silent = NoRecreate::PrimarySilent { primary: id("b") };
    assert_eq!(why(&w, "b1"), Some(silent));
    assert!(w.steps(&desired()).is_empty());
    assert!(says(&w.waits(&desired()), "b owns slots: no other copy"));
}

#[test]
fn an_old_primary_goes_once_its_successor_owns_the_slots() {
    let mut w = World::formed(3, 1);
    strand(&mut w, "b", Some(AFTER_MS));
    let slots = std::mem::replace(&mut w.node("b").slots, SlotSet::empty());
    let heir = w.node("b1");
    (heir.primary, heir.slots, heir.epoch) = (None, slots, 9);
    assert_eq!(why(&w, "b"), None);
    assert_eq!(w.steps(&desired()), ["make b anew without its volume"]);
    // Whose copy it had cannot be told: then the owners of all slots must live on.
    assert_eq!(w.plan(&desired()).steps[0].requires.len(), 3);
}

#[test]
fn a_forgotten_node_goes_only_while_all_slots_are_served() {
    let mut w = World::formed(3, 1);
    strand(&mut w, "b1", Some(AFTER_MS));
    w.node("b1").island = None;
    assert_eq!(why(&w, "b1"), None);
    w.hush("c");
    assert_eq!(why(&w, "b1"), Some(NoRecreate::SomeSlotsSilent));
}

#[test]
fn one_that_may_have_become_a_primary_unheard_stays() {
    let mut w = World::formed(3, 1);
    strand(&mut w, "b1", Some(AFTER_MS));
    w.asked("b1", AttemptKind::Switchover, AFTER_MS);
    let node = id("b1");
    assert_eq!(why(&w, "b1"), Some(NoRecreate::MayBePrimary { node }));
    assert!(w.steps(&desired()).is_empty());
    // It was heard since, as a replica.
    w.attempts[0].ended = true;
    assert_eq!(why(&w, "b1"), None);
    // Or it had become one when it was heard last, and was cut off from the others then.
    let mut w = World::formed(3, 1);
    let heir = w.node("b1");
    (heir.primary, heir.epoch, heir.slots) = (None, 9, slots(5_461, 10_922));
    w.kill("b1", 0);
    strand(&mut w, "b1", Some(AFTER_MS));
    let heir = w.node("b1");
    (heir.primary, heir.epoch, heir.slots) = (Some(id("b")), 2, SlotSet::empty());
    assert_eq!(why(&w, "b1"), Some(NoRecreate::MayBePrimary { node }));
}

#[test]
fn one_whose_primary_was_started_since_it_was_heard_stays() {
    // It may have taken its primary's place before that came back, and only who asked for it knew.
    let mut w = World::formed(3, 1);
    strand(&mut w, "b1", Some(AFTER_MS));
    let everybody = ["a", "b", "c", "a1", "c1"];
    for speaker in everybody {
        w.believes(speaker, "b1", |row| row.pong_received_ms = NOW - AFTER_MS);
    }
    assert_eq!(why(&w, "b1"), None);
    w.node("b").uptime_s = Some(AFTER_MS / 1_000 - 1);
    let node = id("b1");
    assert_eq!(why(&w, "b1"), Some(NoRecreate::MayBePrimary { node }));
    assert!(w.steps(&desired()).is_empty());
    // We heard it as a replica ourselves, and asked for nothing since.
    w.kill("b1", 0);
    strand(&mut w, "b1", Some(AFTER_MS));
    assert_eq!(why(&w, "b1"), None);
}

#[test]
fn what_speaks_or_is_not_known_stays() {
    let mut w = World::formed(3, 1);
    strand(&mut w, "b1", Some(AFTER_MS));
    w.node("b1").recorded = None;
    assert_eq!(why(&w, "b1"), Some(NoRecreate::DataUnknown));
    assert!(says(&w.waits(&desired()), "it is not known whose data"));
    w.node("b1").silent = None;
    assert_eq!(why(&w, "b1"), Some(NoRecreate::Speaks));
    assert!(!says(&w.waits(&desired()), "b1 waits"));
}

#[test]
fn it_waits_unless_it_is_wanted_and_ours() {
    let mut w = World::formed(3, 1);
    strand(&mut w, "b1", Some(10 * AFTER_MS));
    assert!(w.steps(&three()).is_empty());
    assert!(says(&w.waits(&three()), "storage.onUnreachable is Wait"));
    let guest = Desired {
        authority: Authority::Guest,
        ..desired()
    };
    assert!(w.steps(&guest).is_empty());
}

#[test]
fn one_at_a_time_and_not_before_coverage() {
    let mut w = World::formed(3, 1);
    strand(&mut w, "b1", Some(AFTER_MS));
    strand(&mut w, "c1", Some(AFTER_MS));
    assert_eq!(w.steps(&desired()), ["make b1 anew without its volume"]);
    assert!(says(&w.waits(&desired()), "something else is done first"));
    w.kill("a", 0);
    assert_eq!(
        w.steps(&desired()),
        ["fail over from dead a to its replica a1"]
    );
}

#[test]
fn nobody_moves_while_a_host_is_away() {
    let mut w = World::formed(3, 1);
    w.node("a1").place.host = Some("host-a".to_owned());
    assert_eq!(w.steps(&desired()).len(), 1);
    w.node("c").place.away_since = Some(Timestamp(NOW - 1));
    assert!(w.plan(&desired()).is_settled());
}
