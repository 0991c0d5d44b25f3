//! The operator's rights, clusters without it, and the command line against Kubernetes.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use shardwright_e2e::error::ensure;
use shardwright_e2e::kube_api::{Deletion, documents, text};
use shardwright_e2e::operator::{program, run_program};
use shardwright_e2e::servers::{Cluster, Shard};
use shardwright_e2e::wait::until;
use shardwright_e2e::world::READY_LIMIT;
use shardwright_e2e::{Error, Kind, Result, World};

use crate::failures::{WHOLE, shard_at, small};

const COUNT: usize = 6;

/// What the operator's account may do, asked of the API: what it needs, and nothing beyond.
pub(crate) async fn rights(world: World) -> Result<()> {
    let operator = world.operator()?;
    let pods = operator.pods().await?;
    let account = pods
        .first()
        .map_or("", |pod| text(pod, "/spec/serviceAccountName"))
        .to_owned();
    ensure(!account.is_empty() && account != "default", || {
        format!("the operator runs as {account:?}")
    })?;
    let user = format!("system:serviceaccount:{}:{account}", operator.namespace);
    let may = async |namespace: &str, group: &str, resource: &str, verb: &str| {
        let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
        world.kube.may(&user, json!({"namespace": namespace, "group": group, "resource": resource, "subresource": sub, "verb": verb})).await
    };
    let ns = world.namespace.as_str();
    for (group, resource, verb) in [
        ("apps", "statefulsets", "patch"),
        ("", "pods", "delete"),
        ("", "secrets", "create"),
        ("shardwright.dev", "redisclusters/status", "patch"),
        ("shardwright.dev", "redisclusters", "patch"),
    ] {
        ensure(may(ns, group, resource, verb).await?, || {
            format!("it may not {verb} {resource}")
        })?;
    }
    let never = [
        ("", "secrets", "update"),
        ("", "pods/exec", "create"),
        ("", "pods", "create"),
        ("", "namespaces", "delete"),
        ("", "nodes", "patch"),
        ("", "persistentvolumes", "delete"),
        ("", "services", "delete"),
        ("apps", "deployments", "create"),
        ("rbac.authorization.k8s.io", "clusterroles", "bind"),
        ("rbac.authorization.k8s.io", "roles", "create"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "patch"),
        ("shardwright.dev", "redisclusters", "delete"),
    ];
    for (group, resource, verb) in never {
        ensure(!may(ns, group, resource, verb).await?, || {
            format!("it may {verb} {resource}")
        })?;
    }
    world.note(
        "rights beyond what is needed",
        format!("none of {} asked for", never.len()),
        "",
    );
    Ok(())
}

/// `shardwright render -f FILE --secrets DIR | kubectl apply -f -`: a cluster without the operator. Run and applied a
/// second time, it locks nobody out.
pub(crate) async fn rendered(world: World) -> Result<()> {
    let manifest = world.manifest(
        "plain",
        3,
        1,
        json!({"engine": "redis", "image": "redis:7.0.15"}),
    );
    let home = std::env::temp_dir().join(format!("{}-rendered", world.namespace));
    std::fs::create_dir_all(&home).map_err(Error::io(format!("make {}", home.display())))?;
    let file = home.join("manifest.yaml");
    // JSON is YAML.
    std::fs::write(&file, manifest.to_string())
        .map_err(Error::io(format!("write {}", file.display())))?;
    let ended = rendered_twice(&world, &file, &home.join("passwords")).await;
    std::fs::remove_dir_all(&home).map_err(Error::io(format!("remove {}", home.display())))?;
    ended
}

