//! Who may reach which ports of the pods.

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
