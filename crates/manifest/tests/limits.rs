//! One document, one answer: what the schema's limits refuse at an API server, the checks refuse here, and the other way
//! round.

use cel::{Context, Program};
use serde_json::{Value, json};
use shardwright_manifest::{Cluster, schema};

/// The schema at a path: `[]` behind a name is each item of a list, `*` each value of a map.
fn at(path: &str) -> Value {
    path.split('.')
        .fold(schema(), |schema, name| match name.strip_suffix("[]") {
            Some(list) => schema["properties"][list]["items"].clone(),
            None if name == "*" => schema["additionalProperties"].clone(),
            None => schema["properties"][name].clone(),
        })
}

/// Whether an API server takes this text, by the keywords that judge text.
fn fits(schema: &Value, text: &str) -> bool {
    let length = text.chars().count();
    let count = |keyword: &str| {
        let limit = schema[keyword].as_u64()?;
        usize::try_from(limit).ok()
    };
    let pattern = schema["pattern"].as_str().expect("it has a pattern");
    let mut context = Context::default();
    context.add_variable("text", text).expect("text");
    context.add_variable("pattern", pattern).expect("text");
    let program = Program::compile("text.matches(pattern)").expect("it is CEL");
    let matches = program.execute(&context).expect("the pattern is one");
    count("minLength").is_none_or(|min| length >= min)
        && count("maxLength").is_some_and(|max| length <= max)
        && matches == cel::Value::Bool(true)
}

/// The answer to a document with this `spec`.
fn accepted(spec: &Value) -> Result<(), String> {
    let document = json!({
        "apiVersion": "shardwright.dev/v1alpha1",
        "kind": "RedisCluster",
        "metadata": { "name": "a" },
        "spec": spec,
    });
    match Cluster::from_value(document) {
        Ok(_) => Ok(()),
        Err(problems) => Err(problems.to_string()),
    }
}

fn samples() -> Vec<String> {
    let mut samples: Vec<String> = [
        "", "a", "A", "0", "a-b", "-a", "a-", "a.b", "a..b", ".", "..", "..a", ".a", "a.", "a_b",
        "_a", "a b", " a", "a\n", "a/b", "a:b", "a@b", "a=b", "ä", "a-.b", "a.-b", "zz", "1.2.3",
    ]
    .map(str::to_owned)
    .to_vec();
    for length in [45, 46, 63, 64, 65, 253, 254, 500, 501] {
        samples.push("a".repeat(length));
        samples.push("a.".repeat(length / 2) + &"b".repeat(length % 2 + 1));
    }
    samples.push("0123456789abcdef".repeat(4));
    samples.push("0123456789ABCDEF".repeat(4));
    samples
}

#[test]
fn a_name_gets_one_answer() {
    type Spec = fn(&str) -> Value;
    let fields: [(&str, Spec); 15] = [
        (
            "spec.users[].name",
            |t| json!({ "users": [{ "name": t, "rules": "+get" }] }),
        ),
        (
            "spec.users[].passwordHashes[]",
            |t| json!({ "users": [{ "name": "a", "rules": "+get", "passwordHashes": [t] }] }),
        ),
        (
            "spec.users[].passwordSecret.name",
            |t| json!({ "users": [{ "name": "a", "rules": "+get", "passwordSecret": { "name": t } }] }),
        ),
        (
            "spec.users[].passwordSecret.key",
            |t| json!({ "users": [{ "name": "a", "rules": "+get", "passwordSecret": { "name": "s", "key": t } }] }),
        ),
        (
            "spec.storage.storageClassName",
            |t| json!({ "storage": { "size": "1Gi", "storageClassName": t } }),
        ),
        ("spec.image", |t| json!({ "image": t })),
        ("spec.nodeImage", |t| json!({ "nodeImage": t })),
        (
            "spec.imagePullSecrets[].name",
            |t| json!({ "imagePullSecrets": [{ "name": t }] }),
        ),
        (
            "spec.pod.labels.*",
            |t| json!({ "pod": { "labels": { "a": t } } }),
        ),
        (
            "spec.pod.nodeSelector.*",
            |t| json!({ "pod": { "nodeSelector": { "a": t } } }),
        ),
        (
            "spec.pod.priorityClassName",
            |t| json!({ "pod": { "priorityClassName": t } }),
        ),
        (
            "spec.pod.schedulerName",
            |t| json!({ "pod": { "schedulerName": t } }),
        ),
        (
            "spec.pod.serviceAccountName",
            |t| json!({ "pod": { "serviceAccountName": t } }),
        ),
        (
            "spec.local.hosts[].name",
            |t| json!({ "local": { "hosts": [{ "name": t }] } }),
        ),
        (
            "spec.local.hosts[].zone",
            |t| json!({ "local": { "hosts": [{ "name": "a", "zone": t }] } }),
        ),
    ];
    for (path, spec) in fields {
        let schema = at(path);
        let (mut taken, mut refused) = (0, 0);
        for text in samples() {
            let here = accepted(&spec(&text));
            let there = fits(&schema, &text);
            assert_eq!(here.is_ok(), there, "{path}: {text:?}: {here:?}");
            if there {
                taken += 1;
            } else {
                refused += 1;
            }
        }
        assert!(taken > 0 && refused > 5, "{path}: {taken} and {refused}");
    }
}

