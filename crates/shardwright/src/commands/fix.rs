//! `fix`: mend what is wrong.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use shardwright_planner::Severity;
use shardwright_runtime::{Keeper, Runtime};
use shardwright_runtime_kubernetes::wish::Asked;

use super::change;
use crate::cli::{Fix, Login, Run};
use crate::connect::{Purpose, open};
use crate::exit::ExitStatus;
use crate::handover::{self, Repair, hand_over_at};
use crate::kubernetes;
use crate::printer::Printer;
use crate::report::print_problems;
use crate::requests::Control;
use crate::target::{Called, Target};
use crate::verb_result::Ending;

pub(super) async fn run(args: Fix, login: &Login, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.target.parse()?;
    let Run { dry_run, timeout } = args.run;
    if let (Target::Kubernetes(key), false) = (&target, dry_run) {
        let asked = Asked::fix(args.accept_data_loss, Timestamp::now());
        return kubernetes::carry_out(key, login, &asked, timeout, out).await;
    }
    let repair = Repair {
        target: args.target.target.clone(),
        dir: args.target.dir.clone(),
        accept_data_loss: args.accept_data_loss,
        timeout_s: timeout,
    };
    let dir = args.target.dir.as_deref();
    let request = handover::Request::Fix(repair.clone());
    if !dry_run && let Some(status) = hand_over_at(&target, dir, request, out).await? {
        return Ok(status);
    }
    let purpose = if dry_run {
        Purpose::Read
    } else {
        Purpose::Change
    };
    let (mut keeper, _) = open(&target, args.target.dir.clone(), login, purpose, out).await?;
    if dry_run {
        let desired = change::consenting(keeper.desired(), args.accept_data_loss);
        keeper.set_desired(desired);
        return change::dry_run(&mut keeper, out).await;
    }
    let called = Called::of(&target, &args.target.target, dir, login);
    let cluster = (&target, &called);
    fix_it(&mut keeper, &repair, cluster, &mut Control::signals(), out).await
}

/// Repairs what can be repaired, and says what is left.
pub(super) async fn fix_it<R: Runtime>(
    keeper: &mut Keeper<R>,
    repair: &Repair,
    (target, called): (&Target, &Called),
    control: &mut Control<'_>,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let desired = change::consenting(keeper.desired(), repair.accept_data_loss);
    keeper.set_desired(desired);
    // What was done may be undone by news that was under way (a FORGET that spreads): then there is more to do.
    let deadline = Instant::now() + Duration::from_secs(repair.timeout_s);
    loop {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .as_secs()
            .max(1);
        let done = "[OK] all is done that can be done";
        let carried = change::carry_out(keeper, left, done, control, out).await;
        // What kept it from being carried out is told in any case; where nobody answers now, only that.
        if carried.is_err()
            && let Ok(observed) = keeper.observe().await
            && let Some(hint) = super::check::new_addresses(target, &observed)
        {
            out.say(&hint);
        }
        let status = carried?;
        let (observed, mut problems) = change::steady(keeper).await?;
        if change::fatal(&problems).next().is_none() {
            out.done("[OK] the cluster is healthy");
            if !problems.is_empty() {
                print_problems(&problems, &observed, called, out)?;
            }
            return Ok(status);
        }
        let more = !keeper.look().await?.plan.steps.is_empty();
        if more && Instant::now() < deadline {
            continue;
        }
        problems.retain(|p| p.severity == Severity::Fatal);
        print_problems(&problems, &observed, called, out)?;
        if let Some(hint) = super::check::new_addresses(target, &observed) {
            out.say(&hint);
        }
        out.say("the cluster is not healthy yet");
        out.record.ending(Ending::Unhealthy);
        return Ok(ExitStatus::Failure);
    }
}
