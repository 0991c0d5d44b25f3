//! A dead primary with a live replica: proof, votes, then no votes, and only the one best replica.

use shardwright_planner::{Action, Desired, FailoverPolicy, Limits};
use shardwright_topology::{
    AttemptKind, Death, DeathProof, Disk, Flags, OpenSlot, Process, Role, Seen, Starter, Timestamp,
    Why,
};

use crate::world::{NOW, World, claims, consenting, id, says, slot, three};

fn keep_every_write() -> Desired {
    Desired {
        failover: FailoverPolicy::KeepEveryWrite,
        ..three()
    }
}

#[test]
fn a_dead_primary_is_promoted_away_from_at_once() {
    let mut w = World::formed(3, 1);
    w.kill("a", 0);
    assert_eq!(
        w.reasons(&three()),
        [
            "fail over from dead a to its replica a1: the primary died; the replica had all that was seen"
        ]
    );
}

#[test]
fn the_tail_that_may_be_lost_is_said() {
    let mut w = World::formed(3, 1);
    w.node("a1").offset = 4_000;
    w.kill("a", 0);
    assert!(says(
        &w.reasons(&three()),
        "up to 1000 bytes of its last writes may be lost"
    ));
    w.node("a").last_heard = None;
    assert!(says(
        &w.reasons(&three()),
        "how much of its last writes is lost is not known"
    ));
}

#[test]
fn a_time_out_never_promotes() {
    for why in [
        Why::TimedOut,
        Why::Refused,
        Why::NotAsked,
        Why::Loading,
        Why::Unreachable("no route".to_owned()),
        Why::Denied("NOAUTH".to_owned()),
        Why::Strange("?".to_owned()),
    ] {
        let mut w = World::formed(3, 1);
        w.hush("a").silent = Some(why.clone());
        for speaker in ["a1", "b", "b1", "c", "c1"] {
            w.believes(speaker, "a", |row| {
                row.health = shardwright_topology::Health::Failed;
            });
        }
        for d in [
            three(),
            consenting(three()),
            keep_every_write(),
            Desired::guest(),
        ] {
            assert!(w.steps(&d).is_empty(), "{why}: {:?}", w.steps(&d));
            let waits = w.waits(&d);
            let words = match why {
                Why::Refused => "which proves no death",
                _ if why.is_an_answer() => "a is not heard",
                _ => "nothing proves it dead",
            };
            assert!(says(&waits, words), "{why}: {waits:?}");
        }
    }
}

#[test]
fn a_vote_needs_a_majority_that_sees_the_role() {
    let mut w = World::formed(3, 1);
    w.kill("a", 100);
    for blind in ["b", "c"] {
        w.believes(blind, "a1", |row| {
            row.role = Role::Primary;
            row.primary = None;
        });
    }
    let steps = w.steps(&three());
    assert!(
        !says(&steps, "fail over") && !says(&steps, "take over"),
        "{steps:?}"
    );
    assert!(
        says(&steps, "tell a1 that b is at"),
        "it is made to show its role: {steps:?}"
    );
    assert!(says(&steps, "tell a1 that c is at"));
    assert!(says(
        &w.waits(&three()),
        "0 of 3 primaries see a1 as a replica"
    ));
}

#[test]
fn one_voter_of_three_is_no_majority_and_two_are() {
    let mut w = World::formed(3, 1);
    w.kill("a", 100);
    w.believes("b", "a1", |row| row.primary = Some(id("c")));
    assert!(!says(&w.steps(&three()), "fail over"));
    let mut w = World::formed(5, 1);
    w.kill("a", 100);
    w.believes("b", "a1", |row| row.primary = Some(id("c")));
    assert!(
        says(&w.steps(&Desired::managed(5, 1)), "fail over"),
        "3 of 5"
    );
}

#[test]
fn no_takeover_before_400_ms_and_only_of_the_one_that_was_asked() {
    let mut w = World::formed(3, 2);
    w.kill("a", 1_000);
    let d = Desired::managed(3, 2);
    w.asked("a1", AttemptKind::Failover, 399);
    assert!(w.steps(&d).is_empty());
    assert!(says(&w.waits(&d), "a1 is becoming the primary"));
    w.attempts.clear();
    w.asked("a1", AttemptKind::Failover, 400);
    assert_eq!(
        w.reasons(&d),
        [
            "let a1 take over from dead a without votes: the primary died, and the vote did not come in time"
        ]
    );
}

