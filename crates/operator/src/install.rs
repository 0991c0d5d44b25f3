//! Everything the operator needs, as objects to be applied. Pure: options in, objects out.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shardwright_manifest::config_policy;
use shardwright_runtime_kubernetes::names;

/// The name of the operator's own objects.
pub const NAME: &str = "shardwright";
/// The namespace it is installed to, unless another is asked for.
pub const NAMESPACE: &str = "shardwright-system";
/// The name of the lease that its leader holds.
pub const LEASE: &str = "shardwright-leader";
/// The port of the admin server in the pod.
pub const ADMIN_PORT: u16 = 8080;
/// The user of the image: one that is nobody's.
const USER: u32 = 65_532;
/// How many pods of it there are: one holds the lease, and the other takes over within seconds. A single one is made anew
/// only after its Kubernetes node was given up, and until then nobody looks at the clusters.
const REPLICAS: u32 = 2;
/// How long a pod of it stays on a Kubernetes node that does not report, in seconds. Kubernetes waits for 300 unless it is
/// told otherwise; the lease is another's after 15, so this only decides when there are two again.
const LEAVES_AFTER_S: u32 = 30;

/// What to install, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The namespace of the operator itself.
    pub namespace: String,
    /// The image of the operator.
    pub image: String,
    /// The namespaces whose clusters it keeps; all if there are none.
    pub watched: Vec<String>,
    /// Whether the API server knows admission policies.
    pub admission_policies: bool,
    /// The priority class of its pod; none unless given: many platforms admit the system's own in `kube-system` alone.
    pub priority_class: Option<String>,
}

/// One rule of access: these verbs on these resources of this group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The API group; empty is the core.
    pub group: &'static str,
    /// The resources, with their subresource.
    pub resources: &'static [&'static str],
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// Why.
    why: &'static str,
}

const READ: &[&str] = &["get", "list", "watch"];

