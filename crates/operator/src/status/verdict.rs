//! What is held of a cluster: whether it serves, changes, and is as safe as declared, with the reasons for people.

use shardwright_manifest::StateWord;
use shardwright_planner::Action;
use shardwright_planner::{
    Plan, Problem, ProblemKind, Severity, SharedPlace, Step, Waiting, diagnose,
};
use shardwright_runtime::MoveProgress;
use shardwright_runtime_kubernetes::NotApplied;
use shardwright_topology::{Observed, SLOT_COUNT, Seen, Why};

use super::standstill::Standstill;
use super::{DEGRADED, PodNote, PodTrouble, READY, moves_text};
use crate::reason::{Effect, effect, reason, stable_text, stable_why};
use crate::reasons;

/// Replicas are attached and have their first, empty copy within seconds after the slots were given; pods may be late.
const FORMING_MS: u64 = 60_000;

/// How many problems a condition names: a person reads the first line.
const CLAUSES_MAX: usize = 3;

/// The reason where the servers do not let the operator in: whether they serve their clients is then not known.
pub const CREDENTIALS_REJECTED: &str = reasons::CREDENTIALS_REJECTED.word;

/// The reason where a pod can be put on no Kubernetes node.
pub const PLACEMENT_IMPOSSIBLE: &str = reasons::PLACEMENT_IMPOSSIBLE.word;

/// The reason where there is nothing to do.
pub(super) const IDLE: &str = "AtRest";
/// The reason where nothing is missing.
pub(super) const AS_DECLARED: &str = "AsDeclared";
/// The reason where no replica is missing, and something else is not as declared.
pub(super) const EVERY_REPLICA_THERE: &str = "EveryReplicaThere";

/// The reason where a pod is not ready though its server runs.
pub const POD_NOT_READY: &str = reasons::POD_NOT_READY.word;
/// The reason where something is declared and not so in what runs.
pub const NOT_APPLIED: &str = reasons::NOT_APPLIED.word;

/// A verdict for one condition.
pub(super) struct Verdict {
    pub(super) holds: bool,
    pub(super) reason: &'static str,
    /// What is so, in a sentence.
    pub(super) message: String,
    /// What is wrong or waited for, the worst first: one clause for each problem.
    pub(super) clauses: Vec<String>,
    /// What the scheduler and the kubelet say of pods: it explains the rest, and is said first.
    causes: Vec<String>,
    /// What a person can do.
    remedy: Option<String>,
}

impl Verdict {
    pub(super) fn new(holds: bool, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            holds,
            reason,
            message: message.into(),
            clauses: Vec::new(),
            causes: Vec::new(),
            remedy: None,
        }
    }

    fn because(self, clauses: Vec<String>) -> Self {
        Self { clauses, ..self }
    }

    /// The same, where not all is as declared beside it.
    pub(super) fn but_not_applied(self) -> Self {
        let reason = match self.reason {
            AS_DECLARED => EVERY_REPLICA_THERE,
            other => other,
        };
        Self { reason, ..self }
    }

    /// The whole text: the causes first, then what comes of them, then what to do.
    pub(super) fn text(&self) -> String {
        // Beside causes one clause is enough: the others come of the same.
        let clauses_max = if self.causes.is_empty() {
            CLAUSES_MAX
        } else {
            1
        };
        let clauses = listed(&self.clauses, clauses_max);
        let so = match (self.message.is_empty(), clauses.is_empty()) {
            (false, false) => format!("{}: {clauses}", self.message),
            (false, true) => self.message.clone(),
            (true, _) => clauses,
        };
        let because = listed(&self.causes, CLAUSES_MAX);
        let parts = [because, so].into_iter().chain(self.remedy.clone());
        let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
        parts.join("; ")
    }
}

/// The first of these, and how many more there are.
fn listed(clauses: &[String], max: usize) -> String {
    let first: Vec<&str> = clauses.iter().take(max).map(String::as_str).collect();
    let more = match clauses.len().saturating_sub(max) {
        0 => String::new(),
        more => format!(" (+{more} more)"),
    };
    first.join("; ") + &more
}

