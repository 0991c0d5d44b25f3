//! What everything is called on Kubernetes. The one place: whoever builds an object and whoever
//! looks for one ask here.

use std::collections::BTreeMap;

use shardwright_manifest::Cluster;

/// The field manager of everything that is built from the manifest and applied.
pub const FIELD_MANAGER: &str = "shardwright";
/// The field manager of what is recorded while a cluster runs. Another one than
/// [`FIELD_MANAGER`], so that an apply of the built object leaves the record alone.
pub const RECORD_FIELD_MANAGER: &str = "shardwright-record";

/// The namespace of a cluster whose manifest names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Where clients connect.
pub const CLIENT_PORT: u16 = 6379;
/// Where the nodes of a cluster talk to each other: the engines' own choice, port + 10000.
pub const BUS_PORT: u16 = 16379;
/// Where a node that is held before its start is asked, and released.
pub const GATE_PORT: u16 = 6378;
/// [`CLIENT_PORT`] in pods and Services.
pub const CLIENT_PORT_NAME: &str = "redis";
/// [`BUS_PORT`] in pods and Services.
pub const BUS_PORT_NAME: &str = "bus";
/// [`GATE_PORT`] in pods.
pub const GATE_PORT_NAME: &str = "gate";

/// The container with the server.
pub const SERVER_CONTAINER: &str = "redis";
/// The init container that brings the node program.
pub const INSTALL_CONTAINER: &str = "install-node";

/// The claim template, and the volume with the data.
pub const DATA_VOLUME: &str = "data";
/// The volume with `redis.conf`.
pub const CONFIG_VOLUME: &str = "config";
/// The volume with `users.acl`.
pub const ACL_VOLUME: &str = "acl";
/// The volume with [`REPLICATION_FILE`] and [`PASSWORD_FILE`].
pub const AUTH_VOLUME: &str = "auth";
/// The volume with the node program.
pub const NODE_VOLUME: &str = "node";
/// The volume for temporary files: the root file system is read-only.
pub const TMP_VOLUME: &str = "tmp";

/// Where [`DATA_VOLUME`] is.
pub const DATA_DIR: &str = "/data";
/// Where [`CONFIG_VOLUME`] is.
pub const CONFIG_DIR: &str = "/etc/shardwright/config";
/// Where [`ACL_VOLUME`] is.
pub const ACL_DIR: &str = "/etc/shardwright/acl";
/// Where [`AUTH_VOLUME`] is.
pub const AUTH_DIR: &str = "/etc/shardwright/auth";
/// Where [`NODE_VOLUME`] is.
pub const NODE_DIR: &str = "/shardwright";

/// The node program, once it is installed.
pub const NODE_PROGRAM: &str = "/shardwright/shardwright-node";
/// The node program in its own image.
pub const NODE_PROGRAM_IN_IMAGE: &str = "/shardwright-node";
/// The image with the node program. Its version is its own: the pod template names it, so it may
/// change only when the program does, or an upgrade of the operator would restart every cluster.
pub const NODE_IMAGE: &str = "ghcr.io/shardwright/node:2";

/// The key of the `ConfigMap` with the configuration of the servers.
pub const CONFIG_FILE: &str = "redis.conf";
/// The key of the Secret (or `ConfigMap`) with the users.
pub const ACL_FILE: &str = "users.acl";
/// The same for servers that move slots by themselves: others do not start with it.
pub const MOVING_ACL_FILE: &str = "users-valkey-9.acl";
/// The key of the Secret with what a replica logs in with: `redis.conf` includes it.
pub const REPLICATION_FILE: &str = "replication.conf";
/// The key of the Secret with the password of the user `shardwright`.
pub const PASSWORD_FILE: &str = "shardwright";
/// The server's memory of the cluster, in [`DATA_DIR`].
pub const NODES_FILE: &str = "nodes.conf";

/// On the `StatefulSet`: JSON `{"cluster_id", "at_ms"}` of the day the cluster was formed.
pub const FORMED_ANNOTATION: &str = "shardwright.dev/formed";
/// On the `StatefulSet`: JSON map from the name of a pod to the id of its node.
pub const NODES_ANNOTATION: &str = "shardwright.dev/nodes";
/// On a claim: the id of the cluster whose data it holds.
pub const CLAIM_CLUSTER_ID_ANNOTATION: &str = "shardwright.dev/cluster-id";
/// On a claim: when that cluster was formed, in milliseconds since 1970.
pub const CLAIM_FORMED_AT_ANNOTATION: &str = "shardwright.dev/formed-at-ms";
/// On a claim: the id of the node whose data it holds.
pub const CLAIM_NODE_ID_ANNOTATION: &str = "shardwright.dev/node-id";

/// What `app.kubernetes.io/name` says.
pub const APP: &str = "redis-cluster";
/// What `app.kubernetes.io/name` says of an operator's pods: only they reach the gates.
pub const OPERATOR_APP: &str = "shardwright";
/// What [`COMPONENT_LABEL`] says of an operator's pods.
pub const OPERATOR_COMPONENT: &str = "operator";
/// What `app.kubernetes.io/managed-by` says.
pub const MANAGED_BY: &str = "shardwright";
/// The label with [`APP`].
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// The label with the name of the cluster.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// The label with [`MANAGED_BY`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The label with what a pod does in the cluster.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// The label with the version of the servers.
pub const VERSION_LABEL: &str = "app.kubernetes.io/version";
/// On a namespace: its name, put there by Kubernetes 1.21 and later.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// What [`COMPONENT_LABEL`] says of a node.
pub const NODE_COMPONENT: &str = "node";

