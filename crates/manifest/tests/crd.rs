//! The definition for Kubernetes: its form, and what its rules let through.

use std::collections::HashMap;
use std::sync::Arc;

use cel::extractors::This;
use cel::objects::{Key, Map};
use cel::{Context, Program};
use serde_json::{Value, json};
use shardwright_manifest::{CRD_NAME, Cel, Cluster, Quantity, crd};

const ARTICLE: &str = include_str!("../../../examples/article.yaml");
const MINIMAL: &str = include_str!("../../../examples/minimal.yaml");

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn root(cel: Cel) -> Value {
    crd(cel)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()
}

#[test]
fn the_definition() -> Outcome {
    let text = serde_json::to_string_pretty(&crd(Cel::With))?;
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("crd", text);
    });
    assert_eq!(crd(Cel::With)["metadata"]["name"], CRD_NAME);
    let without = crd(Cel::Without).to_string();
    assert!(text.contains("x-kubernetes-validations") && text.contains("fieldPath"));
    assert!(!without.contains("x-kubernetes-validations") && !without.contains("oldSelf"));
    let early = crd(Cel::WithoutQuantities).to_string();
    assert!(early.contains("oldSelf") && !early.contains("fieldPath"));
    Ok(())
}

#[test]
fn the_version_of_kubernetes_says_which_rules_it_takes() {
    for (version, cel) in [
        ((1, 20), Cel::Without),
        ((1, 24), Cel::Without),
        ((1, 25), Cel::WithoutQuantities),
        ((1, 28), Cel::WithoutQuantities),
        ((1, 29), Cel::With),
        ((1, 37), Cel::With),
        ((2, 0), Cel::With),
    ] {
        assert_eq!(Cel::of_version(version), cel, "{version:?}");
    }
}

/// The keywords that a structural schema may have.
const KEYWORDS: [&str; 22] = [
    "anyOf",
    "additionalProperties",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// The rules of a structural schema: a type at each place, and only keywords that are allowed.
#[test]
fn the_schema_is_structural() {
    fn walk(path: &str, schema: &Value, places: &mut usize) {
        *places += 1;
        let object = schema.as_object().expect("a schema is a mapping");
        for keyword in object.keys() {
            assert!(KEYWORDS.contains(&keyword.as_str()), "{path}: {keyword}");
        }
        let typed = object.get("type").is_some_and(Value::is_string)
            || object.contains_key("x-kubernetes-int-or-string")
            || object.contains_key("x-kubernetes-preserve-unknown-fields");
        assert!(typed, "{path} has no type");
        if let Some(kind) = object.get("type").and_then(Value::as_str) {
            assert_eq!(kind == "array", object.contains_key("items"), "{path}");
            // Without one, two managers of a list take it from each other as a whole.
            let list = object.contains_key("x-kubernetes-list-type");
            assert_eq!(kind == "array", list, "{path}");
        }
        let keys = object.get("x-kubernetes-list-map-keys");
        for key in keys.and_then(Value::as_array).into_iter().flatten() {
            let required = &object["items"]["required"];
            let required = required.as_array().is_some_and(|r| r.contains(key));
            assert!(
                required,
                "{path}: {key} tells items apart and may be left out"
            );
        }
        let bound = match object.get("type").and_then(Value::as_str) {
            Some("array") => "maxItems",
            Some("object") if object.contains_key("additionalProperties") => "maxProperties",
            Some("string") if object.get("enum").is_none() => "maxLength",
            Some(_) | None => "",
        };
        let ours = path.starts_with(".spec") || path.starts_with(".status");
        assert!(
            !ours || bound.is_empty() || object.contains_key(bound),
            "{path} has no {bound}"
        );
        let both = object.contains_key("properties") && object.contains_key("additionalProperties");
        assert!(!both, "{path} names its fields and allows others");
        if let Some(fields) = object.get("properties").and_then(Value::as_object) {
            for (name, inner) in fields {
                walk(&format!("{path}.{name}"), inner, places);
            }
        }
        for inner in ["items", "additionalProperties"] {
            if let Some(inner) = object.get(inner) {
                walk(&format!("{path}[]"), inner, places);
            }
        }
    }
    let mut places = 0;
    walk("", &root(Cel::With), &mut places);
    assert!(places > 80, "only {places} places were walked");
}

/// A value as an API server gives it to a rule: whole numbers are signed there.
fn in_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(switch) => cel::Value::Bool(*switch),
        Value::Number(number) => match number.as_i64() {
            Some(number) => cel::Value::Int(number),
            None => cel::Value::Float(number.as_f64().expect("a number")),
        },
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(in_cel).collect())),
        Value::Object(fields) => {
            let fields = fields.iter();
            let map: HashMap<Key, cel::Value> = fields
                .map(|(name, value)| (Key::from(name.clone()), in_cel(value)))
                .collect();
            cel::Value::Map(Map { map: Arc::new(map) })
        }
    }
}

