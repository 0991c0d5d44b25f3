//! `create`: form a cluster from running empty nodes.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde::Serialize;
use shardwright_engine::{Client, Endpoint, Error};
use shardwright_planner::{Action, Desired, Pairing, Request, Shape, Standing, pair, standings};
use shardwright_runtime::{Guest, Report};
use shardwright_topology::{
    Address, EngineKind, Member, NodeId, NodeView, Observed, Place, Role, ServerName, SlotSet,
    Version,
};

use super::change;
use crate::cli::{Create, Login};
use crate::connect::{AnyKeeper, Purpose, be_alone, guest_keeper};
use crate::exit::{ExitStatus, Refusal, UsageError};
use crate::printer::Printer;
use crate::requests::Control;
use crate::stop::{Interrupted, stop};

pub(super) async fn run(
    args: Create,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    if args.nodes.iter().any(|text| text.starts_with("k8s:")) {
        let text = "nodes are named by HOST:PORT; on Kubernetes a cluster is made by its object: kubectl apply -f FILE";
        return Err(UsageError(text.to_owned()).into());
    }
    let endpoints: Vec<Endpoint> = args
        .nodes
        .iter()
        .map(|text| text.parse().map_err(|e| UsageError(format!("{e}"))))
        .collect::<Result<_, _>>()?;
    let shards = shards(endpoints.len(), args.replicas)?;
    let (guest, order) = Guest::only(&endpoints)
        .await
        .map_err(|e| UsageError(e.to_string()))?;
    let purpose = if args.run.dry_run {
        Purpose::Read
    } else {
        Purpose::Change
    };
    let mut keeper = guest_keeper(guest, login, purpose, out)?;
    let request = Request::Form {
        order: order.clone(),
    };
    let shape = Shape::Declared {
        shards,
        replicas_per_shard: args.replicas,
    };
    keeper.set_desired(Desired {
        shape,
        ..Desired::guest().with(request)
    });

    let report = keeper.look().await?;
    let is_formed = formed(&report.observed, &order);
    if args.unless_formed && is_formed {
        out.done("[OK] these nodes are one cluster already; nothing was changed");
        return Ok(ExitStatus::Success);
    }
    if is_formed {
        must_be_empty(&report.observed, &args.nodes)?;
    }
    if args.unless_formed && acquainted(&report.observed, &order) {
        return reunite(&mut keeper, &report.observed, &args, out).await;
    }
    all_usable(&keeper, &report.observed, &order, &endpoints).await?;
    if args.replicas > 0 {
        must_read_each_other(&report.observed)?;
    }
    warn_of_versions(&report.observed, out);
    if let Some(end) = show(&report, &order, &args, is_formed, out)? {
        return Ok(end);
    }
    be_alone(&mut keeper, &report.observed).await?;
    let stop = stop()?;
    let before = hurry(&keeper, &report.observed, out).await;
    let nodes = endpoints.len();
    let done = format!("[OK] {nodes} nodes agree; every slot is covered; every link is up");
    let mut signals = Control::signals();
    let end = tokio::select! {
        biased;
        end = change::carry_out(&mut keeper, args.run.timeout, &done, &mut signals, out) => Some(end),
        () = stop => None,
    };
    restore(&keeper, &before, out).await;
    end.unwrap_or_else(|| {
        let text = "stopped half-way; the same command goes on where this one ended";
        Err(Interrupted(text.to_owned()).into())
    })
}

/// Shows what will be set, and asks whether it may be; the exit status where that is all.
fn show(
    report: &Report,
    order: &[ServerName],
    args: &Create,
    is_formed: bool,
    out: &mut Printer,
) -> anyhow::Result<Option<ExitStatus>> {
    if is_formed {
        out.say("These nodes are one cluster already.");
    } else {
        let preview = Preview::of(&report.plan, &report.observed, order, args.replicas);
        preview.print(&report.observed, out)?;
    }
    if args.run.dry_run {
        return Ok(Some(ExitStatus::Success));
    }
    if !is_formed && !args.yes && !out.confirm("Can I set the above configuration?")? {
        out.declined("Nothing was changed.");
        return Ok(Some(ExitStatus::Failure));
    }
    Ok(None)
}

