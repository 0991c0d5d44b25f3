//! Nothing without data starts where a replica that nobody hears may copy it.

use std::collections::BTreeSet;

use shardwright_planner::evidence::{EmptyPlace, Follower, Follows, Who};
use shardwright_planner::{
    Action, Desired, Plan, Precondition, Reason, Step, ViolationKind, Waiting, check,
};
use shardwright_topology::{Address, Disk, Process, Row, Seen, ServerName, Why};

use crate::world::{World, claims, consenting, id, says, three};

fn server(name: &str) -> ServerName {
    ServerName(name.to_owned())
}

/// `a` is down and has lost its directory.
fn blank_primary() -> World {
    let mut w = World::formed(3, 1);
    w.kill("a", 0).disk = Seen::Known(Disk::Blank);
    w
}

/// Who may follow the address of `a`, by the proof; the plan then waits for it, and the linter refuses the start.
#[track_caller]
fn followed(w: &World, who: &str, how: Follows) {
    let who = Who::Server(server(who));
    let by = Follower { who, how };
    let o = w.observe();
    let place = &o.servers()[&server("a")];
    assert_eq!(EmptyPlace::prove(&o, place), Err(by.clone()));
    let made = w.plan(&three());
    let starts = |s: &Step| matches!(&s.action, Action::StartServer { server } if server.0 == "a");
    assert!(!made.steps.iter().any(starts), "{:?}", made.steps);
    assert_eq!(found(w, &start("a")), taken("a"));
    let waits = Waiting::PlaceFollowed {
        server: server("a"),
        by,
    };
    // A replica that was heard is promoted first.
    if !matches!(how, Follows::Copies { .. }) {
        assert!(made.waiting.contains(&waits), "{:?}", made.waiting);
    }
}

fn start(name: &str) -> Action {
    Action::StartServer {
        server: server(name),
    }
}

fn found(w: &World, action: &Action) -> BTreeSet<ViolationKind> {
    let plan = Plan {
        steps: vec![Step {
            action: action.clone(),
            because: Reason::ServerDown,
            requires: Vec::new(),
        }],
        ..Plan::default()
    };
    let found = check(&plan, &three(), &w.observe());
    found.into_iter().map(|v| v.kind).collect()
}

fn taken(name: &str) -> BTreeSet<ViolationKind> {
    BTreeSet::from([ViolationKind::TakesPlace {
        server: server(name),
    }])
}

#[test]
fn a_replica_that_is_not_heard_keeps_the_place_of_its_primary() {
    for why in [
        Why::TimedOut,
        Why::Loading,
        Why::Busy("a script".to_owned()),
        Why::Denied("NOPERM".to_owned()),
        Why::Strange("something else".to_owned()),
        Why::Unreachable("closed".to_owned()),
    ] {
        let mut w = blank_primary();
        let answers_soon = matches!(why, Why::Loading | Why::Busy(_));
        w.hush("a1").silent = Some(why);
        followed(&w, "a1", Follows::Unheard);
        assert!(says(
            &w.waits(&three()),
            "a1 was its replica, is not heard, and may live"
        ));
        // A person may say that its data is given up, but not while it is known to live and to be about to answer.
        let steps = w.steps(&consenting(three()));
        assert_eq!(says(&steps, "start a"), !answers_soon, "{steps:?}");
    }
}

#[test]
fn a_replica_that_lives_nobody_knows_where_keeps_the_place_too() {
    let mut w = blank_primary();
    w.lose_directory("a1", "y");
    w.believes("b", "a1", |row| row.link_up = true);
    let steps = w.steps(&three());
    assert!(!steps.contains(&"start a".to_owned()), "{steps:?}");
    assert_eq!(found(&w, &start("a")), taken("a"));
}

#[test]
fn a_replica_that_is_down_with_its_data_comes_back_first() {
    let mut w = blank_primary();
    w.kill("a1", 0);
    followed(&w, "a1", Follows::Down);
    let steps = w.steps(&three());
    assert!(says(&steps, "start a1"), "{steps:?}");
    // One that has lost its directory as well has nothing to lose.
    w.node("a1").disk = Seen::Known(Disk::Blank);
    let steps = w.steps(&three());
    assert!(steps.contains(&"start a".to_owned()), "{steps:?}");
    assert_eq!(found(&w, &start("a")), BTreeSet::new());
}

