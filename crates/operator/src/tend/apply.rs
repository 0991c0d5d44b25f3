//! Brings the objects of a cluster to what its manifest says, and hands on to the keeper what it has to know of that.

use std::time::Duration;

use shardwright_manifest::Cluster;
use shardwright_runtime::{Keeper, Links, new_pen};
use shardwright_runtime_kubernetes::{ApplyError, ClusterObject, Pods};

use super::{Kept, LEFT_ALONE, One, unique};
use crate::error::PassError;
use crate::events;
use crate::status::PASSWORD_CHANGED;

impl One<'_> {
    /// Brings the objects to what is wanted; how long until that is to be done again.
    pub(super) async fn apply(
        &mut self,
        object: &ClusterObject,
        cluster: &Cluster,
    ) -> Result<Duration, PassError> {
        let applied = Box::pin(self.applier.apply(object, cluster)).await?;
        for _ in &applied.changed {
            self.shared.metrics.wrote("object");
        }
        self.tell(object, events::of_apply(&applied.changed));
        if self.apply_warnings != applied.warnings {
            let notes = applied
                .warnings
                .iter()
                .map(|w| events::of_error("NotPossible", w));
            self.tell(object, notes);
            self.apply_warnings.clone_from(&applied.warnings);
        }
        if self.passwords_not_applied != applied.passwords_not_applied {
            let texts = applied.passwords_not_applied.iter();
            self.tell(object, texts.map(|t| events::of_error(PASSWORD_CHANGED, t)));
            self.passwords_not_applied
                .clone_from(&applied.passwords_not_applied);
        }
        self.files.clone_from(&applied.files);
        self.unmet.clone_from(&applied.unmet);
        let again = applied.again_after.unwrap_or(LEFT_ALONE);
        let refused = applied.refused;
        match &mut self.keeper {
            Some(kept) => {
                if !kept.access.has_same_credentials(&applied.access) {
                    kept.keeper.set_access(applied.access.clone());
                    kept.keeper.runtime_mut().set_access(&applied.access);
                    kept.access = applied.access;
                }
                // Where a setting is refused, what runs is kept as it was wanted before.
                if refused.is_none() && kept.cluster != *cluster {
                    kept.keeper.runtime_mut().set_cluster(cluster.clone());
                    kept.keeper.set_desired(cluster.desired());
                    kept.keeper.set_limits(cluster.limits());
                    kept.cluster = cluster.clone();
                }
            }
            // Where nothing was wanted before that is known, all but the files is wanted.
            None => {
                let access = applied.access;
                let key = object.key.clone();
                let pods = Pods::new(self.world.clone(), key, cluster.clone(), &access);
                let links = Links::new(access.clone(), Some(new_pen(unique()?)));
                self.keeper = Some(Kept {
                    keeper: Keeper::new(pods, links, cluster.desired(), cluster.limits()),
                    cluster: cluster.clone(),
                    access,
                });
            }
        }
        match refused {
            Some(unknown) => Err(ApplyError::from(unknown).into()),
            None => Ok(again),
        }
    }
}
