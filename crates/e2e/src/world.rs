//! What a case works in: a namespace of its own, clusters in it, clients that write to them, and
//! a place for its figures.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shardwright_testkit::{Load, LoadOptions};
use tokio::task::JoinHandle;

use crate::error::ensure;
use crate::faults::Machine;
use crate::kube_api::{Deletion, documents, name, text};
use crate::operator::Operator;
use crate::servers::{Cluster, SLOTS};
use crate::table::{Figure, time};
use crate::wait::{pass, until};
use crate::{Kind, Kube, Result};

/// Our pods start in seconds; this is for a machine with ten other things to do.
pub const READY_LIMIT: Duration = Duration::from_secs(90);
/// Deleting a namespace waits for the grace of every pod in it.
const GONE_LIMIT: Duration = Duration::from_secs(120);
/// How often a client asks where the servers are now.
const FOLLOW_PAUSE: Duration = Duration::from_millis(150);
/// The pace of a lane: nine of them stay far below what one processor can do for several cases.
const WRITE_PAUSE: Duration = Duration::from_millis(8);
/// How long a client waits for a reply before it goes elsewhere.
const CLIENT_TIMEOUT: Duration = Duration::from_millis(200);
/// The loads of different cases, and of one case, write different keys.
static LOADS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// What a case works in.
#[derive(Clone)]
pub struct World {
    /// The Kubernetes.
    pub kube: Kube,
    /// The operator, where it is installed.
    pub operator: Option<Operator>,
    /// The machine that the Kubernetes runs on, where it is this one.
    pub machine: Option<Machine>,
    /// The case's own namespace.
    pub namespace: String,
    /// The case's name.
    pub case: String,
    figures: Arc<Mutex<Vec<Figure>>>,
}

impl World {
    /// A world for a case; its namespace is made by [`World::open`].
    #[must_use]
    pub fn new(kube: &Kube, operator: Option<Operator>, case: &str, namespace: &str) -> Self {
        Self {
            kube: kube.clone(),
            operator,
            machine: Machine::of(kube),
            namespace: namespace.to_owned(),
            case: case.to_owned(),
            figures: Arc::default(),
        }
    }

    /// Makes the namespace, empty: what an earlier run left goes first.
    pub async fn open(&self) -> Result<()> {
        self.close().await?;
        self.kube.apply(&namespace(&self.namespace)).await?;
        Ok(())
    }

    /// Removes the namespace with all in it.
    pub async fn close(&self) -> Result<()> {
        remove_namespace(&self.kube, &self.namespace).await
    }

    /// The installed operator.
    pub fn operator(&self) -> Result<&Operator> {
        self.operator
            .as_ref()
            .ok_or_else(|| crate::Error::Wrong("this case needs the operator".to_owned()))
    }

    /// Puts a time into the table.
    pub fn took(&self, what: &str, took: Duration, goal: &str) {
        self.note(what, time(took), goal);
    }

    /// Puts a figure into the table.
    pub fn note(&self, what: &str, value: impl Into<String>, goal: &str) {
        let figure = Figure {
            case: self.case.clone(),
            what: what.to_owned(),
            value: value.into(),
            goal: goal.to_owned(),
        };
        self.figures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(figure);
    }

