//! Libraries of functions: a new shard is given what all owners of slots agree on, and in what they differ is named.

use shardwright_planner::{Desired, Problem, ProblemKind, Severity, diagnose};
use shardwright_topology::{CodeDigest, FunctionLibraries, Seen, Why};

use crate::world::{Node, World, says, slots, three};

/// The node has these libraries, each with the code of this number.
pub(crate) fn load(node: &mut Node, libraries: &[(&str, u8)]) {
    let libraries: FunctionLibraries = libraries
        .iter()
        .map(|(name, code)| ((*name).to_owned(), CodeDigest::from_bytes([*code; 32])))
        .collect();
    node.libraries = Some(libraries.len() as u64);
    node.functions = Seen::Known(libraries);
}

/// Three shards of two with two libraries each, and a fourth primary with its replica that has no slots yet.
fn with_a_fourth() -> World {
    let mut w = World::formed(3, 1);
    for name in ["d", "e"] {
        w.add(name).island = Some(0);
    }
    for (node, rank) in w.nodes.iter_mut().zip(0..) {
        node.place.leave_rank = rank;
    }
    w.node("e").primary = Some(crate::world::id("d"));
    for name in ["a", "b", "c", "a1", "b1", "c1"] {
        load(w.node(name), &[("one", 1), ("two", 2)]);
    }
    w
}

fn four() -> Desired {
    Desired::managed(4, 1)
}

const COPIES: &str = "copy the functions of a to d (libraries one, two): clients of the slots that it gets may call them";

#[test]
fn a_new_shard_gets_the_functions_of_the_others_before_its_slots() {
    let mut w = with_a_fourth();
    assert_eq!(w.reasons(&four()), [COPIES]);
    let waits = w.waits(&four());
    assert!(
        says(&waits, "d lacks libraries of functions: one, two"),
        "{waits:?}"
    );
    // What it has itself besides is its own.
    load(w.node("d"), &[("one", 1), ("two", 2), ("own", 9)]);
    assert!(
        says(&w.steps(&four()), "from a to d"),
        "{:?}",
        w.steps(&four())
    );
    // Only what it lacks is copied; another code of the same name is none.
    load(w.node("d"), &[("one", 1), ("two", 7)]);
    assert!(says(&w.steps(&four()), "a to d (libraries two)"));
    // One that does not tell how many it has knows no functions.
    w.node("d").libraries = None;
    assert!(says(&w.steps(&four()), "from a to d"));
}

#[test]
fn a_new_shard_gets_only_what_all_owners_agree_on() {
    let mut w = with_a_fourth();
    load(w.node("b"), &[("one", 1), ("two", 3)]);
    load(w.node("c"), &[("one", 1), ("two", 2), ("three", 4)]);
    let reasons = w.reasons(&four());
    assert!(
        says(&reasons, "copy the functions of a to d (libraries one)"),
        "{reasons:?}"
    );
    assert!(
        says(
            &reasons,
            "not given: three, two (the primaries differ in them"
        ),
        "{reasons:?}"
    );
    load(w.node("d"), &[("one", 1)]);
    assert!(
        says(&w.steps(&four()), "from a to d"),
        "{:?}",
        w.steps(&four())
    );
    // Where they agree on nothing it is given nothing.
    load(w.node("c"), &[]);
    load(w.node("d"), &[]);
    assert!(
        says(&w.steps(&four()), "from a to d"),
        "{:?}",
        w.steps(&four())
    );
}

#[test]
fn one_that_has_slots_already_is_left_alone() {
    let mut w = World::formed(3, 1);
    load(w.node("a"), &[("one", 1)]);
    w.node("a").slots = slots(0, 8_000);
    w.node("b").slots = slots(8_001, 10_922);
    assert!(says(&w.steps(&three()), "from a to b"));
}

#[test]
fn libraries_that_could_not_be_read_are_not_taken_for_none() {
    let mut w = with_a_fourth();
    w.node("b").functions = Seen::Unknown(Why::Denied("NOPERM".to_owned()));
    assert_eq!(w.steps(&four()), [""; 0]);
    let waits = w.waits(&four());
    let said = "which libraries of functions b has could not be read: not let in (NOPERM)";
    assert!(says(&waits, said), "{waits:?}");
    assert!(w.plan(&four()).is_stuck(), "only a person gives that right");
    w.node("b").functions = Seen::Unknown(Why::TimedOut);
    assert!(!w.plan(&four()).is_stuck(), "it may answer the next time");
    // One that has as many as the others is given slots: who may not read them may have loaded them by himself.
    load(w.node("d"), &[("one", 1), ("two", 2)]);
    assert!(
        says(&w.steps(&four()), "from a to d"),
        "{:?}",
        w.steps(&four())
    );
}

