//! Our way: one document and the operator.

use std::time::Duration;

use serde_json::json;
use shardwright_e2e::error::ensure;
use shardwright_e2e::measure::{Going, gap, restart_all};
use shardwright_e2e::servers::Cluster;
use shardwright_e2e::table::{median, time};
use shardwright_e2e::wait::{pass, until};
use shardwright_e2e::world::document;
use shardwright_e2e::{Error, Result, World};

use crate::by_hand::NEVER;

const EXAMPLE: &str = include_str!("../../../../../examples/article.yaml");
const COUNT: usize = 6;
/// Kills, shard after shard.
const KILLS: usize = 10;
/// Deletions and evictions.
const GOINGS: usize = 3;
/// After a change: until the operator has nothing to do, and has given back what it needed.
const REST: Duration = Duration::from_secs(10);

pub(crate) async fn run(world: &World) -> Result<()> {
    world.open().await?;
    let mut manifest = document(EXAMPLE)?;
    manifest["metadata"]["namespace"] = world.namespace.as_str().into();
    // The server of the way by hand.
    manifest["spec"]["engine"] = "redis".into();
    manifest["spec"]["image"] = "redis:7.0.0-alpine".into();
    let (cluster, ready) = world.up(&manifest).await?;
    world.took("apply → Ready", ready, "≤ 15 s, ≤ 1/2 of by hand");
    let (shards, whole) = cluster.until_agreed(COUNT, NEVER).await?;
    world.took("apply → cluster whole and in sync", ready + whole, "");
    let together = shards
        .iter()
        .filter(|s| s.replicas.iter().any(|r| r.host == s.primary.host))
        .count();
    world.note(
        "shards with primary and replica on one Kubernetes node",
        together.to_string(),
        "0",
    );
    memory_at(world, 1).await?;
    if world.machine.is_some() {
        gaps(world, &cluster, Going::Killed, KILLS, "≤ 700 ms").await?;
    }
    gaps(world, &cluster, Going::Deleted, GOINGS, "≤ 300 ms").await?;
    gaps(world, &cluster, Going::Evicted, GOINGS, "≤ 300 ms").await?;
    cluster.until_agreed(COUNT, NEVER).await?;
    let restarted = restart_all(&cluster, COUNT, None, NEVER).await?;
    world.took(
        "all pods deleted → last port answers",
        restarted.answering,
        "",
    );
    world.took("last port answers → ok", restarted.ok?, "≤ 4 s");
    Ok(())
}

async fn gaps(
    world: &World,
    cluster: &Cluster,
    going: Going,
    rounds: usize,
    goal: &str,
) -> Result<()> {
    let (mut gaps, mut lost) = (Vec::new(), 0);
    for round in 0..rounds {
        let (shards, _) = cluster.until_agreed(COUNT, NEVER).await?;
        let shard = shards.get(round % shards.len().max(1));
        let shard = shard.ok_or_else(|| Error::Wrong("a cluster without shards".to_owned()))?;
        let writer = world.writer(cluster, "worker").await?;
        let written = gap(world, cluster, shard, going, writer, NEVER).await?;
        lost += written.lost.len();
        gaps.push(written.gap);
        let pod = shard.primary.clone();
        if going != Going::Killed {
            until(&format!("{} is made anew", pod.name), NEVER, || async {
                let now = cluster.pods().await?;
                let new = now.iter().any(|p| p.name == pod.name && p.uid != pod.uid);
                Ok(if new {
                    Ok(())
                } else {
                    Err("not yet".to_owned())
                })
            })
            .await?;
        }
    }
    let all: Vec<_> = gaps.iter().map(|gap| time(*gap)).collect();
    let what = format!("primary's {going:?}: longest time without writes").to_lowercase();
    let middle = median(&gaps).map_or("-".to_owned(), time);
    world.note(
        &format!("{what}, median of {rounds}"),
        format!("{middle} (lost {lost}: {})", all.join(", ")),
        goal,
    );
    Ok(())
}

/// The operator's memory with one cluster after the other: three shards without replicas each.
pub(crate) async fn memory(world: &World, clusters: usize) -> Result<()> {
    world.open().await?;
    let first = memory_at(world, 0).await?;
    let mut last = first;
    for count in 1..=clusters {
        let name = format!("m{count}");
        let spec = json!({"engine": "redis", "image": "redis:7.0.0-alpine", "resources": {"requests": {"memory": "8M", "cpu": "1m"}}});
        world.up(&world.manifest(&name, 3, 0, spec)).await?;
        if count == 1 || count == clusters || count % 5 == 0 {
            last = memory_at(world, count).await?;
        }
    }
    ensure(clusters > 0, || "no clusters to measure with".to_owned())?;
    if let (Some(first), Some(last)) = (first, last) {
        let divisor = u64::try_from(clusters).unwrap_or(1);
        let each = last.saturating_sub(first) / divisor;
        world.note(
            &format!("operator's memory for each of {clusters} clusters of 3 pods"),
            format!("{} KiB", each / 1024),
            "",
        );
    }
    Ok(())
}

async fn memory_at(world: &World, clusters: usize) -> Result<Option<u64>> {
    let Some(machine) = world.machine else {
        world.note(
            "operator's memory",
            "not measured: the machine is elsewhere",
            "",
        );
        return Ok(None);
    };
    pass(REST).await;
    let bytes = world.operator()?.resident_bytes(machine).await?;
    let goal = if clusters == 1 { "≤ 20 MiB" } else { "" };
    world.note(
        &format!("operator's memory (RSS) at {clusters} clusters"),
        format!("{}.{} MiB", bytes >> 20, ((bytes % (1 << 20)) * 10) >> 20),
        goal,
    );
    Ok(Some(bytes))
}
