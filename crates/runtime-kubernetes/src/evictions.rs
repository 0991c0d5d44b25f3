//! The disruption budget of a cluster: how many pods a drain may stop at a time.
//!
//! It is applied apart from the other objects, for it follows the servers and not the manifest alone.

use shardwright_manifest::Cluster;

use crate::apply::{Applier, ApplyError, Run, owner};
use crate::object::ClusterObject;
use crate::objects::{Evictions, build_budget};

impl Applier {
    /// Brings the disruption budget to what is wanted. Returns what was written, such as
    /// `PodDisruptionBudget redis`; nothing is asked or written where it is known to be as it is wanted.
    ///
    /// # Errors
    /// [`ApplyError`] where the API server refuses it or does not answer, or where another object has its name.
    pub async fn limit_evictions(
        &mut self,
        object: &ClusterObject,
        cluster: &Cluster,
        evictions: Evictions,
    ) -> Result<Vec<String>, ApplyError> {
        let owner = owner(object);
        let budget = build_budget(cluster, &owner, self.world.budget_api(), evictions)?;
        let mut run = Run::new(&owner);
        self.apply_one(&budget, &mut run).await?;
        Ok(run.changed)
    }
}
