//! Dead servers of ours start again, but never as an old or empty primary.

use shardwright_planner::{Desired, Rest, Waiting, layout};
use shardwright_topology::{
    Claim, Disk, Seen, ServerName, SlotSet, StartFailure, Why, WhyNotStarted,
};

use crate::world::{World, claims, consenting, id, says, three};

#[test]
fn a_dead_replica_is_started() {
    for disk in [
        Disk::Blank,
        Disk::Log,
        Disk::CleanSnapshot,
        Disk::Stale {
            claim: Claim::Nothing,
        },
    ] {
        let mut w = World::formed(3, 1);
        w.kill("a1", 0).disk = Seen::Known(disk.clone());
        assert_eq!(
            w.reasons(&three()),
            ["start a1: its process is gone"],
            "{disk:?}"
        );
    }
}

#[test]
fn a_replica_that_refuses_its_table_begins_anew() {
    let mut w = World::formed(3, 1);
    w.kill("a1", 0).disk = Seen::Known(Disk::TableRefused);
    assert_eq!(
        w.reasons(&three()),
        [
            "start a1 as a new node: it refuses its own table of nodes, others serve every slot, and its directory is kept aside"
        ]
    );
}

#[test]
fn a_server_that_lost_its_table_begins_anew_where_others_serve_its_data() {
    let mut w = World::formed(3, 1);
    w.kill("a1", 0).disk = Seen::Known(Disk::Tableless);
    assert_eq!(
        w.reasons(&three()),
        [
            "start a1 as a new node: it lost its table of nodes, others serve every slot, and its directory is kept aside"
        ]
    );
    // Its primary lost its keys: nobody but this one may have them. While one is silent, the same.
    w.node("a").keys = 0;
    assert_eq!(w.steps(&three()), ["start a1"]);
    w.node("a").keys = 100;
    w.hush("b");
    assert_eq!(w.steps(&three()), ["start a1"]);
    // A primary whose slots are served by its successor; and one that nobody took the place of.
    let mut w = World::formed(3, 1);
    let range = std::mem::take(&mut w.node("a").slots);
    let a1 = w.node("a1");
    (a1.primary, a1.epoch, a1.slots) = (None, 9, range);
    w.kill("a", 5_000).disk = Seen::Known(Disk::Tableless);
    assert_eq!(w.steps(&three()), ["start a as a new node"]);
    let mut w = World::formed(3, 0);
    w.kill("a", 0).disk = Seen::Known(Disk::Tableless);
    assert_eq!(w.steps(&Desired::managed(3, 0)), ["start a"]);
}

#[test]
fn a_replica_that_cannot_load_its_data_begins_anew() {
    let mut w = World::formed(3, 1);
    w.kill("a1", 0).disk = Seen::Known(Disk::DataRefused);
    assert_eq!(
        w.reasons(&three()),
        [
            "start a1 as a new node: it can't load the data on its disk, others serve every slot, and its directory is kept aside"
        ]
    );
}

#[test]
fn a_directory_that_may_be_needed_is_never_set_aside() {
    for (disk, refuses) in [
        (Disk::TableRefused, "refuses its own table"),
        (Disk::DataRefused, "can't load its data"),
    ] {
        // Its own slots.
        let mut w = World::formed(3, 0);
        w.kill("a", 0).disk = Seen::Known(disk.clone());
        let alone = Desired::managed(3, 0);
        assert!(w.steps(&alone).is_empty(), "{disk:?}");
        assert!(says(&w.waits(&alone), &format!("a {refuses}")));
        assert!(w.plan(&alone).is_stuck(), "a person is needed");
        // Another primary is silent, and may have lost what only this replica has.
        let mut w = World::formed(3, 1);
        w.kill("a1", 0).disk = Seen::Known(disk.clone());
        w.hush("a");
        assert!(w.steps(&three()).is_empty(), "{disk:?}");
        assert!(says(&w.waits(&three()), &format!("a1 {refuses}")));
        // A primary with a successor at hand: that comes first.
        let mut w = World::formed(3, 1);
        w.kill("a", 0).disk = Seen::Known(disk);
        assert_eq!(
            w.steps(&three()),
            ["fail over from dead a to its replica a1"]
        );
    }
}

