//! The article's cluster from one apply, looked at from all sides.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use shardwright_e2e::error::ensure;
use shardwright_e2e::kube_api::{Ran, name, text};
use shardwright_e2e::servers::{CONTAINER, Cluster, Shard, ask_as};
use shardwright_e2e::wait::{stays, until};
use shardwright_e2e::world::{READY_LIMIT, document};
use shardwright_e2e::{Error, Kind, Result, World};

use crate::evictions::{all_are, budget, budget_is, set_has_counted};

const COUNT: usize = 6;
const EXAMPLE: &str = include_str!("../../../../examples/article.yaml");
/// How long an idle cluster is watched for writes that nobody needs.
const IDLE: Duration = Duration::from_secs(12);

/// `kubectl apply -f examples/article.yaml`, and everything that is promised of it.
pub(crate) async fn article(world: World) -> Result<()> {
    let manifest = document(EXAMPLE)?;
    let (cluster, ready) = world.up(&manifest).await?;
    world.took("apply → Ready", ready, "≤ 15 s");
    let (shards, _) = cluster.until_agreed(COUNT, Duration::from_secs(5)).await?;
    layout(&shards)?;
    until_counted(&world).await?;
    objects(&world, &cluster).await?;
    let writer = world.writer(&cluster, "worker").await?;
    users(&world, &cluster, &shards).await?;
    by_redis_cli(&world, &cluster).await?;
    again(&world, &cluster, &manifest).await?;
    let written = writer.end(&cluster).await?;
    written.nothing_lost()?;
    world.took(
        "longest time without writes while nothing happens",
        written.gap,
        "",
    );
    idle(&world, &cluster).await
}

/// Three shards with a replica each, never on the primary's Kubernetes node.
fn layout(shards: &[Shard]) -> Result<()> {
    ensure(shards.len() == 3, || format!("{} shards", shards.len()))?;
    for shard in shards {
        ensure(shard.replicas.len() == 1, || {
            format!("{shard:?} has not one replica")
        })?;
        let hosts: Vec<_> = shard.replicas.iter().map(|replica| &replica.host).collect();
        ensure(!hosts.contains(&&shard.primary.host), || {
            format!(
                "{} and its replica are both on {}",
                shard.primary.name, shard.primary.host
            )
        })?;
    }
    Ok(())
}

async fn objects(world: &World, cluster: &Cluster) -> Result<()> {
    let set = world
        .kube
        .must(Kind::STATEFUL_SET, &world.namespace, "redis")
        .await?;
    pods_as_specified(&set)?;
    owned(&set, world).await?;
    network(world).await?;
    no_password_in_the_open(world, cluster).await?;
    let claims = world.kube.list(Kind::CLAIM, &world.namespace, "").await?;
    ensure(claims.len() == COUNT, || format!("{} claims", claims.len()))?;
    let object = world
        .kube
        .must(Kind::CLUSTER, &world.namespace, "redis")
        .await?;
    all_are(
        &object,
        &[
            ("/status/state", "Healthy".into()),
            ("/status/ready", "6/6".into()),
            ("/status/slotsCovered", 16_384.into()),
            ("/status/shardCount", 3.into()),
        ],
    )
}

fn pods_as_specified(set: &Value) -> Result<()> {
    all_are(
        set,
        &[
            ("/spec/replicas", 6.into()),
            ("/spec/serviceName", "redis".into()),
            ("/spec/podManagementPolicy", "Parallel".into()),
            ("/spec/updateStrategy/type", "OnDelete".into()),
        ],
    )?;
    let pod = set.pointer("/spec/template/spec").unwrap_or(&Value::Null);
    all_are(
        pod,
        &[
            ("/automountServiceAccountToken", false.into()),
            ("/securityContext/runAsNonRoot", true.into()),
            (
                "/securityContext/seccompProfile/type",
                "RuntimeDefault".into(),
            ),
            ("/containers/0/resources/limits/memory", "2G".into()),
        ],
    )?;
    for container in ["/containers/0", "/initContainers/0"] {
        let container = pod.pointer(container).unwrap_or(&Value::Null);
        all_are(
            container,
            &[
                ("/securityContext/readOnlyRootFilesystem", true.into()),
                ("/securityContext/allowPrivilegeEscalation", false.into()),
                ("/securityContext/capabilities/drop/0", "ALL".into()),
            ],
        )?;
    }
    Ok(())
}

