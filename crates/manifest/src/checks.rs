//! The check of meaning: from the document as written to the [`Cluster`], with every problem.

mod kubernetes;
mod names;
mod sizes;
pub(crate) mod users;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::cluster::{Cluster, HostLabel, LocalLayout, Persistence};
use crate::config;
use crate::document::{
    API_VERSION, ConfigValue, EngineKind, FailoverPolicy, KIND, LocalSpec, Metadata, RedisCluster,
    RedisClusterSpec,
};
use crate::problem::{Findings, field, item};

/// How long a server stays at most that gave its slots away.
const DRAIN_SECONDS_MAX: u32 = 3_600;

/// The most shards and replicas that are accepted. The bus gossips between all pairs of nodes: the
/// engines' own documents call 1000 nodes the end of what is reasonable.
const SHARDS: std::ops::RangeInclusive<u32> = 3..=1000;
const REPLICAS_MAX: u32 = 10;
const NODES_ADVISED_MAX: u32 = 1000;

/// The distance of the bus port from the port, when no other is configured.
const BUS_PORT_OFFSET: u32 = 10_000;
/// Linux hands out the ports from here on to outgoing connections.
const EPHEMERAL_PORT_MIN: u32 = 32_768;

/// Checks all of `document`. The value is of use only if nothing was found.
pub(crate) fn cluster(document: &RedisCluster, out: &mut Findings) -> Option<Cluster> {
    let RedisCluster {
        api_version,
        kind,
        metadata,
        spec,
    } = document;
    if kind != KIND {
        wrong_kind(kind, out);
    }
    if api_version != API_VERSION {
        out.problem(
            "apiVersion",
            format!("is `{api_version}`: this version of Shardwright reads {API_VERSION}"),
        );
    }
    check_metadata(metadata, out);
    check_shape(spec, out);
    check_engine(spec, out);
    let users = users::check(&spec.users, out);
    let config = check_config(&spec.config, out);
    let local = match &spec.local {
        Some(local) => check_local(local, spec, out),
        // Left out, it says nothing: the runtime of this machine has its own defaults.
        None => LocalLayout::default(),
    };
    let resources = sizes::check(spec, &config, out);
    check_drain(spec.drain_seconds, out);
    check_persistence(spec, out);
    let kubernetes = kubernetes::check(spec, &config, out);
    Some(Cluster {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.clone(),
        shards: spec.shards,
        replicas_per_shard: spec.replicas_per_shard,
        engine: spec.engine,
        version: spec.version.clone(),
        image: spec.image.clone(),
        users: users?,
        config,
        persistence: Persistence {
            aof: spec.persistence.aof,
            fsync: spec.persistence.fsync,
            rdb: spec.persistence.rdb,
        },
        storage_bytes: resources.storage_bytes,
        memory_limit_bytes: resources.memory_limit_bytes,
        memory_request_bytes: resources.memory_request_bytes,
        cpu_limit_milli: resources.cpu_limit_milli,
        cpu_request_milli: resources.cpu_request_milli,
        failover: spec.failover,
        drain_seconds: spec.drain_seconds,
        kubernetes,
        local,
    })
}

/// Notes that the document is something else.
pub(crate) fn wrong_kind(kind: &str, out: &mut Findings) {
    let kind: String = kind.chars().take(40).collect();
    out.problem("kind", format!("is {kind:?}: only a {KIND} can be read"));
}

fn check_metadata(metadata: &Metadata, out: &mut Findings) {
    if let Some(message) = names::bad_cluster_name(&metadata.name) {
        out.problem("metadata.name", message);
    }
    if let Some(message) = metadata.namespace.as_deref().and_then(names::bad_label) {
        out.problem("metadata.namespace", message);
    }
    kubernetes::check_labels("metadata.labels", &metadata.labels, out);
    for key in metadata.annotations.keys() {
        if let Some(message) = names::bad_label_key(key) {
            out.problem(field("metadata.annotations", key), message);
        }
    }
}

