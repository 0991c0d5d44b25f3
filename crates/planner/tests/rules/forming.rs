//! Forming: every slot gets an owner, by the layout, and nothing that holds anything is touched.

use shardwright_planner::{Desired, Request, layout};
use shardwright_topology::{ServerName, Why};

use crate::world::{World, consenting, guest_shape, id, says, slots, three};

/// A request to form from these servers, in this order.
fn form(names: &[&str], shards: u16, replicas: u16) -> Desired {
    let order = names.iter().map(|n| ServerName((*n).to_owned())).collect();
    guest_shape(shards, replicas).with(Request::Form { order })
}

const SIX: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[test]
fn six_blank_servers_get_epochs_and_slots() {
    let w = World::blank(6);
    let expected = [
        "give a config epoch 1",
        "give slots 0-5460 to a",
        "give b config epoch 2",
        "give slots 5461-10922 to b",
        "give c config epoch 3",
        "give slots 10923-16383 to c",
        // Blank nodes that meet with one epoch would take new ones by themselves.
        "give d config epoch 4",
        "give e config epoch 5",
        "give f config epoch 6",
    ];
    assert_eq!(w.steps(&three()), expected);
    assert_eq!(w.steps(&form(&SIX, 3, 1)), expected);
}

#[test]
fn the_order_a_person_gave_is_kept() {
    let w = World::blank(6);
    let steps = w.steps(&form(&["f", "e", "d", "c", "b", "a"], 3, 1));
    assert_eq!(steps[0], "give f config epoch 1");
    assert_eq!(steps[1], "give slots 0-5460 to f");
}

#[test]
fn primaries_are_spread_over_hosts() {
    let mut w = World::blank(6);
    for (name, host) in SIX.into_iter().zip(["x", "x", "y", "y", "z", "z"]) {
        w.node(name).place.host = Some(host.to_owned());
    }
    let steps = w.steps(&three());
    for owner in ["to a", "to c", "to e"] {
        assert!(says(&steps, owner), "{steps:?}");
    }
}

#[test]
fn primaries_are_spread_over_zones_where_hosts_leave_a_choice() {
    let mut w = World::blank(6);
    let zones = ["east", "east", "west", "west", "south", "south"];
    for (name, zone) in SIX.into_iter().zip(zones) {
        w.node(name).place.zone = Some(zone.to_owned());
    }
    let steps = w.steps(&three());
    for owner in ["0-5460 to a", "5461-10922 to c", "10923-16383 to e"] {
        assert!(says(&steps, owner), "{steps:?}");
    }
    // One zone alone has a second host.
    for (name, host) in SIX.into_iter().zip(["x", "y", "z", "z", "z", "z"]) {
        w.node(name).place.host = Some(host.to_owned());
    }
    let steps = w.steps(&three());
    for owner in ["0-5460 to a", "5461-10922 to c", "10923-16383 to b"] {
        assert!(says(&steps, owner), "{steps:?}");
    }
}

#[test]
fn those_that_have_their_slots_count_where_primaries_are_spread() {
    let mut w = World::blank(6);
    for (name, host) in SIX.into_iter().zip(["x", "x", "y", "y", "z", "z"]) {
        w.node(name).place.host = Some(host.to_owned());
    }
    w.node("b").slots = slots(5461, 10922);
    w.node("b").epoch = 2;
    let steps = w.steps(&three());
    for owner in ["0-5460 to c", "10923-16383 to e"] {
        assert!(says(&steps, owner), "{steps:?}");
    }
}

#[test]
fn a_forming_that_was_broken_off_goes_on_where_it_stopped() {
    let mut w = World::blank(6);
    w.node("b").slots = slots(5461, 10922);
    w.node("b").epoch = 2;
    w.node("a").epoch = 1; // it has its epoch, and not yet its slots
    assert_eq!(
        w.steps(&three()),
        [
            "give slots 0-5460 to a",
            "give c config epoch 3",
            "give slots 10923-16383 to c",
            "give d config epoch 4",
            "give e config epoch 5",
            "give f config epoch 6",
        ]
    );
}

#[test]
fn slots_in_another_layout_are_no_forming_of_ours() {
    let mut w = World::blank(6);
    w.node("b").slots = slots(1, 7);
    w.node("b").epoch = 2;
    assert!(w.steps(&three()).is_empty());
    assert!(says(
        &w.waits(&three()),
        "b does not belong here: it already owns slots 1-7"
    ));
}

#[test]
fn when_every_slot_has_an_owner_it_is_recorded_then_they_meet() {
    let mut w = World::blank(6);
    for (name, (i, range)) in SIX.into_iter().zip(layout(3).into_iter().enumerate()) {
        w.node(name).slots = range.into();
        w.node(name).epoch = u64::try_from(i).expect("small") + 1;
    }
    assert_eq!(w.steps(&three()), ["record that the cluster is formed"]);
    w.formed = true;
    let steps = w.steps(&three());
    assert_eq!(steps.len(), 15, "each pair greets once: {steps:?}");
    assert!(steps.iter().all(|s| s.starts_with("tell ")));
    // Among guests there is nothing to record it in.
    w.formed = false;
    assert_eq!(w.steps(&form(&SIX, 3, 1)).len(), 15);
}

