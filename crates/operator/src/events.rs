//! Events: what was done, and what a person must know, where `kubectl describe` shows it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use shardwright_manifest::{Problems, Warning};
use shardwright_planner::safety::NoEviction;
use shardwright_planner::{Action, Step, Waiting};
use shardwright_runtime::Report;
use shardwright_topology::{NodeId, Observed, ServerName, Timestamp};
use std::sync::Arc;
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::reason;
use crate::status::{Answer, AnswerState};

/// Kubernetes refuses a note above 1024 bytes (events.k8s.io/v1, field `note`).
const NOTE_MAX: usize = 1_000;
/// How many notes may wait to be published. A pass makes one for each kind of step, so this is dozens of passes.
const QUEUE_MAX: usize = 256;

/// One event, before it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether a person should look.
    pub warning: bool,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// What happened.
    pub text: String,
    /// The pod it happened at, if it was one.
    pub pod: Option<ServerName>,
}

/// What a pass did: one note for each kind of step that was done.
pub fn of_pass(report: &Report) -> Vec<Note> {
    let mut by_kind: BTreeMap<&'static str, Vec<&Step>> = BTreeMap::new();
    for outcome in report.outcomes.iter().filter(|o| o.result.is_ok()) {
        let kind = reason::of_action(&outcome.step.action);
        by_kind.entry(kind).or_default().push(&outcome.step);
    }
    let note = |(reason, steps): (&'static str, Vec<&Step>)| Note {
        warning: steps.iter().any(|s| is_grave(&s.action)),
        reason,
        text: list(&steps, &report.observed),
        pod: match steps.as_slice() {
            [one] => pod(&one.action, &report.observed),
            _ => None,
        },
    };
    by_kind.into_iter().map(note).collect()
}

/// What only a person can end, of what was not waited for before.
pub fn of_waiting(waiting: &[Waiting], before: &[Waiting], o: &Observed) -> Vec<Note> {
    let new = waiting
        .iter()
        .filter(|w| w.needs_a_person() && !before.iter().any(|told| is_same(told, w)));
    new.map(|w| Note {
        warning: true,
        reason: reason::reason(w),
        text: short(reason::named(&reason::stable_text(w), o)),
        pod: None,
    })
    .collect()
}

/// Which dropped writes were reported already: of each former primary, when they were found.
#[derive(Debug, Default)]
pub struct ReportedDrops(BTreeMap<NodeId, Timestamp>);

impl ReportedDrops {
    /// The events of what was found since the last call: each find has one.
    pub fn new_events(&mut self, o: &Observed) -> Vec<Note> {
        let found = o.dropped_writes.values();
        let new = found.filter(|dropped| {
            let before = self.0.insert(dropped.node, dropped.at);
            before != Some(dropped.at)
        });
        new.map(|dropped| Note {
            warning: true,
            reason: "AcknowledgedWritesDropped",
            text: short(reason::named(&dropped.to_string(), o)),
            pod: o.server_of(dropped.node).map(|s| s.name.clone()),
        })
        .collect()
    }
}

/// Whether two waits tell the same, but for figures that change from pass to pass.
fn is_same(one: &Waiting, other: &Waiting) -> bool {
    match (one, other) {
        (Waiting::ForeignNodesMet(one), Waiting::ForeignNodesMet(other)) => one.is_like(other),
        _ => one == other,
    }
}

/// What was written of the cluster's objects.
pub fn of_apply(changed: &[String]) -> Option<Note> {
    (!changed.is_empty()).then(|| Note {
        warning: false,
        reason: "Applied",
        text: short(changed.join(", ")),
        pod: None,
    })
}

/// Why the disruption budget lets no pod go, the first reason and how many more there are.
pub fn of_evictions_refused(why: &[NoEviction], o: &Observed) -> Note {
    let first = why.first().map(|why| format!(": {why}"));
    let more = match why.len() {
        0 | 1 => String::new(),
        all => format!(" (+{} more)", all - 1),
    };
    let text = format!(
        "no pod may be evicted until every shard has a replica that can take over{}{more}",
        first.as_deref().unwrap_or("")
    );
    Note {
        warning: false,
        reason: "EvictionsRefused",
        text: short(reason::named(&text, o)),
        pod: None,
    }
}

/// A manifest that can't be used.
pub fn of_invalid(problems: &Problems) -> Note {
    Note {
        warning: true,
        reason: "InvalidSpec",
        text: short(format!("nothing was touched: {problems}")),
        pod: None,
    }
}

/// What is odd about a manifest that is used.
pub fn of_warnings(warnings: &[Warning]) -> Option<Note> {
    let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| Note {
        warning: true,
        reason: "SpecWarning",
        text: short(texts.join("; ")),
        pod: None,
    })
}

/// The answer to what a person asked for.
pub fn of_answer(answer: &Answer) -> Option<Note> {
    let reason = match answer.state {
        AnswerState::UnderWay => return None,
        AnswerState::Done => "RequestDone",
        AnswerState::Refused => "RequestRefused",
    };
    Some(Note {
        warning: answer.state == AnswerState::Refused,
        reason,
        text: short(answer.text.clone()),
        pod: None,
    })
}