/// What is said of functions, with its severity and its remedy.
fn told(w: &World) -> Vec<(Severity, String, String)> {
    let about = |p: &Problem| {
        matches!(
            p.kind,
            ProblemKind::FunctionsDiffer(_) | ProblemKind::FunctionsUnknown { .. }
        )
    };
    diagnose(&w.observe())
        .iter()
        .filter(|p| about(p))
        .map(|p| {
            let text = w.name_all(&p.kind.to_string());
            (p.severity, text, w.name_all(&p.kind.mend("T")))
        })
        .collect()
}

#[test]
fn libraries_in_which_primaries_differ_are_problems() {
    let mut w = with_a_fourth();
    assert_eq!(
        told(&w),
        [],
        "a primary without slots is given them before its slots"
    );
    load(w.node("b"), &[("one", 1), ("two", 3)]);
    load(w.node("c"), &[("one", 1)]);
    let all = told(&w);
    let [(severity, text, remedy)] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!(*severity, Severity::Fatal);
    assert_eq!(
        text,
        "library two of functions is not the same at all primaries: one code at a, another code at b, missing at c"
    );
    assert!(remedy.contains("to give the others what a has"), "{remedy}");
    for (words, times) in [
        ("FUNCTION LIST LIBRARYNAME two WITHCODE", 2),
        ("FUNCTION LOAD REPLACE", 2),
        ("FUNCTION RESTORE", 0),
    ] {
        assert_eq!(remedy.matches(words).count(), times, "{remedy}");
    }
    // What most have comes first.
    load(w.node("c"), &[("one", 1), ("two", 3)]);
    let text = &told(&w)[0].1;
    assert!(
        text.ends_with("one code at b, c, another code at a"),
        "{text}"
    );
}

#[test]
fn a_library_that_one_shard_alone_has_does_not_go_with_its_last_slot() {
    let mut w = with_a_fourth();
    let alone = "c alone has libraries of functions, or this code of them, which go with its last slot: own";
    let moves = |w: &World, d: &Desired| (w.steps(d), w.waits(d));
    load(w.node("c"), &[("one", 1), ("two", 2), ("own", 3)]);
    // Some of its slots go to the new shard, and it stays.
    load(w.node("d"), &[("one", 1), ("two", 2)]);
    let (steps, waits) = moves(&w, &four());
    assert!(says(&steps, "from c to d"), "{steps:?}");
    assert!(!says(&waits, alone), "{waits:?}");
    // All of them go.
    w.node("c").slots = slots(10_923, 12_287);
    w.node("d").slots = slots(12_288, 16_383);
    w.node("d").epoch = 9;
    for (stays, goes) in [("d", "c"), ("e", "c1")] {
        let (early, late) = (w.get(goes).place.leave_rank, w.get(stays).place.leave_rank);
        w.node(stays).place.leave_rank = early;
        w.node(goes).place.leave_rank = late;
    }
    let (steps, waits) = moves(&w, &three());
    assert!(!says(&steps, "from c"), "{steps:?}");
    assert!(says(&waits, alone), "{waits:?}");
    for name in ["a", "b", "d"] {
        load(w.node(name), &[("one", 1), ("two", 2), ("own", 3)]);
    }
    let (steps, waits) = moves(&w, &three());
    assert!(says(&steps, "from c"), "{steps:?} {waits:?}");
}

#[test]
fn libraries_that_could_not_be_read_are_said() {
    let mut w = with_a_fourth();
    w.node("b").functions = Seen::Unknown(Why::Denied("NOPERM".to_owned()));
    let all = told(&w);
    let [(severity, text, remedy)] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!(*severity, Severity::Note);
    assert!(
        text.starts_with("it is not known whether b has the same libraries"),
        "{text}"
    );
    assert!(
        remedy.contains("ACL SETUSER USER '+function|list' '+function|load'"),
        "{remedy}"
    );
    // Where it has none there is nothing to read.
    w.node("b").libraries = Some(0);
    assert_eq!(told(&w).len(), 2, "they lack at b");
}