async fn rendered_twice(world: &World, file: &Path, passwords: &Path) -> Result<()> {
    let (path, secrets) = (file.display().to_string(), passwords.display().to_string());
    let (major, minor) = world.kube.version;
    let version = format!("{major}.{minor}");
    let render = ["render", "-f", &path, "--kubernetes", &version];
    // Passwords that are kept nowhere would be others in the next output.
    ends(&program()?, &render, 2, "--make-passwords")?;
    let keeping = [&render[..], &["--secrets", &secrets, "--make-passwords"]].concat();
    let first = documents(&run_program(&keeping)?)?;
    let kinds: BTreeSet<_> = first
        .iter()
        .map(|document| text(document, "/kind").to_owned())
        .collect();
    for kind in [
        "ConfigMap",
        "Secret",
        "Service",
        "StatefulSet",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "Job",
    ] {
        ensure(kinds.contains(kind), || {
            format!("render printed no {kind}: {kinds:?}")
        })?;
    }
    let start = std::time::Instant::now();
    apply_all(world, &first).await?;
    until("the job has formed the cluster", READY_LIMIT, || async {
        let jobs = world.kube.list(Kind::JOB, &world.namespace, "").await?;
        let done = jobs
            .iter()
            .any(|job| job.pointer("/status/succeeded").and_then(Value::as_u64) == Some(1));
        Ok(if done {
            Ok(())
        } else {
            Err(jobs
                .iter()
                .map(|job| {
                    job.pointer("/status")
                        .map_or(String::new(), Value::to_string)
                })
                .collect())
        })
    })
    .await?;
    let cluster = Cluster::ours(&world.kube, &world.namespace, "plain").await?;
    cluster.until_agreed(COUNT, WHOLE).await?;
    world.took("rendered and applied → whole", start.elapsed(), "");
    let writer = world.writer(&cluster, "app").await?;
    // Without the version: it is asked for.
    let again = ["render", "-f", &path, "--secrets", &secrets];
    let second = documents(&run_program(&again)?)?;
    ensure(first == second, || {
        "the second output of render is another".to_owned()
    })?;
    apply_all(world, &second).await?;
    // A pod that starts with what was applied last logs in at its primary, and the writer at it.
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let replica = shard_at(&shards, 0)?.replicas.first();
    let replica = replica.ok_or_else(|| Error::Wrong("a shard without a replica".to_owned()))?;
    world
        .kube
        .delete(
            Kind::POD,
            &world.namespace,
            &replica.name,
            Deletion::default(),
        )
        .await?;
    crate::failures::until_new(&cluster, replica).await?;
    cluster.until_agreed(COUNT, WHOLE).await?;
    writer.end(&cluster).await?.nothing_lost()
}

async fn apply_all(world: &World, documents: &[Value]) -> Result<()> {
    for document in documents {
        world.kube.apply(document).await?;
    }
    Ok(())
}

/// The verbs on `k8s:NAMESPACE/NAME`, and as the kubectl plugin.
pub(crate) async fn plugin(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    let (shards, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    let ns = world.namespace.as_str();
    let target = format!("k8s:{ns}/small");
    let status: Value = serde_json::from_str(&run_program(&["status", "-o", "json", &target])?)
        .map_err(|e| Error::Text {
            what: "shardwright status".to_owned(),
            why: e.to_string(),
        })?;
    for pod in (0..COUNT).map(|n| format!("small-{n}")) {
        ensure(status.to_string().contains(&pod), || {
            format!("status does not name {pod}: {status}")
        })?;
    }
    ensure(
        status.pointer("/covered").and_then(Value::as_bool) == Some(true),
        || format!("status says not all slots are covered: {status}"),
    )?;
    run_program(&["check", &target])?;
    let plan = run_program(&["plan", &target])?;
    ensure(plan.contains("Nothing to do"), || {
        format!("plan of a healthy cluster: {plan}")
    })?;
    let program = program()?;
    ends(&program, &["fix", &target], 0, "healthy")?;
    asked_failover(&world, &cluster, &shards, &program, &target).await?;
    bad_input(ns, &program)?;
    // Roles that moved together by the failover are kept apart once all has been as it is for a while.
    until("nothing is to be done", READY_LIMIT, || async {
        let plan = run_program(&["plan", &target])?;
        let done = plan.contains("Nothing to do");
        Ok(if done { Ok(()) } else { Err(plan) })
    })
    .await?;
    kubectls_way(ns, &program)
}

/// A replica becomes the primary because it was asked for on the object; what would lose writes is refused.
async fn asked_failover(
    world: &World,
    cluster: &Cluster,
    shards: &[Shard],
    program: &str,
    target: &str,
) -> Result<()> {
    let shard = shard_at(shards, 0)?;
    let replica = shard
        .replicas
        .first()
        .ok_or_else(|| Error::Wrong("a shard without a replica".to_owned()))?;
    let (heir, old) = (replica.name.as_str(), shard.primary.name.as_str());
    let writer = world.writer(cluster, "app").await?;
    ends(
        program,
        &["failover", target, heir, "--dry-run"],
        0,
        "switch over",
    )?;
    let start = std::time::Instant::now();
    ends(program, &["failover", target, heir], 0, "is the primary")?;
    world.took("failover asked for → answered", start.elapsed(), "");
    // Again, it asks for nothing.
    ends(program, &["failover", target, heir], 0, "is the primary")?;
    let (after, _) = cluster.until_agreed(COUNT, WHOLE).await?;
    ensure(after.iter().any(|shard| shard.primary.name == heir), || {
        format!("{heir} is no primary: {after:?}")
    })?;
    writer.end(cluster).await?.nothing_lost()?;
    // Its primary lives: nothing proves it dead.
    let refused = ["failover", target, old, "--takeover"];
    ends(program, &refused, 3, "not proved dead")?;
    ends(program, &["failover", target, "small-99"], 2, "no node")?;
    let object = world
        .kube
        .must(Kind::CLUSTER, &world.namespace, "small")
        .await?;
    let asked = object
        .pointer("/metadata/annotations")
        .and_then(Value::as_object);
    let left: Vec<_> = asked
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("shardwright.dev/"))
        .collect();
    ensure(left.is_empty(), || {
        format!("answered requests stay on the object: {left:?}")
    })
}

