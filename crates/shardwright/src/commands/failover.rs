//! `failover`: make a replica the primary of its shard.

use jiff::Timestamp;
use shardwright_planner::{Manner, Request, safety};
use shardwright_runtime::{Keeper, Runtime};
use shardwright_runtime_kubernetes::wish::Asked;
use shardwright_topology::{NodeId, Observed, Role};

use super::change;
use crate::cli::{FailoverArgs, Login};
use crate::connect::{AnyKeeper, Purpose, find_node, open};
use crate::exit::{ExitStatus, UsageError};
use crate::handover::{self, Promotion, hand_over, holder_of};
use crate::kubernetes;
use crate::printer::Printer;
use crate::report::named;
use crate::requests::Control;
use crate::target::Target;

pub(super) async fn run(
    args: FailoverArgs,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.parse()?;
    let manner = manner(args.force, args.takeover);
    if let (Target::Kubernetes(key), false) = (&target, args.run.dry_run) {
        if args.node.is_empty() || args.node.contains(',') {
            let text = format!("{:?} names no node; see: kubectl get pods", args.node);
            return Err(UsageError(text).into());
        }
        let asked = Asked::failover(&args.node, manner);
        let asked = if args.i_know_the_primary_is_dead {
            asked.stating_death(Timestamp::now())
        } else {
            asked
        };
        return kubernetes::carry_out(key, login, &asked, args.run.timeout, out).await;
    }
    let promotion = Promotion {
        node: args.node.clone(),
        force: args.force,
        takeover: args.takeover,
        primary_is_dead: args.i_know_the_primary_is_dead,
        timeout_s: args.run.timeout,
    };
    if !args.run.dry_run
        && let Some(dir) = holder_of(&target, args.dir.as_deref()).await?
    {
        let dir_given = args.dir.clone();
        let (mut keeper, observed) = open(&target, dir_given, login, Purpose::Read, out).await?;
        if let Some(status) = prepare(&mut keeper, &observed, &args, &promotion, out).await? {
            return Ok(status);
        }
        let request = handover::Request::Failover(promotion.clone());
        if let Some(status) = hand_over(&dir, request, out).await? {
            return Ok(status);
        }
    }
    let purpose = if args.run.dry_run {
        Purpose::Read
    } else {
        Purpose::Change
    };
    let (mut keeper, observed) = open(&target, args.dir.clone(), login, purpose, out).await?;
    if let Some(status) = prepare(&mut keeper, &observed, &args, &promotion, out).await? {
        return Ok(status);
    }
    promote(&mut keeper, &promotion, &mut Control::signals(), out).await
}

/// Looks whether anything is to be done and may be, and asks the person where that costs something. The status with
/// which it ends here, if it does.
async fn prepare(
    keeper: &mut AnyKeeper,
    observed: &Observed,
    args: &FailoverArgs,
    promotion: &Promotion,
    out: &mut Printer,
) -> anyhow::Result<Option<ExitStatus>> {
    let node = find_node(observed, &args.node)?;
    if is_primary(observed, node) {
        out.done(&already(observed, node));
        return Ok(Some(ExitStatus::Success));
    }
    want(keeper, node, promotion);
    let left = safety::left_behind(observed, node);
    if !left.is_empty() {
        out.warn(&left_behind(observed, node, &left));
    }
    if args.run.dry_run {
        return Ok(Some(change::dry_run(keeper, out).await?));
    }
    change::must_be_possible(keeper).await?;
    if !left.is_empty() && !args.yes && !out.confirm("Promote it all the same?")? {
        out.declined("Nothing was changed.");
        return Ok(Some(ExitStatus::Failure));
    }
    Ok(None)
}

/// Makes a node the primary of its shard. What that costs was agreed to.
pub(super) async fn promote<R: Runtime>(
    keeper: &mut Keeper<R>,
    promotion: &Promotion,
    control: &mut Control<'_>,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let observed = keeper.observe().await?;
    let node = find_node(&observed, &promotion.node)?;
    if is_primary(&observed, node) {
        out.done(&already(&observed, node));
        return Ok(ExitStatus::Success);
    }
    want(keeper, node, promotion);
    change::must_be_possible(keeper).await?;
    let done = format!("[OK] {} is the primary", named(&node.short(), &observed));
    let promoted = |o: &Observed| is_primary(o, node);
    change::carry_out_until(keeper, promotion.timeout_s, &done, promoted, control, out).await
}

fn want<R: Runtime>(keeper: &mut Keeper<R>, node: NodeId, promotion: &Promotion) {
    let manner = manner(promotion.force, promotion.takeover);
    let mut desired = keeper.desired().clone();
    desired.consent.primary_is_dead = promotion.primary_is_dead;
    keeper.set_desired(desired.with(Request::Promote { node, manner }));
}

fn manner(force: bool, takeover: bool) -> Manner {
    match (force, takeover) {
        (true, _) => Manner::Force,
        (_, true) => Manner::Takeover,
        (false, false) => Manner::Switchover,
    }
}

fn is_primary(o: &Observed, node: NodeId) -> bool {
    o.member(node).is_some_and(|m| m.role == Role::Primary)
}

fn already(o: &Observed, node: NodeId) -> String {
    format!("{} is a primary already", named(&node.short(), o))
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
