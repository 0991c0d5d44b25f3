//! Pods and processes that go away, with a client writing meanwhile.

use std::time::Duration;

use serde_json::{Value, json};
use shardwright_e2e::error::ensure;
use shardwright_e2e::kube_api::{Deletion, name};
use shardwright_e2e::measure::{Going, gap, restart_all};
use shardwright_e2e::servers::{Cluster, Pod, Shard};
use shardwright_e2e::table::{median, time};
use shardwright_e2e::wait::{pass, until};
use shardwright_e2e::world::READY_LIMIT;
use shardwright_e2e::{Error, Kind, Result, World};

/// Three shards with a replica each.
const COUNT: usize = 6;
/// After a fault: until all writes flow again. Longer than any engine takes by itself.
const FLOW: Duration = Duration::from_secs(60);
/// After a fault: until the cluster is whole and agreed again.
pub(crate) const WHOLE: Duration = Duration::from_secs(90);
/// A killed primary takes along what it had acknowledged within its last event loop: one write of
/// each of the three lanes of its shard at most.
pub(crate) const UNDER_WAY: usize = 3;
/// Primaries killed one after the other; each container is killed twice at most, for the kubelet
/// waits longer before each restart.
const KILLS: usize = 5;

/// Three shards with a replica each, Redis, with whatever `more` says of the spec.
pub(crate) async fn small(world: &World, more: Value) -> Result<Cluster> {
    let mut spec = json!({"engine": "redis", "image": "redis:7.0.15"});
    shardwright_e2e::world::merge(&mut spec, more);
    let (cluster, took) = world.up(&world.manifest("small", 3, 1, spec)).await?;
    world.took("apply → Ready", took, "");
    Ok(cluster)
}

pub(crate) fn shard_at(shards: &[Shard], at: usize) -> Result<&Shard> {
    shards
        .get(at % shards.len().max(1))
        .ok_or_else(|| Error::Wrong("a cluster without shards".to_owned()))
}

/// The process of a primary killed (-9), one shard after the other.
pub(crate) async fn killed_primaries(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let (mut gaps, mut lost) = (Vec::new(), 0);
    for round in 0..KILLS {
        let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
        let writer = world.writer(&cluster, "app").await?;
        let written = gap(
            &world,
            &cluster,
            shard_at(&shards, round)?,
            Going::Killed,
            writer,
            FLOW,
        )
        .await?;
        written.lost_at_most(UNDER_WAY)?;
        lost += written.lost.len();
        gaps.push(written.gap);
    }
    cluster.until_agreed(COUNT, WHOLE).await?;
    let middle = median(&gaps).unwrap_or(Duration::ZERO);
    let all: Vec<_> = gaps.iter().map(|gap| time(*gap)).collect();
    world.note(
        "primary's process killed: gap",
        format!("{} ({}; lost {lost})", time(middle), all.join(", ")),
        "≤ 700 ms",
    );
    ensure(middle <= Duration::from_millis(1500), || {
        format!(
            "writes were away for {}: nobody failed over",
            all.join(", ")
        )
    })
}

/// A primary's pod deleted, then a replica's.
pub(crate) async fn deleted_pods(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let writer = world.writer(&cluster, "app").await?;
    let shard = shard_at(&shards, 0)?;
    let written = gap(&world, &cluster, shard, Going::Deleted, writer, FLOW).await?;
    written.nothing_lost()?;
    world.took("primary's pod deleted: gap", written.gap, "≤ 300 ms");
    until_new(&cluster, &shard.primary).await?;
    let (shards, took) = cluster.until_agreed(COUNT, WHOLE).await?;
    world.took("then whole again after", took, "");
    let replica = shard_at(&shards, 1)?.replicas.first().cloned();
    let replica = replica.ok_or_else(|| Error::Wrong("a shard without a replica".to_owned()))?;
    let writer = world.writer(&cluster, "app").await?;
    world.delete_pod(&cluster, &replica.name).await?;
    until_new(&cluster, &replica).await?;
    cluster.until_agreed(COUNT, WHOLE).await?;
    let written = writer.end(&cluster).await?;
    written.nothing_lost()?;
    world.took("replica's pod deleted: gap", written.gap, "");
    Ok(())
}