/// How many shards these nodes make.
fn shards(nodes: usize, replicas: u16) -> Result<u16, UsageError> {
    let per_shard = usize::from(replicas) + 1;
    let shards = nodes / per_shard;
    if shards < 3 {
        let need = 3 * per_shard;
        return Err(UsageError(format!(
            "a cluster needs 3 primaries at least, and {nodes} nodes with {replicas} replica(s) each make {shards}; give {need} nodes or more"
        )));
    }
    if !nodes.is_multiple_of(per_shard) {
        let over = nodes % per_shard;
        return Err(UsageError(format!(
            "{nodes} nodes do not divide into shards of 1 primary and {replicas} replica(s): {over} would be left over"
        )));
    }
    u16::try_from(shards).map_err(|_| {
        UsageError(format!(
            "{shards} shards are more than a cluster can have (16384)"
        ))
    })
}

/// These nodes, all of them and no others, are one cluster that serves every slot: they agree, and
/// none stands aside.
fn formed(o: &Observed, order: &[ServerName]) -> bool {
    let ids: Option<BTreeSet<NodeId>> = order
        .iter()
        .map(|name| o.servers().get(name)?.id())
        .collect();
    let members = o.members().keys().copied().collect();
    let at_work = |m: &Member| m.role == Role::Replica || !m.slots.is_empty();
    ids.is_some_and(|ids| ids == members && o.islands() == [ids])
        && o.uncovered().is_empty()
        && o.contested().is_empty()
        && o.disagreements().is_empty()
        && o.members().values().all(at_work)
}

/// A cluster that holds no key may have been made by this command, which then ends what it began. Any other is in use,
/// and its layout is what it is.
fn must_be_empty(o: &Observed, nodes: &[String]) -> Result<(), Refusal> {
    let keys: u64 = o.views().map(|(_, view)| view.server.keys).sum();
    if keys == 0 {
        return Ok(());
    }
    let node = nodes.first().map_or("HOST:PORT", String::as_str);
    Err(Refusal(format!(
        "these nodes are one cluster already, which holds keys; nothing was changed\n  see it: shardwright status {node}\n  in scripts: --unless-formed ends with 0 here"
    )))
}

/// These nodes know one another already, though perhaps not where: they were one cluster.
fn acquainted(o: &Observed, order: &[ServerName]) -> bool {
    let ids: Option<BTreeSet<NodeId>> = order
        .iter()
        .map(|name| o.servers().get(name)?.id())
        .collect();
    let knows = |view: &NodeView, id: NodeId| id == view.id || view.rows.get(id).is_some();
    ids.is_some_and(|ids| {
        ids.len() == order.len()
            && o.views()
                .all(|(_, view)| ids.iter().all(|id| knows(view, *id)))
    })
}

/// Brings nodes that were one cluster together again, as after all of them got new addresses at once.
async fn reunite(
    keeper: &mut AnyKeeper,
    observed: &Observed,
    args: &Create,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    keeper.set_desired(Desired::guest());
    if args.run.dry_run {
        return change::dry_run(keeper, out).await;
    }
    be_alone(keeper, observed).await?;
    out.say("These nodes are one cluster already, and not all see each other.");
    let done = "[OK] all is done that can be done";
    change::carry_out(keeper, args.run.timeout, done, &mut Control::signals(), out).await
}

/// Every node answers, is in cluster mode, is empty, and is there once.
async fn all_usable(
    keeper: &AnyKeeper,
    o: &Observed,
    order: &[ServerName],
    endpoints: &[Endpoint],
) -> anyhow::Result<()> {
    let mut unheard = Vec::new();
    for (name, endpoint) in order.iter().zip(endpoints) {
        if o.servers()
            .get(name)
            .is_some_and(|s| s.view.known().is_none())
            && let Err(error) = ask(keeper, endpoint).await
        {
            unheard.push(error);
        }
    }
    if let [one] = unheard.as_slice() {
        return Err(one.clone().into());
    }
    if !unheard.is_empty() {
        let texts: Vec<String> = unheard.iter().map(ToString::to_string).collect();
        anyhow::bail!(
            "{} nodes can't be used:\n  {}",
            texts.len(),
            texts.join("\n  ")
        );
    }
    if let Some(two) = o.duplicates().first() {
        let (first, second) = (&two.first.at, &two.second.at);
        let text = if two.is_one_process() {
            let id = two.node.short();
            format!("{first} and {second} are the same node ({id}); give each node once")
        } else {
            format!("{two}: a disk was copied; stop one of them and remove its nodes.conf")
        };
        return Err(UsageError(text).into());
    }
    let standings = standings(keeper.desired(), o);
    let foreign: Vec<String> = standings
        .iter()
        .filter_map(|(name, standing)| match standing {
            Standing::Foreign(what) => Some(format!("{name}: {what}")),
            Standing::Member | Standing::MayJoin | Standing::Leaving | Standing::Unheard => None,
        })
        .collect();
    if !foreign.is_empty() {
        let text = "not every node is empty; leave it out or, if nobody needs what it holds, empty it first (FLUSHALL, CLUSTER RESET HARD):";
        return Err(Refusal(format!("{text}\n  {}", foreign.join("\n  "))).into());
    }
    Ok(())
}

