//! What the changing verbs share: show the plan, or carry it out and tell how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shardwright_planner::{
    Consent, Desired, Problem, ProblemKind, Severity, diagnose, slots_are_moving, while_slots_move,
};
use shardwright_runtime::{End, Keeper, Report, Runtime};
use shardwright_topology::{Dissent, NodeId, NodeView, Observed};

use crate::cli::Pace;
use crate::exit::{ExitStatus, NotDone, WhyNotDone};
use crate::met::MetNodes;
use crate::moves::Move;
use crate::printer::Printer;
use crate::report;
use crate::requests::Control;

/// The same wish, with the consent of a person.
pub(super) fn consenting(desired: &Desired, lose_data: bool) -> Desired {
    Desired {
        consent: Consent {
            lose_data,
            ..Consent::default()
        },
        ..desired.clone()
    }
}

/// Moves slots within what the command line allows.
pub(super) fn keep_pace<R: Runtime>(keeper: &mut Keeper<R>, pace: &Pace) {
    keeper.set_budget(pace.budget());
    let mut desired = keeper.desired().clone();
    desired.consent.force_memory = pace.force;
    keeper.set_desired(desired);
}

/// Refuses what the planner would refuse, before anything is done.
pub(super) async fn must_be_possible<R: Runtime>(keeper: &mut Keeper<R>) -> anyhow::Result<()> {
    match report::refused(&keeper.look().await?) {
        Some(refusal) => Err(refusal.into()),
        None => Ok(()),
    }
}

/// Shows what would be done now.
pub(super) async fn dry_run<R: Runtime>(
    keeper: &mut Keeper<R>,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let mut report = keeper.look().await?;
    let wanted = Move::wanted(&report.plan);
    keeper.measure(&wanted, &mut report.observed).await;
    let budget = keeper.links().budget();
    let consent = keeper.desired().consent;
    report::print_plan(&report.plan, &report.observed, &budget, consent, out)?;
    Ok(ExitStatus::Success)
}

/// Carries out what is to be done, until it is.
pub(super) async fn carry_out<R: Runtime>(
    keeper: &mut Keeper<R>,
    timeout_s: u64,
    settled: &str,
    control: &mut Control<'_>,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let (end, met) = settle(keeper, timeout_s, control, out).await?;
    if let (End::Stopped(_), Some(overtaken)) = (&end, control.overtaken()) {
        return Err(overtaken.into());
    }
    let consent = keeper.desired().consent;
    match (&end, met.loss()) {
        // What was given up by consent was told when it was seen.
        (End::Settled(_), Some(loss)) if !consent.lose_data => Err(loss.into()),
        _ => report::end(end, consent, settled, out),
    }
}

/// The same for one thing that was asked for. `so` tells whether it is so: then what else the cluster lacks, and no
/// pass can mend, is no failure of this.
pub(super) async fn carry_out_until<R: Runtime>(
    keeper: &mut Keeper<R>,
    timeout_s: u64,
    settled: &str,
    so: impl Fn(&Observed) -> bool,
    control: &mut Control<'_>,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let (end, met) = settle(keeper, timeout_s, control, out).await?;
    let consents = keeper.desired().consent.lose_data;
    let loss = met.loss().filter(|_| !consents);
    match (end, control.overtaken(), loss) {
        (End::Stopped(report), Some(_), Some(loss))
        | (End::Settled(report) | End::Stuck(report) | End::TimedOut(report), _, Some(loss))
            if so(&report.observed) =>
        {
            Err(loss.into())
        }
        (End::Stopped(report), Some(_), _) if so(&report.observed) => {
            out.done(settled);
            Ok(ExitStatus::Success)
        }
        (End::Stopped(_), Some(overtaken), _) => Err(overtaken.into()),
        (end, _, _) => ended_until(keeper, end, settled, so, out),
    }
}

/// The same where nobody but a person ends it.
pub(super) async fn carry_out_alone_until<R: Runtime>(
    keeper: &mut Keeper<R>,
    timeout_s: u64,
    settled: &str,
    so: impl Fn(&Observed) -> bool,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let mut signals = Control::signals();
    carry_out_until(keeper, timeout_s, settled, so, &mut signals, out).await
}

fn ended_until<R: Runtime>(
    keeper: &Keeper<R>,
    end: End,
    settled: &str,
    so: impl Fn(&Observed) -> bool,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    match end {
        End::Stuck(report) | End::TimedOut(report) if so(&report.observed) => {
            out.done(settled);
            out.warn(&format!(
                "the cluster is not healthy yet:{}",
                report::waits(&report)
            ));
            Ok(ExitStatus::Success)
        }
        End::Settled(report) if !so(&report.observed) => {
            let text = "nothing more is to be done, and what was asked for is not so; the verb check says what the cluster is like";
            Err(NotDone::new(WhyNotDone::NotSo, text).into())
        }
        other => report::end(other, keeper.desired().consent, settled, out),
    }
}

