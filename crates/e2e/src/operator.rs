//! The operator in the Kubernetes: installed as a person would, stopped, killed.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::ensure;
use crate::faults::Machine;
use crate::kube_api::{Deletion, documents, name, text};
use crate::wait::until;
use crate::{Error, Kind, Kube, Result};

/// An image is there already; starting takes seconds.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How many pods of it `shardwright install` asks for.
const PODS: u32 = 2;

/// The installed operator.
#[derive(Clone)]
pub struct Operator {
    kube: Kube,
    /// Its namespace.
    pub namespace: String,
    /// The name of its Deployment.
    pub deployment: String,
    /// The name of its service account.
    pub account: String,
    selector: String,
}

/// Our program, as `SHARDWRIGHT_PROGRAM` names it: the one in the image.
pub fn program() -> Result<String> {
    std::env::var("SHARDWRIGHT_PROGRAM").map_err(|_| {
        Error::Wrong("SHARDWRIGHT_PROGRAM names no program; run the cases with make e2e".to_owned())
    })
}

/// Runs our program to its end, and returns what it printed.
pub fn run_program(args: &[&str]) -> Result<String> {
    let program = program()?;
    let what = format!("{program} {}", args.join(" "));
    let ran = Command::new(&program)
        .args(args)
        .output()
        .map_err(Error::io(&what))?;
    ensure(ran.status.success(), || {
        format!(
            "{what}: {}: {}",
            ran.status,
            String::from_utf8_lossy(&ran.stderr).trim()
        )
    })?;
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}

impl Operator {
    /// Installs what `shardwright install` prints, and waits until the operator runs.
    pub async fn install(kube: &Kube) -> Result<Self> {
        // An older API server refuses rules that a newer one takes.
        let (major, minor) = kube.version;
        let version = format!("{major}.{minor}");
        let mut deployment = None;
        for document in documents(&run_program(&["install", "--kubernetes", &version])?)? {
            let kind = Kind::of(&document)?;
            let applied = kube.apply(&document).await?;
            match kind {
                Kind::DEFINITION => established(kube, name(&applied)).await?,
                Kind::DEPLOYMENT => deployment = Some(applied),
                _ => {}
            }
        }
        let deployment = deployment
            .ok_or_else(|| Error::Wrong("shardwright install printed no Deployment".to_owned()))?;
        let labels = deployment
            .pointer("/spec/selector/matchLabels")
            .and_then(Value::as_object);
        let labels = labels.into_iter().flatten();
        let selector: Vec<_> = labels
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
            .collect();
        let operator = Self {
            kube: kube.clone(),
            namespace: text(&deployment, "/metadata/namespace").to_owned(),
            deployment: name(&deployment).to_owned(),
            account: text(&deployment, "/spec/template/spec/serviceAccountName").to_owned(),
            selector: selector.join(","),
        };
        // A new image under the same name starts with new pods only.
        for pod in operator.pods().await? {
            kube.delete(
                Kind::POD,
                &operator.namespace,
                name(&pod),
                Deletion {
                    grace_s: Some(0),
                    orphan: false,
                },
            )
            .await?;
        }
        operator.until_running().await?;
        Ok(operator)
    }

    /// Its pods.
    pub async fn pods(&self) -> Result<Vec<Value>> {
        self.kube
            .list(Kind::POD, &self.namespace, &self.selector)
            .await
    }

    /// Waits until it is ready.
    pub async fn until_running(&self) -> Result<Duration> {
        let ((), took) = until("the operator is ready", START_LIMIT, || async {
            let deployment = self
                .kube
                .must(Kind::DEPLOYMENT, &self.namespace, &self.deployment)
                .await?;
            let pods = self.pods().await?;
            let ready = deployment
                .pointer("/status/readyReplicas")
                .and_then(Value::as_u64);
            let generation = deployment.pointer("/metadata/generation");
            let seen = deployment.pointer("/status/observedGeneration") == generation;
            let leaving = pods
                .iter()
                .any(|pod| pod.pointer("/metadata/deletionTimestamp").is_some());
            Ok(if ready >= Some(1) && seen && !leaving {
                Ok(())
            } else {
                Err(pods.iter().map(pod_line).collect())
            })
        })
        .await?;
        Ok(took)
    }

    /// Takes it away: no replica of it runs when this returns.
    pub async fn stop(&self) -> Result<()> {
        self.scale(0).await?;
        until("the operator is away", START_LIMIT, || async {
            let pods = self.pods().await?;
            Ok(if pods.is_empty() {
                Ok(())
            } else {
                Err(pods.iter().map(pod_line).collect())
            })
        })
        .await?;
        Ok(())
    }

    /// Brings it back.
    pub async fn start(&self) -> Result<Duration> {
        self.scale(PODS).await?;
        self.until_running().await
    }

    async fn scale(&self, replicas: u32) -> Result<()> {
        let patch = json!({"spec": {"replicas": replicas}});
        self.kube
            .patch(Kind::DEPLOYMENT, &self.namespace, &self.deployment, patch)
            .await
    }

    /// Ends it without warning: its process where it can be reached, else its pod.
    pub async fn kill(&self, machine: Option<Machine>) -> Result<()> {
        for pod in self.pods().await? {
            let container = text(&pod, "/status/containerStatuses/0/containerID").to_owned();
            if let Some(machine) = machine
                && !container.is_empty()
            {
                machine.kill_container(&container)?;
            } else {
                let now = Deletion {
                    grace_s: Some(0),
                    orphan: false,
                };
                self.kube
                    .delete(Kind::POD, &self.namespace, name(&pod), now)
                    .await?;
            }
        }
        Ok(())
    }

    /// The resident memory of the pod that has most, which is the one that leads; in bytes, where the machine can tell.
    pub async fn resident_bytes(&self, machine: Machine) -> Result<u64> {
        let mut most = 0;
        for pod in self.pods().await? {
            let container = text(&pod, "/status/containerStatuses/0/containerID");
            most = most.max(machine.resident_bytes(container)?);
        }
        ensure(most > 0, || "no pod of the operator is there".to_owned())?;
        Ok(most)
    }

    /// The end of its log, for a failure.
    pub async fn log(&self) -> String {
        let mut log = String::new();
        let pods = match self.pods().await {
            Ok(pods) => pods,
            Err(error) => return error.with_causes(),
        };
        for pod in pods {
            let container = text(&pod, "/spec/containers/0/name");
            let lines = self.kube.logs(&self.namespace, name(&pod), container).await;
            log.push_str(&lines.unwrap_or_else(|error| error.with_causes()));
        }
        log
    }
}

async fn established(kube: &Kube, definition: &str) -> Result<()> {
    until(&format!("{definition} is served"), START_LIMIT, || async {
        let found = kube.must(Kind::DEFINITION, "", definition).await?;
        let conditions = found
            .pointer("/status/conditions")
            .and_then(Value::as_array);
        let so = conditions
            .into_iter()
            .flatten()
            .any(|c| text(c, "/type") == "Established" && text(c, "/status") == "True");
        Ok(if so {
            Ok(())
        } else {
            Err("not established".to_owned())
        })
    })
    .await?;
    Ok(())
}

/// One line about a pod: for what was last seen.
#[must_use]
pub fn pod_line(pod: &Value) -> String {
    let waiting = text(pod, "/status/containerStatuses/0/state/waiting/reason");
    format!("{}: {} {waiting}; ", name(pod), text(pod, "/status/phase"))
}
