//! Reports as `kubectl` shows them.

#[path = "../../planner/tests/rules/world.rs"]
#[expect(dead_code, reason = "the planner's tests use the rest of it")]
mod world;

#[path = "status/whole.rs"]
mod whole;

use jiff::Timestamp;
use shardwright_manifest::{
    Cluster, Condition, ConditionStatus, RedisClusterStatus, ShapeStatus, StateWord,
};
use shardwright_operator::status::{
    About, CREDENTIALS_REJECTED, Change, DEGRADED, PASSWORD_CHANGED, PASSWORDS_APPLIED,
    PROGRESSING, PodNote, PodTrouble, READY, change, of_error, of_invalid, of_pass, of_paused,
};
use shardwright_planner::Desired;
use shardwright_runtime::MoveProgress;
use shardwright_topology as topology;
use world::World;

const FIRST: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-01T00:00:09Z";

fn at<'a>(time: &str, before: Option<&'a RedisClusterStatus>) -> About<'a> {
    About {
        namespace: "cache",
        target: "k8s:cache/redis",
        generation: 4,
        before,
        now: time.parse::<Timestamp>().expect("a time"),
        idle: true,
        trouble: None,
        image: None,
        pods: &[],
        answer: None,
        shape: ShapeStatus {
            shards: 3,
            replicas_per_shard: 1,
        },
        moves: None,
        shaped_by: None,
        passwords_not_applied: &[],
        not_applied: None,
    }
}

fn status(w: &World, time: &str, before: Option<&RedisClusterStatus>) -> RedisClusterStatus {
    let plan = w.plan(&Desired::managed(3, 1));
    of_pass(at(time, before), &plan, &w.observe())
}

fn condition<'a>(status: &'a RedisClusterStatus, kind: &str) -> &'a Condition {
    let mut all = status.conditions.iter();
    all.find(|c| c.kind == kind).expect("all three are there")
}

/// Reason of Ready, Progressing, Degraded; `!` before those that do not hold.
fn words(status: &RedisClusterStatus) -> String {
    let word = |kind| {
        let c = condition(status, kind);
        let not = if c.status == ConditionStatus::True {
            ""
        } else {
            "!"
        };
        format!("{not}{}", c.reason)
    };
    format!(
        "{}: {} {} {}",
        status.state.expect("always given"),
        word(READY),
        word(PROGRESSING),
        word(DEGRADED)
    )
}

#[test]
fn a_healthy_cluster_is_ready_and_says_the_same_each_time() {
    let w = World::formed(3, 1);
    let first = status(&w, FIRST, None);
    assert_eq!(words(&first), "Healthy: AllSlotsServed !AtRest !AsDeclared");
    assert_eq!(
        (first.shard_count, first.slots_covered),
        (Some(3), Some(16_384))
    );
    assert_eq!(first.ready.as_deref(), Some("6/6"));
    assert_eq!(first.shards[0].slots, "0-5460");
    assert_eq!(
        first.shards[0]
            .primary
            .as_ref()
            .and_then(|p| p.pod.as_deref()),
        Some("a")
    );
    assert_eq!(first.shards[0].replicas[0].host.as_deref(), Some("host-a1"));
    // Nothing that changes by itself is in it: an idle cluster costs no write.
    let mut busy = World::formed(3, 1);
    for name in ["a", "a1"] {
        let node = busy.node(name);
        node.keys += 1_000;
        node.offset += 90_000;
        node.uptime_s = Some(9_999);
    }
    let later = status(&busy, LATER, Some(&first));
    assert_eq!(change(&later, &first), Change::Same);
    assert_eq!(first.last_observed.as_deref(), Some(FIRST));
    assert_eq!(later.last_observed.as_deref(), Some(LATER));
}

#[test]
fn while_it_forms_it_is_not_ready() {
    let blank = status(&World::blank(6), FIRST, None);
    assert_eq!(blank.state, Some(StateWord::Forming));
    assert_eq!(condition(&blank, READY).status, ConditionStatus::False);
    assert_eq!(condition(&blank, PROGRESSING).status, ConditionStatus::True);
    let too_few = status(&World::blank(4), FIRST, None);
    assert_eq!(
        words(&too_few),
        "Forming: !PodsMissing PodsMissing PodsMissing"
    );
}

