//! Two processes answer as one node, and one of them at no server that is known: nothing is done about the node, and
//! nothing that relies on it.

use shardwright_planner::evidence::{Dead, Gone};
use shardwright_planner::{
    Action, Desired, Limits, Manner, Memory, Plan, Reason, Request, Step, check, plan,
};
use shardwright_topology::{DuplicateId, Instance, NodeId, Observed, Seen, ServerName, Timestamp};

use crate::world::{NOW, World, consenting, id, says, slot, three};

fn instance(at: &str, run: &str, uptime_s: u64) -> Instance {
    Instance {
        at: ServerName(at.to_owned()),
        address: None,
        run_id: run.to_owned(),
        uptime_s: Some(uptime_s),
        role: None,
        keys: 42,
        offset: 7,
    }
}

/// What is seen, with a second process that answers as this node elsewhere.
fn doubled(w: &World, node: &str) -> Observed {
    let mut seen = w.observe();
    seen.note_duplicate(DuplicateId {
        node: id(node),
        first: instance(node, "run-one", 600),
        second: instance("10.0.0.9:7000", "run-two", 3),
    });
    seen
}

fn made(d: &Desired, seen: &Observed) -> Plan {
    let made = plan(d, seen, &Limits::default(), Timestamp(NOW));
    assert_eq!(check(&made, d, seen), [], "{made:#?}");
    made
}

fn words(w: &World, plan: &Plan) -> (Vec<String>, Vec<String>) {
    let steps = plan.steps.iter().map(|s| w.name_all(&s.to_string()));
    let waits = plan.waiting.iter().map(|s| w.name_all(&s.to_string()));
    (steps.collect(), waits.collect())
}

#[test]
fn the_address_of_a_doubled_node_is_not_corrected() {
    let mut w = World::formed(3, 1);
    w.believes("b", "a", |row| row.address.port = 9_999);
    assert!(says(&w.steps(&three()), "tell b that a is at"));
    let plan = made(&three(), &doubled(&w, "a"));
    let (steps, waits) = words(&w, &plan);
    assert!(steps.is_empty(), "{steps:?}");
    assert!(
        says(
            &waits,
            "two processes answer as node a (a: run run-one, up 600 s, 42 keys, offset 7; 10.0.0.9:7000: run run-two, up 3 s, 42 keys, offset 7)"
        ),
        "{waits:?}"
    );
    assert!(plan.is_stuck());
}

#[test]
fn nothing_relies_on_a_doubled_node() {
    // Its process ended here: the other one may live.
    let mut w = World::formed(3, 1);
    w.kill("a", 60_000);
    assert!(says(&w.steps(&three()), "fail over from dead a"));
    let (steps, _) = words(&w, &made(&three(), &doubled(&w, "a")));
    assert!(steps.is_empty(), "{steps:?}");

    // Nobody is promoted beside it, taken from it, or made to copy it.
    let w = World::formed(4, 2);
    let requests = [
        Request::Promote {
            node: id("a1"),
            manner: Manner::Switchover,
        },
        Request::Leave { node: id("a1") },
        Request::Leave { node: id("a") },
    ];
    for request in requests {
        let d = Desired::guest().with(request.clone());
        assert!(!w.steps(&d).is_empty(), "{request:?}");
        let plan = made(&d, &doubled(&w, "a"));
        let (steps, waits) = words(&w, &plan);
        assert!(steps.is_empty(), "{request:?}: {steps:?}");
        assert!(
            says(&waits, "stop the one whose data is not needed"),
            "{waits:?}"
        );
        assert!(plan.is_stuck());
    }
}

#[test]
fn nobody_is_promoted_past_a_doubled_replica_that_has_more() {
    let mut w = World::formed(3, 2);
    w.kill("a", 60_000);
    let read = w.get("a1").offset;
    for (offset, promotes) in [(read, true), (read + 1, false)] {
        w.node("a2").offset = offset;
        let seen = doubled(&w, "a2");
        let plan = made(&three(), &seen);
        let (steps, waits) = words(&w, &plan);
        assert_eq!(says(&steps, "a1"), promotes, "{steps:?}");
        assert!(says(&waits, "two processes answer as node a2"), "{waits:?}");
        let dead = Dead::prove(&seen, id("a")).expect("its process ended");
        let takeover = Plan {
            steps: vec![Step {
                action: Action::Takeover {
                    replica: id("a1"),
                    dead,
                },
                because: Reason::Asked,
                requires: Vec::new(),
            }],
            waiting: Vec::new(),
        };
        assert_eq!(check(&takeover, &three(), &seen).is_empty(), promotes);
    }
}