/// Waits until a pod was made anew.
pub(crate) async fn until_new(cluster: &Cluster, old: &Pod) -> Result<()> {
    until(&format!("{} is made anew", old.name), WHOLE, || async {
        let new = cluster
            .kube
            .get(Kind::POD, &cluster.namespace, &old.name)
            .await?;
        let uid = new.map(|pod| shardwright_e2e::kube_api::text(&pod, "/metadata/uid").to_owned());
        Ok(if uid.is_some_and(|uid| uid != old.uid) {
            Ok(())
        } else {
            Err("the old one is there".to_owned())
        })
    })
    .await?;
    Ok(())
}

/// Every pod of one Kubernetes node evicted, as `kubectl drain` does it.
pub(crate) async fn drained(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let host = &shard_at(&shards, 0)?.primary.host;
    let there: Vec<_> = cluster
        .pods()
        .await?
        .into_iter()
        .filter(|pod| pod.host == *host)
        .collect();
    let writer = world.writer(&cluster, "app").await?;
    for pod in &there {
        until(&format!("{} may be evicted", pod.name), WHOLE, || async {
            let evicted = world.kube.evict(&world.namespace, &pod.name).await?;
            Ok(if evicted {
                Ok(())
            } else {
                Err("the budget allows none now".to_owned())
            })
        })
        .await?;
        until_new(&cluster, pod).await?;
    }
    cluster.until_agreed(COUNT, WHOLE).await?;
    let written = writer.end(&cluster).await?;
    written.nothing_lost()?;
    world.took(
        &format!("{} pods of a Kubernetes node evicted: gap", there.len()),
        written.gap,
        "≤ 300 ms",
    );
    Ok(())
}

/// All pods at once: every address is new. Twice, the second time without any grace. The log is synced before each
/// answer: with `everysec` a busy disk makes the engine put off even the write itself, up to 2 s.
pub(crate) async fn all_pods(world: World) -> Result<()> {
    let cluster = small(&world, json!({"persistence": {"fsync": "always"}})).await?;
    for (how, grace_s) in [
        ("all pods deleted", None),
        ("all pods deleted without grace", Some(0)),
    ] {
        let (before, _) = cluster.until_agreed(COUNT, WHOLE).await?;
        let writer = world.writer(&cluster, "app").await?;
        let restarted = restart_all(&cluster, COUNT, grace_s, WHOLE).await?;
        writer.until_flowing(FLOW).await?;
        let written = writer.end(&cluster).await?;
        // Without grace a replica may be elected that had not yet got the last writes.
        written.lost_at_most(if grace_s.is_some() { UNDER_WAY * 3 } else { 0 })?;
        world.took(
            &format!("{how} → last port answers"),
            restarted.answering,
            "",
        );
        world.took(
            &format!("{how}: last port answers → ok"),
            restarted.ok?,
            "≤ 4 s",
        );
        let (after, _) = cluster.until_agreed(COUNT, WHOLE).await?;
        ensure(after.len() == before.len(), || {
            format!("{} shards of {}", after.len(), before.len())
        })?;
    }
    world.until_ready(&cluster.name, READY_LIMIT).await?;
    Ok(())
}

/// All pods at once, and one of them comes back 40 s late. The case itself puts the pods on
/// Kubernetes nodes, as a scheduler of its own.
pub(crate) async fn one_late(world: World) -> Result<()> {
    const LATE: Duration = Duration::from_secs(40);
    let held = std::sync::Arc::new(std::sync::Mutex::new(None::<String>));
    let scheduler = tokio::spawn(schedule(world.clone(), held.clone()));
    let cluster = small(&world, json!({"pod": {"schedulerName": "e2e"}})).await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let late = shard_at(&shards, 0)?.primary.name.clone();
    *held
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(late.clone());
    let writer = world.writer(&cluster, "app").await?;
    for pod in cluster.pods().await? {
        world.delete_pod(&cluster, &pod.name).await?;
    }
    // An old pod may take long to go.
    until(&format!("{late} waits for a node"), WHOLE, || async {
        let pods = cluster.pods().await?;
        let waits = pods.iter().any(|pod| pod.name == late && pod.ip.is_none());
        Ok(waits.then_some(()).ok_or_else(|| format!("{pods:?}")))
    })
    .await?;
    pass(LATE).await;
    let pods = cluster.pods().await?;
    let waits = pods.iter().any(|pod| pod.name == late && pod.ip.is_none());
    ensure(waits, || {
        format!("{late} did not wait for its Kubernetes node: {pods:?}")
    })?;
    *held
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    let (_, took) = cluster.until_agreed(COUNT, WHOLE).await?;
    world.took("one pod 40 s late: then whole after", took, "");
    writer.until_flowing(FLOW).await?;
    let written = writer.end(&cluster).await?;
    scheduler.abort();
    // Its replica had everything when all of them ended in peace.
    written.nothing_lost()
}

