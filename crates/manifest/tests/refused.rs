//! What is refused, and in which words: each case is a document and every line of its answer.

use std::fmt::Write as _;

use shardwright_manifest::{Accepted, Cluster};

/// A document whose `spec` is what follows, each line indented by two.
fn spec(lines: &str) -> String {
    let mut text = String::from(
        "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata:\n  name: test\nspec:\n",
    );
    for line in lines.lines() {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Each document with every problem, or with every warning if it is accepted.
fn transcript(documents: &[String]) -> String {
    let mut out = String::new();
    for document in documents {
        let shown = document
            .strip_prefix("apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata:\n  name: test\n")
            .unwrap_or(document);
        for line in shown.trim_end().lines() {
            writeln!(out, "| {line}").expect("writing to a String cannot fail");
        }
        match Cluster::from_text(document) {
            Ok(Accepted { warnings, .. }) => {
                out.push_str("accepted\n");
                for warning in warnings {
                    writeln!(out, "  warning: {warning}").expect("writing to a String cannot fail");
                }
            }
            Err(problems) => writeln!(out, "{problems}").expect("writing to a String cannot fail"),
        }
        out.push('\n');
    }
    out
}

macro_rules! check {
    ($name:literal, $documents:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!($name, transcript(&$documents));
        });
    };
}

#[test]
fn text_that_is_no_document() {
    check!(
        "text",
        [
            String::new(),
            "---\n# nothing\n".to_owned(),
            "hello".to_owned(),
            "- a\n- b\n".to_owned(),
            "spec: [1\n".to_owned(),
            "spec: {}\nspec: {}\n".to_owned(),
            "{\"spec\": {}, \"spec\": {}}".to_owned(),
            "{\"kind\": \"RedisCluster\",".to_owned(),
            "kind: ConfigMap\ndata: {}\n".to_owned(),
            format!(
                "kind: ConfigMap\n---\n{}---\nkind: Service\n",
                spec("shards: 3")
            ),
            "kind: RedisCluster\n".to_owned(),
            "apiVersion: shardwright.dev/v9\nkind: RedisCluster\nmetadata: {name: a}\nspec: {}\n"
                .to_owned(),
        ]
    );
}

#[test]
fn the_wrong_form() {
    check!(
        "form",
        [
            spec("shard: 3\nreplicas: 1\nReplicasPerShard: 1\nfoo: bar"),
            spec(
                "shards: three\nreplicasPerShard: 1.5\nengine: keydb\nversion: 7.0\nfailover: fast"
            ),
            spec("shards: -1"),
            spec("shards: 99999999999"),
            spec("persistence: yes\nresources: []\nusers: {name: a}\nconfig: [a]"),
            spec("persistence: {aof: 1, fsync: no, rdb: maybe, mode: x}"),
            spec(
                "users:\n- worker\n- rules: +get\n- name: 5\n  rules: +get\n- {name: a, password: hunter2}"
            ),
            spec(
                "users:\n- {name: a, rules: +get, passwordSecret: hunter2}\n- {name: b, rules: +get, passwordSecret: {key: x}}"
            ),
            spec("config: {maxmemory: null, loglevel: [a], hz: {a: b}}"),
            spec(
                "storage: {}\nresources: {limits: {memory: [1]}}\nlocal: {port: 70000, hosts: [a]}"
            ),
            "apiVersion: 1\nkind: RedisCluster\nmetadata: {labels: {a: 1}}\nspec: null\n"
                .to_owned(),
            spec("shards: null\nusers: null\nlocal: null"),
        ]
    );
}

