//! The `StatefulSet` and its claims. The template of the claims can't be changed: where volumes grow, the claims are
//! patched, and the set is deleted without its pods and made anew. What it recorded, the claims say too.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, VolumeResourceRequirements};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};
use serde_json::{Value, json};
use shardwright_manifest::Cluster;

use crate::apply::{Applier, ApplyError, Run, hash_of};
use crate::facts::ClaimFact;
use crate::names;
use crate::objects::{Built, ClaimChange, Objects, claim_change, keep_live_claims};
use crate::request::{RequestError, ask};
use crate::seats;
use crate::stranded::delete_pod;

/// What the API server answers where a claim may not grow: by an admission plug-in, or by its own validation.
const FORBIDDEN: u16 = 403;
const INVALID: u16 = 422;

impl Applier {
    /// Names the claims with data of this cluster that have no pods.
    pub(crate) fn warn_of_claims(&self, cluster: &Cluster, run: &mut Run<'_>) {
        let claims = self.world.claims(&self.key);
        let misnamed = seats::misnamed_claims(&self.names, &claims);
        run.warnings.extend(misnamed);
        let pods = self.world.pods(&self.key);
        if let Some(set) = self.world.set(&self.key).filter(|set| !set.leaving) {
            let idle = seats::idle_claims(&self.names, &claims, &pods, &set, cluster.nodes());
            run.warnings.extend(idle);
        }
    }

    /// How many pods a `StatefulSet` has to begin with that is made anew: all that have data on their volumes, or are
    /// there. Only those that are empty are given up.
    pub(crate) fn first_pods(&self) -> u32 {
        let pods = self.world.pods(&self.key);
        let stay = pods.iter().filter(|pod| pod.leaving_since.is_none());
        let ordinals = stay.filter_map(|pod| self.names.ordinal(&pod.name));
        let there = ordinals.max().map_or(0, |last| last.saturating_add(1));
        seats::pods_with_data(&self.names, &self.world.claims(&self.key)).max(there)
    }

    pub(crate) async fn apply_set(
        &mut self,
        objects: &Objects,
        built: Built,
        run: &mut Run<'_>,
    ) -> Result<(), ApplyError> {
        let wanted = hash_of(&built)?;
        if !self.needs_write(&built, wanted).await? {
            return Ok(());
        }
        let name = self.names.stateful_set().to_owned();
        let api =
            Api::<StatefulSet>::namespaced(self.world.client().clone(), self.names.namespace());
        let look = ask(
            || format!("look at the StatefulSet {name}"),
            api.get_opt(&name),
        );
        let Some(live) = look.await? else {
            let mut set = objects.stateful_set.clone();
            let first = i32::try_from(self.first_pods()).unwrap_or(i32::MAX);
            set.spec.replicas = set.spec.replicas.max(Some(first));
            return self.write(&Built::of(&set)?, wanted, run).await;
        };
        if live.metadata.deletion_timestamp.is_some() {
            run.pending
                .push(format!("the StatefulSet {name} is being removed"));
            return Ok(());
        }
        self.refuse_others(&built, run).await?;
        let mut set = objects.stateful_set.clone();
        let kept_engine = self.keep_engine(&live, &mut set).await?;
        let keeps = keep_pods(&live, &mut set) || kept_engine.is_some();
        let change = if kept_engine.is_some() {
            // Volumes grow once the image is decided: the set is made anew for them.
            keep_live_claims(&live, &mut set);
            ClaimChange::None
        } else {
            claim_change(&live, &set)
        };
        if let Some(why) = kept_engine {
            run.warn_of("image", why);
        }
        match &change {
            ClaimChange::None => {}
            ClaimChange::Grow {
                from_bytes,
                to_bytes,
            } => {
                let Some(why) = self.grow_claims(&set, *to_bytes, run).await? else {
                    return self.remove_set(&built, &live, run).await;
                };
                // All else that changed is applied all the same.
                keep_live_claims(&live, &mut set);
                let why = format!(
                    "not every volume grows from {from_bytes} to {to_bytes} bytes: {why}; let the storage class expand volumes, or raise the quota"
                );
                run.warn_of("storage", why);
            }
            ClaimChange::Shrink { .. } | ClaimChange::Class { .. } | ClaimChange::Unknown => {
                keep_live_claims(&live, &mut set);
                if let Some(why) = warning(&change) {
                    run.warn_of("storage", why);
                }
            }
        }
        if !keeps && change == ClaimChange::None {
            return self.write(&built, wanted, run).await;
        }
        let kept = Built::of(&set)?;
        // What could not grow is tried again, and told again, whenever the objects are looked at.
        let mark = if matches!(change, ClaimChange::Grow { .. }) {
            hash_of(&kept)?
        } else {
            wanted
        };
        self.write(&kept, mark, run).await
    }