#[test]
fn a_takeover_is_not_repeated_at_once() {
    let mut w = World::formed(3, 1);
    w.kill("a", 5_000);
    w.asked("a1", AttemptKind::Failover, 1_200);
    w.asked("a1", AttemptKind::Takeover, 700);
    assert!(
        says(&w.steps(&three()), "take over"),
        "it did not come: again"
    );
    w.asked("a1", AttemptKind::Takeover, 100);
    assert!(w.steps(&three()).is_empty(), "it is under way");
}

#[test]
fn what_was_asked_before_this_death_does_not_count() {
    let mut w = World::formed(3, 1);
    w.kill("a", 50);
    w.asked("a1", AttemptKind::Failover, 20_000);
    assert!(says(
        &w.steps(&three()),
        "fail over from dead a to its replica a1"
    ));
}

#[test]
fn a_vote_is_tried_first_however_long_it_is_dead() {
    let mut w = World::formed(3, 1);
    w.kill("a", 60_000);
    assert!(says(&w.steps(&three()), "fail over from dead a"));
}

#[test]
fn without_a_majority_alive_the_candidate_takes_over() {
    let mut w = World::formed(3, 1);
    w.kill("a", 400);
    w.kill("b", 400);
    let steps = w.steps(&three());
    assert_eq!(
        steps,
        [
            "let a1 take over from dead a without votes",
            "let b1 take over from dead b without votes",
        ]
    );
    w.kill("a", 399);
    w.kill("b", 399);
    let steps = w.steps(&three());
    assert!(
        !says(&steps, "take over") && !says(&steps, "fail over"),
        "{steps:?}"
    );
}

#[test]
fn the_freshest_is_chosen_and_of_equals_the_smallest_id() {
    let mut w = World::formed(3, 2);
    w.node("a1").offset = 4_999;
    w.kill("a", 0);
    let d = Desired::managed(3, 2);
    assert_eq!(w.steps(&d), ["fail over from dead a to its replica a2"]);
    w.node("a1").offset = 5_000;
    assert_eq!(w.steps(&d), ["fail over from dead a to its replica a1"]);
}

#[test]
fn two_replicas_of_one_primary_are_never_asked_at_once() {
    let mut w = World::formed(3, 2);
    w.node("a1").offset = 4_999;
    w.kill("a", 300);
    w.asked("a1", AttemptKind::Failover, 100); // a2 was not heard then
    let d = Desired::managed(3, 2);
    assert!(w.steps(&d).is_empty());
    assert!(says(&w.waits(&d), "a1 is becoming the primary"));
}

#[test]
fn an_unheard_sibling_is_waited_for_then_only_votes_pass_it() {
    let mut w = World::formed(3, 2);
    w.kill("a", 999);
    w.hush("a2");
    let d = Desired::managed(3, 2);
    assert!(w.steps(&d).is_empty());
    assert!(says(
        &w.waits(&d),
        "replica a2 is not heard, and may have the fresher copy"
    ));
    w.kill("a", 1_000);
    assert_eq!(w.steps(&d), ["fail over from dead a to its replica a1"]);
    w.asked("a1", AttemptKind::Failover, 900);
    assert!(w.steps(&d).is_empty(), "no takeover past it");
}

#[test]
fn a_dead_or_lost_sibling_is_not_waited_for() {
    let d = Desired::managed(3, 2);
    let mut w = World::formed(3, 2);
    w.kill("a", 0);
    w.kill("a2", 0);
    assert!(says(
        &w.steps(&d),
        "fail over from dead a to its replica a1"
    ));
    let mut w = World::formed(3, 2);
    w.kill("a", 0);
    w.lose_directory("a2", "new");
    assert!(says(
        &w.steps(&d),
        "fail over from dead a to its replica a1"
    ));
}

