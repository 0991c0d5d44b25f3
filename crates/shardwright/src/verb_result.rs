//! What a run did, as `-o json` tells it: one object at the end of standard output, of one type for every verb.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Serialize;
use serde_json::{Map, Value};
use shardwright_planner::{Action, Consent, Plan, Step, Waiting};
use shardwright_runtime::{Outcome, Report, StepError};
use shardwright_topology::{NodeId, Observed, SlotSet};

use crate::codes;
use crate::exit::{ExitStatus, NotDone};
use crate::hint::hint;
use crate::report::{causes, identified};

/// How a run ended, in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ending {
    /// What was asked for is so, or was told.
    Done,
    /// It was shown what would be done, and nothing was.
    Planned,
    /// A person did not agree, or could not be asked.
    Declined,
    /// It was looked at, and a problem makes it unhealthy.
    Unhealthy,
    /// Part of it was done, or done at some nodes only.
    Incomplete,
    /// Not done, because it is unsafe or a person has to choose.
    Refused,
    /// Not done within its time limit.
    TimedOut,
    /// Ended by a signal.
    Interrupted,
    /// The command line or the document was wrong; nothing was changed.
    UsageError,
    /// Anything else.
    Failed,
}

/// Whether a run changed anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Changed {
    #[default]
    No,
    /// Something was sent, and it is not known what came of it.
    Unknown,
    Yes,
}

/// The object itself. Lists are empty and values `null` where there is nothing to tell.
#[derive(Debug, Serialize)]
pub(crate) struct VerbResult<'a> {
    /// `null`: none was understood.
    verb: Option<&'a str>,
    /// The cluster as it was named; `null` where none is meant.
    cluster: Option<&'a str>,
    outcome: Ending,
    /// The exit status of this process.
    exit_code: u8,
    dry_run: bool,
    /// `null`: something was sent, and it is not known what came of it.
    changed: Option<bool>,
    /// What is so now.
    message: Option<&'a str>,
    warnings: &'a [String],
    steps: &'a [StepResult],
    waiting: &'a [Wait],
    error: Option<ErrorResult>,
    /// What this verb tells beside that.
    #[serde(flatten)]
    data: &'a Map<String, Value>,
}

/// Why a run did not do what was asked for.
#[derive(Debug, Serialize)]
struct ErrorResult {
    /// One of `codes`: stable.
    code: &'static str,
    /// For people.
    message: String,
    /// What to do about it, where that is known.
    remedy: Option<String>,
}

/// A node, named the same way wherever one is named.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NodeRef {
    /// The whole id.
    pub(crate) id: String,
    /// The server that it lives on, by name or address; `null` where it is not known.
    pub(crate) server: Option<String>,
}

impl NodeRef {
    pub(crate) fn of(o: &Observed, node: NodeId) -> Self {
        let member = o.member(node);
        let server = member.map(|m| {
            m.server
                .as_ref()
                .map_or_else(|| m.address.to_string(), ToString::to_string)
        });
        Self {
            id: node.to_string(),
            server,
        }
    }
}

/// How it stands with a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum StepState {
    Planned,
    Done,
    /// Not done; `error` says why.
    Failed,
    /// Not sent: what it assumed was no longer so, or an earlier step at its node was not done.
    NotSent,
}

/// A step of a plan.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StepResult {
    /// For people.
    action: String,
    because: Option<String>,
    /// The nodes that it is done at or about.
    nodes: Vec<NodeRef>,
    /// The server that it is about, where it is done at no node.
    server: Option<String>,
    /// All slots that it gives or moves.
    slots: Option<String>,
    state: StepState,
    error: Option<String>,
    /// How often it was taken: what is not done at once is taken again.
    times: u32,
}

impl StepResult {
    fn of(step: &Step, o: &Observed, state: StepState, error: Option<String>) -> Self {
        let node = |id: &NodeId| NodeRef::of(o, *id);
        Self {
            action: identified(&step.action.to_string(), o),
            because: Some(identified(&step.because.to_string(), o)),
            nodes: step.action.nodes().iter().map(node).collect(),
            server: step.action.server().map(ToString::to_string),
            slots: slots_of(&step.action),
            state,
            error,
            times: 1,
        }
    }

