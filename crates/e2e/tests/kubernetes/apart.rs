//! Two clusters that must not meet.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use shardwright_e2e::error::ensure;
use shardwright_e2e::kube_api::Deletion;
use shardwright_e2e::servers::Cluster;
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
    until(
        "the pods of the deleted cluster are gone",
        WHOLE,
        || async {
            let left = one.pods().await?;
            Ok(if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{} are there", left.len()))
            })
        },
    )
    .await?;
    writer.until_flowing(Duration::from_secs(10)).await?;
    let written = writer.end(&two).await?;
    written.nothing_lost()?;
    world.took("the other cluster deleted: gap", written.gap, "");
    let (after, _) = two.until_agreed(COUNT, WHOLE).await?;
    ensure(before == after, || "the other cluster changed".to_owned())
}

/// All pods of two clusters at once, with the addresses dealt out anew: many get one that a pod of
/// the other cluster had.
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
    let before: BTreeSet<_> = one.addresses().await?.into_iter().collect();
    let old: Vec<_> = [one.pods().await?, two.pods().await?].concat();
    // Addresses are given in turn; the turn starts over once what was given last is forgotten.
    for pod in &old {
        world
            .kube
            .delete(Kind::POD, &world.namespace, &pod.name, Deletion::default())
            .await?;
        machine.forget_last_address(&pod.host)?;
    }
    until("all pods are new and have an address", WHOLE, || async {
        for pod in &old {
            machine.forget_last_address(&pod.host)?;
        }
        let now = [one.pods().await?, two.pods().await?].concat();
        let new = now
            .iter()
            .filter(|pod| pod.ip.is_some() && old.iter().all(|o| o.uid != pod.uid))
            .count();
        Ok(if new == 2 * COUNT {
            Ok(())
        } else {
            Err(format!("{new} of {}", 2 * COUNT))
        })
    })
    .await?;
    let reused = two
        .addresses()
        .await?
        .iter()
        .filter(|address| before.contains(*address))
        .count();
    world.note(
        "pods that got an address of the other cluster",
        reused.to_string(),
        "",
    );
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
