//! Documents that are accepted: the examples, round trips, the schema.

use serde_json::Value;
use shardwright_manifest::{
    AclStorage, AppendFsync, Cluster, EngineKind, FailoverPolicy, ImagePullPolicy, RedisCluster,
    RedisClusterSpec, Unreachable, User, schema,
};

const ARTICLE: &str = include_str!("../../../examples/article.yaml");
const MINIMAL: &str = include_str!("../../../examples/minimal.yaml");

/// Every field that there is.
const FULL: &str = r#"
apiVersion: shardwright.dev/v1alpha1
kind: RedisCluster
metadata:
  name: full
  namespace: prod
  labels: { example.com/team: cache, tier: "" }
  annotations: { note: "free text" }
spec:
  shards: 5
  replicasPerShard: 2
  engine: valkey
  version: "9.1"
  image: docker.io/valkey/valkey:9.1
  imagePullPolicy: IfNotPresent
  imagePullSecrets: [{ name: registry }]
  nodeImage: example.com/node:1
  paused: true
  acl: { storage: ConfigMap }
  users:
    - name: worker
      rules: "~app:* +@read (~own:* +@write)"
      passwordSecret: { name: redis-passwords, key: worker }
      passwordHashes: [87eba76e7f3164534045ba922e7770fb58bbd14ad732bbf5ba6f11cc56989e6e]
    - name: replication
      passwordSecret: { name: redis-passwords }
  config:
    maxmemory-policy: allkeys-lru
    hz: 20
    lazyfree-lazy-expire: true
    active-defrag-threshold: 0.5
    client-output-buffer-limit: "replica 256mb 64mb 60"
  persistence: { aof: true, fsync: always, rdb: false }
  storage: { size: 10Gi, storageClassName: fast, onUnreachable: RecreateAfter, recreateAfterSeconds: 600 }
  retainVolumes: false
  resources:
    limits: { memory: 2Gi, cpu: 2 }
    requests: { memory: 1Gi, cpu: 500m }
  failover: KeepEveryWrite
  pod:
    labels: { team: cache }
    annotations: { note: "free text" }
    nodeSelector: { disk: ssd }
    affinity: { nodeAffinity: {} }
    tolerations: [{ operator: Exists }]
    topologySpreadConstraints: []
    platformUserIds: false
    priorityClassName: high
    schedulerName: mine
    runtimeClassName: gvisor
    serviceAccountName: redis
    terminationGracePeriodSeconds: 120
    securityContext: { runAsUser: 1000, fsGroup: null }
    env: [{ name: TZ, value: UTC }]
    volumeMounts: [{ name: extra, mountPath: /extra }]
    volumes: [{ name: extra, emptyDir: {} }]
    sidecars: [{ name: exporter, image: "example.com/exporter:1" }]
    initContainers: [{ name: prepare, image: "example.com/prepare:1" }]
  local:
    port: 7000
    bind: [127.0.0.1, "::1"]
    hosts: [{ name: a, zone: z1 }, { name: b, zone: z2 }, { name: c }]
"#;

#[test]
fn the_article_example_is_the_article() -> Result<(), Box<dyn std::error::Error>> {
    let accepted = Cluster::from_text(ARTICLE)?;
    assert_eq!(accepted.warnings, []);
    let cluster = accepted.cluster;
    assert_eq!(
        (cluster.name(), cluster.namespace()),
        ("redis", Some("redis"))
    );
    assert_eq!(
        (
            cluster.shards(),
            cluster.replicas_per_shard(),
            cluster.nodes()
        ),
        (3, 1, 6)
    );
    let names: Vec<_> = cluster.users().iter().map(User::name).collect();
    assert_eq!(names, ["default", "replication", "shardwright", "worker"]);
    assert!(cluster.persistence().aof && cluster.persistence().rdb);
    assert_eq!(cluster.memory_limit_bytes(), Some(2_000_000_000));
    assert_eq!(cluster.memory_request_bytes(), Some(100_000_000));
    assert_eq!(cluster.maxmemory_bytes(), Some(1_500_000_000));
    assert_eq!(cluster.failover(), FailoverPolicy::Availability);
    Ok(())
}

