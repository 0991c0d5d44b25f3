//! `plan`: what would be done, and why.

use super::change;
use super::reshape::{self, Reshape};
use crate::cli::{Login, PlanArgs};
use crate::connect::{Purpose, open};
use crate::exit::{ExitStatus, UsageError};
use crate::kubernetes;
use crate::printer::Printer;
use crate::target::{Target, local_dir};

pub(super) async fn run(
    args: PlanArgs,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.target.parse()?;
    let reshape = Reshape {
        shards: args.shards,
        replicas: args.replicas,
    };
    if reshape.is_some() {
        let name = match &target {
            Target::Local(name) => name,
            Target::Kubernetes(key) => {
                return kubernetes::preview(key, login, reshape, out).await;
            }
            Target::Member(_) => {
                let text = "--shards and --replicas are not for clusters that others run: no shape of those is declared";
                return Err(UsageError(text.to_owned()).into());
            }
        };
        let dir = local_dir(name.as_deref(), args.target.dir)?;
        let cluster = reshape.of_stored(&dir)?;
        return reshape::preview(&dir, &cluster, None, out).await;
    }
    let (mut keeper, _) = open(&target, args.target.dir, login, Purpose::Read, out).await?;
    let desired = change::consenting(keeper.desired(), args.accept_data_loss);
    keeper.set_desired(desired);
    change::dry_run(&mut keeper, out).await
}
