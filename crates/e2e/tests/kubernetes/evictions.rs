//! Drains and the disruption budget: evictions through the API, as `kubectl drain` asks for them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use shardwright_e2e::error::ensure;
use shardwright_e2e::kube_api::{Deletion, name, text};
use shardwright_e2e::servers::{Cluster, Pod};
use shardwright_e2e::wait::until;
use shardwright_e2e::{Error, Kind, Kube, Result, World};
use shardwright_topology::Replication;

use crate::failures::{WHOLE, shard_at, small, until_new};

/// Three shards with a replica each.
const COUNT: usize = 6;
/// Keys of the shard whose copy is to take long, and for how long each is saved: about 10 s for all.
const KEYS: u32 = 10_000;
const US_PER_KEY: u32 = 1_000;
/// A handover takes some ms. Whoever has to wait for the pod to come back is without its shard for longer.
const GAP_MAX: Duration = Duration::from_millis(1_500);

/// What stands at these pointers of an object.
pub(crate) fn all_are(object: &Value, wanted: &[(&str, Value)]) -> Result<()> {
    for (pointer, wanted) in wanted {
        let found = object.pointer(pointer).unwrap_or(&Value::Null);
        ensure(found == wanted, || {
            format!("{} {pointer} is {found}, not {wanted}", name(object))
        })?;
    }
    Ok(())
}

/// The one disruption budget of a namespace.
pub(crate) async fn budget(kube: &Kube, namespace: &str) -> Result<Value> {
    let mut budgets = kube.list(kube.budgets(), namespace, "").await?;
    ensure(budgets.len() == 1, || {
        format!("{} disruption budgets", budgets.len())
    })?;
    budgets
        .pop()
        .ok_or_else(|| Error::Wrong("no disruption budget".to_owned()))
}

/// Whether the budget allows so many evictions, and the controller of budgets has counted `pods` pods that are well.
pub(crate) fn budget_is(budget: &Value, allowed: u32, pods: usize) -> Result<()> {
    let generation = budget.pointer("/metadata/generation");
    all_are(
        budget,
        &[
            ("/spec/maxUnavailable", allowed.into()),
            (
                "/status/observedGeneration",
                generation.cloned().unwrap_or(Value::Null),
            ),
            ("/status/currentHealthy", pods.into()),
            ("/status/expectedPods", pods.into()),
            ("/status/disruptionsAllowed", allowed.into()),
        ],
    )
}

/// A Kubernetes node is drained whose pod is the replica of a shard; the next one holds the primary. Its turn comes
/// once the replica has its whole copy, and the shard is never away.
pub(crate) async fn while_copying(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let shard = shard_at(&shards, 0)?;
    let replica = shard.replicas.first().cloned();
    let replica = replica.ok_or_else(|| Error::Wrong("a shard without a replica".to_owned()))?;
    fill_slowly_copied(&cluster, &shard.primary).await?;
    let writer = world.writer(&cluster, "app").await?;
    until_evicted(&world, &replica).await?;
    until_new(&cluster, &replica).await?;
    let refused = until_handed_over(&world, &cluster, &shard.primary, &replica).await?;
    until_primary(&cluster, &replica.name).await?;
    writer.until_flowing(WHOLE).await?;
    // When the old pod is made anew is the kubelet's affair.
    let written = writer.end(&cluster).await?;
    world.note(
        "evictions refused while the replica was copying",
        refused.to_string(),
        "> 0",
    );
    ensure(refused > 0, || {
        "the copy was done before the primary's eviction was tried: nothing was tested".to_owned()
    })?;
    written.nothing_lost()?;
    world.took(
        "replica, then primary evicted: gap",
        written.gap,
        "≤ 300 ms",
    );
    ensure(written.gap <= GAP_MAX, || {
        format!("a shard was away for {} ms", written.gap.as_millis())
    })
}

/// The pod of a primary is deleted, which asks no budget, while its only replica is copying: it waits for the copy, hands
/// over, and the shard is never away.
pub(crate) async fn deleted_while_copying(world: World) -> Result<()> {
    let patient = json!({"pod": {"terminationGracePeriodSeconds": 120}});
    let cluster = small(&world, patient).await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let shard = shard_at(&shards, 0)?;
    let replica = shard.replicas.first().cloned();
    let replica = replica.ok_or_else(|| Error::Wrong("a shard without a replica".to_owned()))?;
    fill_slowly_copied(&cluster, &shard.primary).await?;
    let writer = world.writer(&cluster, "app").await?;
    until_evicted(&world, &replica).await?;
    until_new(&cluster, &replica).await?;
    until(&format!("{} copies", replica.name), WHOLE, || async {
        let view = cluster.view(&cluster.pod(&replica.name).await?).await?;
        Ok(match view.replication {
            Replication::Replica { syncing: true, .. } => Ok(()),
            other @ (Replication::Replica { .. } | Replication::Primary { .. }) => {
                Err(format!("{other:?}"))
            }
        })
    })
    .await?;
    let primary = &shard.primary.name;
    world
        .kube
        .delete(Kind::POD, &world.namespace, primary, Deletion::default())
        .await?;
    until_primary(&cluster, &replica.name).await?;
    writer.until_flowing(WHOLE).await?;
    let written = writer.end(&cluster).await?;
    written.nothing_lost()?;
    world.took(
        "primary deleted while its replica copies: gap",
        written.gap,
        "≤ 300 ms",
    );
    ensure(written.gap <= GAP_MAX, || {
        format!("a shard was away for {} ms", written.gap.as_millis())
    })
}