#[test]
fn no_slot_moves_or_is_given_out_while_a_node_is_doubled() {
    let mut w = World::formed(3, 0);
    w.formed = false;
    let goal = vec![(id("b"), crate::world::slots(0, 9))];
    let d = Desired::guest().with(Request::Assign { goal });
    assert!(says(&w.steps(&d), "move slots 0-9"));
    let (steps, waits) = words(&w, &made(&d, &doubled(&w, "c")));
    assert!(steps.is_empty(), "{steps:?}");
    assert!(
        says(
            &waits,
            "two processes answer as node c; stop the one whose data is not needed first"
        ),
        "{waits:?}"
    );
}

#[test]
fn a_server_that_runs_on_a_copy_of_anothers_disk_says_nothing_of_its_own() {
    // Somebody put a copy of a's disk in the place of c's: c's own may be kept elsewhere, and its replica is behind.
    let mut w = World::formed(3, 1);
    w.node("c1").syncing = true;
    w.cut_off("c", 5);
    let mut servers = w.servers();
    let of = |name: &str| {
        servers
            .iter()
            .position(|s| s.name.0 == name)
            .expect("there")
    };
    let (a, c) = (of("a"), of("c"));
    let mut copy = servers[a].view.known().expect("it speaks").clone();
    copy.server.run_id = "the-copy".to_owned();
    servers[c].view = Seen::Known(copy);
    let seen = w.observe_in(servers);
    assert!(seen.has_duplicate(id("a")), "{:?}", seen.duplicates());
    assert_eq!(Dead::prove(&seen, id("c")), None);
    for d in [three(), consenting(three())] {
        assert_eq!(Gone::prove(&d, &seen, id("c")), None);
        let (steps, _) = words(&w, &made(&d, &seen));
        assert!(
            !says(&steps, "take over") && !says(&steps, "forget c"),
            "{steps:?}"
        );
    }

    // With a process of its own there, c is gone for good.
    let mut w = World::formed(3, 1);
    w.lose_directory("c", "new");
    assert!(Gone::prove(&three(), &w.observe(), id("c")).is_some());
}

#[test]
fn keys_of_others_slots_stay_while_a_node_is_doubled() {
    let mut w = World::formed(3, 1);
    w.node("b").stray_keys = Seen::Known([(slot(7), 3)].into());
    assert!(says(&w.steps(&three()), "move up to 500 keys of slot 7"));
    let (steps, _) = words(&w, &made(&three(), &doubled(&w, "c1")));
    assert!(steps.is_empty(), "{steps:?}");
}

#[test]
fn a_run_that_returns_is_another_process() {
    let mut w = World::formed(3, 1);
    let mut memory = Memory::default();
    let look = |w: &World, memory: &mut Memory, after_ms: u64, run: &str, uptime_s: u64| {
        let mut servers = w.servers();
        let server = servers
            .iter_mut()
            .find(|s| s.name.0 == "a")
            .expect("it is there");
        if let Seen::Known(view) = &mut server.view {
            view.server.run_id = run.to_owned();
            view.server.uptime_s = Some(uptime_s);
        }
        let mut seen = w.observe_in(servers);
        seen.at = Timestamp(NOW + after_ms);
        memory.recall(&mut seen);
        seen.duplicates().to_vec()
    };
    w.node("a1").keys = 1;
    assert_eq!(look(&w, &mut memory, 0, "one", 600), []);
    // A process that was started again is another run, and no more than that.
    assert_eq!(look(&w, &mut memory, 20_000, "two", 19), []);
    assert_eq!(look(&w, &mut memory, 21_000, "two", 20), []);
    // The earlier one is there again: both lived all the time.
    let found = look(&w, &mut memory, 22_000, "one", 622);
    let [two] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (two.node, &*two.first.run_id, &*two.second.run_id),
        (id("a"), "two", "one")
    );
    assert!(
        two.to_string().contains("answer in turn at one address"),
        "{two}"
    );
    // It is remembered for a while, and then no more.
    assert_eq!(look(&w, &mut memory, 40_000, "one", 640).len(), 1);
    assert_eq!(look(&w, &mut memory, 60_000, "one", 660), []);
    // A process that is older than the last word of the one before ran beside it.
    assert_eq!(look(&w, &mut memory, 61_000, "three", 300).len(), 1);
}

#[test]
fn a_plan_about_a_doubled_node_is_refused() {
    let w = World::formed(3, 1);
    let seen = doubled(&w, "a");
    let switchover = |replica: NodeId, primary: NodeId| Step {
        action: Action::Switchover { replica, primary },
        because: Reason::Asked,
        requires: Vec::new(),
    };
    let plan = |replica: &str, primary: &str| Plan {
        steps: vec![switchover(id(replica), id(primary))],
        waiting: Vec::new(),
    };
    let d = three();
    assert_eq!(check(&plan("b1", "b"), &d, &seen), []);
    let found = check(&plan("a1", "a"), &d, &seen);
    assert!(
        found.iter().any(|v| w
            .name_all(&v.to_string())
            .contains("is about a, as which two processes answer")),
        "{found:?}"
    );
}