fn check_shape(spec: &RedisClusterSpec, out: &mut Findings) {
    let RedisClusterSpec {
        shards,
        replicas_per_shard,
        ..
    } = spec;
    if *shards < *SHARDS.start() {
        out.problem(
            "spec.shards",
            format!(
                "is {shards}: a cluster needs at least 3 shards, for when one primary dies a majority of the others must elect its successor"
            ),
        );
    } else if *shards > *SHARDS.end() {
        out.problem(
            "spec.shards",
            format!("is {shards}: at most {} are supported", SHARDS.end()),
        );
    }
    if *replicas_per_shard > REPLICAS_MAX {
        out.problem(
            "spec.replicasPerShard",
            format!("is {replicas_per_shard}: at most {REPLICAS_MAX} are supported"),
        );
    } else if *replicas_per_shard == 0 {
        out.warning(
            "spec.replicasPerShard",
            "is 0: no one can take over when a node dies, and its slots stay away until it is back",
        );
    }
    let nodes = shards.saturating_mul(replicas_per_shard.saturating_add(1));
    if SHARDS.contains(shards) && *replicas_per_shard <= REPLICAS_MAX && nodes > NODES_ADVISED_MAX {
        out.warning(
            "spec",
            format!("asks for {nodes} nodes: clusters beyond {NODES_ADVISED_MAX} spend much of their time on gossip"),
        );
    }
}

fn check_engine(spec: &RedisClusterSpec, out: &mut Findings) {
    if let Some(version) = &spec.version {
        let numbers: Option<Vec<u16>> = version.split('.').map(|n| n.parse().ok()).collect();
        let digits = version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        match numbers.filter(|n| digits && n.len() <= 3).as_deref() {
            None => out.problem(
                "spec.version",
                format!("is {version:?}: write one to three numbers, such as \"7.0\" or \"9.1.0\""),
            ),
            Some(numbers) => check_version_supported(spec.engine, numbers, out),
        }
    }
    if let Some(name) = &spec.image {
        image("spec.image", name, out);
    }
}

fn image(path: &str, name: &str, out: &mut Findings) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if name.is_empty() || name.len() > 500 || !name.chars().all(allowed) {
        out.problem(
            path,
            "is not the name of an image, such as docker.io/valkey/valkey:9.1-alpine",
        );
    }
}

fn check_version_supported(engine: Option<EngineKind>, numbers: &[u16], out: &mut Findings) {
    let oldest: (&str, &[u16]) = match engine {
        Some(EngineKind::Valkey) => ("Valkey 7.2", &[7, 2]),
        Some(EngineKind::Redis) | None => ("Redis 7.0", &[7, 0]),
    };
    // "7" is any 7: only the numbers that were given are compared.
    let compared = numbers.len().min(2);
    if numbers[..compared] < oldest.1[..compared] {
        out.problem(
            "spec.version",
            format!("is too old: {} is the oldest that is supported", oldest.0),
        );
    }
}

fn check_config(
    given: &BTreeMap<String, ConfigValue>,
    out: &mut Findings,
) -> BTreeMap<String, String> {
    let mut config = BTreeMap::new();
    for (key, value) in given {
        let path = field("spec.config", key);
        let value = value.to_string();
        if let Some(message) = config::bad_key(key) {
            out.problem(path, message);
        } else if let Some(owned) = config::owned_setting(key) {
            out.problem(path, format!("cannot be set here: {}", owned.reason));
        } else if let Some(message) = config::bad_value(&config::modern_key(key), &value) {
            out.problem(path, message);
        } else if config.insert(config::modern_key(key), value).is_some() {
            out.problem(path, "is given twice, in its old and in its new spelling");
        }
    }
    let timeout = config
        .get("cluster-node-timeout")
        .and_then(|v| v.parse::<u32>().ok());
    if timeout.is_some_and(|milliseconds| milliseconds < 1000) {
        out.warning(
            "spec.config.cluster-node-timeout",
            "is below a second: a busy moment is taken for a death, and a failover begins without need",
        );
    }
    config
}

