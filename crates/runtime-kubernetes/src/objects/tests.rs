//! The objects of three clusters as snapshots, and the decisions behind them one by one.
//!
//! A snapshot of a pod template that changes means that every such cluster would have to restart
//! at the next upgrade of the operator.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use serde_json::{Value, json};
use shardwright_manifest::{Cluster, Secret};

use super::*;

#[path = "tests/network.rs"]
mod network;
#[path = "tests/pods.rs"]
mod pods;
#[path = "tests/volumes.rs"]
mod volumes;

const ARTICLE: &str = include_str!("../../../../examples/article.yaml");
const MINIMAL: &str = include_str!("../../../../examples/minimal.yaml");
const FULL: &str = r#"
apiVersion: shardwright.dev/v1alpha1
kind: RedisCluster
metadata:
  name: full
  namespace: prod
  labels: { example.com/team: cache, app.kubernetes.io/instance: argo }
  annotations: { note: "free text" }
spec:
  shards: 4
  replicasPerShard: 2
  engine: valkey
  version: "9.1.0"
  imagePullPolicy: Always
  imagePullSecrets: [{ name: registry }]
  nodeImage: example.com/node:2
  acl: { storage: ConfigMap }
  users:
    - name: worker
      rules: "~app:* +@read"
      passwordHashes: [87eba76e7f3164534045ba922e7770fb58bbd14ad732bbf5ba6f11cc56989e6e]
    - name: replication
      passwordSecret: { name: replication-password }
  config: { hz: 20, shutdown-timeout: 30 }
  persistence: { aof: false, fsync: never, rdb: true }
  storage: { size: 20Gi, storageClassName: fast, onUnreachable: RecreateAfter }
  retainVolumes: false
  resources:
    limits: { memory: 2Gi, cpu: 2 }
    requests: { memory: 1Gi, cpu: 500m }
  pod:
    labels: { team: cache }
    annotations: { prometheus.io/scrape: "true" }
    nodeSelector: { disk: ssd }
    affinity:
      nodeAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{ matchExpressions: [{ key: arch, operator: In, values: [amd64] }] }]
    tolerations: [{ key: redis, operator: Exists, effect: NoSchedule }]
    topologySpreadConstraints: []
    priorityClassName: high
    schedulerName: mine
    runtimeClassName: gvisor
    serviceAccountName: redis
    securityContext: { runAsUser: 1000, fsGroup: null }
    env: [{ name: TZ, value: UTC }]
    volumeMounts: [{ name: extra, mountPath: /extra }]
    volumes: [{ name: extra, emptyDir: {} }]
    sidecars: [{ name: exporter, image: "example.com/exporter:1", resources: { limits: { cpu: 1 } } }]
    initContainers: [{ name: prepare, image: "example.com/prepare:1" }]
  local:
    port: 7000
    bind: [127.0.0.1]
    hosts: [{ name: a }]
"#;

/// The namespace of the operator.
const OPERATORS: &str = "shardwright-system";

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn cluster(text: &str) -> Cluster {
    Cluster::from_text(text)
        .expect("an accepted manifest")
        .cluster
}

/// The minimal cluster with these lines in its `spec`.
fn with(lines: &str) -> Cluster {
    cluster(&format!(
        "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {{name: a, namespace: b}}\nspec: {{{lines}}}\n"
    ))
}