/// Puts pods that ask for the scheduler `e2e` on Kubernetes nodes in turn, but for the one held.
async fn schedule(world: World, held: std::sync::Arc<std::sync::Mutex<Option<String>>>) {
    let mut turn = 0;
    loop {
        let pods = world
            .kube
            .list(Kind::POD, &world.namespace, "")
            .await
            .unwrap_or_else(|_| Vec::new());
        let nodes = world
            .kube
            .list(Kind::NODE, "", "")
            .await
            .unwrap_or_else(|_| Vec::new());
        let held = held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        for pod in &pods {
            let waits = shardwright_e2e::kube_api::text(pod, "/spec/nodeName").is_empty();
            if waits && held.as_deref() != Some(name(pod)) && !nodes.is_empty() {
                turn += 1;
                // One that is refused is tried again in the next round.
                world
                    .kube
                    .bind(
                        &world.namespace,
                        name(pod),
                        name(&nodes[turn % nodes.len()]),
                    )
                    .await
                    .ok();
            }
        }
        pass(Duration::from_millis(200)).await;
    }
}

/// A pod and its volume gone: a replica's, then a primary's.
pub(crate) async fn volume_gone(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    for primary in [false, true] {
        let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
        let shard = shard_at(&shards, 0)?;
        let pod = if primary {
            Some(&shard.primary)
        } else {
            shard.replicas.first()
        };
        let pod = pod
            .ok_or_else(|| Error::Wrong("a shard without a replica".to_owned()))?
            .clone();
        let writer = world.writer(&cluster, "app").await?;
        wipe(&world, &pod).await?;
        until_new(&cluster, &pod).await?;
        let (_, took) = cluster.until_agreed(COUNT, WHOLE).await?;
        let written = writer.end(&cluster).await?;
        written.lost_at_most(if primary { UNDER_WAY } else { 0 })?;
        let whose = if primary { "primary" } else { "replica" };
        world.took(
            &format!("{whose}'s pod and volume gone: whole after"),
            took,
            "",
        );
        world.took(
            &format!("{whose}'s pod and volume gone: gap"),
            written.gap,
            "",
        );
    }
    Ok(())
}

/// Deletes a pod without grace together with its claim.
pub(crate) async fn wipe(world: &World, pod: &Pod) -> Result<()> {
    let claim = format!("data-{}", pod.name);
    world
        .kube
        .delete(Kind::CLAIM, &world.namespace, &claim, Deletion::default())
        .await?;
    let now = Deletion {
        grace_s: Some(0),
        orphan: false,
    };
    world
        .kube
        .delete(Kind::POD, &world.namespace, &pod.name, now)
        .await
}

/// A primary killed (-9) that keeps nothing on disk: without the gate it would come back empty, as
/// a primary, and its replica would empty itself too.
pub(crate) async fn no_persistence(world: World) -> Result<()> {
    let cluster = small(&world, json!({"persistence": {"aof": false, "rdb": false}})).await?;
    for round in 0..3 {
        let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
        let writer = world.writer(&cluster, "app").await?;
        let written = gap(
            &world,
            &cluster,
            shard_at(&shards, round)?,
            Going::Killed,
            writer,
            FLOW,
        )
        .await?;
        written.lost_at_most(UNDER_WAY)?;
        world.took(
            "nothing on disk, primary killed: gap",
            written.gap,
            "≤ 700 ms",
        );
    }
    cluster.until_agreed(COUNT, WHOLE).await?;
    world.until_ready(&cluster.name, READY_LIMIT).await?;
    Ok(())
}