/// On a Kubernetes node: its zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// On a Kubernetes node: its host name.
pub const HOST_LABEL: &str = "kubernetes.io/hostname";

/// The names of the objects of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Names {
    cluster: String,
    namespace: String,
}

impl Names {
    /// The names for the cluster called `cluster` in `namespace`.
    pub fn new(cluster: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            namespace: namespace.into(),
        }
    }

    /// The names for `cluster`; where its manifest names no namespace, in [`DEFAULT_NAMESPACE`].
    pub fn of(cluster: &Cluster) -> Self {
        let namespace = cluster.namespace().unwrap_or(DEFAULT_NAMESPACE);
        Self::new(cluster.name(), namespace)
    }

    /// The name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The namespace of all its objects.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The `StatefulSet`.
    pub fn stateful_set(&self) -> &str {
        &self.cluster
    }

    /// The Service without an address, through which each pod has a name in DNS from its start.
    pub fn headless_service(&self) -> &str {
        &self.cluster
    }

    /// The Service for clients: only of pods that are ready.
    pub fn client_service(&self) -> String {
        format!("{}-client", self.cluster)
    }

    /// The `PodDisruptionBudget`.
    pub fn disruption_budget(&self) -> &str {
        &self.cluster
    }

    /// The `NetworkPolicy`.
    pub fn network_policy(&self) -> &str {
        &self.cluster
    }

    /// The `ConfigMap` with `redis.conf`.
    pub fn config_map(&self) -> String {
        format!("{}-config", self.cluster)
    }

    /// The Secret with `users.acl`, or the `ConfigMap` where the manifest wants one.
    pub fn acl(&self) -> String {
        format!("{}-acl", self.cluster)
    }

    /// The Secret with the passwords that were generated, a key for each user.
    pub fn passwords_secret(&self) -> String {
        format!("{}-passwords", self.cluster)
    }

    /// The Secret that the pods mount: [`REPLICATION_FILE`] and [`PASSWORD_FILE`].
    pub fn auth_secret(&self) -> String {
        format!("{}-auth", self.cluster)
    }

    /// The pod with this ordinal.
    pub fn pod(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.cluster)
    }

    /// The ordinal of the pod called `pod`, if it is one of this cluster.
    pub fn ordinal(&self, pod: &str) -> Option<u32> {
        let digits = pod.strip_prefix(&self.cluster)?.strip_prefix('-')?;
        let ordinal = digits.parse().ok()?;
        // `redis-01` and `redis-+1` are no pods of this set.
        (self.pod(ordinal) == pod).then_some(ordinal)
    }

    /// The claim of the pod called `pod`.
    pub fn claim(&self, pod: &str) -> String {
        format!("{DATA_VOLUME}-{pod}")
    }

    /// The pod whose claim is called `claim`, if it is one of this cluster.
    pub fn pod_of_claim<'a>(&self, claim: &'a str) -> Option<&'a str> {
        let pod = claim.strip_prefix(DATA_VOLUME)?.strip_prefix('-')?;
        self.ordinal(pod).map(|_| pod)
    }

    /// The name in DNS of the pod called `pod`.
    pub fn pod_host(&self, pod: &str) -> String {
        format!(
            "{pod}.{}.{}.svc.cluster.local",
            self.headless_service(),
            self.namespace
        )
    }

    /// What selects the pods (and, with it, the claims) of the cluster. Never changes: a
    /// `StatefulSet`'s selector cannot.
    pub fn selector(&self) -> BTreeMap<String, String> {
        [(NAME_LABEL, APP), (INSTANCE_LABEL, &self.cluster)]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// [`Names::selector`] as it is written in a list request.
    pub fn label_selector(&self) -> String {
        format!("{NAME_LABEL}={APP},{INSTANCE_LABEL}={}", self.cluster)
    }

    /// The labels of every object of the cluster.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
        labels
    }

    /// The labels of every pod of the cluster.
    pub fn pod_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels();
        labels.insert(COMPONENT_LABEL.to_owned(), NODE_COMPONENT.to_owned());
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_tells_its_ordinal() {
        let names = Names::new("redis", "cache");
        assert_eq!(names.ordinal(&names.pod(11)), Some(11));
        for other in [
            "redis-01",
            "redis-",
            "redis",
            "redis-a",
            "redis-+1",
            "redis-x-1",
            "other-1",
            "redis-99999999999",
        ] {
            assert_eq!(names.ordinal(other), None, "{other}");
        }
        assert_eq!(names.claim("redis-0"), "data-redis-0");
        assert_eq!(names.pod_of_claim("data-redis-7"), Some("redis-7"));
        for other in [
            "redis-7",
            "dataredis-7",
            "data-other-7",
            "data-redis-x",
            "data-",
        ] {
            assert_eq!(names.pod_of_claim(other), None, "{other}");
        }
        assert_eq!(
            names.pod_host("redis-0"),
            "redis-0.redis.cache.svc.cluster.local"
        );
    }
}
