//! A primary that lost its table of nodes speaks under another id, with its data: it is taken in, and nothing is emptied.

use shardwright_planner::{
    Desired, Manner, ProblemKind, Request, Severity, ViolationKind, Waiting, check, diagnose,
    to_record,
};
use shardwright_topology::{Flags, Health, ServerName};

use crate::world::{World, consenting, id, says, slots, stream};

/// Everyone lists `a` without an address; `x` has its place, and its data.
fn lost(replicas: u16) -> World {
    let mut w = World::formed(3, replicas);
    let speakers: Vec<String> = w.nodes.iter().map(|n| n.name.clone()).collect();
    for speaker in speakers.iter().filter(|name| *name != "a") {
        w.believes(speaker, "a", |row| {
            row.flags = row.flags.with(Flags::NOADDR);
            row.link_up = false;
        });
    }
    let x = w.lose_directory("a", "x");
    x.keys = 100;
    // An engine claims at its start what it has keys of.
    x.slots = slots(0, 99);
    w
}

fn join() -> Desired {
    Desired::guest().with(Request::Join {
        server: ServerName("x".to_owned()),
        replica: true,
        of: None,
    })
}

#[test]
fn the_old_id_is_forgotten_before_the_new_is_met_and_gets_its_slots() {
    for d in [Desired::managed(3, 0), join()] {
        let mut w = lost(0);
        assert_eq!(w.steps(&d), ["make b forget a", "make c forget a"]);
        assert!(says(&w.waits(&d), "x does not belong here: it was node a"));
        assert!(!says(&w.waits(&d), "is silent"), "{:?}", w.waits(&d));

        w.nodes.retain(|n| n.name != "a");
        w.counted(&slots(100, 5460), &[("x", 1)]);
        let steps = w.steps(&d);
        for step in [
            "tell b that x is at 127.0.0.1:7000",
            "give slots 100-5460 to x",
        ] {
            assert!(says(&steps, step), "{steps:?}");
        }

        let x = w.node("x");
        x.slots = slots(0, 5460);
        x.island = Some(0);
        assert_eq!(w.steps(&d), ["let x raise its epoch"]);
    }
}

#[test]
fn nobody_is_taken_in_whom_nobody_named_or_while_it_may_be_wrong() {
    type Change = fn(&mut World);
    let cases: [(&str, Change); 5] = [
        ("someone is silent", |w| {
            w.hush("c");
        }),
        ("it claims what another owns", |w| {
            w.node("x").slots = slots(5461, 5461);
        }),
        ("it knows others", |w| {
            w.node("x").island = Some(1);
            w.add("y").island = Some(1);
        }),
        ("the old one has an address somewhere", |w| {
            w.believes("b", "a", |row| row.flags = Flags::default());
        }),
        ("it has nothing", |w| {
            let x = w.node("x");
            x.keys = 0;
            x.slots = slots(0, 0).difference(&slots(0, 0));
        }),
    ];
    for (what, change) in cases {
        let mut w = lost(0);
        change(&mut w);
        let steps = w.steps(&join());
        assert!(!says(&steps, "forget a"), "{what}: {steps:?}");
    }
    assert!(
        lost(0).steps(&Desired::guest()).is_empty(),
        "nobody named it"
    );
}

#[test]
fn a_cluster_of_one_at_a_lost_servers_address_is_not_ours() {
    // Every server lost its directory; another's process, with slots of its own, listens where `a` was.
    let mut w = World::formed(3, 0);
    for (name, new) in [("b", "y"), ("c", "z"), ("a", "x")] {
        w.lose_directory(name, new);
        w.nodes.retain(|n| n.name != name);
    }
    let x = w.node("x");
    (x.keys, x.slots, x.epoch) = (1, slots(0, 16_383), 9);
    let d = Desired::managed(3, 0);
    let steps = w.steps(&d);
    assert!(!says(&steps, "x"), "{steps:?}");
    assert!(
        says(&w.waits(&d), "x does not belong here"),
        "{:?}",
        w.waits(&d)
    );
}

