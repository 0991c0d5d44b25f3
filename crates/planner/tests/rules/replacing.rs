//! Servers that do not start as they were made, and would be made otherwise by now.

use shardwright_planner::safety::{NoReplace, why_not_replace};
use shardwright_planner::{
    Action, Authority, Desired, Limits, Plan, Reason, Severity, Step, ViolationKind, check, plan,
};
use shardwright_topology::{Observed, OutdatedStart, Process, ServerName, Timestamp};

use crate::world::{NOW, World, three};

const WHY: &str = "ImagePullBackOff: image redis:7.9 can't be pulled";

fn server(name: &str) -> ServerName {
    ServerName(name.to_owned())
}

/// What is seen where these servers do not start as they were made.
fn seen(w: &World, names: &[&str]) -> Observed {
    let mut o = w.observe();
    for name in names {
        let start = OutdatedStart {
            made_from: "old".to_owned(),
            why: WHY.to_owned(),
        };
        o.outdated.insert(server(name), start);
    }
    o
}

/// The plan, which passes its linter.
fn planned(d: &Desired, o: &Observed) -> Plan {
    let made = plan(d, o, &Limits::default(), Timestamp(NOW));
    let mut found = check(&made, d, o);
    found.retain(|v| v.severity == Severity::Fatal);
    assert_eq!(found, [], "{made:#?}");
    made
}

/// The steps that make servers anew.
fn replaced(d: &Desired, o: &Observed) -> Vec<String> {
    let made = planned(d, o);
    let steps = made.steps.iter();
    let steps = steps.filter(|s| matches!(s.action, Action::Replace { .. }));
    steps.map(ToString::to_string).collect()
}

fn why(w: &World, name: &str) -> Option<NoReplace> {
    let o = seen(w, &["b1"]);
    why_not_replace(&three(), &o, &o.servers()[&server(name)])
}

/// `b1` does not answer, and nobody has a link to it.
fn without_b1() -> World {
    let mut w = World::formed(3, 1);
    w.hush("b1");
    w.cut_off("b1", 0);
    w
}

#[test]
fn a_server_that_does_not_start_as_it_was_made_is_made_anew() {
    let w = without_b1();
    let anew = format!(
        "make b1 anew: it does not start as it was made, and would be made otherwise by now ({WHY})"
    );
    assert_eq!(replaced(&three(), &seen(&w, &["b1"])), [anew]);
    // One that would be made just so again is waited for.
    let nobody: &[String] = &[];
    assert_eq!(replaced(&three(), &seen(&w, &[])), nobody);
    // It has come: there is nothing to do.
    assert!(planned(&three(), &World::formed(3, 1).observe()).is_settled());
}

#[test]
fn before_the_cluster_is_formed_all_are_made_anew_at_once() {
    let mut w = World::blank(6);
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        w.hush(name);
    }
    assert_eq!(replaced(&three(), &seen(&w, &names)).len(), 6);
    assert_eq!(replaced(&three(), &seen(&w, &names[..2])).len(), 2);
}

#[test]
fn every_reason_not_to() {
    let w = without_b1();
    assert_eq!(why(&w, "b1"), None);
    assert_eq!(why(&w, "c1"), Some(NoReplace::NotOutdated));
    let guest = Desired {
        authority: Authority::Guest,
        ..three()
    };
    let o = seen(&w, &["b1"]);
    let b1 = &o.servers()[&server("b1")];
    let not_ours = why_not_replace(&guest, &o, b1);
    assert_eq!(not_ours, Some(NoReplace::NotManaged));
    let mut linked = World::formed(3, 1);
    linked.hush("b1");
    assert_eq!(why(&linked, "b1"), Some(NoReplace::Linked));
    for (change, reason) in [
        (
            (|w| w.node("b1").silent = None) as fn(&mut World),
            NoReplace::Lives,
        ),
        (
            |w| w.node("b1").process = Process::Running,
            NoReplace::Lives,
        ),
        (
            |w| w.node("b1").place.away_since = Some(Timestamp(NOW)),
            NoReplace::HostAway,
        ),
        (|w| w.node("b1").leaving = true, NoReplace::Leaving),
    ] {
        let mut other = without_b1();
        change(&mut other);
        assert_eq!(why(&other, "b1"), Some(reason));
        let nobody: &[String] = &[];
        assert_eq!(replaced(&three(), &seen(&other, &["b1"])), nobody);
        assert_eq!(lint(&other, "old"), [violation()], "{reason:?}");
    }
    assert_eq!(lint(&w, "old"), []);
    assert_eq!(lint(&w, "newer"), [violation()], "it is another by now");
    assert_eq!(lint(&linked, "old"), [violation()]);
}

fn violation() -> ViolationKind {
    ViolationKind::ReplacesLiving {
        server: server("b1"),
    }
}

/// What the linter finds in a plan that makes `b1` anew.
fn lint(w: &World, made_from: &str) -> Vec<ViolationKind> {
    let step = Step {
        action: Action::Replace {
            server: server("b1"),
            made_from: made_from.to_owned(),
        },
        because: Reason::OutdatedStart {
            why: WHY.to_owned(),
        },
        requires: Vec::new(),
    };
    let made = Plan {
        steps: vec![step],
        ..Plan::default()
    };
    let found = check(&made, &three(), &seen(w, &["b1"]));
    found.into_iter().map(|v| v.kind).collect()
}
