//! The `RedisCluster` object as the API server has it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Map, Value, json};
use shardwright_manifest::{API_VERSION, Accepted, Cluster, KIND, Problems};

use crate::facts::ObjectKey;
use crate::objects::check_overrides;
use crate::wish::{KEYS, MOVES, PAUSED};

/// What tools write into annotations for themselves: it is theirs, and not to be put on everything.
const TOOLS_OWN: &str = "kubectl.kubernetes.io/";

/// How `RedisCluster` is called in the paths of the API server.
pub fn cluster_resource() -> ApiResource {
    let (group, version) = API_VERSION.split_once('/').unwrap_or(("", API_VERSION));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        plural: "redisclusters".to_owned(),
    }
}

/// A `RedisCluster` object. Two are equal where what a person wants is: the status does not count.
#[derive(Clone, Debug)]
pub struct ClusterObject {
    /// Its namespace and name.
    pub key: ObjectKey,
    /// Its uid.
    pub uid: String,
    /// Counts the changes of what is wanted.
    pub generation: i64,
    /// It is being deleted.
    pub leaving: bool,
    /// Names this state of it.
    pub resource_version: Option<String>,
    /// Its status, as it is.
    pub status: Option<Value>,
    /// What a person asked for, once: the annotations with these [`KEYS`].
    pub wishes: BTreeMap<String, String>,
    /// What the annotation [`MOVES`] says.
    pub moves: Option<String>,
    /// Who wrote the number of shards last, as the API server calls it: a field manager such as `kubectl-edit`.
    pub shards_by: Option<String>,
    /// The document as it was written, with what tools put into it left out.
    document: Value,
}

impl PartialEq for ClusterObject {
    fn eq(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.leaving == other.leaving
            && self.document == other.document
            && self.wishes == other.wishes
            && self.moves == other.moves
    }
}

