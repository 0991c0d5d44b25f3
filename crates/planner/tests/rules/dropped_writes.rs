//! Writes that a former primary took and its successor never had: found, counted, and reported for a while.

use std::slice;

use shardwright_planner::{Action, Memory, Problem, ProblemKind, Severity, diagnose};
use shardwright_topology::{
    DroppedBytes, DroppedWrites, NodeView, Observed, Replication, Seen, SlotSet, Stream, Timestamp,
};

use crate::world::{NOW, World, id, stream};

/// How far `a1` had the stream of its primary `a`, in bytes.
const TAKEN_OVER: u64 = 5_000;

/// What is found `ms` milliseconds after the first look.
fn found(memory: &mut Memory, mut o: Observed, ms: u64) -> Vec<DroppedWrites> {
    o.at = Timestamp(NOW + ms);
    memory.recall(&mut o);
    o.dropped_writes.into_values().collect()
}

/// The same with what `a` says of itself changed.
fn with_a(w: &World, edit: impl Fn(&mut NodeView)) -> Observed {
    let mut servers = w.servers();
    for server in &mut servers {
        if let Seen::Known(view) = &mut server.view
            && view.id == id("a")
        {
            edit(view);
        }
    }
    w.observe_in(servers)
}

/// The stream of `a1` once it took the place of `a`.
fn continued() -> Stream {
    Stream {
        id: "of a1".to_owned(),
        before: Some((id("a").to_string(), TAKEN_OVER)),
    }
}

/// The primary `a` was frozen, and its replica `a1` took its place.
fn replaced(memory: &mut Memory) -> World {
    let mut w = World::formed(3, 1);
    assert_eq!(found(memory, w.observe(), 0), []);
    w.hush("a");
    assert_eq!(found(memory, w.observe(), 1_000), []);
    promote(&mut w);
    assert_eq!(found(memory, w.observe(), 9_000), []);
    w
}

/// Makes `a1` the primary of the slots of `a`.
fn promote(w: &mut World) {
    let slots = std::mem::replace(&mut w.node("a").slots, SlotSet::empty());
    let a1 = w.node("a1");
    (a1.primary, a1.epoch, a1.slots) = (None, 10, slots);
    a1.stream = Some(continued());
}

/// It answers again, as a replica of the other, with so many bytes that it alone has.
fn awake(w: &mut World, alone: u64) {
    let a = w.node("a");
    a.silent = None;
    a.primary = Some(id("a1"));
    (a.link_up, a.never_linked) = (false, true);
    a.stream = Some(stream(&id("a").to_string()));
    a.offset = TAKEN_OVER + alone;
}

/// Its copy of the other is done.
fn copied(w: &mut World) {
    let a = w.node("a");
    (a.link_up, a.offset) = (true, 6_000);
    a.stream = Some(stream("of a1"));
    w.node("a1").offset = 6_000;
}

#[test]
fn what_a_frozen_primary_alone_has_is_counted_when_it_answers() {
    let mut memory = Memory::default();
    let mut w = replaced(&mut memory);
    awake(&mut w, 340);
    let dropped = DroppedWrites {
        node: id("a"),
        successor: id("a1"),
        bytes: DroppedBytes::All(340),
        unreachable_ms: 20_000,
        at: Timestamp(NOW + 20_000),
    };
    assert_eq!(dropped.writes_max(), Some(20));
    let at_once = found(&mut memory, w.observe(), 20_000);
    assert_eq!(at_once, slice::from_ref(&dropped));
    copied(&mut w);
    let later = found(&mut memory, w.observe(), 619_999);
    assert_eq!(later, [dropped], "once, as it was found");
    assert_eq!(found(&mut memory, w.observe(), 620_000), []);
}

#[test]
fn it_is_counted_also_while_the_full_copy_is_under_way() {
    let mut memory = Memory::default();
    let mut w = replaced(&mut memory);
    awake(&mut w, 340);
    let copying = with_a(&w, |view| {
        if let Replication::Replica {
            offset, syncing, ..
        } = &mut view.server.replication
        {
            (*offset, *syncing) = (0, true);
        }
    });
    let dropped = found(&mut memory, copying, 20_000);
    assert_eq!(dropped[0].bytes, DroppedBytes::All(340));
}

#[test]
fn one_that_wrote_nothing_more_is_not_told() {
    for alone in [0, 14] {
        let mut memory = Memory::default();
        let mut w = replaced(&mut memory);
        awake(&mut w, alone);
        assert_eq!(found(&mut memory, w.observe(), 20_000), [], "{alone}");
        copied(&mut w);
        assert_eq!(found(&mut memory, w.observe(), 21_000), [], "{alone}");
    }
    // It went on in the stream of the other before it was looked at: that had all of it.
    let mut memory = Memory::default();
    let mut w = replaced(&mut memory);
    awake(&mut w, 0);
    copied(&mut w);
    w.node("a").stream = Some(continued());
    assert_eq!(found(&mut memory, w.observe(), 20_000), []);
}

