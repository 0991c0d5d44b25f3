//! What the kubelet says of containers that do not run, as it is kept.

use serde_json::{Value, json};

use super::*;

/// Why the server's container of a pod is not started.
fn why(server: &Value, init: &Value) -> Option<String> {
    let status = |name: &str, state: &Value| {
        json!({"name": name, "image": format!("{name}:9.9"), "imageID": "", "ready": false, "restartCount": 0,
            "state": state})
    };
    let pod = json!({
        "metadata": {"name": "redis-5", "namespace": "cache", "uid": "u",
            "labels": {"app.kubernetes.io/name": "redis-cluster", "app.kubernetes.io/instance": "redis"}},
        "status": {
            "containerStatuses": [status("redis", server)],
            "initContainerStatuses": [status("install", init)],
        },
    });
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    match PodFact::of(&pod).expect("one of ours").container {
        Container::NotYet(why) => why,
        other => panic!("not started: {other:?}"),
    }
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

#[test]
fn the_reason_comes_first_and_is_the_same_for_the_same_cause() {
    let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let image = Some("ImagePullBackOff: image redis:9.9 can't be pulled".to_owned());
    let pulls = "rpc error: code = NotFound";
    assert_eq!(why(&waiting("ErrImagePull", pulls), &done), image);
    let backs_off = "Back-off pulling image";
    assert_eq!(why(&waiting("ImagePullBackOff", backs_off), &done), image);
    let config = waiting(
        "CreateContainerConfigError",
        "secret \"x\" not found\nand more",
    );
    assert_eq!(
        why(&config, &done).as_deref(),
        Some("CreateContainerConfigError: secret \"x\" not found")
    );
    // Its messages count tries.
    let crashes = waiting(
        "CrashLoopBackOff",
        "back-off 10s restarting failed container",
    );
    assert_eq!(why(&crashes, &done).as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(why(&json!({}), &done), None);
}

#[test]
fn what_runs_before_the_server_is_why_it_waits() {
    let waits = waiting("PodInitializing", "");
    let image = waiting("ImagePullBackOff", "");
    assert_eq!(
        why(&waits, &image).as_deref(),
        Some("ImagePullBackOff: init container install: image install:9.9 can't be pulled")
    );
    let fails = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    assert_eq!(
        why(&waits, &fails).as_deref(),
        Some("Error (1): init container install")
    );
    let runs = json!({"running": {}});
    assert_eq!(why(&waits, &runs).as_deref(), Some("PodInitializing"));
}

#[test]
fn a_container_beside_the_server_that_does_not_run_is_told_with_why() {
    let of = |state: Value, last: Value| {
        let status = |name: &str, state: Value, last: Value| {
            json!({"name": name, "image": "i", "imageID": "", "ready": false, "restartCount": 1,
                "state": state, "lastState": last, "containerID": "c"})
        };
        let running = json!({"running": {"startedAt": "2024-01-01T00:00:00Z"}});
        let pod = json!({
            "metadata": {"name": "redis-5", "namespace": "cache", "uid": "u",
                "labels": {"app.kubernetes.io/name": "redis-cluster", "app.kubernetes.io/instance": "redis"}},
            "status": {
                "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "1970-01-01T00:00:05Z"}],
                "containerStatuses": [status("redis", running, json!({})), status("exporter", state, last)],
            },
        });
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        PodFact::of(&pod).expect("one of ours")
    };
    let ended = json!({"terminated": {"containerID": "x", "exitCode": 1, "reason": "Error"}});
    let loops = of(waiting("CrashLoopBackOff", ""), ended);
    let why = "CrashLoopBackOff, after Error (1)".to_owned();
    assert_eq!(loops.beside, Some(("exporter".to_owned(), why)));
    assert_eq!(loops.unready_since, Some(Timestamp(5_000)));
    let comes = of(waiting("ContainerCreating", ""), json!({}));
    assert_eq!(comes.beside, None);
}

/// Why the server's container of a pod ended, whose log ended so.
fn ended(log: &str) -> String {
    let end = json!({"terminated": {"exitCode": 1, "reason": "Error", "containerID": "c", "message": log}});
    let pod = json!({
        "metadata": {"name": "redis-0", "namespace": "cache", "uid": "u",
            "labels": {"app.kubernetes.io/name": "redis-cluster", "app.kubernetes.io/instance": "redis"}},
        "status": {"containerStatuses": [{
            "name": "redis", "image": "redis:9.9", "imageID": "", "ready": false, "restartCount": 3,
            "state": waiting("CrashLoopBackOff", "back-off 10s"),
            "lastState": end,
        }]},
    });
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    match PodFact::of(&pod).expect("one of ours").container {
        Container::Ended { why, .. } => why,
        other => panic!("ended: {other:?}"),
    }
}

#[test]
fn what_the_server_complains_of_is_told_and_no_password() {
    let refused = |line: &str| {
        ended(&format!(
            "shardwright-node: the disk is blank\nshardwright-node: becoming redis-server\n\n\
             *** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n\
             Reading the configuration file, at line 22\n>>> '{line}'\n\
             Bad directive or wrong number of arguments\n"
        ))
    };
    assert_eq!(
        refused("maxmemroy 1"),
        "CrashLoopBackOff, after Error (1): its configuration is not accepted, in line 22 (maxmemroy 1): \
         Bad directive or wrong number of arguments"
    );
    assert_eq!(
        refused("requirepass secret"),
        "CrashLoopBackOff, after Error (1): its configuration is not accepted: \
         Bad directive or wrong number of arguments"
    );
    let loads = "1:M 30 Nov 2026 12:00:00.000 * Server initialized, just started\n\
                 1:M 30 Nov 2026 12:00:00.001 # Short read or OOM loading DB. Unrecoverable error, aborting now.\n";
    assert!(
        ended(loads).starts_with("CrashLoopBackOff, after Error (1): its RDB file can't be read: ")
    );
    // Words that are not known here are no reason.
    assert_eq!(ended("killed"), "CrashLoopBackOff, after Error (1)");
}
