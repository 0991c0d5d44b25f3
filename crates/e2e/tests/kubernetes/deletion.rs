//! Clusters deleted and made again.

use futures_util::future::try_join_all;
use serde_json::{Value, json};
use shardwright_e2e::error::ensure;
use shardwright_e2e::kube_api::{Deletion, name, text};
use shardwright_e2e::servers::{Cluster, Shard};
use shardwright_e2e::wait::until;
use shardwright_e2e::world::{READY_LIMIT, Written};
use shardwright_e2e::{Kind, Result, World};

use crate::failures::{WHOLE, small};
use crate::shape::exactly;

const COUNT: usize = 6;

/// What a cluster had before it was deleted.
struct Before {
    /// The ids of its nodes, sorted.
    ids: Vec<String>,
    /// How many keys its primaries held.
    keys: u64,
}

/// Writes for a while, then deletes the object and waits until its `count` pods are gone.
async fn written_and_deleted(world: &World, cluster: &Cluster, count: usize) -> Result<Before> {
    let (shards, _) = cluster.until_agreed(count, WHOLE).await?;
    let writer = world.writer(cluster, "app").await?;
    writer.until_more(500, WHOLE).await?;
    let written: Written = writer.end(cluster).await?;
    written.nothing_lost()?;
    let mut ids = ids(cluster).await?;
    ids.sort();
    let keys = keys_of(cluster, &shards).await?;
    let object = cluster.name.as_str();
    world
        .kube
        .delete(Kind::CLUSTER, &world.namespace, object, Deletion::default())
        .await?;
    let ((), took) = until("the deleted cluster's pods are gone", WHOLE, || async {
        let object = world
            .kube
            .get(Kind::CLUSTER, &world.namespace, object)
            .await?;
        let left = cluster.pods().await?.len();
        Ok(if left == 0 && object.is_none() {
            Ok(())
        } else {
            Err(format!("{left} pods are there"))
        })
    })
    .await?;
    world.took("deleted → pods gone", took, "");
    Ok(Before { ids, keys })
}

/// How many keys the primaries hold.
async fn keys_of(cluster: &Cluster, shards: &[Shard]) -> Result<u64> {
    let mut keys = 0;
    for shard in shards {
        keys += cluster.view(&shard.primary).await?.keys;
    }
    Ok(keys)
}

async fn ids(cluster: &Cluster) -> Result<Vec<String>> {
    let views = cluster.views().await?;
    views
        .into_iter()
        .map(|view| Ok(view?.id.to_string()))
        .collect()
}

/// Deleted, volumes kept; made again: the same servers with the same data.
pub(crate) async fn retained(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let before = written_and_deleted(&world, &cluster, COUNT).await?;
    let claims = world.kube.list(Kind::CLAIM, &world.namespace, "").await?;
    ensure(claims.len() == COUNT, || {
        format!("{} of {COUNT} claims are left", claims.len())
    })?;
    let cluster = small(&world, json!({})).await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let mut after = ids(&cluster).await?;
    after.sort();
    ensure(before.ids == after, || {
        format!("other servers: {:?}, then {after:?}", before.ids)
    })?;
    let keys = keys_of(&cluster, &shards).await?;
    ensure(keys >= 500 && keys == before.keys, || {
        format!("{keys} keys of {} are there", before.keys)
    })?;
    let writer = world.writer(&cluster, "app").await?;
    writer.end(&cluster).await?.nothing_lost()
}

/// Deleted, volumes kept; made again with fewer shards than the volumes have: all of them come up, and the fourth shard's
/// slots and keys move to the others before its pods and volumes go.
pub(crate) async fn retained_fewer(world: World) -> Result<()> {
    let spec = json!({"engine": "redis", "image": "redis:7.0.15"});
    let (cluster, _) = world.up(&world.manifest("small", 4, 1, spec)).await?;
    let before = written_and_deleted(&world, &cluster, COUNT + 2).await?;
    let claims = world.kube.list(Kind::CLAIM, &world.namespace, "").await?;
    ensure(claims.len() == COUNT + 2, || {
        format!("{} of {} claims are left", claims.len(), COUNT + 2)
    })?;
    let start = std::time::Instant::now();
    let cluster = small(&world, json!({})).await?;
    let shards = exactly(&world, &cluster, 3).await?;
    world.took(
        "made again with fewer shards → so many",
        start.elapsed(),
        "",
    );
    let keys = keys_of(&cluster, &shards).await?;
    ensure(keys == before.keys, || {
        format!("{keys} keys of {} are there", before.keys)
    })?;
    // What is only not there yet was never told to be gone.
    let events = world.kube.list(Kind::EVENT, &world.namespace, "").await?;
    let lost: Vec<_> = events
        .iter()
        .filter(|event| ["ShardLost", "DataLost"].contains(&text(event, "/reason")))
        .collect();
    ensure(lost.is_empty(), || format!("told as lost: {lost:?}"))?;
    let writer = world.writer(&cluster, "app").await?;
    writer.end(&cluster).await?.nothing_lost()
}

