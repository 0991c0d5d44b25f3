//! What another shape of a local cluster would take: the new servers, and the slots that move.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use shardwright_manifest::{Cluster, RedisCluster};
use shardwright_planner::balance::{Owned, even};
use shardwright_planner::{Budget, too_many};
use shardwright_runtime::{Keeper, Links};
use shardwright_runtime_local::Local;
use shardwright_topology::{Address, NodeId, Observed, ServerName};

use super::change;
use crate::cli::Pace;
use crate::connect::Purpose;
use crate::exit::ExitStatus;
use crate::moves::{Move, Sum};
use crate::printer::Printer;
use crate::report::print_plan;

/// Another shape, as a person asks for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reshape {
    pub(crate) shards: Option<u32>,
    pub(crate) replicas: Option<u32>,
}

impl Reshape {
    /// Whether it asks for anything.
    pub(super) fn is_some(self) -> bool {
        self.shards.is_some() || self.replicas.is_some()
    }

    /// Writes it into a document.
    pub(super) fn apply(self, document: &mut RedisCluster) {
        if let Some(shards) = self.shards {
            document.spec.shards = shards;
        }
        if let Some(replicas) = self.replicas {
            document.spec.replicas_per_shard = replicas;
        }
    }

    /// The stored cluster in this shape.
    pub(super) fn of_stored(self, dir: &Path) -> anyhow::Result<Cluster> {
        let path = dir.join("manifest.yaml");
        let text = super::up::read_manifest(&path)?;
        let accepted = Cluster::from_text_with(&text, |document| self.apply(document));
        Ok(accepted
            .with_context(|| format!("{} can't be used", path.display()))?
            .cluster)
    }
}

#[derive(Serialize)]
struct PreviewJson {
    new_servers: Vec<NewServer>,
    moves: Vec<Move>,
    /// What all moves amount to; `null` where nothing moves.
    moves_sum: Option<Sum>,
}

#[derive(Serialize)]
struct NewServer {
    name: String,
    /// `null`: it gets one when it is made.
    address: Option<String>,
}

/// Prints what would be done to bring the cluster in this directory into this shape.
pub(super) async fn preview(
    dir: &Path,
    cluster: &Cluster,
    pace: Option<&Pace>,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let local = Local::open(dir)?;
    let added = local.to_add(cluster)?;
    let links = Links::new(local.access(), None);
    let limits = Purpose::Read.limits(cluster.limits());
    let mut keeper = Keeper::new(local, links, cluster.desired(), limits);
    if let Some(pace) = pace {
        change::keep_pace(&mut keeper, pace);
    }
    let mut report = keeper.look().await?;
    let wanted = if added.is_empty() {
        Move::wanted(&report.plan)
    } else {
        let owners = report.observed.voters();
        owners.map(|m| (m.id, m.slots.clone())).collect()
    };
    keeper.measure(&wanted, &mut report.observed).await;
    let budget = keeper.links().budget();
    if added.is_empty() {
        let consent = keeper.desired().consent;
        let leaving = too_many(keeper.desired(), &report.observed);
        print_plan(&report.plan, &report.observed, &budget, consent, out)?;
        print_leaving(&leaving, out)?;
    } else {
        let at = |(name, address): (String, Address)| (name, Some(address));
        let added: Vec<_> = added.into_iter().map(at).collect();
        print_growth(cluster, &report.observed, &added, &budget, out)?;
    }
    Ok(ExitStatus::Success)
}

/// Names all servers that go in the end: the plan has only what is done first.
fn print_leaving(servers: &[ServerName], out: &mut Printer) -> anyhow::Result<()> {
    let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
    if out.is_json() {
        return out.record.put("servers_removed", &names);
    }
    if names.is_empty() {
        return Ok(());
    }
    out.text(&format!(
        "In the end these servers and their directories are gone: {}; each goes once others have what it holds",
        names.join(", ")
    ))
}

/// Prints what it takes to come to this shape with these servers more, by name and address.
pub(crate) fn print_growth(
    cluster: &Cluster,
    o: &Observed,
    added: &[(String, Option<Address>)],
    budget: &Budget,
    out: &mut Printer,
) -> anyhow::Result<()> {
    let moves = to_new_shards(cluster, o);
    let sum = Sum::of(&moves, budget);
    if out.is_json() {
        let server = |(name, address): &(String, Option<Address>)| NewServer {
            name: name.clone(),
            address: address.as_ref().map(ToString::to_string),
        };
        return out.record.put_fields(&PreviewJson {
            new_servers: added.iter().map(server).collect(),
            moves,
            moves_sum: sum,
        });
    }
    for (name, address) in added {
        let at = address
            .as_ref()
            .map_or_else(String::new, |address| format!(" at {address}"));
        out.text(&format!("start the new server {name}{at}"))?;
    }
    let (shards, replicas) = (cluster.shards(), cluster.replicas_per_shard());
    out.text(&format!(
        "so that there are {shards} shards with {replicas} replica(s) each; a new shard has its replicas before slots"
    ))?;
    for (i, what) in moves.iter().enumerate() {
        out.text(&format!("{:>3}. {}", i + 1, what.line()))?;
        out.text(&format!("     {}", what.amount()))?;
    }
    if let Some(sum) = sum {
        out.text(&sum.line())?;
    }
    if !o.uncovered().is_empty() {
        out.text("Not all slots are served now: what moves is seen once they are.")?;
    }
    Ok(())
}

/// The moves to shards that are not there yet. Which server becomes which is decided when they are.
fn to_new_shards(cluster: &Cluster, o: &Observed) -> Vec<Move> {
    let owned: Owned = o.voters().map(|m| (m.id, m.slots.clone())).collect();
    let shards = usize::try_from(cluster.shards()).unwrap_or(usize::MAX);
    let fresh: BTreeSet<NodeId> = (owned.len()..shards).map(stand_in).collect();
    if owned.is_empty() || !o.uncovered().is_empty() || shards < owned.len() {
        return Vec::new();
    }
    let stay: BTreeSet<NodeId> = owned.keys().copied().chain(fresh.iter().copied()).collect();
    let moves = even(&owned, &stay, &BTreeMap::new());
    let told = moves.iter().map(|t| {
        let to = (!fresh.contains(&t.to)).then_some(t.to);
        Move::of(o, t.from, to, &t.slots)
    });
    told.collect()
}

/// An id for a node that is not there yet: after those that are.
fn stand_in(index: usize) -> NodeId {
    let mut bytes = [0xff_u8; 20];
    let low = u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes();
    bytes[18..].copy_from_slice(&low);
    NodeId::from_bytes(bytes)
}