/// Something that the operator could not do.
pub fn of_error(label: &'static str, text: &str) -> Note {
    Note {
        warning: true,
        reason: label,
        text: short(text.to_owned()),
        pod: None,
    }
}

/// A step that a person will ask about the next morning.
fn is_grave(action: &Action) -> bool {
    match action {
        Action::Failover { .. }
        | Action::Takeover { .. }
        | Action::TakeBack { .. }
        | Action::Forget { .. }
        | Action::StartAfresh { .. }
        | Action::Recreate { .. } => true,
        Action::StartServer { .. }
        | Action::RemoveServer { .. }
        | Action::RecordFormed
        | Action::SetConfigEpoch { .. }
        | Action::AddSlots { .. }
        | Action::Meet { .. }
        | Action::Replicate { .. }
        | Action::Switchover { .. }
        | Action::Reset { .. }
        | Action::CloseSlot { .. }
        | Action::CopyFunctions { .. }
        | Action::SetElectable { .. }
        | Action::AssignSlot { .. }
        | Action::RaiseEpoch { .. }
        | Action::MoveKeys { .. }
        | Action::MoveSlots { .. } => false,
    }
}

fn pod(action: &Action, o: &Observed) -> Option<ServerName> {
    if let Action::StartServer { server }
    | Action::StartAfresh { server }
    | Action::RemoveServer { server }
    | Action::Recreate { server, .. } = action
    {
        return Some(server.clone());
    }
    o.server_of(action.at()?).map(|s| s.name.clone())
}

/// All steps, as far as a note holds them.
fn list(steps: &[&Step], o: &Observed) -> String {
    let mut text = String::new();
    for (done, step) in steps.iter().enumerate() {
        let next = reason::named(&step.to_string(), o);
        if text.len() + next.len() + 20 > NOTE_MAX {
            let more = format!("; and {} more", steps.len() - done);
            text.push_str(&more);
            break;
        }
        if done > 0 {
            text.push_str("; ");
        }
        text.push_str(&next);
    }
    short(text)
}

fn short(text: String) -> String {
    reason::cut(text, NOTE_MAX)
}

/// Publishes notes, in a task of its own: a pass never waits for an event.
#[derive(Clone, Debug)]
pub struct Publisher {
    queue: mpsc::Sender<(ObjectReference, Note)>,
}

impl Publisher {
    /// Begins. `instance` is the name of this operator among others.
    pub fn start(client: Client, instance: &str, metrics: Arc<Metrics>) -> Self {
        let (queue, mut waiting) = mpsc::channel::<(ObjectReference, Note)>(QUEUE_MAX);
        let reporter = Reporter {
            controller: "shardwright".to_owned(),
            instance: Some(instance.to_owned()),
        };
        let recorder = Recorder::new(client, reporter);
        tokio::spawn(async move {
            while let Some((object, note)) = waiting.recv().await {
                let event = event(&object, note);
                match recorder.publish(&event, &object).await {
                    Ok(()) => metrics.wrote("event"),
                    Err(error) => {
                        let error = crate::error::chain(&error);
                        tracing::warn!(error, reason = event.reason, "an event was not published");
                    }
                }
            }
        });
        Self { queue }
    }

    /// Publishes these about an object, as soon as may be.
    pub fn tell(&self, object: &ObjectReference, notes: impl IntoIterator<Item = Note>) {
        for note in notes {
            let reason = note.reason;
            if self.queue.try_send((object.clone(), note)).is_err() {
                tracing::warn!(reason, "too many events: one was left out");
            }
        }
    }
}

fn event(object: &ObjectReference, note: Note) -> Event {
    // With the pod in it, two failovers of different shards are two events, and not one that happened twice.
    let secondary = note.pod.map(|ServerName(name)| ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name),
        namespace: object.namespace.clone(),
        ..ObjectReference::default()
    });
    Event {
        type_: if note.warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: note.reason.to_owned(),
        note: Some(note.text),
        action: note.reason.to_owned(),
        secondary,
    }
}

#[cfg(test)]
mod tests {
    use shardwright_topology::{DroppedBytes, DroppedWrites};

    use super::*;

    #[test]
    fn dropped_writes_are_a_warning_of_their_own_that_comes_once() {
        let node = NodeId::from_bytes([1; 20]);
        let mut o = Observed::new(Timestamp(9), None, []);
        let mut reported = ReportedDrops::default();
        assert_eq!(reported.new_events(&o), []);
        let mut find = |at| {
            let dropped = DroppedWrites {
                node,
                successor: NodeId::from_bytes([2; 20]),
                bytes: DroppedBytes::All(340),
                unreachable_ms: 21_000,
                at: Timestamp(at),
            };
            o.dropped_writes.insert(node, dropped);
            reported.new_events(&o)
        };
        let first = find(5);
        let [event] = first.as_slice() else {
            panic!("one event: {first:?}");
        };
        assert_eq!(
            (event.warning, event.reason),
            (true, "AcknowledgedWritesDropped")
        );
        assert!(
            event.text.starts_with("up to 20 acknowledged write(s)"),
            "{event:?}"
        );
        assert_eq!(find(5), []);
        assert_eq!(find(6).len(), 1, "it was frozen once more");
    }
}
