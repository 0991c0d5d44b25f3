//! On a real Kubernetes: the objects are applied, and a keeper moves the hands. No operator takes part: the clusters
//! here say `paused`.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use shardwright_manifest::{Cel, Cluster, crd};
use shardwright_planner::Limits;
use shardwright_runtime::{Keeper, Links, Runtime, new_pen};
use shardwright_runtime_kubernetes::{
    Applied, Applier, ApplyError, ObjectKey, Pods, Scope, World, cluster_resource,
};
use shardwright_testkit::skip::skipped;
use tokio::time::timeout;

type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const MANAGER: &str = "shardwright-test";

/// A namespace of its own with one cluster.
struct Stand {
    client: Client,
    world: World,
    key: ObjectKey,
    applier: Applier,
}

impl Stand {
    async fn set_up(case: &str) -> TestResult<Self> {
        let client = Client::try_default().await?;
        let namespace = format!("live-{case}-{}", std::process::id());
        let api = Api::<Namespace>::all(client.clone());
        let new = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
        api.create(&PostParams::default(), &new).await?;
        know_clusters(&client).await?;
        let key = ObjectKey::new(&namespace, "redis");
        let world = World::start(client.clone(), &Scope::Namespace(namespace)).await?;
        timeout(Duration::from_secs(10), world.filled()).await?;
        Ok(Self {
            applier: Applier::new(world.clone(), key.clone(), None),
            client,
            world,
            key,
        })
    }

    /// Writes the object, and waits until the world knows it.
    async fn want(&self, mut spec: Value) -> TestResult {
        spec["paused"] = json!(true);
        let resource = cluster_resource();
        let (client, namespace) = (self.client.clone(), &self.key.namespace);
        let api = Api::<DynamicObject>::namespaced_with(client, namespace, &resource);
        let object = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": self.key.name}, "spec": spec,
        });
        let params = PatchParams::apply(MANAGER).force();
        let there = api
            .patch(&self.key.name, &params, &Patch::Apply(&object))
            .await?;
        let mut wake = self.world.wake(&self.key);
        loop {
            let known = self.world.object(&self.key);
            if known.is_some_and(|o| Some(o.generation) >= there.metadata.generation) {
                return Ok(());
            }
            timeout(Duration::from_secs(5), wake.woken()).await?;
        }
    }

    async fn apply(&mut self) -> Result<(Cluster, Applied), ApplyError> {
        let object = self
            .world
            .object(&self.key)
            .expect("the object was written");
        let cluster = object.accepted().expect("a sound document").cluster;
        let applied = self.applier.apply(&object, &cluster).await?;
        Ok((cluster, applied))
    }

    async fn keeper(&mut self) -> TestResult<Keeper<Pods>> {
        let (cluster, applied) = self.apply().await?;
        let desired = cluster.desired();
        let pods = Pods::new(
            self.world.clone(),
            self.key.clone(),
            cluster,
            &applied.access,
        );
        let pen = new_pen(u128::from(std::process::id()));
        let links = Links::new(applied.access, Some(pen));
        Ok(Keeper::new(pods, links, desired, Limits::default()))
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.key.namespace)
    }
}

