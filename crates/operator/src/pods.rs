//! What the kubelet and the scheduler say of pods that do not serve, for the status.

use std::sync::Arc;

use shardwright_runtime_kubernetes::{Container, PodFact};

use crate::status::PodNote;

/// The pods of which there is something to say, by name.
pub(crate) fn notes(pods: &[Arc<PodFact>]) -> Vec<PodNote> {
    let mut notes: Vec<PodNote> = pods.iter().filter_map(|pod| note(pod)).collect();
    notes.sort_by(|a, b| a.pod.cmp(&b.pod));
    notes
}

fn note(pod: &PodFact) -> Option<PodNote> {
    let (unplaced, text) = match (&pod.unschedulable, &pod.container) {
        (Some(why), _) => (true, why.clone()),
        (None, Container::NotYet(Some(why)) | Container::Ended { why, .. }) => (false, why.clone()),
        (None, Container::NotYet(None) | Container::Running { .. }) => return None,
    };
    Some(PodNote {
        pod: pod.name.clone(),
        unplaced,
        text,
    })
}