async fn network(world: &World) -> Result<()> {
    let (kube, namespace) = (&world.kube, world.namespace.as_str());
    let headless = kube.must(Kind::SERVICE, namespace, "redis").await?;
    all_are(
        &headless,
        &[
            ("/spec/clusterIP", "None".into()),
            ("/spec/publishNotReadyAddresses", true.into()),
        ],
    )?;
    let clients = kube.must(Kind::SERVICE, namespace, "redis-client").await?;
    let all = clients.pointer("/spec/publishNotReadyAddresses");
    ensure(all != Some(&true.into()), || {
        "Service redis-client shows pods that are not ready".to_owned()
    })?;
    let unhealthy = match kube.version {
        version if version >= (1, 27) => "AlwaysAllow".into(),
        _ => Value::Null,
    };
    let budget = budget(kube, namespace).await?;
    all_are(
        &budget,
        &[
            ("/spec/maxUnavailable", 1.into()),
            ("/spec/unhealthyPodEvictionPolicy", unhealthy),
        ],
    )?;
    kube.must(Kind::NETWORK_POLICY, namespace, "redis").await?;
    Ok(())
}

/// Passwords stand in Secrets and nowhere else.
async fn no_password_in_the_open(world: &World, cluster: &Cluster) -> Result<()> {
    let mut open = Vec::new();
    for kind in [
        Kind::CONFIG_MAP,
        Kind::STATEFUL_SET,
        Kind::POD,
        Kind::EVENT,
        Kind::CLUSTER,
    ] {
        open.extend(world.kube.list(kind, &world.namespace, "").await?);
    }
    for user in ["default", "worker"] {
        let password = cluster.password(user).await?;
        for object in &open {
            ensure(!object.to_string().contains(&password), || {
                format!(
                    "{} {} holds the password of {user}",
                    text(object, "/kind"),
                    name(object)
                )
            })?;
        }
    }
    Ok(())
}

/// Whatever goes with the object has it as its owner.
async fn owned(set: &Value, world: &World) -> Result<()> {
    let object = world
        .kube
        .must(Kind::CLUSTER, &world.namespace, "redis")
        .await?;
    let (owner, uid) = (
        text(set, "/metadata/ownerReferences/0/uid"),
        text(&object, "/metadata/uid"),
    );
    ensure(owner == uid, || {
        format!("StatefulSet redis is owned by {owner:?}, not by the RedisCluster")
    })
}

async fn users(world: &World, cluster: &Cluster, shards: &[Shard]) -> Result<()> {
    let primary = shards.first().and_then(|shard| shard.primary.address());
    let primary =
        primary.ok_or_else(|| Error::Wrong("the first primary has no address".to_owned()))?;
    let nobody = ask_as::<String>(&primary, None, &["GET", "a"]).await;
    refused("a client without password", nobody, "NOAUTH")?;
    let worker = ("worker".to_owned(), cluster.password("worker").await?);
    for command in [
        &["FLUSHALL"][..],
        &["CONFIG", "GET", "dir"],
        &["KEYS", "*"],
        &["ACL", "LIST"],
    ] {
        let answer = ask_as::<redis::Value>(&primary, Some(&worker), command).await;
        refused(&format!("worker: {}", command.join(" ")), answer, "NOPERM")?;
    }
    let wrong = ("worker".to_owned(), "admin".to_owned());
    refused(
        "a wrong password",
        ask_as::<String>(&primary, Some(&wrong), &["PING"]).await,
        "WRONGPASS",
    )?;
    for shard in shards {
        let address = shard.primary.address();
        let address = address
            .ok_or_else(|| Error::Wrong(format!("{} has no address", shard.primary.name)))?;
        let clients: String = cluster
            .ask(&address, &["CLIENT", "LIST", "TYPE", "replica"])
            .await?;
        let so = clients.lines().count() == 1 && clients.contains("user=replication");
        ensure(so, || {
            format!(
                "replicas of {} are logged in as: {clients}",
                shard.primary.name
            )
        })?;
    }
    world.note("users", "worker may write, and nothing dangerous", "");
    Ok(())
}

/// The error of a refused command begins with a code, and no other error will do.
fn refused<T: std::fmt::Debug>(what: &str, answer: Result<T>, code: &str) -> Result<()> {
    match answer {
        Err(Error::Redis { source, .. })
            if source.code() == Some(code)
                // The login of a connection fails as a whole: its kind tells.
                || code == "WRONGPASS" && source.kind() == redis::ErrorKind::AuthenticationFailed =>
        {
            Ok(())
        }
        other => Error::wrong(format!("{what} is not refused with {code}: {other:?}")),
    }
}

