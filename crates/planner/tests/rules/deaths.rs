//! A refused connection is a fact about an address: what else it takes to prove a death.

use std::collections::BTreeSet;

use shardwright_planner::evidence::Dead;
use shardwright_planner::{
    Action, Desired, Manner, NoDeath, Plan, Problem, ProblemKind, Reason, Request, Step,
    ViolationKind, Waiting, Witnesses, check, diagnose,
};
use shardwright_topology::{
    Death, DeathProof, Health, Observed, Process, ServerName, Timestamp, Why,
};

use crate::world::{NOW, World, consenting, id, says, three};

fn why(w: &World, d: &Desired) -> Option<NoDeath> {
    let o = w.observe();
    let a = w.get("a");
    let server = &o.servers()[&ServerName(a.name.clone())];
    let views: Vec<_> = o.views().map(|(_, v)| v).collect();
    Witnesses::new(d, views.into_iter()).why_not_dead(a.recorded, &server.address, &server.disk)
}

/// What the keeper makes of it: dead where nothing speaks against it.
fn judged(mut w: World, d: &Desired) -> World {
    if why(&w, d).is_none() {
        w.node("a").process = refused();
    }
    w
}

fn refused() -> Process {
    Process::Dead(Death {
        proof: DeathProof::Refused,
        since: Timestamp(NOW),
    })
}

fn promotes(plan: &Plan) -> bool {
    let past = |s: &Step| matches!(s.action, Action::Failover { .. } | Action::Takeover { .. });
    plan.steps.iter().any(past)
}

/// `a` refuses clients; everyone's bus link to it is up, and only its replica's own link is down.
fn wrong_port() -> World {
    let mut w = World::formed(3, 1);
    w.refuse("a");
    w.node("a1").link_up = false;
    w
}

#[test]
fn a_primary_that_refuses_clients_and_answers_the_others_lives() {
    for d in [Desired::guest(), three()] {
        let linked = NoDeath::Linked { by: 5, of: 5 };
        assert_eq!(why(&wrong_port(), &d), Some(linked.clone()));
        let w = judged(wrong_port(), &d);
        let plan = w.plan(&d);
        assert!(!promotes(&plan), "{:?}", plan.steps);
        let node = id("a");
        let waits = Waiting::DeathUnproved { node, why: linked };
        assert!(plan.waiting.contains(&waits), "{:?}", plan.waiting);
        assert!(waits.needs_a_person());
    }
    // Not by request either, whatever is agreed of it.
    for manner in [Manner::Force, Manner::Takeover] {
        let mut w = wrong_port();
        for voter in ["b", "c"] {
            w.believes(voter, "a", |row| row.health = Health::Failed);
        }
        let node = id("a1");
        let d = Desired::guest().with(Request::Promote { node, manner });
        assert!(!promotes(&judged(w, &d).plan(&d)));
    }
}

#[test]
fn one_link_is_enough_to_live() {
    let mut w = wrong_port();
    w.cut_off("a", 5);
    w.believes("c", "a", |row| {
        row.link_up = true;
        row.health = Health::Suspected;
    });
    assert_eq!(
        why(&w, &Desired::guest()),
        Some(NoDeath::Linked { by: 1, of: 5 })
    );
    // Whoever holds it to have failed dials it, which shows as a link for a moment: no death yet, and nobody's to decide.
    w.believes("c", "a", |row| row.health = Health::Failed);
    let dialled = NoDeath::Dialled { by: 1, of: 5 };
    let guest = Desired::guest();
    assert_eq!(why(&w, &guest), Some(dialled.clone()));
    assert!(!dialled.needs_a_person());
    assert!(!promotes(&judged(w, &guest).plan(&guest)));
}

#[test]
fn of_a_guest_a_majority_of_the_primaries_must_hold_it_to_have_failed() {
    let guest = Desired::guest();
    // The others are `a1`, `b`, `b1`, `c`, `c1`: with three of them one primary holds it to have failed.
    let mut w = wrong_port();
    w.cut_off("a", 3);
    let few = NoDeath::NoMajority {
        failed_by: 1,
        heard: 2,
        of: 3,
    };
    assert_eq!(why(&w, &guest), Some(few.clone()));
    assert!(!few.needs_a_person(), "it comes");
    assert!(!promotes(&judged(w, &guest).plan(&guest)));
    let mut w = wrong_port();
    w.cut_off("a", 5);
    assert_eq!(why(&w, &guest), None);
    assert!(promotes(&judged(w, &guest).plan(&guest)));
    // Where the process is ours, its own host's refusal and no link are enough.
    let mut w = wrong_port();
    w.cut_off("a", 0);
    assert_eq!(why(&w, &three()), None);
}

