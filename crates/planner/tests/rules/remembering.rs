//! What a keeper remembers, and what it takes a refused connection for.

use shardwright_planner::{Action, Limits, Memory, NoDeath, Waiting, Witnesses, plan};
use shardwright_topology::{
    Address, NodeView, Observed, Process, Rows, Seen, ServerName, SlotSet, Starter, Timestamp, Why,
};

use crate::world::{NOW, World, claims, id, slots, three};

#[test]
fn a_refusal_where_nobody_knew_the_node_proves_no_death() {
    let mut memory = Memory::default();
    let server = ServerName("redis-0".to_owned());
    let refused = Seen::Unknown(Why::Refused);
    let mut process = |here| {
        let told = Process::Unknown;
        memory.process(&server, &told, Starter::Host, &refused, here, Timestamp(9))
    };
    assert!(process(true).death().is_some());
    assert_eq!(process(false), Process::Unknown, "its pod was made anew");
}

#[test]
fn a_node_lived_where_another_lists_it_or_where_its_gate_holds_it() {
    let mut w = World::formed(3, 1);
    w.cut_off("a", 0);
    let old = Seen::Known(w.get("a").address.clone());
    let new = Seen::Known(Address::loopback(9_999));
    let unasked = Seen::Unknown(Why::NotAsked);
    let held = Seen::Known(claims(1));
    let tables = [w.view(w.get("b"))];
    let desired = three();
    let why = |node, address, disk, tables: &[NodeView]| {
        Witnesses::new(&desired, tables.iter()).why_not_dead(node, address, disk)
    };
    let not_there = Some(NoDeath::NotThere);

    assert_eq!(why(Some(id("a")), &old, &unasked, &tables), None);
    assert_eq!(why(Some(id("a")), &new, &unasked, &tables), not_there);
    assert_eq!(why(Some(id("a")), &old, &unasked, &[]), not_there);
    assert_eq!(why(None, &old, &unasked, &tables), not_there);
    assert_eq!(why(Some(id("a")), &new, &held, &tables), None);
}

#[test]
fn how_an_attempt_ended_is_known_once_the_node_is_heard_long_after() {
    let mut w = World::formed(3, 1);
    let (mut memory, start) = (Memory::default(), w.observe().at);
    let action = Action::Switchover {
        replica: id("a1"),
        primary: id("a"),
    };
    memory.asked(&action, start);
    let mut after = |w: &World, ms: u64| {
        let mut o = w.observe();
        o.at = Timestamp(start.0 + ms);
        memory.recall(&mut o);
        o.attempts.iter().map(|a| a.ended).collect::<Vec<_>>()
    };
    assert_eq!(after(&w, 29_999), [false], "the engine may still be at it");
    w.hush("a1");
    assert_eq!(after(&w, 90_000), [false], "for as long as it is silent");
    w.node("a1").silent = None;
    assert_eq!(after(&w, 90_001), [false; 0]);
    memory.asked(&action, start);
    let mut o = w.observe();
    o.at = Timestamp(start.0 + 30_000);
    memory.recall(&mut o);
    assert!(o.attempts[0].ended);
}

#[test]
fn a_server_is_down_from_its_first_death_until_it_is_heard() {
    let mut w = World::formed(3, 1);
    let mut memory = Memory::default();
    let mut down = |w: &World| {
        let mut o = w.observe();
        memory.recall(&mut o);
        let since = o.down_since.values();
        since.map(|at| NOW - at.0).collect::<Vec<_>>()
    };
    w.kill("a", 500);
    assert_eq!(down(&w), [500]);
    // It was started, was not heard, and died again.
    w.node("a").process = Process::Running;
    assert_eq!(down(&w), [500]);
    w.kill("a", 0);
    assert_eq!(down(&w), [500]);
    let node = w.node("a");
    (node.process, node.silent) = (Process::Running, None);
    assert_eq!(down(&w), [0; 0]);
}

#[test]
fn who_was_told_to_take_slots_in_is_remembered() {
    let mut w = World::formed(3, 1);
    w.node("a").slots = slots(0, 8_000);
    w.node("b").slots = slots(8_001, 10_922);
    let mut memory = Memory::default();
    for step in w.plan(&three()).steps {
        memory.asked(&step.action, Timestamp(NOW - 10));
    }
    let mut o = w.observe();
    memory.recall(&mut o);
    let took: Vec<_> = o.took_in.into_iter().collect();
    assert_eq!(took, [(id("b"), Timestamp(NOW - 10))]);
}

