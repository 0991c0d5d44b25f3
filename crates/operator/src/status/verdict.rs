//! What is held of a cluster: whether it serves, changes, and is as safe as declared, with the reasons for people.

use shardwright_manifest::StateWord;
use shardwright_planner::Action;
use shardwright_planner::{Plan, ProblemKind, Severity, Step, Waiting, diagnose};
use shardwright_runtime::MoveProgress;
use shardwright_topology::{Observed, SLOT_COUNT, Seen, Why};

use super::{DEGRADED, PodNote, READY, moves_text};
use crate::reason::{Effect, MOVES_PAUSED, SLOTS_MOVE, effect, reason, stable_text, stable_why};

/// Replicas are attached and have their first, empty copy within seconds after the slots were given; pods may be late.
const FORMING_MS: u64 = 60_000;

/// How many problems a condition names: a person reads the first line.
const CLAUSES_MAX: usize = 3;

/// The reason where the servers do not let the operator in: whether they serve their clients is then not known.
pub const CREDENTIALS_REJECTED: &str = "CredentialsRejected";
/// The reason where primaries refuse what clients write.
const WRITES_REFUSED: &str = "WritesRefused";
/// The reason where the primaries differ in a library of functions.
const FUNCTIONS_DIFFER: &str = "FunctionsDiffer";

/// The reason where a pod can be put on no Kubernetes node.
pub const PLACEMENT_IMPOSSIBLE: &str = "PlacementImpossible";

/// A verdict for one condition.
pub(super) struct Verdict {
    pub(super) holds: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Ready is said first when the cluster is complete, and from then on whenever every slot is served: a replica that
/// is away makes it Degraded, not unready. What was formed a while ago was complete, or is not going to be soon.
pub(super) fn ready(plan: &Plan, o: &Observed, served: u32, was_ready: bool) -> Verdict {
    let complete = plan.is_settled();
    let all_served = served == u32::from(SLOT_COUNT) && all_say_ok(o);
    if complete || (all_served && (was_ready || !is_young(o))) {
        return Verdict {
            holds: true,
            reason: "AllSlotsServed",
            message: "every slot is served by a primary".to_owned(),
        };
    }
    let worst = plan.waiting.first();
    if !all_served {
        let message = format!(
            "{served} of {SLOT_COUNT} slots are served by a heard primary{}",
            because(plan)
        );
        let reason = worst.map_or("SlotsNotServed", reason);
        return Verdict {
            holds: false,
            reason,
            message,
        };
    }
    Verdict {
        holds: false,
        reason: worst.map_or("Forming", reason),
        message: format!(
            "every slot is served, and it is not complete yet{}",
            because(plan)
        ),
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
    Some(Verdict {
        holds: !paused,
        reason: if paused { MOVES_PAUSED } else { SLOTS_MOVE },
        message: match why.as_slice() {
            [] => text,
            _ if paused => text,
            why => format!("{text}; some wait: {}", why.join("; ")),
        },
    })
}

pub(super) fn progressing(plan: &Plan, far: Option<&MoveProgress>) -> Verdict {
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
        return Verdict {
            holds: true,
            reason: crate::reason::of_action(&step.action),
            message,
        };
    }
    if let Some(w) = plan.waiting.iter().find(|w| w.needs_a_person()) {
        return Verdict {
            holds: false,
            reason: reason(w),
            message: format!("nothing more happens by itself: {}", stable_text(w)),
        };
    }
    if let Some(w) = plan.waiting.first() {
        return Verdict {
            holds: true,
            reason: reason(w),
            message: format!("waiting: {}", stable_text(w)),
        };
    }
    Verdict {
        holds: false,
        reason: "AtRest",
        message: "there is nothing to do".to_owned(),
    }
}

/// The reason of a problem that nothing of ours ends: a full disk or memory, or which code of a library is right.
pub(crate) fn beyond_us(problem: &ProblemKind) -> Option<&'static str> {
    match problem {
        ProblemKind::RefusesWrites { .. } => Some(WRITES_REFUSED),
        ProblemKind::FunctionsDiffer(_) => Some(FUNCTIONS_DIFFER),
        _ => None,
    }
}

pub(super) fn degraded(plan: &Plan, o: &Observed) -> Verdict {
    let worst = plan.waiting.iter().find(|w| effect(w) == Effect::Weaker);
    if let Some(w) = worst {
        return Verdict {
            holds: true,
            reason: reason(w),
            message: all_texts(plan),
        };
    }
    let problems = diagnose(o);
    if let Some(p) = problems.iter().find(|p| p.severity == Severity::Fatal) {
        return Verdict {
            holds: true,
            reason: beyond_us(&p.kind).unwrap_or("Unsettled"),
            message: p.kind.to_string(),
        };
    }
    // Not less than declared, as spreading is a wish; but a person should know what one host would take along.
    let shared: Vec<String> = problems
        .iter()
        .filter(|p| matches!(p.kind, ProblemKind::SameHost(_)))
        .map(|p| p.kind.to_string())
        .collect();
    if !shared.is_empty() {
        return Verdict {
            holds: false,
            reason: "SameHost",
            message: format!("every shard has its replicas, but {}", shared.join("; ")),
        };
    }
    Verdict {
        holds: false,
        reason: "AsDeclared",
        message: "every shard has its replicas".to_owned(),
    }
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
    let verdict = || Verdict {
        holds: false,
        reason: CREDENTIALS_REJECTED,
        message: format!(
            "{server} does not let the operator in ({said}), and no other server does; whether clients are served is not \
             known: give the Secret of the user shardwright the password back that the servers have, and that user its rights"
        ),
    };
    Some([verdict(), verdict(), verdict()])
}

fn because(plan: &Plan) -> String {
    let texts = all_texts(plan);
    if texts.is_empty() {
        texts
    } else {
        format!(": {texts}")
    }
}

/// What is waited for, the worst first: the first of it, and of the rest how much there is.
fn all_texts(plan: &Plan) -> String {
    let all = plan.waiting.len();
    let texts = plan.waiting.iter().take(CLAUSES_MAX).map(stable_text);
    let texts: Vec<String> = texts.collect();
    let more = if all > CLAUSES_MAX {
        format!(" (+{} more)", all - CLAUSES_MAX)
    } else {
        String::new()
    };
    texts.join("; ") + &more
}

/// Where something is amiss, what the scheduler and the kubelet say of pods explains it.
pub(super) fn tell_of_pods(kind: &str, verdict: &mut Verdict, pods: &[PodNote]) {
    let amiss = (kind == READY && !verdict.holds) || (kind == DEGRADED && verdict.holds);
    if !amiss || pods.is_empty() {
        return;
    }
    let kept = [reason(&Waiting::DataLost), CREDENTIALS_REJECTED];
    if !kept.contains(&verdict.reason) && pods.iter().any(|p| p.unplaced) {
        verdict.reason = PLACEMENT_IMPOSSIBLE;
    }
    let texts: Vec<String> = pods
        .iter()
        .map(|p| format!("{}: {}", p.pod, p.text))
        .collect();
    // The cause first, then what comes of it.
    verdict.message = format!("{}; {}", texts.join("; "), verdict.message);
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