#[test]
fn one_whose_replica_lost_its_directory_too_is_taken_in() {
    let mut w = lost(1);
    w.lose_directory("a1", "y");
    let d = Desired::managed(3, 1);
    let steps = w.steps(&d);
    assert!(says(&steps, "make b forget a"), "{steps:?}");
    // A foreign node in the place of a replica is no primary that returned.
    let mut w = World::formed(3, 1);
    w.believes("b", "a1", |row| row.flags = row.flags.with(Flags::NOADDR));
    w.lose_directory("a1", "y").keys = 5;
    assert!(!says(&w.steps(&d), " y"), "{:?}", w.steps(&d));
    // Who is merely silent may take its place.
    let mut w = lost(1);
    w.hush("a1");
    assert!(!says(&w.steps(&d), "forget a"));
    // Among others' servers an absent one may return.
    let mut w = lost(1);
    w.lose_directory("a1", "y");
    assert!(!says(&w.steps(&join()), "forget a"));
}

#[test]
fn a_replica_takes_the_place_by_proof_or_by_a_persons_word() {
    let w = lost(1);
    let steps = w.steps(&Desired::managed(3, 1));
    assert_eq!(
        steps[0], "fail over from dead a to its replica a1",
        "{steps:?}"
    );
    assert!(!says(&steps, "forget"), "{steps:?}");

    // Where others run it, nothing proves it.
    let mut w = lost(1);
    w.formed = false;
    w.nodes.retain(|n| n.name != "x");
    assert!(w.steps(&Desired::guest()).is_empty());
    let asked = |manner| {
        Desired::guest().with(Request::Promote {
            node: id("a1"),
            manner,
        })
    };
    assert_eq!(
        w.steps(&asked(Manner::Takeover)),
        ["let a1 take over from dead a without votes"]
    );
    assert_eq!(
        w.steps(&asked(Manner::Force)),
        ["fail over from dead a to its replica a1"]
    );
    assert!(w.steps(&asked(Manner::Switchover)).is_empty());
    w.hush("c");
    assert!(
        w.steps(&asked(Manner::Takeover)).is_empty(),
        "c may have a link to it"
    );
    w.node("c").silent = None;
    w.believes("c", "a", |row| row.link_up = true);
    assert!(w.steps(&asked(Manner::Takeover)).is_empty(), "it lives");
}

#[test]
fn a_guest_is_told_that_a_lost_id_does_not_end_by_itself() {
    let mut w = lost(1);
    w.formed = false;
    w.nodes.retain(|n| n.name != "x");
    let d = Desired::guest();
    assert!(says(&w.waits(&d), "primary a is listed without an address"));
    let lost = Waiting::IdLost { node: id("a") };
    assert!(lost.needs_a_person());
    assert!(w.plan(&d).waiting.contains(&lost));
    // Once it is held to have failed, the engine promotes.
    for speaker in ["b", "c", "a1"] {
        w.believes(speaker, "a", |row| row.health = Health::Failed);
    }
    assert!(!w.plan(&d).waiting.contains(&lost));
}

#[test]
fn a_copy_of_another_shard_takes_no_place_by_a_persons_word() {
    let mut w = lost(1);
    w.formed = false;
    w.nodes.retain(|n| n.name != "x");
    w.node("a1").link_up = false;
    let d = Desired::guest().with(Request::Promote {
        node: id("a1"),
        manner: Manner::Takeover,
    });
    let plan = w.plan(&d);
    assert_eq!(plan.steps.len(), 1);
    assert!(check(&plan, &d, &w.observe()).is_empty());
    w.node("a1").stream = Some(stream(&id("b").to_string()));
    assert!(w.steps(&d).is_empty());
    let kind = ViolationKind::NoCopy { replica: id("a1") };
    let found = check(&plan, &d, &w.observe());
    assert!(found.iter().any(|v| v.kind == kind), "{found:?}");
}

