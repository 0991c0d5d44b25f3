//! Too few primaries are reachable for a vote: that is named, and a person who knows that one is dead may go on.

use std::collections::BTreeSet;

use shardwright_planner::{Desired, Manner, ProblemKind, Request, ViolationKind, check, diagnose};
use shardwright_topology::Why;

use crate::world::{World, id, says, slots, three};

/// A cluster of which `a` and `b` are cut off: `c` alone of the primaries is reachable.
fn cut_off() -> World {
    let mut w = World::formed(3, 1);
    for name in ["a", "b"] {
        w.hush(name);
        w.cut_off(name, 0);
    }
    w
}

/// A person asks for a node in the place of its primary, and says that this is dead.
fn stating(node: &str, manner: Manner) -> Desired {
    let node = id(node);
    let mut d = three().with(Request::Promote { node, manner });
    d.consent.primary_is_dead = true;
    d
}

fn majority_lost(w: &World) -> Vec<(String, String)> {
    let found = diagnose(&w.observe()).into_iter();
    let found = found.filter(|p| matches!(p.kind, ProblemKind::MajorityLost(_)));
    found
        .map(|p| (w.name_all(&p.kind.to_string()), p.kind.mend("T")))
        .collect()
}

#[test]
fn a_lost_majority_is_named_with_what_ends_it() {
    let w = cut_off();
    let said = "no majority: 1 of 3 primaries is reachable, so that no vote can promote a replica; no reachable primary \
                serves slots 0-10922; it ends when host-a, host-b return (with a, b)";
    let or = ", or on the word of a person who knows that a is dead: shardwright check shows the command";
    for d in [three(), Desired::guest()] {
        let plan = w.plan(&d);
        assert!(plan.steps.is_empty() && !plan.is_stuck(), "{plan:?}");
        assert_eq!(plan.waiting[0].slots(), Some(&slots(0, 10_922)));
        let waits = w.waits(&d);
        assert_eq!(waits[0], format!("{said}{or}"));
        assert!(!says(&waits, "nothing proves it dead"), "{waits:?}");
    }
    let found = majority_lost(&w);
    let [(text, remedy)] = found.as_slice() else {
        panic!("it is one problem: {found:?}");
    };
    assert_eq!(text, said);
    let command = format!(
        "shardwright failover T {} --takeover --i-know-the-primary-is-dead",
        id("a1")
    );
    assert!(remedy.ends_with(&command), "{remedy}");
}

#[test]
fn with_a_majority_or_where_deaths_are_proved_none_is_lost() {
    let mut one = World::formed(3, 1);
    one.hush("a");
    assert!(says(&one.waits(&three()), "the other primaries vote on it"));
    assert_eq!(majority_lost(&one), []);
    let mut dead = World::formed(3, 1);
    dead.kill("a", 100);
    dead.kill("b", 100);
    assert!(!says(&dead.waits(&three()), "no majority: 1 of 3"));
    assert_eq!(majority_lost(&dead), []);
    // Whoever is cut off from us alone has its vote.
    let mut ours = World::formed(3, 1);
    ours.hush("a");
    ours.hush("b");
    assert_eq!(majority_lost(&ours), []);
    // Whoever answers something comes back by itself.
    let mut loads = World::formed(3, 1);
    for name in ["a", "b"] {
        loads.hush(name).silent = Some(Why::Loading);
    }
    assert_eq!(majority_lost(&loads), []);
}

#[test]
fn without_a_replica_that_has_a_copy_no_takeover_is_offered() {
    let mut w = cut_off();
    for name in ["a1", "b1"] {
        w.hush(name);
    }
    let found = majority_lost(&w);
    let [(text, remedy)] = found.as_slice() else {
        panic!("it is one problem: {found:?}");
    };
    assert!(!remedy.contains("failover"), "{text}: {remedy}");
    assert!(!says(&w.waits(&three()), "on the word of a person"));
    assert!(remedy.contains("no replica that is reachable has a copy"));
}

#[test]
fn a_persons_word_takes_over_past_a_silent_primary() {
    let w = cut_off();
    let takeover = "let a1 take over from dead a without votes";
    assert_eq!(w.steps(&stating("a1", Manner::Takeover)), [takeover]);
    let force = stating("a1", Manner::Force);
    assert!(w.steps(&force).is_empty());
    assert!(says(&w.waits(&force), "too few primaries see a1"));
    // With a majority a vote does it.
    let mut one = World::formed(3, 1);
    one.hush("a");
    one.cut_off("a", 0);
    let voted = "fail over from dead a to its replica a1";
    assert_eq!(one.steps(&force), [voted]);
    // What is said of `a` is not said of `b`.
    assert!(!says(&w.steps(&stating("a1", Manner::Takeover)), "dead b"));
}

#[test]
fn without_that_word_it_is_refused_and_the_word_is_named() {
    let w = cut_off();
    let mut d = stating("a1", Manner::Takeover);
    d.consent.primary_is_dead = false;
    assert!(w.steps(&d).is_empty());
    let waits = w.waits(&d);
    assert!(
        says(
            &waits,
            "primary a is not proved dead: it is only unreachable"
        ) && says(&waits, "add --i-know-the-primary-is-dead"),
        "{waits:?}"
    );
}

#[test]
fn that_word_counts_for_nothing_once_the_primary_answers() {
    let refused = |w: &World, why: &str| {
        for manner in [Manner::Force, Manner::Takeover] {
            let d = stating("a1", manner);
            assert!(w.steps(&d).is_empty(), "{why}: {:?}", w.steps(&d));
            let waits = w.waits(&d);
            let why = format!("primary a is not dead: {why}");
            assert!(says(&waits, &why), "{why}: {waits:?}");
        }
    };
    refused(&World::formed(3, 1), "it is reachable");
    let mut w = cut_off();
    w.node("a").silent = Some(Why::Loading);
    refused(&w, "its server answers: loading its data");
    // It is silent to us only.
    let mut w = World::formed(3, 1);
    w.hush("a");
    refused(&w, "5 reachable node(s) have a bus link to it");
}

#[test]
fn the_linter_asks_for_that_word_again() {
    let w = cut_off();
    let d = stating("a1", Manner::Takeover);
    let plan = w.plan(&d);
    let kinds = |d: &Desired, w: &World| -> BTreeSet<ViolationKind> {
        let found = check(&plan, d, &w.observe()).into_iter();
        found.map(|v| v.kind).collect()
    };
    let primary = id("a");
    let unproved = BTreeSet::from([ViolationKind::PrimaryNotDead { primary }]);
    assert_eq!(kinds(&d, &w), BTreeSet::new());
    // Nobody said so, or of another.
    assert_eq!(kinds(&three(), &w), unproved);
    assert_eq!(kinds(&stating("b1", Manner::Takeover), &w), unproved);
    // It speaks, its server answers, or another reaches it.
    assert_eq!(kinds(&d, &World::formed(3, 1)), unproved);
    let mut answers = cut_off();
    answers.node("a").silent = Some(Why::Denied("NOAUTH".to_owned()));
    assert_eq!(kinds(&d, &answers), unproved);
    let mut linked = World::formed(3, 1);
    linked.hush("a");
    assert_eq!(kinds(&d, &linked), unproved);
}

#[test]
fn a_host_that_runs_what_is_reachable_is_not_said_to_be_away() {
    let mut w = cut_off();
    let host = w.get("c").place.host.clone();
    w.node("a").place.host = host;
    assert!(says(&w.waits(&three()), "it ends when a, b return, or"));
}
