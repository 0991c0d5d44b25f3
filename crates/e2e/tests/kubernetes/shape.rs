//! Shards that come and go while clients write.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shardwright_e2e::error::ensure;
use shardwright_e2e::kube_api::text;
use shardwright_e2e::operator::run_program;
use shardwright_e2e::servers::{Cluster, Shard, View};
use shardwright_e2e::wait::{pass, stays, until};
use shardwright_e2e::world::{condition_of, status_line};
use shardwright_e2e::{Error, Kind, Result, World};

use crate::failures::{WHOLE, shard_at, small};

/// Pods on this machine, their first copies, and the slots of few keys: a minute when nothing else runs. This says when
/// to give up, not how fast it should be: the table has the times.
pub(crate) const RESHAPED: Duration = Duration::from_secs(400);
/// The operator killed so often while a cluster takes another shape.
const KILLS: u32 = 20;

/// As `kubectl scale rediscluster small --replicas=N` does it.
async fn scale(world: &World, shards: u32) -> Result<()> {
    world
        .kube
        .scale(Kind::CLUSTER, &world.namespace, "small", shards)
        .await
}

async fn object(world: &World) -> Result<Value> {
    world
        .kube
        .must(Kind::CLUSTER, &world.namespace, "small")
        .await
}

/// Waits until the operator says that the cluster has so many shards as it is declared to have.
async fn until_settled(world: &World, shards: u64) -> Result<Duration> {
    let ((), took) = until(&format!("{shards} shards, settled"), RESHAPED, || async {
        let object = object(world).await?;
        let fresh =
            object.pointer("/status/observedGeneration") == object.pointer("/metadata/generation");
        let settled = object.pointer("/status/settledShape/shards") == Some(&json!(shards));
        let rest =
            condition_of(&object, "Progressing").is_some_and(|c| text(c, "/reason") == "AtRest");
        Ok(if fresh && settled && rest {
            Ok(())
        } else {
            Err(status_line(&object))
        })
    })
    .await?;
    Ok(took)
}

/// Waits until more than three servers have slots.
async fn until_moving(cluster: &Cluster) -> Result<()> {
    until("a new shard has slots", RESHAPED, || async {
        let views = cluster.views().await?;
        let owns = |view: &View| view.rows.myself().is_some_and(|own| !own.slots.is_empty());
        let owners = views.into_iter().flatten().filter(owns).count();
        Ok(if owners > 3 {
            Ok(())
        } else {
            Err(format!("{owners} servers have slots"))
        })
    })
    .await?;
    Ok(())
}

/// Runs our program to its end, while others go on.
fn verb(args: &[&str]) -> Result<String> {
    tokio::task::block_in_place(|| run_program(args))
}

/// The shards are these many, all about even, each with its replica, and no pod or volume is left over.
pub(crate) async fn exactly(world: &World, cluster: &Cluster, shards: usize) -> Result<Vec<Shard>> {
    let pods = shards * 2;
    let (found, _) = cluster.until_agreed(pods, RESHAPED).await?;
    ensure(found.len() == shards, || {
        format!("{} primaries, not {shards}", found.len())
    })?;
    for shard in &found {
        let slots: u32 = shard.slots.iter().map(|(a, b)| u32::from(b - a) + 1).sum();
        let even = 16_384 / u32::try_from(shards).unwrap_or(u32::MAX);
        ensure(slots.abs_diff(even) <= 1, || {
            format!("{} has {slots} slots", shard.primary.name)
        })?;
        ensure(shard.replicas.len() == 1, || {
            format!(
                "{} has {} replicas",
                shard.primary.name,
                shard.replicas.len()
            )
        })?;
    }
    until("no volume is left over", RESHAPED, || async {
        let claims = world.kube.list(Kind::CLAIM, &world.namespace, "").await?;
        Ok(if claims.len() == pods {
            Ok(())
        } else {
            Err(format!("{} claims", claims.len()))
        })
    })
    .await?;
    Ok(found)
}

/// Three shards become five and three again; every acknowledged write is there.
pub(crate) async fn scaled(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    grow_and_shrink(&world, &cluster).await
}

/// The same on Valkey 9, which moves slots by itself.
pub(crate) async fn scaled_by_valkey(world: World) -> Result<()> {
    // No image: the usual one, of which it is known what its servers may do at each other.
    let (cluster, took) = world
        .up(&world.manifest("small", 3, 1, json!({"engine": "valkey"})))
        .await?;
    world.took("apply → Ready", took, "");
    grow_and_shrink(&world, &cluster).await?;
    let mut jobs = 0;
    for address in cluster.addresses().await? {
        let words = ["CLUSTER", "GETSLOTMIGRATIONS"];
        let told: Vec<redis::Value> = cluster.ask(&address, &words).await?;
        jobs += told.len();
    }
    ensure(jobs > 0, || {
        "no server knows of a move of its own".to_owned()
    })?;
    world.note("moves that the engine made", jobs.to_string(), "> 0");
    let log = world.operator()?.log().await;
    let refused = log.lines().find(|line| line.contains("goes on key by key"));
    ensure(refused.is_none(), || {
        format!(
            "the engine's own move was refused: {}",
            refused.unwrap_or("")
        )
    })
}