#[test]
fn keep_every_write_restarts_first_and_promotes_after_its_grace() {
    let mut w = World::formed(3, 1);
    w.kill("a", 0);
    assert_eq!(
        w.reasons(&keep_every_write()),
        ["start a: its process is gone, and the policy gives its restart a grace"]
    );
    assert!(says(
        &w.waits(&keep_every_write()),
        "a has 10000 ms to return"
    ));
    w.kill("a", 10_000);
    assert!(says(&w.steps(&keep_every_write()), "fail over from dead a"));
    // A directory without the newest data is no reason to wait.
    w.kill("a", 0).disk = Seen::Known(claims(1));
    assert!(says(&w.steps(&keep_every_write()), "fail over from dead a"));
    // Nor is a server that is not ours to start.
    let mut w = World::formed(3, 1);
    w.kill("a", 0);
    let guest = Desired {
        failover: FailoverPolicy::KeepEveryWrite,
        ..Desired::guest()
    };
    assert!(says(&w.steps(&guest), "fail over from dead a"));
}

#[test]
fn a_replica_that_never_had_a_copy_is_not_promoted() {
    let mut w = World::formed(3, 1);
    w.node("a1").syncing = true;
    w.kill("a", 0);
    assert_eq!(
        w.steps(&three()),
        ["start a"],
        "its own log is the only copy"
    );
    let mut w = World::formed(3, 1);
    let replica = w.node("a1");
    (replica.offset, replica.keys, replica.link_up) = (0, 0, false);
    w.kill("a", 0);
    assert_eq!(w.steps(&three()), ["start a"]);
    assert!(says(
        &w.waits(&three()),
        "no replica of a is proved to have a copy"
    ));
}

#[test]
fn a_replica_that_began_after_the_death_has_only_what_its_disk_had() {
    let mut w = World::formed(3, 1);
    w.kill("a", 9_000);
    w.node("a1").uptime_s = Some(5);
    assert_eq!(w.steps(&three()), ["start a"]);
    // Where the primary has nothing on its disk, that copy is the best there is.
    w.node("a").disk = Seen::Known(Disk::Blank);
    assert!(says(
        &w.steps(&three()),
        "fail over from dead a to its replica a1"
    ));
    assert!(says(
        &w.reasons(&three()),
        "no copy of its data is known to be left: the 100 keys of this replica take their place"
    ));
    // Without keys it is no copy: only a person may agree to that, and is told.
    w.node("a1").keys = 0;
    assert!(!says(&w.steps(&three()), "fail over"));
    assert!(says(
        &w.reasons(&consenting(three())),
        "fail over from dead a to its replica a1: the primary died, and no copy of its data is known to be left: the 0 keys"
    ));
}

#[test]
fn a_replica_that_has_had_no_link_lets_the_file_come_first() {
    // Both processes were started again, and the replica first: what was written between is in the primary's file.
    let mut w = World::formed(3, 1);
    let replica = w.node("a1");
    (replica.link_up, replica.never_linked) = (false, true);
    replica.offset = 3_000;
    w.kill("a", 0);
    assert_eq!(
        w.reasons(&three()),
        [
            "start a: its process is gone, and it may alone have what was written while its replica had no link"
        ]
    );
    w.node("a").starter = Starter::Host;
    assert!(w.steps(&three()).is_empty(), "{:?}", w.steps(&three()));
    assert!(says(
        &w.waits(&three()),
        "a has 120000 ms to return: it may alone have what was written while its replica a1 had no link"
    ));
    w.kill("a", 119_000);
    assert!(w.steps(&three()).is_empty());
    w.kill("a", 120_000);
    assert!(says(&w.steps(&three()), "fail over from dead a"));
    // One that lost its link with the primary's death lacks a moment's writes.
    w.node("a1").never_linked = false;
    w.kill("a", 0);
    assert!(says(&w.steps(&three()), "fail over from dead a"));
}