/// Ready is said first when the cluster is complete, and from then on whenever every slot is served: a replica that
/// is away makes it Degraded, not unready. What was formed a while ago was complete, or is not going to be soon.
pub(super) fn ready(plan: &Plan, o: &Observed, served: u32, was_ready: bool) -> Verdict {
    let complete = plan.is_settled();
    let all_served = served == u32::from(SLOT_COUNT) && all_say_ok(o);
    if complete || (all_served && (was_ready || !is_young(o))) {
        let message = "every slot is served by a primary";
        return Verdict::new(true, "AllSlotsServed", message);
    }
    let worst = plan.waiting.first();
    let (reason, message) = if all_served {
        let message = "every slot is served, and it is not complete yet".to_owned();
        (worst.map_or(reasons::FORMING.word, reason), message)
    } else {
        let message = unserved(served, o);
        (
            worst.map_or(reasons::SLOTS_NOT_SERVED.word, reason),
            message,
        )
    };
    Verdict::new(false, reason, message).because(texts(plan))
}

/// What of the slots is not served: they have no reachable primary, or one that answers `CLUSTERDOWN`.
fn unserved(served: u32, o: &Observed) -> String {
    let have = if served == u32::from(SLOT_COUNT) {
        "every slot has a reachable primary".to_owned()
    } else {
        format!("{served} of {SLOT_COUNT} slots have a reachable primary")
    };
    let reachable = || o.voters().filter_map(|m| o.view_of(m.id));
    let failing = reachable().filter(|v| !v.cluster.state_ok).count();
    let of = reachable().count();
    match failing {
        0 => have,
        1 => format!("{have}, but 1 of {of} does not serve (cluster_state:fail)"),
        _ => format!("{have}, but {failing} of {of} do not serve (cluster_state:fail)"),
    }
}

/// What is said while slots move: one reason for all of it, whatever is done between two batches.
fn moving(plan: &Plan, far: &MoveProgress) -> Option<Verdict> {
    let moves = |s: &Step| matches!(s.action, Action::MoveSlots { .. });
    let (_, why) = plan.moves()?;
    let paused = plan.awaits_resume();
    let outstanding = |w: &Waiting| effect(w) == Effect::Outstanding;
    let goes_on = plan.steps.first().is_none_or(moves) && plan.waiting.iter().all(outstanding);
    if !paused && (!goes_on || plan.is_stuck()) {
        return None;
    }
    let why: Vec<String> = why.iter().map(stable_why).collect();
    let text = moves_text(far);
    let reason = if paused {
        reasons::MOVES_PAUSED.word
    } else {
        reasons::SLOTS_MOVE.word
    };
    let message = match why.as_slice() {
        [] => text,
        _ if paused => text,
        why => format!("{text}; some wait: {}", why.join("; ")),
    };
    Some(Verdict::new(!paused, reason, message))
}

/// `idle`: nothing has happened by itself for a while. Before that what seems to need a person may pass in a moment.
pub(super) fn progressing(
    plan: &Plan,
    o: &Observed,
    far: Option<&MoveProgress>,
    idle: bool,
) -> Verdict {
    if let Some(verdict) = far.and_then(|far| moving(plan, far)) {
        return verdict;
    }
    if let Some(step) = plan.steps.first() {
        let message = if plan.steps.len() > 1 {
            format!(
                "{} steps are being taken, the first: {step}",
                plan.steps.len()
            )
        } else {
            step.to_string()
        };
        return Verdict::new(true, crate::reason::of_action(&step.action), message);
    }
    if let Some(Standstill { manual, goes_on }) = Standstill::of(plan, o) {
        let text = stable_text(manual);
        return match goes_on {
            None if idle => {
                let message = "nothing more happens by itself";
                Verdict::new(false, reason(manual), message).because(vec![text])
            }
            None => Verdict::new(true, reason(manual), "waiting").because(vec![text]),
            Some(w) => {
                let text = format!("manual decision required: {text}");
                Verdict::new(true, reason(w), "waiting").because(vec![stable_text(w), text])
            }
        };
    }
    if let Some(w) = plan.waiting.first() {
        return Verdict::new(true, reason(w), "waiting").because(vec![stable_text(w)]);
    }
    Verdict::new(false, IDLE, "there is nothing to do")
}