#[test]
fn people_are_told_what_to_do_and_never_to_empty_it() {
    for (replicas, remedy) in [(0, "add-node local HOST:PORT"), (1, "--takeover")] {
        let mut w = lost(replicas);
        w.nodes.retain(|n| n.name != "x");
        let found = diagnose(&w.observe());
        let fatal = found.iter().filter(|p| p.severity == Severity::Fatal);
        let told: Vec<String> = fatal
            .map(|p| w.name_all(&format!("{} | {}", p.kind, p.kind.mend("local"))))
            .collect();
        let lost = "primary a of slots 0-5460 is listed without an address";
        let line = told.iter().find(|line| line.contains(lost));
        assert!(line.is_some_and(|line| line.contains(remedy)), "{told:?}");
        assert!(
            !says(&told, "FLUSHALL") && !says(&told, "remove-node"),
            "{told:?}"
        );
    }
}

#[test]
fn a_replica_that_is_away_is_named_before_a_lost_id_is_taken_in() {
    let mut w = lost(1);
    w.nodes.retain(|n| n.name != "x");
    w.hush("a1");
    let found = diagnose(&w.observe());
    let told: Vec<String> = found
        .iter()
        .map(|p| w.name_all(&p.kind.mend("local")))
        .collect();
    assert!(
        says(
            &told,
            "start its replica a100000000000000000000000000000000 again; or, if that is gone for good"
        ),
        "{told:?}"
    );
}

/// Others run it: a primary without a replica has failed, and a person gives up what it held.
#[test]
fn what_a_failed_primary_held_is_given_up_only_by_a_persons_word() {
    let failed = || {
        let mut w = World::formed(3, 0);
        w.formed = false;
        w.hush("a");
        for speaker in ["b", "c"] {
            w.believes(speaker, "a", |row| {
                row.health = Health::Failed;
                row.link_up = false;
            });
        }
        w
    };
    let given_up = consenting(Desired::guest());
    let mut w = failed();
    assert!(w.steps(&Desired::guest()).is_empty());
    assert_eq!(w.steps(&given_up), ["make b forget a", "make c forget a"]);
    w.hush("c");
    assert!(w.steps(&given_up).is_empty(), "c may have a link to it");
    let mut w = failed();
    w.add_replica("a1", "a");
    assert!(!says(&w.steps(&given_up), "forget"), "a copy of it lives");
    let mut w = failed();
    w.believes("b", "a", |row| row.link_up = true);
    assert!(w.steps(&given_up).is_empty(), "it lives");
    // Then its slots go to the others.
    let mut w = failed();
    w.nodes.retain(|n| n.name != "a");
    w.counted(&slots(0, 5460), &[]);
    let steps = w.steps(&given_up);
    assert!(says(&steps, "to b") && says(&steps, "to c"), "{steps:?}");
}

#[test]
fn a_lost_id_that_is_held_to_have_failed_is_named_where_nobody_could_be_elected() {
    // Valkey 9.1 holds it to have failed. With a replica the engine elects that; without one nothing ends by itself.
    for replicas in [0, 1] {
        let mut w = lost(replicas);
        w.formed = false;
        w.cut_off("a", 6);
        let told = diagnose(&w.observe());
        let lost = |kind: &ProblemKind| matches!(kind, ProblemKind::IdLost { .. });
        let named = told.iter().any(|problem| lost(&problem.kind));
        assert_eq!(named, replicas == 0, "{told:?}");
    }
}

