//! Pods that are not there because the API server refuses them: a quota, an admission plugin, `PodSecurity`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use shardwright_runtime::Report;
use shardwright_runtime_kubernetes::{ClusterObject, refused_pods};
use tokio::time::timeout;

use super::One;
use crate::error::chain;
use crate::status::{PodNote, PodTrouble};

/// How long the API server is not asked again why pods are not there: the `StatefulSet`'s controller tries again after
/// seconds at first, and after minutes later.
const ASKED_AGAIN: Duration = Duration::from_secs(10);
/// How long an answer is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What was answered last, and when it was asked.
#[derive(Debug)]
pub(super) struct Refusals {
    asked: Instant,
    /// The API server's word, by pod.
    words: BTreeMap<String, String>,
}

impl One<'_> {
    /// What there is to say of pods that are not there. Where that can't be learnt nothing is said of why.
    pub(super) async fn refusals(
        &mut self,
        object: &ClusterObject,
        report: &Report,
    ) -> Vec<PodNote> {
        let pods = self.world.pods(&object.key);
        let there: BTreeSet<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
        let servers = report.observed.servers().keys();
        let missing: Vec<&str> = servers
            .map(|name| name.0.as_str())
            .filter(|name| !there.contains(name))
            .collect();
        if missing.is_empty() {
            self.refusals = None;
            return Vec::new();
        }
        let last = self.refusals.as_ref();
        if last.is_none_or(|last| last.asked.elapsed() >= ASKED_AGAIN) {
            self.ask_for_refusals(object).await;
        }
        let Some(Refusals { words, .. }) = &self.refusals else {
            return Vec::new();
        };
        let (namespace, name) = (&object.key.namespace, &object.key.name);
        let note = |pod: &str| {
            Some(PodNote {
                pod: pod.to_owned(),
                trouble: PodTrouble::Failing,
                text: format!("FailedCreate: {}", words.get(pod)?),
                remedy: Some(format!(
                    "allow what it asks for, or let it ask for less: kubectl describe statefulset -n {namespace} {name}"
                )),
            })
        };
        missing.into_iter().filter_map(note).collect()
    }

    async fn ask_for_refusals(&mut self, object: &ClusterObject) {
        let Some(set) = self.world.set(&object.key) else {
            return;
        };
        let asked = Instant::now();
        let asks = refused_pods(self.world.client(), &object.key, &set);
        let words = match timeout(ANSWER_LIMIT, asks).await {
            Ok(Ok(words)) => words,
            Ok(Err(error)) => {
                let error = chain(&error);
                tracing::warn!(cluster = %object.key, error, "why pods are not there could not be asked");
                BTreeMap::new()
            }
            Err(_) => {
                tracing::warn!(cluster = %object.key, "why pods are not there was not answered in time");
                BTreeMap::new()
            }
        };
        self.refusals = Some(Refusals { asked, words });
    }
}