/// The reason of a problem that nothing of ours ends: a full disk or memory, or which code of a library is right.
pub(crate) fn beyond_us(problem: &ProblemKind) -> Option<&'static str> {
    match problem {
        ProblemKind::RefusesWrites { .. } => Some(reasons::WRITES_REFUSED.word),
        ProblemKind::FunctionsDiffer(_) => Some(reasons::FUNCTIONS_DIFFER.word),
        _ => None,
    }
}

pub(super) fn degraded(plan: &Plan, o: &Observed) -> Verdict {
    let worst = plan.waiting.iter().find(|w| effect(w) == Effect::Weaker);
    if let Some(w) = worst {
        return Verdict::new(true, reason(w), "").because(texts(plan));
    }
    let problems = diagnose(o);
    if let Some(p) = problems.iter().find(|p| p.severity == Severity::Fatal) {
        let reason = beyond_us(&p.kind).unwrap_or(reasons::UNSETTLED.word);
        return Verdict::new(true, reason, p.kind.to_string());
    }
    if let Some(verdict) = placed(&problems) {
        return verdict;
    }
    Verdict::new(false, AS_DECLARED, "every shard has its replicas")
}

/// Whether what runs has all that is declared; and where pods lack something, what gives it to one.
pub(super) fn up_to_date(lacks: &[NotApplied], namespace: &str) -> Verdict {
    if lacks.is_empty() {
        return Verdict::new(true, AS_DECLARED, "what runs has all that is declared");
    }
    let pod = lacks.iter().flat_map(|lack| &lack.pods).next_back();
    let remedy = pod.map(|pod| {
        format!(
            "a pod takes it over when it is made anew, one at a time: kubectl delete pod -n {namespace} {pod}"
        )
    });
    let clauses = lacks.iter().map(ToString::to_string).collect();
    let verdict = Verdict::new(false, NOT_APPLIED, "declared and not so").because(clauses);
    Verdict { remedy, ..verdict }
}

/// Not less than declared, as spreading is a wish; but a person should know what one host or zone would take along. What
/// would take all along gives the reason.
fn placed(problems: &[Problem]) -> Option<Verdict> {
    let reason = |p: &Problem| match &p.kind {
        ProblemKind::Majority { at, .. } => Some(match at.place {
            SharedPlace::Host(_) => reasons::MAJORITY_ON_ONE_HOST.word,
            SharedPlace::Zone(_) => reasons::MAJORITY_IN_ONE_ZONE.word,
        }),
        ProblemKind::SameHost(_) => Some(reasons::SAME_HOST.word),
        _ => None,
    };
    let shared = || problems.iter().filter(|p| reason(p).is_some());
    let reason = shared().find_map(reason)?;
    let clauses: Vec<String> = shared().map(|p| p.kind.to_string()).collect();
    let message = format!(
        "every shard has its replicas, but {}",
        listed(&clauses, CLAUSES_MAX)
    );
    Some(Verdict::new(false, reason, message))
}

pub(super) fn state(
    plan: &Plan,
    ready: &Verdict,
    progressing: &Verdict,
    degraded: &Verdict,
    served: u32,
    o: &Observed,
) -> StateWord {
    if ready.reason == CREDENTIALS_REJECTED {
        return StateWord::Unknown;
    }
    if plan.waiting.contains(&Waiting::DataLost) {
        return StateWord::DataLost;
    }
    if o.formed.is_none() && !ready.holds {
        // Before a single node was heard nothing is known of it.
        let heard = o.views().next().is_some();
        return if heard {
            StateWord::Forming
        } else {
            StateWord::Pending
        };
    }
    if served < u32::from(SLOT_COUNT) || !all_say_ok(o) {
        let just_given = served == u32::from(SLOT_COUNT) && is_young(o);
        return if just_given {
            StateWord::Forming
        } else {
            StateWord::Down
        };
    }
    match (ready.holds, degraded.holds, progressing.holds) {
        (_, true, _) => StateWord::Degraded,
        (_, false, true) => StateWord::Progressing,
        // It is not as declared, and on its way there only once a person lets it go on.
        (true, false, false) if plan.is_paused() => StateWord::Progressing,
        (true, false, false) => StateWord::Healthy,
        // Every slot is served, nothing is missing, and yet it was never complete.
        (false, false, false) => StateWord::Forming,
    }
}