#[test]
fn numbers_and_names() {
    check!(
        "numbers",
        [
            spec("shards: 0"),
            spec("shards: 2\nreplicasPerShard: 11"),
            spec("shards: 1001"),
            spec("shards: 600\nreplicasPerShard: 1"),
            spec("replicasPerShard: 0"),
            spec("engine: redis\nversion: '6.2'"),
            spec("engine: valkey\nversion: '7.0'"),
            spec("engine: valkey\nversion: '9'"),
            spec("version: latest"),
            spec("version: '7.0.'\nimage: 'a b'"),
            "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata:\n  name: My_Cluster\n  namespace: -x\n  labels: {'a/b/c': x, ok: 'a b'}\n  annotations: {'/x': z}\nspec: {}\n"
                .to_owned(),
            "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {name: 7up}\nspec: {}\n"
                .to_owned(),
            format!("apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {{name: {}}}\nspec: {{}}\n", "a".repeat(53)),
            spec("local:\n  port: 80\n  bind: [127.0.0.1, localhost, 127.0.0.1]\n  hosts: [{name: a}, {name: a}, {name: B, zone: ''}]"),
            spec("shards: 100\nlocal: {port: 55500}"),
            spec("local: {port: 30000}"),
        ]
    );
}

#[test]
fn users_and_rules() {
    check!(
        "users",
        [
            spec(
                "users:\n- {name: a, rules: +get}\n- {name: b, rules: +get}\n- {name: a, rules: +set}"
            ),
            spec(
                "users:\n- {name: '', rules: +get}\n- {name: a/b, rules: +get}\n- {name: ..}\n- {name: 'a b', rules: +get}"
            ),
            spec("users:\n- {name: a, rules: '+@nosuch ~* ~x +get| foo (+get'}"),
            spec("users:\n- {name: a, rules: '>hunter2 <hunter2 #abc reset resetpass (>hunter2)'}"),
            spec(
                "users:\n- {name: a, rules: ''}\n- {name: b}\n- {name: c, rules: \"+get\\nuser evil on nopass +@all\"}"
            ),
            spec(
                "users:\n- {name: a, rules: '+gett +config|gte +select|0 -get|x alldbs db=0,1 db=x +@search'}"
            ),
            spec(
                "users:\n- {name: a, rules: nopass +get}\n- {name: b, rules: nopass +get, passwordSecret: {name: s}}"
            ),
            spec("users:\n- {name: a, rules: '%Q~x &* &y %RW~* ~z ~* ~y'}"),
            spec(
                "users:\n- {name: replication, rules: +@all}\n- {name: shardwright, passwordHashes: [8c6976e5b5410415bde908bd4dee15dfb167a9c873fc4bb8a81f6f2ab448a918]}"
            ),
            spec(
                "users:\n- {name: a, rules: +get, passwordHashes: [hunter2, 8C6976E5B5410415BDE908BD4DEE15DFB167A9C873FC4BB8A81F6F2AB448A918]}"
            ),
            spec("users:\n- {name: a, rules: +get, passwordSecret: {name: A_b, key: 'a b'}}"),
        ]
    );
}

#[test]
fn owned_settings() {
    let owned = [
        "aclfile",
        "appendfilename",
        "appendfsync",
        "appendonly",
        "bind",
        "cluster-allow-replica-migration",
        "cluster-announce-ip",
        "cluster-announce-hostname",
        "cluster-config-file",
        "cluster-enabled",
        "cluster-port",
        "daemonize",
        "dbfilename",
        "dir",
        "include",
        "loadmodule",
        "logfile",
        "masterauth",
        "masteruser",
        "pidfile",
        "port",
        "primaryauth",
        "primaryuser",
        "rename-command",
        "replica-announce-ip",
        "replicaof",
        "requirepass",
        "save",
        "sentinel",
        "supervised",
        "tls-port",
        "unixsocket",
        "user",
    ];
    let lines = owned.join(
        ": x
  ",
    );
    check!(
        "owned",
        [spec(&format!(
            "config:
  {lines}: x"
        ))]
    );
}