/// Deleted, one by one emptied, made again: that is lost data, and not a new cluster.
pub(crate) async fn wiped(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    written_and_deleted(&world, &cluster, COUNT).await?;
    // The volumes are emptied in place: the claims, and what is recorded on them, stay.
    let claims = world.kube.list(Kind::CLAIM, &world.namespace, "").await?;
    try_join_all(claims.iter().map(|claim| empty(&world, name(claim)))).await?;
    world
        .kube
        .apply(&world.manifest(
            "small",
            3,
            1,
            json!({"engine": "redis", "image": "redis:7.0.15"}),
        ))
        .await?;
    world
        .until_condition("small", "Ready", "False", "DataLost", READY_LIMIT)
        .await?;
    let object = world
        .kube
        .must(Kind::CLUSTER, &world.namespace, "small")
        .await?;
    let state = object.pointer("/status/state").and_then(Value::as_str);
    ensure(state == Some("DataLost"), || {
        format!("the state is {state:?}, not DataLost")
    })?;
    let (views, _) = until("every server is heard", WHOLE, || async {
        let views = cluster.views().await?;
        let heard: Result<Vec<_>> = views.into_iter().collect();
        Ok(heard.map_err(|error| error.with_causes()))
    })
    .await?;
    for view in views {
        ensure(view.cluster.slots_assigned == 0, || {
            format!("{} was formed anew", view.pod.name)
        })?;
    }
    Ok(())
}

/// Removes all files of a volume, through a pod that mounts its claim.
async fn empty(world: &World, claim: &str) -> Result<()> {
    let pod = format!("empty-{claim}");
    let document = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod, "namespace": world.namespace},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "empty", "image": "busybox:1.35",
                "command": ["sh", "-c", "rm -rf /data/* /data/.[!.]*; ls -A /data | wc -l"],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    });
    world.kube.apply(&document).await?;
    until(&format!("{claim} is emptied"), READY_LIMIT, || async {
        let found = world.kube.must(Kind::POD, &world.namespace, &pod).await?;
        let phase = found
            .pointer("/status/phase")
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned();
        Ok(if phase == "Succeeded" {
            Ok(())
        } else {
            Err(phase)
        })
    })
    .await?;
    world
        .kube
        .delete(
            Kind::POD,
            &world.namespace,
            &pod,
            Deletion {
                grace_s: Some(0),
                orphan: false,
            },
        )
        .await
}

/// `retainVolumes: false`: with the object go its volumes and everything else.
pub(crate) async fn released(world: World) -> Result<()> {
    let cluster = small(&world, json!({"retainVolumes": false})).await?;
    written_and_deleted(&world, &cluster, COUNT).await?;
    let kinds = [
        Kind::CLAIM,
        Kind::STATEFUL_SET,
        Kind::SERVICE,
        Kind::CONFIG_MAP,
        Kind::SECRET,
        Kind::NETWORK_POLICY,
        world.kube.budgets(),
    ];
    until("nothing of the cluster is left", WHOLE, || async {
        let mut left = Vec::new();
        for kind in kinds {
            for object in world
                .kube
                .list(kind, &world.namespace, "app.kubernetes.io/instance=small")
                .await?
            {
                left.push(format!("{} {}", kind.name(), name(&object)));
            }
        }
        Ok(if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(", "))
        })
    })
    .await?;
    Ok(())
}

/// A namespace that is being deleted takes its cluster along: the operator notes that once, and leaves it alone.
pub(crate) async fn namespace(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    cluster.until_agreed(COUNT, WHOLE).await?;
    world.close().await?;
    let log = world.operator()?.log().await;
    let about = format!("{}/{}", world.namespace, cluster.name);
    let of_it = || log.lines().filter(|line| line.contains(&about));
    ensure(of_it().next().is_some(), || {
        format!("the operator's log tells nothing of {about}")
    })?;
    let refused = of_it().filter(|line| line.contains("being terminated"));
    let refused: Vec<&str> = refused.collect();
    ensure(refused.is_empty(), || {
        format!("it went on in a namespace that ends: {refused:?}")
    })
}