#[test]
fn a_replica_that_lost_its_link_long_after_its_primarys_last_word_lets_the_file_come_first() {
    // Something else listened at a's address, was copied by a1, and ended; nobody remembers that.
    let mut w = World::formed(3, 1);
    w.kill("a", 0).last_heard = None;
    w.node("a1").link_up = false;
    let said = |w: &mut World, ago| {
        w.believes("a1", "a", move |row| row.pong_received_ms = NOW - ago);
        w.steps(&three())
    };
    let bound = Limits::default().node_timeout_ms / 2 + 3_000;
    let late = said(&mut w, 5_000 + bound + 1);
    assert!(says(&late, "start a"), "{late:?}");
    let with_it = said(&mut w, 5_000 + bound);
    assert!(says(&with_it, "fail over from dead a"), "{with_it:?}");
    // Whoever greets a node at its address and meets another there notes that it has no address.
    w.believes("c", "a", |row| row.flags = row.flags.with(Flags::NOADDR));
    let another = w.steps(&three());
    assert!(says(&another, "start a"), "{another:?}");
}

#[test]
fn a_replica_whose_link_leads_to_a_foreign_server_is_no_copy() {
    let mut w = World::formed(3, 1);
    w.kill("a", 0).last_heard = None;
    w.node("a").silent = Some(Why::Strange("another cluster's".to_owned()));
    let steps = w.steps(&three());
    assert!(!says(&steps, "a1"), "{steps:?}");
}

#[test]
fn by_consent_a_container_that_was_let_start_in_vain_counts_as_one_that_cant() {
    let mut w = World::formed(3, 1);
    let replica = w.node("a1");
    (replica.link_up, replica.never_linked, replica.offset) = (false, true, 1);
    w.kill("a", 0).last_heard = None;
    w.node("a").process = Process::Dead(Death {
        proof: DeathProof::NotStarted,
        since: Timestamp(NOW),
    });
    let passes = |w: &World| says(&w.steps(&consenting(three())), "fail over from dead a");
    assert!(!passes(&w), "it only waits to be started");
    w.starts = vec![("a", 2, 60_000)];
    assert!(!passes(&w));
    w.starts = vec![("a", 3, 60_000)];
    assert!(passes(&w), "{:?}", w.waits(&consenting(three())));
}

#[test]
fn an_idle_replica_at_the_start_of_the_stream_counts_as_a_copy() {
    let mut w = World::formed(3, 1);
    w.node("a").keys = 0;
    w.node("a").offset = 0;
    w.node("a1").keys = 0;
    w.node("a1").offset = 0;
    w.kill("a", 0);
    assert!(says(&w.steps(&three()), "fail over from dead a"));
}

#[test]
fn a_primary_whose_directory_was_lost_is_dead() {
    let mut w = World::formed(3, 1);
    w.lose_directory("a", "new");
    w.node("a1").link_up = false;
    let steps = w.steps(&three());
    assert!(
        says(&steps, "fail over from dead a to its replica a1"),
        "{steps:?}"
    );
    assert!(!says(&steps, "forget"), "coverage first");
    assert!(!says(&steps, "make new a replica"), "redundancy after");
}

#[test]
fn when_two_directories_are_lost_the_age_of_the_new_processes_is_the_age_of_the_death() {
    let mut w = World::formed(3, 1);
    w.lose_directory("a", "new-a").uptime_s = Some(0);
    w.lose_directory("b", "new-b").uptime_s = Some(0);
    for replica in ["a1", "b1"] {
        w.node(replica).link_up = false;
    }
    assert!(!says(&w.steps(&three()), "take over"));
    w.node("new-a").uptime_s = Some(1);
    w.node("new-b").uptime_s = Some(1);
    let steps = w.steps(&three());
    assert!(says(&steps, "let a1 take over from dead a"), "{steps:?}");
    assert!(says(&steps, "let b1 take over from dead b"));
}

#[test]
fn a_promotion_assumes_that_it_still_is_a_replica() {
    let mut w = World::formed(3, 1);
    w.kill("a", 0);
    let plan = w.plan(&three());
    let step = &plan.steps[0];
    assert!(matches!(&step.action, Action::Failover { dead, seen }
        if dead.node() == id("a") && seen.replica() == id("a1") && seen.tally() == (2, 3)));
    assert_eq!(
        step.requires,
        [shardwright_planner::Precondition::IsReplicaOf {
            node: id("a1"),
            primary: id("a")
        }]
    );
    assert_eq!(w.observe().at, Timestamp(NOW));
}