/// What is seen where all others have forgotten this node, which knows them.
fn without(w: &World, name: &str) -> Observed {
    let mut servers = w.servers();
    for server in &mut servers {
        if let Seen::Known(view) = &mut server.view
            && view.id != id(name)
        {
            let others = view.rows.iter().filter(|row| row.id != id(name));
            view.rows = Rows::new(others.cloned().collect());
        }
    }
    w.observe_in(servers)
}

#[test]
fn who_was_forgotten_is_not_at_rest_before_all_could_have_dropped_it_again() {
    let w = World::formed(3, 1);
    let waits = |memory: &mut Memory, mut o: Observed, ms: u64| {
        o.at = Timestamp(NOW + ms);
        memory.recall(&mut o);
        let made = plan(&three(), &o, &Limits::default(), o.at);
        let node = id("a1");
        made.waiting.contains(&Waiting::Forgotten { node })
    };
    let mut memory = Memory::default();
    assert!(waits(&mut memory, without(&w, "a1"), 0));
    assert!(
        waits(&mut memory, w.observe(), 8_499),
        "half of 15 s and one"
    );
    assert!(!waits(&mut memory, w.observe(), 8_500));
    assert!(
        waits(&mut memory, without(&w, "a1"), 9_000),
        "dropped again"
    );
    assert!(!waits(&mut memory, w.observe(), 18_000));
    // One that others do not know later is one that joins: some hear of it before others.
    let mut memory = Memory::default();
    assert!(!waits(&mut memory, w.observe(), 0));
    assert!(!waits(&mut memory, without(&w, "a1"), 1_000));
}

#[test]
fn a_link_to_whoever_listens_at_a_silent_primarys_address_is_none_to_the_primary() {
    let linked = |w: &World| {
        let mut o = w.observe();
        Memory::default().recall(&mut o);
        o.linked.get(&id("a1")) == Some(&id("a"))
    };
    let mut w = World::formed(3, 1);
    assert!(linked(&w), "it was heard");
    w.hush("a");
    assert!(linked(&w), "its replica has a bus link to it as well");
    w.believes("a1", "a", |row| row.link_up = false);
    assert!(!linked(&w));
}

#[test]
fn what_a_node_said_last_is_known_although_another_speaks_at_its_server() {
    let w = World::formed(3, 1);
    let mut memory = Memory::default();
    let a = ServerName("a".to_owned());
    let (mut view, born) = (
        w.observe().view_of(id("a")).cloned().expect("it is heard"),
        id("new"),
    );
    assert_eq!(memory.last_heard(&a, &Seen::Known(view.clone())), None);
    view.id = born;
    assert_eq!(memory.last_heard(&a, &Seen::Known(view)), None);
    let former = |w: &World, memory: &mut Memory| {
        let mut o = w.observe();
        memory.recall(&mut o);
        o.former.into_keys().collect::<Vec<_>>()
    };
    let mut lost = World::formed(3, 1);
    lost.lose_directory("a", "new");
    assert_eq!(former(&lost, &mut memory), [id("a")]);
    assert_eq!(former(&w, &mut memory), [], "it speaks itself");
}

#[test]
fn since_when_a_node_owns_no_slots_any_more_is_remembered() {
    let mut w = World::formed(3, 1);
    let mut memory = Memory::default();
    let mut gave = |w: &World, ms: u64| {
        let mut o = w.observe();
        o.at = Timestamp(NOW + ms);
        memory.recall(&mut o);
        o.gave_all.get(&id("c")).map(|at| at.0 - NOW)
    };
    assert_eq!(gave(&w, 0), None);
    let of_c = std::mem::replace(&mut w.node("c").slots, SlotSet::empty());
    assert_eq!(gave(&w, 10), Some(10));
    assert_eq!(gave(&w, 20), Some(10));
    w.node("c").slots = of_c;
    assert_eq!(gave(&w, 30), None);
    let o = World::formed(3, 1).observe();
    assert!(o.gave_all.is_empty(), "a replica never had any");
}
