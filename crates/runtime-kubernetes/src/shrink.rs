//! How the last pod of a `StatefulSet` is taken away for good, with its volume. Whether it may be is the planner's to say.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use shardwright_runtime::RuntimeError;
use shardwright_topology::{NodeId, ServerName};

use crate::names;
use crate::pods::Pods;
use crate::record;
use crate::request::{RequestError, ask};
use crate::stranded::only;

/// What is to be done to a `StatefulSet` so that this pod goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Shrink {
    /// This patch, which is refused where the set has changed meanwhile.
    Patch(Value),
    /// Nothing: it is smaller already.
    Done,
    /// It can't be: more pods are wanted of it than this one and those below.
    NotTheLast {
        /// How many.
        replicas: i32,
    },
}

/// How a set loses the pod of this ordinal, its last, together with what is recorded of it; `nodes` is what is recorded
/// of the others. In one write: what was recorded of a pod that is gone must not be believed of its successor.
pub(crate) fn shrink(live: &StatefulSet, ordinal: u32, nodes: &BTreeMap<String, NodeId>) -> Shrink {
    let ordinal = i32::try_from(ordinal).unwrap_or(i32::MAX);
    let replicas = live.spec.replicas.unwrap_or(1);
    if replicas <= ordinal {
        return Shrink::Done;
    }
    if replicas != ordinal.saturating_add(1) {
        return Shrink::NotTheLast { replicas };
    }
    Shrink::Patch(json!({
        "metadata": {
            "uid": live.metadata.uid,
            "resourceVersion": live.metadata.resource_version,
            "annotations": record::on_set(None, nodes),
        },
        "spec": {"replicas": ordinal},
    }))
}

impl Pods {
    /// Takes the last pod away, and then its claim: the API server keeps that as long as the pod is there. A later pod
    /// of its name begins with an empty volume.
    pub(crate) async fn take_away(&mut self, server: &ServerName) -> Result<(), RuntimeError> {
        let pod = &server.0;
        let refused =
            |why: String| RuntimeError::new(format!("the pod {pod} was not taken away: {why}"));
        let failed =
            |e: RequestError| RuntimeError::because(format!("the pod {pod} was not taken away"), e);
        let Some(ordinal) = self.names.ordinal(pod) else {
            return Err(refused("it is none of the StatefulSet's".to_owned()));
        };
        if ordinal < self.cluster.nodes() {
            return Err(refused("the manifest wants it".to_owned()));
        }
        let set = self.set_to_write()?;
        let client = self.world.client().clone();
        let api = Api::<StatefulSet>::namespaced(client.clone(), self.names.namespace());
        let name = self.names.stateful_set().to_owned();
        let what = || format!("look at the StatefulSet {name}");
        let live = ask(what, api.get(&name)).await.map_err(failed)?;
        if live.metadata.uid.as_deref() != Some(&set.uid) {
            return Err(refused("the StatefulSet was made anew".to_owned()));
        }
        // What is read of the set may be older than the last such write: those behind it are gone, or going.
        let mut nodes = set.nodes;
        nodes.retain(|name, _| self.names.ordinal(name).is_some_and(|n| n < ordinal));
        match shrink(&live, ordinal, &nodes) {
            Shrink::Done => {}
            Shrink::NotTheLast { replicas } => {
                return Err(refused(format!("{replicas} pods are wanted just now")));
            }
            Shrink::Patch(patch) => {
                let params = PatchParams {
                    field_manager: Some(names::FIELD_MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                let what = || format!("take a pod from the StatefulSet {name}");
                let patch = Patch::Merge(patch);
                let request = api.patch(&name, &params, &patch);
                ask(what, request).await.map_err(failed)?;
            }
        }
        self.forget_record(&set.uid, pod);
        let claim_name = self.names.claim(pod);
        let claims = self.world.claims(&self.key);
        let claim = claims.iter().find(|c| c.name == claim_name && !c.leaving);
        if let Some(claim) = claim {
            let api = Api::<PersistentVolumeClaim>::namespaced(client, self.names.namespace());
            let what = || format!("delete the PersistentVolumeClaim {claim_name}");
            let params = only(&claim.uid, DeleteParams::default());
            match ask(what, api.delete(&claim_name, &params)).await {
                // It is gone, or another has its name.
                Err(error) if matches!(error.code(), Some(404 | 409)) => {}
                answer => {
                    answer.map_err(failed)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i32) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "redis", "uid": "u", "resourceVersion": "7"},
            "spec": {
                "replicas": replicas, "serviceName": "redis",
                "selector": {}, "template": {},
            },
        }))
        .expect("a StatefulSet")
    }

    #[test]
    fn only_the_last_pod_goes_and_only_from_the_set_that_was_seen() {
        let id = NodeId::from_bytes([7; 20]);
        let nodes = BTreeMap::from([("redis-0".to_owned(), id)]);
        let Shrink::Patch(patch) = shrink(&set(8), 7, &nodes) else {
            panic!("it is the last");
        };
        assert_eq!(patch["spec"], json!({"replicas": 7}));
        assert_eq!(patch["metadata"]["uid"], "u");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        let noted = &patch["metadata"]["annotations"][names::NODES_ANNOTATION];
        assert_eq!(
            noted.as_str(),
            Some(&*json!({"redis-0": id.to_string()}).to_string())
        );
        assert_eq!(
            shrink(&set(8), 6, &nodes),
            Shrink::NotTheLast { replicas: 8 }
        );
        assert_eq!(shrink(&set(7), 7, &nodes), Shrink::Done);
        assert_eq!(shrink(&set(6), 7, &nodes), Shrink::Done);
    }
}
