//! What others need is taken away: the operator, the API server, a Kubernetes node.

use std::time::{Duration, Instant};

use serde_json::json;
use shardwright_e2e::error::ensure;
use shardwright_e2e::faults::Machine;
use shardwright_e2e::kube_api::{name, text};
use shardwright_e2e::measure::{Going, gap};
use shardwright_e2e::operator::run_program;
use shardwright_e2e::servers::Cluster;
use shardwright_e2e::wait::{pass, until};
use shardwright_e2e::world::READY_LIMIT;
use shardwright_e2e::{Error, Kind, Result, World};

use crate::failures::{UNDER_WAY, WHOLE, shard_at, small};

const COUNT: usize = 6;
/// After a fault: until all writes flow again, by the engine alone if need be.
const FLOW: Duration = Duration::from_secs(60);
/// A lease counts for 15 s without its holder; then the next one reads what there is.
const TAKE_OVER: Duration = Duration::from_secs(60);
/// The operator killed so often while a cluster is formed.
const KILLS: u32 = 10;

fn machine(world: &World) -> Result<Machine> {
    world.machine.ok_or_else(|| {
        Error::Wrong("this case needs the machine that the Kubernetes runs on".to_owned())
    })
}

/// The operator killed ten times while it forms a cluster, between any two steps.
pub(crate) async fn operator_killed(world: World) -> Result<()> {
    let operator = world.operator()?;
    let manifest = world.manifest(
        "small",
        3,
        1,
        json!({"engine": "redis", "image": "redis:7.0.15"}),
    );
    let start = Instant::now();
    world.kube.apply(&manifest).await?;
    for kill in 0..KILLS {
        // Spread over what a pass takes, by a rule that repeats: 0 to 0.9 s after it is there.
        until("the operator's process runs", READY_LIMIT, || async {
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
        pass(Duration::from_millis(u64::from(kill * 7 % 10) * 100)).await;
        // Its pod deleted, not its process killed again and again: the kubelet would wait minutes
        // before it starts the container an eighth time.
        if kill % 5 == 0 {
            operator.kill(world.machine).await?;
        } else {
            operator.kill(None).await?;
        }
    }
    operator.until_running().await?;
    world.until_ready("small", READY_LIMIT).await?;
    world.took(
        &format!("operator killed {KILLS} times: apply → Ready"),
        start.elapsed(),
        "",
    );
    let cluster = Cluster::ours(&world.kube, &world.namespace, "small").await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    ensure(shards.len() == 3, || format!("{} shards", shards.len()))?;
    let writer = world.writer(&cluster, "app").await?;
    writer.end(&cluster).await?.nothing_lost()
}

/// Without the operator the engine fails over by itself; when it is back, all is made whole.
pub(crate) async fn operator_away(world: World) -> Result<()> {
    let operator = world.operator()?;
    // Without a log on disk a killed primary is held at its start: its replica has to take over.
    let cluster = small(&world, json!({"persistence": {"aof": false, "rdb": false}})).await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    operator.stop().await?;
    let writer = world.writer(&cluster, "app").await?;
    let away = gap(
        &world,
        &cluster,
        shard_at(&shards, 0)?,
        Going::Killed,
        writer,
        FLOW,
    )
    .await;
    let back = operator.start().await;
    let away = away?;
    back?;
    away.lost_at_most(UNDER_WAY)?;
    world.took("operator away, primary killed: gap", away.gap, "");
    let (_, took) = cluster.until_agreed(COUNT, WHOLE).await?;
    world.took("operator back: whole after", took, "");
    world.until_ready(&cluster.name, READY_LIMIT).await?;
    Ok(())
}

/// The API server silent while a primary's process is killed: what the operator holds open, it
/// still hears.
pub(crate) async fn api_away(world: World) -> Result<()> {
    let machine = machine(&world)?;
    let cluster = small(&world, json!({})).await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let primary = cluster
        .running_pod(&shard_at(&shards, 0)?.primary.name)
        .await?;
    let writer = world.writer(&cluster, "app").await?;
    let silent = machine.freeze("kube-apiserver")?;
    pass(Duration::from_secs(3)).await;
    machine.kill_server(&primary)?;
    let flowing = writer.until_flowing(FLOW).await;
    // Long enough that leases run out and watches break.
    pass(Duration::from_secs(20)).await;
    drop(silent);
    flowing?;
    until("the API server answers", READY_LIMIT, || async {
        world.kube.list(Kind::NODE, "", "").await.map(|_| Ok(()))
    })
    .await?;
    let (_, took) = cluster.until_agreed(COUNT, WHOLE).await?;
    let written = writer.end(&cluster).await?;
    written.lost_at_most(UNDER_WAY)?;
    world.took("API server away, primary killed: gap", written.gap, "");
    world.took("API server back: whole after", took, "");
    world.operator()?.until_running().await?;
    world.until_ready(&cluster.name, READY_LIMIT).await?;
    Ok(())
}

/// A Kubernetes node cut off with the primaries on it, and back after half a minute.
pub(crate) async fn node_cut(world: World) -> Result<()> {
    let machine = machine(&world)?;
    let cluster = small(&world, json!({})).await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let host = shard_at(&shards, 0)?.primary.host.clone();
    // The operator elsewhere: being cut off together with it is the case `operator-away`.
    off(&world, &[host.as_str()]).await?;
    let writer = world.writer(&cluster, "app").await?;
    let cut = machine.cut(&host)?;
    let flowing = writer.until_flowing(FLOW).await;
    pass(Duration::from_secs(30)).await;
    drop(cut);
    flowing?;
    every_node_ready(&world).await?;
    let (_, took) = cluster.until_agreed(COUNT, WHOLE).await?;
    let written = writer.end(&cluster).await?;
    world.took("Kubernetes node cut off: gap", written.gap, "");
    world.took("Kubernetes node back: whole after", took, "");
    // A primary that is cut off takes writes until it sees that it is alone (cluster-node-timeout):
    // the client is cut off from it as well, so what it acknowledged is known to the others but
    // for what was under way.
    written.lost_at_most(3 * UNDER_WAY)?;
    world.until_ready(&cluster.name, READY_LIMIT).await?;
    Ok(())
}

/// Two Kubernetes nodes with a primary each cut off, and the operator on the third: the lost majority is named, and the
/// command in the status promotes a replica on a person's word.
pub(crate) async fn majority_cut(world: World) -> Result<()> {
    let machine = machine(&world)?;
    let cluster = small(&world, json!({})).await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let host = |at: usize| shard_at(&shards, at).map(|shard| shard.primary.host.clone());
    let hosts = [host(0)?, host(1)?];
    ensure(hosts[0] != hosts[1], || {
        format!("two of three primaries are on {}", hosts[0])
    })?;
    off(&world, &[hosts[0].as_str(), hosts[1].as_str()]).await?;
    let writer = world.writer(&cluster, "app").await?;
    let cuts = [machine.cut(&hosts[0])?, machine.cut(&hosts[1])?];
    let (command, took) = until("the lost majority is named", WHOLE, || async {
        let object = world
            .kube
            .must(Kind::CLUSTER, &world.namespace, "small")
            .await?;
        let said = text(&object, "/status/message");
        let lost = said.contains("no majority: 1 of 3 primaries is reachable");
        let command = said.split_once("shardwright failover ").filter(|_| lost);
        Ok(command
            .map(|(_, command)| command.to_owned())
            .ok_or_else(|| said.to_owned()))
    })
    .await?;
    world.took("two primaries cut off: named after", took, "");
    let words: Vec<&str> = command.split(' ').take(4).collect();
    let words = words.iter().map(|word| word.trim_end_matches(';'));
    let words: Vec<&str> = std::iter::once("failover").chain(words).collect();
    let promoted = run_program(&words);
    drop(cuts);
    promoted?;
    every_node_ready(&world).await?;
    let (_, took) = cluster.until_agreed(COUNT, WHOLE).await?;
    world.took("two Kubernetes nodes back: whole after", took, "");
    let written = writer.end(&cluster).await?;
    // As in `node_cut`, for each of the two.
    written.lost_at_most(6 * UNDER_WAY)?;
    world.until_ready(&cluster.name, READY_LIMIT).await?;
    Ok(())
}

async fn every_node_ready(world: &World) -> Result<()> {
    until("every Kubernetes node is ready", READY_LIMIT, || async {
        let nodes = world.kube.list(Kind::NODE, "", "").await?;
        let ready = nodes
            .iter()
            .filter(|node| {
                shardwright_e2e::world::condition_of(node, "Ready")
                    .is_some_and(|c| c["status"] == "True")
            })
            .count();
        Ok(if ready == nodes.len() {
            Ok(())
        } else {
            Err(format!("{ready} of {}", nodes.len()))
        })
    })
    .await?;
    Ok(())
}

/// The Kubernetes node of the operator's pod that leads is cut off: the other pod takes over, and the status goes on.
pub(crate) async fn operator_cut(world: World) -> Result<()> {
    let (machine, operator) = (machine(&world)?, world.operator()?);
    let cluster = small(&world, json!({})).await?;
    cluster.until_agreed(COUNT, WHOLE).await?;
    let lease = world
        .kube
        .must(Kind::LEASE, &operator.namespace, "shardwright-leader")
        .await?;
    let leader = text(&lease, "/spec/holderIdentity");
    let pods = operator.pods().await?;
    let hosts: Vec<&str> = pods.iter().map(|pod| text(pod, "/spec/nodeName")).collect();
    ensure(hosts.len() == 2 && hosts[0] != hosts[1], || {
        format!("the operator's pods are on {hosts:?}")
    })?;
    let host = pods.iter().find(|pod| name(pod) == leader);
    let host = host.map(|pod| text(pod, "/spec/nodeName"));
    let host = host.ok_or_else(|| Error::Wrong(format!("the lease is held by {leader}")))?;
    let cut = machine.cut(host)?;
    // Whoever sees an edit says so in the status.
    let edit = json!({"spec": {"pod": {"annotations": {"example.com/edit": "a"}}}});
    world
        .kube
        .patch(Kind::CLUSTER, &world.namespace, "small", edit)
        .await?;
    let seen = until("another operator sees the edit", TAKE_OVER, || async {
        let object = world
            .kube
            .must(Kind::CLUSTER, &world.namespace, "small")
            .await?;
        let generation = object.pointer("/metadata/generation");
        let seen = object.pointer("/status/observedGeneration") == generation;
        Ok(if seen {
            Ok(())
        } else {
            Err(text(&object, "/status/lastObserved").to_owned())
        })
    })
    .await;
    drop(cut);
    let ((), took) = seen?;
    world.took("operator's Kubernetes node cut off: status after", took, "");
    every_node_ready(&world).await?;
    cluster.until_agreed(COUNT, WHOLE).await?;
    operator.until_running().await?;
    world.until_ready(&cluster.name, READY_LIMIT).await?;
    Ok(())
}

/// Moves the operator off these Kubernetes nodes.
async fn off(world: &World, hosts: &[&str]) -> Result<()> {
    let operator = world.operator()?;
    let schedulable = async |so: bool| {
        for host in hosts {
            let spec = json!({"spec": {"unschedulable": !so}});
            world.kube.patch(Kind::NODE, "", host, spec).await?;
        }
        Ok::<(), Error>(())
    };
    schedulable(false).await?;
    let there = operator.pods().await?;
    let there = there
        .iter()
        .any(|pod| hosts.contains(&text(pod, "/spec/nodeName")));
    let moved = if there {
        operator.kill(None).await
    } else {
        Ok(())
    };
    let moved = match moved {
        Ok(()) => operator.until_running().await.map(|_| ()),
        failed => failed,
    };
    schedulable(true).await?;
    moved
}
