//! How plans, problems and ends are told, with names instead of bare ids.

use std::collections::BTreeSet;

use serde::Serialize;
use shardwright_planner::{
    Action, Budget, Consent, Plan, Problem, Severity, Waiting, left_out, not_given,
};
use shardwright_runtime::{End, Outcome, Report, StepError};
use shardwright_topology::{Member, NodeId, Observed, SlotSet};

use crate::exit::{ExitStatus, NotDone, WhyNotDone};
use crate::hint::hint;
use crate::moves::{Move, Sum};
use crate::printer::Printer;
use crate::progress::{Progress, promotions};
use crate::stop::Interrupted;
use crate::target::Called;

/// The text with every short node id followed by the server it lives on.
pub(crate) fn named(text: &str, o: &Observed) -> String {
    let mut out = text.to_owned();
    for member in o.members().values() {
        let short = member.id.short();
        if !out.contains(&short) {
            continue;
        }
        let place = place_of(member);
        out = out.replace(&short, &format!("{short} ({place})"));
    }
    out
}

/// A node's short id, and the server it lives on.
pub(crate) fn place(o: &Observed, node: NodeId) -> String {
    named(&node.short(), o)
}

/// The text with every short node id made whole and followed by the server it lives on, for programs.
pub(crate) fn identified(text: &str, o: &Observed) -> String {
    let mut out = text.to_owned();
    for member in o.members().values() {
        let (id, short) = (member.id.to_string(), member.id.short());
        if !out.contains(&short) || out.contains(&id) {
            continue;
        }
        let place = place_of(member);
        out = out.replace(&short, &format!("{id} ({place})"));
    }
    out
}

fn place_of(member: &Member) -> String {
    member
        .server
        .as_ref()
        .map_or_else(|| member.address.to_string(), ToString::to_string)
}

/// Prints a plan: steps and reasons, what they move, and what is waited for.
pub(crate) fn print_plan(
    plan: &Plan,
    o: &Observed,
    budget: &Budget,
    consent: Consent,
    out: &mut Printer,
) -> anyhow::Result<()> {
    let moves = Move::all(plan, o);
    let sum = Sum::of(&moves, budget);
    if out.is_json() {
        out.record.plan(plan, o, consent);
        out.record.put("moves", &moves)?;
        out.record
            .put("functions_not_given", &functions_not_given(plan, o))?;
        return out.record.put("moves_sum", &sum);
    }
    if plan.is_settled() {
        out.text("Nothing to do.")?;
    }
    let mut moves = moves.iter();
    for (i, step) in plan.steps.iter().enumerate() {
        out.text(&format!(
            "{:>3}. {}",
            i + 1,
            named(&step.action.to_string(), o)
        ))?;
        out.text(&format!("     because {}", step.because))?;
        let is_move = matches!(step.action, shardwright_planner::Action::MoveSlots { .. });
        if let Some(what) = is_move.then(|| moves.next()).flatten() {
            out.text(&format!("     {}", what.amount()))?;
        }
    }
    if let Some(sum) = sum {
        out.text(&sum.line())?;
    }
    if let Some(note) = functions_note(&functions_not_given(plan, o)) {
        out.text(&note)?;
    }
    for wait in &plan.waiting {
        out.text(&format!("  waiting: {}", named(&wait.to_string(), o)))?;
    }
    Ok(())
}

/// The libraries of functions that a shard which gets its first slots by this plan is not given, as the primaries differ
/// in them.
pub(crate) fn functions_not_given(plan: &Plan, o: &Observed) -> BTreeSet<String> {
    let first = |to: NodeId| o.member(to).is_some_and(|m| m.slots.is_empty());
    let begins = plan.steps.iter().any(|step| match &step.action {
        Action::MoveSlots { to, .. } => first(to.node()),
        _ => false,
    });
    if begins { left_out(o) } else { BTreeSet::new() }
}

/// What to say of them.
pub(crate) fn functions_note(libraries: &BTreeSet<String>) -> Option<String> {
    let text = || {
        format!(
            "[note] libraries of functions that the new shard is not given: {}",
            not_given(libraries)
        )
    };
    (!libraries.is_empty()).then(text)
}

#[derive(Serialize)]
struct ProblemJson {
    fatal: bool,
    problem: String,
    remedy: String,
    /// All slots that it is about.
    slots: Option<String>,
}

/// Prints problems, each with what mends it.
pub(crate) fn print_problems(
    problems: &[Problem],
    o: &Observed,
    called: &Called,
    out: &mut Printer,
) -> anyhow::Result<()> {
    if out.is_json() {
        let json: Vec<ProblemJson> = problems
            .iter()
            .map(|p| ProblemJson {
                fatal: p.severity == Severity::Fatal,
                problem: identified(&p.kind.to_string(), o),
                remedy: called.mend(&p.kind),
                slots: p.kind.slots().map(SlotSet::listed),
            })
            .collect();
        return out.record.put("problems", &json);
    }
    for problem in problems {
        let mark = match problem.severity {
            Severity::Fatal => "[ERR] ",
            Severity::Note => "[note]",
        };
        out.text(&format!("{mark} {}", named(&problem.kind.to_string(), o)))?;
        out.text(&format!("       {}", called.mend(&problem.kind)))?;
    }
    Ok(())
}

/// Tells a pass on the way: progress, and what stays to be said.
pub(crate) fn tell(progress: &mut Progress, report: &Report) {
    progress.pass(report);
    for line in promotions(report, &report.observed) {
        progress.keep(&line);
    }
}

