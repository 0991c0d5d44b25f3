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
        out.done(&format!(
            "[OK] nothing to do: {} is no member of this cluster",
            args.node
        ));
        return Ok(ExitStatus::Success);
    }
    let node = find_node(&observed, &args.node)?;
    let name = named(&node.short(), &observed);
    let desired = keeper.desired().clone().with(Request::Leave { node });
    let unheard = observed.view_of(node).is_none();
    // An id without an address is nobody's any more.
    let silent = unheard && observed.server_of(node).is_some();
    if let Some(why) = why_not_while_silent(&observed, node, &args.target).filter(|_| unheard) {
        return Err(Refusal(format!("{name} can't leave: {why}")).into());
    }
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
    if !silent {
        let done = format!("[OK] {name} has left");
        let timeout_s = args.run.timeout;
        return change::carry_out_alone_until(&mut keeper, timeout_s, &done, left, out).await;
    }
    let done = format!("{name} is forgotten by every other node");
    let timeout_s = args.run.timeout;
    let ended = change::carry_out_alone_until(&mut keeper, timeout_s, &done, left, out).await?;
    out.warn(&format!(
        "it did not answer, so it was not reset: if its process runs, or is started again, it comes back; \
         stop it, and remove its nodes.conf before it starts again, or run this again: shardwright remove-node {} {}",
        args.target, args.node
    ));
    Ok(match ended {
        ExitStatus::Success => ExitStatus::Failure,
        other => other,
    })
}

/// Why a node that does not answer can't leave: nobody can move its slots away.
fn why_not_while_silent(o: &Observed, node: NodeId, target: &str) -> Option<String> {
    let slots = o.member(node).map(|m| m.slots.clone())?;
    let replica = o.replicas_of(node).find(|r| o.view_of(r.id).is_some());
    let instead = replica.map_or_else(
        || format!("if it is gone for good, give up what it held: shardwright fix {target} --accept-data-loss"),
        |r| format!("or put its replica in its place: shardwright failover {target} {} --force", r.id.short()),
    );
    let count = slots.count();
    (count > 0).then(|| {
        format!("it owns {count} slots and does not answer, so they can't be moved; start it again; {instead}")
    })
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