fn owner() -> OwnerReference {
    OwnerReference {
        api_version: shardwright_manifest::API_VERSION.to_owned(),
        kind: shardwright_manifest::KIND.to_owned(),
        name: "full".to_owned(),
        uid: "00000000-0000-0000-0000-000000000000".to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A password for each of these users.
fn known<'a>(users: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Secret> {
    users
        .into_iter()
        .map(|user| (user.to_owned(), Secret::new(format!("password of {user}"))))
        .collect()
}

fn built_with(
    cluster: &Cluster,
    owner: Option<&OwnerReference>,
    budget: BudgetApi,
) -> Result<Objects, BuildError> {
    let given = Given {
        owner,
        made: &known(passwords_to_make(cluster)),
        read: &known(passwords_to_read(cluster).into_iter().map(|(user, _)| user)),
        budget,
        operator_namespace: Some(OPERATORS),
        pods_min: 0,
    };
    build(cluster, &given)
}

fn built(cluster: &Cluster) -> Objects {
    built_with(cluster, None, BudgetApi::V1).expect("objects")
}

fn pod_of(objects: &Objects) -> &PodSpec {
    objects
        .stateful_set
        .spec
        .template
        .spec
        .as_ref()
        .expect("a pod")
}

fn server_of(objects: &Objects) -> &Container {
    &pod_of(objects).containers[0]
}

/// Objects as a person reads them: the bytes of Secrets as text.
fn shown(objects: &Objects) -> String {
    let list = objects.list().expect("they are JSON");
    let mut texts = Vec::new();
    for built in list {
        let mut value = serde_json::to_value(&built.object).expect("it is JSON");
        if value["kind"] == "Secret" {
            let secret: SecretObject = serde_json::from_value(value.clone()).expect("a Secret");
            for (key, bytes) in secret.data.into_iter().flatten() {
                value["data"][key] = Value::String(String::from_utf8_lossy(&bytes.0).into_owned());
            }
        }
        texts.push(serde_json::to_string_pretty(&value).expect("it is JSON"));
    }
    texts.join("\n---\n")
}

macro_rules! snapshot {
    ($name:literal, $value:expr) => {
        let value = $value;
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($name, value);
        });
    };
}

#[test]
fn the_article() {
    snapshot!("objects-article", shown(&built(&cluster(ARTICLE))));
}

#[test]
fn the_minimal_manifest() {
    snapshot!("objects-minimal", shown(&built(&cluster(MINIMAL))));
}

#[test]
fn everything_set() -> Outcome {
    let objects = built_with(&cluster(FULL), Some(&owner()), BudgetApi::V1Beta1)?;
    snapshot!("objects-full", shown(&objects));
    Ok(())
}

#[test]
fn without_an_operator() -> Outcome {
    let cluster = cluster(ARTICLE);
    let made = known(passwords_to_make(&cluster));
    let given = Given {
        owner: None,
        made: &made,
        read: &BTreeMap::new(),
        budget: BudgetApi::V1,
        operator_namespace: None,
        pods_min: 0,
    };
    let documents = standalone(&cluster, &given, "example.com/shardwright:1")?;
    let kinds: Vec<_> = documents
        .iter()
        .filter_map(|d| d["kind"].as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "Namespace",
            "Secret",
            "ConfigMap",
            "Secret",
            "Secret",
            "Service",
            "Service",
            "NetworkPolicy",
            "PodDisruptionBudget",
            "StatefulSet",
            "Job"
        ]
    );
    let job = documents.last().ok_or("there is a Job")?;
    snapshot!("objects-create-job", serde_json::to_string_pretty(job)?);
    // Neither Services nor the budget take the Job's pod for a node.
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    let selector = Names::of(&cluster).selector();
    assert!(
        selector
            .iter()
            .any(|(key, value)| labels[key] != json!(value))
    );

    let loses = self::cluster(&ARTICLE.replace("aof: true", "aof: false"));
    let refused = standalone(&loses, &given, "x").expect_err("nobody would release the gate");
    assert_eq!(refused, StandaloneError::NoAppendOnlyFile);
    Ok(())
}

#[test]
fn the_template_depends_on_the_manifest_alone() -> Outcome {
    let cluster = cluster(FULL);
    let one = built_with(&cluster, None, BudgetApi::V1)?;
    let other_passwords: BTreeMap<_, _> = known(passwords_to_make(&cluster))
        .into_keys()
        .map(|user| (user, Secret::new("another")))
        .collect();
    let two = build(
        &cluster,
        &Given {
            owner: Some(&owner()),
            made: &other_passwords,
            read: &known(["replication"]),
            budget: BudgetApi::V1Beta1,
            operator_namespace: None,
            pods_min: 40,
        },
    )?;
    assert_eq!(
        one.stateful_set.spec.template,
        two.stateful_set.spec.template
    );
    assert_eq!(
        (
            one.stateful_set.spec.replicas,
            two.stateful_set.spec.replicas
        ),
        (Some(12), Some(40))
    );
    Ok(())
}

