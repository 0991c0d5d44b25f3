//! What people are told.

use shardwright_planner::{
    Problem, ProblemKind, Severity, diagnose, slots_are_moving, while_slots_move,
};
use shardwright_topology::{NoWrites, OpenSlot, SlotSet, Version};

use crate::world::{World, id, says, slot, slots};

/// The problems in words, with the command that mends each.
fn told(w: &World) -> Vec<String> {
    let found = diagnose(&w.observe());
    found
        .iter()
        .map(|p| {
            let severity = match p.severity {
                Severity::Fatal => "fatal",
                Severity::Note => "note",
            };
            w.name_all(&format!(
                "{severity}: {} | {}",
                p.kind,
                p.kind.mend("local")
            ))
        })
        .collect()
}

#[test]
fn a_healthy_cluster_has_no_problem() {
    assert_eq!(told(&World::formed(3, 1)), Vec::<String>::new());
}

#[test]
fn what_nobody_could_tell_is_not_said_to_have_no_owner() {
    let mut w = World::formed(3, 0);
    for name in ["a", "b", "c"] {
        w.hush(name);
    }
    let nobody =
        "fatal: no server was heard, so it is not known who owns the 16384 slots | see to it";
    assert!(says(&told(&w), nobody), "{:?}", told(&w));
    assert!(!says(&told(&w), "accept-data-loss"), "{:?}", told(&w));
    // One that is heard, and knows no owner of a slot, does not know what the others have.
    let mut w = World::formed(3, 0);
    w.node("a").slots = slots(1, 5460);
    w.hush("b");
    let some =
        "nobody who was heard knows an owner of 1 slots, and 1 of 3 servers were not heard: 0";
    assert!(says(&told(&w), some), "{:?}", told(&w));
    assert!(!says(&told(&w), "have no owner"), "{:?}", told(&w));
}

#[test]
fn a_primary_that_refuses_writes_is_named() {
    for (why, words) in [
        (
            NoWrites::Log,
            "its append-only file can't be written (MISCONF)",
        ),
        (NoWrites::Snapshot, "its last snapshot failed (MISCONF)"),
        (NoWrites::Replicas { good: 1 }, "fewer replicas keep up"),
        (NoWrites::Memory, "its memory limit is reached"),
    ] {
        let mut w = World::formed(3, 1);
        w.node("a").no_writes = Some(why);
        let found = told(&w);
        let named = format!("fatal: primary a refuses writes: {words}");
        assert!(says(&found, &named), "{found:?}");
        // Where its disk is the cause, a replica whose disk is well could take its place.
        let disk = matches!(why, NoWrites::Log | NoWrites::Snapshot);
        assert_eq!(
            says(&found, "meanwhile: shardwright failover local a1"),
            disk,
            "{found:?}"
        );
        w.node("a1").no_writes = Some(why);
        let found = told(&w);
        assert!(!says(&found, "meanwhile"), "{found:?}");
        assert_eq!(
            says(&found, "note: replica a1 would refuse writes"),
            disk,
            "{found:?}"
        );
        // An empty primary serves nobody.
        w.node("a").slots = slots(0, 0).difference(&slots(0, 0));
        w.node("b").slots = slots(0, 10_922);
        assert!(!says(&told(&w), "primary a refuses"), "{:?}", told(&w));
    }
}

#[test]
fn uncovered_and_open_slots() {
    let mut w = World::formed(3, 1);
    w.node("a").slots = slots(1, 5460);
    w.node("a").state_ok = false;
    w.node("b").open = vec![OpenSlot::Importing {
        slot: slot(7),
        from: id("a"),
    }];
    let unknown = told(&w);
    assert!(says(
        &unknown,
        "fatal: 1 slots have no owner: 0 | start the node that owned them"
    ));
    w.counted(&slots(0, 0), &[]);
    let nobody = "1 slots have no owner, and no node has a key of them: 0 | shardwright fix local";
    assert!(says(&told(&w), nobody), "{:?}", told(&w));
    w.counted(&slots(0, 0), &[("b", 2), ("b1", 2)]);
    let one = "1 slots have no owner, and b hold keys of them: 0 | shardwright fix local";
    assert!(says(&told(&w), one), "{:?}", told(&w));
    w.counted(&slots(0, 0), &[("b", 2), ("c", 1)]);
    let several = "1 slots have no owner, and b, c hold keys of them: 0 | compare the keys";
    assert!(says(&told(&w), several), "{:?}", told(&w));
    let told = told(&w);
    assert!(says(&told, "fatal: cluster_state is fail at a"));
    assert!(says(
        &told,
        "fatal: slot 7 is half moved from a to b (open at b) | shardwright fix local"
    ));
}

