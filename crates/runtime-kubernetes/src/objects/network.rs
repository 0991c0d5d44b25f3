//! Services, the network policy, and the disruption budget.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodTemplateSpec, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{ApiResource, DynamicObject};
use serde_json::json;

use super::{BuildError, Given, Maker, dynamic};
use crate::names;

/// Which version of the disruption budgets an API server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BudgetApi {
    /// `policy/v1`: Kubernetes 1.21 and later.
    #[default]
    V1,
    /// `policy/v1` that can let pods go that are not ready: Kubernetes 1.27 and later.
    V1Unhealthy,
    /// `policy/v1beta1`: Kubernetes before 1.25.
    V1Beta1,
}

impl BudgetApi {
    /// The first Kubernetes with disruption budgets in `policy/v1`.
    const POLICY_V1: (u32, u32) = (1, 21);
    /// The first Kubernetes that knows `unhealthyPodEvictionPolicy` unless it is told not to. In 1.26 it was alpha, and
    /// an API server refuses what it does not know.
    const UNHEALTHY: (u32, u32) = (1, 27);

    /// What an API server of this version (major, minor) knows.
    pub fn of_version(version: (u32, u32)) -> Self {
        if version < Self::POLICY_V1 {
            Self::V1Beta1
        } else if version < Self::UNHEALTHY {
            Self::V1
        } else {
            Self::V1Unhealthy
        }
    }
}

/// How many pods of a cluster whoever asks first, such as a drain, may stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Evictions {
    /// One at a time: each shard has a replica that can take over.
    #[default]
    OneAtATime,
    /// None: a shard would be away.
    Refused,
}

impl Evictions {
    fn max_unavailable(self) -> u8 {
        match self {
            Self::OneAtATime => 1,
            Self::Refused => 0,
        }
    }
}

/// How the API server calls disruption budgets.
pub fn budget_resource(api: BudgetApi) -> ApiResource {
    let version = match api {
        BudgetApi::V1 | BudgetApi::V1Unhealthy => "v1",
        BudgetApi::V1Beta1 => "v1beta1",
    };
    ApiResource {
        group: "policy".to_owned(),
        version: version.to_owned(),
        api_version: format!("policy/{version}"),
        kind: "PodDisruptionBudget".to_owned(),
        plural: "poddisruptionbudgets".to_owned(),
    }
}

/// What clients speak, as meshes and gateways call it.
const CLIENT_PROTOCOL: &str = "redis";
/// The nodes speak a protocol of their own among each other.
const BUS_PROTOCOL: &str = "tcp";

fn port(name: &str, number: u16, protocol: &str) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        app_protocol: Some(protocol.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

fn client_port() -> ServicePort {
    port(names::CLIENT_PORT_NAME, names::CLIENT_PORT, CLIENT_PROTOCOL)
}

/// Names in DNS for every pod from its start: the nodes find each other before any is ready.
pub(super) fn headless(make: &Maker<'_>) -> Service {
    Service {
        metadata: make.metadata(make.names.headless_service()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(make.names.selector()),
            ports: Some(vec![
                client_port(),
                port(names::BUS_PORT_NAME, names::BUS_PORT, BUS_PROTOCOL),
            ]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Where a client begins; the servers tell it the rest.
pub(super) fn clients(make: &Maker<'_>) -> Service {
    Service {
        metadata: make.metadata(&make.names.client_service()),
        spec: Some(ServiceSpec {
            selector: Some(make.names.selector()),
            ports: Some(vec![client_port()]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The ports that the containers beside the server declare: an exporter's, a mesh's.
fn sidecar_ports(pod: &PodTemplateSpec) -> Vec<NetworkPolicyPort> {
    let beside = pod.spec.iter().flat_map(|spec| {
        let init = spec.init_containers.iter().flatten();
        init.chain(&spec.containers)
    });
    let declared = beside
        .filter(|container| container.name != names::SERVER_CONTAINER)
        .flat_map(|container| container.ports.iter().flatten());
    declared
        .map(|port| NetworkPolicyPort {
            port: Some(IntOrString::Int(port.container_port)),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            end_port: None,
        })
        .collect()
}

/// Whoever carries the labels of an operator in its namespace: labels alone could be worn by anyone anywhere. A
/// Kubernetes that puts no name on its namespaces can't be told which one is meant.
fn operators(namespace: &str, api: BudgetApi) -> NetworkPolicyPeer {
    let names_namespaces = api != BudgetApi::V1Beta1;
    let name = (names::NAMESPACE_NAME_LABEL.to_owned(), namespace.to_owned());
    let namespaces = names_namespaces.then(|| BTreeMap::from([name]));
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: namespaces,
            match_expressions: None,
        }),
        pod_selector: Some(labelled(BTreeMap::from([
            (names::NAME_LABEL.to_owned(), names::OPERATOR_APP.to_owned()),
            (
                names::COMPONENT_LABEL.to_owned(),
                names::OPERATOR_COMPONENT.to_owned(),
            ),
        ]))),
        ip_block: None,
    }
}

fn labelled(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    }
}

/// Anyone may be a client, and is asked for a password; only members reach the bus, which asks for
/// none; only an operator reaches the gate, from its own namespace, and nobody where there is none; the ports of
/// sidecars are as open as they declare them.
pub(super) fn policy(make: &Maker<'_>, pod: &PodTemplateSpec, given: &Given<'_>) -> NetworkPolicy {
    let port = |number: u16| NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    };
    let members = NetworkPolicyPeer {
        pod_selector: Some(labelled(make.names.selector())),
        ..NetworkPolicyPeer::default()
    };
    let rule = |from: Option<Vec<NetworkPolicyPeer>>, ports: &[u16]| NetworkPolicyIngressRule {
        from,
        ports: Some(ports.iter().map(|number| port(*number)).collect()),
    };
    let mut ingress = vec![
        rule(None, &[names::CLIENT_PORT]),
        rule(Some(vec![members]), &[names::CLIENT_PORT, names::BUS_PORT]),
    ];
    if let Some(namespace) = given.operator_namespace {
        let operators = operators(namespace, given.budget);
        ingress.push(rule(Some(vec![operators]), &[names::GATE_PORT]));
    }
    let beside = sidecar_ports(pod);
    // A rule without ports is one about all.
    if !beside.is_empty() {
        ingress.push(NetworkPolicyIngressRule {
            from: None,
            ports: Some(beside),
        });
    }
    NetworkPolicy {
        metadata: make.metadata(make.names.network_policy()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labelled(make.names.selector())),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(ingress),
            egress: None,
        }),
    }
}

/// One budget for all pods: with two that match a pod, no eviction is possible at all. A pod that is not ready may go
/// whatever the budget says, where Kubernetes can be told so: it serves nobody, and would block a drain for ever.
pub(super) fn budget(
    make: &Maker<'_>,
    api: BudgetApi,
    evictions: Evictions,
) -> Result<DynamicObject, BuildError> {
    let resource = budget_resource(api);
    let name = make.names.disruption_budget();
    let mut object = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": make.metadata(name),
        "spec": {
            "maxUnavailable": evictions.max_unavailable(),
            "selector": { "matchLabels": make.names.selector() },
        },
    });
    if api == BudgetApi::V1Unhealthy {
        object["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
    }
    dynamic(&resource, Some(name), &object)
}
