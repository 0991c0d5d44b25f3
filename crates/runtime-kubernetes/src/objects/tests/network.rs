//! Who may reach which ports of the pods.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::*;

#[test]
fn the_ports_of_sidecars_are_opened() -> Outcome {
    let ports = |lines: &str| {
        let rules = built(&with(lines)).network.spec.and_then(|s| s.ingress);
        serde_json::to_value(rules.expect("rules"))
    };
    let none = ports("")?;
    assert_eq!(none.as_array().map(Vec::len), Some(3), "{none}");
    let lines = "pod: {sidecars: [\
        {name: exporter, image: x, ports: [{name: metrics, containerPort: 9121}]}, \
        {name: mesh, image: x, ports: [{containerPort: 15021}, {containerPort: 53, protocol: UDP}]}, \
        {name: quiet, image: x}]}";
    let rules = ports(lines)?;
    let opened = json!({"ports": [
        {"port": 9121, "protocol": "TCP"},
        {"port": 15021, "protocol": "TCP"},
        {"port": 53, "protocol": "UDP"},
    ]});
    assert_eq!(rules[3], opened, "{rules}");
    assert_eq!(rules.as_array().map(Vec::len), Some(4), "{rules}");
    Ok(())
}

#[test]
fn only_the_operator_in_its_own_namespace_reaches_the_gates() -> Outcome {
    let gate_from = |operator_namespace: Option<&str>, budget: BudgetApi| {
        let cluster = with("");
        let given = Given {
            owner: None,
            made: &known(passwords_to_make(&cluster)),
            read: &BTreeMap::new(),
            budget,
            operator_namespace,
            pods_min: 0,
        };
        let rules = build(&cluster, &given)?
            .network
            .spec
            .and_then(|s| s.ingress);
        let gate = rules.into_iter().flatten().find(|rule| {
            let mut ports = rule.ports.iter().flatten();
            ports.any(|port| port.port == Some(IntOrString::Int(6378)))
        });
        let from = gate.map(|rule| serde_json::to_value(rule.from)).transpose();
        Ok::<_, Box<dyn std::error::Error>>(from?)
    };
    let labels =
        json!({"app.kubernetes.io/name": "shardwright", "app.kubernetes.io/component": "operator"});
    let own = json!([{
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": OPERATORS}},
        "podSelector": {"matchLabels": labels},
    }]);
    assert_eq!(gate_from(Some(OPERATORS), BudgetApi::V1)?, Some(own));
    // Its namespaces have no such label.
    let any = json!([{"namespaceSelector": {}, "podSelector": {"matchLabels": labels}}]);
    assert_eq!(gate_from(Some(OPERATORS), BudgetApi::V1Beta1)?, Some(any));
    assert_eq!(gate_from(None, BudgetApi::V1)?, None, "nobody asks a gate");
    Ok(())
}

#[test]
fn meshes_are_told_what_is_spoken() -> Outcome {
    let objects = built(&with(""));
    for (service, protocols) in [
        (&objects.headless, json!(["redis", "tcp"])),
        (&objects.clients, json!(["redis"])),
    ] {
        let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
        let told: Vec<_> = ports.map(|port| port.app_protocol.as_deref()).collect();
        assert_eq!(serde_json::to_value(told)?, protocols);
    }
    Ok(())
}
