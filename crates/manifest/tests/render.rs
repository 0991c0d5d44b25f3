//! The files that servers read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};
use shardwright_manifest::{
    Cluster, ConfigValue, Metadata, NodeSettings, RedisCluster, RedisClusterSpec, RenderError,
    Replication, Secret, quote, redis_conf, replication_auth, users_acl,
};

#[path = "readback/conf.rs"]
mod conf;

const ARTICLE: &str = include_str!("../../../examples/article.yaml");

fn node() -> NodeSettings {
    NodeSettings {
        port: 7000,
        bus_port: None,
        bind: vec![[127, 0, 0, 1].into()],
        dir: "/var/lib/shardwright/redis/0".into(),
        nodes_file: "nodes.conf".to_owned(),
        acl_file: "/var/lib/shardwright/redis/0/users.acl".into(),
        auth_file: "/var/lib/shardwright/redis/0/auth.conf".into(),
        pid_file: None,
        log_file: None,
        announce_ip: None,
        announce_hostname: None,
    }
}

fn passwords(names: &[&str]) -> BTreeMap<String, Secret> {
    names
        .iter()
        .map(|name| ((*name).to_owned(), Secret::new(format!("{name}-password"))))
        .collect()
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
fn the_article_on_this_machine() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::from_text(ARTICLE)?.cluster;
    snapshot!("article-conf", redis_conf(&cluster, &node())?);
    let all = passwords(&["default", "replication", "shardwright", "worker"]);
    snapshot!(
        "article-acl",
        users_acl(&cluster, &all, Replication::Copies)?
    );
    let auth = replication_auth(&Secret::new("`5$!DfwSJ.Y(d:@M"))?;
    snapshot!("article-auth", auth.expose());
    Ok(())
}

#[test]
fn every_setting_of_a_node() -> Result<(), Box<dyn std::error::Error>> {
    let text = "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {name: a}\nspec:\n  persistence: {aof: false, fsync: never, rdb: false}\n  config:\n    cluster-node-timeout: 15000\n    client-output-buffer-limit: replica 256mb 64mb 60\n    replica-priority: 5\n    maxmemory: 100mb\n    cluster-require-full-coverage: yes\n";
    let cluster = Cluster::from_text(text)?.cluster;
    let node = NodeSettings {
        bus_port: Some(17001),
        bind: vec![[0, 0, 0, 0].into(), "::1".parse()?],
        dir: "/srv/my data".into(),
        pid_file: Some("/run/a \"b\".pid".into()),
        log_file: Some("/var/log/redis.log".into()),
        announce_ip: Some("fd00::7".parse()?),
        announce_hostname: Some("redis-0.redis.redis.svc.cluster.local".to_owned()),
        ..node()
    };
    snapshot!("every-setting", redis_conf(&cluster, &node)?);
    Ok(())
}

#[test]
fn the_acl_file_has_neither_comments_nor_blank_lines() -> Result<(), Box<dyn std::error::Error>> {
    let hash = "87eba76e7f3164534045ba922e7770fb58bbd14ad732bbf5ba6f11cc56989e6e";
    let text = format!(
        "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {{name: a}}\nspec:\n  users:\n  - {{name: locked, rules: '~* off +@all', passwordHashes: [{hash}]}}\n  - {{name: open, rules: 'nopass  +ping'}}\n  - {{name: rotating, rules: '(~a +get)', passwordHashes: [{hash}]}}\n  - {{name: default, rules: 'off'}}\n"
    );
    let cluster = Cluster::from_text(&text)?.cluster;
    let all = passwords(&["default", "replication", "shardwright", "rotating"]);
    let acl = users_acl(&cluster, &all, Replication::Copies)?;
    assert!(acl.ends_with('\n') && acl.lines().all(|line| line.starts_with("user ")));
    snapshot!("acl", acl);
    Ok(())
}

#[test]
fn servers_that_move_slots_by_themselves_may_do_so_at_each_other()
-> Result<(), Box<dyn std::error::Error>> {
    let cluster = Cluster::from_text(ARTICLE)?.cluster;
    let all = passwords(&["default", "replication", "shardwright", "worker"]);
    let copies = users_acl(&cluster, &all, Replication::Copies)?;
    let moves = users_acl(&cluster, &all, Replication::CopiesAndMoves)?;
    let more = "+ping ~* +cluster|syncslots +@write +select +function +multi +exec\n";
    assert!(!copies.contains("syncslots"), "{copies}");
    let others = |acl: &str| -> Vec<String> {
        let lines = acl.lines().filter(|l| !l.starts_with("user replication "));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(others(&copies), others(&moves));
    let line = moves.lines().find(|l| l.starts_with("user replication "));
    assert!(
        line.is_some_and(|l| l.ends_with(more.trim_end())),
        "{line:?}"
    );
    for (valkey, major, rights) in [
        (true, 9, Replication::CopiesAndMoves),
        (true, 8, Replication::Copies),
        (false, 9, Replication::Copies),
    ] {
        assert_eq!(Replication::of(valkey, major), rights);
    }
    Ok(())
}

#[test]
fn what_cannot_be_rendered() -> Result<(), Box<dyn std::error::Error>> {
    use std::os::unix::ffi::OsStringExt as _;
    let cluster = Cluster::from_text(ARTICLE)?.cluster;
    assert_eq!(
        users_acl(&cluster, &passwords(&["default"]), Replication::Copies).map_err(|e| e.to_string()),
        Err("no password for replication, shardwright, worker: give one in a Secret, in the directory of secrets, or as a hash".to_owned())
    );
    let mut all = passwords(&["default", "replication", "shardwright", "worker"]);
    all.insert("worker".to_owned(), Secret::new(""));
    assert_eq!(
        users_acl(&cluster, &all, Replication::Copies),
        Err(RenderError::EmptyPassword("worker".to_owned()))
    );
    assert!(replication_auth(&Secret::new("")).is_err());
    let auth_file: PathBuf = "/srv/[a]/auth.conf".into();
    let pattern = NodeSettings {
        auth_file: auth_file.clone(),
        ..node()
    };
    assert_eq!(
        redis_conf(&cluster, &pattern),
        Err(RenderError::PathIsPattern(auth_file))
    );
    let dir: PathBuf = std::ffi::OsString::from_vec(b"/srv/\xff".to_vec()).into();
    let no_text = NodeSettings {
        dir: dir.clone(),
        ..node()
    };
    assert_eq!(
        redis_conf(&cluster, &no_text),
        Err(RenderError::PathNotText(dir))
    );
    Ok(())
}

fn config_value() -> impl Strategy<Value = ConfigValue> {
    prop_oneof![
        any::<String>().prop_map(ConfigValue::Text),
        "[ -~]{0,20}".prop_map(ConfigValue::Text),
        any::<i64>().prop_map(|n| ConfigValue::Number(n.into())),
        any::<bool>().prop_map(ConfigValue::Switch),
    ]
}

fn config_key() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z-]{0,12}",
        "[a-zA-Z ._\n-]{0,6}",
        prop::sample::select(vec![
            "maxmemory",
            "hz",
            "port",
            "loglevel",
            "cluster-node-timeout",
            "replica-priority",
        ])
        .prop_map(str::to_owned),
    ]
}

