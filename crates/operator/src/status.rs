//! What the object's status says: a rendering of the last report, and nothing that steers.
//!
//! Pure: a report in, a status out. It holds no number that changes while a cluster is well (lag, keys, ages), so
//! that a healthy idle cluster costs no write.

use jiff::Timestamp;
use shardwright_manifest::{
    Condition, ConditionStatus, MovesStatus, NodeStatus, Problem as ManifestProblem,
    RedisClusterStatus, ShapeStatus, ShardStatus, StateWord,
};
use shardwright_planner::evidence::copies_elsewhere;
use shardwright_planner::{Action, Plan, ProblemKind, Severity, Step, Waiting, diagnose};
use shardwright_runtime::MoveProgress;
use shardwright_runtime_kubernetes::wish::{ANSWER, MOVES};
use shardwright_topology::{Member, Observed, Replication, SLOT_COUNT, Seen, ServerName, Source};

use crate::reason::{
    Effect, MOVES_PAUSED, SLOTS_MOVE, cut, effect, named, reason, stable_text, stable_why,
};

/// The condition type: whether the cluster serves every slot, and was complete once.
pub const READY: &str = "Ready";
/// The condition type: whether something is under way that ends by itself.
pub const PROGRESSING: &str = "Progressing";
/// The condition type: whether less stands between the data and a loss than was declared.
pub const DEGRADED: &str = "Degraded";

/// The reason where a pod can be put on no Kubernetes node.
pub const PLACEMENT_IMPOSSIBLE: &str = "PlacementImpossible";

/// Replicas are attached and have their first, empty copy within seconds after the slots were given; pods may be late.
const FORMING_MS: u64 = 60_000;

/// Kubernetes bounds a condition's message at 32768 bytes; a person reads less.
const MESSAGE_MAX: usize = 2_000;

/// What every status needs beside its report.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The generation of the object that was looked at.
    pub generation: i64,
    /// The status it has now, if it has one: times of transitions are kept from it.
    pub before: Option<&'a RedisClusterStatus>,
    /// The time.
    pub now: Timestamp,
    /// What the operator itself could not do: its kind in one word, and for a person.
    pub trouble: Option<(&'static str, &'a str)>,
    /// What there is to say of pods, by name.
    pub pods: &'a [PodNote],
    /// How it stands with what a person asked for. The last answer stays until the next.
    pub answer: Option<&'a Answer>,
    /// The shape that is declared.
    pub shape: ShapeStatus,
    /// How far slots have moved, where some have to.
    pub moves: Option<&'a MoveProgress>,
}

/// What there is to say of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNote {
    /// Its name.
    pub pod: String,
    /// Whether it can be put on no Kubernetes node.
    pub unplaced: bool,
    /// In the words of the scheduler or the kubelet.
    pub text: String,
}

/// How it stands with what a person asked for, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How.
    pub state: AnswerState,
    /// In one word.
    pub reason: &'static str,
    /// The request, and what there is to say.
    pub text: String,
}

/// How it stands with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerState {
    /// It is worked on.
    UnderWay,
    /// It is fulfilled.
    Done,
    /// It is not going to be.
    Refused,
}

/// A verdict for one condition.
struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