#[test]
fn an_address_that_is_taken_here_is_taken_there() {
    let schema = at("spec.local.bind[]");
    for text in ["127.0.0.1", "::1", "fe80::1:2", "::ffff:192.168.100.200"] {
        assert_eq!(accepted(&json!({ "local": { "bind": [text] } })), Ok(()));
        assert!(fits(&schema, text), "{text}");
    }
    assert!(!fits(&schema, "localhost") && !fits(&schema, ""));
}

#[test]
fn there_is_a_limit_to_how_much_there_may_be() {
    let user = |index: u32| json!({ "name": format!("u{index}"), "rules": "+get" });
    let users = |count: u32| json!({ "users": (0..count).map(user).collect::<Vec<_>>() });
    let hash = |index: u32| format!("{index:064x}");
    let hashes = |count: u32| {
        let hashes: Vec<String> = (0..count).map(hash).collect();
        json!({ "users": [{ "name": "a", "rules": "+get", "passwordHashes": hashes }] })
    };
    let keys = |length: usize| {
        let rules = format!("+get ~{}", "k".repeat(length.saturating_sub(6)));
        json!({ "users": [{ "name": "a", "rules": rules }] })
    };
    let settings = |count: u32| {
        let settings = (0..count).map(|index| (format!("x{index}"), json!(1)));
        json!({ "config": settings.collect::<serde_json::Map<String, Value>>() })
    };
    for (most, more, message) in [
        (
            users(1000),
            users(1001),
            "spec.users: has 1001 items: at most 1000 are allowed",
        ),
        (
            hashes(100),
            hashes(101),
            "spec.users[0].passwordHashes: has 101 items: at most 100 are allowed",
        ),
        (
            keys(4096),
            keys(4097),
            "spec.users[0].rules: has 4097 characters: at most 4096 are allowed",
        ),
        (
            settings(1000),
            settings(1001),
            "spec.config: has 1001 entries: at most 1000 are allowed",
        ),
    ] {
        assert_eq!(accepted(&most), Ok(()), "{message}");
        let refused = accepted(&more).expect_err(message);
        assert_eq!(refused, format!("the manifest is refused: {message}"));
    }
}

#[test]
fn a_quantity_is_a_whole_number_or_text_and_null_is_nothing() {
    let of = |cpu: Value| json!({ "resources": { "limits": { "cpu": cpu } } });
    for taken in [json!(1), json!("0.5"), json!("500m"), Value::Null] {
        assert_eq!(accepted(&of(taken.clone())), Ok(()), "{taken}");
    }
    let refused = accepted(&of(json!(0.5))).expect_err("no whole number");
    let message = "the manifest is refused: spec.resources.limits.cpu: must be a quantity such as 2Gi, not 0.5: put it in quotes";
    assert_eq!(refused, message);
    assert_eq!(accepted(&json!({ "config": { "hz": null } })), Ok(()));
}

#[test]
fn a_volume_of_a_few_bytes_was_meant_in_another_unit() {
    let of = |size: Value| accepted(&json!({ "storage": { "size": size } }));
    for (size, message) in [
        (json!(5), "is 5 bytes: did you mean 5Gi?"),
        (json!("5"), "is 5 bytes: did you mean 5Gi?"),
        (json!("5Ki"), "is 5Ki: a node needs 1Mi at least"),
    ] {
        let message = format!("the manifest is refused: spec.storage.size: {message}");
        assert_eq!(of(size), Err(message));
    }
    assert_eq!(of(json!("5Gi")), Ok(()));
}
