//! The operator's rights, clusters without it, and the command line against Kubernetes.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shardwright_e2e::error::ensure;
use shardwright_e2e::kube_api::{documents, text};
use shardwright_e2e::operator::{program, run_program};
use shardwright_e2e::servers::Cluster;
use shardwright_e2e::wait::until;
use shardwright_e2e::world::READY_LIMIT;
use shardwright_e2e::{Error, Kind, Result, World};

use crate::failures::{WHOLE, small};

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
    ] {
        ensure(may(ns, group, resource, verb).await?, || {
            format!("it may not {verb} {resource}")
        })?;
    }
    let never = [
        ("", "secrets", "list"),
        ("", "secrets", "watch"),
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

/// `shardwright render -f FILE | kubectl apply -f -`: a cluster without the operator.
pub(crate) async fn rendered(world: World) -> Result<()> {
    let manifest = world.manifest(
        "plain",
        3,
        1,
        json!({"engine": "redis", "image": "redis:7.0.15"}),
    );
    let file = std::env::temp_dir().join(format!("{}.yaml", world.namespace));
    // JSON is YAML.
    std::fs::write(&file, manifest.to_string())
        .map_err(Error::io(format!("write {}", file.display())))?;
    let path = file.display().to_string();
    let (major, minor) = world.kube.version;
    let version = format!("{major}.{minor}");
    let rendered = run_program(&["render", "-f", &path, "--kubernetes", &version]);
    std::fs::remove_file(&file).map_err(Error::io(format!("remove {path}")))?;
    let rendered = documents(&rendered?)?;
    let kinds: BTreeSet<_> = rendered
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
    for document in &rendered {
        world.kube.apply(document).await?;
    }
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
    writer.end(&cluster).await?.nothing_lost()
}

/// Reading verbs through the API server, as `k8s:NAMESPACE/NAME` and as the kubectl plugin.
pub(crate) async fn plugin(world: World) -> Result<()> {
    let cluster = small(&world, json!({})).await?;
    cluster.until_agreed(COUNT, WHOLE).await?;
    let target = format!("k8s:{}/small", world.namespace);
    let status: Value = serde_json::from_str(&run_program(&["status", "-o", "json", &target])?)
        .map_err(|e| Error::Text {
            what: "shardwright status".to_owned(),
            why: e.to_string(),
        })?;
    ensure(status.to_string().contains("small-0"), || {
        format!("status names no pod: {status}")
    })?;
    run_program(&["check", &target])?;
    run_program(&["plan", &target])?;
    let link = std::env::temp_dir()
        .join(format!("{}-kubectl-shardwright", world.namespace))
        .join("kubectl-shardwright");
    let directory = link
        .parent()
        .ok_or_else(|| Error::Wrong("no directory for the plugin".to_owned()))?;
    std::fs::create_dir_all(directory).map_err(Error::io("make a directory for the plugin"))?;
    if !link.exists() {
        std::os::unix::fs::symlink(program()?, &link).map_err(Error::io("link the plugin"))?;
    }
    let ran = std::process::Command::new(&link)
        .args(["status", "small", "-n", &world.namespace])
        .output();
    let ran = ran.map_err(Error::io("run kubectl-shardwright"));
    std::fs::remove_dir_all(directory).map_err(Error::io("remove the plugin"))?;
    let ran = ran?;
    let out = String::from_utf8_lossy(&ran.stdout);
    ensure(ran.status.success() && out.contains("small-0"), || {
        format!(
            "kubectl-shardwright status small -n {}: {}: {out} {}",
            world.namespace,
            ran.status,
            String::from_utf8_lossy(&ran.stderr)
        )
    })
}
