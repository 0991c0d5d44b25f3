//! What is remembered of a cluster on Kubernetes: on its `StatefulSet`, and on the claims, which may outlive it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Map, Value, json};
use shardwright_topology::{Formed, NodeId};

use crate::facts::{ClaimFact, FormedNote, SetFact};
use crate::names;

/// The annotations of the `StatefulSet` that say this.
pub(crate) fn on_set(
    formed: Option<&Formed>,
    nodes: &BTreeMap<String, NodeId>,
) -> Map<String, Value> {
    let mut said = Map::new();
    if let Some(formed) = formed {
        let text = json!(FormedNote::from(formed));
        said.insert(
            names::FORMED_ANNOTATION.to_owned(),
            Value::String(text.to_string()),
        );
    }
    if !nodes.is_empty() {
        let by_pod: BTreeMap<&String, String> = nodes
            .iter()
            .map(|(pod, id)| (pod, id.to_string()))
            .collect();
        let text = json!(by_pod).to_string();
        said.insert(names::NODES_ANNOTATION.to_owned(), Value::String(text));
    }
    said
}

/// The annotations of a claim that say this, where it does not say so yet.
pub(crate) fn on_claim(
    claim: &ClaimFact,
    formed: Option<&Formed>,
    node: Option<NodeId>,
) -> Map<String, Value> {
    let mut said = Map::new();
    let mut say = |key: &str, text: String| said.insert(key.to_owned(), Value::String(text));
    if let Some(formed) = formed.filter(|formed| claim.formed.as_ref() != Some(*formed)) {
        say(
            names::CLAIM_CLUSTER_ID_ANNOTATION,
            formed.cluster_id.clone(),
        );
        say(names::CLAIM_FORMED_AT_ANNOTATION, formed.at.0.to_string());
    }
    if let Some(node) = node.filter(|node| claim.node != Some(*node)) {
        say(names::CLAIM_NODE_ID_ANNOTATION, node.to_string());
    }
    said
}

/// Writes annotations on just this `StatefulSet`: on another of the same name the API server refuses it.
pub(crate) async fn write_set(
    client: &Client,
    set: &SetFact,
    notes: &Map<String, Value>,
) -> Result<(), kube::Error> {
    let api = Api::<StatefulSet>::namespaced(client.clone(), &set.cluster.namespace);
    let patch = patch(&set.uid, notes);
    api.patch_metadata(&set.cluster.name, &params(), &patch)
        .await?;
    Ok(())
}

/// Writes annotations on just this claim.
pub(crate) async fn write_claim(
    client: &Client,
    claim: &ClaimFact,
    notes: &Map<String, Value>,
) -> Result<(), kube::Error> {
    let api = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &claim.cluster.namespace);
    let patch = patch(&claim.uid, notes);
    api.patch_metadata(&claim.name, &params(), &patch).await?;
    Ok(())
}

fn patch(uid: &str, notes: &Map<String, Value>) -> Patch<Value> {
    Patch::Merge(json!({"metadata": {"uid": uid, "annotations": notes}}))
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(names::RECORD_FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}
