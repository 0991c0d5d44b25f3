//! What only Kubernetes needs to know. Overrides of pods are looked at as far as this can be done
//! without the types of Kubernetes; the builder of the pods does the rest.

use std::collections::BTreeMap;

use serde_json::Value;

use super::image;
use super::names;
use crate::cluster::{Kubernetes, Unreachable};
use crate::document::{OnUnreachable, PodOverrides, RawObject, RedisClusterSpec, StorageSpec};
use crate::problem::{Findings, field, item};

/// How long `RecreateAfter` waits unless told: a Kubernetes node that restarts is back by then.
const RECREATE_AFTER_SECONDS: u32 = 300;
/// The shortest wait: Kubernetes itself takes 40 seconds to see that a node is away.
const RECREATE_AFTER_SECONDS_MIN: u32 = 30;
const RECREATE_AFTER_SECONDS_MAX: u32 = 7 * 24 * 3600;

/// How long a pod that is asked to end holds its server back at most, so that a primary can hand
/// over. `shutdown-timeout` begins only then.
const HAND_OVER_SECONDS_MAX: u32 = 10;
const SHUTDOWN_TIMEOUT_SECONDS: u32 = 10;

/// Labels of pods that others set and select by.
const TAKEN_LABELS: [&str; 7] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/component",
    "apps.kubernetes.io/pod-index",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
];

pub(crate) fn check(
    spec: &RedisClusterSpec,
    config: &BTreeMap<String, String>,
    out: &mut Findings,
) -> Kubernetes {
    if let Some(name) = &spec.node_image {
        image("spec.nodeImage", name, out);
    }
    let mut image_pull_secrets: Vec<String> = Vec::new();
    for (index, secret) in spec.image_pull_secrets.iter().enumerate() {
        let path = field(&item("spec.imagePullSecrets", index), "name");
        if let Some(message) = names::bad_object_name(&secret.name) {
            out.problem(path, message);
        } else if image_pull_secrets.contains(&secret.name) {
            out.problem(path, "stands twice");
        } else {
            image_pull_secrets.push(secret.name.clone());
        }
    }
    check_pod(&spec.pod, config, out);
    let storage = spec.storage.as_ref();
    if let Some(message) = storage
        .and_then(|s| s.storage_class_name.as_deref())
        .and_then(names::bad_object_name)
    {
        out.problem("spec.storage.storageClassName", message);
    }
    Kubernetes {
        paused: spec.paused,
        node_image: spec.node_image.clone(),
        image_pull_policy: spec.image_pull_policy,
        image_pull_secrets,
        acl_storage: spec.acl.storage,
        storage_class: storage.and_then(|s| s.storage_class_name.clone()),
        on_unreachable: storage.map_or(Unreachable::Wait, |s| on_unreachable(s, out)),
        retain_volumes: spec.retain_volumes,
        pod: spec.pod.clone(),
    }
}

fn on_unreachable(storage: &StorageSpec, out: &mut Findings) -> Unreachable {
    let path = "spec.storage.recreateAfterSeconds";
    let range = RECREATE_AFTER_SECONDS_MIN..=RECREATE_AFTER_SECONDS_MAX;
    match (storage.on_unreachable, storage.recreate_after_seconds) {
        (OnUnreachable::Wait, given) => {
            if given.is_some() {
                out.problem(
                    path,
                    "says nothing without spec.storage.onUnreachable: RecreateAfter",
                );
            }
            Unreachable::Wait
        }
        (OnUnreachable::RecreateAfter, given) => {
            let seconds = given.unwrap_or(RECREATE_AFTER_SECONDS);
            if !range.contains(&seconds) {
                out.problem(
                    path,
                    format!(
                        "is {seconds}: from {} to {} seconds; a Kubernetes node that restarts should be back by then",
                        range.start(),
                        range.end()
                    ),
                );
            }
            Unreachable::RecreateAfter { seconds }
        }
    }
}

fn check_pod(pod: &PodOverrides, config: &BTreeMap<String, String>, out: &mut Findings) {
    check_labels("spec.pod.labels", &pod.labels, out);
    for key in pod.labels.keys() {
        if TAKEN_LABELS.contains(&key.as_str()) {
            out.problem(
                field("spec.pod.labels", key),
                "is set by Shardwright or Kubernetes itself: leave it out",
            );
        }
    }
    check_labels("spec.pod.nodeSelector", &pod.node_selector, out);
    for key in pod.annotations.keys() {
        if let Some(message) = names::bad_label_key(key) {
            out.problem(field("spec.pod.annotations", key), message);
        }
    }
    for (name, value) in [
        ("priorityClassName", &pod.priority_class_name),
        ("schedulerName", &pod.scheduler_name),
        ("runtimeClassName", &pod.runtime_class_name),
        ("serviceAccountName", &pod.service_account_name),
    ] {
        if let Some(message) = value.as_deref().and_then(names::bad_object_name) {
            out.problem(field("spec.pod", name), message);
        }
    }
    check_items(pod, out);
    if let Some(seconds) = pod.termination_grace_period_seconds {
        let path = "spec.pod.terminationGracePeriodSeconds";
        let waits = config
            .get("shutdown-timeout")
            .and_then(|value| value.parse::<u32>().ok())
            .unwrap_or(SHUTDOWN_TIMEOUT_SECONDS);
        let needed = HAND_OVER_SECONDS_MAX.saturating_add(waits);
        if seconds == 0 {
            out.problem(
                path,
                "is 0: a pod that is killed at once cannot save its data",
            );
        } else if seconds < needed {
            out.warning(
                path,
                format!(
                    "is {seconds}: handing over may take {HAND_OVER_SECONDS_MAX} seconds, and the replicas have {waits} more to catch up; a pod may be killed before it has saved its data"
                ),
            );
        }
    }
}

/// Items without a field that no pod can be made without. Some of these tell the items of a list apart for Kubernetes.
fn check_items(pod: &PodOverrides, out: &mut Findings) {
    let none = Vec::new();
    let spread = pod.topology_spread_constraints.as_ref().unwrap_or(&none);
    let lists: [(&str, &[RawObject], &[&str]); 6] = [
        ("env", &pod.env, &["name"]),
        ("volumeMounts", &pod.volume_mounts, &["name", "mountPath"]),
        ("volumes", &pod.volumes, &["name"]),
        ("sidecars", &pod.sidecars, &["name", "image"]),
        ("initContainers", &pod.init_containers, &["name", "image"]),
        (
            "topologySpreadConstraints",
            spread,
            &["maxSkew", "topologyKey", "whenUnsatisfiable"],
        ),
    ];
    for (list, items, required) in lists {
        for (index, RawObject(object)) in items.iter().enumerate() {
            let path = item(&field("spec.pod", list), index);
            for name in required {
                match object.get(*name) {
                    None | Some(Value::Null) => out.problem(field(&path, name), "is missing"),
                    Some(Value::String(text)) if text.is_empty() => {
                        out.problem(field(&path, name), "is empty");
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

/// Labels, or a selector of them.
pub(super) fn check_labels(at: &str, labels: &BTreeMap<String, String>, out: &mut Findings) {
    for (key, value) in labels {
        let path = field(at, key);
        if let Some(message) = names::bad_label_key(key) {
            out.problem(&path, message);
        }
        if let Some(message) = names::bad_label_value(value) {
            out.problem(&path, message);
        }
    }
}
