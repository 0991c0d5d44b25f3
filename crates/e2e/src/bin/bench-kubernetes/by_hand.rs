//! The way by hand: a stateful set, `redis-cli --cluster create` in a pod, and nobody who looks
//! after it.

use std::time::{Duration, Instant};

use shardwright_e2e::error::ensure;
use shardwright_e2e::measure::{Going, gap, restart_all};
use shardwright_e2e::servers::{CONTAINER, Cluster, Pod};
use shardwright_e2e::table::{median, time};
use shardwright_e2e::wait::until;
use shardwright_e2e::world::Writer;
use shardwright_e2e::{Error, Kind, Result, World};

/// The servers of the cluster.
const COUNT: usize = 6;
/// Images are there; pods start one after the other.
const START_LIMIT: Duration = Duration::from_secs(180);
/// How long it is given to come back before "never" is said.
pub(crate) const NEVER: Duration = Duration::from_secs(60);
/// Kills, each of another shard's primary.
const KILLS: usize = 3;
/// The password that the manifest gives to `default` and, as a hash, to nobody else.
const PASSWORD: &str = "admin";
const WRITE_PAUSE: Duration = Duration::from_millis(8);

pub(crate) async fn run(world: &World) -> Result<()> {
    world.open().await?;
    let cluster = Cluster {
        kube: world.kube.clone(),
        namespace: world.namespace.clone(),
        name: "redis".to_owned(),
        selector: "app=redis".to_owned(),
        login: ("default".to_owned(), PASSWORD.to_owned()),
    };
    form(world, &cluster).await?;
    fail_over(world, &cluster, Going::Killed).await?;
    fail_over(world, &cluster, Going::Deleted).await?;
    restart(world, &cluster).await
}

async fn form(world: &World, cluster: &Cluster) -> Result<()> {
    let manifests =
        include_str!("../../../by-hand/redis.yaml").replace("NAMESPACE", &world.namespace);
    let start = Instant::now();
    world.kube.apply_yaml(&manifests).await?;
    until("six pods run", START_LIMIT, || async {
        let ready = cluster.pods().await?.iter().filter(|pod| pod.ready).count();
        Ok(if ready == COUNT {
            Ok(())
        } else {
            Err(format!("{ready} of {COUNT}"))
        })
    })
    .await?;
    world.took("apply → six pods run", start.elapsed(), "");
    let names: Vec<_> = (0..COUNT)
        .map(|n| format!("redis-{n}.redis.{}.svc.cluster.local:6379", world.namespace))
        .collect();
    // The one step a person has to take; whether the names are known yet is found out by trying.
    let command = format!(
        "redis-cli --cluster create {} -a {PASSWORD} --cluster-replicas 1 --cluster-yes",
        names.join(" ")
    );
    let create = Instant::now();
    until("redis-cli forms the cluster", START_LIMIT, || async {
        let ran = world
            .kube
            .exec(
                &world.namespace,
                "redis-0",
                CONTAINER,
                &["sh", "-c", &command],
            )
            .await?;
        Ok(if ran.ok {
            Ok(())
        } else {
            Err(format!("{} {}", ran.out.trim(), ran.err.trim()))
        })
    })
    .await?;
    world.took("redis-cli --cluster create", create.elapsed(), "");
    let (shards, _) = cluster.until_agreed(COUNT, START_LIMIT).await?;
    world.took("apply → cluster whole and in sync", start.elapsed(), "");
    let together = shards
        .iter()
        .filter(|s| s.replicas.iter().any(|r| r.host == s.primary.host))
        .count();
    world.note(
        "shards with primary and replica on one Kubernetes node",
        together.to_string(),
        "0",
    );
    Ok(())
}

async fn fail_over(world: &World, cluster: &Cluster, going: Going) -> Result<()> {
    if going == Going::Killed && world.machine.is_none() {
        world.note(
            "primary's process killed",
            "not measured: the machine is elsewhere",
            "",
        );
        return Ok(());
    }
    let what = format!("primary's {going:?}: longest time without writes").to_lowercase();
    let mut gaps = Vec::new();
    for round in 0..KILLS {
        let whole = cluster.until_agreed(COUNT, NEVER).await;
        let shards = match whole {
            Ok((shards, _)) => shards,
            Err(error) => {
                world.note(
                    &what,
                    format!(
                        "round {}: not whole again: {}",
                        round + 1,
                        error.with_causes()
                    ),
                    "",
                );
                break;
            }
        };
        let shard = shards.get(round % shards.len().max(1));
        let shard = shard.ok_or_else(|| Error::Wrong("a cluster without shards".to_owned()))?;
        let writer = Writer::start(cluster, cluster.login.clone(), WRITE_PAUSE).await?;
        match gap(world, cluster, shard, going, writer, NEVER).await {
            Ok(written) => {
                ensure(written.acked > 0, || "nothing was written".to_owned())?;
                gaps.push(written.gap);
            }
            Err(error) => {
                world.note(
                    &what,
                    format!("round {}: {}", round + 1, error.with_causes()),
                    "",
                );
                break;
            }
        }
    }
    let all: Vec<_> = gaps.iter().map(|gap| time(*gap)).collect();
    world.note(
        &format!("{what}, median of {}", gaps.len()),
        format!(
            "{} ({})",
            median(&gaps).map_or("-".to_owned(), time),
            all.join(", ")
        ),
        "",
    );
    Ok(())
}

async fn restart(world: &World, cluster: &Cluster) -> Result<()> {
    let restarted = restart_all(cluster, COUNT, None, NEVER).await?;
    world.took(
        "all pods deleted → last port answers",
        restarted.answering,
        "",
    );
    match restarted.ok {
        Ok(ok) => world.took("last port answers → ok", ok, ""),
        Err(error) => world.note(
            "last port answers → ok",
            format!("never: {}", error.with_causes()),
            "",
        ),
    }
    let pods = cluster.pods().await?;
    let alive = pods.iter().filter(|pod: &&Pod| pod.ready).count();
    world.note(
        "pods that run afterwards",
        format!("{alive} of {COUNT}"),
        "",
    );
    let claims = world.kube.list(Kind::CLAIM, &world.namespace, "").await?;
    world.note("volumes", claims.len().to_string(), "");
    Ok(())
}
