//! The status as a whole: what is said first, and that it is so.

use shardwright_manifest::{ConditionStatus, RedisClusterStatus, StateWord};
use shardwright_operator::status::{
    About, DEGRADED, PROGRESSING, READY, of_error, of_pass, of_paused,
};
use shardwright_planner::{Desired, Plan, Waiting};
use shardwright_topology as topology;

use super::world::World;
use super::{FIRST, LATER, at, condition, status, words};

#[test]
fn a_lost_majority_is_the_reason_with_the_command_that_a_person_can_use() {
    let healthy = status(&World::formed(3, 1), FIRST, None);
    let mut w = World::formed(3, 1);
    for name in ["a", "b"] {
        w.hush(name);
        w.cut_off(name, 0);
    }
    let down = status(&w, LATER, Some(&healthy));
    assert_eq!(
        words(&down),
        "Down: !MajorityLost MajorityLost MajorityLost"
    );
    let command = "shardwright failover k8s:cache/redis a1 --takeover --i-know-the-primary-is-dead";
    for kind in [READY, PROGRESSING, DEGRADED] {
        let text = &condition(&down, kind).message;
        assert!(
            text.contains("no majority: 1 of 3 primaries is reachable"),
            "{text}"
        );
        assert!(text.contains(command), "{text}");
    }
}

#[test]
fn that_nothing_more_happens_is_said_only_where_it_is_so() {
    let w = World::formed(3, 1);
    let name = |name: &str| topology::ServerName(name.to_owned());
    let held = || Waiting::StartHeld { server: name("c") };
    let silent = |server: &str| Waiting::ServerUnheard {
        server: name(server),
        why: topology::Why::Refused,
    };
    let told = |waiting: Vec<Waiting>, idle: bool| {
        let plan = Plan {
            steps: Vec::new(),
            waiting,
        };
        let about = About {
            idle,
            ..at(FIRST, None)
        };
        let c = condition(&of_pass(about, &plan, &w.observe()), PROGRESSING).clone();
        let end = c.message.contains("nothing more happens by itself");
        assert_eq!(end, c.status == ConditionStatus::False, "{}", c.message);
        (end, c.reason, c.message)
    };
    let (end, reason, _) = told(vec![held()], true);
    assert_eq!((end, reason.as_str()), (true, "StartHeld"));
    // Its server does not answer as it is held.
    assert!(told(vec![silent("c"), held()], true).0);
    // What has just come may go by itself.
    assert!(!told(vec![held()], false).0);
    // A pod is being replaced beside it, or more pods are on their way.
    let (end, reason, text) = told(vec![silent("a1"), held()], true);
    assert_eq!((end, reason.as_str()), (false, "PodUnheard"));
    assert!(
        text.contains("manual decision required: c is held"),
        "{text}"
    );
    let missing = Waiting::ServersMissing { have: 6, want: 8 };
    assert!(!told(vec![missing.clone()], true).0);
    assert!(!told(vec![missing, held()], true).0);
}

#[test]
fn a_slot_with_a_primary_that_does_not_serve_is_not_said_to_be_served() {
    let healthy = status(&World::formed(3, 1), FIRST, None);
    let mut w = World::formed(3, 1);
    w.node("b").state_ok = false;
    let down = status(&w, LATER, Some(&healthy));
    assert_eq!(down.state, Some(StateWord::Down));
    let text = &condition(&down, READY).message;
    let said = "every slot has a reachable primary, but 1 of 3 does not serve (cluster_state:fail): b does not serve yet";
    assert_eq!(text, said);
    w.hush("c");
    let text = condition(&status(&w, LATER, None), READY).message.clone();
    let said = "10923 of 16384 slots have a reachable primary, but 1 of 2 does not serve";
    assert!(text.starts_with(said), "{text}");
}

#[test]
fn the_whole_is_told_by_the_condition_that_tells_the_worst() {
    let of = |status: &RedisClusterStatus, kind: &str| {
        assert_eq!(
            status.message.as_ref(),
            Some(&condition(status, kind).message)
        );
    };
    let healthy = status(&World::formed(3, 1), FIRST, None);
    of(&healthy, READY);
    let mut w = World::formed(3, 1);
    w.hush("b1");
    of(&status(&w, LATER, Some(&healthy)), DEGRADED);
    w.hush("b");
    of(&status(&w, LATER, Some(&healthy)), READY);
    // Every slot is served, and what the operator applies is refused.
    let w = World::formed(3, 1);
    let about = About {
        trouble: Some(("ApplyFailed", "may not patch services")),
        ..at(LATER, Some(&healthy))
    };
    let refused = of_pass(about, &w.plan(&Desired::managed(3, 1)), &w.observe());
    of(&refused, PROGRESSING);
    // A replica beside its primary is no harm yet, and yet it is said.
    let mut w = World::formed(3, 1);
    w.steady_ms = Some(0);
    for name in ["a1", "b1", "c1"] {
        w.node(name).place = w.get("b").place.clone();
    }
    of(&status(&w, LATER, None), DEGRADED);
    let failed = of_error(at(LATER, Some(&healthy)), "ApiRefused", "may not patch");
    assert_eq!(failed.message.as_deref(), Some("may not patch"));
    let paused = of_paused(at(LATER, Some(&healthy)));
    of(&paused, PROGRESSING);
}

#[test]
fn what_runs_is_told_of_the_whole_and_of_each_node() {
    let mut w = World::formed(3, 1);
    w.node("b1").version.minor = 2;
    w.hush("c");
    let plan = w.plan(&Desired::managed(3, 1));
    let about = About {
        image: Some("docker.io/library/redis:7.2-alpine"),
        ..at(FIRST, None)
    };
    let told = of_pass(about, &plan, &w.observe());
    assert_eq!(
        told.image.as_deref(),
        Some("docker.io/library/redis:7.2-alpine")
    );
    let old = w.get("a").version;
    let one = format!("{} {old}", w.get("a").engine);
    let other = format!("{} {}", w.get("b1").engine, w.get("b1").version);
    assert_eq!(told.version, Some(format!("{one}, {other}")));
    assert_eq!(told.shards[1].replicas[0].version, Some(other));
    let silent = told.shards[2].primary.as_ref();
    assert_eq!(silent.and_then(|node| node.version.clone()), None);
}

#[test]
fn no_more_nodes_are_ready_than_there_are_to_be() {
    // A smaller shape is declared, and the nodes that go are there yet.
    let w = World::formed(5, 1);
    assert_eq!(status(&w, FIRST, None).ready.as_deref(), Some("10/10"));
    let mut w = World::formed(3, 1);
    w.hush("b1");
    assert_eq!(status(&w, FIRST, None).ready.as_deref(), Some("5/6"));
}
