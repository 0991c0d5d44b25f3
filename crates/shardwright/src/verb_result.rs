//! What a run did, as `-o json` tells it: one object at the end of standard output, of one type for every verb.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shardwright_planner::{Action, Consent, Plan, Step, Waiting};
use shardwright_runtime::{Outcome, Report, StepError};
use shardwright_topology::{NodeId, Observed, SlotSet};

use crate::codes;
use crate::exit::{ExitStatus, NotDone};
use crate::hint::hint;
use crate::report::{causes, identified};

/// How a run ended, in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct ErrorResult {
    /// One of `codes`: stable.
    code: Cow<'static, str>,
    /// For people.
    message: String,
    /// What to do about it, where that is known.
    remedy: Option<String>,
}

/// A node, named the same way wherever one is named.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Wait {
    /// One of `codes`: stable.
    code: Cow<'static, str>,
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
            code: codes::of_wait(wait).into(),
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
    /// Why another run, which was asked to, did not do it.
    error: Option<ErrorResult>,
    data: Map<String, Value>,
}

/// What is known of a run that did what another one asked for. That one tells it as its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    outcome: Ending,
    changed: Changed,
    message: Option<String>,
    warnings: Vec<String>,
    steps: Vec<StepResult>,
    waiting: Vec<Wait>,
    error: Option<ErrorResult>,
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

    /// Whether it is known that something was changed.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed == Changed::Yes
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

    /// What is known of it, once it has ended, for the run that asked for it.
    pub(crate) fn told(&self, ended: &anyhow::Result<ExitStatus>) -> Told {
        let outcome = match self.outcome(false, ended) {
            // The signal came here, and not to the run that asked.
            Ending::Interrupted => Ending::Failed,
            other => other,
        };
        Told {
            outcome,
            changed: self.changed,
            message: self.message.clone(),
            warnings: self.warnings.clone(),
            steps: self.steps.clone(),
            waiting: self.waiting.clone(),
            error: self.error(ended),
            data: self.data.clone(),
        }
    }

    /// Takes for its own what another run did that was asked for it.
    pub(crate) fn take_over(&mut self, told: Told) {
        self.ending = Some(told.outcome);
        if !self.has_changed() {
            self.changed = told.changed;
        }
        if told.message.is_some() {
            self.message = told.message;
        }
        self.warnings.extend(told.warnings);
        self.steps.extend(told.steps);
        self.waiting = told.waiting;
        self.error = told.error;
        self.data.extend(told.data);
    }

    /// The whole, once it has ended.
    pub(crate) fn text(
        &self,
        asked: &Asked,
        ended: &anyhow::Result<ExitStatus>,
        in_a_line: bool,
    ) -> anyhow::Result<String> {
        let result = VerbResult {
            verb: asked.verb.as_deref(),
            cluster: self.cluster.as_deref().or(asked.cluster.as_deref()),
            outcome: self.outcome(asked.dry_run, ended),
            exit_code: status_of(ended).code(),
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
            error: self.error(ended),
            data: &self.data,
        };
        let text = if in_a_line {
            serde_json::to_string(&result)
        } else {
            serde_json::to_string_pretty(&result)
        };
        text.context("cannot write the result as JSON")
    }

    fn error(&self, ended: &anyhow::Result<ExitStatus>) -> Option<ErrorResult> {
        let own = ended.as_ref().err().map(ErrorResult::of);
        own.or_else(|| self.error.clone())
    }

    fn outcome(&self, dry_run: bool, ended: &anyhow::Result<ExitStatus>) -> Ending {
        let status = status_of(ended);
        if let Err(error) = ended {
            return of_error(error, status);
        }
        match (self.ending, status) {
            (_, ExitStatus::Interrupted(_)) => Ending::Interrupted,
            (Some(ending), _) => ending,
            (None, ExitStatus::Success) if dry_run => Ending::Planned,
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

fn status_of(ended: &anyhow::Result<ExitStatus>) -> ExitStatus {
    match ended {
        Ok(status) => *status,
        Err(error) => ExitStatus::of(error),
    }
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
            code: codes::of_error(error).into(),
            remedy: codes::remedy(error),
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{Refusal, WhyNotDone};

    fn as_json(record: &Record, ended: &anyhow::Result<ExitStatus>) -> Value {
        let text = record.text(&Asked::default(), ended, true);
        serde_json::from_str(&text.expect("it is written")).expect("it is read")
    }

    /// As it arrives at the run that asked, at which `record` was known before.
    fn handed(mut record: Record, told: &Told, status: ExitStatus) -> Value {
        let line = serde_json::to_string(told).expect("it is written");
        record.take_over(serde_json::from_str(&line).expect("it is read"));
        as_json(&record, &Ok(ExitStatus::of_code(status.code())))
    }

    #[test]
    fn what_another_run_did_is_told_as_if_it_was_done_here() {
        let mut there = Record::default();
        there.begin();
        there.changed(true);
        there.would("promote c-3");
        there.message("[OK] c-3 is the primary");
        there.warning("the cluster is not healthy yet");
        there.put("answers", &[1]).expect("it is data");
        for ended in [
            Ok(ExitStatus::Success),
            Ok(ExitStatus::Failure),
            Err(Refusal("not done; do this".to_owned()).into()),
            Err(NotDone::new(WhyNotDone::TimedOut, "late").into()),
        ] {
            let told = there.told(&ended);
            let here = handed(Record::default(), &told, status_of(&ended));
            assert_eq!(here, as_json(&there, &ended), "{ended:?}");
        }
    }

    #[test]
    fn what_was_known_before_stays() {
        let mut here = Record::default();
        here.begin();
        here.warning("the document is old");
        let told = Record::default().told(&Ok(ExitStatus::Success));
        let result = handed(here, &told, ExitStatus::Success);
        assert_eq!(result["changed"], false, "the other run knows it");
        assert_eq!(
            result["warnings"],
            serde_json::json!(["the document is old"])
        );
        assert_eq!(result["outcome"], "done");
    }

    #[test]
    fn a_signal_that_ended_another_run_is_none_of_ours() {
        let told = Record::default().told(&Ok(ExitStatus::Interrupted(15)));
        let result = handed(Record::default(), &told, ExitStatus::Interrupted(15));
        assert_eq!(result["outcome"], "failed");
        assert_eq!(result["exit_code"], 1);
    }
}
