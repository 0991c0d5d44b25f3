//! What a person would look at after a failure: objects, events, what each server says, logs.

use serde_json::Value;

use crate::kube_api::{name, text};
use crate::operator::pod_line;
use crate::servers::{CONTAINER, Cluster, View};
use crate::{Kind, World};

/// Events shown: the last ones.
const EVENTS: usize = 25;

/// All of it, as text.
pub(crate) async fn dump(world: &World) -> String {
    let mut lines = vec![format!("--- namespace {}", world.namespace)];
    objects(world, &mut lines).await;
    servers(world, &mut lines).await;
    if let Some(operator) = &world.operator {
        lines.push("--- the operator's log".to_owned());
        lines.push(operator.log().await);
    }
    lines.join("\n")
}

async fn list(world: &World, kind: Kind, lines: &mut Vec<String>) -> Vec<Value> {
    match world.kube.list(kind, &world.namespace, "").await {
        Ok(found) => found,
        Err(error) => {
            lines.push(error.with_causes());
            Vec::new()
        }
    }
}

async fn objects(world: &World, lines: &mut Vec<String>) {
    for object in list(world, Kind::CLUSTER, lines).await {
        let generation = object.pointer("/metadata/generation");
        let status = object.pointer("/status");
        lines.push(format!(
            "RedisCluster {}: generation {}, status {:#}",
            name(&object),
            generation.unwrap_or(&Value::Null),
            status.unwrap_or(&Value::Null)
        ));
    }
    for pod in list(world, Kind::POD, lines).await {
        let (host, ip) = (text(&pod, "/spec/nodeName"), text(&pod, "/status/podIP"));
        lines.push(format!("pod {} on {host} at {ip}", pod_line(&pod)));
    }
    let mut events = list(world, Kind::EVENT, lines).await;
    events.sort_by_key(|event| when(event).to_owned());
    for event in events.iter().rev().take(EVENTS).rev() {
        lines.push(format!(
            "event {} {}/{}: {}: {}",
            when(event),
            text(event, "/involvedObject/kind"),
            text(event, "/involvedObject/name"),
            text(event, "/reason"),
            text(event, "/message"),
        ));
    }
}

/// Events of the newer kind tell only the later of both.
fn when(event: &Value) -> &str {
    match text(event, "/lastTimestamp") {
        "" => text(event, "/eventTime"),
        last => last,
    }
}

async fn servers(world: &World, lines: &mut Vec<String>) {
    for object in list(world, Kind::CLUSTER, lines).await {
        let cluster = match Cluster::ours(&world.kube, &world.namespace, name(&object)).await {
            Ok(cluster) => cluster,
            Err(error) => {
                lines.push(error.with_causes());
                continue;
            }
        };
        for view in cluster.views().await.into_iter().flatten() {
            match view {
                Ok(view) => says(&view, lines),
                Err(error) => lines.push(error.with_causes()),
            }
        }
        for pod in cluster.pods().await.into_iter().flatten() {
            let log = world
                .kube
                .logs(&world.namespace, &pod.name, CONTAINER)
                .await;
            lines.push(format!("--- log of {}", pod.name));
            lines.push(log.unwrap_or_else(|error| error.with_causes()));
        }
    }
}

fn says(view: &View, lines: &mut Vec<String>) {
    let (pod, id) = (&view.pod.name, view.id.short());
    let (ok, keys) = (view.cluster.state_ok, view.keys);
    lines.push(format!("{pod} {id} ok={ok} keys={keys}"));
    for row in &view.rows {
        let ranges = row.slots.ranges().iter();
        let slots: Vec<_> = ranges
            .map(|r| format!("{}-{}", r.first().number(), r.last().number()))
            .collect();
        lines.push(format!(
            "    {} {} {} {:?} link {} {}",
            row.id.short(),
            row.address,
            row.role,
            row.health,
            row.link_up,
            slots.join(" ")
        ));
    }
}