async fn grow_and_shrink(world: &World, cluster: &Cluster) -> Result<()> {
    let writer = world.writer(cluster, "app").await?;
    scale(world, 5).await?;
    let took = until_settled(world, 5).await?;
    world.took("3 → 5 shards under load", took, "");
    exactly(world, cluster, 5).await?;
    writer.until_more(100, WHOLE).await?;
    scale(world, 3).await?;
    let took = until_settled(world, 3).await?;
    world.took("5 → 3 shards under load", took, "");
    exactly(world, cluster, 3).await?;
    writer.until_more(100, WHOLE).await?;
    let written = writer.end(cluster).await?;
    world.took("3 → 5 → 3: gap", written.gap, "");
    world.note(
        "3 → 5 → 3: writes",
        format!("{}, lost {}", written.acked, written.lost.len()),
        "0 lost",
    );
    written.nothing_lost()
}

/// Five shards are declared, and three again in the middle: no empty shard is left.
pub(crate) async fn scaled_and_reverted(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let writer = world.writer(&cluster, "app").await?;
    scale(&world, 5).await?;
    until_moving(&cluster).await?;
    scale(&world, 3).await?;
    let took = until_settled(&world, 3).await?;
    world.took("taken back half-way: settled after", took, "");
    exactly(&world, &cluster, 3).await?;
    let written = writer.end(&cluster).await?;
    written.nothing_lost()
}

/// Roles are scattered by failovers first: which pods have primaries says nothing about which shards go.
pub(crate) async fn scaled_scattered(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let writer = world.writer(&cluster, "app").await?;
    scale(&world, 5).await?;
    until_settled(&world, 5).await?;
    let shards = exactly(&world, &cluster, 5).await?;
    let target = format!("k8s:{}/small", world.namespace);
    for at in [0, 2, 4] {
        let replica = shard_at(&shards, at)?.replicas.first().cloned();
        let replica =
            replica.ok_or_else(|| Error::Wrong("a shard without a replica".to_owned()))?;
        verb(&["failover", &target, &replica.name])?;
    }
    scale(&world, 3).await?;
    let took = until_settled(&world, 3).await?;
    world.took("5 → 3 shards, roles scattered", took, "");
    exactly(&world, &cluster, 3).await?;
    writer.end(&cluster).await?.nothing_lost()
}

/// The operator killed again and again while it scales.
pub(crate) async fn scaled_operator_killed(world: World) -> Result<()> {
    let operator = world.operator()?;
    let cluster = small(&world, json!({})).await?;
    let writer = world.writer(&cluster, "app").await?;
    let start = Instant::now();
    scale(&world, 5).await?;
    for kill in 0..KILLS {
        until("the operator's process runs", RESHAPED, || async {
            let pods = operator.pods().await?;
            let runs = pods.iter().any(|pod| {
                pod.pointer("/status/containerStatuses/0/state/running")
                    .is_some()
            });
            Ok(if runs {
                Ok(())
            } else {
                Err("it is away".to_owned())
            })
        })
        .await?;
        // Spread over what a pass takes, by a rule that repeats.
        pass(Duration::from_millis(u64::from(kill * 7 % 20) * 150)).await;
        operator.kill(None).await?;
        // Where it was done in time, it begins anew: back, and forth again.
        let shape = object(&world).await?;
        let at = shape.pointer("/status/settledShape/shards").cloned();
        if at == Some(json!(5)) && shape.pointer("/spec/shards") == Some(&json!(5)) {
            scale(&world, 3).await?;
        } else if at == Some(json!(3)) && shape.pointer("/spec/shards") == Some(&json!(3)) {
            scale(&world, 5).await?;
        }
    }
    operator.until_running().await?;
    scale(&world, 3).await?;
    until_settled(&world, 3).await?;
    world.took(
        &format!("operator killed {KILLS} times while it scales: settled"),
        start.elapsed(),
        "",
    );
    exactly(&world, &cluster, 3).await?;
    writer.end(&cluster).await?.nothing_lost()
}

/// Moves are paused, go on, and are cancelled; `scale` of the command line declares and waits.
pub(crate) async fn paused_and_cancelled(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let writer = world.writer(&cluster, "app").await?;
    let target = format!("k8s:{}/small", world.namespace);
    verb(&["pause", &target])?;
    verb(&["scale", &target, "--shards", "4", "--no-wait"])?;
    let paused = || async {
        let object = object(&world).await?;
        let so = condition_of(&object, "Progressing").is_some_and(|c| {
            text(c, "/reason") == "MovesPaused"
                && text(c, "/message").contains("4096 of 4096 slots are left")
        });
        Ok(if so {
            Ok(())
        } else {
            Err(status_line(&object))
        })
    };
    until("moves are paused", RESHAPED, paused).await?;
    stays("no slot moves", Duration::from_secs(3), paused).await?;
    let told = verb(&["status", &target, "-o", "json"])?;
    let told: Value = serde_json::from_str(&told).map_err(|e| Error::Wrong(e.to_string()))?;
    ensure(told.pointer("/moves/paused") == Some(&json!(true)), || {
        format!("status says {}", told["moves"])
    })?;
    verb(&["cancel", &target])?;
    exactly(&world, &cluster, 3).await?;
    let dry = verb(&["scale", &target, "--shards", "4", "--dry-run"])?;
    ensure(dry.contains("In all 4096 slots move"), || dry)?;
    verb(&["scale", &target, "--shards", "4"])?;
    exactly(&world, &cluster, 4).await?;
    verb(&["scale", &target, "--shards", "3"])?;
    exactly(&world, &cluster, 3).await?;
    writer.end(&cluster).await?.nothing_lost()
}