#[test]
fn what_runs_live_needs_no_restart() {
    let before = with("config: {hz: 10}");
    let after = with("config: {hz: 20}, shards: 5, users: [{name: x, rules: +get}], paused: true");
    let (before, after) = (built(&before), built(&after));
    assert_eq!(
        before.stateful_set.spec.template,
        after.stateful_set.spec.template
    );
    assert_ne!(before.config, after.config);
}

#[test]
fn no_secret_is_where_everyone_may_read() {
    for text in [ARTICLE, MINIMAL, FULL] {
        let objects = built(&cluster(text));
        for built in objects.list().expect("they are JSON") {
            let text = serde_json::to_string(&built.object).expect("it is JSON");
            assert!(!text.contains("password of "), "{built:?}");
            assert!(!format!("{built:?} {objects:?}").contains("password of"));
        }
        // Not as bytes either.
        let config = objects.config.data.expect("a file");
        assert!(config["redis.conf"].contains("include /etc/shardwright/auth/replication.conf"));
    }
}

#[test]
fn the_users_are_in_the_object_that_was_asked_for() {
    let hash = Secret::new("password of default").hash();
    let AclObject::Secret(secret) = built(&with("")).acl else {
        panic!("a Secret unless told");
    };
    assert_eq!(secret.metadata.name.as_deref(), Some("a-acl"));
    let objects = built(&with("acl: {storage: ConfigMap}"));
    assert_eq!(objects.superseded_acl().kind, "Secret");
    let AclObject::ConfigMap(map) = &objects.acl else {
        panic!("a ConfigMap was asked for");
    };
    let text = &map.data.as_ref().expect("a file")["users.acl"];
    assert!(text.contains(hash.as_str()), "{text}");
    let volumes = pod_of(&objects).volumes.as_ref().expect("volumes");
    let acl = volumes.iter().find(|v| v.name == names::ACL_VOLUME);
    let mounted = acl.and_then(|v| v.config_map.as_ref());
    assert_eq!(mounted.map(|m| m.name.as_str()), Some("a-acl"));
}

#[test]
fn made_passwords_outlive_the_cluster_as_its_volumes_do() -> Outcome {
    let owner = owner();
    for (lines, owned) in [("", false), ("retainVolumes: false", true)] {
        let objects = built_with(&with(lines), Some(&owner), BudgetApi::V1)?;
        let passwords = objects.passwords.ok_or("some were made")?;
        assert_eq!(passwords.metadata.owner_references.is_some(), owned);
        assert_eq!(
            objects.auth.metadata.owner_references,
            Some(vec![owner.clone()])
        );
    }
    Ok(())
}

#[test]
fn passwords_are_made_read_or_not_needed() {
    let cluster = cluster(FULL);
    assert_eq!(passwords_to_make(&cluster), ["default", "shardwright"]);
    let read: Vec<_> = passwords_to_read(&cluster)
        .into_iter()
        .map(|(user, secret)| (user, secret.name.as_str()))
        .collect();
    assert_eq!(read, [("replication", "replication-password")]);
    assert_eq!(
        secrets_used(&cluster).into_iter().collect::<Vec<_>>(),
        ["replication-password"]
    );
    let given = Given {
        owner: None,
        made: &BTreeMap::new(),
        read: &BTreeMap::new(),
        budget: BudgetApi::V1,
        operator_namespace: None,
        pods_min: 0,
    };
    let error = build(&cluster, &given).expect_err("no passwords");
    assert!(matches!(
        error,
        BuildError::Render(RenderError::NoPassword(_))
    ));
}

