//! What is told of a cluster whose pods, or fields, lack what is declared.

#[path = "../../planner/tests/rules/world.rs"]
#[expect(dead_code, reason = "the planner's tests use the rest of it")]
mod world;

use jiff::Timestamp;
use shardwright_manifest::{
    Condition, ConditionStatus, RedisClusterStatus, ShapeStatus, StateWord,
};
use shardwright_operator::status::{
    About, DEGRADED, PodNote, PodTrouble, UP_TO_DATE, of_pass, of_paused,
};
use shardwright_runtime_kubernetes::NotApplied;
use world::World;

fn at(before: Option<&RedisClusterStatus>) -> About<'_> {
    About {
        namespace: "cache",
        target: "k8s:cache/redis",
        generation: 4,
        before,
        now: Timestamp::UNIX_EPOCH,
        idle: true,
        trouble: None,
        image: None,
        pods: &[],
        answer: None,
        shape: ShapeStatus::default(),
        moves: None,
        shaped_by: None,
        passwords_not_applied: &[],
        not_applied: None,
    }
}

fn condition<'a>(status: &'a RedisClusterStatus, kind: &str) -> &'a Condition {
    let mut all = status.conditions.iter();
    all.find(|c| c.kind == kind).expect("it is there")
}

#[test]
fn what_is_declared_and_not_so_is_a_condition_and_is_not_called_as_declared() {
    let (w, plan) = (
        World::formed(3, 1),
        World::formed(3, 1).plan(&world::three()),
    );
    let told = |lacks: Option<&[NotApplied]>, before: Option<&RedisClusterStatus>| {
        let about = About {
            not_applied: lacks,
            ..at(before)
        };
        of_pass(about, &plan, &w.observe())
    };
    let has_all = told(Some(&[]), None);
    let c = condition(&has_all, UP_TO_DATE);
    assert_eq!(
        (c.status, &*c.reason),
        (ConditionStatus::True, "AsDeclared")
    );
    let image = NotApplied {
        field: "image",
        pods: vec!["redis-0".to_owned(), "redis-1".to_owned()],
        why: "redis-0, redis-1 were made with another image".to_owned(),
    };
    let lacks = told(Some(&[image]), Some(&has_all));
    let c = condition(&lacks, UP_TO_DATE);
    assert_eq!(
        (c.status, &*c.reason),
        (ConditionStatus::False, "NotApplied")
    );
    assert_eq!(
        c.message,
        "declared and not so: image: redis-0, redis-1 were made with another image; a pod takes it over when it is made anew, one at a time: kubectl delete pod -n cache redis-1"
    );
    // All else is well, so that the whole has nothing worse to say.
    assert_eq!(lacks.message.as_ref(), Some(&c.message));
    assert_eq!(condition(&lacks, DEGRADED).reason, "EveryReplicaThere");
    assert_eq!(lacks.state, Some(StateWord::Healthy));
    // Where it is not looked at, the last word stands.
    let paused = of_paused(at(Some(&lacks)));
    assert_eq!(condition(&paused, UP_TO_DATE), c);
    assert_eq!(paused.conditions.len(), 4);
}

#[test]
fn a_pod_that_is_not_ready_is_told_though_every_node_is_well() {
    let pods = [PodNote {
        pod: "redis-3".to_owned(),
        trouble: PodTrouble::Unready,
        text: "its container exporter does not run: CrashLoopBackOff".to_owned(),
        remedy: None,
    }];
    let about = About {
        pods: &pods,
        ..at(None)
    };
    let w = World::formed(3, 1);
    let status = of_pass(about, &w.plan(&world::three()), &w.observe());
    assert_eq!(status.state, Some(StateWord::Degraded));
    assert_eq!(condition(&status, DEGRADED).reason, "PodNotReady");
    let text = &condition(&status, DEGRADED).message;
    assert!(
        text.starts_with("redis-3: its container exporter does not run"),
        "{text}"
    );
}