    /// The figures so far.
    #[must_use]
    pub fn figures(&self) -> Vec<Figure> {
        self.figures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A small manifest of this namespace: `shards` shards with `replicas` replicas each, an
    /// application user, and whatever `more` says of the spec.
    #[must_use]
    pub fn manifest(&self, cluster: &str, shards: u32, replicas: u32, more: Value) -> Value {
        let mut spec = json!({
            "shards": shards,
            "replicasPerShard": replicas,
            "users": [{"name": "default", "rules": "~* &* +@all"}, {"name": "app", "rules": "~* &* +@all -@dangerous"}],
            "resources": {"requests": {"memory": "20M", "cpu": "10m"}, "limits": {"memory": "200M"}},
            "storage": {"size": "1Gi"},
        });
        merge(&mut spec, more);
        json!({
            "apiVersion": "shardwright.dev/v1alpha1",
            "kind": "RedisCluster",
            "metadata": {"name": cluster, "namespace": self.namespace},
            "spec": spec,
        })
    }

    /// Applies a manifest and waits until the operator calls it ready. The time is from the apply.
    pub async fn up(&self, manifest: &Value) -> Result<(Cluster, Duration)> {
        let start = Instant::now();
        self.kube.apply(manifest).await?;
        let cluster = name(manifest).to_owned();
        self.until_ready(&cluster, READY_LIMIT).await?;
        let took = start.elapsed();
        Ok((
            Cluster::ours(&self.kube, text(manifest, "/metadata/namespace"), &cluster).await?,
            took,
        ))
    }

    /// Waits for `Ready` of the present generation.
    pub async fn until_ready(&self, cluster: &str, limit: Duration) -> Result<Duration> {
        self.until_condition(cluster, "Ready", "True", "", limit)
            .await
    }

    /// Waits until a condition has a status (and a reason, where one is given), told of the
    /// present generation.
    pub async fn until_condition(
        &self,
        cluster: &str,
        condition: &str,
        status: &str,
        reason: &str,
        limit: Duration,
    ) -> Result<Duration> {
        let what = format!(
            "{}/{cluster} has {condition}={status} {reason}",
            self.namespace
        );
        let ((), took) = until(&what, limit, || async {
            let object = self
                .kube
                .must(Kind::CLUSTER, &self.namespace, cluster)
                .await?;
            let generation = object.pointer("/metadata/generation");
            let fresh = object.pointer("/status/observedGeneration") == generation;
            let found = condition_of(&object, condition);
            let so = fresh
                && found.is_some_and(|c| {
                    text(c, "/status") == status
                        && (reason.is_empty() || text(c, "/reason") == reason)
                });
            Ok(if so {
                Ok(())
            } else {
                Err(status_line(&object))
            })
        })
        .await?;
        Ok(took)
    }

    /// A client that writes to a cluster until it is told to end.
    pub async fn writer(&self, cluster: &Cluster, user: &str) -> Result<Writer> {
        let login = (user.to_owned(), cluster.password(user).await?);
        Writer::start(cluster, login, WRITE_PAUSE).await
    }

    /// Deletes a pod as `kubectl delete pod` does.
    pub async fn delete_pod(&self, cluster: &Cluster, pod: &str) -> Result<()> {
        self.kube
            .delete(Kind::POD, &cluster.namespace, pod, Deletion::default())
            .await
    }
}

/// A client that writes without a pause, remembers what was acknowledged, and follows the servers
/// to new addresses as a name service would let it.
pub struct Writer {
    load: Arc<Load>,
    follow: JoinHandle<()>,
}

/// What a writer saw.
#[derive(Clone, Debug)]
pub struct Written {
    /// Acknowledged writes.
    pub acked: usize,
    /// The longest time without one, in the worst of the nine lanes.
    pub gap: Duration,
    /// When that began, since the writing began.
    pub gap_from: Option<Duration>,
    /// Acknowledged writes that are not there, and when each was acknowledged, since the writing began.
    pub lost: Vec<(String, Option<Duration>)>,
}

impl Writer {
    /// Starts writing as somebody, one write per lane and `pause`.
    pub async fn start(
        cluster: &Cluster,
        login: (String, String),
        pause: Duration,
    ) -> Result<Self> {
        let number = LOADS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let options = LoadOptions {
            pause,
            timeout: CLIENT_TIMEOUT,
            login: Some(login),
            prefix: format!("load{number}"),
            ..LoadOptions::default()
        };
        let load = Arc::new(Load::start(&cluster.addresses().await?, options));
        let (told, asked) = (load.clone(), cluster.clone());
        let follow = tokio::spawn(async move {
            loop {
                // While the API server is away the addresses are the last that were known.
                if let Ok(addresses) = asked.addresses().await
                    && !addresses.is_empty()
                {
                    told.now_at(&addresses);
                }
                crate::wait::pass(FOLLOW_PAUSE).await;
            }
        });
        let writer = Self { load, follow };
        writer.until_more(50, Duration::from_secs(20)).await?;
        Ok(writer)
    }

    /// Waits for that many more acknowledged writes.
    pub async fn until_more(&self, more: u64, limit: Duration) -> Result<()> {
        Ok(self.load.until_more(more, limit).await?)
    }