#[test]
fn a_replica_that_is_away_degrades_and_does_not_unready() {
    let healthy = status(&World::formed(3, 1), FIRST, None);
    let mut w = World::formed(3, 1);
    w.hush("b1");
    let hurt = status(&w, LATER, Some(&healthy));
    assert_eq!(condition(&hurt, READY).status, ConditionStatus::True);
    assert_eq!(condition(&hurt, READY).last_transition_time, FIRST);
    assert_eq!(condition(&hurt, DEGRADED).status, ConditionStatus::True);
    assert_eq!(condition(&hurt, DEGRADED).last_transition_time, LATER);
    assert!(
        condition(&hurt, DEGRADED)
            .message
            .contains("b1 is not heard")
    );
    let trouble = hurt.shards[1].replicas[0].trouble.as_deref();
    assert_eq!(trouble, Some("no answer in time"));
    // Whatever was told before: it serves.
    let again = status(&w, LATER, None);
    assert_eq!(condition(&again, READY).status, ConditionStatus::True);
}

#[test]
fn one_that_was_never_complete_is_not_ready() {
    let mut w = World::formed(3, 1);
    w.hush("b1");
    let mut young = w.observe();
    let now = young.at;
    let formed = young.formed.as_mut().expect("it was formed");
    formed.at = now;
    let plan = w.plan(&Desired::managed(3, 1));
    let first = of_pass(at(FIRST, None), &plan, &young);
    assert_eq!(condition(&first, READY).status, ConditionStatus::False);
    let healthy = status(&World::formed(3, 1), FIRST, None);
    let later = of_pass(at(LATER, Some(&healthy)), &plan, &young);
    assert_eq!(condition(&later, READY).status, ConditionStatus::True);
}

#[test]
fn a_silent_primary_takes_its_slots_down() {
    let healthy = status(&World::formed(3, 1), FIRST, None);
    let mut w = World::formed(3, 1);
    w.hush("c");
    let down = status(&w, LATER, Some(&healthy));
    assert_eq!(down.state, Some(StateWord::Down));
    assert_eq!(down.slots_covered, Some(16_384 - 5_461));
    assert!(condition(&down, READY).message.contains("10923 of 16384"));
    assert_eq!(condition(&down, READY).last_transition_time, LATER);
}

#[test]
fn lost_data_is_never_an_empty_ready() {
    let mut w = World::blank(6);
    w.formed = true;
    let lost = status(&w, FIRST, None);
    assert_eq!(words(&lost), "DataLost: !DataLost !DataLost DataLost");
}

#[test]
fn an_invalid_manifest_lists_every_problem_and_keeps_what_was_known() {
    let healthy = status(&World::formed(3, 1), FIRST, None);
    let text = "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {name: a}\n\
                spec: {shards: 2, replicasPerShard: 99}\n";
    let problems = Cluster::from_text(text).expect_err("it is wrong twice");
    let status = of_invalid(at(LATER, Some(&healthy)), problems.all());
    let ready = condition(&status, READY);
    assert_eq!(
        (ready.status, ready.reason.as_str()),
        (ConditionStatus::False, "InvalidSpec")
    );
    assert!(ready.message.contains("spec.shards"), "{}", ready.message);
    assert!(
        ready.message.contains("spec.replicasPerShard"),
        "{}",
        ready.message
    );
    assert_eq!(status.state, Some(StateWord::Invalid));
    assert_eq!(status.shards, healthy.shards);
}

#[test]
fn a_paused_cluster_keeps_its_word() {
    let healthy = status(&World::formed(3, 1), FIRST, None);
    let paused = of_paused(at(LATER, Some(&healthy)));
    assert_eq!(words(&paused), "Paused: Paused !Paused !Paused");
    assert_eq!(condition(&paused, READY).last_transition_time, FIRST);
    assert_eq!(paused.last_observed.as_deref(), Some(FIRST), "nobody looks");
}