#[test]
fn the_minimal_example_has_ten_lines_and_the_defaults() -> Result<(), Box<dyn std::error::Error>> {
    assert_eq!(MINIMAL.lines().count(), 10);
    let accepted = Cluster::from_text(MINIMAL)?;
    assert_eq!(accepted.warnings, []);
    let cluster = accepted.cluster;
    assert_eq!(cluster.nodes(), 6);
    assert_eq!(cluster.persistence().fsync, AppendFsync::Everysec);
    assert_eq!((cluster.engine(), cluster.maxmemory_bytes()), (None, None));
    assert_eq!(cluster.node_timeout_ms(), 5000);
    let quick = format!("{MINIMAL}  config: {{cluster-node-timeout: 700}}\n");
    assert_eq!(Cluster::from_text(&quick)?.cluster.node_timeout_ms(), 700);
    Ok(())
}

#[test]
fn every_field_is_read() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::from_text(FULL)?.cluster;
    assert_eq!(cluster.engine(), Some(EngineKind::Valkey));
    assert_eq!(
        (cluster.version(), cluster.image()),
        (Some("9.1"), Some("docker.io/valkey/valkey:9.1"))
    );
    assert_eq!(cluster.labels().len(), 2);
    assert_eq!(cluster.annotations()["note"], "free text");
    assert_eq!(cluster.config()["lazyfree-lazy-expire"], "yes");
    assert_eq!(cluster.config()["active-defrag-threshold"], "0.5");
    assert_eq!(cluster.settings()["hz"], "20");
    assert_eq!(cluster.settings()["maxmemory-policy"], "allkeys-lru");
    assert_eq!(cluster.settings()["cluster-node-timeout"], "5000");
    assert_eq!(cluster.storage_bytes(), Some(10 << 30));
    assert_eq!(
        (cluster.cpu_limit_milli(), cluster.cpu_request_milli()),
        (Some(2000), Some(500))
    );
    let worker = &cluster.users()[3];
    assert_eq!(
        (worker.password_hashes().len(), worker.needs_password()),
        (1, false)
    );
    let replication = &cluster.users()[1];
    let secret = replication.password_secret().ok_or("the Secret is named")?;
    assert_eq!(
        (secret.name.as_str(), secret.key.as_str()),
        ("redis-passwords", "password")
    );
    let kubernetes = cluster.kubernetes();
    assert!(kubernetes.paused && !kubernetes.retain_volumes);
    assert_eq!(kubernetes.acl_storage, AclStorage::ConfigMap);
    assert_eq!(kubernetes.image_pull_secrets, ["registry"]);
    assert_eq!(
        kubernetes.image_pull_policy,
        Some(ImagePullPolicy::IfNotPresent)
    );
    assert_eq!(kubernetes.node_image.as_deref(), Some("example.com/node:1"));
    assert_eq!(kubernetes.storage_class.as_deref(), Some("fast"));
    assert_eq!(
        kubernetes.on_unreachable,
        Unreachable::RecreateAfter { seconds: 600 }
    );
    assert_eq!(cluster.desired().recreate_after_ms, Some(600_000));
    let pod = &kubernetes.pod;
    assert_eq!(pod.tolerations[0].0["operator"], "Exists");
    // An empty list and none at all are two things here, and so are null and no field.
    assert_eq!(pod.topology_spread_constraints.as_deref(), Some(&[][..]));
    let security = pod.security_context.as_ref().ok_or("it is given")?;
    assert_eq!(security.0["fsGroup"], Value::Null);
    let local = cluster.local();
    assert_eq!((local.port(), local.bind().len()), (Some(7000), 2));
    let hosts: Vec<_> = (0..5)
        .filter_map(|index| local.host_of(index))
        .map(|label| (label.host.as_str(), label.zone.as_deref()))
        .collect();
    let (a, b, c) = (("a", Some("z1")), ("b", Some("z2")), ("c", None));
    assert_eq!(hosts, [a, b, c, a, b]);
    Ok(())
}

#[test]
fn what_is_written_reads_as_the_same_cluster() -> Result<(), Box<dyn std::error::Error>> {
    for text in [ARTICLE, MINIMAL, FULL] {
        let cluster = Cluster::from_text(text)?.cluster;
        let document: RedisCluster = serde_saphyr::from_str(text)?;
        assert_eq!(Cluster::from_document(&document)?.cluster, cluster);
        assert_eq!(
            Cluster::from_text(&serde_json::to_string_pretty(&document)?)?.cluster,
            cluster
        );
        assert_eq!(
            Cluster::from_text(&serde_saphyr::to_string(&document)?)?.cluster,
            cluster
        );
    }
    Ok(())
}