/// Runs a case in a namespace of its own, which goes however it ends. Skipped where there is no Kubernetes.
async fn case(name: &str, body: impl AsyncFnOnce(&mut Stand) -> TestResult) -> TestResult {
    if std::env::var_os("KUBECONFIG").is_none() {
        skipped(name, "no KUBECONFIG");
        return Ok(());
    }
    let mut stand = Stand::set_up(name).await?;
    let end = AssertUnwindSafe(body(&mut stand)).catch_unwind().await;
    let api = Api::<Namespace>::all(stand.client.clone());
    api.delete(&stand.key.namespace, &DeleteParams::default())
        .await?;
    end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The API server has to know what a `RedisCluster` is.
async fn know_clusters(client: &Client) -> TestResult {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    let definition = crd(Cel::Without);
    let name = definition["metadata"]["name"]
        .as_str()
        .expect("it has a name");
    if api.get_opt(name).await?.is_none() {
        let params = PatchParams::apply(MANAGER).force();
        api.patch(name, &params, &Patch::Apply(&definition)).await?;
    }
    let served = kube::runtime::conditions::is_crd_established();
    let wait = kube::runtime::wait::await_condition(api, name, served);
    timeout(Duration::from_secs(20), wait).await??;
    Ok(())
}

fn texts<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

/// Keeps until all is settled; how long that took.
async fn settle(keeper: &mut Keeper<Pods>, limit: Duration) -> TestResult<Duration> {
    let begun = Instant::now();
    // What was waited for, told only where it was too long.
    let mut story: Vec<String> = Vec::new();
    loop {
        let report = keeper.pass().await?;
        keeper.runtime_mut().mirror_records().await?;
        if report.plan.is_settled() && report.observed.formed.is_some() {
            return Ok(begun.elapsed());
        }
        let (steps, waiting) = (texts(&report.plan.steps), texts(&report.plan.waiting));
        let said = format!("{steps:#?} {waiting:#?} {:?}", report.violations);
        if story.last().is_none_or(|last| !last.ends_with(&said)) {
            story.push(format!("{:>6} ms {said}", begun.elapsed().as_millis()));
        }
        if begun.elapsed() > limit {
            return Err(format!("not settled within {limit:?}: {}", story.join("\n")).into());
        }
        // A ring, or a little time: either is a reason to look again.
        let woken = keeper.runtime_mut().woken();
        timeout(Duration::from_millis(50), woken).await.ok();
    }
}

#[expect(
    clippy::print_stderr,
    reason = "times are for the person who runs this"
)]
fn told(what: &str, after: Duration) {
    eprintln!("{what} after {after:?}");
}

fn spec() -> Value {
    json!({
        "shards": 3, "replicasPerShard": 1, "image": "redis:7.0.0-alpine", "engine": "redis",
        "users": [{"name": "worker", "rules": "~* &* +@all -@dangerous"}],
        "storage": {"size": "256Mi"},
        "resources": {"requests": {"memory": "20M"}, "limits": {"memory": "96Mi"}},
    })
}

