//! `status`: how a cluster is.

use shardwright_runtime::Report;

use super::change::fatal;
use super::check::is_stopped;
use crate::cli::{Login, TargetArgs};
use crate::connect::{Purpose, open};
use crate::exit::ExitStatus;
use crate::kubernetes;
use crate::printer::Printer;
use crate::status::{ClusterStatus, Moves};
use crate::target::{Called, Target};
use crate::verb_result::Ending;

pub(super) async fn run(
    args: TargetArgs,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.parse()?;
    let (mut keeper, _) = open(&target, args.dir.clone(), login, Purpose::Read, out).await?;
    let report = keeper.look().await?;
    let moves = moves(&target, &report, login).await?;
    let observed = report.observed;
    let status = ClusterStatus::of(&observed).moving(moves);
    if out.is_json() {
        out.record.put_fields(&status)?;
    } else {
        out.text(&status.table())?;
        out.say(&status.summary());
        if let Some(line) = status.moves_line() {
            out.say(&line);
        }
    }
    let problems = shardwright_planner::diagnose(&observed);
    let healthy = fatal(&problems).next().is_none();
    let called = Called::of(&target, &args.target, args.dir.as_deref(), login);
    if let Some(start) = called.up().filter(|_| is_stopped(&observed)) {
        out.say(&format!("stopped; start it: {start}"));
    } else if !healthy {
        out.say(&format!("not healthy; see: {}", called.command("check")));
    }
    Ok(if healthy {
        ExitStatus::Success
    } else {
        out.record.ending(Ending::Unhealthy);
        ExitStatus::Failure
    })
}

/// What is known of slots that have to move: from the plan, and on Kubernetes from who moves them.
async fn moves(target: &Target, report: &Report, login: &Login) -> anyhow::Result<Option<Moves>> {
    let Some((left, _)) = report.plan.moves() else {
        return Ok(None);
    };
    let told = match target {
        Target::Kubernetes(key) => kubernetes::moves(key, login).await?,
        Target::Local(_) | Target::Member(_) => None,
    };
    Ok(Some(Moves {
        slots_left: left.into(),
        paused: report.plan.is_paused(),
        slots_moved: told.map(|told| told.slots_moved.into()),
        keys_moved: told.map(|told| told.keys_moved),
        eta_s: told.and_then(|told| told.eta_seconds),
    }))
}