#[test]
fn trouble_of_the_operator_is_told_and_keeps_what_was_known() {
    let healthy = status(&World::formed(3, 1), FIRST, None);
    let failed = of_error(at(LATER, Some(&healthy)), "ApiRefused", "may not patch");
    assert_eq!(failed.state, Some(StateWord::Healthy));
    assert_eq!(condition(&failed, PROGRESSING).reason, "ApiRefused");
    assert_eq!(failed.shards, healthy.shards);
    let unknown = of_error(at(LATER, None), "ApiRefused", "may not patch");
    assert_eq!(unknown.state, Some(StateWord::Pending));
}

#[test]
fn a_pod_that_fits_nowhere_is_the_reason() {
    let plan = World::blank(4).plan(&Desired::managed(3, 1));
    let pods = [PodNote {
        pod: "redis-4".to_owned(),
        trouble: PodTrouble::Unplaced,
        text: "0/3 nodes are available: 3 Insufficient memory.".to_owned(),
        remedy: None,
    }];
    let about = About {
        pods: &pods,
        ..at(FIRST, None)
    };
    let status = of_pass(about, &plan, &World::blank(4).observe());
    for kind in [READY, DEGRADED] {
        let c = condition(&status, kind);
        assert_eq!(c.reason, "PlacementImpossible");
        // It is said once.
        let told = c.message.starts_with("redis-4: 0/3 nodes");
        assert_eq!(told, kind == READY, "{}", c.message);
        assert!(!c.message.is_empty());
    }
    let trouble = Some(("ApplyFailed", "may not patch services"));
    let about = About { trouble, ..about };
    let status = of_pass(about, &plan, &World::blank(4).observe());
    assert_eq!(condition(&status, PROGRESSING).reason, "ApplyFailed");
}

#[test]
fn a_replica_beside_its_primary_is_told_of() {
    let mut w = World::formed(3, 1);
    let place = w.get("b").place.clone();
    w.node("b1").place = place.clone();
    w.steady_ms = Some(0);
    let moves = status(&w, FIRST, None);
    assert_eq!(
        words(&moves),
        "Progressing: AllSlotsServed ReplicaMoves !SameHost"
    );
    let text = &condition(&moves, PROGRESSING).message;
    assert!(
        text.contains("b1 shares host host-b with its primary"),
        "{text}"
    );
    // More copies on one host than shards: no other place is better.
    for name in ["a1", "c1"] {
        w.node(name).place = place.clone();
    }
    let status = status(&w, FIRST, None);
    assert_eq!(words(&status), "Healthy: AllSlotsServed !AtRest !SameHost");
    let text = &condition(&status, DEGRADED).message;
    assert!(
        text.contains("b1 is on the host of its primary b"),
        "{text}"
    );
}

#[test]
fn a_host_with_a_majority_of_the_primaries_is_told_of() {
    let mut w = World::formed(3, 1);
    let at = |w: &mut World, places: [(&str, &str); 6]| {
        for (name, host) in places {
            w.node(name).place.host = Some(host.to_owned());
        }
    };
    let three = [
        ("a", "h1"),
        ("a1", "h2"),
        ("b", "h1"),
        ("b1", "h3"),
        ("c", "h2"),
        ("c1", "h3"),
    ];
    at(&mut w, three);
    w.steady_ms = Some(0);
    let moves = status(&w, FIRST, None);
    assert_eq!(
        words(&moves),
        "Progressing: AllSlotsServed PrimaryMoves !MajorityOnOneHost"
    );
    let text = &condition(&moves, PROGRESSING).message;
    assert!(text.contains("host h1 holds 2 of 3 primaries"), "{text}");
    // On two hosts it can't be helped.
    let two = three.map(|(name, host)| (name, if host == "h3" { "h2" } else { host }));
    at(&mut w, two);
    w.node("c1").place.host = Some("h1".to_owned());
    let status = status(&w, FIRST, None);
    assert_eq!(
        words(&status),
        "Healthy: AllSlotsServed !AtRest !MajorityOnOneHost"
    );
    let text = &condition(&status, DEGRADED).message;
    assert!(
        text.contains("every shard has its replicas, but host h1 holds 2 of 3 primaries"),
        "{text}"
    );
    // In one zone of two.
    for node in &mut w.nodes {
        node.place.host = Some(format!("host-{}", node.name));
        let east = ["a", "b", "c1"].contains(&node.name.as_str());
        node.place.zone = Some(if east { "east" } else { "west" }.to_owned());
    }
    assert_eq!(
        words(&self::status(&w, FIRST, None)),
        "Healthy: AllSlotsServed !AtRest !MajorityInOneZone"
    );
}