fn check_drain(seconds: u32, out: &mut Findings) {
    if seconds > DRAIN_SECONDS_MAX {
        out.problem(
            "spec.drainSeconds",
            format!(
                "is {seconds}: at most {DRAIN_SECONDS_MAX} make sense, clients learn within seconds"
            ),
        );
    }
}

fn check_persistence(spec: &RedisClusterSpec, out: &mut Findings) {
    let persistence = &spec.persistence;
    if !persistence.aof && !persistence.rdb {
        out.warning(
            "spec.persistence",
            "writes nothing to disk: a node that restarts is empty, and losing a shard's nodes at once loses its data",
        );
    }
    if spec.failover == FailoverPolicy::KeepEveryWrite && !persistence.aof {
        out.warning(
            "spec.failover",
            "is KeepEveryWrite, but without spec.persistence.aof a primary that comes back has not kept its writes",
        );
    }
}

fn check_local(local: &LocalSpec, spec: &RedisClusterSpec, out: &mut Findings) -> LocalLayout {
    if let Some(port) = local.port {
        check_ports(port, spec, out);
    }
    let mut bind: Vec<IpAddr> = Vec::new();
    for (index, text) in local.bind.iter().enumerate() {
        let path = item("spec.local.bind", index);
        match text.parse() {
            Ok(address) if bind.contains(&address) => out.problem(path, "stands twice"),
            Ok(address) => bind.push(address),
            Err(_) => out.problem(path, format!("is {text:?}: an IP address is needed")),
        }
    }
    let mut hosts: Vec<HostLabel> = Vec::new();
    for (index, host) in local.hosts.iter().enumerate() {
        let path = item("spec.local.hosts", index);
        if let Some(message) = names::bad_label(&host.name) {
            out.problem(field(&path, "name"), message);
        } else if hosts.iter().any(|other| other.host == host.name) {
            out.problem(
                field(&path, "name"),
                format!("`{}` stands twice", host.name),
            );
        }
        if let Some(message) = host.zone.as_deref().and_then(names::bad_label) {
            out.problem(field(&path, "zone"), message);
        }
        hosts.push(HostLabel {
            host: host.name.clone(),
            zone: host.zone.clone(),
        });
    }
    LocalLayout {
        port: local.port,
        bind,
        hosts,
    }
}

fn check_ports(port: u16, spec: &RedisClusterSpec, out: &mut Findings) {
    let nodes = spec
        .shards
        .saturating_mul(spec.replicas_per_shard.saturating_add(1));
    let last = u32::from(port).saturating_add(nodes.max(1) - 1);
    let last_bus = last.saturating_add(BUS_PORT_OFFSET);
    if port < 1024 {
        out.problem(
            "spec.local.port",
            format!("is {port}: ports below 1024 are the system's"),
        );
    } else if last_bus > u32::from(u16::MAX) {
        out.problem(
            "spec.local.port",
            format!(
                "is {port}: {nodes} nodes would reach port {last} and bus port {last_bus}, and ports end at 65535"
            ),
        );
    } else if last_bus >= EPHEMERAL_PORT_MIN {
        out.warning(
            "spec.local.port",
            format!(
                "is {port}: bus ports up to {last_bus} may be taken by outgoing connections, which begin at {EPHEMERAL_PORT_MIN}"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire_words::OLD_AND_NEW_SPELLING;

    #[test]
    fn a_setting_in_two_spellings_is_one_setting() {
        let (old, new) = OLD_AND_NEW_SPELLING;
        let one = ConfigValue::Switch(true);
        let mut given = BTreeMap::from([(format!("{old}-priority"), one.clone())]);
        let mut out = Findings::default();
        let config = check_config(&given, &mut out);
        assert_eq!(config.keys().collect::<Vec<_>>(), ["replica-priority"]);
        assert!(out.finish(Some(())).is_ok());

        given.insert(format!("{new}-priority"), one);
        let mut out = Findings::default();
        check_config(&given, &mut out);
        let problems = out.finish(Some(())).expect_err("given twice");
        assert_eq!(problems.all().len(), 1);
    }
}
