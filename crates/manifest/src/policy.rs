//! What an API server refuses beside the definition: the settings of `redis.conf` that Shardwright sets itself. Their values
//! have no one type, so no rule in the definition can read them; an admission policy can.

use serde_json::{Value, json};

use crate::config::owned_settings;
use crate::crd::{GROUP, PLURAL};
use crate::wire_words::OLD_AND_NEW_SPELLING;

/// Whether an API server of this version (major, minor) knows admission policies.
pub fn has_admission_policies(version: (u32, u32)) -> bool {
    version >= (1, 30)
}

/// The policy and its binding, both of this name, which is known in the whole Kubernetes cluster.
pub fn config_policy(name: &str) -> [Value; 2] {
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [{
                    "apiGroups": [GROUP],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": [PLURAL],
                }],
            },
            "variables": [
                {
                    "name": "config",
                    "expression": "has(object.spec.config) ? object.spec.config : {}",
                },
                {
                    // What was stored before there was a policy can be changed in other fields.
                    "name": "stored",
                    "expression": "oldObject != null && has(oldObject.spec.config) ? oldObject.spec.config : {}",
                },
                {
                    "name": "owned",
                    "expression": format!(
                        "variables.config.filter(key, !(key in variables.stored) && {})",
                        is_owned("key")
                    ),
                },
            ],
            "validations": [{
                "expression": "variables.owned.size() == 0",
                "message": "spec.config holds settings that Shardwright sets itself: take them out",
                "messageExpression": "'spec.config: Shardwright sets these itself, or has a field for them; take them out: ' + variables.owned.join(', ')",
                "reason": "Invalid",
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": { "policyName": name, "validationActions": ["Deny"] },
    });
    [policy, binding]
}

/// An expression that says whether a setting is one of ours, in whatever spelling.
fn is_owned(key: &str) -> String {
    let keys = owned_settings().iter().map(|owned| owned.key);
    let patterns: Vec<String> = keys.map(|key| key.replace('*', ".*")).collect();
    let (old, new) = OLD_AND_NEW_SPELLING;
    format!(
        "{key}.lowerAscii().replace('{old}', '{new}').matches('^({})$')",
        patterns.join("|")
    )
}