/// What it may do in the namespaces of clusters.
pub const CLUSTERS: &[Rule] = &[
    Rule {
        group: "shardwright.dev",
        resources: &["redisclusters"],
        verbs: READ,
        why: "what is wanted",
    },
    Rule {
        group: "shardwright.dev",
        resources: &["redisclusters"],
        verbs: &["patch"],
        why: "what was asked for once, by an annotation, is taken off when it was answered",
    },
    Rule {
        group: "shardwright.dev",
        resources: &["redisclusters/status"],
        verbs: &["patch"],
        why: "what a person sees",
    },
    Rule {
        group: "shardwright.dev",
        resources: &["redisclusters/finalizers"],
        verbs: &["update"],
        why: "owner references that block, where admission asks for it (OwnerReferencesPermissionEnforcement)",
    },
    Rule {
        group: "apps",
        resources: &["statefulsets"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "the pods, of which the last is taken away where fewer are wanted; deleted without its pods and made again when claims were expanded",
    },
    Rule {
        group: "",
        resources: &["services"],
        verbs: &["get", "list", "watch", "create", "patch"],
        why: "names to connect to",
    },
    Rule {
        group: "",
        resources: &["configmaps"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "configuration; the one with the users goes when a Secret takes its place",
    },
    Rule {
        group: "",
        resources: &["secrets"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        why: "passwords, by name; watched by their metadata, so that a change is noticed at once; the one with the users goes when a ConfigMap takes its place",
    },
    Rule {
        group: "policy",
        resources: &["poddisruptionbudgets"],
        verbs: &["get", "list", "watch", "create", "patch"],
        why: "drains take one pod at a time",
    },
    Rule {
        group: "networking.k8s.io",
        resources: &["networkpolicies"],
        verbs: &["get", "list", "watch", "create", "patch"],
        why: "who may connect",
    },
    Rule {
        group: "",
        resources: &["pods"],
        verbs: &["get", "list", "watch", "delete"],
        why: "where servers are; one whose volume is given up, or that does not start as it was made, is made anew",
    },
    Rule {
        group: "",
        resources: &["persistentvolumeclaims"],
        verbs: &["get", "list", "watch", "patch", "delete"],
        why: "what they hold is recorded on them; they are expanded, owned or let go, and given up where the manifest says so or fewer pods are wanted",
    },
    Rule {
        group: "",
        resources: &["events"],
        verbs: &["list"],
        why: "why a pod was refused, which a StatefulSet's controller says in an event alone",
    },
    Rule {
        group: "events.k8s.io",
        resources: &["events"],
        verbs: &["create", "patch"],
        why: "what was done",
    },
];

/// What it may do in the whole cluster, wherever its clusters are: see where pods run.
pub const PLACES: &[Rule] = &[
    Rule {
        group: "",
        resources: &["nodes"],
        verbs: &["list", "watch"],
        why: "hosts and zones, and which are away",
    },
    Rule {
        group: "",
        resources: &["persistentvolumes"],
        verbs: &["get"],
        why: "volumes that tie a pod to a host",
    },
];

/// What it may do in its own namespace.
pub const OWN: &[Rule] = &[Rule {
    group: "coordination.k8s.io",
    resources: &["leases"],
    verbs: &["get", "create", "update"],
    why: "of several operators one acts",
}];

/// What whoever may look at a namespace may do with the clusters there.
pub const VIEW: &[Rule] = &[Rule {
    group: "shardwright.dev",
    resources: &["redisclusters", "redisclusters/status"],
    verbs: READ,
    why: "what is wanted, and how it is",
}];

/// What whoever may change a namespace may do beside that. The status is the operator's alone.
pub const EDIT: &[Rule] = &[
    Rule {
        group: "shardwright.dev",
        resources: &["redisclusters"],
        verbs: &["create", "update", "patch", "delete", "deletecollection"],
        why: "clusters are declared, changed and removed",
    },
    Rule {
        group: "shardwright.dev",
        resources: &["redisclusters/scale"],
        verbs: &["get", "update", "patch"],
        why: "kubectl scale",
    },
];

/// Whether these rules allow a call.
pub fn allows(rules: &[Rule], group: &str, resource: &str, verb: &str) -> bool {
    rules.iter().any(|rule| {
        rule.group == group && rule.resources.contains(&resource) && rule.verbs.contains(&verb)
    })
}

/// All objects in the order in which they are to be applied. `crd` is the definition of `RedisCluster`.
pub fn objects(options: &Options, crd: Value) -> Vec<Value> {
    let mut all = vec![namespace(options), crd, service_account(options)];
    all.extend(access(options));
    all.extend(access_for_people(options));
    all.extend(policies(options));
    all.push(deployment(options));
    all.push(metrics_service(options));
    all
}

/// The pods' too: the network policy of a cluster lets who carries these to the gates.
fn labels() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        (names::NAME_LABEL, names::OPERATOR_APP),
        (names::COMPONENT_LABEL, names::OPERATOR_COMPONENT),
    ])
}

fn namespace(options: &Options) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": options.namespace, "labels": labels() },
    })
}

fn service_account(options: &Options) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": NAME, "namespace": options.namespace, "labels": labels() },
    })
}

fn access(options: &Options) -> Vec<Value> {
    let mut all = Vec::new();
    let mut grant = |kind: &str, name: &str, namespace: Option<&str>, rules: &[Rule]| {
        all.push(role(kind, name, namespace, rules));
        all.push(binding(kind, name, namespace, options));
    };
    // What belongs to no namespace is named after ours: an operator in another one has its own.
    let own = &options.namespace;
    grant("ClusterRole", &format!("{own}-places"), None, PLACES);
    if options.watched.is_empty() {
        grant("ClusterRole", &format!("{own}-clusters"), None, CLUSTERS);
    }
    for watched in &options.watched {
        grant("Role", NAME, Some(watched), CLUSTERS);
    }
    grant("Role", "shardwright-leader", Some(&options.namespace), OWN);
    all
}

