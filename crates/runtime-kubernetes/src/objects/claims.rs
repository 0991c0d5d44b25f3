//! The claims of the nodes' volumes. The claim template of a `StatefulSet` cannot be changed: where
//! a volume is to grow, the claims are patched, and the set is deleted without its pods and made
//! again.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use shardwright_manifest::{Cluster, Quantity, STORAGE_BYTES_DEFAULT};

use super::quantity;
use crate::names::{self, Names};

/// The claim template.
pub(super) fn template(cluster: &Cluster, names: &Names) -> PersistentVolumeClaim {
    let bytes = cluster.storage_bytes().unwrap_or(STORAGE_BYTES_DEFAULT);
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::DATA_VOLUME.to_owned()),
            // Only what never changes: a label of the manifest would be there for ever.
            labels: Some(names.labels()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: cluster.kubernetes().storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    quantity::bytes(bytes),
                )])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// What the claim template asks for, beside what the live one does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimChange {
    /// The same.
    None,
    /// More: patch the claims to this size, then delete the `StatefulSet` without its pods
    /// (`Orphan`) and make it again.
    Grow {
        /// The size before, in bytes.
        from_bytes: u64,
        /// The size wanted, in bytes.
        to_bytes: u64,
    },
    /// Less: no volume can shrink. The live size stays, see [`keep_live_claims`].
    Shrink {
        /// The size that stays, in bytes.
        from_bytes: u64,
        /// The size asked for, in bytes.
        to_bytes: u64,
    },
    /// Another storage class: no volume can change its own. The live one stays.
    Class {
        /// The class that stays, if one is named.
        from: Option<String>,
        /// The class asked for, if one is.
        to: Option<String>,
    },
    /// A live template that is not understood: left as it is.
    Unknown,
}

/// How the claim template of `wanted` differs from that of `live`.
pub fn claim_change(live: &StatefulSet, wanted: &StatefulSet) -> ClaimChange {
    let (Some(from), Some(to)) = (claim(live), claim(wanted)) else {
        return ClaimChange::Unknown;
    };
    let class = |claim: &PersistentVolumeClaim| claim.spec.as_ref()?.storage_class_name.clone();
    if class(from) != class(to) {
        return ClaimChange::Class {
            from: class(from),
            to: class(to),
        };
    }
    match (size_bytes(from), size_bytes(to)) {
        (Some(from_bytes), Some(to_bytes)) if from_bytes < to_bytes => ClaimChange::Grow {
            from_bytes,
            to_bytes,
        },
        (Some(from_bytes), Some(to_bytes)) if from_bytes > to_bytes => ClaimChange::Shrink {
            from_bytes,
            to_bytes,
        },
        (Some(_), Some(_)) => ClaimChange::None,
        (None, _) | (_, None) => ClaimChange::Unknown,
    }
}

/// Puts the claim template of `live` in place of that of `wanted`, so that the rest can be applied.
pub fn keep_live_claims(live: &StatefulSet, wanted: &mut StatefulSet) {
    let mut claims = live.spec.volume_claim_templates.clone();
    for claim in claims.iter_mut().flatten() {
        // What the API server added is not ours to apply.
        claim.status = None;
    }
    wanted.spec.volume_claim_templates = claims;
}

fn claim(set: &StatefulSet) -> Option<&PersistentVolumeClaim> {
    let claims = set.spec.volume_claim_templates.as_ref()?;
    claims
        .iter()
        .find(|claim| claim.metadata.name.as_deref() == Some(names::DATA_VOLUME))
}

fn size_bytes(claim: &PersistentVolumeClaim) -> Option<u64> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Quantity::new(requests.get("storage")?.0.clone())
        .bytes()
        .ok()
}