/// The status after a pass.
pub fn of_pass(about: About<'_>, plan: &Plan, o: &Observed) -> RedisClusterStatus {
    let nodes_declared = about.shape.shards * (1 + about.shape.replicas_per_shard);
    let served = slots_served(o);
    let was_ready = about.before.is_some_and(|b| holds(b, READY));
    let ready = ready(plan, o, served, was_ready);
    let progressing = progressing(plan, about.moves);
    let degraded = degraded(plan, o);
    let state = state(plan, &ready, &progressing, &degraded, served, o);
    let in_order = count(
        o.members()
            .values()
            .filter(|m| trouble(o, m).is_none())
            .count(),
    );
    let shards = shards(o);
    let mut verdicts = [
        (READY, ready),
        (PROGRESSING, progressing),
        (DEGRADED, degraded),
    ];
    for (kind, verdict) in &mut verdicts {
        verdict.message = named(&verdict.message, o);
        tell_of_pods(kind, verdict, about.pods);
        if let (PROGRESSING, Some((label, text))) = (*kind, about.trouble) {
            *verdict = Verdict {
                holds: false,
                reason: label,
                message: text.to_owned(),
            };
        }
    }
    RedisClusterStatus {
        observed_generation: Some(about.generation),
        state: Some(state),
        ready: Some(format!("{in_order}/{nodes_declared}")),
        shard_count: Some(count(shards.len())),
        node_count: Some(count(o.members().len())),
        ready_node_count: Some(in_order),
        slots_covered: Some(served),
        moves: about.moves.map(moves),
        settled_shape: if plan.is_settled() {
            Some(about.shape)
        } else {
            about.before.and_then(|b| b.settled_shape)
        },
        conditions: conditions(about, verdicts),
        shards,
    }
}

/// The status of an object whose manifest can't be used: every problem with its path. What was known of the
/// cluster stays: nothing of it was touched.
pub fn of_invalid(about: About<'_>, problems: &[ManifestProblem]) -> RedisClusterStatus {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let message = format!("nothing was touched: {}", lines.join("; "));
    standing_still(about, Some(StateWord::Invalid), "InvalidSpec", &message)
}

/// The status of an object that is to be left alone.
pub fn of_paused(about: About<'_>) -> RedisClusterStatus {
    let message = "spec.paused is true: nothing is done until it is taken away";
    let mut status = kept(about, Some(StateWord::Paused));
    let verdict = |holds, reason: &'static str| Verdict {
        holds,
        reason,
        message: message.to_owned(),
    };
    // Whether it serves is not looked at: what was last known stands, with the word that it is old.
    let ready = about.before.is_some_and(|b| holds(b, READY));
    let degraded = about.before.is_some_and(|b| holds(b, DEGRADED));
    let verdicts = [
        (READY, verdict(ready, "Paused")),
        (PROGRESSING, verdict(false, "Paused")),
        (DEGRADED, verdict(degraded, "Paused")),
    ];
    status.conditions = conditions(about, verdicts);
    status
}

/// The status of an object that the operator could not work on; `label` is the error's kind.
pub fn of_error(about: About<'_>, label: &'static str, message: &str) -> RedisClusterStatus {
    standing_still(about, None, label, message)
}

/// What was known stays; it is not ready, because of this.
fn standing_still(
    about: About<'_>,
    state: Option<StateWord>,
    reason: &'static str,
    message: &str,
) -> RedisClusterStatus {
    let mut status = kept(about, state);
    let verdict = |holds| Verdict {
        holds,
        reason,
        message: message.to_owned(),
    };
    let verdicts = [
        (READY, verdict(false)),
        (PROGRESSING, verdict(false)),
        (DEGRADED, verdict(true)),
    ];
    status.conditions = conditions(about, verdicts);
    status
}

/// What was known, and this state; without one the state that was.
fn kept(about: About<'_>, state: Option<StateWord>) -> RedisClusterStatus {
    let before = match about.before {
        Some(before) => before.clone(),
        None => RedisClusterStatus::default(),
    };
    let state = state.or(before.state).unwrap_or(StateWord::Pending);
    RedisClusterStatus {
        observed_generation: Some(about.generation),
        state: Some(state),
        ..before
    }
}

/// Whether this condition is `True`.
pub fn holds(status: &RedisClusterStatus, kind: &str) -> bool {
    status
        .conditions
        .iter()
        .any(|c| c.kind == kind && c.status == ConditionStatus::True)
}

