//! How the volume of a pod is given up that is tied to a Kubernetes node that is away. Whether it may be is the
//! planner's to say.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use shardwright_runtime::RuntimeError;
use shardwright_topology::{ServerName, Timestamp};

use crate::facts::{HostState, PodFact};
use crate::pods::Pods;
use crate::request::{RequestError, ask};

impl Pods {
    /// Notes which of the Kubernetes nodes that volumes are tied to are not there, or do not say since when they are
    /// not well.
    pub(crate) fn miss_hosts(&mut self, now: Timestamp) {
        let tied = self.volumes.values().filter_map(|v| v.host.clone());
        let untold = |host: &str| {
            let state = self.world.host(host).map(|host| host.state);
            state == Some(HostState::NotReady(HostState::NOT_TOLD))
        };
        let missing: Vec<String> = tied
            .filter(|h| self.world.lacks_host(h) || untold(h))
            .collect();
        self.missed.retain(|host, _| missing.contains(host));
        for host in missing {
            self.missed.entry(host).or_insert(now);
        }
    }

    /// Whether a Kubernetes node is away as far as is known.
    fn is_away(&self, host: &str) -> bool {
        match self.world.host(host).map(|host| host.state) {
            Some(HostState::Ready) => false,
            Some(HostState::NotReady(_)) => true,
            None => self.missed.contains_key(host),
        }
    }

    /// Deletes a pod and its claim, so that both are made anew elsewhere; refused unless the claim's volume is tied to
    /// this Kubernetes node, and that is away. The claim first: a pod that is made while the old claim stands would
    /// take it again.
    pub(crate) async fn give_up_volume(
        &self,
        server: &ServerName,
        host: &str,
    ) -> Result<(), RuntimeError> {
        let name = &server.0;
        let failed = |e: RequestError| {
            RuntimeError::because(format!("the volume of {name} was not given up"), e)
        };
        let claim_name = self.names.claim(name);
        let claims = self.world.claims(&self.key);
        let claim = claims.iter().find(|c| c.name == claim_name);
        let tied = claim
            .and_then(|claim| self.volumes.get(claim.volume.as_ref()?)?.host.as_deref())
            .is_some_and(|tied| tied == host);
        if !tied || !self.is_away(host) {
            return Err(RuntimeError::new(format!(
                "the volume of {name} was not given up: it is no longer on {host}, or that is back"
            )));
        }
        if let Some(claim) = claim.filter(|claim| !claim.leaving) {
            let api = Api::<PersistentVolumeClaim>::namespaced(
                self.world.client().clone(),
                self.names.namespace(),
            );
            let what = || format!("delete the PersistentVolumeClaim {claim_name}");
            let params = only(&claim.uid, DeleteParams::default());
            ask(what, api.delete(&claim_name, &params))
                .await
                .map_err(failed)?;
        }
        let pods = self.world.pods(&self.key);
        if let Some(pod) = pods.iter().find(|pod| pod.name == *name) {
            // Its kubelet can't confirm anything any more.
            let now = DeleteParams::default().grace_period(0);
            let api = Api::<Pod>::namespaced(self.world.client().clone(), self.names.namespace());
            delete_pod(&api, pod, now).await.map_err(failed)?;
        }
        Ok(())
    }
}

/// Deletes just this pod.
pub(crate) async fn delete_pod(
    api: &Api<Pod>,
    pod: &PodFact,
    params: DeleteParams,
) -> Result<(), RequestError> {
    let params = only(&pod.uid, params);
    let what = || format!("delete the Pod {}", pod.name);
    match ask(what, api.delete(&pod.name, &params)).await {
        // It is gone, or another has its name: either is what was asked for.
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        answer => answer.map(|_| ()),
    }
}

/// The same, for just the object with this uid.
pub(crate) fn only(uid: &str, params: DeleteParams) -> DeleteParams {
    params.preconditions(Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    })
}