async fn uids(pods: &Api<Pod>) -> TestResult<Vec<Option<String>>> {
    let list = pods.list(&ListParams::default()).await?;
    Ok(list.items.iter().map(ResourceExt::uid).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_forms_and_comes_back_from_the_loss_of_all_its_pods() -> TestResult {
    case("forms", form_and_come_back).await
}

async fn form_and_come_back(stand: &mut Stand) -> TestResult {
    let begun = Instant::now();
    stand.want(spec()).await?;
    let mut keeper = stand.keeper().await?;
    settle(&mut keeper, Duration::from_secs(120)).await?;
    told("formed", begun.elapsed());

    // An idle apply writes nothing.
    stand.apply().await?;
    let (_, again) = stand.apply().await?;
    assert_eq!(again.changed, Vec::<String>::new());

    // Claims and the set remember.
    let set = stand.world.set(&stand.key).expect("a set");
    assert_eq!(set.nodes.len(), 6);
    let claims = stand.world.claims(&stand.key);
    assert_eq!(claims.len(), 6);
    for claim in &claims {
        assert!(
            claim.node.is_some() && claim.formed == set.formed,
            "{claim:?}"
        );
    }

    // All addresses change.
    let pods = stand.api::<Pod>();
    let before = uids(&pods).await?;
    let now = DeleteParams::default().grace_period(0);
    pods.delete_collection(&now, &ListParams::default()).await?;
    let took = settle(&mut keeper, Duration::from_secs(120)).await?;
    told("all pods deleted: settled", took);
    let after = uids(&pods).await?;
    assert!(after.iter().all(|uid| !before.contains(uid)), "{after:?}");

    // A Service that somebody removes comes back.
    let services = stand.api::<Service>();
    let gone = DeleteParams::default();
    services.delete("redis-client", &gone).await?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while services.get_opt("redis-client").await?.is_none() {
        stand.apply().await?;
        assert!(Instant::now() < deadline, "the Service did not come back");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_grow_while_the_pods_run_on() -> TestResult {
    case("grows", grow).await
}

async fn grow(stand: &mut Stand) -> TestResult {
    stand.want(spec()).await?;
    let mut keeper = stand.keeper().await?;
    settle(&mut keeper, Duration::from_secs(120)).await?;
    let pods = stand.api::<Pod>();
    let before = uids(&pods).await?;
    let sets = stand.api::<StatefulSet>();
    let old = sets.get("redis").await?.uid();
    let formed = keeper.runtime().formed();

    let mut larger = spec();
    larger["storage"]["size"] = json!("512Mi");
    stand.want(larger).await?;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (_, applied) = stand.apply().await?;
        let set = sets.get_opt("redis").await?;
        if set.is_some_and(|set| set.uid() != old) {
            break;
        }
        let pending = applied.pending;
        assert!(
            Instant::now() < deadline,
            "the set was not made anew: {pending:?}"
        );
    }
    settle(&mut keeper, Duration::from_secs(60)).await?;
    assert_eq!(uids(&pods).await?, before);
    assert_eq!(keeper.runtime().formed(), formed);
    let claims = stand.api::<PersistentVolumeClaim>();
    for claim in claims.list(&ListParams::default()).await? {
        let claim = serde_json::to_value(&claim)?;
        let size = &claim["spec"]["resources"]["requests"]["storage"];
        assert_eq!(size, &json!("512Mi"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_that_may_not_grow_keep_nothing_else_from_being_applied() -> TestResult {
    case("fixed", grow_in_vain).await
}

async fn grow_in_vain(stand: &mut Stand) -> TestResult {
    let classes = Api::<StorageClass>::all(stand.client.clone());
    let class = stand.key.namespace.clone();
    let known = classes.list(&ListParams::default()).await?;
    let provisioner = &known.items.first().ok_or("no storage class")?.provisioner;
    let fixed = serde_json::from_value(json!({
        "metadata": {"name": class}, "provisioner": provisioner, "allowVolumeExpansion": false,
    }))?;
    classes.create(&PostParams::default(), &fixed).await?;
    let mut wanted = spec();
    wanted["storage"]["storageClassName"] = json!(class);
    stand.want(wanted.clone()).await?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while stand.world.claims(&stand.key).len() < 6 {
        stand.apply().await?;
        assert!(Instant::now() < deadline, "no claims were made");
    }
    let sets = stand.api::<StatefulSet>();
    let old = sets.get("redis").await?.uid();

    wanted["storage"]["size"] = json!("512Mi");
    wanted["pod"] = json!({"annotations": {"example.com/edit": "second"}});
    stand.want(wanted).await?;
    let (_, applied) = stand.apply().await?;
    let warned = applied.warnings.join("; ");
    assert!(warned.contains("not every volume grows from"), "{warned}");
    let set = sets.get("redis").await?;
    let edit = serde_json::to_value(&set)?["spec"]["template"]["metadata"]["annotations"].clone();
    assert_eq!(
        (set.uid(), &edit["example.com/edit"]),
        (old, &json!("second"))
    );
    classes.delete(&class, &DeleteParams::default()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ours_is_not_taken_over() -> TestResult {
    case("taken", find_another).await
}

async fn find_another(stand: &mut Stand) -> TestResult {
    let services = stand.api::<Service>();
    let other = serde_json::from_value(json!({
        "metadata": {"name": "redis"}, "spec": {"ports": [{"port": 1}]},
    }))?;
    services.create(&PostParams::default(), &other).await?;
    stand.want(spec()).await?;
    let refused = stand.apply().await.expect_err("it is not ours").to_string();
    assert!(
        refused.contains("Service redis is there already"),
        "{refused}"
    );
    let sets = stand.api::<StatefulSet>();
    assert!(sets.get_opt("redis").await?.is_none());
    Ok(())
}