/// Whether `new` says something that a person should see at once: another status or reason of a condition, another
/// state. Texts and lists may wait a moment.
pub fn is_news(new: &RedisClusterStatus, old: &RedisClusterStatus) -> bool {
    let words = |s: &RedisClusterStatus| -> Vec<(String, ConditionStatus, String)> {
        let all = s.conditions.iter();
        all.map(|c| (c.kind.clone(), c.status, c.reason.clone()))
            .collect()
    };
    new.state != old.state
        || new.observed_generation != old.observed_generation
        || words(new) != words(old)
}

fn conditions(about: About<'_>, verdicts: [(&str, Verdict); 3]) -> Vec<Condition> {
    let answer = about.answer.map(|answer| {
        let verdict = Verdict {
            holds: answer.state == AnswerState::Done,
            reason: answer.reason,
            message: answer.text.clone(),
        };
        (ANSWER, verdict)
    });
    // What was answered last is told until something else is asked for.
    let last = about
        .before
        .and_then(|b| b.conditions.iter().find(|c| c.kind == ANSWER))
        .filter(|_| about.answer.is_none());
    verdicts
        .into_iter()
        .chain(answer)
        .map(|(kind, verdict)| {
            let status = if verdict.holds {
                ConditionStatus::True
            } else {
                ConditionStatus::False
            };
            let before = about
                .before
                .and_then(|b| b.conditions.iter().find(|c| c.kind == kind));
            let since = before
                .filter(|c| c.status == status && !c.last_transition_time.is_empty())
                .map_or_else(|| seconds(about.now), |c| c.last_transition_time.clone());
            Condition {
                kind: kind.to_owned(),
                status,
                reason: verdict.reason.to_owned(),
                message: cut(verdict.message, MESSAGE_MAX),
                last_transition_time: since,
                observed_generation: Some(about.generation),
            }
        })
        .chain(last.cloned())
        .collect()
}

/// RFC 3339 in whole seconds, as Kubernetes writes times.
fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Ready is said first when the cluster is complete, and from then on whenever every slot is served: a replica that
/// is away makes it Degraded, not unready. What was formed a while ago was complete, or is not going to be soon.
fn ready(plan: &Plan, o: &Observed, served: u32, was_ready: bool) -> Verdict {
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

/// How far slots have moved, for people.
pub fn moves_text(far: &MoveProgress) -> String {
    let (left, of) = (far.slots_left, far.slots_moved + far.slots_left);
    if far.paused {
        return format!(
            "paused: {left} of {of} slots are left to move; taking the annotation {MOVES} away lets it go on"
        );
    }
    let speed = far
        .bytes_per_s
        .map(|bytes| format!(", {:.1} MB/s", mega(bytes)))
        .or_else(|| far.keys_per_s.map(|keys| format!(", {keys} keys/s")));
    let time = far.eta_s.map(|s| format!(", about {s} s left"));
    let said: String = [speed, time].into_iter().flatten().collect();
    let (slots, keys) = (far.slots_moved, far.keys_moved);
    format!("{slots} of {of} slots moved, {keys} keys{said}")
}

/// In millions, with enough digits for a person.
fn mega(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1_000).unwrap_or(u32::MAX)) / 1_000.0
}

