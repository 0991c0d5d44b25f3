//! What the operator counts.

use std::collections::BTreeSet;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use shardwright_runtime::Report;

use crate::reason;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// The metrics and their registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    passes: Counter,
    pass_seconds: Histogram,
    steps: Family<Step, Counter>,
    writes: Family<Kind, Counter>,
    errors: Family<Kind, Counter>,
    waiting: Family<Reason, Gauge>,
    clusters: Family<State, Gauge>,
    leading: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        // A pass over a healthy cluster takes milliseconds, one that meets a silent server up to seconds.
        let buckets = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
        let mut new = Self {
            registry: Registry::with_prefix("shardwright"),
            passes: Counter::default(),
            pass_seconds: Histogram::new(buckets),
            steps: Family::default(),
            writes: Family::default(),
            errors: Family::default(),
            waiting: Family::default(),
            clusters: Family::default(),
            leading: Gauge::default(),
        };
        new.register();
        new
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("passes", "Passes over clusters", self.passes.clone());
        r.register_with_unit(
            "pass",
            "How long a pass took",
            Unit::Seconds,
            self.pass_seconds.clone(),
        );
        let help = "Steps taken at servers, by kind and result";
        r.register("steps", help, self.steps.clone());
        let help = "Writes to the API server, by what was written; the lease is not counted";
        r.register("writes", help, self.writes.clone());
        let help = "Passes that ended in an error, by its kind";
        r.register("errors", help, self.errors.clone());
        let help = "Clusters that wait for something, by what";
        r.register("waiting", help, self.waiting.clone());
        r.register("clusters", "Clusters, by state", self.clusters.clone());
        let help = "1 while this operator holds the lease";
        r.register("leading", help, self.leading.clone());
    }

    /// The text that Prometheus reads. None if it could not be written.
    pub fn text(&self) -> Option<String> {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => Some(text),
            Err(error) => {
                tracing::error!(%error, "the metrics can't be written");
                None
            }
        }
    }

    /// A pass was made.
    pub fn passed(&self, took: Duration, report: &Report) {
        self.passes.inc();
        self.pass_seconds.observe(took.as_secs_f64());
        for outcome in &report.outcomes {
            let kind = reason::of_action(&outcome.step.action);
            let result = if outcome.result.is_ok() {
                "done"
            } else {
                "not_done"
            };
            self.steps.get_or_create(&Step { kind, result }).inc();
        }
    }

    /// A pass ended in an error of this kind.
    pub fn failed(&self, kind: &'static str) {
        self.passes.inc();
        self.errors.get_or_create(&Kind { kind }).inc();
    }

    /// Something was written to the API server.
    pub fn wrote(&self, kind: &'static str) {
        self.writes.get_or_create(&Kind { kind }).inc();
    }

    /// Whether this operator holds the lease.
    pub fn leads(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }
}

/// What one cluster adds to the gauges; it is taken back when this is dropped.
#[derive(Debug)]
pub struct Share<'a> {
    metrics: &'a Metrics,
    state: Option<&'static str>,
    waiting: BTreeSet<&'static str>,
}

impl<'a> Share<'a> {
    /// Of a cluster of which nothing is known yet.
    pub fn new(metrics: &'a Metrics) -> Self {
        Self {
            metrics,
            state: None,
            waiting: BTreeSet::new(),
        }
    }

    /// From now on it is in this state and waits for these.
    pub fn set(&mut self, state: Option<&'static str>, waiting: BTreeSet<&'static str>) {
        if self.state != state {
            let gauge = |state| self.metrics.clusters.get_or_create_owned(&State { state });
            if let Some(old) = self.state {
                gauge(old).dec();
            }
            if let Some(new) = state {
                gauge(new).inc();
            }
            self.state = state;
        }
        let gauge = |reason| self.metrics.waiting.get_or_create_owned(&Reason { reason });
        for old in self.waiting.difference(&waiting) {
            gauge(old).dec();
        }
        for new in waiting.difference(&self.waiting) {
            gauge(new).inc();
        }
        self.waiting = waiting;
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.set(None, BTreeSet::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_counted_while_it_is_there() {
        let metrics = Metrics::default();
        let count = |line: &str| {
            let text = metrics.text().expect("the metrics can be written");
            text.lines().any(|l| l == line)
        };
        {
            let mut one = Share::new(&metrics);
            let mut two = Share::new(&metrics);
            one.set(Some("Ready"), BTreeSet::new());
            two.set(Some("Forming"), BTreeSet::from(["PodsMissing"]));
            two.set(Some("Ready"), BTreeSet::new());
            assert!(count("shardwright_clusters{state=\"Ready\"} 2"));
            assert!(count("shardwright_clusters{state=\"Forming\"} 0"));
            assert!(count("shardwright_waiting{reason=\"PodsMissing\"} 0"));
        }
        assert!(count("shardwright_clusters{state=\"Ready\"} 0"));
    }

    #[test]
    fn every_metric_has_its_name() {
        let metrics = Metrics::default();
        metrics.failed("api");
        metrics.wrote("status");
        metrics.leads(true);
        let text = metrics.text().expect("the metrics can be written");
        for name in [
            "shardwright_passes_total 1",
            "shardwright_errors_total{kind=\"api\"} 1",
            "shardwright_writes_total{kind=\"status\"} 1",
            "shardwright_leading 1",
            "shardwright_pass_seconds_count 0",
        ] {
            assert!(text.contains(name), "{name} is not in\n{text}");
        }
    }
}
