//! What is told of a cluster while it is watched: the differences between one look and the next. Pure: it reads no clock,
//! and prints nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use shardwright_planner::{
    Action, Problem, ProblemKind, Severity as Weight, Waiting, diagnose, unserved,
};
use shardwright_runtime::Report;
use shardwright_topology::{NodeId, NodeView, Observed, Role, SlotSet, Timestamp};

use crate::codes;
use crate::progress::promotes;
use crate::report::{named, place};

/// How often what is not over is told again, with its age, in milliseconds.
const AGAIN_AFTER_MS: u64 = 60_000;
/// How long a problem must last before it is told, in milliseconds: links that are replaced, and news that is on its way,
/// are no problem.
const PASSING_MS: u64 = 2_000;
/// How long after its primary was silent last a replica's promotion is put down to that, in milliseconds: node-timeout,
/// an election, and the restart of the primary lie between.
const SILENCE_EXPLAINS_MS: u64 = 60_000;

/// How much an event matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Severity {
    /// Good to know.
    Info,
    /// Redundancy lacks, or something is not done.
    Warn,
    /// Clients are refused.
    Error,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// Something that happened, or that is so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    /// When it was seen.
    pub(crate) at: Timestamp,
    pub(crate) severity: Severity,
    /// What happened.
    pub(crate) what: String,
    /// The slots that it is about.
    pub(crate) slots: Option<SlotSet>,
    /// How long it lasted, or has lasted so far, in milliseconds.
    pub(crate) lasted_ms: Option<u64>,
    /// What caused it, as far as that was seen.
    pub(crate) cause: Option<String>,
    /// What happens next.
    pub(crate) next: Option<String>,
}

impl Event {
    pub(crate) fn new(at: Timestamp, severity: Severity, what: impl Into<String>) -> Self {
        Self {
            at,
            severity,
            what: what.into(),
            slots: None,
            lasted_ms: None,
            cause: None,
            next: None,
        }
    }

    fn lasting(self, ms: u64) -> Self {
        Self {
            lasted_ms: Some(ms),
            ..self
        }
    }

    fn because(self, cause: Option<String>) -> Self {
        Self { cause, ..self }
    }

    fn then(self, next: Option<String>) -> Self {
        Self { next, ..self }
    }

    fn about(self, slots: &SlotSet) -> Self {
        Self {
            slots: Some(slots.clone()),
            ..self
        }
    }

    /// A line for people: the time (RFC 3339, UTC), the severity, and what happened.
    pub(crate) fn line(&self) -> String {
        let head = format!(
            "{} {:5} {}",
            time(self.at),
            self.severity.as_str(),
            self.what
        );
        let slots = self.slots.as_ref();
        let parts = [
            slots.map(|slots| format!("{} slots: {slots}", slots.count())),
            self.lasted_ms.map(|ms| format!("for {}", age(ms))),
            self.cause.as_ref().map(|cause| format!("cause: {cause}")),
            self.next.as_ref().map(|next| format!("next: {next}")),
        ];
        [Some(head)]
            .into_iter()
            .chain(parts)
            .flatten()
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// An object for programs, laid out as the operator's logs are.
    pub(crate) fn json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("message".to_owned(), json!(self.what));
        if let Some(slots) = &self.slots {
            fields.insert("slots".to_owned(), json!(slots.listed()));
            fields.insert("slot_count".to_owned(), json!(slots.count()));
        }
        if let Some(ms) = self.lasted_ms {
            fields.insert("lasted_ms".to_owned(), json!(ms));
        }
        for (name, text) in [("cause", &self.cause), ("next", &self.next)] {
            if let Some(text) = text {
                fields.insert(name.to_owned(), json!(text));
            }
        }
        json!({
            "timestamp": time(self.at),
            "level": self.severity.as_str(),
            "fields": fields,
            "target": "shardwright::watch",
        })
    }
}

