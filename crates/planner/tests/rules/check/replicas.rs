//! Whom a node copies, and what is lost by it.

use shardwright_planner::evidence::Blank;
use shardwright_planner::{Action, Request, ViolationKind};
use shardwright_topology::{ConfigEpoch, ServerName};

use super::{finds, found, healthy, hold_back, passes, replicate, unburdened};
use crate::world::{World, id, three};

#[test]
fn would_lose_data() {
    let mut before = healthy();
    before.add("new").island = Some(0);
    let step = vec![replicate(&before, "new", "b")];
    passes(step.clone(), &three(), &before);
    let node = id("new");
    let mut w = healthy();
    w.add("new").island = Some(0);
    w.node("new").keys = 1;
    finds(step, &three(), &w, ViolationKind::WouldLoseData { node });
    let epoch = vec![Action::SetConfigEpoch {
        blank: Blank::prove(&World::blank(1).observe(), &ServerName("a".to_owned()))
            .expect("it is blank in that world"),
        epoch: ConfigEpoch(1),
    }];
    passes(epoch.clone(), &three(), &World::blank(1));
    finds(
        epoch,
        &three(),
        &healthy(),
        ViolationKind::WouldLoseData { node: id("a") },
    );
    let leave = three().with(Request::Leave { node });
    let reset = vec![Action::Reset {
        node: unburdened(&before, "new"),
    }];
    passes(reset.clone(), &leave, &before);
    finds(reset, &leave, &w, ViolationKind::WouldLoseData { node });
}

#[test]
fn bad_primary_and_two_primaries() {
    let w = World::formed(3, 2);
    let bad = |primary: &str| ViolationKind::BadPrimary {
        primary: id(primary),
    };
    finds(vec![replicate(&w, "a1", "b1")], &three(), &w, bad("b1"));
    finds(vec![replicate(&w, "a1", "a1")], &three(), &w, bad("a1"));
    let mut silent = World::formed(3, 2);
    silent.hush("b");
    finds(vec![replicate(&w, "a1", "b")], &three(), &silent, bad("b"));
    let both = vec![replicate(&w, "a1", "b"), replicate(&w, "a1", "c")];
    finds(
        both,
        &three(),
        &w,
        ViolationKind::TwoPrimaries { node: id("a1") },
    );
}

#[test]
fn bares_a_shard() {
    let bares = || ViolationKind::BaresShard { primary: id("a") };
    let w = healthy();
    let step = |w: &World| vec![replicate(w, "a1", "b")];
    finds(step(&w), &three(), &w, bares());
    // Another copy stays, or what goes is no copy, or its primary does not live.
    passes(step(&w), &three(), &World::formed(3, 2));
    for change in [
        (|w| w.node("a1").syncing = true) as fn(&mut World),
        |w| w.node("a1").link_up = false,
        |w| w.hush("a").leaving = false,
    ] {
        let mut other = healthy();
        change(&mut other);
        passes(step(&w), &three(), &other);
    }
    // From its primary's host it may go where one can come back from: one at a time, and all being heard.
    let mut beside = healthy();
    beside.node("a1").place = beside.get("a").place.clone();
    passes(step(&w), &three(), &beside);
    let both = vec![replicate(&w, "a1", "b"), replicate(&w, "b1", "a")];
    hold_back(&both, &beside);
    let found_in_both = found(both, &three(), &beside.observe());
    assert_eq!(found_in_both.len(), 2, "{found_in_both:?}");
    for change in [
        (|w| w.hush("c").leaving = false) as fn(&mut World),
        |w| w.node("b1").syncing = true,
        |w| w.node("b").place = w.get("a").place.clone(),
    ] {
        let mut other = healthy();
        other.node("a1").place = other.get("a").place.clone();
        change(&mut other);
        finds(step(&w), &three(), &other, bares());
    }
}