/// As the article does it, in a pod.
async fn by_redis_cli(world: &World, cluster: &Cluster) -> Result<()> {
    let password = cluster.password("default").await?;
    let run = async |command: String| -> Result<Ran> {
        // By the environment: a password on a command line stands in the process list.
        let script = format!("export REDISCLI_AUTH='{password}'; {command}");
        world
            .kube
            .exec(
                &world.namespace,
                "redis-0",
                CONTAINER,
                &["sh", "-c", &script],
            )
            .await
    };
    let host = format!("redis-3.redis.{}.svc.cluster.local", world.namespace);
    let check = run(format!("redis-cli --cluster check {host}:6379")).await?;
    let so = check.ok && check.out.contains("[OK] All 16384 slots covered");
    ensure(so, || {
        format!(
            "redis-cli --cluster check {host}: {} {}",
            check.out, check.err
        )
    })?;
    for key in ["a", "b", "c", "d"] {
        let set = run(format!("redis-cli -c -h {host} SET redirected:{key} {key}")).await?;
        ensure(set.out.trim() == "OK", || {
            format!("redis-cli -c SET: {} {}", set.out, set.err)
        })?;
        let get = run(format!("redis-cli -c GET redirected:{key}")).await?;
        ensure(get.out.trim() == key, || {
            format!("redis-cli -c GET: {} {}", get.out, get.err)
        })?;
    }
    Ok(())
}

/// The versions of all that belongs to the cluster, and the pods' restarts.
async fn versions(world: &World, cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    let kinds = [
        Kind::CLUSTER,
        Kind::STATEFUL_SET,
        Kind::SERVICE,
        Kind::CONFIG_MAP,
        Kind::SECRET,
        Kind::CLAIM,
        Kind::NETWORK_POLICY,
        world.kube.budgets(),
    ];
    for kind in kinds {
        for object in world.kube.list(kind, &world.namespace, "").await? {
            let key = format!("{} {}", kind.name(), name(&object));
            let version = if kind == Kind::CLUSTER {
                but_for_its_time(&object)
            } else {
                text(&object, "/metadata/resourceVersion").to_owned()
            };
            all.insert(key, version);
        }
    }
    for pod in cluster.pods().await? {
        all.insert(
            format!("Pod {}", pod.name),
            format!("{} restarts {}", pod.uid, pod.restarts),
        );
    }
    Ok(all)
}

/// What is declared and told of a cluster. When it was looked at last is written once a minute.
fn but_for_its_time(object: &Value) -> String {
    let mut status = object.get("status").cloned();
    if let Some(fields) = status.as_mut().and_then(Value::as_object_mut) {
        fields.remove("lastObserved");
    }
    let generation = object.pointer("/metadata/generation");
    json!([generation, object.get("spec"), status]).to_string()
}

fn same(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> std::result::Result<(), String> {
    let changed: Vec<_> = before
        .iter()
        .filter(|(key, version)| after.get(*key) != Some(version))
        .map(|(key, _)| key.as_str())
        .collect();
    let new: Vec<_> = after
        .keys()
        .filter(|key| !before.contains_key(*key))
        .map(String::as_str)
        .collect();
    if changed.is_empty() && new.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "changed: {}; new: {}",
            changed.join(", "),
            new.join(", ")
        ))
    }
}

/// Waits until Kubernetes' own controllers have counted every pod: the status of the `StatefulSet` and of the disruption
/// budget follow the readiness of pods some hundred ms later, and each of these is a write.
async fn until_counted(world: &World) -> Result<()> {
    until("every pod is counted", READY_LIMIT, || async {
        let (kube, namespace) = (&world.kube, world.namespace.as_str());
        let set = kube.must(Kind::STATEFUL_SET, namespace, "redis").await?;
        let budget = budget(kube, namespace).await?;
        let counted = set_has_counted(&set, COUNT).and_then(|()| budget_is(&budget, 1, COUNT));
        Ok(counted.map_err(|error| error.to_string()))
    })
    .await?;
    Ok(())
}

/// The same document once more: nothing changes, nothing restarts.
async fn again(world: &World, cluster: &Cluster, manifest: &Value) -> Result<()> {
    let before = versions(world, cluster).await?;
    world.kube.apply(manifest).await?;
    world.until_ready(&cluster.name, READY_LIMIT).await?;
    until_counted(world).await?;
    let after = versions(world, cluster).await?;
    same(&before, &after).or_else(|why| Error::wrong(format!("applied again: {why}")))
}

/// A healthy cluster at rest costs no writes to the API but the time of the last look, once a minute.
async fn idle(world: &World, cluster: &Cluster) -> Result<()> {
    until_counted(world).await?;
    let before = versions(world, cluster).await?;
    stays("nothing is written while nothing happens", IDLE, || async {
        Ok(same(&before, &versions(world, cluster).await?))
    })
    .await
}
