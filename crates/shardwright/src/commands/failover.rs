//! `failover`: make a replica the primary of its shard.

use shardwright_planner::{Manner, Request, safety};
use shardwright_runtime_kubernetes::wish::Asked;
use shardwright_topology::{NodeId, Observed, Role};

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
        out.done(&format!(
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
    let left = safety::left_behind(&observed, node);
    if !left.is_empty() {
        out.warn(&left_behind(&observed, node, &left));
    }
    if args.run.dry_run {
        return change::dry_run(&mut keeper, out).await;
    }
    change::must_be_possible(&mut keeper).await?;
    if !left.is_empty() && !args.yes && !out.confirm("Promote it all the same?")? {
        out.declined("Nothing was changed.");
        return Ok(ExitStatus::Failure);
    }
    let done = format!("[OK] {} is the primary", named(&node.short(), &observed));
    let promoted = |o: &Observed| o.member(node).is_some_and(|m| m.role == Role::Primary);
    change::carry_out_until(&mut keeper, args.run.timeout, &done, promoted, out).await
}

/// Which nodes could not follow the new primary, and what that means.
fn left_behind(o: &Observed, node: NodeId, left: &[NodeId]) -> String {
    let version = |id: NodeId| {
        let server = o.view_of(id).map(|v| &v.server);
        server.map_or_else(String::new, |s| format!(" ({} {})", s.engine, s.version))
    };
    let name = |id: NodeId| format!("{}{}", named(&id.short(), o), version(id));
    let them: Vec<String> = left.iter().map(|id| name(*id)).collect();
    format!(
        "once {} is the primary, {} can't follow it: their version can't read all that it writes, and their copies fail, or lack what they do not know; \
         replace them by the newer version first, or be ready to do so at once",
        name(node),
        them.join(", ")
    )
}