/// What there is to say where no server was heard, and those that answered did not let the operator in.
pub(super) fn locked_out(o: &Observed) -> Option<[Verdict; 3]> {
    let mut denied = None;
    for server in o.servers().values() {
        match &server.view {
            Seen::Known(_) => return None,
            Seen::Unknown(_) if server.process.death().is_some() => return None,
            Seen::Unknown(Why::Denied(said)) => denied = denied.or(Some((&server.name, said))),
            Seen::Unknown(_) => {}
        }
    }
    let (server, said) = denied?;
    let message = format!(
        "{server} does not let the operator in ({said}), and no other server does; whether clients are served is not \
         known: give the Secret of the user shardwright the password back that the servers have, and that user its rights"
    );
    let verdict = || Verdict::new(false, CREDENTIALS_REJECTED, message.as_str());
    Some([verdict(), verdict(), verdict()])
}

/// What is waited for, one clause for each problem: first what makes the cluster weaker, each in the plan's order.
fn texts(plan: &Plan) -> Vec<String> {
    let of = |wanted: Effect| plan.waiting.iter().filter(move |w| effect(w) == wanted);
    let mut texts: Vec<String> = Vec::new();
    for waiting in of(Effect::Weaker).chain(of(Effect::Outstanding)) {
        let text = stable_text(waiting);
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

/// Where something is amiss, what the scheduler and the kubelet say of pods explains it: whether it does. It is said once:
/// `told` in a condition before this one, and then the reason alone names it.
pub(super) fn tell_of_pods(
    kind: &str,
    verdict: &mut Verdict,
    pods: &[PodNote],
    told: bool,
) -> bool {
    let amiss = (kind == READY && !verdict.holds) || (kind == DEGRADED && verdict.holds);
    if !amiss || pods.is_empty() {
        return false;
    }
    let kept = [reason(&Waiting::DataLost), CREDENTIALS_REJECTED];
    let unplaced = |p: &PodNote| p.trouble == PodTrouble::Unplaced;
    if !kept.contains(&verdict.reason) && pods.iter().any(unplaced) {
        verdict.reason = PLACEMENT_IMPOSSIBLE;
    }
    if told {
        return true;
    }
    let mut pods: Vec<&PodNote> = pods.iter().collect();
    pods.sort_by_key(|p| p.trouble);
    // Pods with the same trouble are one problem.
    let mut causes: Vec<(&str, Vec<&str>)> = Vec::new();
    for note in &pods {
        match causes.iter_mut().find(|(text, _)| *text == note.text) {
            Some((_, names)) => names.push(&note.pod),
            None => causes.push((&note.text, vec![&note.pod])),
        }
    }
    let clause = |(text, names): &(&str, Vec<&str>)| format!("{}: {text}", names.join(", "));
    verdict.causes = causes.iter().map(clause).collect();
    // That such a pod's server does not answer comes of it, and its reason is the same text.
    let told = |clause: &String| {
        let of = |pod: &&PodNote| clause.starts_with(&format!("{} is not heard: ", pod.pod));
        pods.iter().any(of)
    };
    verdict.clauses.retain(|clause| !told(clause));
    verdict.remedy = pods.first().and_then(|worst| worst.remedy.clone());
    true
}

/// Whether its forming may still be going on: it was recorded as formed, once every slot was given, a moment ago.
fn is_young(o: &Observed) -> bool {
    let age_ms = o.formed.as_ref().map(|formed| o.at.since_ms(formed.at));
    age_ms.is_none_or(|ms| ms < FORMING_MS)
}

/// Every primary that was heard says `cluster_state:ok`: otherwise it answers `CLUSTERDOWN`.
fn all_say_ok(o: &Observed) -> bool {
    o.voters()
        .filter_map(|m| o.view_of(m.id))
        .all(|v| v.cluster.state_ok)
}
