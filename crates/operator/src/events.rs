//! Events: what was done, and what a person must know, where `kubectl describe` shows it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use shardwright_manifest::{Problems, Warning};
use shardwright_planner::safety::NoEviction;
use shardwright_planner::{Action, Reason, Step, Waiting};
use shardwright_runtime::Report;
use shardwright_runtime_kubernetes::namespace_ends;
use shardwright_topology::{Observed, ServerName};
use std::sync::Arc;
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::reason;
use crate::reasons;
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
    /// Whether one that says something else of the same is the same event once more, as of the batches of a move. Else it
    /// is an event of its own.
    pub repeats: bool,
}

impl Note {
    /// Something that a person should look at.
    pub fn warning(reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            warning: true,
            ..Self::normal(reason, text)
        }
    }

    /// Something that is good to know.
    pub fn normal(reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            warning: false,
            reason,
            text: short(text.into()),
            pod: None,
            repeats: false,
        }
    }
}

/// What a pass did: one note for each step that a person will ask about, and of the others one for each kind.
pub fn of_pass(report: &Report) -> Vec<Note> {
    let o = &report.observed;
    let mut notes = Vec::new();
    let mut by_kind: BTreeMap<&'static str, Vec<&Step>> = BTreeMap::new();
    for outcome in report.outcomes.iter().filter(|o| o.result.is_ok()) {
        let step = &outcome.step;
        let kind = reason::of_action(&step.action);
        if is_grave(step) {
            notes.push(Note {
                pod: pod(&step.action, o),
                ..Note::warning(kind, list(&[step], o))
            });
        } else {
            by_kind.entry(kind).or_default().push(step);
        }
    }
    let note = |(reason, steps): (&'static str, Vec<&Step>)| Note {
        pod: match steps.as_slice() {
            [one] => pod(&one.action, o),
            _ => None,
        },
        repeats: steps.iter().all(|step| repeats(&step.action)),
        ..Note::normal(reason, list(&steps, o))
    };
    notes.extend(by_kind.into_iter().map(note));
    notes
}

/// What only a person can end, of what was not waited for before.
pub fn of_waiting(waiting: &[Waiting], before: &[Waiting], o: &Observed) -> Vec<Note> {
    let new = waiting
        .iter()
        .filter(|w| w.needs_a_person() && !before.contains(w));
    let note = |w: &Waiting| {
        let text = reason::named(&reason::stable_text(w), o);
        Note::warning(event_reason(w), text)
    };
    new.map(note).collect()
}

/// A move that waits for a person has stopped; the condition says how far it is.
fn event_reason(waiting: &Waiting) -> &'static str {
    let word = reason::reason(waiting);
    if word == reasons::SLOTS_CANNOT_MOVE.word {
        "MoveStopped"
    } else {
        word
    }
}

/// What was written of the cluster's objects, each once.
pub fn of_apply(changed: &[String]) -> Option<Note> {
    let mut objects: Vec<&str> = Vec::new();
    for object in changed {
        if !objects.contains(&object.as_str()) {
            objects.push(object);
        }
    }
    (!objects.is_empty()).then(|| Note::normal("Applied", objects.join(", ")))
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
    Note::normal("EvictionsRefused", reason::named(&text, o))
}

/// A manifest that can't be used.
pub fn of_invalid(problems: &Problems) -> Note {
    Note::warning("InvalidSpec", format!("nothing was touched: {problems}"))
}

/// What is odd about a manifest that is used.
pub fn of_warnings(warnings: &[Warning]) -> Option<Note> {
    let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| Note::warning("SpecWarning", texts.join("; ")))
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
        ..Note::normal(reason, answer.text.clone())
    })
}

/// Something that the operator could not do.
pub fn of_error(label: &'static str, text: &str) -> Note {
    Note::warning(label, text)
}