/// The functions about amounts that an API server adds to the language; an amount is its number of thousandths here.
fn with_quantities() -> Context<'static, 'static> {
    let thousandths = |text: &str| Quantity::new(text).milli().ok().map(u64::cast_signed);
    let mut context = Context::default();
    let added = [
        context.add_function("isQuantity", move |text: Arc<String>| {
            thousandths(&text).is_some()
        }),
        context.add_function("quantity", move |text: Arc<String>| {
            thousandths(&text).expect("rules ask before whether it is one")
        }),
        context.add_function("compareTo", |This(this): This<i64>, that: i64| {
            (this - that).signum()
        }),
    ];
    assert!(added.iter().all(Result::is_ok));
    context
}

/// Every rule that `new` breaks, as an API server would find them, with its path.
fn broken(schema: &Value, path: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let text = rule["rule"].as_str().expect("a rule is text");
        let program = Program::compile(text).expect("a rule is CEL");
        let mut context = with_quantities();
        context.add_variable_from_value("self", in_cel(new));
        if text.contains("oldSelf") {
            // As there: a rule about a change is not asked where there was nothing before.
            let Some(old) = old else { continue };
            context.add_variable_from_value("oldSelf", in_cel(old));
        }
        match program.execute(&context) {
            Ok(cel::Value::Bool(true)) => {}
            Ok(cel::Value::Bool(false)) => {
                let message = rule["message"].as_str().expect("a rule has a message");
                found.push(format!("{path}: {message}"));
            }
            other => panic!("{text} gives {other:?}"),
        }
    }
    if let (Some(fields), Some(values)) = (schema["properties"].as_object(), new.as_object()) {
        for (name, inner) in fields {
            if let Some(value) = values.get(name) {
                let old = old.and_then(|old| old.get(name));
                found.extend(broken(inner, &format!("{path}.{name}"), value, old));
            }
        }
    }
    if let (Some(inner), Some(values)) = (schema.get("items"), new.as_array()) {
        for (index, value) in values.iter().enumerate() {
            found.extend(broken(inner, &format!("{path}[{index}]"), value, None));
        }
    }
    found
}

fn spec(text: &str) -> Result<Value, Box<dyn std::error::Error>> {
    let spec = serde_saphyr::from_str::<Value>(text)?;
    Ok(json!({ "metadata": { "name": "a" }, "spec": spec }))
}

#[test]
fn the_rules_let_the_examples_through() -> Outcome {
    let schema = root(Cel::With);
    for text in [ARTICLE, MINIMAL] {
        let document: Value = serde_saphyr::from_str(text)?;
        assert_eq!(broken(&schema, "", &document, None), Vec::<String>::new());
        assert_eq!(
            broken(&schema, "", &document, Some(&document)),
            Vec::<String>::new()
        );
    }
    Ok(())
}

/// A `spec`, and where a rule refuses it.
const MISTAKES: [(&str, &str); 21] = [
    ("users: [{name: app}]", ".spec.users[0]"),
    (
        "users: [{name: replication, rules: '+@all'}]",
        ".spec.users[0]",
    ),
    (
        "users: [{name: shardwright, passwordHashes: [ab]}]",
        ".spec.users[0]",
    ),
    (
        "storage: {size: 1Gi, recreateAfterSeconds: 60}",
        ".spec.storage",
    ),
    (
        "pod: {labels: {app.kubernetes.io/name: x}}",
        ".spec.pod.labels",
    ),
    ("version: '9.x'", ".spec.version"),
    (
        "users: [{name: a, rules: '~* +@all >secret'}]",
        ".spec.users[0].rules",
    ),
    (
        "users: [{name: a, rules: '+get (>secret +set)'}]",
        ".spec.users[0].rules",
    ),
    (
        "users: [{name: a, rules: \"+get\\nuser b on\"}]",
        ".spec.users[0].rules",
    ),
    ("storage: {size: 2000X}", ".spec.storage.size"),
    ("storage: {size: -5Gi}", ".spec.storage.size"),
    ("storage: {size: ''}", ".spec.storage.size"),
    ("storage: {size: 5}", ".spec.storage.size"),
    ("storage: {size: '5Ki'}", ".spec.storage.size"),
    (
        "resources: {limits: {cpu: 0}}",
        ".spec.resources.limits.cpu",
    ),
    (
        "resources: {limits: {cpu: '0.0'}}",
        ".spec.resources.limits.cpu",
    ),
    (
        "resources: {requests: {memory: 2gb}}",
        ".spec.resources.requests.memory",
    ),
    (
        "resources: {requests: {cpu: 1e}}",
        ".spec.resources.requests.cpu",
    ),
    (
        "resources: {limits: {memory: 63Mi}}",
        ".spec.resources.limits.memory",
    ),
    (
        "resources: {limits: {memory: 1Gi}, requests: {memory: 1025Mi}}",
        ".spec.resources",
    ),
    (
        "resources: {limits: {cpu: 1}, requests: {cpu: 1500m}}",
        ".spec.resources",
    ),
];

