//! What the kubelet and the scheduler say of pods that do not serve, for the status.

use std::sync::Arc;

use shardwright_manifest::Unreachable;
use shardwright_runtime_kubernetes::volumes::{NoRecreate, Stranded, may_recreate};
use shardwright_runtime_kubernetes::{Container, PodFact};
use shardwright_topology::Observed;

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

/// What is to become of a pod that its volume ties to a Kubernetes node that is away.
pub(crate) enum Fate {
    /// Its volume is given up, and it is made anew elsewhere.
    Anew(Stranded),
    /// It waits; why.
    Waits(PodNote),
}

/// The fate of each such pod, by what the manifest says and what was seen. Only one is made anew at a time: what is
/// seen next may keep the others.
pub(crate) fn fates(stranded: Vec<Stranded>, policy: Unreachable, o: &Observed) -> Vec<Fate> {
    let mut one = false;
    let fate = |s: Stranded| {
        let text = match policy {
            Unreachable::Wait => "storage.onUnreachable is Wait".to_owned(),
            Unreachable::RecreateAfter { seconds } => {
                match may_recreate(&s, u64::from(seconds) * 1_000, o, o.at) {
                    Ok(()) if !one => {
                        one = true;
                        return Fate::Anew(s);
                    }
                    Ok(()) => "another is made anew first".to_owned(),
                    // Without the time that is left: each second would be a write.
                    Err(NoRecreate::NotYet { .. }) => {
                        format!("it may return within {seconds} s after it left")
                    }
                    Err(why) => why.to_string(),
                }
            }
        };
        Fate::Waits(PodNote {
            text: format!(
                "its volume is on the Kubernetes node {}, which is away; it waits: {text}",
                s.host
            ),
            pod: s.server.0,
            unplaced: false,
        })
    };
    stranded.into_iter().map(fate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardwright_topology::{ServerName, Timestamp};

    fn stranded(name: &str) -> Stranded {
        Stranded {
            server: ServerName(name.to_owned()),
            host: "node-2".to_owned(),
            away_since: Some(Timestamp(1)),
        }
    }

    #[test]
    fn a_pod_waits_unless_the_manifest_and_what_is_seen_say_otherwise() {
        let nothing_seen = Observed::new(Timestamp(900_000), None, []);
        let told = |policy| {
            let fates = fates(vec![stranded("redis-1")], policy, &nothing_seen);
            match fates.first() {
                Some(Fate::Waits(note)) => note.text.clone(),
                Some(Fate::Anew(_)) | None => "anew".to_owned(),
            }
        };
        assert!(told(Unreachable::Wait).contains("onUnreachable is Wait"));
        let soon = Unreachable::RecreateAfter { seconds: 3_600 };
        assert!(told(soon).contains("may return within 3600 s"));
        // The time is up, but nothing is known of its data.
        let now = Unreachable::RecreateAfter { seconds: 60 };
        assert!(told(now).contains("it is not known whose data"));
    }
}