#[test]
fn an_empty_spec_is_the_default_spec() -> Result<(), Box<dyn std::error::Error>> {
    let spec: RedisClusterSpec = serde_json::from_str("{}")?;
    assert_eq!(spec, RedisClusterSpec::default());
    Ok(())
}

#[test]
fn what_kubernetes_fills_in_is_passed_over() -> Result<(), Box<dyn std::error::Error>> {
    let text = MINIMAL.replace(
        "  name: minimal",
        "  name: minimal\n  uid: 0\n  resourceVersion: '1'\n  generation: 2\n  creationTimestamp: 2024-01-01T00:00:00Z\n  managedFields: []",
    ) + "status: {phase: anything}\n";
    assert_eq!(Cluster::from_text(&text)?, Cluster::from_text(MINIMAL)?);
    let value: Value = serde_saphyr::from_str(&text)?;
    assert_eq!(Cluster::from_value(value)?, Cluster::from_text(MINIMAL)?);
    Ok(())
}

#[test]
fn an_override_is_held_to_the_same_rules() -> Result<(), Box<dyn std::error::Error>> {
    let grown = Cluster::from_text_with(MINIMAL, |document| document.spec.shards = 7)?;
    assert_eq!(grown.cluster.shards(), 7);
    let refused = Cluster::from_text_with(MINIMAL, |document| document.spec.shards = 1);
    let problems = refused.expect_err("one shard is too few");
    assert_eq!(problems.all().len(), 1);
    assert_eq!(problems.all()[0].path, "spec.shards");
    Ok(())
}

#[test]
fn bytes_that_are_no_text() {
    let problems = Cluster::from_bytes(b"kind: \xff").expect_err("not UTF-8");
    assert_eq!(
        problems.to_string(),
        "the manifest is refused: this is not text: byte 6 is not UTF-8"
    );
}

#[test]
fn the_schema() {
    let schema = serde_json::to_string_pretty(&schema()).expect("a Value is JSON");
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("schema", schema);
    });
}

/// What a person is shown of a field that may be left out.
#[test]
fn every_field_that_may_be_left_out_tells_its_default() {
    fn walk(path: &str, schema: &Value, fields: &mut usize) {
        let required = schema["required"].as_array();
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let needed = required.is_some_and(|names| names.iter().any(|n| n == name.as_str()));
            let description = inner["description"].as_str().unwrap_or("");
            // Of an object its fields tell.
            if !needed && inner.get("properties").is_none() {
                assert!(description.contains("Default: "), "{path}: {description}");
                *fields += 1;
            }
            if let Some(default) = inner.get("default").filter(|d| !d.is_array()) {
                let text = default
                    .as_str()
                    .map_or_else(|| default.to_string(), str::to_owned);
                assert!(
                    description.ends_with(&format!("Default: `{text}`.")),
                    "{path}: {description}"
                );
            }
            walk(&path, inner, fields);
        }
        if let Some(items) = schema.get("items") {
            walk(&format!("{path}[]"), items, fields);
        }
    }
    let mut fields = 0;
    walk("spec", &schema()["properties"]["spec"], &mut fields);
    assert!(fields > 40, "only {fields} fields were walked");
}

#[test]
fn the_schema_describes_every_field_and_allows_no_other() {
    fn walk(path: &str, schema: &Value, fields: &mut usize) {
        if let Some(properties) = schema["properties"].as_object() {
            assert_eq!(schema["additionalProperties"], Value::Bool(false), "{path}");
            for (name, inner) in properties {
                let path = format!("{path}.{name}");
                assert!(
                    inner["description"].is_string(),
                    "{path} has no description"
                );
                assert!(
                    inner.get("$ref").is_none() && inner.get("oneOf").is_none(),
                    "{path}"
                );
                *fields += 1;
                walk(&path, inner, fields);
            }
        }
        if schema.get("items").is_some() {
            walk(&format!("{path}[]"), &schema["items"], fields);
        }
    }
    let mut fields = 0;
    walk("", &schema(), &mut fields);
    assert!(fields > 30, "only {fields} fields were walked");
}