/// A time in RFC 3339, UTC, with milliseconds.
fn time(at: Timestamp) -> String {
    let ms = i64::try_from(at.0).ok();
    let time = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    // The clock of a machine that is set past the year 9999.
    time.map_or_else(|| format!("{} ms", at.0), |time| format!("{time:.3}"))
}

fn age(ms: u64) -> String {
    match ms {
        0..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// Something that is wrong, or waits for a person.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Concern {
    text: String,
    severity: Severity,
}

/// What one look showed, as far as it is told of.
#[derive(Clone, Debug, Default)]
struct Snapshot {
    at: Timestamp,
    /// Slots that no reachable node serves.
    unserved: SlotSet,
    /// Why, as far as that is known.
    why_unserved: Option<String>,
    /// What else is wrong, or waits for a person, by what stays the same of it while its figures change.
    problems: BTreeMap<String, Concern>,
    /// The roles that nodes say they have: a primary is one with slots.
    roles: BTreeMap<NodeId, Role>,
    /// Whom replicas follow.
    follows: BTreeMap<NodeId, NodeId>,
    /// Members that are unreachable.
    silent: BTreeSet<NodeId>,
    /// How members are called.
    names: BTreeMap<NodeId, String>,
    /// Whom we promoted in this pass, and why.
    promoted: BTreeMap<NodeId, String>,
    /// What was done beside, or was not.
    done: Vec<(Severity, String)>,
    /// What is done next, or waited for.
    next: Option<String>,
    /// Whether nothing is to be done or waited for.
    converged: bool,
}

impl Snapshot {
    fn of(report: &Report) -> Self {
        let o = &report.observed;
        let problems = diagnose(o);
        let unserved = unserved(o);
        let (why, others): (Vec<&Problem>, Vec<&Problem>) = problems
            .iter()
            .filter(|p| p.severity == Weight::Fatal)
            .partition(|p| leaves_unserved(&p.kind));
        let tell = |p: &Problem| named(&p.kind.to_string(), o);
        let why = why.into_iter().max_by_key(|p| match p.kind {
            ProblemKind::MajorityLost(_) => 2,
            ProblemKind::PrimaryDown { .. } => 1,
            _ => 0,
        });
        let warn = |text: String| Concern {
            text,
            severity: Severity::Warn,
        };
        let others = others.into_iter();
        let mut told: BTreeMap<String, Concern> = others
            .map(|p| (key_of_problem(&p.kind), warn(tell(p))))
            .collect();
        let waits = report.plan.waiting.iter().filter(|w| w.needs_a_person());
        told.extend(waits.map(|w| {
            let text = format!("waiting: {}", named(&w.to_string(), o));
            (key_of_wait(w), warn(text))
        }));
        let first_step = report.plan.steps.first().map(|s| s.action.to_string());
        let first_wait = report.plan.waiting.first().map(|w| format!("waits: {w}"));
        let mut seen = Self {
            at: o.at,
            unserved,
            why_unserved: why.map(tell),
            problems: told,
            next: first_step.or(first_wait).map(|text| named(&text, o)),
            converged: report.plan.is_settled(),
            ..Self::default()
        };
        seen.note_members(o);
        seen.note_outcomes(report);
        seen
    }

    fn note_members(&mut self, o: &Observed) {
        for member in o.members().values() {
            self.names.insert(member.id, place(o, member.id));
            let Some(own) = o.view_of(member.id).and_then(NodeView::own) else {
                self.silent.insert(member.id);
                continue;
            };
            if own.role == Role::Replica || !own.slots.is_empty() {
                self.roles.insert(member.id, own.role);
            }
            if let Some(primary) = own.primary {
                self.follows.insert(member.id, primary);
            }
        }
    }

    fn note_outcomes(&mut self, report: &Report) {
        for outcome in &report.outcomes {
            let step = &outcome.step;
            let what = named(&step.to_string(), &report.observed);
            match (&step.action, &outcome.result) {
                (action, Ok(()))
                    if promotes(action) || matches!(action, Action::Switchover { .. }) =>
                {
                    if let Some(replica) = step.action.at() {
                        self.promoted.insert(replica, what);
                    }
                }
                (Action::StartServer { .. } | Action::StartAfresh { .. }, Ok(())) => {
                    self.done.push((Severity::Info, what));
                }
                (Action::StartServer { .. } | Action::StartAfresh { .. }, Err(error)) => {
                    self.done
                        .push((Severity::Warn, format!("{what}: not done: {error}")));
                }
                _ => {}
            }
        }
    }
}

/// Whether this is why slots are not served: it is told with them.
fn leaves_unserved(kind: &ProblemKind) -> bool {
    matches!(
        kind,
        ProblemKind::Uncovered(_)
            | ProblemKind::CoverageUnknown { .. }
            | ProblemKind::Unowned { .. }
            | ProblemKind::MajorityLost(_)
            | ProblemKind::PrimaryDown { .. }
    )
}

/// What stays the same of a problem while its figures change.
fn key_of_problem(kind: &ProblemKind) -> String {
    match kind {
        ProblemKind::StrayKeys { node, .. } => format!("stray keys {node}"),
        other => other.to_string(),
    }
}

/// The same of something that is waited for.
fn key_of_wait(wait: &Waiting) -> String {
    let code = codes::of_wait(wait);
    match wait {
        Waiting::Moves { .. } => format!("waiting: {code}"),
        Waiting::OpenSlotHeld { slot, .. } => format!("waiting: {code} {slot}"),
        Waiting::StrayKeys { node, .. } => format!("waiting: {code} {node}"),
        Waiting::Foreign { server, .. } => format!("waiting: {code} {server}"),
        other => format!("waiting: {other}"),
    }
}

/// Something that lasts.
#[derive(Clone, Debug)]
struct Lasting {
    /// As it was seen last.
    concern: Concern,
    since: Timestamp,
    /// When it was told last; none while it may be passing.
    told: Option<Timestamp>,
}

/// What was seen and told of a cluster so far.
#[derive(Debug, Default)]
pub(crate) struct EventTracker {
    before: Option<Snapshot>,
    /// Slots that are not served and were told of; since when, and when that was told last.
    unserved: Option<(SlotSet, Timestamp, Timestamp)>,
    problems: BTreeMap<String, Lasting>,
    roles: BTreeMap<NodeId, Role>,
    silent_at: BTreeMap<NodeId, Timestamp>,
    promoted: BTreeMap<NodeId, String>,
    /// Since when something was told that "healthy" has not followed yet. None while it is healthy.
    unhealthy_since: Option<Timestamp>,
    begun: bool,
}

impl EventTracker {
    /// What there is to tell of a pass.
    pub(crate) fn pass(&mut self, report: &Report) -> Vec<Event> {
        self.see(Snapshot::of(report))
    }

    fn see(&mut self, seen: Snapshot) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        for (severity, what) in &seen.done {
            events.push(Event::new(seen.at, *severity, what.clone()));
        }
        self.promotions(&seen, &mut events);
        self.slots(&seen, &mut events);
        self.lasting(&seen, &mut events);
        if !events.is_empty() || !seen.unserved.is_empty() {
            self.unhealthy_since.get_or_insert(seen.at);
        }
        let well = seen.converged && seen.unserved.is_empty() && seen.problems.is_empty();
        if well && (self.unhealthy_since.is_some() || !self.begun) {
            let healthy = Event::new(seen.at, Severity::Info, "healthy");
            events.push(match self.unhealthy_since.take() {
                Some(since) if self.begun => Event {
                    what: "healthy again".to_owned(),
                    ..healthy.lasting(seen.at.since_ms(since))
                },
                Some(_) | None => healthy,
            });
        }
        self.begun = true;
        self.before = Some(seen);
        events
    }

    /// Who became a primary, and by whose doing.
    fn promotions(&mut self, seen: &Snapshot, events: &mut Vec<Event>) {
        self.promoted.extend(seen.promoted.clone());
        self.silent_at
            .extend(seen.silent.iter().map(|id| (*id, seen.at)));
        for (id, role) in &seen.roles {
            let was = self.roles.insert(*id, *role);
            if (was, *role) != (Some(Role::Replica), Role::Primary) {
                continue;
            }
            let old = self
                .before
                .as_ref()
                .and_then(|b| b.follows.get(id))
                .copied();
            let name = |id: &NodeId| seen.names.get(id).cloned().unwrap_or_else(|| id.short());
            let what = match old {
                Some(old) => format!("{} is the primary in place of {}", name(id), name(&old)),
                None => format!("{} is a primary", name(id)),
            };
            let cause = self.promoted.remove(id).unwrap_or_else(|| {
                let silent = old.and_then(|old| self.silent_at.get(&old));
                match silent {
                    Some(at) if seen.at.since_ms(*at) <= SILENCE_EXPLAINS_MS => {
                        "the engine's own failover: its primary did not answer".to_owned()
                    }
                    Some(_) | None => {
                        "a person or another program: its primary answered".to_owned()
                    }
                }
            });
            let event = Event::new(seen.at, Severity::Warn, what);
            events.push(event.because(Some(cause)).then(seen.next.clone()));
        }
    }

    /// Slots that no reachable node serves. What two looks show counts: while slots move, one look asks both ends at two times.
    fn slots(&mut self, seen: &Snapshot, events: &mut Vec<Event>) {
        let before = self.before.as_ref().map(|b| &b.unserved);
        let down = before.map_or_else(SlotSet::empty, |b| b.intersection(&seen.unserved));
        let tell = |what: &str| {
            let event = Event::new(seen.at, Severity::Error, what).about(&down);
            event
                .because(seen.why_unserved.clone())
                .then(seen.next.clone())
        };
        match self.unserved.take() {
            None if down.is_empty() => {}
            None => {
                events.push(tell("slots are not served"));
                self.unserved = Some((down, seen.at, seen.at));
            }
            Some((slots, since, _)) if seen.unserved.is_empty() => {
                let event = Event::new(seen.at, Severity::Info, "slots are served again");
                events.push(event.about(&slots).lasting(seen.at.since_ms(since)));
            }
            Some((slots, since, told)) => {
                let more = !down.is_empty() && down != slots;
                let due = seen.at.since_ms(told) >= AGAIN_AFTER_MS;
                let told = if more || due {
                    events.push(tell("slots are not served").lasting(seen.at.since_ms(since)));
                    seen.at
                } else {
                    told
                };
                self.unserved = Some((if more { down } else { slots }, since, told));
            }
        }
    }

    /// Problems that begin, last and end.
    fn lasting(&mut self, seen: &Snapshot, events: &mut Vec<Event>) {
        let at = seen.at;
        for (key, concern) in &seen.problems {
            let fresh = || Lasting {
                concern: concern.clone(),
                since: at,
                told: None,
            };
            let lasting = self.problems.entry(key.clone()).or_insert_with(fresh);
            lasting.concern.clone_from(concern);
            let lasted = at.since_ms(lasting.since);
            let event = || {
                let what = concern.text.clone();
                Event::new(at, concern.severity, what).then(seen.next.clone())
            };
            match lasting.told {
                None if lasted >= PASSING_MS => events.push(event()),
                Some(told) if at.since_ms(told) >= AGAIN_AFTER_MS => {
                    events.push(event().lasting(lasted));
                }
                None | Some(_) => continue,
            }
            lasting.told = Some(at);
        }
        self.problems.retain(|key, lasting| {
            let lasts = seen.problems.contains_key(key);
            if !lasts && lasting.told.is_some() {
                let what = format!("over: {}", lasting.concern.text);
                let event = Event::new(at, Severity::Info, what);
                events.push(event.lasting(at.since_ms(lasting.since)));
            }
            lasts
        });
    }
}

#[cfg(test)]
mod tests;