#[test]
fn a_node_that_was_born_without_data_keeps_no_place_either() {
    // a lost its directory, was started empty by somebody else, was heard, and ended again: its disk has a table now.
    for disk in [Disk::Log, Disk::CleanSnapshot] {
        let mut w = World::formed(3, 1);
        w.hush("a1");
        w.kill("a", 0).disk = Seen::Known(disk);
        let mut born = w.get("a").last_heard.clone().expect("it was heard");
        (born.id, born.server.keys) = (id("new"), 0);
        w.node("a").last_heard = Some(born.clone());
        followed(&w, "a1", Follows::Unheard);
        let steps = w.steps(&consenting(three()));
        assert!(says(&steps, "start a"), "{steps:?}");
        // One that has keys lost its table only.
        born.server.keys = 1;
        w.node("a").last_heard = Some(born);
        let steps = w.steps(&three());
        assert!(says(&steps, "start a"), "{steps:?}");
    }
}

#[test]
fn one_that_only_answered_at_an_address_left_the_file_there() {
    // While a was down something without keys answered at its address, and ended.
    let mut w = World::formed(3, 1);
    w.kill("a", 0).disk = Seen::Known(Disk::Log);
    let own = World::row(w.get("a"));
    let mut other = w.get("a").last_heard.clone().expect("it was heard");
    (other.id, other.server.keys) = (id("new"), 0);
    let a = w.node("a");
    (a.last_heard, a.disk_row) = (Some(other), Some(Box::new(own)));
    w.node("a1").link_up = false;
    w.node("a1").never_linked = true;
    let steps = w.steps(&three());
    assert!(says(&steps, "start a"), "{steps:?}");
}

/// The own row of the table on a disk: of a node that was born there, and met nobody.
fn born(name: &str) -> Box<Row> {
    let mut other = World::empty();
    let newborn = other.add(name);
    Box::new(World::row(newborn))
}

#[test]
fn the_table_on_a_disk_tells_whose_data_it_is() {
    // Nobody remembers that a lost its directory and was started empty by somebody else; its disk says so.
    for disk in [Disk::Log, Disk::CleanSnapshot] {
        let mut w = World::formed(3, 1);
        w.hush("a1");
        let a = w.kill("a", 0);
        a.disk = Seen::Known(disk);
        a.last_heard = None;
        let own = World::row(w.get("a"));
        w.node("a").disk_row = Some(Box::new(own));
        assert!(says(&w.steps(&three()), "start a"));
        w.node("a").disk_row = Some(born("new"));
        followed(&w, "a1", Follows::Unheard);
    }
    // What is down, and was never heard, says of itself whose replica it is.
    let mut w = blank_primary();
    w.kill("a1", 0).last_heard = None;
    w.node("a1").disk_row = Some(born("new"));
    let steps = w.steps(&three());
    assert!(steps.contains(&"start a".to_owned()), "{steps:?}");
    assert_eq!(found(&w, &start("a")), BTreeSet::new());
    let own = World::row(w.get("a1"));
    w.node("a1").disk_row = Some(Box::new(own));
    followed(&w, "a1", Follows::Down);
}

#[test]
fn the_last_copy_takes_the_place_of_a_primary_whose_disk_has_anothers_table() {
    let mut w = World::formed(3, 1);
    // Held back from elections as its primary was waited for, it proves no copy; but it has keys, and nobody else has.
    w.held_back.borrow_mut().insert(id("a1"));
    w.node("a1").link_up = false;
    w.kill("a", 0).last_heard = None;
    let promotes = |w: &World, d: &Desired| {
        let plan = w.plan(d);
        let ours = |a: &Action| matches!(a, Action::Failover { .. } | Action::Takeover { .. });
        assert_eq!(check(&plan, d, &w.observe()), []);
        plan.steps.iter().any(|s| ours(&s.action))
    };
    let own = World::row(w.get("a"));
    w.node("a").disk_row = Some(Box::new(own));
    assert!(!promotes(&w, &three()));
    // Whoever claims slots of a alone has loaded what a had written: its table was lost, and it was started by hand.
    let mut reborn = born("new");
    reborn.slots = w.get("a").slots.clone();
    w.node("a").disk_row = Some(reborn);
    assert!(!promotes(&w, &three()));
    let loses = consenting(three());
    assert!(promotes(&w, &loses));
    let by_word = w.plan(&loses);
    assert_ne!(check(&by_word, &three(), &w.observe()), []);
    // With slots of another shard, or without any, it has not.
    w.node("a").disk_row = Some(born("new"));
    assert!(promotes(&w, &three()));
    assert_eq!(check(&by_word, &three(), &w.observe()), []);
}