async fn ask(keeper: &AnyKeeper, endpoint: &Endpoint) -> Result<(), Error> {
    Client::connect(endpoint, keeper.links().access())
        .await?
        .observe()
        .await?;
    Ok(())
}

/// Any of them may become the replica of any other, now or later.
fn must_read_each_other(o: &Observed) -> Result<(), Refusal> {
    let servers = || o.views().map(|(server, view)| (&server.name, &view.server));
    let mut pairs = servers().flat_map(|reader| servers().map(move |writer| (reader, writer)));
    let cannot = pairs.find(|((_, reads), (_, writes))| !reads.reads(writes));
    let Some(((older, reads), (newer, writes))) = cannot else {
        return Ok(());
    };
    Err(Refusal(format!(
        "{older} runs {} {}, which can't read all that {newer} ({} {}) writes: as its replica its copy would fail, or lack what it does not know; \
         bring all nodes to one version, or form it without replicas",
        reads.engine, reads.version, writes.engine, writes.version
    )))
}

fn warn_of_versions(o: &Observed, out: &mut Printer) {
    let versions: BTreeSet<(EngineKind, Version)> = o
        .views()
        .map(|(_, v)| (v.server.engine, v.server.version))
        .collect();
    let majors: BTreeSet<_> = versions.iter().map(|(kind, v)| (*kind, v.major)).collect();
    if majors.len() > 1 {
        let names: Vec<String> = versions
            .iter()
            .map(|(kind, v)| format!("{kind} {v}"))
            .collect();
        out.warn(&format!(
            "the nodes are of several major versions: {}",
            names.join(", ")
        ));
    }
}

#[derive(Serialize)]
struct ShardJson {
    slots: String,
    primary: NodeJson,
    replicas: Vec<NodeJson>,
}

#[derive(Serialize)]
struct NodeJson {
    id: String,
    address: String,
}

/// What is going to be set, the way redis-cli shows it.
struct Preview {
    primaries: Vec<(NodeId, SlotSet)>,
    pairing: Pairing,
}

impl Preview {
    fn of(
        plan: &shardwright_planner::Plan,
        o: &Observed,
        order: &[ServerName],
        replicas: u16,
    ) -> Self {
        let mut primaries: Vec<(NodeId, SlotSet)> =
            o.voters().map(|m| (m.id, m.slots.clone())).collect();
        primaries.extend(plan.steps.iter().filter_map(|s| match &s.action {
            Action::AddSlots { node, slots } => Some((*node, slots.clone())),
            _ => None,
        }));
        primaries.sort_by(|a, b| a.1.cmp(&b.1));
        // Of a node at no server of ours, neither host nor zone is known: that is the default place.
        let place = |id| {
            o.server_of(id)
                .map_or_else(Place::default, |s| s.place.clone())
        };
        let seats: Vec<(NodeId, Place)> =
            primaries.iter().map(|(id, _)| (*id, place(*id))).collect();
        let free: Vec<(NodeId, Place)> = order
            .iter()
            .filter_map(|name| o.servers().get(name)?.id())
            .filter(|id| primaries.iter().all(|(p, _)| p != id))
            .map(|id| (id, place(id)))
            .collect();
        Self {
            primaries,
            pairing: pair(&seats, &free, replicas),
        }
    }

    fn print(&self, o: &Observed, out: &mut Printer) -> anyhow::Result<()> {
        let at = |id: NodeId| {
            o.member(id)
                .map_or_else(|| id.short(), |m| m.address.to_string())
        };
        if out.is_json() {
            let primaries = self.primaries.iter();
            let shards = primaries.map(|(id, slots)| {
                let replicas = self.pairing.pairs.iter().filter(|(_, of)| of == id);
                ShardJson {
                    slots: slots.listed(),
                    primary: NodeJson {
                        id: id.to_string(),
                        address: at(*id),
                    },
                    replicas: replicas
                        .map(|(r, _)| NodeJson {
                            id: r.to_string(),
                            address: at(*r),
                        })
                        .collect(),
                }
            });
            return out.record.put("shards", &shards.collect::<Vec<_>>());
        }
        for (i, (_, slots)) in self.primaries.iter().enumerate() {
            out.text(&format!("Primary[{i}] -> slots {slots}"))?;
        }
        for (replica, primary) in &self.pairing.pairs {
            out.text(&format!(
                "Adding replica {} to {}",
                at(*replica),
                at(*primary)
            ))?;
        }
        for (id, slots) in &self.primaries {
            out.text(&format!(
                "P: {id} {}\n   slots:{} slots",
                at(*id),
                slots.counted()
            ))?;
        }
        for (replica, primary) in &self.pairing.pairs {
            out.text(&format!(
                "R: {replica} {}\n   replicates {primary}",
                at(*replica)
            ))?;
        }
        let pairs = self.pairing.unspread.len();
        if pairs > 0 {
            out.warn(&format!(
                "{pairs} replica(s) share a host with their primary, for there is no other choice: \
                 if that host is lost, so are those slots"
            ));
        }
        Ok(())
    }
}