#[test]
fn a_pod_that_waits_for_its_kubernetes_node_is_told_of_without_the_time_that_is_left() {
    let mut w = World::formed(3, 1);
    let away_since = Some(topology::Timestamp(world::NOW - 1));
    let host = "node-2".to_owned();
    w.hush("b1").place.tied = Some(topology::Tied { host, away_since });
    let told = |recreate_after_ms| {
        let wanted = Desired {
            recreate_after_ms,
            ..world::three()
        };
        let status = of_pass(at(FIRST, None), &w.plan(&wanted), &w.observe());
        let degraded = condition(&status, DEGRADED);
        assert_eq!(degraded.status, ConditionStatus::True);
        degraded.message.clone()
    };
    let waits = told(None);
    assert!(
        waits.contains("b1 waits for node-2") && waits.contains("onUnreachable is Wait"),
        "{waits}"
    );
    let soon = told(Some(3_600_000));
    assert!(soon.contains("which is away and has its volume: it may return"));
    assert!(!soon.contains(" s more"), "each second would be a write");
}

#[test]
fn servers_that_do_not_let_the_operator_in_are_not_known_to_be_down() {
    let healthy = status(&World::formed(3, 1), FIRST, None);
    let mut w = World::formed(3, 1);
    for name in ["a", "a1", "b", "b1", "c", "c1"] {
        w.hush(name).silent = Some(topology::Why::Denied("WRONGPASS".to_owned()));
    }
    let locked_out = status(&w, LATER, Some(&healthy));
    assert_eq!(locked_out.state, Some(StateWord::Unknown));
    for kind in [READY, DEGRADED] {
        let c = condition(&locked_out, kind);
        assert_eq!(
            (c.status, c.reason.as_str()),
            (ConditionStatus::Unknown, CREDENTIALS_REJECTED)
        );
        assert!(
            c.message.contains("WRONGPASS") && c.message.contains("the Secret"),
            "{}",
            c.message
        );
    }
    assert_eq!(
        condition(&locked_out, PROGRESSING).status,
        ConditionStatus::False
    );
    // One that does let it in tells how the others are.
    w.node("c1").silent = None;
    let state = status(&w, LATER, Some(&healthy)).state;
    assert_eq!(state, Some(StateWord::Down));
}

#[test]
fn a_password_that_servers_do_not_get_is_a_condition_while_that_lasts() {
    let w = World::formed(3, 1);
    let told = |texts: &[String], before: Option<&RedisClusterStatus>| {
        let about = About {
            passwords_not_applied: texts,
            ..at(FIRST, before)
        };
        of_pass(about, &w.plan(&Desired::managed(3, 1)), &w.observe())
    };
    let healthy = told(&[], None);
    let changed = told(&["the password of the user app".to_owned()], Some(&healthy));
    let c = condition(&changed, PASSWORDS_APPLIED);
    assert_eq!(
        (c.status, c.reason.as_str()),
        (ConditionStatus::False, PASSWORD_CHANGED)
    );
    assert_eq!(c.message, "the password of the user app");
    assert_eq!(change(&changed, &healthy), Change::News);
    // Clients are served, and nothing else is hidden by it.
    assert_eq!(changed.state, Some(StateWord::Healthy));
    assert_eq!(condition(&changed, READY).status, ConditionStatus::True);
    assert_eq!(told(&[], Some(&changed)).conditions, healthy.conditions);
}

