//! What is told of looks that are made up.

use shardwright_topology::SlotRange;

use super::*;

fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 20])
}

fn set(first: u64, last: u64) -> SlotSet {
    let range = SlotRange::new(first, last).expect("slots");
    [range].into_iter().collect()
}

/// A primary 1 with its replica 2, `s` seconds after the begin.
fn calm(s: u64) -> Snapshot {
    Snapshot {
        at: Timestamp(1_764_497_899_000 + s * 1_000),
        roles: [(id(1), Role::Primary), (id(2), Role::Replica)].into(),
        follows: [(id(2), id(1))].into(),
        names: [(id(1), "c-0".to_owned()), (id(2), "c-3".to_owned())].into(),
        converged: true,
        ..Snapshot::default()
    }
}

/// The same with a primary that does not answer.
fn frozen(s: u64) -> Snapshot {
    Snapshot {
        unserved: set(0, 99),
        why_unserved: Some("primary c-0 of slots 0-99 is silent".to_owned()),
        roles: [(id(2), Role::Replica)].into(),
        silent: [id(1)].into(),
        next: Some("waits: for the engine's own failover".to_owned()),
        ..calm(s)
    }
}

/// The same once the replica took its place.
fn promoted(s: u64) -> Snapshot {
    Snapshot {
        roles: [(id(1), Role::Replica), (id(2), Role::Primary)].into(),
        follows: [(id(1), id(2))].into(),
        ..calm(s)
    }
}

fn told(watched: &mut EventTracker, seen: Snapshot) -> Vec<String> {
    let events = watched.see(seen);
    // The time is tested once.
    events.iter().map(|e| e.line()[25..].to_owned()).collect()
}

#[test]
fn a_frozen_primary_is_told_with_its_slots_and_never_called_healthy() {
    let mut w = EventTracker::default();
    assert_eq!(told(&mut w, calm(0)), ["INFO  healthy"]);
    assert_eq!(told(&mut w, calm(1)), [""; 0]);
    // Even where the planner has nothing to do about it.
    assert_eq!(told(&mut w, frozen(2)), [""; 0]);
    let down = "ERROR slots are not served; 100 slots: 0-99";
    let why =
        "; cause: primary c-0 of slots 0-99 is silent; next: waits: for the engine's own failover";
    assert_eq!(told(&mut w, frozen(3)), [format!("{down}{why}")]);
    assert_eq!(told(&mut w, frozen(62)), [""; 0]);
    assert_eq!(
        told(&mut w, frozen(63)),
        [format!("{down}; for 1 min{why}")]
    );
    assert_eq!(
        told(&mut w, promoted(65)),
        [
            "WARN  c-3 is the primary in place of c-0; cause: the engine's own failover: its primary did not answer",
            "INFO  slots are served again; 100 slots: 0-99; for 1 min",
            "INFO  healthy again; for 1 min",
        ]
    );
}

#[test]
fn dropped_writes_are_told_once_with_their_number() {
    let dropped = |bytes, at| DroppedWrites {
        node: id(1),
        successor: id(2),
        bytes,
        unreachable_ms: 21_000,
        at: Timestamp(at),
    };
    let with = |s: u64, dropped: DroppedWrites| Snapshot {
        dropped: vec![(dropped, "writes of c-0 are dropped".to_owned())],
        ..promoted(s)
    };
    let mut w = EventTracker::default();
    told(&mut w, promoted(0));
    let all = || dropped(DroppedBytes::All(340), 7);
    let events = w.see(with(1, all()));
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(&events[0].line()[25..], "ERROR writes of c-0 are dropped");
    let json = events[0].json();
    assert_eq!(json["fields"]["node"], id(1).to_string());
    assert_eq!(json["fields"]["dropped_bytes"], 340);
    assert_eq!(json["fields"]["dropped_writes_max"], 20);
    assert_eq!(told(&mut w, with(2, all())), [""; 0]);
    // It was frozen once more.
    let unknown = dropped(DroppedBytes::Unknown { seen: 0 }, 9);
    let events = w.see(with(3, unknown));
    assert_eq!(&events[0].line()[25..], "ERROR writes of c-0 are dropped");
    let json = events[0].json();
    assert!(json["fields"]["dropped_bytes"].is_null(), "{json}");
    assert!(json["fields"]["dropped_writes_max"].is_null(), "{json}");
}

