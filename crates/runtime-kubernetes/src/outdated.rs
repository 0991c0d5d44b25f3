//! How a pod is made anew that does not start as it was made. Whether it may be is the planner's to say.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use shardwright_runtime::RuntimeError;
use shardwright_topology::ServerName;

use crate::facts::{Container, PodFact, newest_revision};
use crate::pods::Pods;
use crate::request::{RequestError, ask};
use crate::stranded::delete_pod;

impl Pods {
    /// Deletes a pod, so that it is made from the newest template, on its volume; refused unless it is still the one that
    /// was made from this revision, its container does not run, and another revision is the newest by now: the watches of
    /// pods and sets do not tell of one change at one time.
    pub(crate) async fn make_anew(
        &self,
        server: &ServerName,
        made_from: &str,
    ) -> Result<(), RuntimeError> {
        let name = &server.0;
        let failed =
            |e: RequestError| RuntimeError::because(format!("the pod {name} was not made anew"), e);
        let (client, namespace) = (self.world.client().clone(), self.names.namespace());
        let sets = Api::<StatefulSet>::namespaced(client.clone(), namespace);
        let set = self.names.stateful_set();
        let what = || format!("look at the StatefulSet {set}");
        let live = ask(what, sets.get(set)).await.map_err(failed)?;
        let newest = newest_revision(&live);
        let pods = self.world.pods(&self.key);
        let pod = pods.iter().find(|pod| pod.name == *name);
        let Some(pod) = pod.filter(|pod| is_outdated(pod, made_from, newest.as_deref())) else {
            return Err(RuntimeError::new(format!(
                "the pod {name} was not made anew: it runs, or is another by now, or would be made just so"
            )));
        };
        let pods = Api::<Pod>::namespaced(client, namespace);
        delete_pod(&pods, pod, DeleteParams::default())
            .await
            .map_err(failed)
    }
}

fn is_outdated(pod: &PodFact, made_from: &str, newest: Option<&str>) -> bool {
    let runs = matches!(pod.container, Container::Running { .. });
    let its = pod.revision.as_deref() == Some(made_from);
    its && !runs && !pod.ready && newest.is_some_and(|newest| newest != made_from)
}
