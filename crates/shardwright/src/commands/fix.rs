//! `fix`: mend what is wrong.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use shardwright_planner::Severity;
use shardwright_runtime_kubernetes::wish::Asked;

use super::change;
use crate::cli::{Fix, Login, Run};
use crate::connect::{Purpose, open};
use crate::exit::ExitStatus;
use crate::kubernetes;
use crate::printer::Printer;
use crate::report::print_problems;
use crate::target::{Called, Target};
use crate::verb_result::Ending;

pub(super) async fn run(args: Fix, login: &Login, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.target.parse()?;
    let Run { dry_run, timeout } = args.run;
    if let (Target::Kubernetes(key), false) = (&target, dry_run) {
        let asked = Asked::fix(args.accept_data_loss, Timestamp::now());
        return kubernetes::carry_out(key, login, &asked, timeout, out).await;
    }
    let purpose = if dry_run {
        Purpose::Read
    } else {
        Purpose::Change
    };
    let (mut keeper, _) = open(&target, args.target.dir.clone(), login, purpose, out).await?;
    let desired = change::consenting(keeper.desired(), args.accept_data_loss);
    keeper.set_desired(desired);
    if dry_run {
        return change::dry_run(&mut keeper, out).await;
    }
    // What was done may be undone by news that was under way (a FORGET that spreads): then there is more to do.
    let deadline = Instant::now() + Duration::from_secs(timeout);
    loop {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .as_secs()
            .max(1);
        let done = "[OK] all is done that can be done";
        let carried = change::carry_out(&mut keeper, left, done, out).await;
        // What kept it from being carried out is told in any case; where nobody answers now, only that.
        if carried.is_err()
            && let Ok(observed) = keeper.observe().await
            && let Some(hint) = super::check::new_addresses(&target, &observed)
        {
            out.say(&hint);
        }
        let status = carried?;
        let (observed, mut problems) = change::steady(&mut keeper).await?;
        let called = Called::of(
            &target,
            &args.target.target,
            args.target.dir.as_deref(),
            login,
        );
        if change::fatal(&problems).next().is_none() {
            out.done("[OK] the cluster is healthy");
            if !problems.is_empty() {
                print_problems(&problems, &observed, &called, out)?;
            }
            return Ok(status);
        }
        let more = !keeper.look().await?.plan.steps.is_empty();
        if more && Instant::now() < deadline {
            continue;
        }
        problems.retain(|p| p.severity == Severity::Fatal);
        print_problems(&problems, &observed, &called, out)?;
        if let Some(hint) = super::check::new_addresses(&target, &observed) {
            out.say(&hint);
        }
        out.say("the cluster is not healthy yet");
        out.record.ending(Ending::Unhealthy);
        return Ok(ExitStatus::Failure);
    }
}