#[test]
fn without_a_majority_a_person_decides() {
    let mut w = wrong_port();
    w.cut_off("a", 3);
    w.refuse("b");
    let guest = Desired::guest();
    let why_not = why(&w, &guest).expect("no majority can agree");
    assert!(why_not.needs_a_person(), "{why_not:?}");
    // Everyone that was heard has no answer from it, and a person says that it is gone.
    assert_eq!(why(&w, &consenting(guest)), None);
    w.believes("c", "a", |row| row.health = Health::Fine);
    assert!(why(&w, &consenting(Desired::guest())).is_some());
}

#[test]
fn the_linter_proves_a_death_again() {
    let takeover = |o: &Observed| {
        let dead = Dead::prove(o, id("a")).expect("it is dead there");
        let replica = id("a1");
        Plan {
            steps: vec![Step {
                action: Action::Takeover { replica, dead },
                because: Reason::Asked,
                requires: Vec::new(),
            }],
            ..Plan::default()
        }
    };
    let kinds = |w: &World, d: &Desired, plan: &Plan| {
        let found = check(plan, d, &w.observe());
        found.into_iter().map(|v| v.kind).collect::<BTreeSet<_>>()
    };
    let guest = Desired::guest();
    let mut w = wrong_port();
    w.cut_off("a", 5);
    w.node("a").process = refused();
    let plan = takeover(&w.observe());
    assert_eq!(kinds(&w, &guest, &plan), BTreeSet::new());
    let primary = id("a");
    let unproved = BTreeSet::from([ViolationKind::PrimaryNotDead { primary }]);
    // Somebody has a link to it.
    w.believes("c1", "a", |row| row.link_up = true);
    assert_eq!(kinds(&w, &guest, &plan), unproved);
    assert_eq!(kinds(&w, &three(), &plan), unproved);
    assert_eq!(Dead::prove(&w.observe(), primary), None);
    // No majority.
    let mut w = wrong_port();
    w.cut_off("a", 3);
    w.node("a").process = refused();
    assert_eq!(kinds(&w, &guest, &plan), unproved);
    assert_eq!(kinds(&w, &three(), &plan), BTreeSet::new());
    // Its place has another node, and others still hear it.
    let mut w = World::formed(3, 1);
    w.lose_directory("a", "new");
    w.node("a1").link_up = false;
    let plan = takeover(&w.observe());
    assert_eq!(kinds(&w, &three(), &plan), BTreeSet::new());
    w.believes("b", "a", |row| row.link_up = true);
    assert_eq!(kinds(&w, &three(), &plan), unproved);
    assert_eq!(Dead::prove(&w.observe(), primary), None);
}

fn told(w: &World) -> (Vec<String>, Vec<String>) {
    let found = diagnose(&w.observe());
    let say = |p: &Problem| w.name_all(&p.kind.to_string());
    let mend = |p: &Problem| p.kind.mend("T");
    (
        found.iter().map(say).collect(),
        found.iter().map(mend).collect(),
    )
}

#[test]
fn the_announced_address_is_named_as_the_suspect() {
    let mut w = wrong_port();
    w.node("a").address.bus_port = 17_777;
    let (said, mends) = told(&w);
    let suspect = "5 of 5 nodes have a bus link to a, but nothing listens at its announced address 127.0.0.1:7000: announced port wrong?";
    assert!(says(&said, suspect), "{said:?}");
    assert!(says(&said, "is not heard, but lives"), "{said:?}");
    let mend = "redis-cli -h 127.0.0.1 -p 7777 CONFIG SET cluster-announce-port 7777";
    assert!(says(&mends, mend), "{mends:?}");
    assert!(!says(&mends, "start it again"), "{mends:?}");
}

#[test]
fn who_is_busy_paused_or_loading_is_not_to_be_started_again() {
    for (why, words, mend) in [
        (
            Why::Busy("a script".to_owned()),
            "busy with a script",
            "SCRIPT KILL",
        ),
        (
            Why::TimedOut,
            "answers other nodes, but no client",
            "CLIENT PAUSE",
        ),
        (Why::Loading, "loading its data", "wait while it loads"),
    ] {
        let mut w = World::formed(3, 1);
        w.hush("a").silent = Some(why.clone());
        let (said, mends) = told(&w);
        assert!(says(&said, words), "{said:?}");
        assert!(says(&mends, mend), "{mends:?}");
        assert!(
            !mends.iter().any(|m| m.starts_with("start it")),
            "{mends:?}"
        );
        let waits = w.waits(&three());
        if why.is_an_answer() {
            assert!(!says(&waits, "is silent"), "{waits:?}");
        }
    }
    let mut frozen = World::formed(3, 1);
    frozen.hush("a");
    frozen.cut_off("a", 5);
    assert!(!says(&told(&frozen).0, "but lives"));
    let unheard = |p: &Problem| matches!(p.kind, ProblemKind::Unheard { .. });
    assert!(diagnose(&frozen.observe()).iter().any(unheard));
}
