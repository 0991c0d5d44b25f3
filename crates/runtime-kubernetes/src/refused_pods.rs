//! Why pods are not there that their `StatefulSet` should make: the API server refused them (a quota, an admission plugin,
//! `PodSecurity`), and the set's controller says so in an event alone.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::facts::{ObjectKey, SetFact};

/// The API server's last word against each pod that it refused, by the pod's name. Kubernetes keeps events for an hour:
/// a pod that is there by now may be among them.
///
/// # Errors
/// When the API server refuses to list events, or does not answer.
pub async fn refused_pods(
    client: &Client,
    key: &ObjectKey,
    set: &SetFact,
) -> Result<BTreeMap<String, String>, kube::Error> {
    let events: Api<Event> = Api::namespaced(client.clone(), &key.namespace);
    let fields = format!(
        "involvedObject.kind=StatefulSet,involvedObject.name={},reason=FailedCreate",
        key.name
    );
    let listed = events.list(&ListParams::default().fields(&fields)).await?;
    Ok(last_words(listed.items, &set.uid))
}

/// The newest text about each pod, of the events of the set with this uid: one of the same name may have been there before.
fn last_words(mut events: Vec<Event>, uid: &str) -> BTreeMap<String, String> {
    events.retain(|event| event.involved_object.uid.as_deref() == Some(uid));
    events.sort_by_key(|event| event.last_timestamp.clone());
    let texts = events.iter().filter_map(|event| event.message.as_deref());
    texts.filter_map(about_pod).collect()
}

/// The pod and the API server's word in `create Pod redis-3 in StatefulSet redis failed error: …`, or `create Claim
/// data-redis-3 Pod redis-3 in StatefulSet redis failed error: …`.
fn about_pod(message: &str) -> Option<(String, String)> {
    let (what, why) = message.split_once(" failed error: ")?;
    let (_, of) = what.split_once("Pod ")?;
    let (pod, _) = of.split_once(' ')?;
    Some((pod.to_owned(), why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(uid: &str, at: &str, message: &str) -> Event {
        let event = serde_json::json!({
            "metadata": {"name": "e", "namespace": "cache"},
            "involvedObject": {"kind": "StatefulSet", "name": "redis", "uid": uid},
            "reason": "FailedCreate", "lastTimestamp": at, "message": message,
        });
        serde_json::from_value(event).expect("an event")
    }

    #[test]
    fn the_last_word_about_each_pod_of_this_set_counts() {
        let quota = "create Pod redis-3 in StatefulSet redis failed error: pods \"redis-3\" is forbidden: exceeded quota: q";
        let before = "create Pod redis-3 in StatefulSet redis failed error: pods \"redis-3\" is forbidden: violates PodSecurity";
        let claim = "create Claim data-redis-4 Pod redis-4 in StatefulSet redis failed error: exceeded quota: storage";
        let events = vec![
            event("now", "2026-01-01T00:00:09Z", quota),
            event("now", "2026-01-01T00:00:01Z", before),
            event("now", "2026-01-01T00:00:02Z", claim),
            event("before", "2026-01-01T00:00:10Z", before),
            event("now", "2026-01-01T00:00:11Z", "said otherwise"),
        ];
        let told: Vec<(String, String)> = last_words(events, "now").into_iter().collect();
        let said = |pod: &str, why: &str| (pod.to_owned(), why.to_owned());
        assert_eq!(
            told,
            [
                said(
                    "redis-3",
                    "pods \"redis-3\" is forbidden: exceeded quota: q"
                ),
                said("redis-4", "exceeded quota: storage"),
            ]
        );
    }
}
