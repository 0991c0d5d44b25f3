//! `status`: how a cluster is.

use crate::cli::{Login, TargetArgs};
use crate::connect::{Purpose, open};
use crate::exit::ExitStatus;
use crate::printer::Printer;
use crate::status::ClusterStatus;
use crate::target::{Called, Target};

pub(super) async fn run(
    args: TargetArgs,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.parse()?;
    let (_, observed) = open(&target, args.dir, login, Purpose::Read, out).await?;
    let status = ClusterStatus::of(&observed);
    if out.is_json() {
        out.json(&status)?;
    } else {
        out.text(&status.table())?;
        out.say(&status.summary());
    }
    let problems = shardwright_planner::diagnose(&observed);
    let healthy = !problems
        .iter()
        .any(|p| p.severity == shardwright_planner::Severity::Fatal);
    if !healthy {
        out.say(&format!(
            "not healthy; see: {}",
            Called::of(&target, &args.target, login).command("check")
        ));
    }
    Ok(if healthy {
        ExitStatus::Success
    } else {
        ExitStatus::Failure
    })
}