/// What waits for time to pass while a cluster is formed, with the value that ends the wait.
///
/// * New replicas wait for company before their first copy (5 s by default); here all come at once.
/// * A primary that gets slots does not serve before node-timeout has passed (500 ms at least, 5 s at most): a wait
///   that keeps a returning primary from taking writes. There is nothing to return to here.
const WAITS: [(&str, &str); 2] = [
    ("repl-diskless-sync-delay", "0"),
    ("cluster-node-timeout", "500"),
];

/// A setting as it was before, at one server.
struct Before {
    server: ServerName,
    address: Address,
    setting: &'static str,
    quick: &'static str,
    value: String,
}

/// Ends those waits while the cluster is formed. Returns what was set before, to be set again.
async fn hurry(keeper: &AnyKeeper, o: &Observed, out: &mut Printer) -> Vec<Before> {
    let each = o.views().map(|(server, _)| async move {
        let mut before = Vec::new();
        let done = match server.address.known() {
            Some(address) => hurry_one(keeper, &server.name, address, &mut before).await,
            None => Ok(()), // not one that was given: its settings are left alone
        };
        (before, done.err().map(|error| (&server.name, error)))
    });
    let (before, slow): (Vec<_>, Vec<_>) = join_all(each).await.into_iter().unzip();
    let slow: Vec<_> = slow.into_iter().flatten().collect();
    if let [(_, error), ..] = slow.as_slice() {
        let names: Vec<String> = slow.iter().map(|(name, _)| name.to_string()).collect();
        let settings = WAITS.map(|(setting, _)| setting).join(" and ");
        out.warn(&format!(
            "forming takes some seconds longer, for {settings} cannot be lowered meanwhile at {}: {error}",
            names.join(", ")
        ));
    }
    before.into_iter().flatten().collect()
}

async fn hurry_one(
    keeper: &AnyKeeper,
    server: &ServerName,
    address: &Address,
    before: &mut Vec<Before>,
) -> Result<(), Error> {
    let client = keeper.links().client(server, address).await?;
    for (setting, quick) in WAITS {
        let found = client.config_get(setting).await?;
        let Some((_, value)) = found.into_iter().next().filter(|(_, value)| value != quick) else {
            continue;
        };
        let set = client.config_set(&[(setting, quick)]).await;
        // Where the answer was lost it may be set all the same.
        if matches!(
            set,
            Ok(()) | Err(Error::Closed { .. } | Error::TimedOut { .. })
        ) {
            before.push(Before {
                server: server.clone(),
                address: address.clone(),
                setting,
                quick,
                value,
            });
        }
        set?;
    }
    Ok(())
}

async fn restore(keeper: &AnyKeeper, before: &[Before], out: &mut Printer) {
    let each = before.iter().map(|b| async move {
        let result = match keeper.links().client(&b.server, &b.address).await {
            Ok(client) => client.config_set(&[(b.setting, &b.value)]).await,
            Err(error) => Err(error),
        };
        result.err().map(|error| (b, error))
    });
    for (b, error) in join_all(each).await.into_iter().flatten() {
        out.warn(&format!(
            "{} of {} may still be {} instead of {} ({error}); set it back: redis-cli -h {} -p {} CONFIG SET {} {}",
            b.setting, b.server, b.quick, b.value, b.address.host, b.address.port, b.setting, b.value
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::shards;

    #[test]
    fn nodes_divide_into_three_shards_or_more() {
        assert_eq!(shards(6, 1).expect("it divides"), 3);
        assert_eq!(shards(3, 0).expect("it divides"), 3);
        assert_eq!(shards(12, 2).expect("it divides"), 4);
        for (nodes, replicas, says) in [
            (5, 1, "3 primaries"),
            (7, 1, "left over"),
            (2, 0, "3 primaries"),
        ] {
            let error = shards(nodes, replicas).expect_err("it is refused");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
