//! What is measured in the same way on our clusters and on those made by hand.

use std::time::{Duration, Instant};

use crate::kube_api::Deletion;
use crate::servers::{Cluster, Shard};
use crate::wait::until;
use crate::world::{Writer, Written};
use crate::{Error, Kind, Result, World};

/// How a primary goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// Its process is killed (-9).
    Killed,
    /// Its pod is deleted, with the grace it has.
    Deleted,
    /// Its pod is evicted, as a drain does.
    Evicted,
}

/// How long a disruption budget may keep an eviction waiting.
const EVICTION_LIMIT: Duration = Duration::from_secs(60);

/// Makes a primary go while `writer` writes, waits until all slots are written to again (at most
/// `limit`), and returns what the writer saw.
pub async fn gap(
    world: &World,
    cluster: &Cluster,
    shard: &Shard,
    going: Going,
    writer: Writer,
    limit: Duration,
) -> Result<Written> {
    go(world, cluster, shard, going).await?;
    writer.until_flowing(limit).await?;
    writer.end(cluster).await
}

/// Makes a primary go.
pub async fn go(world: &World, cluster: &Cluster, shard: &Shard, going: Going) -> Result<()> {
    let pod = &shard.primary.name;
    match going {
        Going::Killed => {
            let machine = world.machine.ok_or_else(|| {
                Error::Wrong(
                    "killing a process needs the machine that the Kubernetes runs on".to_owned(),
                )
            })?;
            // Its container may have been started again since the shard was looked at.
            machine.kill_server(&cluster.running_pod(pod).await?)
        }
        Going::Deleted => world.delete_pod(cluster, pod).await,
        Going::Evicted => {
            until(&format!("{pod} may be evicted"), EVICTION_LIMIT, || async {
                let evicted = cluster.kube.evict(&cluster.namespace, pod).await?;
                Ok(if evicted {
                    Ok(())
                } else {
                    Err("the budget allows none now".to_owned())
                })
            })
            .await?;
            Ok(())
        }
    }
}

/// How a full restart went.
#[derive(Debug)]
pub struct Restarted {
    /// From the deletion to the moment when the last server's port answered.
    pub answering: Duration,
    /// From that moment until every server said ok, or what they said instead.
    pub ok: Result<Duration>,
}

/// Deletes all pods at once, without grace where `grace_s` says so, and waits until every server
/// answers at its new address and until all say ok.
pub async fn restart_all(
    cluster: &Cluster,
    count: usize,
    grace_s: Option<u32>,
    limit: Duration,
) -> Result<Restarted> {
    let before = cluster.pods().await?;
    let start = Instant::now();
    for pod in &before {
        let how = Deletion {
            grace_s,
            orphan: false,
        };
        cluster
            .kube
            .delete(Kind::POD, &cluster.namespace, &pod.name, how)
            .await?;
    }
    until("every server answers again", limit, || async {
        let pods = cluster.pods().await?;
        let new = pods.iter().filter(|pod| before.iter().all(|old| old.uid != pod.uid));
        let new: Vec<_> = new.filter_map(crate::servers::Pod::address).collect();
        if new.len() < count {
            return Ok(Err(format!("{} of {count} new pods have an address", new.len())));
        }
        for address in &new {
            if let Err(error) = cluster.ask::<String>(address, &["PING"]).await {
                // Loading its data it answers too: the port is open.
                let loading = matches!(&error, Error::Redis { source, .. } if source.code() == Some("LOADING"));
                if !loading {
                    return Ok(Err(error.with_causes()));
                }
            }
        }
        Ok(Ok(()))
    })
    .await?;
    let answering = start.elapsed();
    let ok = cluster.until_ok(count, limit).await;
    Ok(Restarted { answering, ok })
}