#[test]
fn a_twin_is_no_candidate() {
    let mut w = World::formed(3, 1);
    w.kill("a", 0);
    w.add("copy").id = id("a1");
    w.node("copy").primary = Some(id("a"));
    w.node("copy").island = Some(0);
    assert!(!says(&w.steps(&three()), "fail over"));
    assert!(says(&w.waits(&three()), "two processes answer as node a1"));
}

#[test]
fn no_vote_is_asked_for_that_would_be_refused_or_reuse_old_ones() {
    let takes_over = |w: &World| {
        says(
            &w.steps(&three()),
            "let a1 take over from dead a without votes",
        )
    };
    let mut w = World::formed(3, 1);
    w.kill("a", 5);
    w.votes = vec![(id("a"), 29_000)];
    assert!(
        takes_over(&w),
        "its voters voted about it within 2 x node-timeout"
    );
    w.votes = vec![(id("a"), 31_000)];
    assert!(!takes_over(&w), "that is long ago");
    w.votes = vec![(id("a"), 1)];
    assert!(!takes_over(&w), "that was about this death");
    w.votes.clear();
    w.wins = vec![(id("a1"), 29_000)];
    assert!(takes_over(&w), "it would reuse the votes it won lately");
    w.wins = vec![(id("a1"), 31_000)];
    assert!(!takes_over(&w), "those are forgotten");
}

fn migrating(first: u64, to: &str) -> OpenSlot {
    OpenSlot::Migrating {
        slot: slot(first),
        to: id(to),
    }
}

#[test]
fn a_primary_that_died_while_it_took_slots_in_comes_back_first() {
    let start = [
        "start a: its process is gone, it was taking slots in, and may alone have keys that moved",
    ];
    // A source shows it.
    let mut w = World::formed(3, 1);
    w.node("b").open = vec![migrating(6_000, "a")];
    w.kill("a", 1_000);
    assert_eq!(w.reasons(&three()), start);
    assert!(says(
        &w.waits(&three()),
        "a has 9000 ms to return: it was taking slots in, and may alone have keys that moved"
    ));
    // It has its time, and no more.
    w.kill("a", 10_000);
    assert!(says(&w.steps(&three()), "fail over from dead a"));
    // It showed it itself.
    let mut w = World::formed(3, 1);
    w.node("a").open = vec![OpenSlot::Importing {
        slot: slot(6_000),
        from: id("b"),
    }];
    w.kill("a", 0);
    assert_eq!(w.reasons(&three()), start);
    // It was told to a moment before.
    let mut w = World::formed(3, 1);
    w.kill("a", 1_000);
    w.took_in = vec![(id("a"), 4_000)];
    assert_eq!(w.reasons(&three()), start);
    w.took_in = vec![(id("a"), 6_000)];
    assert!(says(&w.steps(&three()), "fail over from dead a"));
}

#[test]
fn an_importer_that_cannot_come_back_whole_is_not_waited_for() {
    let mut w = World::formed(3, 1);
    w.node("b").open = vec![migrating(6_000, "a")];
    w.kill("a", 0).disk = Seen::Known(claims(1));
    assert!(says(&w.steps(&three()), "fail over from dead a"));
    w.kill("a", 0).disk = Seen::Known(Disk::Blank);
    assert!(says(&w.steps(&three()), "fail over from dead a"));
    // One that gives slots has nothing that its replica has not.
    let mut w = World::formed(3, 1);
    w.node("a").open = vec![migrating(100, "b")];
    w.kill("a", 0);
    assert!(says(&w.steps(&three()), "fail over from dead a"));
    // One that its host starts is only waited for.
    let mut w = World::formed(3, 1);
    w.node("b").open = vec![migrating(6_000, "a")];
    w.kill("a", 0).starter = Starter::Host;
    let steps = w.steps(&three());
    assert!(!steps.iter().any(|s| s.contains("dead a")), "{steps:?}");
    assert!(says(&w.waits(&three()), "a has 10000 ms to return"));
}

#[test]
fn a_restart_that_fails_again_and_again_has_its_time_only_once() {
    let mut w = World::formed(3, 1);
    w.node("b").open = vec![migrating(6_000, "a")];
    w.kill("a", 0);
    w.down = vec![("a", 11_000)];
    assert!(says(&w.steps(&three()), "fail over from dead a"));
    assert!(says(&w.steps(&keep_every_write()), "fail over from dead a"));
}
