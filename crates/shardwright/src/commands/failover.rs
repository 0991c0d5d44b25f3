//! `failover`: make a replica the primary of its shard.

use shardwright_planner::{Manner, Request};
use shardwright_runtime_kubernetes::wish::Asked;
use shardwright_topology::{Observed, Role};

use super::change;
use crate::cli::{FailoverArgs, Login};
use crate::connect::{Purpose, find_node, open};
use crate::exit::{ExitStatus, UsageError};
use crate::kubernetes;
use crate::printer::Printer;
use crate::report::named;
use crate::target::Target;

pub(super) async fn run(
    args: FailoverArgs,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.parse()?;
    let manner = match (args.force, args.takeover) {
        (true, _) => Manner::Force,
        (_, true) => Manner::Takeover,
        (false, false) => Manner::Switchover,
    };
    if let (Target::Kubernetes(key), false) = (&target, args.run.dry_run) {
        if args.node.is_empty() || args.node.contains(',') {
            let text = format!("{:?} names no node; see: kubectl get pods", args.node);
            return Err(UsageError(text).into());
        }
        let asked = Asked::failover(&args.node, manner);
        return kubernetes::carry_out(key, login, &asked, args.run.timeout, out).await;
    }
    let purpose = if args.run.dry_run {
        Purpose::Read
    } else {
        Purpose::Change
    };
    let (mut keeper, observed) = open(&target, args.dir, login, purpose, out).await?;
    let node = find_node(&observed, &args.node)?;
    if observed
        .member(node)
        .is_some_and(|m| m.role == Role::Primary)
    {
        out.say(&format!(
            "{} is a primary already",
            named(&node.short(), &observed)
        ));
        return Ok(ExitStatus::Success);
    }
    let desired = keeper
        .desired()
        .clone()
        .with(Request::Promote { node, manner });
    keeper.set_desired(desired);
    if args.run.dry_run {
        return change::dry_run(&mut keeper, out).await;
    }
    change::must_be_possible(&mut keeper).await?;
    let done = format!("[OK] {} is the primary", named(&node.short(), &observed));
    let promoted = |o: &Observed| o.member(node).is_some_and(|m| m.role == Role::Primary);
    change::carry_out_until(&mut keeper, args.run.timeout, &done, promoted, out).await
}
