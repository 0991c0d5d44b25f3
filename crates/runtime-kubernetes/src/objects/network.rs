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

use super::{BuildError, Maker, dynamic};
use crate::names;

/// Which version of the disruption budgets an API server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BudgetApi {
    /// `policy/v1`: Kubernetes 1.21 and later.
    #[default]
    V1,
    /// `policy/v1beta1`: Kubernetes before 1.25.
    V1Beta1,
}

/// How the API server calls disruption budgets.
pub fn budget_resource(api: BudgetApi) -> ApiResource {
    let version = match api {
        BudgetApi::V1 => "v1",
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

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        target_port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
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
                port(names::CLIENT_PORT_NAME, names::CLIENT_PORT),
                port(names::BUS_PORT_NAME, names::BUS_PORT),
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
            ports: Some(vec![port(names::CLIENT_PORT_NAME, names::CLIENT_PORT)]),
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

/// Anyone may be a client, and is asked for a password; only members reach the bus, which asks for
/// none; only an operator reaches the gate; the ports of sidecars are as open as they declare them.
pub(super) fn policy(make: &Maker<'_>, pod: &PodTemplateSpec) -> NetworkPolicy {
    let port = |number: u16| NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(number))),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    };
    let labelled = |labels: BTreeMap<String, String>| LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    };
    let members = NetworkPolicyPeer {
        pod_selector: Some(labelled(make.names.selector())),
        ..NetworkPolicyPeer::default()
    };
    let operators = NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        pod_selector: Some(labelled(BTreeMap::from([
            (names::NAME_LABEL.to_owned(), names::OPERATOR_APP.to_owned()),
            (
                names::COMPONENT_LABEL.to_owned(),
                names::OPERATOR_COMPONENT.to_owned(),
            ),
        ]))),
        ip_block: None,
    };
    let rule = |from: Option<Vec<NetworkPolicyPeer>>, ports: &[u16]| NetworkPolicyIngressRule {
        from,
        ports: Some(ports.iter().map(|number| port(*number)).collect()),
    };
    let mut ingress = vec![
        rule(None, &[names::CLIENT_PORT]),
        rule(Some(vec![members]), &[names::CLIENT_PORT, names::BUS_PORT]),
        rule(Some(vec![operators]), &[names::GATE_PORT]),
    ];
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

/// One budget for all pods: with two that match a pod, no eviction is possible at all.
pub(super) fn budget(make: &Maker<'_>, api: BudgetApi) -> Result<DynamicObject, BuildError> {
    let resource = budget_resource(api);
    let name = make.names.disruption_budget();
    let object = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": make.metadata(name),
        "spec": {
            "maxUnavailable": 1,
            "selector": { "matchLabels": make.names.selector() },
        },
    });
    dynamic(&resource, Some(name), &object)
}