#[test]
fn who_promoted_a_replica_is_told() {
    let mut w = EventTracker::default();
    told(&mut w, calm(0));
    let by_a_person = told(&mut w, promoted(1));
    assert!(
        by_a_person[0].contains("a person or another program"),
        "{by_a_person:?}"
    );
    let mut w = EventTracker::default();
    told(&mut w, calm(0));
    let step = Snapshot {
        promoted: [(id(2), "promote c-3: its primary is dead".to_owned())].into(),
        converged: false,
        ..calm(1)
    };
    told(&mut w, step);
    let by_us = told(&mut w, promoted(2));
    assert!(
        by_us[0].ends_with("cause: promote c-3: its primary is dead"),
        "{by_us:?}"
    );
}

fn warn(text: &str) -> Concern {
    Concern {
        text: text.to_owned(),
        severity: Severity::Warn,
    }
}

fn stray(node: u8, keys: u64) -> Waiting {
    Waiting::StrayKeys {
        node: id(node),
        keys,
        slots: set(0, keys),
        why: Vec::new(),
    }
}

#[test]
fn a_problem_whose_figures_change_is_one_that_lasts() {
    assert_eq!(key_of_wait(&stray(1, 7)), key_of_wait(&stray(1, 8)));
    assert_ne!(key_of_wait(&stray(1, 7)), key_of_wait(&stray(2, 7)));
    let moves = |slots_left| Waiting::Moves {
        slots_left,
        why: Vec::new(),
    };
    assert_eq!(key_of_wait(&moves(7)), key_of_wait(&moves(8)));
    let sick = |s: u64| Snapshot {
        problems: [("stray".to_owned(), warn(&format!("{s} keys")))].into(),
        converged: false,
        ..calm(s)
    };
    let mut w = EventTracker::default();
    told(&mut w, calm(0));
    assert_eq!(told(&mut w, sick(1)), [""; 0]);
    assert_eq!(told(&mut w, sick(2)), [""; 0]);
    assert_eq!(told(&mut w, sick(3)), ["WARN  3 keys"]);
    assert_eq!(told(&mut w, sick(4)), [""; 0]);
    assert_eq!(
        told(&mut w, calm(5))[0],
        "INFO  over: 4 keys; for 4.0 s",
        "with what it was last"
    );
}

#[test]
fn a_problem_is_told_once_it_lasts_then_every_minute_and_when_it_is_over() {
    let sick = |s| Snapshot {
        problems: [("c-3".to_owned(), warn("c-3 is not heard"))].into(),
        converged: false,
        ..calm(s)
    };
    let mut w = EventTracker::default();
    told(&mut w, calm(0));
    assert_eq!(told(&mut w, sick(1)), [""; 0]);
    assert_eq!(told(&mut w, calm(2)), [""; 0], "it was passing");
    assert_eq!(told(&mut w, sick(3)), [""; 0]);
    assert_eq!(told(&mut w, sick(5)), ["WARN  c-3 is not heard"]);
    assert_eq!(told(&mut w, sick(64)), [""; 0]);
    assert_eq!(
        told(&mut w, sick(65)),
        ["WARN  c-3 is not heard; for 1 min"]
    );
    assert_eq!(
        told(&mut w, calm(69)),
        [
            "INFO  over: c-3 is not heard; for 1 min",
            "INFO  healthy again; for 1 min"
        ]
    );
}

#[test]
fn an_event_is_a_line_with_its_time_or_an_object() {
    let event = Event::new(
        Timestamp(1_764_497_899_120),
        Severity::Error,
        "slots are not served",
    )
    .about(&set(0, 99))
    .lasting(3_250);
    assert_eq!(
        event.line(),
        "2025-11-30T10:18:19.120Z ERROR slots are not served; 100 slots: 0-99; for 3.2 s"
    );
    let json = event.json();
    assert_eq!(json["timestamp"], "2025-11-30T10:18:19.120Z");
    assert_eq!(json["level"], "ERROR");
    assert_eq!(json["fields"]["slots"], "0-99");
    assert_eq!(json["fields"]["lasted_ms"], 3_250);
}
