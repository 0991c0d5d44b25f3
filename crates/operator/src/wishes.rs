//! What a person asked for on the object: into the next pass, and out of its report into an answer.
//!
//! Level-triggered as all else: nothing but the annotation asks, and a request that is fulfilled asks for nothing. What
//! is kept between passes only tells a refusal from the middle of the work.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use shardwright_planner::{Consent, Desired, Plan, Reason, Request, Severity, Waiting, diagnose};
use shardwright_runtime::Report;
use shardwright_runtime_kubernetes::wish::{
    Asked, NO_SUCH_NODE, UNDER_WAY, UNREADABLE, Wish, WishError,
};
use shardwright_topology::{NodeId, Observed, Role, find_node};

use crate::reason::{named, reason, stable_text};
use crate::status::{Answer, AnswerState, beyond_us};

/// How long a promotion that was begun may take. The engine gives a switchover 5 s, and a vote takes a second or two.
const PROMOTION_LIMIT: Duration = Duration::from_secs(30);

/// A request while it stands on the object.
#[derive(Debug)]
pub struct Asking {
    asked: Asked,
    stance: Stance,
    /// When its first step was taken.
    begun: Option<Instant>,
}

/// What a request came to when it was read last.
#[derive(Debug)]
enum Stance {
    /// Not read yet.
    Unread,
    /// This node is to be a primary.
    Promote(NodeId),
    /// All is to be mended.
    Mend,
    /// It can't be honoured.
    Unfit(&'static str, String),
}

impl Asking {
    /// One that was not looked at yet.
    pub fn new(asked: Asked) -> Self {
        Self {
            asked,
            stance: Stance::Unread,
            begun: None,
        }
    }

    /// The request.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// What the next pass is to want.
    pub fn desired(&mut self, declared: Desired, o: &Observed, now: Timestamp) -> Desired {
        let (stance, desired) = match self.asked.read(now) {
            Err(error) => (unfit(&error), declared),
            Ok(Wish::Fix) => (Stance::Mend, declared),
            Ok(Wish::AcceptDataLoss) => {
                let consent = Consent {
                    lose_data: true,
                    ..Consent::default()
                };
                (
                    Stance::Mend,
                    Desired {
                        consent,
                        ..declared
                    },
                )
            }
            Ok(Wish::Failover {
                node,
                manner,
                primary_is_dead,
            }) => match find_node(o, &node) {
                Ok(node) => {
                    let request = Request::Promote { node, manner };
                    let consent = Consent {
                        primary_is_dead,
                        ..declared.consent
                    };
                    let desired = Desired {
                        consent,
                        ..declared.with(request)
                    };
                    (Stance::Promote(node), desired)
                }
                Err(error) => (Stance::Unfit(NO_SUCH_NODE, error.to_string()), declared),
            },
        };
        self.stance = stance;
        desired
    }

    /// How it stands after that pass. `stuck`: nothing has happened by itself for a while.
    pub fn answer(&mut self, report: &Report, stuck: bool) -> Answer {
        let asked = |o: &shardwright_runtime::Outcome| o.step.because == Reason::Asked;
        if report.outcomes.iter().any(|o| asked(o) && o.result.is_ok()) {
            self.begun.get_or_insert_with(Instant::now);
        }
        let (state, reason, text) = match &self.stance {
            Stance::Promote(node) => self.promotion(*node, report),
            Stance::Mend => mending(report, stuck),
            Stance::Unfit(reason, text) => (AnswerState::Refused, *reason, text.clone()),
            Stance::Unread => under_way("it is read".to_owned()),
        };
        let text = named(&text, &report.observed);
        Answer {
            state,
            reason,
            text: format!("{}: {text}", self.asked),
        }
    }

    fn promotion(&self, node: NodeId, report: &Report) -> Said {
        let member = report.observed.member(node);
        if member.is_some_and(|m| m.role == Role::Primary) {
            let text = format!("{} is the primary of its shard", node.short());
            return (AnswerState::Done, "Done", text);
        }
        let late = self.begun.is_some_and(|at| at.elapsed() >= PROMOTION_LIMIT);
        let mut waiting = report.plan.waiting.iter();
        let why = waiting.find(|w| matches!(w, Waiting::Request { .. }));
        match why {
            // In the middle of a switchover its ends do not look as they did before.
            Some(why) if self.begun.is_none() || late => {
                (AnswerState::Refused, reason(why), stable_text(why))
            }
            None if late => {
                let text = format!("{} did not become the primary in time", node.short());
                (AnswerState::Refused, "TookTooLong", text)
            }
            Some(_) | None => under_way(next(&report.plan)),
        }
    }
}

type Said = (AnswerState, &'static str, String);

fn unfit(error: &WishError) -> Stance {
    Stance::Unfit(UNREADABLE, error.to_string())
}

fn under_way(text: String) -> Said {
    (AnswerState::UnderWay, UNDER_WAY, text)
}

/// All that can be mended is, or what a person has to decide is all that is left.
fn mending(report: &Report, stuck: bool) -> Said {
    let plan = &report.plan;
    if plan.is_settled() {
        let problems = diagnose(&report.observed);
        let unsettled = problems.iter().find(|p| p.severity == Severity::Fatal);
        return match unsettled {
            Some(problem) => match beyond_us(&problem.kind) {
                Some(reason) => (AnswerState::Refused, reason, problem.kind.to_string()),
                // It passes by itself once links are up and views agree.
                None => under_way(problem.kind.to_string()),
            },
            None => (
                AnswerState::Done,
                "Done",
                "the cluster is healthy".to_owned(),
            ),
        };
    }
    let decisions = || plan.waiting.iter().filter(|w| w.needs_a_person());
    let unheard = plan
        .waiting
        .iter()
        .any(|w| matches!(w, Waiting::ServerUnheard { .. }));
    // Too few nodes are left while pods are on their way: that ends by itself.
    let worst = decisions().find(|w| !unheard || !is_about_numbers(w));
    match worst {
        Some(worst) if stuck => {
            let texts: Vec<String> = decisions().map(stable_text).collect();
            let text = format!("a person has to decide: {}", texts.join("; "));
            (AnswerState::Refused, reason(worst), text)
        }
        Some(_) | None => under_way(next(plan)),
    }
}

fn is_about_numbers(waiting: &Waiting) -> bool {
    matches!(
        waiting,
        Waiting::ServersMissing { .. }
            | Waiting::ReplicaMissing { .. }
            | Waiting::NodesMissing { .. }
            | Waiting::ShardsDiffer { .. }
    )
}

/// What happens next.
fn next(plan: &Plan) -> String {
    match (plan.steps.first(), plan.waiting.first()) {
        (Some(step), _) => step.to_string(),
        (None, Some(wait)) => format!("waiting: {}", stable_text(wait)),
        (None, None) => "it is looked at".to_owned(),
    }
}