/// Waits until the server of this pod is a primary.
async fn until_primary(cluster: &Cluster, pod: &str) -> Result<()> {
    until(&format!("{pod} is the primary"), WHOLE, || async {
        let view = cluster.view(&cluster.pod(pod).await?).await?;
        Ok(match view.replication {
            Replication::Primary { .. } => Ok(()),
            replica @ Replication::Replica { .. } => Err(format!("{replica:?}")),
        })
    })
    .await?;
    Ok(())
}

/// Puts keys into a primary, and has it take its time over each when it saves them for a replica.
async fn fill_slowly_copied(cluster: &Cluster, primary: &Pod) -> Result<()> {
    let address = primary.address();
    let address =
        address.ok_or_else(|| Error::Wrong(format!("{} has no address", primary.name)))?;
    let script = "for i = 1, tonumber(ARGV[1]) do redis.call('SET', KEYS[1] .. i, i) end";
    let keys = KEYS.to_string();
    let mut last = None;
    for tag in 0..100 {
        let tag = format!("{{{tag}}}");
        // Most tags belong to another shard, and are refused.
        match cluster
            .ask::<redis::Value>(&address, &["EVAL", script, "1", &tag, &keys])
            .await
        {
            Ok(_) => {
                let delay = US_PER_KEY.to_string();
                let set = ["CONFIG", "SET", "rdb-key-save-delay", &delay];
                cluster.ask::<redis::Value>(&address, &set).await?;
                return Ok(());
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::Wrong("no tag was tried".to_owned())))
}

/// Evicts a pod as soon as that is allowed.
async fn until_evicted(world: &World, pod: &Pod) -> Result<()> {
    until(&format!("{} may be evicted", pod.name), WHOLE, || async {
        let evicted = world.kube.evict(&world.namespace, &pod.name).await?;
        Ok(evicted
            .then_some(())
            .ok_or_else(|| "the budget allows none now".to_owned()))
    })
    .await?;
    Ok(())
}

/// Evicts the primary as soon as that is allowed, which must not be before its replica is in sync. Nor is the replica's
/// pod ready before. Returns how often it was refused while the replica was copying.
async fn until_handed_over(
    world: &World,
    cluster: &Cluster,
    primary: &Pod,
    replica: &Pod,
) -> Result<u32> {
    let (refused, too_soon) = (AtomicU32::new(0), AtomicU32::new(0));
    until(
        &format!("{} may be evicted", primary.name),
        WHOLE,
        || async {
            let there = cluster.pod(&replica.name).await?;
            let told = cluster.view(&there).await.map(|view| view.replication);
            let syncs = matches!(told, Ok(Replication::Replica { syncing: true, .. }));
            too_soon.fetch_add(u32::from(syncs && there.ready), Ordering::Relaxed);
            let copying = is_copying(told.as_ref().ok());
            let evicted = world.kube.evict(&world.namespace, &primary.name).await?;
            if !evicted {
                refused.fetch_add(u32::from(copying), Ordering::Relaxed);
                return Ok(Err("the budget allows none now".to_owned()));
            }
            // Said to the caller as it is: waiting would not mend it.
            Ok(Ok(copying))
        },
    )
    .await
    .and_then(|(copying, _)| {
        ensure(!copying, || {
            format!(
                "{} was evicted while {} was copying",
                primary.name, replica.name
            )
        })
    })?;
    ensure(too_soon.into_inner() == 0, || {
        format!("the pod {} was ready while it was copying", replica.name)
    })?;
    Ok(refused.into_inner())
}

/// Whether a replica that says this is not known to have its whole copy.
fn is_copying(told: Option<&Replication>) -> bool {
    match told {
        Some(Replication::Replica {
            link_up, syncing, ..
        }) => !link_up || *syncing,
        Some(Replication::Primary { .. }) | None => true,
    }
}

/// Whether the `StatefulSet` has counted `pods` pods that are ready, all of the newest revision.
pub(crate) fn set_has_counted(set: &Value, pods: usize) -> Result<()> {
    let generation = set.pointer("/metadata/generation");
    let revision = text(set, "/status/updateRevision");
    all_are(
        set,
        &[
            (
                "/status/observedGeneration",
                generation.cloned().unwrap_or(Value::Null),
            ),
            ("/status/replicas", pods.into()),
            ("/status/readyReplicas", pods.into()),
            ("/status/currentReplicas", pods.into()),
            ("/status/currentRevision", revision.into()),
        ],
    )
}