    fn ended(outcome: &Outcome, o: &Observed) -> Self {
        let (state, error) = match &outcome.result {
            Ok(()) => (StepState::Done, None),
            Err(error @ (StepError::Moved(_) | StepError::Skipped)) => {
                (StepState::NotSent, Some(error.to_string()))
            }
            Err(error) => (StepState::Failed, Some(causes(error))),
        };
        let error = error.map(|text| identified(&text, o));
        Self::of(&outcome.step, o, state, error)
    }
}

fn slots_of(action: &Action) -> Option<String> {
    let (Action::AddSlots { slots, .. } | Action::MoveSlots { slots, .. }) = action else {
        return None;
    };
    Some(slots.listed())
}

/// Something that is waited for.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Wait {
    /// One of `codes`: stable.
    code: &'static str,
    /// For people.
    message: String,
    /// Whether it ends only by what a person does.
    manual: bool,
    /// What that is, where the message does not say it.
    remedy: Option<String>,
    /// All slots that it is about.
    slots: Option<String>,
}

impl Wait {
    /// A wait as it is told, for one who has consented to so much.
    pub(crate) fn of(wait: &Waiting, o: &Observed, consent: Consent) -> Self {
        let hint = hint(wait, consent, o);
        let remedy = hint.trim_start_matches("; ");
        Self {
            code: codes::of_wait(wait),
            message: identified(&wait.to_string(), o),
            manual: wait.needs_a_person(),
            remedy: (!remedy.is_empty()).then(|| remedy.to_owned()),
            slots: wait.slots().map(SlotSet::listed),
        }
    }

    fn all(plan: &Plan, o: &Observed, consent: Consent) -> Vec<Self> {
        let waiting = plan.waiting.iter();
        waiting.map(|wait| Self::of(wait, o, consent)).collect()
    }
}

/// What is known of a run so far.
#[derive(Debug, Default)]
pub(crate) struct Record {
    ending: Option<Ending>,
    changed: Changed,
    cluster: Option<String>,
    message: Option<String>,
    warnings: Vec<String>,
    steps: Vec<StepResult>,
    /// Where each step stands in `steps`.
    taken: BTreeMap<String, usize>,
    waiting: Vec<Wait>,
    data: Map<String, Value>,
}

impl Record {
    /// The cluster, where the verb knows it better than its arguments do.
    pub(crate) fn cluster(&mut self, name: String) {
        self.cluster = Some(name);
    }