#[test]
fn too_few_servers_are_waited_for() {
    let w = World::blank(5);
    assert!(w.steps(&three()).is_empty());
    assert!(says(&w.waits(&three()), "5 of 6 servers are there"));
}

#[test]
fn nothing_is_given_out_while_one_is_not_heard() {
    let mut w = World::blank(6);
    w.hush("f");
    w.node("f").recorded = None;
    assert!(w.steps(&three()).is_empty());
    assert!(says(
        &w.waits(&three()),
        "f is not heard: no answer in time"
    ));
}

#[test]
fn servers_that_hold_keys_or_know_others_are_refused() {
    let mut w = World::blank(6);
    w.node("c").keys = 5;
    w.node("c").recorded = None;
    for d in [three(), form(&SIX, 3, 1)] {
        assert!(w.steps(&d).is_empty());
        assert!(says(
            &w.waits(&d),
            "c does not belong here: it already holds 5 key(s)"
        ));
    }
    let mut w = World::blank(6);
    w.add("stranger").housed = false;
    for name in ["c", "stranger"] {
        w.node(name).island = Some(7);
        w.node(name).recorded = None;
    }
    for d in [three(), form(&SIX, 3, 1)] {
        assert!(w.steps(&d).is_empty());
        assert!(says(
            &w.waits(&d),
            "c does not belong here: it already knows 1 other node(s)"
        ));
    }
}

#[test]
fn members_of_one_other_cluster_are_refused_together() {
    let mut w = World::blank(6);
    w.add("stranger").housed = false;
    for name in ["b", "c", "stranger"] {
        w.node(name).island = Some(7);
        w.node(name).recorded = None;
    }
    w.node("b").slots = slots(0, 5460);
    let d = form(&SIX, 3, 1);
    assert!(w.steps(&d).is_empty());
    assert!(says(
        &w.waits(&d),
        "b does not belong here: it already knows 1 other node(s)"
    ));
}

#[test]
fn two_servers_with_one_id_are_refused() {
    let mut w = World::blank(6);
    w.node("f").id = id("a");
    for d in [three(), form(&SIX, 3, 1)] {
        assert!(w.steps(&d).is_empty());
        assert!(says(
            &w.waits(&d),
            "two processes answer as node a (a (127.0.0.1:7000)"
        ));
    }
}

#[test]
fn nobody_forms_guests_unasked() {
    let w = World::blank(6);
    assert!(w.steps(&Desired::guest()).is_empty());
}

#[test]
fn formed_and_every_node_blank_is_data_lost() {
    let mut w = World::blank(6);
    w.formed = true;
    assert!(w.steps(&three()).is_empty());
    assert!(says(&w.waits(&three()), "its data is lost"));
    assert!(w.plan(&three()).is_stuck());
    // A person may agree; then it is formed anew.
    assert_eq!(w.steps(&consenting(three())).len(), 9);
}

#[test]
fn formed_and_blank_but_one_unheard_does_nothing_even_with_consent() {
    let mut w = World::blank(6);
    w.formed = true;
    w.hush("f");
    for d in [three(), consenting(three())] {
        assert!(w.steps(&d).is_empty());
        let waits = w.waits(&d);
        assert!(!says(&waits, "its data is lost"));
        assert!(says(&waits, "f is not heard: no answer in time"));
    }
}

#[test]
fn forming_anew_by_consent_goes_on_by_the_layout() {
    let mut w = World::blank(6);
    w.formed = true;
    w.node("a").slots = slots(0, 5460);
    w.node("a").epoch = 1;
    let steps = w.steps(&consenting(three()));
    assert!(says(&steps, "give slots 5461-10922 to b"), "{steps:?}");
    assert!(says(&steps, "give slots 10923-16383 to c"));
    // Without consent it is no forming: what nobody has a key of is given out, but no epochs.
    let steps = w.steps(&three());
    assert!(says(&steps, "give slots 5461-10922 to"), "{steps:?}");
    assert!(!says(&steps, "config epoch"), "{steps:?}");
    // Not once there are keys that were not counted.
    w.node("a").keys = 1;
    for d in [three(), consenting(three())] {
        let steps = w.steps(&d);
        assert!(!says(&steps, "config epoch"), "{steps:?}");
        assert!(!says(&steps, "give slots"), "{steps:?}");
    }
}

#[test]
fn a_node_with_unknown_answer_does_not_count_as_blank() {
    let mut w = World::blank(6);
    w.formed = true;
    w.node("a").silent = Some(Why::Loading);
    assert!(w.steps(&consenting(three())).is_empty());
}
