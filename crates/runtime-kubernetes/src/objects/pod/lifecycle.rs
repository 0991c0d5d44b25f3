//! When a pod is started, ready, alive, and how long it may take to end.

use k8s_openapi::api::core::v1::{Lifecycle, LifecycleHandler, Probe};
use shardwright_manifest::Cluster;

use super::node_program;

/// How long `prestop` waits for a handover to a replica that has its copy, in seconds: as the node program has it.
const HAND_OVER_SECONDS: u64 = 10;
/// How fast a copy or a snapshot is written at least, in bytes per second: a slow network or a slow volume.
const COPY_BYTES_PER_SECOND: u64 = 50_000_000;
/// The time for a copy or a snapshot where nothing bounds the memory, in seconds.
const COPY_SECONDS_UNBOUNDED: u64 = 60;
/// The least time for one, in seconds.
const COPY_SECONDS_MIN: u64 = 10;
/// The least time to end in order without a snapshot, in seconds: flushing the append-only file, unmounting.
const END_SECONDS_MIN: u64 = 10;

/// How fast data is loaded at least, in bytes of memory per second: an append-only file of small commands on a slow
/// volume.
const LOAD_BYTES_PER_SECOND: u64 = 10_000_000;
/// How long a server with little data may load, in seconds.
const LOAD_SECONDS_MIN: u64 = 600;
/// How long a server may load where nothing bounds its memory, in seconds.
const LOAD_SECONDS_UNBOUNDED: u64 = 3600;
/// Between two tries of a startup probe, in seconds.
const STARTUP_PERIOD_SECONDS: u64 = 5;

/// How long a pod may take to end, in seconds: to let a replica copy, to hand over, to let the replicas catch up, and to
/// write the last snapshot.
pub(super) fn grace_seconds(cluster: &Cluster) -> u64 {
    let given = cluster.kubernetes().pod.termination_grace_period_seconds;
    given.map_or_else(
        || HAND_OVER_SECONDS + copy_seconds(cluster) + end_seconds(cluster),
        u64::from,
    )
}

/// How long `prestop` may wait in all, in seconds: what the grace period leaves of it.
fn wait_seconds(cluster: &Cluster) -> u64 {
    let left = grace_seconds(cluster).saturating_sub(end_seconds(cluster));
    left.max(HAND_OVER_SECONDS)
}

/// From the signal to end to the end, in seconds.
fn end_seconds(cluster: &Cluster) -> u64 {
    let save = if cluster.persistence().rdb {
        copy_seconds(cluster)
    } else {
        END_SECONDS_MIN
    };
    u64::from(cluster.shutdown_timeout_seconds()) + save
}

/// The time to write all data once, over the network or to the disk, in seconds.
fn copy_seconds(cluster: &Cluster) -> u64 {
    cluster
        .maxmemory_bytes()
        .map_or(COPY_SECONDS_UNBOUNDED, |bytes| {
            bytes.div_ceil(COPY_BYTES_PER_SECOND).max(COPY_SECONDS_MIN)
        })
}

/// How long a server may load its data, in seconds.
fn load_seconds(cluster: &Cluster) -> u64 {
    cluster
        .maxmemory_bytes()
        .map_or(LOAD_SECONDS_UNBOUNDED, |bytes| {
            bytes.div_ceil(LOAD_BYTES_PER_SECOND).max(LOAD_SECONDS_MIN)
        })
}

/// The other probes begin when this one went well: a server that loads is not ended because it is silent meanwhile.
pub(super) fn startup(cluster: &Cluster) -> Probe {
    let times = load_seconds(cluster).div_ceil(STARTUP_PERIOD_SECONDS);
    Probe {
        exec: Some(node_program("started")),
        period_seconds: Some(seconds(STARTUP_PERIOD_SECONDS)),
        timeout_seconds: Some(5),
        failure_threshold: Some(seconds(times)),
        ..Probe::default()
    }
}

/// A pod is ready by what its own server has, whatever the state of the cluster: if a cluster that is down took its pods
/// along, they could be evicted at will, and it could not come up. Every command in a container costs its host: at six of
/// them in 10 s for each of twenty pods they took about half of two cores.
pub(super) fn readiness() -> Probe {
    Probe {
        exec: Some(node_program("ready")),
        period_seconds: Some(5),
        timeout_seconds: Some(5),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

/// Only a server that is silent for a minute is frozen for good.
pub(super) fn liveness() -> Probe {
    Probe {
        exec: Some(node_program("live")),
        period_seconds: Some(20),
        timeout_seconds: Some(5),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

/// What is done before the signal to end.
pub(super) fn before_stop(cluster: &Cluster) -> Lifecycle {
    let mut exec = node_program("prestop");
    if let Some(command) = &mut exec.command {
        command.push("--wait-seconds".to_owned());
        command.push(wait_seconds(cluster).to_string());
    }
    Lifecycle {
        pre_stop: Some(LifecycleHandler {
            exec: Some(exec),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    }
}

/// As Kubernetes holds it. What is more than that is 68 years.
fn seconds(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
