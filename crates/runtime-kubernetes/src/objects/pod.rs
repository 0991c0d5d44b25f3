//! The template of the pods.

mod lifecycle;
mod resources;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource,
    EnvVar, EnvVarSource, ExecAction, LocalObjectReference, ObjectFieldSelector, PodSpec,
    PodTemplateSpec, ResourceRequirements, SecretVolumeSource, SecurityContext,
    TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde_json::{Value, json};
use shardwright_manifest::{
    AclStorage, Cluster, EngineKind, ImagePullPolicy, PodOverrides, Problem, Replication,
};

use super::overrides::{Reader, laid_over};
use super::quantity;
use crate::names::{self, Names};

/// The versions of the engines where a manifest names none. Part of every such cluster's template,
/// so they stay as they are: who wants a newer one says so.
const VALKEY_VERSION: &str = "9.1";
const REDIS_VERSION: &str = "7.4";
/// The first Valkey. A version before it is one of Redis.
const FIRST_VALKEY: (u32, u32) = (7, 2);

/// The user and group of the servers: the images of both engines have a user 999.
const USER: i64 = 999;
/// What the mounted passwords can be read by: their owner and group, 0440.
pub(super) const SECRET_MODE: i32 = 0o440;

/// What the node program may take of its volume: it is a file of some megabytes.
const NODE_VOLUME_BYTES: u64 = 64 << 20;
/// What may be written to `/tmp`: the servers write nothing there, modules and scripts of a person may.
const TMP_VOLUME_BYTES: u64 = 256 << 20;
/// Where a container that ends says nothing of why, the end of its log is shown.
pub(super) const MESSAGE_POLICY: &str = "FallbackToLogsOnError";

/// The pods of `cluster`. Fails with every problem of the overrides.
pub(super) fn template(cluster: &Cluster, names: &Names) -> Result<PodTemplateSpec, Vec<Problem>> {
    let over = &cluster.kubernetes().pod;
    let mut read = Reader::default();
    let mut labels = over.labels.clone();
    labels.extend(names.pod_labels());
    if let Some(version) = version(cluster) {
        let label = labels.entry(names::VERSION_LABEL.to_owned());
        label.or_insert_with(|| version.to_owned());
    }
    let metadata = ObjectMeta {
        labels: Some(labels),
        annotations: some_map(over.annotations.clone()),
        ..ObjectMeta::default()
    };
    let spec = spec(cluster, names, &mut read);
    check_names(&spec, &mut read);
    read.finish(PodTemplateSpec {
        metadata: Some(metadata),
        spec: Some(spec),
    })
}