#[test]
fn whose_data_counts_of_two_that_lost_their_tables_a_person_decides() {
    // Every server lost its table of nodes, and claims what it has keys of: a primary and its old replica the same.
    let mut w = World::formed(3, 1);
    let names = [
        ("a", "x", 0, 90),
        ("b", "y", 1, 90),
        ("c", "z", 2, 90),
        ("a1", "x1", 0, 100),
        ("b1", "y1", 1, 80),
        ("c1", "z1", 2, 90),
    ];
    for (name, new, shard, keys) in names {
        let born = w.lose_directory(name, new);
        (born.keys, born.slots) = (keys, slots(shard * 10, shard * 10 + 5));
        w.nodes.retain(|n| n.name != name);
    }
    let d = Desired::managed(3, 1);
    let met = |steps: &[String]| -> Vec<&str> {
        let words = |step: &str, name: &str| step.split(' ').any(|word| word == name);
        let met = |name: &&str| steps.iter().any(|step| words(step, name));
        ["x", "y", "z", "x1", "y1", "z1"]
            .into_iter()
            .filter(met)
            .collect()
    };
    assert_eq!(w.steps(&d), Vec::<String>::new());
    let waits = w.waits(&d);
    let same = "x does not belong here: it holds 90 key(s), of slots that x1 claims as well, which holds 100";
    assert!(says(&waits, same), "{waits:?}");
    // By a person's word those with most keys count; of as many, one of them.
    let steps = w.steps(&consenting(d));
    let met = met(&steps);
    assert!(
        met == ["y", "z", "x1"] || met == ["y", "x1", "z1"],
        "{steps:?}"
    );
    let recorded = to_record(&consenting(Desired::managed(3, 1)), &w.observe());
    let recorded: Vec<&str> = recorded.keys().map(|name| name.0.as_str()).collect();
    assert_eq!(recorded.len(), 3, "{recorded:?}");
}

#[test]
fn nobody_is_taken_in_whose_slots_another_owns_by_now_even_without_a_key() {
    // Nobody lists a's old id any more, and its slots were given to b, which has no key of them.
    let mut w = World::formed(3, 0);
    let x = w.lose_directory("a", "x");
    (x.keys, x.slots) = (100, slots(0, 99));
    w.nodes.retain(|n| n.name != "a");
    let d = Desired::managed(3, 0);
    assert!(says(&w.steps(&d), " x"), "{:?}", w.steps(&d));
    let b = w.node("b");
    (b.slots, b.keys) = (slots(0, 10_922), 0);
    for d in [d.clone(), consenting(d)] {
        assert!(!says(&w.steps(&d), " x"), "{:?}", w.steps(&d));
    }
}

#[test]
fn what_a_server_without_its_table_has_beside_those_who_serve_is_given_up_by_a_persons_word() {
    // a1 took the place of a, whose server came back with its data and without its table.
    let mut w = lost(1);
    let range = std::mem::take(&mut w.node("a").slots);
    let a1 = w.node("a1");
    (a1.primary, a1.epoch, a1.slots) = (None, 9, range);
    let d = Desired::managed(3, 1);
    assert!(!says(&w.steps(&d), " x"), "{:?}", w.steps(&d));
    let same = "x does not belong here: it holds 100 key(s), of slots that a1 claims as well, which holds 100";
    assert!(says(&w.waits(&d), same), "{:?}", w.waits(&d));
    let given_up = consenting(d.clone());
    let made = w.plan(&given_up);
    assert!(says(&w.steps(&given_up), "tell b that x is"), "{made:?}");
    assert_eq!(check(&made, &given_up, &w.observe()), []);
    let drops = ViolationKind::WouldLoseData { node: id("x") };
    let found = |d: &Desired, w: &World| check(&made, d, &w.observe());
    assert!(found(&d, &w).iter().any(|v| v.kind == drops));
    // Nobody yields who has more, nor while an owner is silent.
    w.node("x").keys = 101;
    assert!(!says(&w.steps(&given_up), " x"));
    assert!(found(&given_up, &w).iter().any(|v| v.kind == drops));
    w.node("x").keys = 100;
    w.hush("b");
    assert!(!says(&w.steps(&given_up), " x"));
    // Once it is known to the others, and they serve, the old id is forgotten.
    w.node("b").silent = None;
    let x = w.node("x");
    (x.island, x.keys) = (Some(0), 0);
    x.slots = slots(0, 0).difference(&slots(0, 0));
    assert!(says(&w.steps(&d), "forget a"), "{:?}", w.steps(&d));
}