#[test]
fn settings_and_sizes() {
    check!(
        "settings",
        [
            spec("config: {Maxmemory: 1gb, 'a b': c, '': d, \"x\\ny\": e}"),
            spec(
                "config: {loglevel: \"notice\\nport 1\", maxmemory: 100Mi, maxmemory-policy: lru}"
            ),
            spec(
                "config: {cluster-node-timeout: 5s, cluster-require-full-coverage: maybe, shutdown-timeout: -1}"
            ),
            spec(
                "config: {cluster-node-timeout: 500, maxmemory-policy: allkeys-lru, protected-mode: no, hz: 10}"
            ),
            spec(
                "storage: {size: 5 Gi}\nresources: {limits: {memory: 2gb, cpu: many}, requests: {memory: -1Gi, cpu: 0}}"
            ),
            spec("resources: {limits: {memory: 1Gi, cpu: 1}, requests: {memory: 2Gi, cpu: 1500m}}"),
            spec("resources: {limits: {memory: 10Mi}}"),
            spec("storage: {size: 50Mi}\nresources: {limits: {memory: 2000M}}"),
            spec(
                "storage: {size: 50Mi}\nresources: {limits: {memory: 2000M}}\npersistence: {aof: false, rdb: false}\nfailover: KeepEveryWrite"
            ),
            spec("resources: {limits: {memory: 1Gi}}\nconfig: {maxmemory: 2gb}"),
            spec("resources: {limits: {memory: 1Gi}}\nconfig: {maxmemory: 0}"),
            spec("resources: {limits: {memory: 1Gi}}\nconfig: {maxmemory: 1000mb}"),
        ]
    );
}

#[test]
fn what_only_kubernetes_needs() {
    check!(
        "kubernetes",
        [
            spec("nodeImage: 'no image'\nimagePullPolicy: Sometimes"),
            spec("imagePullSecrets: [{name: a}, {name: a}, {name: A}, {}]"),
            spec("acl: {storage: File}\npaused: 1"),
            spec("storage: {size: 1Gi, storageClassName: Fast, onUnreachable: Never}"),
            spec("storage: {size: 1Gi, recreateAfterSeconds: 600}"),
            spec("storage: {size: 1Gi, onUnreachable: RecreateAfter, recreateAfterSeconds: 5}"),
            spec("storage: {size: 1Gi, onUnreachable: RecreateAfter}"),
            spec("pod: {labels: {app.kubernetes.io/instance: other, 'a b': c}}"),
            spec("pod: {nodeSelector: {disk: 'a b'}, annotations: {'': x}}"),
            spec("pod: {priorityClassName: High, serviceAccountName: ''}"),
            spec("pod: {tolerations: Exists, affinity: [], env: [TZ], sidecar: []}"),
            spec(
                "pod: {env: [{value: x}, {name: ''}], volumes: [{emptyDir: {}}], volumeMounts: [{name: a}, {mountPath: /a}]}"
            ),
            spec(
                "pod: {sidecars: [{name: a}, {image: x}], initContainers: [{name: b, image: null}]}"
            ),
            spec("pod: {topologySpreadConstraints: [{topologyKey: zone}]}"),
            spec("pod: {terminationGracePeriodSeconds: 0}"),
            spec("pod: {terminationGracePeriodSeconds: 15}"),
            spec("config: {shutdown-timeout: 60}\npod: {terminationGracePeriodSeconds: 60}"),
            spec("pod: {affinity: {whatever: {is: in}, it: [1, 2]}}"),
        ]
    );
}

#[test]
fn problems_of_form_and_of_meaning_come_together() {
    let text = spec(
        "shards: 2\nreplicas: 1\nengine: keydb\nusers:\n- {name: worker, rules: '+@nosuch'}\n- {rules: +get}\n- {name: worker, rules: +get}\nconfig: {port: 7000, hz: []}\nstorage: {size: big}",
    );
    check!("together", [text]);
}

#[test]
fn a_refused_password_is_never_repeated() {
    for rules in [
        ">hunter2",
        "(>hunter2 +get)",
        "<hunter2",
        "#hunter2",
        "+get (<hunter2)",
    ] {
        let text = spec(&format!("users:\n- name: a\n  rules: '{rules}'"));
        let problems = Cluster::from_text(&text).expect_err("passwords are refused");
        assert!(!problems.to_string().contains("hunter2"), "{problems}");
    }
}