#[test]
fn the_worst_three_are_named_and_of_the_rest_how_many_there_are() {
    let mut w = World::formed(3, 1);
    for name in ["a1", "b1", "c1", "c"] {
        w.hush(name);
    }
    let text = condition(&status(&w, FIRST, None), DEGRADED)
        .message
        .clone();
    assert_eq!(text.matches("; ").count(), 2, "{text}");
    assert!(text.contains(" more)"), "{text}");
}

#[test]
fn the_cause_comes_first_then_what_comes_of_it_then_what_to_do() {
    let mut w = World::formed(3, 1);
    for name in ["b1", "c1"] {
        w.hush(name);
    }
    let note = |pod: &str, trouble, text: &str, remedy: Option<&str>| PodNote {
        pod: pod.to_owned(),
        trouble,
        text: text.to_owned(),
        remedy: remedy.map(str::to_owned),
    };
    let image = "ImagePullBackOff: image redis:9.9 can't be pulled";
    let told = |pods: &[PodNote]| {
        let about = About {
            pods,
            ..at(FIRST, None)
        };
        let status = of_pass(about, &w.plan(&world::three()), &w.observe());
        condition(&status, DEGRADED).message.clone()
    };
    let pods = [
        note("a1", PodTrouble::Starting, "ContainerCreating", None),
        note("b1", PodTrouble::Image, image, Some("correct the image")),
        note("c1", PodTrouble::Image, image, Some("correct the image")),
    ];
    let text = told(&pods);
    // Each pod is named once: that its server does not answer, for that reason, is no news.
    assert_eq!(
        text,
        format!("b1, c1: {image}; a1: ContainerCreating; correct the image")
    );
    let text = told(&pods[..2]);
    assert!(
        text.starts_with(&format!(
            "b1: {image}; a1: ContainerCreating; c1 is not heard"
        )) && text.ends_with("; correct the image"),
        "{text}"
    );
    // Three problems are named, and how many more there are.
    let many: Vec<PodNote> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|name| note(name, PodTrouble::Failing, &format!("Error ({name})"), None))
        .collect();
    let text = told(&many);
    assert!(
        text.starts_with("a: Error (a); b: Error (b); c: Error (c) (+2 more); "),
        "{text}"
    );
}

#[test]
fn what_makes_the_cluster_weaker_is_named_before_what_is_only_outstanding() {
    let mut w = World::formed(3, 1);
    w.hush("b1");
    w.believes("a", "c1", |row| row.primary = None);
    let text = condition(&status(&w, FIRST, None), DEGRADED)
        .message
        .clone();
    assert!(text.starts_with("b1 "), "{text}");
}

#[test]
fn another_status_is_news_and_another_reason_or_node_is_a_detail() {
    let healthy = status(&World::formed(3, 1), FIRST, None);
    assert_eq!(change(&healthy, &healthy), Change::Same);
    let with = |edit: fn(&mut Condition)| {
        let mut other = healthy.clone();
        edit(&mut other.conditions[1]);
        change(&other, &healthy)
    };
    assert_eq!(with(|c| c.message.push_str(" and more")), Change::Wording);
    for of_a_node in [" of redis-3", " of 0a1b2c3d"] {
        let mut other = healthy.clone();
        other.conditions[1].message.push_str(of_a_node);
        assert_eq!(change(&other, &healthy), Change::Details);
    }
    // Slots are no nodes.
    assert_eq!(with(|c| c.message.push_str(" of 0-5460")), Change::Wording);
    assert_eq!(with(|c| c.reason = "Meet".to_owned()), Change::Details);
    assert_eq!(with(|c| c.status = ConditionStatus::True), Change::News);
    let mut fewer = healthy.clone();
    fewer.ready = Some("5/6".to_owned());
    assert_eq!(change(&fewer, &healthy), Change::Details);
    fewer.state = Some(StateWord::Degraded);
    assert_eq!(change(&fewer, &healthy), Change::News);
}

#[test]
fn it_can_be_read_back() {
    let healthy = status(&World::formed(3, 1), FIRST, None);
    let json = serde_json::to_value(&healthy).expect("it is plain data");
    assert_eq!(json["conditions"][0]["type"], "Ready");
    assert_eq!(json["slotsCovered"], 16_384);
    let read: RedisClusterStatus = serde_json::from_value(json).expect("as it was written");
    assert_eq!(read, healthy);
}

