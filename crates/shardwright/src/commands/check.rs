//! `check`: what is wrong, and what mends it.

use shardwright_planner::{Severity, diagnose};

use crate::cli::{Login, TargetArgs};
use crate::connect::{Purpose, first_look, open};
use crate::exit::ExitStatus;
use crate::printer::Printer;
use crate::report::print_problems;
use crate::status::ClusterStatus;
use crate::target::Target;

pub(super) async fn run(
    args: TargetArgs,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.parse()?;
    let mut keeper = open(&target, args.dir, login, Purpose::Read, out).await?;
    let observed = first_look(&mut keeper, &target, Purpose::Read).await?;
    let problems = diagnose(&observed);
    print_problems(&problems, &observed, &args.target, out)?;
    let fatal = problems
        .iter()
        .filter(|p| p.severity == Severity::Fatal)
        .count();
    out.say(&ClusterStatus::of(&observed).summary());
    if fatal > 0 {
        out.say(&format!("{fatal} problem(s)"));
        return Ok(ExitStatus::Failure);
    }
    out.say(&format!(
        "[OK] {} nodes agree; every slot is covered; every link is up",
        observed.members().len()
    ));
    Ok(ExitStatus::Success)
}
