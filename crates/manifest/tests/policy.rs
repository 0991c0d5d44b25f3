//! The admission policy about settings: it refuses what the checks refuse, and lets the rest through.

use std::sync::Arc;

use cel::{Context, Env, Program, extensions};
use serde_json::{Value, json};
use shardwright_manifest::{
    config_policy, default_settings, has_admission_policies, owned_setting,
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Which settings the policy refuses, as an API server would find them.
fn refused(object: &Value, old: &Value) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let [policy, _] = config_policy("shardwright-config");
    let mut env = Env::stdlib();
    extensions::strings(&mut env)?;
    let env = Arc::new(env);
    let mut variables = json!({});
    let given = policy["spec"]["variables"].as_array();
    for variable in given.ok_or("it has variables")? {
        let (name, expression) = (&variable["name"], &variable["expression"]);
        let program = Program::compile(expression.as_str().ok_or("it is text")?)?;
        let mut context = Context::with_env(Arc::clone(&env));
        context.add_variable("object", object)?;
        context.add_variable("oldObject", old)?;
        context.add_variable("variables", &variables)?;
        let value = program.execute(&context)?;
        let name = name.as_str().ok_or("it has a name")?;
        variables[name] = value.json().map_err(|e| e.to_string())?;
    }
    Ok(serde_json::from_value(variables["owned"].take())?)
}

fn with(config: &Value) -> Value {
    json!({ "spec": { "config": config } })
}

#[test]
fn settings_of_ours_are_refused_in_every_spelling() -> Outcome {
    for key in [
        "port",
        "appendonly",
        "Port",
        "tls-port",
        "cluster-announce-ip",
        "replica-announce-port",
        "replicaof",
        "primaryauth",
        "user",
    ] {
        assert!(owned_setting(key).is_some(), "{key}");
        let object = with(&json!({ key: 1, "hz": 20 }));
        assert_eq!(refused(&object, &Value::Null)?, [key]);
    }
    Ok(())
}

#[test]
fn other_settings_are_let_through() -> Outcome {
    let mut all =
        json!({ "hz": 20, "cluster-announced": "x", "appendonly-x": "y", "maxmemory": "1gb" });
    for setting in default_settings() {
        all[setting.key] = json!(setting.value);
    }
    assert_eq!(refused(&with(&all), &Value::Null)?, Vec::<String>::new());
    assert_eq!(
        refused(&json!({ "spec": {} }), &Value::Null)?,
        Vec::<String>::new()
    );
    Ok(())
}

#[test]
fn what_is_stored_stands_in_the_way_of_no_other_change() -> Outcome {
    let old = with(&json!({ "port": 7000 }));
    assert_eq!(refused(&old, &old)?, Vec::<String>::new());
    let more = with(&json!({ "port": 7000, "dir": "/x" }));
    assert_eq!(refused(&more, &old)?, ["dir"]);
    assert_eq!(refused(&more, &json!({ "spec": {} }))?.len(), 2);
    Ok(())
}

#[test]
fn the_binding_is_of_the_policy() {
    let [policy, binding] = config_policy("a-config");
    assert_eq!(policy["metadata"]["name"], "a-config");
    assert_eq!(binding["spec"]["policyName"], "a-config");
    assert!(!has_admission_policies((1, 29)) && has_admission_policies((1, 30)));
}