/// Three shards of two where four are declared: two more nodes have joined, and the new shard has its replica.
fn growing() -> World {
    let mut w = World::formed(3, 1);
    w.nodes
        .sort_by_key(|n| (n.primary.is_some(), n.name.clone()));
    for name in ["d", "e"] {
        w.add(name).island = Some(0);
    }
    w.node("e").primary = Some(world::id("d"));
    for (node, rank) in w.nodes.iter_mut().zip(0..) {
        node.place.leave_rank = rank;
    }
    w
}

#[test]
fn while_the_shape_changes_who_wrote_it_is_told() {
    let w = growing();
    let healthy = status(&World::formed(3, 1), FIRST, None);
    let told = |shards: u16, shaped_by: Option<&'static str>| {
        let about = About {
            shape: ShapeStatus {
                shards: u32::from(shards),
                replicas_per_shard: 1,
            },
            shaped_by,
            ..at(LATER, Some(&healthy))
        };
        let status = of_pass(about, &w.plan(&Desired::managed(shards, 1)), &w.observe());
        condition(&status, PROGRESSING).message.clone()
    };
    let words = "from 3 to 4 shards, as the field manager kubectl-client-side-apply wrote";
    let apply = Some("kubectl-client-side-apply");
    assert!(told(4, apply).ends_with(words), "{}", told(4, apply));
    assert!(!told(4, None).contains("field manager"));
    assert!(!told(3, apply).contains("field manager"));
}

#[test]
fn slots_that_move_are_told_with_how_far_they_are() {
    let w = growing();
    let far = MoveProgress {
        slots_moved: 1_234,
        slots_left: 2_862,
        keys_moved: 81_000,
        keys_per_s: Some(4_000),
        bytes_per_s: Some(52_000_000),
        eta_s: Some(12),
        paused: false,
    };
    let told = |far: &MoveProgress, paused: bool, before: Option<&RedisClusterStatus>| {
        let wanted = Desired {
            moves_paused: paused,
            ..Desired::managed(4, 1)
        };
        let about = About {
            moves: Some(far),
            shape: ShapeStatus {
                shards: 4,
                replicas_per_shard: 1,
            },
            ..at(FIRST, before)
        };
        of_pass(about, &w.plan(&wanted), &w.observe())
    };
    let healthy = status(&World::formed(3, 1), FIRST, None);
    let three = ShapeStatus {
        shards: 3,
        replicas_per_shard: 1,
    };
    assert_eq!((healthy.settled_shape, healthy.moves), (Some(three), None));
    let moving = told(&far, false, Some(&healthy));
    assert_eq!(
        words(&moving),
        "Progressing: AllSlotsServed SlotsMove !AsDeclared"
    );
    assert_eq!(
        condition(&moving, PROGRESSING).message,
        "1234 of 4096 slots moved, 81000 keys, 52.0 MB/s, about 12 s left"
    );
    assert_eq!(moving.settled_shape, Some(three), "what it can go back to");
    let moves = serde_json::to_value(moving.moves).expect("plain data");
    assert_eq!(
        moves,
        serde_json::json!({"slotsLeft": 2862, "slotsMoved": 1234, "keysMoved": 81000,
            "keysPerSecond": 4000, "bytesPerSecond": 52_000_000, "etaSeconds": 12})
    );
    let halted = MoveProgress {
        paused: true,
        eta_s: None,
        ..far
    };
    let paused = told(&halted, true, Some(&moving));
    assert_eq!(
        words(&paused),
        "Progressing: AllSlotsServed !MovesPaused !AsDeclared"
    );
    assert_eq!(
        condition(&paused, PROGRESSING).message,
        "paused: 2862 of 4096 slots are left to move; taking the annotation shardwright.dev/moves away lets it go on"
    );
    // Figures alone are no news.
    let further = MoveProgress {
        slots_moved: 2_000,
        ..far
    };
    let further = told(&further, false, Some(&moving));
    assert_eq!(change(&further, &moving), Change::Details);
}