    /// Removes the set and leaves its pods; the next apply makes it anew. Not before a claim says that the cluster was
    /// formed, if it was: else that would be forgotten.
    async fn remove_set(
        &self,
        built: &Built,
        live: &StatefulSet,
        run: &mut Run<'_>,
    ) -> Result<(), ApplyError> {
        let formed = self
            .world
            .set(&self.key)
            .is_none_or(|set| set.formed.is_some());
        let mut claims = self.world.claims(&self.key).into_iter();
        if formed && !claims.any(|claim| claim.formed.is_some()) {
            run.pending
                .push("volumes grow once their claims record whose data they hold".to_owned());
            return Ok(());
        }
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Orphan),
            ..DeleteParams::default()
        };
        let name = self.names.stateful_set();
        self.delete(&built.resource, name, &live.metadata, params)
            .await?;
        run.changed.push(format!("StatefulSet {name}"));
        run.pending.push(format!(
            "the StatefulSet {name} is made anew, for larger volumes; its pods run on"
        ));
        Ok(())
    }

    /// Claims grow with the manifest, and are removed with the object or outlive it, as the manifest says.
    pub(crate) async fn tend_claims(
        &self,
        cluster: &Cluster,
        run: &mut Run<'_>,
    ) -> Result<(), ApplyError> {
        let retain = cluster.kubernetes().retain_volumes;
        for claim in self.world.claims(&self.key) {
            let owned = claim.owners.contains(&run.owner.uid);
            if claim.leaving || owned != retain {
                continue;
            }
            let owners: &[_] = if retain { &[] } else { &[run.owner] };
            let mut owners = json!(owners);
            for owner in owners.as_array_mut().into_iter().flatten() {
                // The set's pods control the claim's use; the object only takes it along.
                owner["controller"] = Value::Bool(false);
                owner["blockOwnerDeletion"] = Value::Bool(false);
            }
            self.patch_claim(
                &claim,
                &Patch::Apply(json!({
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": claim.name, "ownerReferences": owners},
                })),
                run,
            )
            .await?;
        }
        self.free_pods(run).await
    }

    /// Asks for larger volumes. Why the API server does not allow that, where it does not: the storage class may say so.
    async fn grow_claims(
        &self,
        wanted: &StatefulSet,
        to_bytes: u64,
        run: &mut Run<'_>,
    ) -> Result<Option<String>, ApplyError> {
        let Some(resources) = resources(wanted) else {
            return Ok(None);
        };
        for claim in self.world.claims(&self.key) {
            let smaller = claim.requested_bytes.is_some_and(|bytes| bytes < to_bytes);
            if smaller && !claim.leaving {
                let patch = Patch::Merge(json!({
                    "metadata": {"uid": claim.uid},
                    "spec": {"resources": {"requests": resources.requests}},
                }));
                match self.patch_claim(&claim, &patch, run).await {
                    Err(ApplyError::Request(RequestError::Refused {
                        code: FORBIDDEN | INVALID,
                        said,
                        ..
                    })) => return Ok(Some(said)),
                    other => other?,
                }
            }
        }
        Ok(None)
    }

    /// A pod whose claim was given up is made before the claim is gone, and then waits for it for ever: it was never
    /// placed, and is made anew together with its claim.
    async fn free_pods(&self, run: &mut Run<'_>) -> Result<(), ApplyError> {
        let claims = self.world.claims(&self.key);
        let client = self.world.client().clone();
        let api = Api::<PersistentVolumeClaim>::namespaced(client.clone(), self.names.namespace());
        for pod in self.world.pods(&self.key) {
            let name = self.names.claim(&pod.name);
            let waits = pod.host.is_none() && pod.unschedulable.is_some();
            if !waits || pod.leaving_since.is_some() || claims.iter().any(|c| c.name == name) {
                continue;
            }
            let what = || format!("look at the PersistentVolumeClaim {name}");
            if ask(what, api.get_metadata_opt(&name)).await?.is_none() {
                let pods = Api::<Pod>::namespaced(client.clone(), self.names.namespace());
                delete_pod(&pods, &pod, DeleteParams::default()).await?;
                run.changed.push(format!("Pod {}", pod.name));
            }
        }
        Ok(())
    }

    async fn patch_claim(
        &self,
        claim: &ClaimFact,
        patch: &Patch<Value>,
        run: &mut Run<'_>,
    ) -> Result<(), ApplyError> {
        let api = Api::<PersistentVolumeClaim>::namespaced(
            self.world.client().clone(),
            self.names.namespace(),
        );
        let params = PatchParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            force: matches!(patch, Patch::Apply(_)),
            ..PatchParams::default()
        };
        let what = || format!("change the PersistentVolumeClaim {}", claim.name);
        ask(what, api.patch(&claim.name, &params, patch)).await?;
        run.changed
            .push(format!("PersistentVolumeClaim {}", claim.name));
        Ok(())
    }
}

/// Pods that there are stay: whether one may go is the planner's to say. Tells whether there are more than wanted.
fn keep_pods(live: &StatefulSet, wanted: &mut StatefulSet) -> bool {
    let count = |set: &StatefulSet| set.spec.replicas;
    let (Some(live), Some(want)) = (count(live), count(wanted)) else {
        return false;
    };
    if live <= want {
        return false;
    }
    wanted.spec.replicas = Some(live);
    true
}

/// What the claim template asks for.
fn resources(set: &StatefulSet) -> Option<&VolumeResourceRequirements> {
    let claims = set.spec.volume_claim_templates.as_ref()?;
    let data = |c: &&PersistentVolumeClaim| c.metadata.name.as_deref() == Some(names::DATA_VOLUME);
    claims.iter().find(data)?.spec.as_ref()?.resources.as_ref()
}

fn warning(change: &ClaimChange) -> Option<String> {
    let named = |class: &Option<String>| class.clone().unwrap_or_else(|| "the default".to_owned());
    match change {
        ClaimChange::None | ClaimChange::Grow { .. } => None,
        ClaimChange::Shrink {
            from_bytes,
            to_bytes,
        } => Some(format!(
            "volumes stay at {from_bytes} bytes, though {to_bytes} are wanted: no volume can shrink"
        )),
        ClaimChange::Class { from, to } => Some(format!(
            "volumes stay in the storage class {}, though {} is wanted: no volume can change it",
            named(from),
            named(to)
        )),
        ClaimChange::Unknown => {
            Some("the claim template of the StatefulSet is not understood; it stays".to_owned())
        }
    }
}