/// A `spec`, the one after it, and where a rule refuses the change.
const REFUSED_CHANGES: [(&str, &str, &str); 11] = [
    ("engine: valkey", "engine: redis", ".spec"),
    // Without an engine and an image it is Valkey, and so it is for a version that only Valkey has.
    ("{}", "engine: redis", ".spec"),
    ("{}", "version: '7.0'", ".spec"),
    ("version: '7'", "engine: redis", ".spec"),
    ("version: '8.0'", "{version: '7.1.3'}", ".spec"),
    ("engine: valkey", "version: '7.0'", ".spec"),
    (
        "storage: {size: 1Gi, storageClassName: a}",
        "storage: {size: 1Gi, storageClassName: b}",
        ".spec",
    ),
    ("storage: {size: 8Gi, storageClassName: a}", "{}", ".spec"),
    ("storage: {size: 6Gi}", "storage: {size: 5Gi}", ".spec"),
    ("storage: {size: 100Gi}", "{}", ".spec"),
    ("{}", "storage: {size: 7Gi}", ".spec"),
];

/// A `spec`, and one that it may become.
const CHANGES: [(&str, &str); 11] = [
    ("engine: redis", "engine: valkey"),
    ("version: '7.0'", "engine: redis"),
    ("version: '7.0'", "{}"),
    ("engine: valkey", "version: '7.2'"),
    ("{}", "{engine: valkey, version: '9.1'}"),
    // What is in an image is not known here.
    ("image: 'redis:7.4'", "engine: redis"),
    ("storage: {size: 1Gi}", "storage: {size: 2Gi}"),
    ("storage: {size: 1024Mi}", "storage: {size: 1Gi}"),
    ("storage: {size: 1Gi}", "{}"),
    // What was stored before there was a rule can be made right.
    ("storage: {size: lots}", "storage: {size: 1Gi}"),
    (
        "{}",
        "storage: {size: 8Gi, onUnreachable: RecreateAfter, recreateAfterSeconds: 60}",
    ),
];

#[test]
fn each_rule_refuses_what_it_is_for() -> Outcome {
    let schema = root(Cel::With);
    let mut seen = Vec::new();
    for (text, path) in MISTAKES {
        let found = broken(&schema, "", &spec(text)?, None);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(&format!("{path}: ")), "{found:?}");
        seen.extend(found);
        // What the API server refuses, the manifest refuses too: one truth on this machine and there.
        let document = format!(
            "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {{name: a}}\nspec: {{{text}}}\n"
        );
        assert!(Cluster::from_text(&document).is_err(), "{text}");
    }
    for (old, new, path) in REFUSED_CHANGES {
        let found = broken(&schema, "", &spec(new)?, Some(&spec(old)?));
        assert_eq!(found.len(), 1, "{old} to {new}: {found:?}");
        assert!(found[0].starts_with(&format!("{path}: ")), "{found:?}");
        seen.extend(found);
    }
    for (old, new) in CHANGES {
        let found = broken(&schema, "", &spec(new)?, Some(&spec(old)?));
        assert_eq!(found, Vec::<String>::new(), "{old} to {new}");
    }
    let nameless = json!({ "metadata": { "name": "7up" }, "spec": {} });
    let found = broken(&schema, "", &nameless, None);
    assert_eq!(found.len(), 1, "{found:?}");
    seen.extend(found);
    let mut unseen: Vec<String> = Vec::new();
    messages(&schema, &mut unseen);
    assert!(unseen.len() > 5, "there are rules");
    unseen.retain(|message| !seen.iter().any(|found| found.ends_with(message.as_str())));
    assert!(unseen.is_empty(), "no mistake was tried for: {unseen:#?}");
    Ok(())
}

/// The messages of all rules in a schema.
fn messages(schema: &Value, found: &mut Vec<String>) {
    let rules = schema["x-kubernetes-validations"].as_array();
    let texts = rules.into_iter().flatten().map(|r| r["message"].as_str());
    found.extend(texts.flatten().map(str::to_owned));
    match schema {
        Value::Object(object) => object.values().for_each(|inner| messages(inner, found)),
        Value::Array(items) => items.iter().for_each(|inner| messages(inner, found)),
        _ => {}
    }
}