#[test]
fn an_old_primary_that_cannot_load_its_data_begins_anew_once_another_serves_its_slots() {
    let mut w = World::formed(3, 1);
    let range = std::mem::take(&mut w.node("a").slots);
    w.node("a1").primary = None;
    w.node("a1").slots = range;
    w.node("a1").epoch = 9;
    w.kill("a", 5_000).disk = Seen::Known(Disk::DataRefused);
    assert_eq!(w.steps(&three()), ["start a as a new node"]);
}

#[test]
fn why_a_server_does_not_start_is_said_first_and_what_to_do_last() {
    let said = "Can't open or create append-only dir appendonlydir: No space left on device";
    let said = said.to_owned();
    let failure = Some(Box::new(StartFailure {
        why: WhyNotStarted::NoSpace { said },
        remedy: Some("free some: df -h /srv".to_owned()),
    }));
    let server = ServerName("a".to_owned());
    let rest = Rest {
        times: 3,
        left_ms: 1_500,
        failure,
    };
    assert_eq!(
        Waiting::StartsAgain { server, rest }.to_string(),
        "a does not start: the disk is full: Can't open or create append-only dir appendonlydir: No space left on device (started 3 times, once more in 2 s); free some: df -h /srv"
    );
}

#[test]
fn a_primary_that_refuses_its_table_or_data_may_be_given_up_for_what_its_replica_has() {
    for (disk, refuses) in [
        (Disk::TableRefused, "a refuses its own table"),
        (Disk::DataRefused, "a can't load its data"),
    ] {
        let mut w = World::formed(3, 1);
        // Nothing proves that the replica has a copy: it was started again, and nobody remembers the primary.
        w.held_back.borrow_mut().insert(id("a1"));
        w.node("a1").link_up = false;
        let a = w.kill("a", 0);
        (a.disk, a.last_heard) = (Seen::Known(disk), None);
        let fails_over = |d: &Desired| says(&w.steps(d), "fail over from dead a to its replica a1");
        assert!(!fails_over(&three()), "{refuses}");
        assert!(says(&w.waits(&three()), refuses));
        assert!(fails_over(&consenting(three())), "{refuses}");
    }
}

#[test]
fn silence_starts_nothing() {
    let mut w = World::formed(3, 1);
    w.hush("a1");
    assert!(w.steps(&three()).is_empty());
    assert!(says(&w.waits(&three()), "a1 is not heard"));
}

#[test]
fn a_server_that_is_not_ours_is_never_started_nor_forgotten() {
    let mut w = World::formed(3, 1);
    w.kill("a1", 60_000);
    w.node("b1").housed = false; // listed, and nowhere
    for d in [Desired::guest(), consenting(Desired::guest())] {
        assert!(w.steps(&d).is_empty(), "{:?}", w.steps(&d));
    }
}

#[test]
fn all_killed_at_once_all_with_logs_all_start() {
    let mut w = World::formed(3, 1);
    for name in ["a", "a1", "b", "b1", "c", "c1"] {
        w.kill(name, 100);
    }
    // Nobody is heard, so nobody tells who owned what: each comes back with what its log has.
    assert_eq!(w.steps(&three()).len(), 6);
}

#[test]
fn a_dead_primary_with_a_candidate_waits_for_its_successor() {
    for disk in [Disk::Blank, Disk::Log, Disk::CleanSnapshot, claims(1)] {
        let mut w = World::formed(3, 1);
        w.kill("a", 0).disk = Seen::Known(disk.clone());
        let steps = w.steps(&three());
        assert!(!says(&steps, "start a"), "{disk:?}: {steps:?}");
    }
}

#[test]
fn one_that_had_just_become_a_primary_is_not_started_without_its_data() {
    // Nobody but us has heard of it: all others believe in the old primary, which is well.
    let mut w = World::formed(3, 1);
    let heir = w.node("a1");
    (heir.primary, heir.epoch) = (None, 9);
    heir.slots = layout(3)[0].into();
    w.kill("a1", 100).disk = Seen::Known(claims(9));
    let heir = w.node("a1");
    (heir.primary, heir.epoch) = (Some(id("a")), 1);
    heir.slots = SlotSet::empty();
    assert_eq!(
        w.reasons(&three()),
        [
            "start a1 as a new node: it became a primary unheard, and would empty those who serve its slots now; its directory is kept aside"
        ]
    );
    // A table that can't be read may claim as much.
    let claim = Claim::Unreadable;
    w.node("a1").disk = Seen::Known(Disk::Stale { claim });
    assert_eq!(w.steps(&three()), ["start a1 as a new node"]);
    // While an owner is silent, it may be the one that needs what is there.
    w.node("a1").disk = Seen::Known(claims(9));
    w.hush("b");
    assert!(w.steps(&three()).is_empty());
    assert!(says(&w.waits(&three()), "a1 is held"));
    w.node("b").silent = None;
    // Once another is the primary by a greater epoch, it may.
    w.node("a").epoch = 10;
    assert_eq!(w.steps(&three()), ["start a1"]);
}

