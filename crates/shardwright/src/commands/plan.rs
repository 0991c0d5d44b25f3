//! `plan`: what would be done, and why.

use super::change;
use crate::cli::{Login, PlanArgs};
use crate::connect::{Purpose, open};
use crate::exit::ExitStatus;
use crate::printer::Printer;
use crate::target::Target;

pub(super) async fn run(
    args: PlanArgs,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.target.parse()?;
    let (mut keeper, _) = open(&target, args.target.dir, login, Purpose::Read, out).await?;
    let desired = change::consenting(keeper.desired(), args.accept_data_loss);
    keeper.set_desired(desired);
    change::dry_run(&mut keeper, out).await
}
