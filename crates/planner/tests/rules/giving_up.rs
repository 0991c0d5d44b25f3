//! Consent to lose data goes past what can't be had, and never past keys that can: of a living server, or on a disk.

use shardwright_planner::{Action, Desired, ViolationKind};
use shardwright_topology::{Claim, Disk, Seen, ServerName, Why};

use crate::check::{finds, passes};
use crate::world::{World, claims, consenting, id, says, three};

fn start(name: &str) -> Vec<Action> {
    let server = ServerName(name.to_owned());
    vec![Action::StartServer { server }]
}

fn server(name: &str) -> ServerName {
    ServerName(name.to_owned())
}

/// `a` kept its table of nodes and lost its data. Nothing proves that its replica has a copy: it was started again, and
/// nobody remembers the primary.
fn emptied_primary() -> World {
    let mut w = World::formed(3, 1);
    w.held_back.borrow_mut().insert(id("a1"));
    w.node("a1").link_up = false;
    let a = w.kill("a", 0);
    (a.disk, a.last_heard) = (Seen::Known(claims(1)), None);
    w
}

#[test]
fn a_replica_with_keys_is_promoted_past_a_primary_whose_disk_lost_them() {
    let d = consenting(three());
    let old = |name| ViolationKind::StartsOldPrimary {
        server: server(name),
    };
    for claim in [Claim::Unreadable, claims_of_a()] {
        let mut w = emptied_primary();
        w.node("a").disk = Seen::Known(Disk::Stale { claim });
        let steps = w.steps(&three());
        assert!(!says(&steps, " a"), "{steps:?}");
        assert!(says(&w.waits(&three()), "a is held"));
        assert!(says(
            &w.steps(&d),
            "fail over from dead a to its replica a1"
        ));
        finds(start("a"), &d, &w, old("a"));
        // Where it has none either, nothing is lost by a start.
        w.node("a1").keys = 0;
        assert!(says(&w.steps(&d), "start a"), "{:?}", w.steps(&d));
        passes(start("a"), &d, &w);
        // It ends at each start: then anybody is better.
        w.starts = vec![("a", 1, 60_000)];
        assert!(says(&w.steps(&d), "dead a"), "{:?}", w.steps(&d));
    }
}

fn claims_of_a() -> Claim {
    match claims(1) {
        Disk::Stale { claim } => claim,
        _ => Claim::Nothing,
    }
}

#[test]
fn a_replica_comes_back_with_its_data_before_a_primary_that_lost_its_own() {
    let d = consenting(three());
    for disk in [Disk::Blank, claims(1)] {
        let mut w = World::formed(3, 1);
        w.kill("a", 0).disk = Seen::Known(disk.clone());
        w.kill("a1", 0);
        let starts = |w: &World, d: &Desired| -> Vec<String> { w.steps(d) };
        assert_eq!(starts(&w, &d), ["start a1"], "{disk:?}");
        assert!(says(&w.waits(&d), "a1 was its replica"), "{disk:?}");
        // It was started, and does not serve yet.
        w.node("a1").process = shardwright_topology::Process::Running;
        for why in [Why::Loading, Why::Busy("a script".to_owned()), Why::Refused] {
            w.node("a1").silent = Some(why);
            w.starts = vec![("a1", 1, 500)];
            let steps = w.steps(&d);
            assert!(!says(&steps, "start a"), "{disk:?}: {steps:?}");
        }
        // What was started in vain comes back with nothing.
        w.kill("a1", 0);
        w.starts = vec![("a1", 2, 0)];
        assert!(says(&w.steps(&d), "start a"), "{disk:?}: {:?}", w.steps(&d));
        // Its data is damaged: the same.
        let mut w = World::formed(3, 1);
        w.kill("a", 0).disk = Seen::Known(disk.clone());
        w.kill("a1", 0).disk = Seen::Known(Disk::DataRefused);
        assert!(says(&w.steps(&d), "start a"), "{disk:?}: {:?}", w.steps(&d));
    }
}

#[test]
fn the_linter_lets_no_consent_start_an_empty_server_before_one_with_keys() {
    let d = consenting(three());
    let mut w = World::formed(3, 1);
    w.kill("a", 0).disk = Seen::Known(Disk::Blank);
    let taken = ViolationKind::TakesPlace {
        server: server("a"),
    };
    finds(start("a"), &d, &w, taken.clone());
    w.kill("a1", 0);
    finds(start("a"), &d, &w, taken);
    w.node("a1").disk = Seen::Known(Disk::Blank);
    passes(start("a"), &d, &w);
}

#[test]
fn no_empty_replica_is_promoted_past_keys_on_a_disk() {
    let d = consenting(Desired::managed(3, 2));
    let mut w = World::formed(3, 2);
    w.held_back.borrow_mut().insert(id("a2"));
    let empty = w.node("a2");
    (empty.keys, empty.link_up, empty.never_linked) = (0, false, true);
    w.kill("a1", 0);
    let a = w.kill("a", 0);
    (a.disk, a.last_heard) = (Seen::Known(Disk::Blank), None);
    let steps = w.steps(&d);
    assert!(says(&steps, "start a1"), "{steps:?}");
    assert!(!says(&steps, "dead a"), "{steps:?}");
    w.node("a1").disk = Seen::Known(Disk::Blank);
    let steps = w.steps(&d);
    assert!(says(&steps, "dead a"), "{steps:?}");
}

#[test]
fn consent_starts_nobody_who_would_empty_those_who_serve_his_slots() {
    // a1 took the slots, and a was a primary again for a moment, of which nobody heard: it claims them by more.
    let mut w = World::formed(3, 1);
    let range = std::mem::take(&mut w.node("a").slots);
    let a1 = w.node("a1");
    (a1.primary, a1.epoch, a1.slots) = (None, 5, range);
    w.kill("a", 5_000).disk = Seen::Known(claims(9));
    let d = consenting(three());
    assert_eq!(w.steps(&d), ["start a as a new node"]);
    let old = ViolationKind::StartsOldPrimary {
        server: server("a"),
    };
    finds(start("a"), &d, &w, old.clone());
    // While another owner is silent, nothing may be set aside.
    w.hush("b");
    assert!(!says(&w.steps(&d), "start a"), "{:?}", w.steps(&d));
    finds(start("a"), &d, &w, old);
}