fn moves(far: &MoveProgress) -> MovesStatus {
    let slots = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    MovesStatus {
        slots_left: slots(far.slots_left),
        slots_moved: slots(far.slots_moved),
        keys_moved: far.keys_moved,
        keys_per_second: far.keys_per_s,
        bytes_per_second: far.bytes_per_s,
        eta_seconds: far.eta_s,
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

fn progressing(plan: &Plan, far: Option<&MoveProgress>) -> Verdict {
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

fn degraded(plan: &Plan, o: &Observed) -> Verdict {
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
            reason: "Unsettled",
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

fn state(
    plan: &Plan,
    ready: &Verdict,
    progressing: &Verdict,
    degraded: &Verdict,
    served: u32,
    o: &Observed,
) -> StateWord {
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

fn because(plan: &Plan) -> String {
    let texts = all_texts(plan);
    if texts.is_empty() {
        texts
    } else {
        format!(": {texts}")
    }
}

fn all_texts(plan: &Plan) -> String {
    let texts: Vec<String> = plan.waiting.iter().map(stable_text).collect();
    texts.join("; ")
}

/// Where something is amiss, what the scheduler and the kubelet say of pods explains it.
fn tell_of_pods(kind: &str, verdict: &mut Verdict, pods: &[PodNote]) {
    let amiss = (kind == READY && !verdict.holds) || (kind == DEGRADED && verdict.holds);
    if !amiss || pods.is_empty() {
        return;
    }
    if verdict.reason != reason(&Waiting::DataLost) && pods.iter().any(|p| p.unplaced) {
        verdict.reason = PLACEMENT_IMPOSSIBLE;
    }
    let texts: Vec<String> = pods
        .iter()
        .map(|p| format!("{}: {}", p.pod, p.text))
        .collect();
    verdict.message = format!("{} ({})", verdict.message, texts.join("; "));
}

/// The state as the word that metrics count it under.
pub(crate) fn word(state: StateWord) -> &'static str {
    match state {
        StateWord::Pending => "Pending",
        StateWord::Forming => "Forming",
        StateWord::Healthy => "Healthy",
        StateWord::Progressing => "Progressing",
        StateWord::Degraded => "Degraded",
        StateWord::Down => "Down",
        StateWord::DataLost => "DataLost",
        StateWord::Invalid => "Invalid",
        StateWord::Paused => "Paused",
    }
}

fn slots_served(o: &Observed) -> u32 {
    let heard = o.voters().filter(|m| m.source == Source::Itself);
    heard.map(|m| u32::from(m.slots.count())).sum()
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

fn shards(o: &Observed) -> Vec<ShardStatus> {
    let mut primaries: Vec<&Member> = o.voters().collect();
    primaries.sort_by_key(|m| m.slots.ranges().first().copied());
    let one = |primary: &Member| {
        let mut replicas: Vec<&Member> = o.replicas_of(primary.id).collect();
        replicas.sort_by(|a, b| a.server.cmp(&b.server).then(a.id.cmp(&b.id)));
        ShardStatus {
            slots: primary.slots.to_string(),
            slot_count: u32::from(primary.slots.count()),
            primary: Some(node(o, primary)),
            replicas: replicas.into_iter().map(|m| node(o, m)).collect(),
        }
    };
    primaries.into_iter().map(one).collect()
}

fn node(o: &Observed, m: &Member) -> NodeStatus {
    let place = o.server_of(m.id).map(|s| &s.place);
    NodeStatus {
        id: Some(m.id.to_string()),
        pod: m.server.as_ref().map(|ServerName(name)| name.clone()),
        host: place.and_then(|p| p.host.clone()),
        zone: place.and_then(|p| p.zone.clone()),
        trouble: trouble(o, m),
    }
}

/// What there is to say of a node that is not in order; without figures.
fn trouble(o: &Observed, m: &Member) -> Option<String> {
    let Some(view) = o.view_of(m.id) else {
        let why = match o.server_of(m.id).map(|s| (&s.process, &s.view)) {
            Some((process, _)) if process.death().is_some() => "dead".to_owned(),
            Some((_, Seen::Unknown(why))) => why.to_string(),
            Some((_, Seen::Known(_))) => "another node lives in its pod".to_owned(),
            None => "it has no pod".to_owned(),
        };
        return Some(why);
    };
    let word = match &view.server.replication {
        _ if view.server.loading => "loading",
        Replication::Replica { .. } if copies_elsewhere(o, m.id).is_some() => {
            "copies from an address that is not its primary's"
        }
        Replication::Replica { syncing: true, .. } => "taking its first copy",
        Replication::Replica { link_up: false, .. } => "no link to its primary",
        _ if !view.cluster.state_ok => "cluster_state is fail",
        Replication::Replica { .. } | Replication::Primary { .. } => return None,
    };
    Some(word.to_owned())
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
