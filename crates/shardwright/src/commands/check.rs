//! `check`: what is wrong, and what mends it.

use super::change::{fatal, steady};
use crate::cli::{Login, TargetArgs};
use crate::connect::{Purpose, open};
use crate::exit::ExitStatus;
use crate::printer::Printer;
use crate::report::print_problems;
use crate::status::ClusterStatus;
use crate::target::{Called, Target};

pub(super) async fn run(
    args: TargetArgs,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.parse()?;
    let (mut keeper, _) = open(&target, args.dir, login, Purpose::Read, out).await?;
    let (observed, problems) = steady(&mut keeper).await?;
    let called = Called::of(&target, &args.target, login);
    print_problems(&problems, &observed, &called, out)?;
    let fatal = fatal(&problems).count();
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
