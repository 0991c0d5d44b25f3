//! What a person asks for on the object, and how it is answered.

#[path = "../../planner/tests/rules/world.rs"]
#[expect(dead_code, reason = "the planner's tests use the rest of it")]
mod world;

use jiff::Timestamp;
use shardwright_manifest::{ConditionStatus, RedisClusterStatus, ShapeStatus};
use shardwright_operator::events::of_answer;
use shardwright_operator::status::{About, Answer, AnswerState, of_pass};
use shardwright_operator::wishes::Asking;
use shardwright_planner::{Desired, Manner};
use shardwright_runtime::{Outcome, Report};
use shardwright_runtime_kubernetes::wish::{
    ACCEPT_DATA_LOSS, ANSWER, Asked, FAILOVER, NO_SUCH_NODE, UNREADABLE,
};
use world::World;

const NOW: &str = "2026-01-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

/// One pass for a request; its steps are said to be done where there are any.
fn pass(w: &World, asking: &mut Asking, stuck: bool) -> Answer {
    let observed = w.observe();
    let desired = asking.desired(Desired::managed(3, 1), &observed, now());
    let plan = w.plan(&desired);
    let done = |step: &shardwright_planner::Step| Outcome {
        step: step.clone(),
        result: Ok(()),
    };
    let outcomes = plan.steps.iter().map(done).collect();
    let report = Report {
        observed,
        plan,
        violations: Vec::new(),
        outcomes,
        moved: shardwright_runtime::Total::default(),
    };
    asking.answer(&report, stuck)
}

fn failover(node: &str) -> Asking {
    Asking::new(Asked::failover(node, Manner::Switchover))
}

#[test]
fn a_failover_is_under_way_until_the_replica_is_the_primary() {
    let mut w = World::formed(3, 1);
    let mut asking = failover("a1");
    let first = pass(&w, &mut asking, false);
    assert_eq!(first.state, AnswerState::UnderWay, "{first:?}");
    assert!(first.text.starts_with("failover a1: "), "{}", first.text);
    // In the middle of it the ends do not look as they did: that is no refusal.
    w.hush("a");
    let middle = pass(&w, &mut asking, false);
    assert_eq!(middle.state, AnswerState::UnderWay, "{middle:?}");
    let done = pass(&World::formed(3, 1), &mut failover("a"), false);
    assert_eq!(done.state, AnswerState::Done, "{done:?}");
    assert_eq!(done.text, "failover a: a is the primary of its shard");
}

#[test]
fn a_failover_that_would_lose_writes_is_refused_with_every_reason() {
    let mut w = World::formed(3, 1);
    w.node("a1").link_up = false;
    let refused = pass(&w, &mut failover("a1"), false);
    assert_eq!(refused.state, AnswerState::Refused, "{refused:?}");
    assert!(refused.text.contains("not in sync"), "{}", refused.text);
    let alive = Asked::failover("a1", Manner::Takeover);
    let refused = pass(&World::formed(3, 1), &mut Asking::new(alive), false);
    assert_eq!(refused.state, AnswerState::Refused);
    assert!(refused.text.contains("not proved dead"), "{}", refused.text);
}

#[test]
fn a_persons_word_that_the_primary_is_dead_takes_over_until_it_answers() {
    let mut w = World::formed(3, 1);
    for name in ["a", "b"] {
        w.hush(name);
        w.cut_off(name, 0);
    }
    let takeover = || Asked::failover("a1", Manner::Takeover);
    let refused = pass(&w, &mut Asking::new(takeover()), false);
    assert_eq!(refused.state, AnswerState::Refused, "{refused:?}");
    let stated = || Asking::new(takeover().stating_death(now()));
    let taken = pass(&w, &mut stated(), false);
    assert_eq!(taken.state, AnswerState::UnderWay, "{taken:?}");
    assert!(taken.text.contains("let a1 take over"), "{}", taken.text);
    let alive = pass(&World::formed(3, 1), &mut stated(), false);
    assert_eq!(alive.state, AnswerState::Refused, "{alive:?}");
    assert!(alive.text.contains("a is not dead"), "{}", alive.text);
}

#[test]
fn a_request_that_means_nothing_is_refused() {
    let w = World::formed(3, 1);
    let nobody = pass(&w, &mut failover("redis-9"), false);
    assert_eq!(
        (nobody.state, nobody.reason),
        (AnswerState::Refused, NO_SUCH_NODE)
    );
    for (key, text) in [(FAILOVER, "a1,now"), (ACCEPT_DATA_LOSS, "true")] {
        let text = text.to_owned();
        let answer = pass(&w, &mut Asking::new(Asked { key, text }), false);
        assert_eq!(
            (answer.state, answer.reason),
            (AnswerState::Refused, UNREADABLE)
        );
    }
}

#[test]
fn what_is_mended_is_told_and_what_a_person_decides_is_refused() {
    let fix = || Asking::new(Asked::fix(false, now()));
    let healthy = pass(&World::formed(3, 1), &mut fix(), false);
    assert_eq!(healthy.state, AnswerState::Done, "{healthy:?}");
    // Formed once, and every node is empty.
    let mut lost = World::blank(6);
    lost.formed = true;
    let at_first = pass(&lost, &mut fix(), false);
    assert_eq!(at_first.state, AnswerState::UnderWay, "{at_first:?}");
    let at_last = pass(&lost, &mut fix(), true);
    assert_eq!(
        (at_last.state, at_last.reason),
        (AnswerState::Refused, "DataLost")
    );
    let consent = Asked::fix(true, now());
    let with_consent = pass(&lost, &mut Asking::new(consent), false);
    assert_eq!(
        with_consent.state,
        AnswerState::UnderWay,
        "{with_consent:?}"
    );
    assert!(!with_consent.text.contains("waiting"), "{with_consent:?}");
}

#[test]
fn the_last_answer_stays_in_the_status_and_is_told_once_by_an_event() {
    let w = World::formed(3, 1);
    let plan = w.plan(&Desired::managed(3, 1));
    let status = |answer: Option<&Answer>, before: Option<&RedisClusterStatus>| {
        let about = About {
            namespace: "cache",
            target: "k8s:cache/redis",
            generation: 1,
            before,
            now: now(),
            idle: false,
            trouble: None,
            image: None,
            pods: &[],
            answer,
            shape: ShapeStatus::default(),
            moves: None,
            shaped_by: None,
            passwords_not_applied: &[],
            not_applied: None,
        };
        of_pass(about, &plan, &w.observe())
    };
    let answer = pass(&w, &mut failover("redis-9"), false);
    let told = status(Some(&answer), None);
    let condition =
        |s: &RedisClusterStatus| s.conditions.iter().find(|c| c.kind == ANSWER).cloned();
    let said = condition(&told).expect("it is told");
    assert_eq!(
        (said.status, said.message.as_str()),
        (ConditionStatus::False, answer.text.as_str())
    );
    assert_eq!(status(None, Some(&told)), told);
    assert_eq!(condition(&status(None, None)), None);
    assert!(of_answer(&answer).is_some_and(|note| note.warning));
    let under_way = pass(&w, &mut failover("a1"), false);
    assert_eq!(of_answer(&under_way), None);
}
