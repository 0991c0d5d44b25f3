//! What pods lack of what is declared, from objects as the API server writes them.

use serde_json::{Value, json};

use super::*;

/// A pod of this revision and image, with this memory, whose server was started at this time.
fn pod(name: &str, revision: &str, image: &str, memory: &str, started: &str) -> Arc<PodFact> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "cache", "uid": name, "labels": {
            "app.kubernetes.io/name": "redis-cluster", "app.kubernetes.io/instance": "redis",
            "controller-revision-hash": revision,
        }},
        "spec": {"containers": [{"name": "redis", "image": image, "resources": {
            "requests": {"memory": memory, "cpu": "10m"}, "limits": {"memory": memory},
        }}]},
        "status": {"containerStatuses": [{
            "name": "redis", "image": image, "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": started}},
        }]},
    }))
    .expect("a pod");
    Arc::new(PodFact::of(&pod).expect("one of ours"))
}

fn cluster(spec: &str) -> Cluster {
    let text = format!(
        "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {{name: redis, namespace: cache}}\nspec: {spec}\n"
    );
    Cluster::from_text(&text).expect("a manifest").cluster
}

fn set(revision: Option<&str>) -> SetFact {
    let status = revision.map(|revision| json!({"replicas": 3, "updateRevision": revision}));
    let set: Value = json!({
        "metadata": {"name": "redis", "namespace": "cache", "uid": "s", "labels": {
            "app.kubernetes.io/name": "redis-cluster", "app.kubernetes.io/instance": "redis",
        }},
        "spec": {"selector": {}, "serviceName": "redis", "template": {}},
        "status": status.unwrap_or_else(|| json!({"replicas": 3})),
    });
    let set = serde_json::from_value(set).expect("a set");
    SetFact::of(&set).expect("one of ours")
}

fn told(
    cluster: &Cluster,
    newest: Option<&str>,
    pods: &[Arc<PodFact>],
    files: &[FileWritten],
) -> Vec<String> {
    let found = not_applied(cluster, Some(&set(newest)), pods, files);
    found.iter().map(ToString::to_string).collect()
}

const THEN: &str = "2026-01-01T00:00:00Z";
const SPEC: &str = "{image: 'redis:7.0.15', resources: {requests: {memory: 200M, cpu: 10m}, limits: {memory: 200M}}}";

#[test]
fn pods_of_the_newest_revision_have_all_that_is_declared() {
    let pods = [pod("redis-0", "new", "redis:7.0.15", "200M", THEN)];
    assert_eq!(told(&cluster(SPEC), Some("new"), &pods, &[]), [""; 0]);
    // While the controller has not seen the newest template, nothing is known to differ.
    assert_eq!(told(&cluster(SPEC), None, &pods, &[]), [""; 0]);
}

#[test]
fn the_fields_that_pods_of_an_older_revision_lack_are_named() {
    let pods = [
        pod("redis-0", "old", "redis:6.2", "200M", THEN),
        pod("redis-1", "old", "redis:7.0.15", "100M", THEN),
        pod("redis-2", "old", "redis:7.0.15", "200M", THEN),
        pod("redis-3", "new", "redis:7.0.15", "200M", THEN),
    ];
    assert_eq!(
        told(&cluster(SPEC), Some("new"), &pods, &[]),
        [
            "image: redis-0 was made with another image",
            "resources: redis-1 was made with other resources",
            "pod: redis-2 was made from an older template",
        ]
    );
}

#[test]
fn a_file_that_was_changed_after_servers_have_started_is_named() {
    let pods: Vec<_> = (0..5)
        .map(|n| pod(&format!("redis-{n}"), "new", "redis:7.0.15", "200M", THEN))
        .collect();
    let started = pods[0].made_with.started_at.expect("it runs");
    let written = |ms: u64| [("config", Timestamp(started.0 + ms))];
    assert_eq!(
        told(&cluster(SPEC), Some("new"), &pods, &written(0)),
        [""; 0]
    );
    assert_eq!(
        told(&cluster(SPEC), Some("new"), &pods, &written(1_000)),
        ["config: redis-0, redis-1, redis-2 (+2 more) were started before it was changed"]
    );
}

#[test]
fn only_our_own_writes_count() {
    let meta: ObjectMeta = serde_json::from_value(json!({"managedFields": [
        {"manager": "shardwright", "operation": "Apply", "time": "1970-01-01T00:00:07Z"},
        {"manager": "kubectl", "operation": "Update", "time": "1970-01-01T00:00:09Z"},
    ]}))
    .expect("metadata");
    assert_eq!(written_at(&meta), Some(Timestamp(7_000)));
    assert_eq!(written_at(&ObjectMeta::default()), None);
}
