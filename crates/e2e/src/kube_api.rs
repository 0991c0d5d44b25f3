//! The Kubernetes API as a person with kubectl uses it: apply, get, delete, exec, evict, logs.
//! Objects are JSON values, read by pointers: what is checked is what the API shows.

use std::time::Duration;

use kube::api::{
    Api, ApiResource, AttachParams, DeleteParams, DynamicObject, ListParams, LogParams, Patch,
    PatchParams, PostParams, PropagationPolicy,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::{Error, Result};

/// What our documents are applied as.
const FIELD_MANAGER: &str = "kubectl";
/// Longer than any answer takes on a busy machine; shorter than a case.
const API_LIMIT: Duration = Duration::from_secs(20);
/// No command in a pod takes longer, `redis-cli --cluster create` included.
const EXEC_LIMIT: Duration = Duration::from_secs(120);
/// The last lines of a log that a failure shows.
const LOG_LINES: i64 = 25;

/// A kind of object and where the API serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    group: &'static str,
    version: &'static str,
    title: &'static str,
    plural: &'static str,
    namespaced: bool,
}

macro_rules! kinds {
    ($($(#[$meta:meta])* $name:ident = $group:literal $version:literal $kind:literal $plural:literal $namespaced:literal;)*) => {
        impl Kind {
            $($(#[$meta])* pub const $name: Self = Self {
                group: $group, version: $version, title: $kind, plural: $plural, namespaced: $namespaced,
            };)*
            /// Every kind the cases use.
            const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

kinds! {
    /// Namespaces.
    NAMESPACE = "" "v1" "Namespace" "namespaces" false;
    /// Kubernetes nodes.
    NODE = "" "v1" "Node" "nodes" false;
    /// Volumes.
    VOLUME = "" "v1" "PersistentVolume" "persistentvolumes" false;
    /// Pods.
    POD = "" "v1" "Pod" "pods" true;
    /// Events.
    EVENT = "" "v1" "Event" "events" true;
    /// Secrets.
    SECRET = "" "v1" "Secret" "secrets" true;
    /// Config maps.
    CONFIG_MAP = "" "v1" "ConfigMap" "configmaps" true;
    /// Services.
    SERVICE = "" "v1" "Service" "services" true;
    /// Service accounts.
    SERVICE_ACCOUNT = "" "v1" "ServiceAccount" "serviceaccounts" true;
    /// Quotas of namespaces.
    QUOTA = "" "v1" "ResourceQuota" "resourcequotas" true;
    /// Claims of volumes.
    CLAIM = "" "v1" "PersistentVolumeClaim" "persistentvolumeclaims" true;
    /// Stateful sets.
    STATEFUL_SET = "apps" "v1" "StatefulSet" "statefulsets" true;
    /// Deployments.
    DEPLOYMENT = "apps" "v1" "Deployment" "deployments" true;
    /// Jobs.
    JOB = "batch" "v1" "Job" "jobs" true;
    /// Disruption budgets, where `policy/v1` is served.
    BUDGET = "policy" "v1" "PodDisruptionBudget" "poddisruptionbudgets" true;
    /// Disruption budgets of Kubernetes before 1.21.
    BUDGET_BETA = "policy" "v1beta1" "PodDisruptionBudget" "poddisruptionbudgets" true;
    /// Network policies.
    NETWORK_POLICY = "networking.k8s.io" "v1" "NetworkPolicy" "networkpolicies" true;
    /// Roles.
    ROLE = "rbac.authorization.k8s.io" "v1" "Role" "roles" true;
    /// Role bindings.
    ROLE_BINDING = "rbac.authorization.k8s.io" "v1" "RoleBinding" "rolebindings" true;
    /// Cluster roles.
    CLUSTER_ROLE = "rbac.authorization.k8s.io" "v1" "ClusterRole" "clusterroles" false;
    /// Cluster role bindings.
    CLUSTER_ROLE_BINDING = "rbac.authorization.k8s.io" "v1" "ClusterRoleBinding" "clusterrolebindings" false;
    /// Admission policies.
    POLICY = "admissionregistration.k8s.io" "v1" "ValidatingAdmissionPolicy" "validatingadmissionpolicies" false;
    /// Where admission policies hold.
    POLICY_BINDING = "admissionregistration.k8s.io" "v1" "ValidatingAdmissionPolicyBinding" "validatingadmissionpolicybindings" false;
    /// Leases.
    LEASE = "coordination.k8s.io" "v1" "Lease" "leases" true;
    /// Definitions of custom kinds.
    DEFINITION = "apiextensions.k8s.io" "v1" "CustomResourceDefinition" "customresourcedefinitions" false;
    /// Ours.
    CLUSTER = "shardwright.dev" "v1alpha1" "RedisCluster" "redisclusters" true;
}

impl Kind {
    /// Its name, such as `Pod`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.title
    }

    fn api_version(self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The kind of an object, by its `apiVersion` and `kind`.
    pub fn of(object: &Value) -> Result<Self> {
        let (version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
        let found = Self::ALL
            .iter()
            .find(|known| known.title == kind && known.api_version() == version);
        found
            .copied()
            .ok_or_else(|| Error::Wrong(format!("no case knows the kind {version} {kind}")))
    }
}

/// What a command in a pod ended with.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
    /// Whether its exit status was 0.
    pub ok: bool,
}

/// How to delete.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deletion {
    /// Seconds of grace, where not the object's own.
    pub grace_s: Option<u32>,
    /// Leave what the object owns.
    pub orphan: bool,
}

/// The API of one Kubernetes.
#[derive(Clone)]
pub struct Kube {
    client: Client,
    /// Where it is.
    pub server: String,
    /// Major and minor version.
    pub version: (u32, u32),
}

impl Kube {
    /// The Kubernetes that `KUBECONFIG` names; nothing else is ever taken, for the cases kill and
    /// cut off what they find.
    pub async fn connect() -> Result<Self> {
        let missing = || Error::NoKubernetes("set KUBECONFIG or run make kubernetes".to_owned());
        let path = std::env::var_os("KUBECONFIG")
            .filter(|p| !p.is_empty())
            .ok_or_else(missing)?;
        let broken =
            |error: String| Error::NoKubernetes(format!("KUBECONFIG {}: {error}", path.display()));
        let file = Kubeconfig::read_from(&path).map_err(|e| broken(e.to_string()))?;
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .map_err(|e| broken(e.to_string()))?;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = Some(API_LIMIT);
        // A case that takes the API server away wants to see that, not to wait it out.
        config.default_retry = false;
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|e| broken(e.to_string()))?;
        let version = tokio::time::timeout(API_LIMIT, client.apiserver_version()).await;
        let version = match version {
            Ok(Ok(version)) => version,
            Ok(Err(error)) => return Err(broken(error.to_string())),
            Err(_) => return Err(broken("no answer".to_owned())),
        };
        let number = |text: &str| -> u32 {
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap_or(0)
        };
        Ok(Self {
            client,
            server,
            version: (number(&version.major), number(&version.minor)),
        })
    }

    /// The kind of disruption budgets that this Kubernetes serves.
    #[must_use]
    pub fn budgets(&self) -> Kind {
        if self.version >= (1, 21) {
            Kind::BUDGET
        } else {
            Kind::BUDGET_BETA
        }
    }

    fn api(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: kind.group.to_owned(),
            version: kind.version.to_owned(),
            api_version: kind.api_version(),
            kind: kind.title.to_owned(),
            plural: kind.plural.to_owned(),
        };
        if !kind.namespaced || namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    fn pods(&self, namespace: &str) -> Api<k8s_openapi::api::core::v1::Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// An object, if it is there.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Value>> {
        let what = format!("get {} {namespace}/{name}", kind.title);
        let got = self.api(kind, namespace).get_opt(name).await;
        got.map_err(Error::api(&what))?
            .map(|object| value(&what, &object))
            .transpose()
    }

    /// An object that must be there.
    pub async fn must(&self, kind: Kind, namespace: &str, name: &str) -> Result<Value> {
        self.get(kind, namespace, name)
            .await?
            .ok_or_else(|| Error::Wrong(format!("there is no {} {namespace}/{name}", kind.title)))
    }

    /// The objects of a namespace (all of them where it is empty), by label selector.
    pub async fn list(&self, kind: Kind, namespace: &str, selector: &str) -> Result<Vec<Value>> {
        let what = format!("list {} of {namespace}", kind.plural);
        let params = ListParams::default().labels(selector);
        let listed = self.api(kind, namespace).list(&params).await;
        let listed = listed.map_err(Error::api(&what))?;
        listed.items.iter().map(|item| value(&what, item)).collect()
    }

    /// Applies one object as `kubectl apply` does: makes it, or changes what it says (a merge
    /// patch). Not server-side: Kubernetes 1.20 refuses ports without a protocol there, and
    /// people leave that out. Returns what the API made of it.
    pub async fn apply(&self, object: &Value) -> Result<Value> {
        let kind = Kind::of(object)?;
        let (namespace, name) = (
            text(object, "/metadata/namespace"),
            text(object, "/metadata/name"),
        );
        let what = format!("apply {} {namespace}/{name}", kind.title);
        let api = self.api(kind, namespace);
        let new: DynamicObject =
            serde_json::from_value(object.clone()).map_err(|e| Error::Text {
                what: what.clone(),
                why: e.to_string(),
            })?;
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let applied = match api.create(&params, &new).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let params = PatchParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                api.patch(name, &params, &Patch::Merge(object)).await
            }
            created => created,
        };
        value(&what, &applied.map_err(Error::api(&what))?)
    }

    /// Applies every document of a YAML text. A kind that was defined by an earlier document may
    /// take a moment until it is served.
    pub async fn apply_yaml(&self, text: &str) -> Result<Vec<Value>> {
        let mut applied = Vec::new();
        for document in documents(text)? {
            applied.push(self.apply(&document).await?);
        }
        Ok(applied)
    }

    /// Changes part of an object (a merge patch).
    pub async fn patch(&self, kind: Kind, namespace: &str, name: &str, patch: Value) -> Result<()> {
        let what = format!("patch {} {namespace}/{name}", kind.title);
        let params = PatchParams::default();
        let api = self.api(kind, namespace);
        let patched = api.patch(name, &params, &Patch::Merge(patch)).await;
        patched.map(|_| ()).map_err(Error::api(what))
    }

    /// Changes how many there are to be of an object, as `kubectl scale` does.
    pub async fn scale(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        replicas: u32,
    ) -> Result<()> {
        let what = format!("scale {} {namespace}/{name}", kind.title);
        let params = PatchParams::default();
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let api = self.api(kind, namespace);
        let patched = api.patch_scale(name, &params, &patch).await;
        patched.map(|_| ()).map_err(Error::api(what))
    }

    /// Deletes an object. One that is not there is deleted.
    pub async fn delete(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        how: Deletion,
    ) -> Result<()> {
        let params = DeleteParams {
            grace_period_seconds: how.grace_s,
            propagation_policy: how.orphan.then_some(PropagationPolicy::Orphan),
            ..DeleteParams::default()
        };
        match self.api(kind, namespace).delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(Error::api(format!(
                "delete {} {namespace}/{name}",
                kind.title
            ))(error)),
        }
    }

    /// Evicts a pod, as `kubectl drain` does. `false`: a disruption budget does not allow it now.
    pub async fn evict(&self, namespace: &str, pod: &str) -> Result<bool> {
        let what = format!("evict {namespace}/{pod}");
        let version = self.budgets().api_version();
        let body = json!({"apiVersion": version, "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}});
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let params = kube::api::EvictParams::default();
        let mut request = kube::core::Request::new(path)
            .evict(pod, &params)
            .map_err(|e| Error::Wrong(format!("{what}: {e}")))?;
        *request.body_mut() = body.to_string().into_bytes();
        match self.client.request::<Value>(request).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 429 => Ok(false),
            Err(error) => Err(Error::api(what)(error)),
        }
    }

    /// Puts a pod on a Kubernetes node, as a scheduler does.
    pub async fn bind(&self, namespace: &str, pod: &str, node: &str) -> Result<()> {
        let body = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod, "namespace": namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/binding");
        self.post(&format!("bind {namespace}/{pod} to {node}"), &path, &body)
            .await?;
        Ok(())
    }

    /// Whether the API would let a user do this (`resourceAttributes` of a `SubjectAccessReview`).
    pub async fn may(&self, user: &str, attributes: Value) -> Result<bool> {
        let body = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": attributes},
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = self.post("ask what may be done", path, &body).await?;
        Ok(answer.pointer("/status/allowed") == Some(&Value::Bool(true)))
    }

    async fn post(&self, what: &str, path: &str, body: &Value) -> Result<Value> {
        let request = kube::core::Request::new(path)
            .create(&PostParams::default(), body.to_string().into_bytes())
            .map_err(|e| Error::Wrong(format!("{what}: {e}")))?;
        self.client.request(request).await.map_err(Error::api(what))
    }

    /// Runs a command in a container to its end.
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        command: &[&str],
    ) -> Result<Ran> {
        let what = format!("exec in {namespace}/{pod}: {}", command.join(" "));
        let ran = tokio::time::timeout(
            EXEC_LIMIT,
            self.exec_now(namespace, pod, container, command, &what),
        );
        ran.await.map_err(|_| Error::TooLate {
            what,
            waited: EXEC_LIMIT,
            last: "the command still runs".to_owned(),
        })?
    }

    async fn exec_now(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        command: &[&str],
        what: &str,
    ) -> Result<Ran> {
        let params = AttachParams {
            container: Some(container.to_owned()),
            ..AttachParams::default()
        };
        let attached = self
            .pods(namespace)
            .exec(pod, command.iter().copied(), &params)
            .await;
        let mut attached = attached.map_err(Error::api(what))?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (attached.stdout(), attached.stderr());
        let read = async {
            let out = async {
                match stdout {
                    Some(mut stdout) => stdout.read_to_end(&mut out).await,
                    None => Ok(0),
                }
            };
            let err = async {
                match stderr {
                    Some(mut stderr) => stderr.read_to_end(&mut err).await,
                    None => Ok(0),
                }
            };
            tokio::try_join!(out, err)
        };
        let status = attached.take_status();
        read.await.map_err(Error::io(what))?;
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let Some(status) = status else {
            return Error::wrong(format!("{what}: it ended without saying how"));
        };
        Ok(Ran {
            out: String::from_utf8_lossy(&out).into_owned(),
            err: String::from_utf8_lossy(&err).into_owned(),
            ok: status.status.as_deref() == Some("Success"),
        })
    }

    /// The last lines of a container's log.
    pub async fn logs(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        let params = LogParams {
            container: Some(container.to_owned()),
            tail_lines: Some(LOG_LINES),
            ..LogParams::default()
        };
        let logs = self.pods(namespace).logs(pod, &params).await;
        logs.map_err(Error::api(format!("logs of {namespace}/{pod}")))
    }

    /// One metric page or any other raw text of the API server.
    pub async fn raw(&self, path: &str) -> Result<Value> {
        let request = kube::core::Request::new(path).list(&ListParams::default());
        let request = request.map_err(|e| Error::Wrong(format!("get {path}: {e}")))?;
        let got = self.client.request::<Value>(request).await;
        got.map_err(Error::api(format!("get {path}")))
    }
}

/// The text at a pointer; empty where there is none.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// The name of an object.
#[must_use]
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// The documents of a YAML text.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml).map_err(|e| Error::Text {
        what: "a manifest".to_owned(),
        why: e.to_string(),
    })?;
    Ok(all.into_iter().filter(|one| !one.is_null()).collect())
}

fn value(what: &str, object: &DynamicObject) -> Result<Value> {
    serde_json::to_value(object).map_err(|e| Error::Text {
        what: what.to_owned(),
        why: e.to_string(),
    })
}