/// A tree of values that is often close to a document.
fn near_document() -> impl Strategy<Value = Value> {
    let names = [
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "labels",
        "spec",
        "shards",
        "replicasPerShard",
        "engine",
        "users",
        "rules",
        "passwordSecret",
        "passwordHashes",
        "key",
        "config",
        "port",
        "persistence",
        "aof",
        "fsync",
        "storage",
        "size",
        "resources",
        "limits",
        "memory",
        "local",
        "hosts",
        "bind",
        "failover",
        "other",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["1Gi", "redis", "RedisCluster", "+@all ~*"])
            .prop_map(Value::from),
    ];
    let tree = leaf.prop_recursive(4, 40, 6, move |inner| {
        let name = prop::sample::select(names.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    (tree, any::<bool>()).prop_map(|(spec, whole)| {
        if whole {
            json!({ "apiVersion": "shardwright.dev/v1alpha1", "kind": "RedisCluster", "metadata": { "name": "a" }, "spec": spec })
        } else {
            spec
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn quoting_reads_back(value in any::<String>()) {
        let line = format!("key {}", quote(&value));
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(conf::directives(&line), Ok(vec![vec!["key".to_owned(), value]]));
    }

    #[test]
    fn an_accepted_document_gives_one_line_for_each_key(
        config in prop::collection::btree_map(config_key(), config_value(), 0..6),
        dir in "/[ -~&&[^*?\\[]]{1,20}",
        nodes_file in any::<String>(),
    ) {
        let document = RedisCluster {
            api_version: "shardwright.dev/v1alpha1".to_owned(),
            kind: "RedisCluster".to_owned(),
            metadata: Metadata { name: "a".to_owned(), ..Metadata::default() },
            spec: RedisClusterSpec { config, ..RedisClusterSpec::default() },
        };
        let Ok(accepted) = Cluster::from_document(&document) else {
            return Ok(());
        };
        let node = NodeSettings { dir: dir.clone().into(), nodes_file, ..node() };
        let text = redis_conf(&accepted.cluster, &node).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let lines = conf::directives(&text).map_err(TestCaseError::fail)?;
        prop_assert!(lines.iter().all(|line| line.len() == 2), "{lines:?}");
        let keys: BTreeSet<&String> = lines.iter().map(|line| &line[0]).collect();
        prop_assert_eq!(keys.len(), lines.len(), "a key stands twice: {:?}", lines);
        prop_assert!(lines.contains(&vec!["dir".to_owned(), dir]));
        for (key, value) in accepted.cluster.settings() {
            prop_assert!(lines.contains(&vec![key, value]));
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Cluster::from_bytes(&bytes).is_err());
    }

    #[test]
    fn any_text_is_answered(text in "[-a-c{}\\[\\]:,&*!|>'\"%@# \n\t0-9]{0,80}") {
        prop_assert!(Cluster::from_text(&text).is_err());
    }

    // The form is mended along the schema and then read by serde: the two must agree.
    #[test]
    fn near_documents_are_accepted_or_refused_with_paths(document in near_document()) {
        if let Err(problems) = Cluster::from_text(&document.to_string()) {
            prop_assert!(!problems.all().is_empty());
            let internal = problems.all().iter().any(|p| p.message.starts_with("cannot be read"));
            prop_assert!(!internal, "{problems}");
        }
    }

    #[test]
    fn any_rules_are_answered_and_stay_on_one_line(rules in "[ -~\n]{0,40}|[~&+@|()%RW* a-d-]{0,40}") {
        let document = json!({
            "apiVersion": "shardwright.dev/v1alpha1", "kind": "RedisCluster", "metadata": { "name": "a" },
            "spec": { "users": [{ "name": "w", "rules": rules }] },
        });
        if let Ok(accepted) = Cluster::from_text(&document.to_string()) {
            let all = passwords(&["default", "replication", "shardwright", "w"]);
            let acl = users_acl(&accepted.cluster, &all, Replication::Copies).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(acl.lines().count(), 4);
        }
    }
}