#[test]
fn nobody_has_to_decide_while_a_server_loads_its_data() {
    // The primary of one shard loads, and the replica of another can't load its data: it is set aside once all slots are
    // served.
    let mut w = World::formed(3, 1);
    w.kill("a1", 0).disk = Seen::Known(Disk::DataRefused);
    w.hush("b").silent = Some(Why::Loading);
    let plan = w.plan(&three());
    assert!(plan.waiting.iter().any(Waiting::needs_a_person), "{plan:?}");
    assert!(!plan.is_stuck(), "{plan:?}");
    // A server that can't be reached may stay so.
    w.node("b").silent = Some(Why::Unreachable("connection refused".to_owned()));
    assert!(w.plan(&three()).is_stuck());
}

#[test]
fn the_only_copy_starts_when_its_disk_has_everything() {
    for (disk, starts) in [
        (Disk::Log, true),
        (Disk::CleanSnapshot, true),
        (Disk::Blank, true), // it comes back as another node
        (claims(1), false),
    ] {
        let mut w = World::formed(3, 0);
        w.kill("a", 0).disk = Seen::Known(disk.clone());
        let d = Desired::managed(3, 0);
        assert_eq!(says(&w.steps(&d), "start a"), starts, "{disk:?}");
        if !starts {
            let waits = w.waits(&d);
            assert!(says(
                &waits,
                "a is held: it may come back as a primary without its newest data"
            ));
            assert!(says(
                &waits,
                "the last copy of slots 0-5460 is gone with node a"
            ));
            assert!(w.plan(&d).is_stuck());
            assert!(
                says(&w.steps(&consenting(d)), "start a"),
                "a person may release it"
            );
        }
    }
}

#[test]
fn an_unknown_disk_is_not_started() {
    let mut w = World::formed(3, 0);
    w.kill("a", 0).disk = Seen::Unknown(Why::NotAsked);
    let d = Desired::managed(3, 0);
    assert!(!says(&w.steps(&d), "start a"));
    assert!(says(&w.waits(&d), "a is not started: not looked at yet"));
}

#[test]
fn what_is_started_in_vain_rests_longer_each_time() {
    let mut w = World::formed(3, 1);
    w.kill("a1", 0);
    let starts = |w: &World| says(&w.steps(&three()), "start a1");
    let rests = [
        (2, 1_000),
        (3, 2_000),
        (6, 16_000),
        (7, 30_000),
        (63, 30_000),
        (200, 30_000),
    ];
    for (times, rest) in rests {
        w.starts = vec![("a1", times, rest - 1)];
        assert!(!starts(&w), "{times}");
        let waits = w.waits(&three());
        assert!(says(&waits, "once more in 1 s"), "{waits:?}");
        w.starts = vec![("a1", times, rest)];
        assert!(starts(&w), "{times}");
    }
    w.starts = vec![("a1", 1, 0)];
    assert!(starts(&w), "the first may have ended for another reason");
    // A server that does not belong here changes nothing of it.
    w.lose_directory("b1", "x").keys = 5;
    assert!(says(&w.waits(&three()), "x does not belong here"));
    w.starts = vec![("a1", 3, 0)];
    assert!(!starts(&w));
}

#[test]
fn a_replaced_old_primary_starts_and_rejoins() {
    let mut w = World::formed(3, 1);
    // a1 took the slots while a was dead.
    let range = std::mem::take(&mut w.node("a").slots);
    w.node("a1").primary = None;
    w.node("a1").slots = range;
    w.node("a1").epoch = 9;
    w.kill("a", 5_000).disk = Seen::Known(claims(1));
    assert_eq!(w.steps(&three()), ["start a"]);
}