fn spec(cluster: &Cluster, names: &Names, read: &mut Reader) -> PodSpec {
    let kubernetes = cluster.kubernetes();
    let over = &kubernetes.pod;
    let mut containers = vec![server(cluster, names, read)];
    containers.extend(read.list("spec.pod.sidecars", &over.sidecars));
    let mut init_containers = vec![install(cluster)];
    init_containers.extend(read.list("spec.pod.initContainers", &over.init_containers));
    let mut volumes = volumes(cluster, names);
    volumes.extend(read.list("spec.pod.volumes", &over.volumes));
    let secrets = kubernetes.image_pull_secrets.iter();
    let grace = lifecycle::grace_seconds(cluster);
    PodSpec {
        // The servers do not talk to Kubernetes.
        automount_service_account_token: Some(false),
        // A variable for each Service of the namespace would be in the environment of each server.
        enable_service_links: Some(false),
        security_context: read.object(
            "spec.pod.securityContext",
            &laid_over(security_context(over), over.security_context.as_ref()),
        ),
        termination_grace_period_seconds: i64::try_from(grace).ok(),
        topology_spread_constraints: some_list(spread(cluster, names, read)),
        affinity: over
            .affinity
            .as_ref()
            .and_then(|raw| read.object::<Affinity>("spec.pod.affinity", raw)),
        tolerations: some_list(read.list("spec.pod.tolerations", &over.tolerations)),
        node_selector: some_map(over.node_selector.clone()),
        priority_class_name: over.priority_class_name.clone(),
        scheduler_name: over.scheduler_name.clone(),
        runtime_class_name: over.runtime_class_name.clone(),
        service_account_name: over.service_account_name.clone(),
        image_pull_secrets: some_list(
            secrets
                .map(|name| LocalObjectReference { name: name.clone() })
                .collect(),
        ),
        init_containers: Some(init_containers),
        containers,
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// As whom the servers run, before the manifest says otherwise.
fn security_context(over: &PodOverrides) -> Value {
    let mut context = json!({
        "runAsNonRoot": true,
        // Else each start walks through all files of the volume.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    if over.platform_user_ids != Some(true) {
        for field in ["runAsUser", "runAsGroup", "fsGroup"] {
            context[field] = json!(USER);
        }
    }
    context
}

/// Over hosts and over zones as far as possible: where there are too few, the cluster is there all
/// the same, and its status says how it lies.
fn spread(cluster: &Cluster, names: &Names, read: &mut Reader) -> Vec<TopologySpreadConstraint> {
    if let Some(given) = &cluster.kubernetes().pod.topology_spread_constraints {
        return read.list("spec.pod.topologySpreadConstraints", given);
    }
    let over = |key: &str| TopologySpreadConstraint {
        topology_key: key.to_owned(),
        max_skew: 1,
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(names.selector()),
            match_expressions: None,
        }),
        ..TopologySpreadConstraint::default()
    };
    vec![over(names::HOST_LABEL), over(names::ZONE_LABEL)]
}

fn server(cluster: &Cluster, names: &Names, read: &mut Reader) -> Container {
    let over = &cluster.kubernetes().pod;
    let mut mounts = vec![
        mount(names::DATA_VOLUME, names::DATA_DIR, false),
        mount(names::CONFIG_VOLUME, names::CONFIG_DIR, true),
        mount(names::ACL_VOLUME, names::ACL_DIR, true),
        mount(names::AUTH_VOLUME, names::AUTH_DIR, true),
        mount(names::NODE_VOLUME, names::NODE_DIR, true),
        mount(names::TMP_VOLUME, "/tmp", false),
    ];
    mounts.extend(read.list("spec.pod.volumeMounts", &over.volume_mounts));
    let mut env = vec![
        from_field("POD_IP", "status.podIP"),
        from_field("POD_NAME", "metadata.name"),
    ];
    env.extend(read.list("spec.pod.env", &over.env));
    Container {
        name: names::SERVER_CONTAINER.to_owned(),
        image: Some(image(cluster)),
        image_pull_policy: pull_policy(cluster),
        command: Some(command(cluster, names)),
        env: Some(env),
        ports: Some(vec![
            port(names::CLIENT_PORT_NAME, names::CLIENT_PORT),
            port(names::BUS_PORT_NAME, names::BUS_PORT),
            port(names::GATE_PORT_NAME, names::GATE_PORT),
        ]),
        resources: resources::of_server(cluster),
        startup_probe: Some(lifecycle::startup(cluster)),
        readiness_probe: Some(lifecycle::readiness()),
        liveness_probe: Some(lifecycle::liveness()),
        lifecycle: Some(lifecycle::before_stop(cluster)),
        termination_message_policy: Some(MESSAGE_POLICY.to_owned()),
        security_context: Some(confined()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn command(cluster: &Cluster, names: &Names) -> Vec<String> {
    let server = match cluster.engine() {
        Some(EngineKind::Redis) => "redis-server",
        Some(EngineKind::Valkey) => "valkey-server",
        // The node program takes the one that the image has.
        None => "auto",
    };
    let conf = format!("{}/{}", names::CONFIG_DIR, names::CONFIG_FILE);
    let host = names.pod_host("$(POD_NAME)");
    let mut words = with_options("run");
    // The address changes with each pod, and a stale one is never mended by the cluster itself.
    let own = [
        "--",
        server,
        &conf,
        "--cluster-announce-ip",
        "$(POD_IP)",
        "--cluster-announce-hostname",
        &host,
    ];
    words.extend(own.map(str::to_owned));
    if replication(cluster) == Replication::CopiesAndMoves {
        // By the template and not by redis.conf: that changes at once, and a pod of an older version with it.
        words.push("--aclfile".to_owned());
        words.push(format!("{}/{}", names::ACL_DIR, names::MOVING_ACL_FILE));
    }
    words
}

/// What the servers may do at each other. Of another image than ours only what the manifest says of it is known.
fn replication(cluster: &Cluster) -> Replication {
    let valkey = match (cluster.image(), cluster.engine()) {
        (None, _) => engine(cluster) == EngineKind::Valkey,
        (Some(_), given) => given == Some(EngineKind::Valkey),
    };
    let ours = cluster.image().is_none().then_some(VALKEY_VERSION);
    let version = cluster.version().or(ours);
    let major = version.and_then(|v| v.split('.').next()?.parse().ok());
    major.map_or(Replication::Copies, |major| Replication::of(valkey, major))
}

fn node_program(verb: &str) -> ExecAction {
    ExecAction {
        command: Some(with_options(verb)),
    }
}

fn with_options(verb: &str) -> Vec<String> {
    let password = format!("{}/{}", names::AUTH_DIR, names::PASSWORD_FILE);
    [
        names::NODE_PROGRAM,
        verb,
        "--data",
        names::DATA_DIR,
        "--password-file",
        &password,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Brings the node program into the pod: the image of the server is anyone's.
fn install(cluster: &Cluster) -> Container {
    let given = cluster.kubernetes().node_image.as_deref();
    Container {
        name: names::INSTALL_CONTAINER.to_owned(),
        image: Some(given.unwrap_or(names::NODE_IMAGE).to_owned()),
        image_pull_policy: pull_policy(cluster),
        command: Some(
            [names::NODE_PROGRAM_IN_IMAGE, "install", names::NODE_PROGRAM]
                .map(str::to_owned)
                .to_vec(),
        ),
        resources: resources::of_install(cluster),
        termination_message_policy: Some(MESSAGE_POLICY.to_owned()),
        security_context: Some(confined()),
        volume_mounts: Some(vec![mount(names::NODE_VOLUME, names::NODE_DIR, false)]),
        ..Container::default()
    }
}

/// The image of the server that pods are made from.
pub fn image(cluster: &Cluster) -> String {
    if let Some(image) = cluster.image() {
        return image.to_owned();
    }
    let version = cluster.version();
    match engine(cluster) {
        EngineKind::Valkey => format!(
            "docker.io/valkey/valkey:{}-alpine",
            version.unwrap_or(VALKEY_VERSION)
        ),
        EngineKind::Redis => format!(
            "docker.io/library/redis:{}-alpine",
            version.unwrap_or(REDIS_VERSION)
        ),
    }
}

/// The version of the servers, where it is known: an image of a person's own tells none.
fn version(cluster: &Cluster) -> Option<&str> {
    let usual = || match engine(cluster) {
        EngineKind::Valkey => VALKEY_VERSION,
        EngineKind::Redis => REDIS_VERSION,
    };
    match (cluster.version(), cluster.image()) {
        (Some(version), _) => Some(version),
        (None, None) => Some(usual()),
        (None, Some(_)) => None,
    }
}

/// The engine of the usual image.
fn engine(cluster: &Cluster) -> EngineKind {
    cluster.engine().unwrap_or_else(|| {
        if cluster.version().is_some_and(before_valkey) {
            EngineKind::Redis
        } else {
            EngineKind::Valkey
        }
    })
}

fn before_valkey(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|n| n.parse::<u32>().ok());
    let major = numbers.next().unwrap_or(u32::MAX);
    // Any 7: the newest of them.
    let minor = numbers.next().unwrap_or(u32::MAX);
    (major, minor) < FIRST_VALKEY
}

fn pull_policy(cluster: &Cluster) -> Option<String> {
    let policy = cluster.kubernetes().image_pull_policy?;
    let text = match policy {
        ImagePullPolicy::Always => "Always",
        ImagePullPolicy::IfNotPresent => "IfNotPresent",
        ImagePullPolicy::Never => "Never",
    };
    Some(text.to_owned())
}

pub(super) fn server_resources(cluster: &Cluster) -> Option<ResourceRequirements> {
    resources::of_server(cluster)
}

fn volumes(cluster: &Cluster, names: &Names) -> Vec<Volume> {
    let of_secret = |volume: &str, name: String| Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name),
            default_mode: Some(SECRET_MODE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let of_config_map = |volume: &str, name: String| Volume {
        name: volume.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name,
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let empty = |volume: &str, bytes: u64| Volume {
        name: volume.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: None,
            size_limit: Some(quantity::bytes(bytes)),
        }),
        ..Volume::default()
    };
    let acl = match cluster.kubernetes().acl_storage {
        AclStorage::Secret => of_secret(names::ACL_VOLUME, names.acl()),
        AclStorage::ConfigMap => of_config_map(names::ACL_VOLUME, names.acl()),
    };
    vec![
        of_config_map(names::CONFIG_VOLUME, names.config_map()),
        acl,
        of_secret(names::AUTH_VOLUME, names.auth_secret()),
        empty(names::NODE_VOLUME, NODE_VOLUME_BYTES),
        empty(names::TMP_VOLUME, TMP_VOLUME_BYTES),
    ]
}

/// Names that stand twice: Kubernetes would refuse the pods, and nobody would see why.
fn check_names(spec: &PodSpec, read: &mut Reader) {
    let init = spec.init_containers.iter().flatten();
    let all = init.chain(&spec.containers).map(|c| c.name.as_str());
    for name in twice(all) {
        let path = "spec.pod.sidecars, spec.pod.initContainers";
        read.problem(path, format!("the container `{name}` is there already"));
    }
    let volumes = spec.volumes.iter().flatten().map(|v| v.name.as_str());
    for name in twice(volumes.chain([names::DATA_VOLUME])) {
        read.problem(
            "spec.pod.volumes",
            format!("the volume `{name}` is there already"),
        );
    }
    let Some(server) = spec.containers.first() else {
        return;
    };
    let variables = server.env.iter().flatten().map(|v| v.name.as_str());
    for name in twice(variables) {
        read.problem(
            "spec.pod.env",
            format!("the variable `{name}` is there already"),
        );
    }
    let mounts = server.volume_mounts.iter().flatten();
    for path in twice(mounts.map(|m| m.mount_path.trim_end_matches('/'))) {
        read.problem(
            "spec.pod.volumeMounts",
            format!("something is mounted at `{path}` already"),
        );
    }
}

fn twice<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}

/// A container that may do nothing but run.
pub(super) fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

pub(super) fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn from_field(name: &str, field: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: field.to_owned(),
                api_version: Some("v1".to_owned()),
            }),
            ..EnvVarSource::default()
        }),
    }
}

fn some_list<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn some_map<T>(map: BTreeMap<String, T>) -> Option<BTreeMap<String, T>> {
    (!map.is_empty()).then_some(map)
}