/// A step that a person will ask about the next morning. A node that was to go is forgotten as it should be; one whose
/// directory was lost, or whose data was given up, is another matter.
fn is_grave(step: &Step) -> bool {
    match &step.action {
        Action::Failover { .. }
        | Action::Takeover { .. }
        | Action::StartAfresh { .. }
        | Action::Recreate { .. } => true,
        Action::Forget { .. } => {
            matches!(
                step.because,
                Reason::NodeGone | Reason::DataGivenUp | Reason::Returned
            )
        }
        Action::StartServer { .. }
        | Action::Replace { .. }
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

/// A step that is one of many: of these a person needs to know that they are taken, not each.
fn repeats(action: &Action) -> bool {
    match action {
        Action::MoveSlots { .. }
        | Action::MoveKeys { .. }
        | Action::AssignSlot { .. }
        | Action::CloseSlot { .. }
        | Action::SetElectable { .. }
        | Action::RaiseEpoch { .. }
        | Action::Meet { .. } => true,
        Action::Failover { .. }
        | Action::Takeover { .. }
        | Action::Forget { .. }
        | Action::StartAfresh { .. }
        | Action::Recreate { .. }
        | Action::StartServer { .. }
        | Action::Replace { .. }
        | Action::RemoveServer { .. }
        | Action::RecordFormed
        | Action::SetConfigEpoch { .. }
        | Action::AddSlots { .. }
        | Action::Replicate { .. }
        | Action::Switchover { .. }
        | Action::Reset { .. }
        | Action::CopyFunctions { .. } => false,
    }
}

fn pod(action: &Action, o: &Observed) -> Option<ServerName> {
    if let Action::StartServer { server }
    | Action::StartAfresh { server }
    | Action::Replace { server, .. }
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

/// What happened is a line as well as an event: events end after an hour.
pub(crate) fn log(notes: &[Note]) {
    for Note { reason, text, .. } in notes.iter().filter(|note| note.warning) {
        tracing::warn!(reason, "{text}");
    }
    for Note { reason, text, .. } in notes.iter().filter(|note| !note.warning) {
        tracing::info!(reason, "{text}");
    }
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
                    // Nobody is left who would read it.
                    Err(kube::Error::Api(status)) if namespace_ends(&status) => {
                        let (cluster, reason) = (name_of(&object), event.reason);
                        tracing::debug!(cluster, reason, "no event: its namespace ends");
                    }
                    Err(error) => {
                        let error = crate::error::chain(&error);
                        let cluster = name_of(&object);
                        let reason = event.reason;
                        tracing::warn!(cluster, reason, error, "an event was not published");
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

/// The object as the log names it: its publisher is a task of its own.
fn name_of(object: &ObjectReference) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&object.namespace), part(&object.name))
}

/// What the API server and the recorder tell events apart by, beside type, reason and objects: two that agree in all of it
/// are one that happened twice, and the text of the second is dropped.
fn action(note: &Note) -> String {
    if note.repeats {
        return note.reason.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    note.text.hash(&mut hasher);
    format!("{}-{:016x}", note.reason, hasher.finish())
}

fn event(object: &ObjectReference, note: Note) -> Event {
    let action = action(&note);
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
        action,
        secondary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_that_differ_are_events_of_their_own_and_batches_of_a_move_are_one() {
        let one = Note::warning("ShardLost", "the shard of redis-1 is gone");
        let other = Note::warning("ShardLost", "the shard of redis-2 is gone");
        assert_eq!(action(&one), action(&one.clone()));
        assert_ne!(action(&one), action(&other));
        // Kubernetes bounds it at 128 bytes.
        assert!(action(&one).len() <= 128 && action(&one).starts_with("ShardLost-"));
        let batch = |text: &str| Note {
            repeats: true,
            ..Note::normal("MoveSlots", text)
        };
        assert_eq!(action(&batch("slots 0-9")), action(&batch("slots 10-19")));
    }

    #[test]
    fn an_object_that_was_written_twice_is_named_once() {
        let changed = ["Secret a", "ConfigMap b", "Secret a"].map(str::to_owned);
        let note = of_apply(&changed).expect("something was written");
        assert_eq!(note.text, "Secret a, ConfigMap b");
        assert_eq!(of_apply(&[]), None);
    }
}