#[test]
fn where_the_copy_is_done_before_it_was_looked_at_the_number_is_not_known() {
    let mut memory = Memory::default();
    let mut w = replaced(&mut memory);
    awake(&mut w, 340);
    copied(&mut w);
    let dropped = found(&mut memory, w.observe(), 20_000);
    assert_eq!(dropped[0].bytes, DroppedBytes::Unknown { seen: 0 });
    assert_eq!(dropped[0].writes_max(), None);
    // It was looked at while it still took writes.
    let mut memory = Memory::default();
    let mut w = replaced(&mut memory);
    let a = w.node("a");
    (a.silent, a.offset) = (None, TAKEN_OVER + 34);
    assert_eq!(found(&mut memory, w.observe(), 20_000), []);
    awake(&mut w, 340);
    copied(&mut w);
    let dropped = found(&mut memory, w.observe(), 20_100);
    assert_eq!(dropped[0].bytes, DroppedBytes::Unknown { seen: 34 });
    assert_eq!(dropped[0].unreachable_ms, 20_000);
}

#[test]
fn a_switchover_that_was_asked_for_drops_nothing() {
    let mut memory = Memory::default();
    let mut w = World::formed(3, 1);
    assert_eq!(found(&mut memory, w.observe(), 0), []);
    let action = Action::Switchover {
        replica: id("a1"),
        primary: id("a"),
    };
    memory.asked(&action, Timestamp(NOW + 100));
    promote(&mut w);
    awake(&mut w, 0);
    copied(&mut w);
    assert_eq!(found(&mut memory, w.observe(), 600), []);
}

#[test]
fn what_a_process_had_that_was_started_again_is_another_matter() {
    let mut memory = Memory::default();
    let mut w = replaced(&mut memory);
    awake(&mut w, 340);
    let again = with_a(&w, |view| {
        (view.server.run_id, view.server.uptime_s) = ("another".to_owned(), Some(1));
    });
    assert_eq!(found(&mut memory, again, 20_000), []);
}

#[test]
fn a_fresher_replica_is_no_former_primary() {
    let mut memory = Memory::default();
    let mut w = World::formed(3, 2);
    assert_eq!(found(&mut memory, w.observe(), 0), []);
    w.kill("a", 0);
    promote(&mut w);
    let a2 = w.node("a2");
    (a2.primary, a2.offset) = (Some(id("a1")), TAKEN_OVER + 340);
    (a2.link_up, a2.stream) = (false, Some(stream(&id("a").to_string())));
    assert_eq!(found(&mut memory, w.observe(), 9_000), []);
}

#[test]
fn a_former_replica_that_was_given_slots_took_nobodys_place() {
    let mut memory = Memory::default();
    let mut w = World::formed(3, 1);
    assert_eq!(found(&mut memory, w.observe(), 0), []);
    w.node("a1").primary = None;
    w.node("a1").stream = Some(continued());
    assert_eq!(found(&mut memory, w.observe(), 1_000), [], "it was reset");
    promote(&mut w);
    awake(&mut w, 340);
    assert_eq!(found(&mut memory, w.observe(), 2_000), []);
}

/// What `check` notes of it, and what to do.
fn noted(w: &World, o: &Observed) -> Vec<String> {
    let about = |p: &Problem| {
        let kind = &p.kind;
        matches!(
            kind,
            ProblemKind::WritesDropped(_) | ProblemKind::AheadOfPrimary(_)
        )
    };
    let found = diagnose(o).into_iter().filter(about);
    found
        .map(|p| {
            assert_eq!(p.severity, Severity::Note, "nothing is to be done about it");
            w.name_all(&format!("{} | {}", p.kind, p.kind.mend("T")))
        })
        .collect()
}

#[test]
fn check_notes_it_while_it_can_be_seen() {
    let mut memory = Memory::default();
    let mut w = replaced(&mut memory);
    assert_eq!(noted(&w, &w.observe()), [""; 0]);
    awake(&mut w, 340);
    let mut o = w.observe();
    // Who looks for the first time can't tell who wrote it.
    assert_eq!(
        noted(&w, &o),
        [
            "replica a has 340 bytes of a replication stream that its primary a1 does not have: up to 20 write(s), which its \
             full copy drops | only whoever wrote them can write them again"
        ]
    );
    o.at = Timestamp(NOW + 20_000);
    memory.recall(&mut o);
    let found = noted(&w, &o);
    assert_eq!(found.len(), 1, "{found:?}");
    let text = "up to 20 acknowledged write(s) of the former primary a are dropped: 340 bytes of its replication stream, \
                deletions of expired keys included, never reached a1, which took its place; it had been unreachable for 20 s | only whoever wrote them";
    assert!(found[0].starts_with(text), "{found:?}");
    awake(&mut w, 16);
    assert_eq!(noted(&w, &w.observe()), [""; 0], "no write is so small");
}