    /// Waits until every lane writes again: a lane is a ninth of the slots.
    pub async fn until_flowing(&self, limit: Duration) -> Result<()> {
        // Nine lanes at one pace: thirty rounds of all of them cannot come from eight.
        Ok(self.load.until_more(270, limit).await?)
    }

    /// Ends the writing, reads everything back.
    pub async fn end(self, cluster: &Cluster) -> Result<Written> {
        self.follow.abort();
        // Aborted is how it ends.
        self.follow.await.ok();
        let load = Arc::into_inner(self.load);
        let load =
            load.ok_or_else(|| crate::Error::Wrong("somebody still holds the load".to_owned()))?;
        let report = load.stop().await;
        let longest = report.longest_gap(0, SLOTS - 1);
        let gap = longest.map_or(Duration::ZERO, |gap| gap.length);
        let gap_from = longest.map(|gap| gap.begun.saturating_duration_since(report.begun));
        let lost = report.lost(&cluster.addresses().await?).await?;
        let lost = lost.into_iter().map(|lost| {
            let at = report.acked_after(&lost);
            (lost.key, at)
        });
        Ok(Written {
            acked: report.acked(),
            gap,
            gap_from,
            lost: lost.collect(),
        })
    }
}

impl Written {
    /// Nothing that was acknowledged is missing.
    pub fn nothing_lost(&self) -> Result<()> {
        self.lost_at_most(0)
    }

    /// No more than this is missing: a server that is killed takes along what it had acknowledged
    /// and not yet sent to its replica, which is what was under way at that moment.
    pub fn lost_at_most(&self, count: usize) -> Result<()> {
        ensure(self.lost.len() <= count, || {
            let told = |(key, at): &(String, Option<Duration>)| {
                format!("{key} (acknowledged at {at:.2?})")
            };
            let first: Vec<_> = self.lost.iter().take(3).map(told).collect();
            let last = self.lost.iter().filter_map(|(_, at)| *at).max();
            format!(
                "{} of {} acknowledged writes are lost, such as {}, the last at {last:.2?}; the longest gap was {:.2?} from {:.2?}",
                self.lost.len(),
                self.acked,
                first.join(", "),
                self.gap,
                self.gap_from
            )
        })
    }
}

/// A condition of an object's status.
#[must_use]
pub fn condition_of<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .find(|c| text(c, "/type") == kind)
}

/// The status of an object in one line.
#[must_use]
pub fn status_line(object: &Value) -> String {
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let conditions: Vec<_> = conditions
        .into_iter()
        .flatten()
        .map(|c| {
            format!(
                "{}={} {}: {}",
                text(c, "/type"),
                text(c, "/status"),
                text(c, "/reason"),
                text(c, "/message")
            )
        })
        .collect();
    if conditions.is_empty() {
        "no conditions".to_owned()
    } else {
        conditions.join("; ")
    }
}

/// A namespace document.
#[must_use]
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"shardwright.dev/test": "e2e"}}})
}

/// Removes a namespace with all in it, and waits until it is gone.
pub async fn remove_namespace(kube: &Kube, namespace: &str) -> Result<()> {
    if kube.get(Kind::NAMESPACE, "", namespace).await?.is_none() {
        return Ok(());
    }
    kube.delete(Kind::NAMESPACE, "", namespace, Deletion::default())
        .await?;
    // Nobody needs the grace of pods whose namespace goes.
    let what = format!("namespace {namespace} is gone");
    until(&what, GONE_LIMIT, || async {
        for pod in kube.list(Kind::POD, namespace, "").await? {
            kube.delete(
                Kind::POD,
                namespace,
                name(&pod),
                Deletion {
                    grace_s: Some(0),
                    orphan: false,
                },
            )
            .await?;
        }
        pass(Duration::from_millis(200)).await;
        let left = kube.get(Kind::NAMESPACE, "", namespace).await?;
        Ok(left.map_or(Ok(()), |left| Err(text(&left, "/status/phase").to_owned())))
    })
    .await?;
    Ok(())
}

/// One document of a YAML text.
pub fn document(yaml: &str) -> Result<Value> {
    let mut all = documents(yaml)?;
    all.pop()
        .ok_or_else(|| crate::Error::Wrong("the text holds no document".to_owned()))
}

/// Puts `more` over `into`, objects key by key (a merge patch, RFC 7396).
pub fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, more) => *into = more,
    }
}