impl ClusterObject {
    /// Reads an object that came from the API server.
    pub fn of(object: &DynamicObject) -> Option<Self> {
        let key = ObjectKey::of(&object.metadata)?;
        let mut annotations = Map::new();
        let mut wishes = BTreeMap::new();
        let mut moves = None;
        for (k, v) in object.annotations() {
            // The cluster's objects carry its annotations; what is asked for once is none of their business.
            if KEYS.contains(&k.as_str()) {
                wishes.insert(k.clone(), v.clone());
            } else if k == MOVES {
                moves = Some(v.clone());
            } else if !k.starts_with(TOOLS_OWN) {
                annotations.insert(k.clone(), Value::String(v.clone()));
            }
        }
        let document = json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "labels": object.labels(),
                "annotations": annotations,
            },
            "spec": object.data.get("spec").cloned().unwrap_or_else(|| json!({})),
        });
        Some(Self {
            key,
            uid: object.uid()?,
            generation: object.metadata.generation.unwrap_or(0),
            leaving: object.metadata.deletion_timestamp.is_some(),
            resource_version: object.resource_version(),
            status: object.data.get("status").cloned(),
            wishes,
            moves,
            shards_by: manager_of_shards(&object.metadata),
            document,
        })
    }

    /// Whether a person paused the moving of slots.
    pub fn moves_paused(&self) -> bool {
        self.moves.as_deref() == Some(PAUSED)
    }

    /// What is wrong with the annotation [`MOVES`], if something is: then it says nothing.
    pub fn moves_unreadable(&self) -> Option<String> {
        let given = self.moves.as_deref().filter(|given| *given != PAUSED)?;
        Some(format!(
            "the annotation {MOVES} is {given:?}, which says nothing; it can be {PAUSED:?}, or be left out"
        ))
    }

    /// The document with this shape, or everything that would be wrong with it.
    pub fn reshaped(
        &self,
        shards: Option<u32>,
        replicas: Option<u32>,
    ) -> Result<Accepted, Problems> {
        Cluster::from_text_with(&self.document.to_string(), |document| {
            if let Some(shards) = shards {
                document.spec.shards = shards;
            }
            if let Some(replicas) = replicas {
                document.spec.replicas_per_shard = replicas;
            }
        })
    }

    /// Whether a user's password is in the Secret of this name.
    pub(crate) fn names_secret(&self, secret: &str) -> bool {
        let users = self
            .document
            .pointer("/spec/users")
            .and_then(Value::as_array);
        let mut names = users.into_iter().flatten().filter_map(|user| {
            let name = user.pointer("/passwordSecret/name")?;
            name.as_str()
        });
        names.any(|name| name == secret)
    }

    /// What it asks for, or everything that is wrong with it, its overrides of pods included.
    pub fn accepted(&self) -> Result<Accepted, Problems> {
        let accepted = Cluster::from_text(&self.document.to_string())?;
        check_overrides(&accepted.cluster)?;
        Ok(accepted)
    }

    /// The object as Events point to it.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(KIND.to_owned()),
            namespace: Some(self.key.namespace.clone()),
            name: Some(self.key.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

fn manager_of_shards(meta: &ObjectMeta) -> Option<String> {
    let entries = meta.managed_fields.iter().flatten();
    let of_shards = entries.filter(|entry| {
        let fields = entry.fields_v1.as_ref();
        fields.is_some_and(|fields| fields.0.pointer("/f:spec/f:shards").is_some())
    });
    let last = of_shards.max_by_key(|entry| entry.time.as_ref());
    last?.manager.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: Value) -> ClusterObject {
        let object: DynamicObject = serde_json::from_value(text).expect("an object");
        ClusterObject::of(&object).expect("a cluster")
    }

    #[test]
    fn an_object_is_read_without_what_tools_put_into_it() {
        let read = object(json!({
            "apiVersion": "shardwright.dev/v1alpha1", "kind": "RedisCluster",
            "metadata": {
                "name": "redis", "namespace": "cache", "uid": "u", "generation": 3,
                "creationTimestamp": "2024-01-01T00:00:00Z",
                "labels": {"team": "a"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "why": "b"},
            },
            "spec": {"shards": 5},
            "status": {"phase": "x"},
        }));
        let cluster = read.accepted().expect("a sound document").cluster;
        assert_eq!((cluster.shards(), cluster.namespace()), (5, Some("cache")));
        assert_eq!(cluster.labels().len(), 1);
        assert_eq!(cluster.annotations().keys().collect::<Vec<_>>(), ["why"]);
    }

    #[test]
    fn what_is_asked_for_once_is_a_change_but_no_part_of_the_document() {
        let with = |annotations: Value| {
            object(json!({
                "metadata": {"name": "redis", "namespace": "cache", "uid": "u", "annotations": annotations},
                "spec": {"shards": 3},
            }))
        };
        let plain = with(json!({}));
        let asked = with(json!({"shardwright.dev/failover": "redis-4"}));
        assert_ne!(plain, asked);
        let of = |o: &ClusterObject| o.accepted().expect("a sound document").cluster;
        assert_eq!(of(&plain), of(&asked));
        assert_eq!(asked.wishes.len(), 1);
    }

    #[test]
    fn a_pause_of_moves_is_a_change_but_no_part_of_the_document() {
        let with = |annotations: Value| {
            object(json!({
                "metadata": {"name": "redis", "namespace": "cache", "uid": "u", "annotations": annotations},
                "spec": {"shards": 3},
            }))
        };
        let plain = with(json!({}));
        let paused = with(json!({"shardwright.dev/moves": "paused"}));
        assert_ne!(plain, paused);
        let of = |o: &ClusterObject| o.accepted().expect("a sound document").cluster;
        assert_eq!(of(&plain), of(&paused));
        assert!(paused.moves_paused() && paused.moves_unreadable().is_none());
        let other = with(json!({"shardwright.dev/moves": "pause"}));
        assert!(!other.moves_paused());
        let why = other.moves_unreadable().expect("it is none of ours");
        assert!(why.contains("\"pause\""), "{why}");
        let five = plain
            .reshaped(Some(5), None)
            .expect("a sound shape")
            .cluster;
        assert_eq!((five.shards(), five.replicas_per_shard()), (5, 1));
        assert!(plain.reshaped(Some(2), None).is_err());
    }

    #[test]
    fn a_cluster_knows_the_secrets_of_its_users() {
        let read = object(json!({
            "metadata": {"name": "redis", "namespace": "cache", "uid": "u"},
            "spec": {"users": [
                {"name": "app", "rules": "+get", "passwordSecret": {"name": "mine", "key": "app"}},
                {"name": "other", "rules": "+get"},
            ]},
        }));
        assert!(read.names_secret("mine"));
        assert!(!read.names_secret("other"));
        let plain =
            object(json!({"metadata": {"name": "redis", "namespace": "cache", "uid": "u"}}));
        assert!(!plain.names_secret("mine"));
    }

    #[test]
    fn a_status_alone_is_no_change() {
        let with = |status: &str, shards: u32| {
            object(json!({
                "metadata": {"name": "redis", "namespace": "cache", "uid": "u"},
                "spec": {"shards": shards}, "status": {"s": status},
            }))
        };
        assert_eq!(with("a", 3), with("b", 3));
        assert_ne!(with("a", 3), with("a", 4));
    }

    #[test]
    fn an_unsound_object_tells_all_its_problems() {
        let read = object(json!({
            "metadata": {"name": "redis", "namespace": "cache", "uid": "u"},
            "spec": {"shards": 1, "shrads": 3},
        }));
        let problems = read.accepted().expect_err("unsound").to_string();
        assert!(problems.contains("shrads"), "{problems}");
    }

    #[test]
    fn who_wrote_the_number_of_shards_last_is_known() {
        let entry = |manager: &str, time: &str, spec: Value| {
            json!({
                "manager": manager, "operation": "Update", "time": time,
                "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": spec},
            })
        };
        let shards = || json!({".": {}, "f:shards": {}});
        let read = |entries: &[Value]| {
            object(json!({"metadata": {
                "name": "redis", "namespace": "cache", "uid": "u", "managedFields": entries,
            }}))
        };
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z");
        let both = read(&[
            entry("kubectl-client-side-apply", late, shards()),
            entry("kubectl", early, shards()),
            entry("shardwright", late, json!({"f:paused": {}})),
        ]);
        assert_eq!(both.shards_by.as_deref(), Some("kubectl-client-side-apply"));
        let other = read(&[entry("shardwright", late, json!({"f:paused": {}}))]);
        assert_eq!(other.shards_by, None);
    }

    #[test]
    fn an_object_whose_pods_cannot_be_made_is_unsound() {
        let read = object(json!({
            "metadata": {"name": "redis", "namespace": "cache", "uid": "u"},
            "spec": {"pod": {"affinity": {"nodeAfinity": {}}, "env": [{"name": "POD_IP"}]}},
        }));
        let problems = read.accepted().expect_err("unsound");
        let paths: Vec<&str> = problems.all().iter().map(|p| p.path.as_str()).collect();
        assert_eq!(paths, ["spec.pod.affinity.nodeAfinity", "spec.pod.env"]);
    }
}