#[test]
fn one_budget_in_the_version_that_is_served() -> Outcome {
    for (api, version, unhealthy) in [
        (BudgetApi::V1, "policy/v1", json!(null)),
        (BudgetApi::V1Unhealthy, "policy/v1", json!("AlwaysAllow")),
        (BudgetApi::V1Beta1, "policy/v1beta1", json!(null)),
    ] {
        let objects = built_with(&with(""), None, api)?;
        let list = objects.list()?;
        let budgets: Vec<_> = list
            .iter()
            .filter(|b| b.resource.kind == "PodDisruptionBudget")
            .collect();
        assert_eq!(budgets.len(), 1);
        assert_eq!(budgets[0].resource.api_version, version);
        let value = serde_json::to_value(&budgets[0].object)?;
        assert_eq!(value["apiVersion"], version);
        assert_eq!(value["spec"]["maxUnavailable"], 1);
        assert_eq!(value["spec"]["unhealthyPodEvictionPolicy"], unhealthy);
    }
    Ok(())
}

#[test]
fn the_budget_alone_is_the_same_object_with_another_bound() -> Outcome {
    let cluster = with("");
    let objects = built_with(&cluster, Some(&owner()), BudgetApi::V1Unhealthy)?;
    for (evictions, bound) in [(Evictions::OneAtATime, 1), (Evictions::Refused, 0)] {
        let alone = build_budget(&cluster, &owner(), BudgetApi::V1Unhealthy, evictions)?;
        let mut wanted = serde_json::to_value(&objects.budget)?;
        wanted["spec"]["maxUnavailable"] = json!(bound);
        assert_eq!(serde_json::to_value(&alone.object)?, wanted);
    }
    Ok(())
}

#[test]
fn what_an_api_server_knows_of_budgets_follows_from_its_version() {
    for (version, api) in [
        ((1, 20), BudgetApi::V1Beta1),
        ((1, 21), BudgetApi::V1),
        ((1, 26), BudgetApi::V1),
        ((1, 27), BudgetApi::V1Unhealthy),
        ((1, 37), BudgetApi::V1Unhealthy),
        ((2, 0), BudgetApi::V1Unhealthy),
    ] {
        assert_eq!(BudgetApi::of_version(version), api, "{version:?}");
    }
}

#[test]
fn the_spread_is_wished_for_over_hosts_and_zones() {
    let objects = built(&with(""));
    let spread = pod_of(&objects).topology_spread_constraints.as_ref();
    let keys: Vec<_> = spread
        .expect("it is spread")
        .iter()
        .map(|c| (c.topology_key.as_str(), c.when_unsatisfiable.as_str()))
        .collect();
    assert_eq!(
        keys,
        [
            ("kubernetes.io/hostname", "ScheduleAnyway"),
            ("topology.kubernetes.io/zone", "ScheduleAnyway")
        ]
    );
    let off = built(&with("pod: {topologySpreadConstraints: []}"));
    assert_eq!(pod_of(&off).topology_spread_constraints, None);
}

#[test]
fn servers_may_move_slots_by_themselves_where_the_manifest_tells_that_they_can() {
    for (lines, moves) in [
        ("", true),
        ("engine: valkey, version: '9.0'", true),
        ("engine: valkey, version: '8.1'", false),
        ("version: '7.2'", false),
        ("engine: redis", false),
        ("engine: redis, version: '9.0'", false),
        // Of another image nothing is known but what is said of it.
        ("image: 'example.com/v:9.1'", false),
        ("engine: valkey, image: 'example.com/v:9.1'", false),
        (
            "engine: valkey, version: '9.1', image: 'example.com/v:9.1'",
            true,
        ),
        ("version: '9.1', image: 'example.com/v:9.1'", false),
    ] {
        let objects = built(&with(lines));
        let command = server_of(&objects).command.as_deref().expect("a command");
        let at = command.iter().position(|word| word == "--aclfile");
        assert_eq!(at.is_some(), moves, "{lines}");
        let file = at.map_or("users.acl", |at| {
            let path = command[at + 1].strip_prefix("/etc/shardwright/acl/");
            path.unwrap_or(&command[at + 1])
        });
        let list = objects.list().expect("they are sound");
        let mut data = list.iter().map(|built| &built.object.data["data"]);
        assert!(data.any(|data| data[file].is_string()), "{file}: {lines}");
    }
}

