//! `remove-node`: take a node without slots out.

use shardwright_planner::{Request, safety};

use shardwright_topology::Observed;

use super::change;
use crate::cli::{Login, RemoveNode};
use crate::connect::{Purpose, find_node, open};
use crate::exit::{ExitStatus, Refusal, UsageError};
use crate::printer::Printer;
use crate::report::named;
use crate::target::{Target, not_on_kubernetes};

pub(super) async fn run(
    args: RemoveNode,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.parse()?;
    match &target {
        Target::Member(_) => {}
        Target::Kubernetes(key) => {
            let what = " change spec.shards or spec.replicasPerShard";
            return Err(not_on_kubernetes(key, "edit", what));
        }
        Target::Local(_) => {
            let text = "a local cluster gets its nodes from its manifest; name another cluster by HOST:PORT";
            return Err(UsageError(text.to_owned()).into());
        }
    }
    let purpose = if args.run.dry_run {
        Purpose::Read
    } else {
        Purpose::Change
    };
    let (mut keeper, observed) = open(&target, None, login, purpose, out).await?;
    let node = find_node(&observed, &args.node)?;
    let name = named(&node.short(), &observed);
    let desired = keeper.desired().clone().with(Request::Leave { node });
    if let Some(why) = safety::why_not_forget(&desired, &observed, node) {
        return Err(Refusal(format!("{name} can't leave: {why}")).into());
    }
    keeper.set_desired(desired);
    if args.run.dry_run {
        return change::dry_run(&mut keeper, out).await;
    }
    let left = |o: &Observed| o.member(node).is_none();
    let done = format!("[OK] {name} has left");
    change::carry_out_until(&mut keeper, args.run.timeout, &done, left, out).await
}