#[test]
fn half_moved_slots_are_one_problem_and_none_while_they_move() {
    // Slots 5 to 60 are on their way from a to b, of which b does not know of the last yet.
    let half_moved = |first: u64| {
        let mut w = World::formed(3, 1);
        let from_a = (first..=60).map(|n| OpenSlot::Migrating {
            slot: slot(n),
            to: id("b"),
        });
        w.node("a").open = from_a.collect();
        let to_b = (first..60).map(|n| OpenSlot::Importing {
            slot: slot(n),
            from: id("a"),
        });
        w.node("b").open = to_b.collect();
        w
    };
    let w = half_moved(5);
    let found = diagnose(&w.observe());
    let open = |p: &&Problem| matches!(p.kind, ProblemKind::OpenSlots { .. });
    assert_eq!(found.iter().filter(open).count(), 2);
    let lines = told(&w);
    for line in [
        "fatal: slots 5-59 are half moved from a to b (open at a, b) | shardwright fix local",
        "fatal: slot 60 is half moved from a to b (open at a) | shardwright fix local",
    ] {
        assert!(says(&lines, line), "{lines:?}");
    }
    // A second look shows whether somebody moves them.
    let (before, later) = (w.observe(), half_moved(6).observe());
    assert!(slots_are_moving(&before, &later));
    assert!(!slots_are_moving(&before, &before), "nobody does");
    assert!(!slots_are_moving(&later, &before), "a move began since");
    let mut silent = half_moved(5);
    silent.hush("a");
    silent.hush("b");
    assert!(
        !slots_are_moving(&before, &silent.observe()),
        "nobody was heard"
    );
    let moving = while_slots_move(found);
    assert!(
        moving
            .iter()
            .filter(open)
            .all(|p| p.severity == Severity::Note)
    );
    let texts: Vec<String> = moving.iter().map(|p| p.kind.to_string()).collect();
    assert!(
        texts.iter().any(|t| t.starts_with("slots 5-59 move from")),
        "{texts:?}"
    );
}

#[test]
fn a_dead_and_a_silent_primary() {
    let mut w = World::formed(3, 1);
    w.kill("a", 0);
    w.hush("b");
    w.hush("b1");
    w.cut_off("b", 0);
    let told = told(&w);
    assert!(
        says(
            &told,
            "primary a of slots 0-5460 is dead | shardwright fix local"
        ),
        "{told:?}"
    );
    assert!(says(
        &told,
        "primary b of slots 5461-10922 is silent | start it again"
    ));
    assert!(says(&told, "fatal: b is not heard: no answer in time"));
    // Its replica has nothing that could take its place.
    let mut w = World::formed(3, 1);
    w.kill("a", 0);
    w.node("a1").syncing = true;
    let dead = "primary a of slots 0-5460 is dead | start it again; if its data is lost";
    let told = self::told(&w);
    assert!(says(&told, dead), "{told:?}");
}

#[test]
fn a_primary_that_was_replaced_drops_what_it_has_once_it_is_started() {
    // The engine elected its replica, whatever that had: the files of the one that is away may be the only copy.
    let mut w = World::formed(3, 1);
    w.kill("a", 0);
    w.cut_off("a", 5);
    let told_before = told(&w);
    assert!(
        !says(&told_before, "keep a copy of its files"),
        "{told_before:?}"
    );
    let slots = std::mem::take(&mut w.node("a").slots);
    let promoted = w.node("a1");
    (promoted.slots, promoted.primary, promoted.epoch) = (slots, None, 9);
    let told = told(&w);
    let told: Vec<_> = told
        .iter()
        .filter(|t| t.contains("a is not heard"))
        .collect();
    assert!(
        matches!(&told[..], [one] if one.contains("keep a copy of its files first")),
        "{told:?}"
    );
}