/// What means no cluster, or has no place here, ends with status 2 and says what to do.
fn bad_input(ns: &str, program: &str) -> Result<()> {
    let here = |name: &str| format!("k8s:{ns}/{name}");
    let (small, none) = (here("small"), here("none"));
    for verb in ["status", "check", "plan", "fix"] {
        ends(program, &[verb, &none], 2, "there is no RedisCluster none")?;
    }
    let elsewhere = format!("k8s:{ns}-not/small");
    ends(program, &["status", &elsewhere], 2, "there is no")?;
    ends(program, &["status", "k8s:small"], 2, "k8s:NAMESPACE/NAME")?;
    ends(program, &["down", &small], 2, "kubectl delete")?;
    ends(
        program,
        &["add-node", &small, "10.0.0.1:6379"],
        2,
        "kubectl edit",
    )?;
    ends(program, &["remove-node", &small, "3f"], 2, "kubectl edit")?;
    ends(program, &["create", &small], 2, "kubectl apply")?;
    let context = ["status", &small, "--context", "no-such-context"];
    ends(program, &context, 2, "no-such-context")
}

/// Called by the name that kubectl looks for.
fn kubectls_way(ns: &str, program: &str) -> Result<()> {
    let directory = std::env::temp_dir().join(format!("{ns}-kubectl-shardwright"));
    let link = directory.join("kubectl-shardwright");
    std::fs::create_dir_all(&directory).map_err(Error::io("make a directory for the plugin"))?;
    if !link.exists() {
        std::os::unix::fs::symlink(program, &link).map_err(Error::io("link the plugin"))?;
    }
    let link = link.display().to_string();
    let both = format!("k8s:{ns}/small");
    let tried = [
        ends(&link, &["status", "small", "-n", ns], 0, "small-0"),
        ends(&link, &["check", "-n", ns, "rediscluster/small"], 0, "[OK]"),
        ends(&link, &["plan", "small", "-n", ns], 0, "Nothing to do"),
        ends(&link, &["fix", "small", "-n", ns], 0, "healthy"),
        ends(&link, &["status", "none", "-n", ns], 2, "there is no"),
        ends(&link, &["status", &both, "-n", ns], 2, "leave out -n"),
        ends(&link, &["up"], 2, "kubectl apply"),
    ];
    std::fs::remove_dir_all(directory).map_err(Error::io("remove the plugin"))?;
    tried.into_iter().collect()
}

/// Runs a program, which must end with this status and say this, wherever it does.
fn ends(program: &str, args: &[&str], status: i32, says: &str) -> Result<()> {
    let what = format!("{program} {}", args.join(" "));
    let ran = std::process::Command::new(program).args(args).output();
    let ran = ran.map_err(Error::io(&what))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (out, err) = (text(&ran.stdout), text(&ran.stderr));
    let so = ran.status.code() == Some(status);
    ensure(so && (out.contains(says) || err.contains(says)), || {
        format!(
            "{what}: {} instead of {status} and {says:?}: {out}\n{err}",
            ran.status
        )
    })
}
