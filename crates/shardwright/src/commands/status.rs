//! `status`: how a cluster is.

use std::time::Duration;

use anyhow::Context;
use shardwright_planner::{ProblemKind, diagnose};
use shardwright_runtime::Report;

use super::change::{fatal, is_passing, steady};
use super::check::is_stopped;
use crate::cli::{Login, Status, TargetArgs};
use crate::connect::{AnyKeeper, Purpose, open};
use crate::exit::ExitStatus;
use crate::kubernetes;
use crate::printer::Printer;
use crate::report::named;
use crate::status::{ClusterStatus, Moves};
use crate::stop::{signal_that_came, stop};
use crate::target::{Called, Target};
use crate::verb_result::Ending;

pub(super) async fn run(
    args: Status,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.target.parse()?;
    let dir = args.target.dir.clone();
    let (mut keeper, _) = open(&target, dir, login, Purpose::Read, out).await?;
    let Some(seconds) = args.watch else {
        return look(&mut keeper, &target, &args, login, out).await;
    };
    let asked = args.asked();
    let mut stop = Box::pin(stop().context("cannot listen to signals")?);
    let mut first = true;
    loop {
        let looked = async {
            out.redraw(first)?;
            let status = look(&mut keeper, &target, &args, login, out).await?;
            out.line(&asked, status)
        };
        let next = async {
            looked.await?;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            anyhow::Ok(())
        };
        tokio::select! {
            biased;
            () = &mut stop => break,
            looked = next => looked?,
        }
        if out.is_unread() {
            return Ok(ExitStatus::Success);
        }
        first = false;
    }
    Ok(signal_that_came().map_or(ExitStatus::Failure, ExitStatus::Interrupted))
}

/// One look, told.
async fn look(
    keeper: &mut AnyKeeper,
    target: &Target,
    args: &Status,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let report = keeper.look().await?;
    let moves = moves(target, &report, login).await?;
    let mut observed = report.observed;
    let mut problems = diagnose(&observed);
    if is_passing(&problems) {
        (observed, problems) = steady(keeper).await?;
    }
    let status = ClusterStatus::of(&observed).moving(moves);
    if out.is_json() {
        out.record.put_fields(&status)?;
    } else {
        out.text(&status.table(args.wide, out.room()))?;
        out.say(&status.summary());
        if let Some(line) = status.moves_line() {
            out.say(&line);
        }
    }
    if let Target::Kubernetes(key) = target {
        let told = kubernetes::told(key, login).await?;
        for text in [told.stale, told.not_applied].into_iter().flatten() {
            out.say(&text);
        }
    }
    let healthy = fatal(&problems).next().is_none();
    // What keeps the engine from healing by itself is said at once.
    let lost = problems
        .iter()
        .find(|p| matches!(p.kind, ProblemKind::MajorityLost(_)));
    if let Some(lost) = lost.filter(|_| !out.is_json()) {
        out.say(&named(&lost.kind.to_string(), &observed));
    }
    let TargetArgs { target: text, dir } = &args.target;
    let called = Called::of(target, text, dir.as_deref(), login);
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