#[test]
fn one_node_has_no_link_and_several_have_none() {
    let mut w = World::formed(3, 1);
    w.believes("c", "a", |row| row.link_up = false);
    assert!(says(&told(&w), "c has no bus link to a"), "{:?}", told(&w));
    w.believes("c1", "a", |row| row.link_up = false);
    let told = told(&w);
    assert!(says(&told, "c, c1 have no bus link to a"), "{told:?}");
}

#[test]
fn views_islands_and_lost_nodes() {
    let mut w = World::formed(3, 1);
    w.node("c1").island = Some(1);
    w.node("c1").primary = Some(id("c"));
    w.node("b1").housed = false;
    w.believes("a", "b", |row| row.slots = SlotSet::empty());
    let told = told(&w);
    assert!(
        says(
            &told,
            "the nodes are in 2 groups that do not know one another"
        ),
        "{told:?}"
    );
    assert!(says(&told, "do not know"));
    assert!(says(&told, "a believes other slots of b"));
    assert!(says(
        &told,
        "node b1 is listed, but it is not known where it lives"
    ));
}

#[test]
fn a_node_that_is_listed_where_another_answers_may_announce_a_wrong_address() {
    let mut w = World::formed(3, 1);
    w.node("b1").housed = false;
    let at = w
        .observe()
        .server_of(id("c"))
        .and_then(|s| s.address.known().cloned());
    let at = at.expect("c has an address");
    for speaker in ["a", "b", "c", "a1", "c1"] {
        let at = at.clone();
        w.believes(speaker, "b1", move |row| row.address = at.clone());
    }
    let gone = "where c answers: it is gone, or announces a wrong address";
    assert!(says(&told(&w), gone), "{:?}", told(&w));
    w.believes("a", "b1", |row| row.link_up = true);
    let lives = "where c answers: it lives, by its bus links, and announces a wrong address";
    assert!(says(&told(&w), lives), "{:?}", told(&w));
}

#[test]
fn replicas() {
    let mut w = World::formed(3, 1);
    w.node("a1").link_up = false;
    w.node("b1").primary = Some(id("nobody"));
    w.node("c1").place.host = Some("host-c".to_owned());
    w.add("e").island = Some(0);
    let told = told(&w);
    assert!(says(&told, "fatal: replica a1 has no copy or no link"));
    assert!(says(
        &told,
        "fatal: replica b1 follows a node that owns no slots | shardwright fix local"
    ));
    assert!(says(
        &told,
        "note: replica c1 is on the host of its primary c"
    ));
    assert!(says(
        &told,
        "note: primary b has no live replica | shardwright add-node local"
    ));
    assert!(says(&told, "note: primary e owns no slots"));
}

#[test]
fn twins_and_versions() {
    let mut w = World::formed(3, 1);
    w.node("a1").version = Version {
        major: 6,
        minor: 2,
        patch: 0,
    };
    w.add("copy").id = id("c1");
    let told = told(&w);
    assert!(
        says(&told, "fatal: two processes answer as node c1"),
        "{told:?}"
    );
    assert!(says(
        &told,
        "note: several major versions: Redis 6.2.0, Redis 7.0.15"
    ));
}

#[test]
fn a_replica_that_is_not_elected_is_named_once_it_has_its_copy() {
    let mut w = World::formed(3, 1);
    w.held_back.borrow_mut().insert(id("a1"));
    let what = "note: replica a1 does not take its primary's place by itself";
    assert!(says(&told(&w), what), "{:?}", told(&w));
    w.node("a1").syncing = true;
    assert!(!says(&told(&w), what));
}

#[test]
fn the_worst_comes_first() {
    let mut w = World::formed(3, 1);
    w.node("c1").place.host = Some("host-c".to_owned());
    w.node("a").slots = slots(1, 5460);
    let found = diagnose(&w.observe());
    assert_eq!(found.first().map(|p| p.severity), Some(Severity::Fatal));
    assert_eq!(found.last().map(|p| p.severity), Some(Severity::Note));
}

#[test]
fn replicas_that_are_divided_unevenly_are_named() {
    let mut w = World::formed(3, 1);
    w.add_replica("a2", "a");
    let names = |w: &World| says(&told(w), "primary a has 3 replicas, and primary");
    assert!(!names(&w), "one more is no matter");
    w.add_replica("a3", "a");
    assert!(names(&w), "{:?}", told(&w));
    assert!(
        says(&told(&w), "then: shardwright add-node local 127.0.0.1:7007"),
        "{:?}",
        told(&w)
    );
}