/// Roles that Kubernetes adds to its own `view`, `edit` and `admin`, by these labels.
fn access_for_people(options: &Options) -> [Value; 2] {
    let own = &options.namespace;
    let add_to = |name: &str, rules: &[Rule], roles: &[&str]| {
        let mut role = role("ClusterRole", &format!("{own}-{name}"), None, rules);
        for to in roles {
            let label = format!("rbac.authorization.k8s.io/aggregate-to-{to}");
            role["metadata"]["labels"][label] = json!("true");
        }
        role
    };
    [
        add_to("view", VIEW, &["view", "edit", "admin"]),
        add_to("edit", EDIT, &["edit", "admin"]),
    ]
}

/// What is refused of documents, where the API server can be told so.
fn policies(options: &Options) -> Vec<Value> {
    if !options.admission_policies {
        return Vec::new();
    }
    let mut policies = config_policy(&format!("{}-config", options.namespace));
    for policy in &mut policies {
        policy["metadata"]["labels"] = json!(labels());
    }
    policies.into()
}

fn role(kind: &str, name: &str, namespace: Option<&str>, rules: &[Rule]) -> Value {
    let rule = |rule: &Rule| {
        let Rule {
            group,
            resources,
            verbs,
            why: _,
        } = rule;
        json!({ "apiGroups": [group], "resources": resources, "verbs": verbs })
    };
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata(name, namespace),
        "rules": rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn binding(kind: &str, name: &str, namespace: Option<&str>, options: &Options) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": format!("{kind}Binding"),
        "metadata": metadata(name, namespace),
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": NAME, "namespace": options.namespace }],
    })
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({ "name": name, "labels": labels() });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

fn deployment(options: &Options) -> Value {
    let mut deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(NAME, Some(&options.namespace)),
        "spec": {
            "replicas": REPLICAS,
            "selector": { "matchLabels": labels() },
            "template": {
                "metadata": { "labels": labels() },
                "spec": {
                    "serviceAccountName": NAME,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": USER,
                        "runAsGroup": USER,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    // Passes under way end within seconds, and then the lease is given back.
                    "terminationGracePeriodSeconds": 20,
                    "tolerations": tolerations(),
                    "affinity": affinity(),
                    "containers": [container(options)],
                },
            },
        },
    });
    if let Some(class) = &options.priority_class {
        deployment["spec"]["template"]["spec"]["priorityClassName"] = json!(class);
    }
    deployment
}

/// A pod leaves a Kubernetes node that does not report sooner than Kubernetes would have it.
fn tolerations() -> Value {
    let leaves = |taint: &str| {
        json!({
            "key": format!("node.kubernetes.io/{taint}"),
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": LEAVES_AFTER_S,
        })
    };
    json!([leaves("not-ready"), leaves("unreachable")])
}

/// Not two on one Kubernetes node, nor in one zone, where there is another choice. A wish: on a single Kubernetes node both
/// have to run.
fn affinity() -> Value {
    let apart = |weight: u32, key: &str| {
        json!({
            "weight": weight,
            "podAffinityTerm": {
                "topologyKey": key,
                "labelSelector": { "matchLabels": labels() },
            },
        })
    };
    json!({
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                apart(100, names::HOST_LABEL),
                apart(50, names::ZONE_LABEL),
            ],
        },
    })
}

fn container(options: &Options) -> Value {
    let mut args = vec![
        "operator".to_owned(),
        format!("--admin-addr=0.0.0.0:{ADMIN_PORT}"),
    ];
    let watched = options.watched.iter();
    args.extend(watched.map(|watched| format!("--namespace={watched}")));
    // With what an API server would add: it would count as another manager's in a later server-side apply.
    let field = |path: &str| json!({ "fieldRef": { "apiVersion": "v1", "fieldPath": path } });
    let probe = |path: &str| json!({ "httpGet": { "path": path, "port": "admin" } });
    json!({
        "name": "operator",
        "image": options.image,
        "args": args,
        "env": [
            { "name": "POD_NAME", "valueFrom": field("metadata.name") },
            { "name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace") },
        ],
        "ports": [{ "name": "admin", "containerPort": ADMIN_PORT }],
        "livenessProbe": probe("/livez"),
        "readinessProbe": probe("/readyz"),
        "resources": {
            "requests": { "cpu": "50m", "memory": "32Mi" },
            // No limit of processor time: to be throttled while a primary is dead costs writes.
            "limits": { "memory": "128Mi" },
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
    })
}

