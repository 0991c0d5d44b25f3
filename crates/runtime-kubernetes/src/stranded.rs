//! Pods that their volumes tie to a Kubernetes node that is away, and how a volume is given up. Whether it may be is
//! for [`may_recreate`](crate::volumes::may_recreate) to say.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use shardwright_runtime::RuntimeError;
use shardwright_topology::{ServerName, Timestamp};

use crate::facts::{HostState, PodFact};
use crate::pods::Pods;
use crate::request::{RequestError, ask};
use crate::volumes::Stranded;

impl Pods {
    /// The pods whose volume can be used on one Kubernetes node only, and that is away.
    pub fn stranded(&self) -> Vec<Stranded> {
        let claims = self.world.claims(&self.key);
        let tied = claims.iter().filter_map(|claim| {
            let host = self.volumes.get(claim.volume.as_ref()?)?.host.clone()?;
            let pod = (0..self.cluster.nodes())
                .map(|n| self.names.pod(n))
                .find(|pod| self.names.claim(pod) == claim.name)?;
            let away_since = self.away_since(&host)?;
            Some(Stranded {
                server: ServerName(pod),
                host,
                away_since: Some(away_since),
            })
        });
        tied.collect()
    }

    /// Since when a Kubernetes node is away; of one that was removed, since when we have missed it.
    fn away_since(&self, host: &str) -> Option<Timestamp> {
        match self.world.host(host).map(|host| host.state) {
            Some(HostState::Ready) => None,
            Some(HostState::NotReady(since)) => Some(since),
            None => self.missed.get(host).copied(),
        }
    }

    /// Notes which of the Kubernetes nodes that volumes are tied to are not there.
    pub(crate) fn miss_hosts(&mut self, now: Timestamp) {
        let tied = self.volumes.values().filter_map(|v| v.host.clone());
        let missing: Vec<String> = tied.filter(|h| self.world.lacks_host(h)).collect();
        self.missed.retain(|host, _| missing.contains(host));
        for host in missing {
            self.missed.entry(host).or_insert(now);
        }
    }

    /// Deletes a stranded pod and its claim, so that both are made anew elsewhere. The claim first: a pod that is made
    /// while the old claim stands would take it again.
    pub async fn give_up_volume(&self, stranded: &Stranded) -> Result<(), RuntimeError> {
        let name = &stranded.server.0;
        let failed = |e: RequestError| {
            RuntimeError::because(format!("the volume of {name} was not given up"), e)
        };
        let claim_name = self.names.claim(name);
        let claims = self.world.claims(&self.key);
        if let Some(claim) = claims.iter().find(|c| c.name == claim_name && !c.leaving) {
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

fn only(uid: &str, params: DeleteParams) -> DeleteParams {
    params.preconditions(Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    })
}
