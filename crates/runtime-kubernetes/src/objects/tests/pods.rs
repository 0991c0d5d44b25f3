//! What the pods are given, and how long they may take.

use k8s_openapi::api::core::v1::Probe;

use super::*;

#[test]
fn a_pod_has_time_to_end_in_order() {
    for (lines, seconds, wait) in [
        // Hand over 10, a replica's copy, shutdown-timeout 10, and the snapshot; of these the hook waits for the first two.
        ("", 140, "70"),
        ("persistence: {rdb: false}", 90, "70"),
        ("resources: {limits: {memory: 2000M}}", 80, "40"),
        ("resources: {limits: {memory: 64Mi}}", 40, "20"),
        (
            "config: {shutdown-timeout: 100}, persistence: {rdb: false}",
            180,
            "70",
        ),
        ("pod: {terminationGracePeriodSeconds: 77}", 77, "10"),
        ("pod: {terminationGracePeriodSeconds: 300}", 300, "230"),
    ] {
        let objects = built(&with(lines));
        let grace = pod_of(&objects).termination_grace_period_seconds;
        assert_eq!(grace, Some(seconds), "{lines}");
        let hook = server_of(&objects).lifecycle.as_ref();
        let command = hook
            .and_then(|hook| hook.pre_stop.as_ref()?.exec.as_ref()?.command.as_deref())
            .expect("a command");
        let [.., option, given] = command else {
            panic!("{command:?}");
        };
        assert_eq!((&**option, &**given), ("--wait-seconds", wait), "{lines}");
    }
}

#[test]
fn probes_ask_the_server_and_never_the_cluster() {
    let objects = built(&with(""));
    let server = server_of(&objects);
    let command = |probe: &Option<Probe>| {
        let probe = probe.as_ref().expect("a probe");
        let exec = probe.exec.as_ref().expect("the node program asks");
        exec.command.clone().expect("a command")
    };
    for (probe, verb) in [
        (&server.startup_probe, "started"),
        (&server.readiness_probe, "ready"),
        (&server.liveness_probe, "live"),
    ] {
        assert_eq!(command(probe)[..2], ["/shardwright/shardwright-node", verb]);
    }
    let live = server.liveness_probe.as_ref().expect("a probe");
    let patience = live.period_seconds.zip(live.failure_threshold);
    assert!(patience.is_some_and(|(period, times)| period * times >= 60));
}

#[test]
fn a_server_has_time_to_load_what_it_may_hold() {
    for (lines, seconds) in [
        ("", 3600),
        ("resources: {limits: {memory: 64Mi}}", 600),
        ("config: {maxmemory: 60gb}", 6445),
    ] {
        let objects = built(&with(lines));
        let probe = server_of(&objects).startup_probe.as_ref();
        let patience = probe.and_then(|p| p.period_seconds.zip(p.failure_threshold));
        let patience = patience.map(|(period, times)| period * times);
        assert_eq!(patience, Some(seconds), "{lines}");
    }
}

#[test]
fn the_end_of_the_log_is_told_where_a_container_fails() {
    let objects = built(&with(""));
    let pod = pod_of(&objects);
    let init = pod.init_containers.iter().flatten();
    for container in init.chain(&pod.containers) {
        let policy = container.termination_message_policy.as_deref();
        assert_eq!(policy, Some("FallbackToLogsOnError"), "{}", container.name);
    }
}

#[test]
fn what_is_written_beside_the_data_is_bounded() {
    let objects = built(&with(""));
    let volumes = pod_of(&objects).volumes.as_ref().expect("volumes");
    let empty = volumes
        .iter()
        .filter_map(|v| v.empty_dir.as_ref().map(|dir| (&v.name, dir)));
    let bounds: Vec<_> = empty
        .map(|(name, dir)| (name.as_str(), dir.size_limit.as_ref().map(|q| q.0.as_str())))
        .collect();
    assert_eq!(bounds, [("node", Some("64Mi")), ("tmp", Some("256Mi"))]);
}

#[test]
fn pods_are_labelled_with_the_version_where_it_is_known() {
    for (lines, version) in [
        ("", Some("9.1")),
        ("engine: redis", Some("7.4")),
        ("version: '8.0.2'", Some("8.0.2")),
        ("image: 'example.com/v:9.1'", None),
        ("version: '9.1', image: 'example.com/v:9.1'", Some("9.1")),
        (
            "pod: {labels: {app.kubernetes.io/version: own}}",
            Some("own"),
        ),
    ] {
        let objects = built(&with(lines));
        let template = &objects.stateful_set.spec.template;
        let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
        let label = labels.and_then(|l| l.get("app.kubernetes.io/version"));
        assert_eq!(label.map(String::as_str), version, "{lines}");
    }
}

#[test]
fn a_pod_may_do_nothing_but_run() {
    let objects = built(&with(""));
    let pod = pod_of(&objects);
    assert_eq!(pod.automount_service_account_token, Some(false));
    let context = pod.security_context.as_ref().expect("a context");
    assert_eq!(
        (
            context.run_as_non_root,
            context.run_as_user,
            context.fs_group
        ),
        (Some(true), Some(999), Some(999))
    );
    let init = pod.init_containers.iter().flatten();
    for container in init.chain(&pod.containers) {
        let context = container.security_context.as_ref().expect("a context");
        assert_eq!(context.allow_privilege_escalation, Some(false));
        assert_eq!(context.read_only_root_filesystem, Some(true));
        let capabilities = context.capabilities.as_ref().expect("none");
        assert_eq!(capabilities.drop.as_deref(), Some(&["ALL".to_owned()][..]));
    }
    // As OpenShift needs it.
    let by_platform = with("pod: {platformUserIds: true}");
    let by_platform = built(&by_platform);
    let context = pod_of(&by_platform)
        .security_context
        .as_ref()
        .expect("a context");
    let ids = [context.run_as_user, context.run_as_group, context.fs_group];
    assert_eq!((context.run_as_non_root, ids), (Some(true), [None; 3]));
    // Field by field: null takes one away.
    let own = built(&with(
        "pod: {securityContext: {runAsUser: null, fsGroup: 7}}",
    ));
    let context = pod_of(&own).security_context.as_ref().expect("a context");
    assert_eq!(
        (
            context.run_as_non_root,
            context.run_as_user,
            context.fs_group
        ),
        (Some(true), None, Some(7))
    );
}

#[test]
fn requests_and_limits_are_those_of_the_manifest() {
    let objects = built(&cluster(ARTICLE));
    let pod = pod_of(&objects);
    let resources = pod.containers[0].resources.as_ref().expect("they are set");
    let memory = |of: &Option<BTreeMap<String, _>>| {
        let of: &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity> =
            of.as_ref().expect("it is set");
        of["memory"].0.clone()
    };
    assert_eq!(memory(&resources.requests), "100M");
    assert_eq!(memory(&resources.limits), "2G");
    // It copies one file.
    let install = &pod.init_containers.as_ref().expect("one")[0];
    let own = install.resources.as_ref().expect("they are set");
    assert_eq!(memory(&own.requests), "32Mi");
    assert_eq!(memory(&own.limits), "32Mi");
    let none = built(&with(""));
    let init = pod_of(&none).init_containers.as_ref().expect("one");
    assert_eq!(
        (&init[0].resources, &server_of(&none).resources),
        (&None, &None)
    );
}
