//! How plans, problems and ends are told, with names instead of bare ids.

use anyhow::bail;
use serde::Serialize;
use shardwright_planner::{Budget, Consent, Plan, Problem, Severity, Waiting};
use shardwright_runtime::{End, Outcome, Report, StepError};
use shardwright_topology::{NodeId, Observed};

use crate::exit::{ExitStatus, Refusal};
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
        let place = member
            .server
            .as_ref()
            .map_or_else(|| member.address.to_string(), ToString::to_string);
        out = out.replace(&short, &format!("{short} ({place})"));
    }
    out
}

/// A node's short id, and the server it lives on.
pub(crate) fn place(o: &Observed, node: NodeId) -> String {
    named(&node.short(), o)
}

#[derive(Serialize)]
struct PlanJson {
    steps: Vec<StepJson>,
    waiting: Vec<String>,
    moves: Vec<Move>,
    /// What all moves amount to; `null` where nothing moves.
    moves_sum: Option<Sum>,
}

#[derive(Serialize)]
struct StepJson {
    action: String,
    because: String,
}

/// Prints a plan: steps and reasons, what they move, and what is waited for.
pub(crate) fn print_plan(
    plan: &Plan,
    o: &Observed,
    budget: &Budget,
    out: &mut Printer,
) -> anyhow::Result<()> {
    let moves = Move::all(plan, o);
    let sum = Sum::of(&moves, budget);
    if out.is_json() {
        let steps = plan.steps.iter();
        let json = PlanJson {
            steps: steps
                .map(|s| StepJson {
                    action: s.action.to_string(),
                    because: s.because.to_string(),
                })
                .collect(),
            waiting: plan.waiting.iter().map(ToString::to_string).collect(),
            moves,
            moves_sum: sum,
        };
        return out.json(&json);
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
    for wait in &plan.waiting {
        out.text(&format!("  waiting: {}", named(&wait.to_string(), o)))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct ProblemJson {
    fatal: bool,
    problem: String,
    mend: String,
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
                problem: named(&p.kind.to_string(), o),
                mend: called.mend(&p.kind),
            })
            .collect();
        return out.json(&json);
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
            out.say(settled);
            Ok(ExitStatus::Success)
        }
        End::Stuck(report) if !report.plan.is_stuck() => {
            bail!(
                "done but for servers that do not run; start them, or take them out:{}",
                waits(&report)
            )
        }
        End::Stuck(report) => {
            let mut text = "not done; a person has to decide:".to_owned();
            for wait in report.plan.waiting.iter().filter(|w| w.needs_a_person()) {
                text.push_str("\n  ");
                text.push_str(&named(&wait.to_string(), &report.observed));
                text.push_str(hint(wait, consent));
            }
            Err(Refusal(text).into())
        }
        End::TimedOut(report) => {
            bail!(
                "not done in time (--timeout){}; what was waited for:{}",
                goes_on(&report),
                waits(&report)
            )
        }
        End::Stopped(report) => Err(Interrupted(format!(
            "stopped before it was done; running the command again goes on; what was waited for:{}",
            waits(&report)
        ))
        .into()),
        End::Failed(report) => failed(*report),
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
pub(crate) fn refused(report: &Report) -> Option<Refusal> {
    let mut waiting = report.plan.waiting.iter();
    let why = waiting.find(|w| matches!(w, Waiting::Request { .. }))?;
    let why = named(&why.to_string(), &report.observed);
    Some(Refusal(format!("not done: {why}")))
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

/// An error and what caused it, in a line.
fn causes(error: &dyn std::error::Error) -> String {
    let next = std::iter::successors(error.source(), |error| error.source());
    next.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn failed(mut report: Report) -> anyhow::Result<ExitStatus> {
    if let Some(violation) = report.violations.first() {
        bail!(
            "the plan was stopped by its own check, which is a defect of shardwright: {violation}"
        );
    }
    let outcomes = report.outcomes.iter();
    let why = |o: &Outcome| o.result.as_ref().err().is_some_and(tells_why);
    let failed = outcomes
        .clone()
        .position(why)
        .or_else(|| outcomes.clone().position(|o| o.result.is_err()))
        .map(|i| report.outcomes.swap_remove(i));
    let Some(outcome) = failed else {
        bail!("a step failed")
    };
    let what = named(&outcome.step.action.to_string(), &report.observed);
    match outcome.result {
        Err(error) => Err(anyhow::Error::new(error).context(format!("cannot {what}"))),
        Ok(()) => bail!("a step failed: {what}"),
    }
}