#[test]
fn a_replica_that_copies_from_anothers_address_keeps_what_no_file_has() {
    // c had no file, and its replica copies from where b1 was: it would take b's data for c's.
    let mut w = World::formed(3, 1);
    w.kill("c", 0).disk = Seen::Known(claims(3));
    let at = w.kill("b1", 0).address.clone();
    let copy = w.node("c1");
    (copy.target, copy.keys) = (Some(at), 5);
    let steps = w.steps(&three());
    assert!(!says(&steps, "start b1"), "{steps:?}");
    assert!(says(
        &w.waits(&three()),
        "c1 copies from there and holds 5 key(s)"
    ));
    assert_eq!(found(&w, &start("b1")), taken("b1"));
    // Where c has a file, everybody comes back.
    w.node("c").disk = Seen::Known(Disk::Log);
    let steps = w.steps(&three());
    assert!(
        says(&steps, "start b1") && says(&steps, "start c"),
        "{steps:?}"
    );
    assert_eq!(found(&w, &start("b1")), BTreeSet::new());
}

#[test]
fn nobody_may_have_begun_to_follow_a_node_whose_server_comes_without_data() {
    // Nobody follows b1; the engine may change that before the start: b's replica is another's then, or a primary.
    let mut w = World::formed(3, 1);
    w.kill("b1", 0).disk = Seen::Known(Disk::Blank);
    for name in ["b", "c", "c1"] {
        w.node(name).keys = 0;
    }
    let plan = w.plan(&three());
    let starts = |s: &&Step| s.action == start("b1");
    let step = plan.steps.iter().find(starts).expect("b1 starts");
    let replica = Precondition::IsReplicaOf {
        node: id("a1"),
        primary: id("a"),
    };
    let primary = Precondition::IsPrimary { node: id("a") };
    assert_eq!(step.requires, [primary, replica]);
    // With data it comes back in any case, and a server that never had a node is followed by nobody.
    w.node("b1").disk = Seen::Known(Disk::Log);
    let plan = w.plan(&three());
    let step = plan.steps.iter().find(starts).expect("b1 starts");
    assert_eq!(step.requires, []);
}

#[test]
fn while_nobody_tells_whose_replica_a_server_is_it_may_be_this_ones() {
    let mut w = World::formed(3, 1);
    let names: Vec<String> = w.nodes.iter().map(|n| n.name.clone()).collect();
    for name in &names {
        w.kill(name, 0).last_heard = None;
    }
    w.node("a").disk = Seen::Known(Disk::Blank);
    followed(&w, "a1", Follows::Unknown);
    let steps = w.steps(&three());
    assert!(!steps.contains(&"start a".to_owned()), "{steps:?}");
    assert_eq!(steps.len(), 5, "all that have data start: {steps:?}");
}

#[test]
fn a_replica_that_copies_from_the_address_is_emptied_by_what_starts_there() {
    let w = blank_primary();
    followed(&w, "a1", Follows::Copies { keys: 100 });
    // By the address alone, too: its table says that it follows another already.
    let mut w = World::formed(3, 1);
    w.kill("a1", 0).disk = Seen::Known(Disk::Blank);
    w.add_replica("c2", "c");
    let mut servers = w.servers();
    let at = w.get("a1").address.clone();
    for server in &mut servers {
        if let (true, Seen::Known(view)) = (server.name.0 == "c2", &mut server.view) {
            view.server.replication = shardwright_topology::Replication::Replica {
                primary: Address::new(at.host.clone(), at.port),
                link_up: false,
                syncing: false,
                offset: 5_000,
            };
        }
    }
    let o = w.observe_in(servers);
    let place = &o.servers()[&server("a1")];
    let by = EmptyPlace::prove(&o, place).expect_err("c2 copies from there");
    assert_eq!(by.how, Follows::Copies { keys: 100 });
}

#[test]
fn a_directory_is_set_aside_only_where_nobody_follows() {
    let mut w = World::formed(3, 2);
    w.kill("a2", 0).disk = Seen::Known(Disk::TableRefused);
    let aside = Action::StartAfresh {
        server: server("a2"),
    };
    assert_eq!(found(&w, &aside), BTreeSet::new());
    // A replica of the replica is not heard.
    let node = w.add_replica("a3", "a2");
    (node.process, node.silent) = (Process::Unknown, Some(Why::TimedOut));
    assert_eq!(found(&w, &aside), taken("a2"));
    let waits = w.waits(&three());
    assert!(says(&waits, "a3 was its replica"), "{waits:?}");
    assert_eq!(w.get("a3").primary, Some(id("a2")));
}
