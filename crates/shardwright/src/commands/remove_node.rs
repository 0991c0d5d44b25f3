//! `remove-node`: take a node out; slots that it has move to the others first.

use shardwright_engine::{Client, Endpoint};
use shardwright_planner::Request;
use shardwright_planner::safety::{self, NoForget};
use shardwright_topology::{NodeId, Observed};

use super::change;
use super::rebalance::purpose;
use crate::cli::{Login, RemoveNode};
use crate::connect::{AnyKeeper, find_node, open};
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
    let purpose = purpose(&args.run);
    let (mut keeper, observed) = open(&target, None, login, purpose, out).await?;
    if has_left(&keeper, &observed, &args.node).await {
        out.say(&format!(
            "[OK] nothing to do: {} is no member of this cluster",
            args.node
        ));
        return Ok(ExitStatus::Success);
    }
    let node = find_node(&observed, &args.node)?;
    let name = named(&node.short(), &observed);
    let desired = keeper.desired().clone().with(Request::Leave { node });
    match safety::why_not_forget(&desired, &observed, node) {
        // Slots move first.
        None | Some(NoForget::OwnsSlots { .. }) => {}
        Some(why @ NoForget::HasReplicas { .. }) => {
            return Err(Refusal(format!("{name} can't leave: {why}")).into());
        }
    }
    keeper.set_desired(desired);
    change::keep_pace(&mut keeper, &args.run.pace);
    if args.run.dry_run {
        return change::dry_run(&mut keeper, out).await;
    }
    change::must_be_possible(&mut keeper).await?;
    let left = |o: &Observed| o.member(node).is_none();
    let done = format!("[OK] {name} has left");
    change::carry_out_until(&mut keeper, args.run.timeout, &done, left, out).await
}

/// Whether this node has left already: nobody lists it, and it is named by its whole id, or what answers at the address
/// knows nobody. The beginning of an id, a name, or an address where nothing answers may be mistyped.
async fn has_left(keeper: &AnyKeeper, o: &Observed, text: &str) -> bool {
    let lists_all = o.servers().values().all(|s| s.view.known().is_some());
    if !lists_all || find_node(o, text).is_ok() {
        return false;
    }
    let Ok(endpoint) = text.parse::<Endpoint>() else {
        return text.parse::<NodeId>().is_ok();
    };
    let Ok(client) = Client::connect(&endpoint, keeper.links().access()).await else {
        return false;
    };
    let view = client.view().await;
    view.is_ok_and(|view| view.peers().next().is_none())
}