    /// How it ended, where the exit status alone does not tell.
    pub(crate) fn ending(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// From now on something may be sent: until more is known, whether anything changed is not.
    pub(crate) fn begin(&mut self) {
        if self.changed == Changed::No {
            self.changed = Changed::Unknown;
        }
    }

    /// Whether something was changed is known.
    pub(crate) fn changed(&mut self, changed: bool) {
        self.changed = match (self.changed, changed) {
            (Changed::Yes, _) | (_, true) => Changed::Yes,
            (_, false) => Changed::No,
        };
    }

    pub(crate) fn message(&mut self, text: &str) {
        self.message = Some(text.trim_start_matches("[OK] ").to_owned());
    }

    pub(crate) fn warning(&mut self, text: &str) {
        self.warnings.push(text.to_owned());
    }

    /// Something that would be done, in words.
    pub(crate) fn would(&mut self, text: &str) {
        self.steps.push(StepResult {
            action: text.to_owned(),
            because: None,
            nodes: Vec::new(),
            server: None,
            slots: None,
            state: StepState::Planned,
            error: None,
            times: 1,
        });
    }

    /// What would be done.
    pub(crate) fn plan(&mut self, plan: &Plan, o: &Observed, consent: Consent) {
        let steps = plan.steps.iter();
        self.steps = steps
            .map(|step| StepResult::of(step, o, StepState::Planned, None))
            .collect();
        self.waiting = Wait::all(plan, o, consent);
    }

    /// What a pass did. A step that is taken again is told once, as it ended last.
    pub(crate) fn pass(&mut self, report: &Report, consent: Consent) {
        for outcome in &report.outcomes {
            match &outcome.result {
                Ok(()) => self.changed(true),
                Err(StepError::Moved(_) | StepError::Skipped) => {}
                Err(_) => self.begin(),
            }
            let step = StepResult::ended(outcome, &report.observed);
            let key = format!("{:?}", outcome.step.action);
            let before = self.taken.get(&key);
            if let Some(before) = before.and_then(|at| self.steps.get_mut(*at)) {
                let times = before.times + 1;
                *before = StepResult { times, ..step };
            } else {
                self.taken.insert(key, self.steps.len());
                self.steps.push(step);
            }
        }
        self.waiting = Wait::all(&report.plan, &report.observed, consent);
    }

    /// Data of this verb, under a name of its own.
    pub(crate) fn put(&mut self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        self.data
            .insert(name.to_owned(), serde_json::to_value(value)?);
        Ok(())
    }

    /// Data of this verb, each field under its own name.
    pub(crate) fn put_fields(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        let Value::Object(fields) = serde_json::to_value(value)? else {
            anyhow::bail!("a value without fields");
        };
        self.data.extend(fields);
        Ok(())
    }

    /// The whole, once it has ended.
    pub(crate) fn text(
        &self,
        asked: &Asked,
        ended: &anyhow::Result<ExitStatus>,
        in_a_line: bool,
    ) -> anyhow::Result<String> {
        let status = match ended {
            Ok(status) => *status,
            Err(error) => ExitStatus::of(error),
        };
        let result = VerbResult {
            verb: asked.verb.as_deref(),
            cluster: self.cluster.as_deref().or(asked.cluster.as_deref()),
            outcome: self.outcome(asked, ended, status),
            exit_code: status.code(),
            dry_run: asked.dry_run,
            changed: match self.changed {
                Changed::No => Some(false),
                Changed::Unknown => None,
                Changed::Yes => Some(true),
            },
            message: self.message.as_deref(),
            warnings: &self.warnings,
            steps: &self.steps,
            waiting: &self.waiting,
            error: ended.as_ref().err().map(ErrorResult::of),
            data: &self.data,
        };
        let text = if in_a_line {
            serde_json::to_string(&result)
        } else {
            serde_json::to_string_pretty(&result)
        };
        text.context("cannot write the result as JSON")
    }

    fn outcome(
        &self,
        asked: &Asked,
        ended: &anyhow::Result<ExitStatus>,
        status: ExitStatus,
    ) -> Ending {
        if let Err(error) = ended {
            return of_error(error, status);
        }
        match (self.ending, status) {
            (_, ExitStatus::Interrupted(_)) => Ending::Interrupted,
            (Some(ending), _) => ending,
            (None, ExitStatus::Success) if asked.dry_run => Ending::Planned,
            (None, status) => of_status(status, Ending::Incomplete),
        }
    }
}

/// What the command line asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) verb: Option<String>,
    pub(crate) cluster: Option<String>,
    pub(crate) dry_run: bool,
}

fn of_status(status: ExitStatus, failure: Ending) -> Ending {
    match status {
        ExitStatus::Success => Ending::Done,
        ExitStatus::Failure => failure,
        ExitStatus::Usage => Ending::UsageError,
        ExitStatus::Refused => Ending::Refused,
        ExitStatus::Interrupted(_) => Ending::Interrupted,
    }
}

fn of_error(error: &anyhow::Error, status: ExitStatus) -> Ending {
    let timed_out = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<NotDone>())
        .any(|not_done| not_done.why.is_late());
    if timed_out {
        return Ending::TimedOut;
    }
    of_status(status, Ending::Failed)
}

impl ErrorResult {
    fn of(error: &anyhow::Error) -> Self {
        let message = causes(error.as_ref());
        Self {
            code: codes::of_error(error),
            remedy: codes::remedy(error),
            message,
        }
    }
}