fn metrics_service(options: &Options) -> Value {
    let mut metadata = metadata("shardwright-metrics", Some(&options.namespace));
    metadata["annotations"] = json!({
        "prometheus.io/scrape": "true",
        "prometheus.io/port": ADMIN_PORT.to_string(),
    });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "selector": labels(),
            "ports": [{ "name": "admin", "port": ADMIN_PORT, "targetPort": "admin" }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(watched: &[&str]) -> Options {
        Options {
            namespace: NAMESPACE.to_owned(),
            image: "ghcr.io/shardwright/shardwright:1.2.3".to_owned(),
            watched: watched.iter().map(|w| (*w).to_owned()).collect(),
            admission_policies: true,
            priority_class: None,
        }
    }

    fn shown(options: &Options) -> String {
        let crd = json!({ "kind": "CustomResourceDefinition", "it": "is shown elsewhere" });
        let objects = objects(options, crd);
        let texts = objects.iter().map(serde_json::to_string_pretty);
        let texts: Result<Vec<String>, _> = texts.collect();
        texts.expect("plain data").join("\n---\n")
    }

    #[test]
    fn the_whole_installation() {
        insta::assert_snapshot!(shown(&options(&[])));
    }

    #[test]
    fn a_kubernetes_node_that_is_cut_off_takes_no_cluster_out_of_sight() {
        let deployment = deployment(&options(&[]));
        assert_eq!(deployment["spec"]["replicas"], 2);
        let pod = &deployment["spec"]["template"]["spec"];
        for (n, taint) in ["not-ready", "unreachable"].iter().enumerate() {
            let toleration = &pod["tolerations"][n];
            assert_eq!(toleration["key"], format!("node.kubernetes.io/{taint}"));
            assert_eq!(toleration["tolerationSeconds"], 30);
        }
        let terms =
            &pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(
            terms[0]["podAffinityTerm"]["topologyKey"],
            "kubernetes.io/hostname"
        );
        assert_eq!(
            terms[0]["podAffinityTerm"]["labelSelector"]["matchLabels"],
            deployment["spec"]["selector"]["matchLabels"]
        );
    }

    #[test]
    fn for_two_namespaces_only() {
        let text = shown(&options(&["cache", "shop"]));
        let all = objects(&options(&["cache", "shop"]), json!({}));
        let wide: Vec<&str> = all
            .iter()
            .filter(|o| o["kind"] == "ClusterRole")
            .filter_map(|o| o["metadata"]["name"].as_str())
            .collect();
        let named = |name: &str| format!("shardwright-system-{name}");
        assert_eq!(wide, ["places", "view", "edit"].map(named));
        assert!(text.contains("--namespace=cache") && text.contains("--namespace=shop"));
    }

    #[test]
    fn a_priority_class_is_given_on_demand() {
        let class = |options: &Options| {
            let deployment = deployment(options);
            deployment["spec"]["template"]["spec"]["priorityClassName"].clone()
        };
        assert_eq!(class(&options(&[])), Value::Null);
        let high = Options {
            priority_class: Some("high".to_owned()),
            ..options(&[])
        };
        assert_eq!(class(&high), json!("high"));
    }

    #[test]
    fn nothing_is_granted_by_the_dozen() {
        for rule in [CLUSTERS, PLACES, OWN, VIEW, EDIT].concat() {
            assert!(!rule.why.is_empty());
            for word in rule.resources.iter().chain(rule.verbs) {
                assert!(!word.contains('*'), "{rule:?}");
            }
            for never in ["pods/exec", "pods/portforward", "pods/attach"] {
                assert!(!rule.resources.contains(&never));
            }
        }
        assert!(!allows(CLUSTERS, "", "secrets", "update"));
    }

    #[test]
    fn people_may_use_clusters_where_they_may_use_the_namespace() {
        let all = objects(&options(&[]), json!({}));
        let added_to = |to: &str| {
            let label = format!("rbac.authorization.k8s.io/aggregate-to-{to}");
            let added = all
                .iter()
                .filter(|o| o["metadata"]["labels"][&label] == "true");
            let names: Vec<&str> = added
                .filter_map(|o| o["metadata"]["name"].as_str())
                .collect();
            names.join(" ")
        };
        let (view, edit) = ("shardwright-system-view", "shardwright-system-edit");
        assert_eq!(added_to("view"), view);
        assert_eq!(added_to("edit"), format!("{view} {edit}"));
        assert_eq!(added_to("admin"), format!("{view} {edit}"));
        for verb in ["create", "update", "patch", "delete"] {
            assert!(allows(EDIT, "shardwright.dev", "redisclusters", verb));
            assert!(!allows(VIEW, "shardwright.dev", "redisclusters", verb));
            assert!(!allows(
                EDIT,
                "shardwright.dev",
                "redisclusters/status",
                verb
            ));
        }
    }

    #[test]
    fn a_policy_is_only_where_it_is_known() {
        let mut options = options(&[]);
        let policies = |options: &Options| {
            let all = objects(options, json!({}));
            let kinds = all.iter().filter_map(|o| o["kind"].as_str());
            kinds
                .filter(|kind| kind.starts_with("ValidatingAdmission"))
                .count()
        };
        assert_eq!(policies(&options), 2);
        options.admission_policies = false;
        assert_eq!(policies(&options), 0);
    }

    /// Every kind of call that the code makes, and no other is granted.
    #[test]
    fn every_call_is_allowed_and_nothing_more() {
        const APPLY: &[&str] = &["get", "list", "watch", "create", "patch"];
        let in_clusters: &[(&str, &str, &[&str])] = &[
            // World: watches. Told: the status. Built objects: owner references that block.
            ("shardwright.dev", "redisclusters", READ),
            // Answered requests.
            ("shardwright.dev", "redisclusters", &["patch"]),
            ("shardwright.dev", "redisclusters/status", &["patch"]),
            ("shardwright.dev", "redisclusters/finalizers", &["update"]),
            // Applier: looks, applies; makes the set anew for larger volumes. Pods: records; one pod fewer.
            ("apps", "statefulsets", APPLY),
            ("apps", "statefulsets", &["delete"]),
            ("", "services", APPLY),
            ("policy", "poddisruptionbudgets", APPLY),
            ("networking.k8s.io", "networkpolicies", APPLY),
            ("", "configmaps", APPLY),
            ("", "configmaps", &["delete"]),
            ("", "secrets", APPLY),
            ("", "secrets", &["delete"]),
            // World: watches. Applier: owners and sizes. Pods: records; volumes that are given up.
            ("", "pods", READ),
            ("", "pods", &["delete"]),
            ("", "persistentvolumeclaims", READ),
            ("", "persistentvolumeclaims", &["patch", "delete"]),
            // Refused pods.
            ("", "events", &["list"]),
            ("events.k8s.io", "events", &["create", "patch"]),
        ];
        let places: &[(&str, &str, &[&str])] = &[
            ("", "nodes", &["list", "watch"]),
            ("", "persistentvolumes", &["get"]),
        ];
        let own: &[(&str, &str, &[&str])] = &[(
            "coordination.k8s.io",
            "leases",
            &["get", "create", "update"],
        )];
        for (rules, calls) in [(CLUSTERS, in_clusters), (PLACES, places), (OWN, own)] {
            let mut made = 0;
            for (group, resource, verbs) in calls {
                made += verbs.len();
                for verb in *verbs {
                    assert!(allows(rules, group, resource, verb), "{verb} {resource}");
                }
            }
            let granted: usize = rules
                .iter()
                .map(|r| r.resources.len() * r.verbs.len())
                .sum();
            assert_eq!(granted, made, "more is granted than is used");
        }
    }
}