/// Lets the keeper work until it is done or something stops it, and tells of each pass. Returns what was seen of another
/// cluster beside how it ended.
async fn settle<R: Runtime>(
    keeper: &mut Keeper<R>,
    timeout_s: u64,
    control: &mut Control<'_>,
    out: &mut Printer,
) -> anyhow::Result<(End, MetNodes)> {
    let mut met = MetNodes::default();
    let (stop, mut told) = control.parts()?;
    let mut progress = out.progress(keeper.moved());
    let limit = Duration::from_secs(timeout_s);
    let consent = keeper.desired().consent;
    let (mut before, mut after) = (None, BTreeMap::new());
    let mut not_given = BTreeSet::new();
    let tell = |r: &Report| {
        not_given.extend(report::functions_not_given(&r.plan, &r.observed));
        after = evicted(&r.observed);
        before.get_or_insert_with(|| after.clone());
        told(r);
        report::tell(&mut progress, r);
        if let Some(text) = met.pass(r) {
            progress.keep(&format!("warning: {text}"));
            out.record.warning(&text);
        }
        if out.is_json() {
            out.record.pass(r, consent);
        }
    };
    let end = keeper.settle_or_stop(limit, stop, tell).await;
    for line in before.iter().flat_map(|before| deleted(before, &after)) {
        // Without consent a move that made a server delete keys ended with that.
        if consent.force_memory {
            progress.keep(&line);
        }
    }
    if let Some(note) = report::functions_note(&not_given) {
        progress.keep(&note);
    }
    progress.done();
    Ok((end?, met))
}

/// How many keys each server has deleted for lack of memory since it began.
fn evicted(o: &Observed) -> BTreeMap<NodeId, u64> {
    let told = |(_, view): (_, &NodeView)| Some((view.id, view.server.evicted_keys?));
    o.views().filter_map(told).collect()
}

/// What to say of servers that deleted keys in between. One that was started anew counts anew: of it nothing is said.
fn deleted(before: &BTreeMap<NodeId, u64>, after: &BTreeMap<NodeId, u64>) -> Vec<String> {
    let more = |(node, count): (&NodeId, &u64)| {
        let keys = count.checked_sub(*before.get(node)?).filter(|n| *n > 0)?;
        Some(format!(
            "[note] {} has deleted {keys} keys for lack of memory (evicted_keys) while slots moved, which --force allows",
            node.short()
        ))
    };
    after.iter().filter_map(more).collect()
}

/// How long links may be down before that is called a problem: a node that is met anew replaces its link, which
/// takes the engine a tenth of a second or two.
const LINKS_MAY_REST: Duration = Duration::from_secs(2);

/// How long half-moved slots are looked at to see whether somebody moves them.
const A_MOVE_SHOWS: Duration = Duration::from_secs(2);

/// What is wrong with the cluster, once passing disturbances have passed.
pub(super) async fn steady<R: Runtime>(
    keeper: &mut Keeper<R>,
) -> anyhow::Result<(Observed, Vec<Problem>)> {
    let mut seen = Vec::new();
    let calm = |o: &Observed| {
        let problems = diagnose(o);
        let passing = is_passing(&problems);
        seen = with_dropped_writes(std::mem::take(&mut seen), problems);
        !passing
    };
    let mut observed = keeper.observe_until(calm, LINKS_MAY_REST).await?;
    let open = |p: &Problem| matches!(p.kind, ProblemKind::OpenSlots { .. });
    let mut moving = false;
    if diagnose(&observed).iter().any(open) {
        let first = observed;
        let goes_on = |o: &Observed| slots_are_moving(&first, o);
        observed = keeper.observe_until(goes_on, A_MOVE_SHOWS).await?;
        moving = slots_are_moving(&first, &observed);
    }
    keeper.confirm_identities(&mut observed).await;
    let problems = diagnose(&observed);
    let problems = if moving {
        while_slots_move(problems)
    } else {
        problems
    };
    Ok((observed, with_dropped_writes(seen, problems)))
}

/// The later problems, and the dropped writes among the earlier ones where the later ones name none: a node has what its
/// copy drops for a moment only.
pub(super) fn with_dropped_writes(earlier: Vec<Problem>, mut later: Vec<Problem>) -> Vec<Problem> {
    let dropped = |p: &Problem| p.kind.is_about_dropped_writes();
    if !later.iter().any(dropped) {
        later.extend(earlier.into_iter().filter(dropped));
    }
    later
}

/// The problems that make a cluster unhealthy.
pub(super) fn fatal(problems: &[Problem]) -> impl Iterator<Item = &Problem> {
    problems.iter().filter(|p| p.severity == Severity::Fatal)
}

/// Whether there is nothing wrong but what goes by itself.
pub(super) fn is_passing(problems: &[Problem]) -> bool {
    fatal(problems).next().is_some() && fatal(problems).all(passes)
}

/// Whether a problem is of the kind that a greeting causes, and that goes by itself.
fn passes(problem: &Problem) -> bool {
    let ProblemKind::Disagree { dissent, .. } = &problem.kind else {
        return false;
    };
    matches!(dissent, Dissent::Link | Dissent::Handshake)
}
