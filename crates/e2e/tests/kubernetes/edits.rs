//! Manifests that are wrong, changed and changed back.

use std::time::Duration;

use serde_json::{Value, json};
use shardwright_e2e::error::ensure;
use shardwright_e2e::kube_api::text;
use shardwright_e2e::measure::{Going, go};
use shardwright_e2e::servers::{Cluster, Pod};
use shardwright_e2e::wait::{stays, until};
use shardwright_e2e::world::{READY_LIMIT, condition_of};
use shardwright_e2e::{Error, Kind, Result, World};

use crate::failures::{WHOLE, shard_at, small};
use crate::shape::RESHAPED;

const COUNT: usize = 6;

/// Ten kinds of manifests that are refused; what runs is left as it is.
pub(crate) async fn invalid(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let before = cluster.pods().await?;
    let writer = world.writer(&cluster, "app").await?;
    let mut refused = Vec::new();
    for (what, spec) in wrong_specs() {
        let patch = json!({"spec": spec});
        match world
            .kube
            .patch(Kind::CLUSTER, &world.namespace, "small", patch)
            .await
        {
            // The schema of the definition catches it before it is stored: as good.
            Err(Error::Api { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.code == 422 || status.code == 400) =>
            {
                refused.push(format!("{what}: by the API"));
                continue;
            }
            other => other?,
        }
        world
            .until_condition("small", "Ready", "False", "InvalidSpec", READY_LIMIT)
            .await
            .map_err(|error| Error::Wrong(format!("{what}: {}", error.with_causes())))?;
        until(
            &format!("{what}: there is an event"),
            READY_LIMIT,
            || async {
                let events = world.kube.list(Kind::EVENT, &world.namespace, "").await?;
                let told = events.iter().any(|event| {
                    text(event, "/reason") == "InvalidSpec"
                        && text(event, "/involvedObject/name") == "small"
                });
                Ok(if told {
                    Ok(())
                } else {
                    Err("no event with the reason InvalidSpec".to_owned())
                })
            },
        )
        .await?;
        refused.push(format!("{what}: by the operator"));
        let back = back(&spec);
        world
            .kube
            .patch(
                Kind::CLUSTER,
                &world.namespace,
                "small",
                json!({"spec": back}),
            )
            .await?;
        world.until_ready("small", READY_LIMIT).await?;
    }
    let written = writer.end(&cluster).await?;
    written.nothing_lost()?;
    let operator = refused
        .iter()
        .filter(|line| line.ends_with("by the operator"))
        .count();
    world.note(
        "invalid manifests refused",
        format!(
            "{} by the operator, {} by the API",
            operator,
            refused.len() - operator
        ),
        "10",
    );
    untouched(&before, &cluster.pods().await?)
}

/// The same pods, and none of them restarted. When each was first ready does not matter.
fn untouched(before: &[Pod], after: &[Pod]) -> Result<()> {
    let lives = |pods: &[Pod]| {
        pods.iter()
            .map(|pod| (pod.uid.clone(), pod.restarts))
            .collect::<Vec<_>>()
    };
    ensure(lives(before) == lives(after), || {
        format!("pods were made anew or restarted: {before:?}, then {after:?}")
    })
}

/// What is wrong, and a patch of the spec that makes it so.
fn wrong_specs() -> Vec<(&'static str, Value)> {
    let users = |user: Value| json!({"users": [{"name": "default", "rules": "~* &* +@all"}, {"name": "app", "rules": "~* &* +@all -@dangerous"}, user]});
    vec![
        ("two shards", json!({"shards": 2})),
        ("eleven replicas", json!({"replicasPerShard": 11})),
        (
            "a setting that is ours",
            json!({"config": {"port": "7000"}}),
        ),
        (
            "a setting by its wire name",
            json!({"config": {"cluster-announce-ip": "10.0.0.1"}}),
        ),
        (
            "a size that is none",
            json!({"storage": {"size": "plenty"}}),
        ),
        (
            "memory that is none",
            json!({"resources": {"limits": {"memory": "200 MB"}}}),
        ),
        (
            "a user twice",
            users(json!({"name": "app", "rules": "+@read"})),
        ),
        (
            "rules with a password",
            users(json!({"name": "other", "rules": ">secret +@all"})),
        ),
        (
            "a hash that is none",
            users(json!({"name": "other", "rules": "+@read", "passwordHashes": ["abc"]})),
        ),
        (
            "a label that selects pods",
            json!({"pod": {"labels": {"app.kubernetes.io/instance": "other"}}}),
        ),
    ]
}

/// The patch that takes a wrong one back to what `World::manifest` says.
fn back(spec: &Value) -> Value {
    let mut back = json!({});
    for key in spec.as_object().into_iter().flat_map(serde_json::Map::keys) {
        back[key] = match key.as_str() {
            "shards" => json!(3),
            "replicasPerShard" => json!(1),
            "storage" => json!({"size": "1Gi"}),
            "resources" => json!({"limits": {"memory": "200M"}}),
            "users" => {
                json!([{"name": "default", "rules": "~* &* +@all"}, {"name": "app", "rules": "~* &* +@all -@dangerous"}])
            }
            _ => Value::Null,
        };
    }
    back
}

/// An edit taken back a moment later: nothing restarts, nothing is left of it.
pub(crate) async fn reverted(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let before = cluster.pods().await?;
    let writer = world.writer(&cluster, "app").await?;
    let edits = [
        (
            json!({"config": {"maxmemory-policy": "allkeys-lru"}}),
            json!({"config": null}),
        ),
        (json!({"shards": 4}), json!({"shards": 3})),
        (
            json!({"pod": {"annotations": {"a": "b"}}}),
            json!({"pod": null}),
        ),
    ];
    for (edit, back) in edits {
        world
            .kube
            .patch(
                Kind::CLUSTER,
                &world.namespace,
                "small",
                json!({"spec": edit}),
            )
            .await?;
        // Mid-way: the operator has seen the edit and not yet finished with it.
        until("the edit is seen", READY_LIMIT, || async {
            let object = world
                .kube
                .must(Kind::CLUSTER, &world.namespace, "small")
                .await?;
            let seen = object.pointer("/status/observedGeneration")
                == object.pointer("/metadata/generation");
            Ok(if seen {
                Ok(())
            } else {
                Err("an older generation".to_owned())
            })
        })
        .await?;
        world
            .kube
            .patch(
                Kind::CLUSTER,
                &world.namespace,
                "small",
                json!({"spec": back}),
            )
            .await?;
        world.until_ready("small", READY_LIMIT).await?;
    }
    let (_, took) = cluster.until_agreed(COUNT, RESHAPED).await?;
    world.took("edits reverted: whole after", took, "");
    writer.end(&cluster).await?.nothing_lost()?;
    untouched(&before, &cluster.pods().await?)
}

/// A setting whose name is misspelled: the running servers do not know it, and nothing of the change is carried out. What
/// runs is looked after all the same.
pub(crate) async fn misspelled(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let before = (cluster.pods().await?, config(&world).await?);
    let edit = |config: Value| {
        let patch = json!({"spec": {"config": config}});
        world
            .kube
            .patch(Kind::CLUSTER, &world.namespace, "small", patch)
    };
    edit(json!({"maxmemroy": "100mb", "hz": "20"})).await?;
    world
        .until_condition(
            "small",
            "Progressing",
            "False",
            "SettingUnknown",
            READY_LIMIT,
        )
        .await?;
    let kube = &world.kube;
    let object = kube.must(Kind::CLUSTER, &world.namespace, "small").await?;
    let said = condition_of(&object, "Progressing").map(|c| text(c, "/message").to_owned());
    ensure(
        said.as_deref().is_some_and(|said| {
            said.contains("(Redis 7.0.15) does not know spec.config.maxmemroy,")
        }),
        || format!("the name is not told: {said:?}"),
    )?;
    stays("the file is as it was", Duration::from_secs(5), || async {
        let now = config(&world).await?;
        let same = now == before.1;
        Ok(same
            .then_some(())
            .ok_or_else(|| "the file was written".to_owned()))
    })
    .await?;
    edit(json!({"maxmemroy": null})).await?;
    until("the file has the rest", READY_LIMIT, || async {
        let now = config(&world).await?;
        let has = now.contains("\nhz 20\n") && !now.contains("maxmemroy");
        Ok(has.then_some(()).ok_or(now))
    })
    .await?;
    world.until_ready("small", READY_LIMIT).await?;
    untouched(&before.0, &cluster.pods().await?)
}

/// A new cluster whose servers refuse a setting: nobody can be asked before, and the status says what they complain of.
pub(crate) async fn refused_at_start(world: World) -> Result<()> {
    let spec =
        json!({"engine": "redis", "image": "redis:7.0.15", "config": {"maxmemroy": "100mb"}});
    let manifest = world.manifest("small", 3, 1, spec);
    world.kube.apply(&manifest).await?;
    until("the complaint is in the status", READY_LIMIT, || async {
        let kube = &world.kube;
        let object = kube.must(Kind::CLUSTER, &world.namespace, "small").await?;
        let said = condition_of(&object, "Ready").map(|c| text(c, "/message").to_owned());
        let told = said
            .as_deref()
            .is_some_and(|said| said.contains("(maxmemroy 100mb): Bad directive"));
        Ok(told
            .then_some(())
            .ok_or_else(|| format!("Ready says {said:?}")))
    })
    .await?;
    Ok(())
}

/// The configuration file of the servers.
async fn config(world: &World) -> Result<String> {
    let namespace = &world.namespace;
    let map = world
        .kube
        .must(Kind::CONFIG_MAP, namespace, "small-config")
        .await?;
    Ok(text(&map, "/data/redis.conf").to_owned())
}

/// `paused: true`: hands off, and the engine's own failover still works.
pub(crate) async fn paused(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    world
        .kube
        .patch(
            Kind::CLUSTER,
            &world.namespace,
            "small",
            json!({"spec": {"paused": true}}),
        )
        .await?;
    until("the object is paused", READY_LIMIT, || async {
        let object = world
            .kube
            .must(Kind::CLUSTER, &world.namespace, "small")
            .await?;
        let state = text(&object, "/status/state").to_owned();
        Ok(if state == "Paused" {
            Ok(())
        } else {
            Err(state)
        })
    })
    .await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let writer = world.writer(&cluster, "app").await?;
    let shard = shard_at(&shards, 0)?;
    go(&world, &cluster, shard, Going::Deleted).await?;
    crate::failures::until_new(&cluster, &shard.primary).await?;
    // The engine fails over by itself; nobody tells the others the pod's new address.
    writer.until_flowing(WHOLE).await?;
    stays(
        "nobody acts on a paused cluster",
        Duration::from_secs(3),
        || async {
            let object = world
                .kube
                .must(Kind::CLUSTER, &world.namespace, "small")
                .await?;
            let state = text(&object, "/status/state").to_owned();
            Ok(if state == "Paused" {
                Ok(())
            } else {
                Err(state)
            })
        },
    )
    .await?;
    world
        .kube
        .patch(
            Kind::CLUSTER,
            &world.namespace,
            "small",
            json!({"spec": {"paused": null}}),
        )
        .await?;
    let (_, took) = cluster.until_agreed(COUNT, WHOLE).await?;
    world.took("no longer paused: whole after", took, "");
    writer
        .end(&cluster)
        .await?
        .lost_at_most(crate::failures::UNDER_WAY)?;
    let object = world
        .kube
        .must(Kind::CLUSTER, &world.namespace, "small")
        .await?;
    ensure(condition_of(&object, "Ready").is_some(), || {
        "no condition Ready".to_owned()
    })
}

/// Larger volumes: claims are expanded, no pod restarts.
pub(crate) async fn expanded(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let before = cluster.pods().await?;
    let writer = world.writer(&cluster, "app").await?;
    world
        .kube
        .patch(
            Kind::CLUSTER,
            &world.namespace,
            "small",
            json!({"spec": {"storage": {"size": "2Gi"}}}),
        )
        .await?;
    until(
        "every claim and the template are larger",
        READY_LIMIT,
        || async {
            let claims = world.kube.list(Kind::CLAIM, &world.namespace, "").await?;
            let large = claims
                .iter()
                .filter(|claim| text(claim, "/status/capacity/storage") == "2Gi")
                .count();
            let set = world
                .kube
                .get(Kind::STATEFUL_SET, &world.namespace, "small")
                .await?;
            let template = set.as_ref().map_or("", |set| {
                text(
                    set,
                    "/spec/volumeClaimTemplates/0/spec/resources/requests/storage",
                )
            });
            Ok(if large == COUNT && template == "2Gi" {
                Ok(())
            } else {
                Err(format!("{large} claims, template {template:?}"))
            })
        },
    )
    .await?;
    world.until_ready("small", READY_LIMIT).await?;
    let written = writer.end(&cluster).await?;
    written.nothing_lost()?;
    world.took("volumes expanded: gap", written.gap, "");
    untouched(&before, &cluster.pods().await?)
}

/// An image that can't be had, and then a request that no Kubernetes node grants: declared, met by one pod, and taken back.
/// The pod is made anew without anybody, and no other is touched.
pub(crate) async fn taken_back(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let replica = shard_at(&shards, 0)?.replicas.first().cloned();
    let replica = replica.ok_or_else(|| Error::Wrong("a shard without replica".to_owned()))?;
    let before = others(&cluster, &replica).await?;
    let writer = world.writer(&cluster, "app").await?;
    let memory = |requests: &str, limits: &str| json!({"resources": {"requests": {"memory": requests}, "limits": {"memory": limits}}});
    let edits = [
        (
            "image",
            json!({"image": "redis:there-is-none"}),
            json!({"image": "redis:7.0.15"}),
        ),
        ("request", memory("500Gi", "500Gi"), memory("20M", "200M")),
    ];
    for (what, bad, good) in edits {
        declare(&world, bad).await?;
        let old = cluster.running_pod(&replica.name).await?;
        world.delete_pod(&cluster, &replica.name).await?;
        until(&format!("a pod meets the {what}"), WHOLE, || async {
            let mut pods = cluster.pods().await?.into_iter();
            let met = pods.find(|pod| pod.name == replica.name && pod.uid != old.uid);
            Ok(met
                .map(|_| ())
                .ok_or_else(|| "it was not made yet".to_owned()))
        })
        .await?;
        world
            .until_condition("small", "Degraded", "True", "", READY_LIMIT)
            .await?;
        declare(&world, good).await?;
        let (_, took) = cluster.until_agreed(COUNT, WHOLE).await?;
        world.took(&format!("{what} taken back: whole after"), took, "");
    }
    let events = world.kube.list(Kind::EVENT, &world.namespace, "").await?;
    let told = events.iter().any(|e| text(e, "/reason") == "PodReplaced");
    ensure(told, || "no event with the reason PodReplaced".to_owned())?;
    writer.end(&cluster).await?.nothing_lost()?;
    untouched(&before, &others(&cluster, &replica).await?)
}

/// A sidecar that ends at once, declared while pods run: it is told that it is only declared; then a pod that has it, which
/// is not ready beside a node that is well; and once all is taken back, and that pod made anew by hand, nothing any more.
pub(crate) async fn not_applied(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let is = async |condition: &str, status: &str, reason: &str| {
        world
            .until_condition("small", condition, status, reason, READY_LIMIT)
            .await
    };
    is("UpToDate", "True", "AsDeclared").await?;
    let sidecar = json!([{"name": "broken", "image": "redis:7.0.15", "command": ["redis-server", "--no-such-setting", "x"]}]);
    declare(&world, json!({"pod": {"sidecars": sidecar}})).await?;
    is("UpToDate", "False", "NotApplied").await?;
    let replica = shard_at(&shards, 0)?.replicas.first().cloned();
    let replica = replica.ok_or_else(|| Error::Wrong("a shard without replica".to_owned()))?;
    world.delete_pod(&cluster, &replica.name).await?;
    is("Degraded", "True", "PodNotReady").await?;
    declare(&world, json!({"pod": null})).await?;
    world.delete_pod(&cluster, &replica.name).await?;
    is("Degraded", "False", "").await?;
    is("UpToDate", "True", "AsDeclared").await?;
    world.until_ready("small", READY_LIMIT).await?;
    cluster.until_agreed(COUNT, WHOLE).await?;
    Ok(())
}

/// The pods but this one.
async fn others(cluster: &Cluster, one: &Pod) -> Result<Vec<Pod>> {
    let pods = cluster.pods().await?.into_iter();
    Ok(pods.filter(|pod| pod.name != one.name).collect())
}

/// Changes the spec, and waits until the operator has seen it.
async fn declare(world: &World, spec: Value) -> Result<()> {
    let patch = json!({"spec": spec});
    world
        .kube
        .patch(Kind::CLUSTER, &world.namespace, "small", patch)
        .await?;
    until("the edit is seen", READY_LIMIT, || async {
        let object = world
            .kube
            .must(Kind::CLUSTER, &world.namespace, "small")
            .await?;
        let generation = object.pointer("/metadata/generation");
        let seen = object.pointer("/status/observedGeneration") == generation;
        Ok(if seen {
            Ok(())
        } else {
            Err("an older generation".to_owned())
        })
    })
    .await?;
    Ok(())
}