/// Tells how a run ended, for which a person gave this consent. `settled` is said when it ended well.
pub(crate) fn end(
    end: End,
    consent: Consent,
    settled: &str,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    match end {
        End::Settled(_) => {
            out.done(settled);
            Ok(ExitStatus::Success)
        }
        End::Stuck(report) if !report.plan.is_stuck() => {
            let text = format!(
                "done but for servers that do not run; start them, or take them out:{}",
                waits(&report)
            );
            Err(NotDone {
                remedy: Some("start them, or take them out".to_owned()),
                ..NotDone::new(WhyNotDone::ServersDown, text)
            }
            .into())
        }
        End::Stuck(report) => Err(stuck(&report, consent).into()),
        End::TimedOut(report) => {
            let text = format!(
                "not done in time (--timeout){}; what was waited for:{}",
                goes_on(&report),
                waits(&report)
            );
            Err(NotDone {
                remedy: Some("run the command again, with more time (--timeout)".to_owned()),
                ..NotDone::new(WhyNotDone::TimedOut, text)
            }
            .into())
        }
        End::Stopped(report) => Err(Interrupted(format!(
            "stopped before it was done; running the command again goes on; what was waited for:{}",
            waits(&report)
        ))
        .into()),
        End::Failed(report) => failed(*report),
    }
}

/// What only a person ends, with what that person may do.
fn stuck(report: &Report, consent: Consent) -> NotDone {
    let manual = report.plan.waiting.iter().filter(|w| w.needs_a_person());
    let line = |wait: &Waiting| {
        let text = named(&wait.to_string(), &report.observed);
        format!("\n  {text}{}", hint(wait, consent, &report.observed))
    };
    let lines: String = manual.clone().map(line).collect();
    let text = format!("not done; a person has to decide:{lines}");
    let hint = |wait| hint(wait, consent, &report.observed);
    let remedy = manual
        .map(|wait| hint(wait).trim_start_matches("; ").to_owned())
        .find(|hint| !hint.is_empty());
    NotDone {
        remedy,
        ..NotDone::new(WhyNotDone::ManualDecision, text)
    }
}

/// What to do where only time lacked.
fn goes_on(report: &Report) -> &'static str {
    let moves = |w: &Waiting| matches!(w, Waiting::Moves { .. });
    if report.plan.waiting.iter().any(moves) {
        ", and running the command again goes on"
    } else {
        ""
    }
}

/// What a person asked for and the planner refuses, if it does.
pub(crate) fn refused(report: &Report) -> Option<NotDone> {
    let mut waiting = report.plan.waiting.iter();
    let why = waiting.find(|w| matches!(w, Waiting::Request { .. }))?;
    let why = named(&why.to_string(), &report.observed);
    let text = format!("not done: {why}");
    Some(NotDone::new(WhyNotDone::RequestRefused, text))
}

/// Everything that is waited for, a line each: what the plan waits for, and the steps that were not done, with their
/// causes.
pub(crate) fn waits(report: &Report) -> String {
    let waiting = report.plan.waiting.iter().map(ToString::to_string);
    let failed = report.outcomes.iter().filter_map(|o| {
        let error = o.result.as_ref().err().filter(|e| tells_why(e))?;
        Some(format!("{}: {}", o.step.action, causes(error)))
    });
    let lines = waiting.chain(failed);
    let text = lines.fold(String::new(), |text, line| {
        text + "\n  " + &named(&line, &report.observed)
    });
    if text.is_empty() && !report.plan.steps.is_empty() {
        let steps = report.plan.steps.iter();
        return steps.fold(text, |text, step| {
            text + "\n  " + &named(&step.action.to_string(), &report.observed)
        });
    }
    text
}

/// Whether a step that was not done says why; else another one at the same node does, or the next look.
fn tells_why(error: &StepError) -> bool {
    match error {
        StepError::Server(_)
        | StepError::Runtime(_)
        | StepError::Move(_)
        | StepError::BothSides { .. }
        | StepError::NoDatabase { .. }
        | StepError::Untold(_) => true,
        StepError::Moved(_) | StepError::Skipped => false,
    }
}

/// An error and what caused it, in a line. What one says already is not said again.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let next = std::iter::successors(error.source(), |error| error.source());
    next.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}

fn failed(mut report: Report) -> anyhow::Result<ExitStatus> {
    if let Some(violation) = report.violations.first() {
        let text = format!(
            "the plan was stopped by its own check, which is a defect of shardwright: {violation}"
        );
        return Err(NotDone::new(WhyNotDone::PlanUnsafe, text).into());
    }
    let outcomes = report.outcomes.iter();
    let why = |o: &Outcome| o.result.as_ref().err().is_some_and(tells_why);
    let failed = outcomes
        .clone()
        .position(why)
        .or_else(|| outcomes.clone().position(|o| o.result.is_err()))
        .map(|i| report.outcomes.swap_remove(i));
    let Some(outcome) = failed else {
        return Err(NotDone::new(WhyNotDone::StepFailed, "a step failed").into());
    };
    let what = named(&outcome.step.action.to_string(), &report.observed);
    if let Err(error) = outcome.result {
        return Err(anyhow::Error::new(error).context(format!("cannot {what}")));
    }
    let text = format!("a step failed: {what}");
    Err(NotDone::new(WhyNotDone::StepFailed, text).into())
}