#[test]
fn the_image_follows_the_engine() {
    for (lines, image, server) in [
        ("", "docker.io/valkey/valkey:9.1-alpine", "auto"),
        (
            "engine: redis",
            "docker.io/library/redis:7.4-alpine",
            "redis-server",
        ),
        (
            "engine: valkey, version: '8.0'",
            "docker.io/valkey/valkey:8.0-alpine",
            "valkey-server",
        ),
        // There was no Valkey then.
        (
            "version: '7.0'",
            "docker.io/library/redis:7.0-alpine",
            "auto",
        ),
        ("version: '7'", "docker.io/valkey/valkey:7-alpine", "auto"),
        (
            "engine: redis, image: 'example.com/r@sha256:ab'",
            "example.com/r@sha256:ab",
            "redis-server",
        ),
    ] {
        let objects = built(&with(lines));
        let container = server_of(&objects);
        assert_eq!(container.image.as_deref(), Some(image), "{lines}");
        let command = container.command.as_deref().expect("a command");
        let at = command
            .iter()
            .position(|word| word == "--")
            .expect("it is there");
        assert_eq!(command[at + 1], server, "{lines}");
    }
}

#[test]
fn nothing_of_this_machine_comes_into_the_files() {
    let objects = built(&cluster(FULL));
    let data = objects.config.data.as_ref().expect("a file");
    let conf = &data["redis.conf"];
    assert!(
        conf.contains("\nbind \"* -::*\"\n") || conf.contains("\nbind * -::*\n"),
        "{conf}"
    );
    for absent in ["7000", "127.0.0.1", "pidfile", "announce"] {
        assert!(!conf.contains(absent), "{absent} in {conf}");
    }
}

#[test]
fn overrides_are_read_strictly() {
    let refused = |lines: &str| {
        let error = built_with(&with(lines), None, BudgetApi::V1).expect_err(lines);
        error.to_string().replace("the manifest is refused: ", "")
    };
    let all: Vec<String> = [
        "pod: {tolerations: [{oparator: Exists}]}",
        "pod: {tolerations: [{operator: 1}]}",
        "pod: {affinity: {nodeAfinity: {}, podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologykey: x, topologyKey: host}]}}}",
        "pod: {sidecars: [{name: redis, image: x}, {name: x, image: x}, {name: x, image: x}]}",
        "pod: {initContainers: [{name: install-node, image: x}]}",
        "pod: {volumes: [{name: data, emptyDir: {}}, {name: tmp, emptyDir: {}}]}",
        "pod: {volumeMounts: [{name: data, mountPath: /data/}]}",
        "pod: {env: [{name: POD_IP, value: x}]}",
        "pod: {securityContext: {runAsUser: root}}",
        "pod: {sidecars: [{name: a, image: x, ports: [{port: 1}]}]}",
    ]
    .map(|lines| format!("{lines}\n  {}", refused(lines)))
    .into();
    snapshot!("overrides-refused", all.join("\n"));
    // Spellings that Kubernetes takes.
    for lines in [
        "pod: {sidecars: [{name: a, image: x, resources: {limits: {cpu: 1, memory: 1Gi}}}]}",
        "pod: {tolerations: [{operator: Exists, key: null}]}",
        "pod: {volumes: [{name: a, emptyDir: {}}]}",
        "pod: {sidecars: [{name: a, image: x, ports: [{containerPort: 80}], args: []}]}",
    ] {
        assert!(
            built_with(&with(lines), None, BudgetApi::V1).is_ok(),
            "{lines}"
        );
    }
}
