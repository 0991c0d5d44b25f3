//! Two clusters that must not meet.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use shardwright_e2e::error::ensure;
use shardwright_e2e::kube_api::{Deletion, text};
use shardwright_e2e::servers::{Cluster, Pod, Shard};
use shardwright_e2e::wait::until;
use shardwright_e2e::world::READY_LIMIT;
use shardwright_e2e::{Error, Kind, Result, World};

use crate::failures::WHOLE;

const COUNT: usize = 6;

async fn two(world: &World) -> Result<(Cluster, Cluster)> {
    let redis = || json!({"engine": "redis", "image": "redis:7.0.15"});
    let (one, two) = (
        world.manifest("one", 3, 1, redis()),
        world.manifest("two", 3, 1, redis()),
    );
    let start = Instant::now();
    let (one, two) = tokio::try_join!(world.up(&one), world.up(&two))?;
    world.took(
        "two clusters at once: apply → both Ready",
        start.elapsed(),
        "",
    );
    Ok((one.0, two.0))
}

/// Two clusters made at once in one namespace; one is deleted, the other does not notice.
pub(crate) async fn two_at_once(world: World) -> Result<()> {
    let (one, two) = two(&world).await?;
    one.until_agreed(COUNT, WHOLE).await?;
    let (before, _) = two.until_agreed(COUNT, WHOLE).await?;
    let writer = world.writer(&two, "app").await?;
    world
        .kube
        .delete(Kind::CLUSTER, &world.namespace, "one", Deletion::default())
        .await?;
    until_gone(&one).await?;
    writer.until_flowing(Duration::from_secs(10)).await?;
    let written = writer.end(&two).await?;
    written.nothing_lost()?;
    world.took("the other cluster deleted: gap", written.gap, "");
    let (after, _) = two.until_agreed(COUNT, WHOLE).await?;
    ensure(roles(&before) == roles(&after), || {
        format!("the other cluster changed: {before:?}, then {after:?}")
    })
}

/// The addresses of two clusters change hands: the pods of each get those that pods of the other had. Hands are off
/// meanwhile, so that no address is in use when it is dealt out anew.
pub(crate) async fn reused_addresses(world: World) -> Result<()> {
    let machine = world
        .machine
        .ok_or_else(|| Error::Wrong("this case needs the machine".to_owned()))?;
    let (one, two) = two(&world).await?;
    one.until_agreed(COUNT, WHOLE).await?;
    two.until_agreed(COUNT, WHOLE).await?;
    let (first, second) = (
        world.writer(&one, "app").await?,
        world.writer(&two, "app").await?,
    );
    let (old_one, old_two) = (one.pods().await?, two.pods().await?);
    for cluster in [&one, &two] {
        hands_off(&world, cluster, true).await?;
    }
    let none = json!({"spec": {"replicas": 0}});
    for cluster in [&two, &one] {
        let kind = Kind::STATEFUL_SET;
        let patched = world
            .kube
            .patch(kind, &world.namespace, &cluster.name, none.clone());
        patched.await?;
        until_gone(cluster).await?;
    }
    // Each in its turn, at the first address that the other had on each Kubernetes node.
    for (cluster, theirs) in [(&one, &old_two), (&two, &old_one)] {
        for pod in theirs.iter().rev() {
            machine.give_next(&pod.host, pod.ip.as_deref().unwrap_or(""))?;
        }
        hands_off(&world, cluster, false).await?;
        until("its pods have addresses", WHOLE, || async {
            let with = cluster.addresses().await?.len();
            Ok(if with == COUNT {
                Ok(())
            } else {
                Err(format!("{with} of {COUNT}"))
            })
        })
        .await?;
    }
    let swapped = had_by(&old_two, &one.pods().await?) + had_by(&old_one, &two.pods().await?);
    world.note(
        "pods that got an address of the other cluster",
        swapped.to_string(),
        "",
    );
    ensure(swapped > 0, || "no address changed hands".to_owned())?;
    for cluster in [&one, &two] {
        let (_, took) = cluster.until_agreed(COUNT, WHOLE).await?;
        world.took(
            &format!("{}: addresses dealt anew, whole after", cluster.name),
            took,
            "",
        );
        world.until_ready(&cluster.name, READY_LIMIT).await?;
    }
    for (writer, cluster) in [(first, &one), (second, &two)] {
        writer.until_flowing(Duration::from_secs(30)).await?;
        // All of them ended in peace.
        writer.end(cluster).await?.nothing_lost()?;
    }
    Ok(())
}

/// How many of these pods have an address that one of those had.
fn had_by(old: &[Pod], new: &[Pod]) -> usize {
    let had: BTreeSet<_> = old.iter().filter_map(|pod| pod.ip.as_ref()).collect();
    let has = |pod: &&Pod| pod.ip.as_ref().is_some_and(|ip| had.contains(ip));
    new.iter().filter(has).count()
}

/// Pauses a cluster, or lets the operator at it again.
async fn hands_off(world: &World, cluster: &Cluster, paused: bool) -> Result<()> {
    let patch = json!({"spec": {"paused": paused}});
    let name = cluster.name.as_str();
    world
        .kube
        .patch(Kind::CLUSTER, &world.namespace, name, patch)
        .await?;
    until("the operator has seen it", READY_LIMIT, || async {
        let object = world
            .kube
            .must(Kind::CLUSTER, &world.namespace, name)
            .await?;
        let state = text(&object, "/status/state").to_owned();
        Ok(if (state == "Paused") == paused {
            Ok(())
        } else {
            Err(state)
        })
    })
    .await?;
    Ok(())
}

async fn until_gone(cluster: &Cluster) -> Result<()> {
    let what = format!("the pods of {} are gone", cluster.name);
    until(&what, WHOLE, || async {
        let left = cluster.pods().await?;
        Ok(if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{} are there", left.len()))
        })
    })
    .await?;
    Ok(())
}

/// Who is the primary and who the replicas of each shard, by name.
fn roles(shards: &[Shard]) -> Vec<Vec<&str>> {
    fn names(shard: &Shard) -> Vec<&str> {
        let all = std::iter::once(&shard.primary).chain(&shard.replicas);
        all.map(|pod| pod.name.as_str()).collect()
    }
    shards.iter().map(names).collect()
}
