//! What the object's status says: a rendering of the last report, and nothing that steers.
//!
//! Pure: a report in, a status out. It holds no number that changes while a cluster is well (lag, keys, ages), so
//! that a healthy idle cluster costs no write.

use std::collections::BTreeSet;

use jiff::Timestamp;
use shardwright_manifest::{
    Condition, ConditionStatus, MovesStatus, NodeStatus, Problem as ManifestProblem,
    RedisClusterStatus, ShapeStatus, ShardStatus, StateWord,
};
use shardwright_planner::Plan;
use shardwright_planner::evidence::copies_elsewhere;
use shardwright_runtime::MoveProgress;
use shardwright_runtime_kubernetes::NotApplied;
use shardwright_runtime_kubernetes::wish::{ANSWER, MOVES, UNDER_WAY};
use shardwright_topology::{Member, NodeView, Observed, Replication, Seen, ServerName, Source};

use crate::reason::{TARGET, cut, named};
use crate::reasons;

mod listed;
mod news;
mod standstill;
mod verdict;

use listed::listed;
pub(crate) use news::news;
pub(crate) use verdict::beyond_us;
use verdict::{
    AS_DECLARED, EVERY_REPLICA_THERE, IDLE, Verdict, degraded, locked_out, progressing, ready,
    state, tell_of_pods, up_to_date,
};
pub use verdict::{CREDENTIALS_REJECTED, PLACEMENT_IMPOSSIBLE};
pub use verdict::{NOT_APPLIED, POD_NOT_READY};

/// The condition type: whether the cluster serves every slot, and was complete once.
pub const READY: &str = "Ready";
/// The condition type: whether something is under way that ends by itself.
pub const PROGRESSING: &str = "Progressing";
/// The condition type: whether less stands between the data and a loss than was declared.
pub const DEGRADED: &str = "Degraded";

/// The condition type: `False` while the servers do not have a password that was changed in its Secret; absent else.
pub const PASSWORDS_APPLIED: &str = "PasswordsApplied";
/// The reason of that, and of the event.
pub const PASSWORD_CHANGED: &str = reasons::PASSWORD_CHANGED.word;
/// The condition type: whether what runs has all that is declared.
pub const UP_TO_DATE: &str = "UpToDate";

/// Kubernetes bounds a condition's message at 32768 bytes; a person reads less.
const MESSAGE_MAX: usize = 2_000;

/// What every status needs beside its report.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The namespace of the object.
    pub namespace: &'a str,
    /// How the cluster is named on the command line, for commands in texts.
    pub target: &'a str,
    /// The generation of the object that was looked at.
    pub generation: i64,
    /// The status it has now, if it has one: times of transitions are kept from it.
    pub before: Option<&'a RedisClusterStatus>,
    /// The time.
    pub now: Timestamp,
    /// Whether nothing has happened by itself for a while.
    pub idle: bool,
    /// What the operator itself could not do: its kind in one word, and for a person.
    pub trouble: Option<(&'static str, &'a str)>,
    /// The image that pods are made from, where it is known.
    pub image: Option<&'a str>,
    /// What there is to say of pods, by name.
    pub pods: &'a [PodNote],
    /// How it stands with what a person asked for. The last answer stays until the next.
    pub answer: Option<&'a Answer>,
    /// The shape that is declared.
    pub shape: ShapeStatus,
    /// How far slots have moved, where some have to.
    pub moves: Option<&'a MoveProgress>,
    /// Who wrote the declared number of shards, as the API server calls it, where that is known.
    pub shaped_by: Option<&'a str>,
    /// Passwords that were changed and that the servers do not get: one text for each user.
    pub passwords_not_applied: &'a [String],
    /// What is declared and not so in what runs; none where that was not looked at.
    pub not_applied: Option<&'a [NotApplied]>,
}

/// What there is to say of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNote {
    /// Its name.
    pub pod: String,
    /// What kind of trouble it is.
    pub trouble: PodTrouble,
    /// In the words of the scheduler or the kubelet: its reason first.
    pub text: String,
    /// What a person can do, if anything.
    pub remedy: Option<String>,
}

/// Why a pod does not serve, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodTrouble {
    /// It can be put on no Kubernetes node.
    Unplaced,
    /// Its image can't be had.
    Image,
    /// A container can't be made, or ended.
    Failing,
    /// Its server runs, and it is not ready.
    Unready,
    /// It is being started: no trouble yet.
    Starting,
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

/// The status after a pass.
pub fn of_pass(about: About<'_>, plan: &Plan, o: &Observed) -> RedisClusterStatus {
    let nodes_declared = about.shape.shards * (1 + about.shape.replicas_per_shard);
    let served = slots_served(o);
    let was_ready = about.before.is_some_and(|b| holds(b, READY));
    let (ready, progressing, degraded) = match locked_out(o) {
        Some([ready, progressing, degraded]) => (ready, progressing, degraded),
        None => (
            ready(plan, o, served, was_ready),
            progressing(plan, o, about.moves, about.idle),
            less_than_declared(about, degraded(plan, o)),
        ),
    };
    let state = state(plan, &ready, &progressing, &degraded, served, o);
    let in_order = count(
        o.members()
            .values()
            .filter(|m| trouble(o, m).is_none())
            .count(),
    );
    let all = shards(o);
    let shard_count = count(all.len());
    let (shards, unlisted_shards) = listed(all);
    let members = count(o.members().len());
    let mut verdicts = [
        (READY, ready),
        (PROGRESSING, progressing),
        (DEGRADED, degraded),
    ];
    if !plan.is_settled() {
        verdicts[1].1.clauses.extend(reshaped(&about));
    }
    let mut told = false;
    for (kind, verdict) in &mut verdicts {
        for text in verdict.clauses.iter_mut().chain([&mut verdict.message]) {
            *text = named(text, o).replace(TARGET, about.target);
        }
        told |= tell_of_pods(kind, verdict, about.pods, told);
        if let (PROGRESSING, Some((label, text))) = (*kind, about.trouble) {
            *verdict = Verdict::new(false, label, text);
        }
    }
    let conditions = conditions(about, verdicts);
    RedisClusterStatus {
        observed_generation: Some(about.generation),
        state: Some(state),
        image: about.image.map(str::to_owned),
        version: versions(o),
        message: why(&conditions),
        // While the cluster shrinks there are more than declared.
        ready: Some(format!("{in_order}/{}", nodes_declared.max(members))),
        shard_count: Some(shard_count),
        node_count: Some(members),
        ready_node_count: Some(in_order),
        slots_covered: Some(served),
        moves: about.moves.map(moves),
        settled_shape: if plan.is_settled() {
            Some(about.shape)
        } else {
            about.before.and_then(|b| b.settled_shape)
        },
        last_observed: Some(seconds(about.now)),
        conditions,
        shards,
        unlisted_shards,
    }
}

/// Who changed the number of shards, while it is being changed: `kubectl apply` of a file takes back what `kubectl scale` did,
/// and says nothing of it.
fn reshaped(about: &About<'_>) -> Option<String> {
    let (former, wanted) = (about.before?.settled_shape?.shards, about.shape.shards);
    let manager = about.shaped_by?;
    (former != wanted)
        .then(|| format!("from {former} to {wanted} shards, as the field manager {manager} wrote"))
}

/// The status of an object whose manifest can't be used: every problem with its path. What was known of the
/// cluster stays: nothing of it was touched.
pub fn of_invalid(about: About<'_>, problems: &[ManifestProblem]) -> RedisClusterStatus {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let message = format!("nothing was touched: {}", lines.join("; "));
    standing_still(
        about,
        Some(StateWord::Invalid),
        reasons::INVALID_SPEC.word,
        &message,
    )
}

/// The status of an object that is to be left alone.
pub fn of_paused(about: About<'_>) -> RedisClusterStatus {
    let message = "spec.paused is true: nothing is done until it is taken away";
    let mut status = kept(about, Some(StateWord::Paused));
    let verdict = |holds, reason: &'static str| Verdict::new(holds, reason, message);
    // Whether it serves is not looked at: what was last known stands, with the word that it is old.
    let ready = about.before.is_some_and(|b| holds(b, READY));
    let degraded = about.before.is_some_and(|b| holds(b, DEGRADED));
    let verdicts = [
        (READY, verdict(ready, reasons::PAUSED.word)),
        (PROGRESSING, verdict(false, reasons::PAUSED.word)),
        (DEGRADED, verdict(degraded, reasons::PAUSED.word)),
    ];
    status.conditions = conditions(about, verdicts);
    status.message = why(&status.conditions);
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
    let verdict = |holds| Verdict::new(holds, reason, message);
    let verdicts = [
        (READY, verdict(false)),
        (PROGRESSING, verdict(false)),
        (DEGRADED, verdict(true)),
    ];
    status.conditions = conditions(about, verdicts);
    status.message = why(&status.conditions);
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

/// How much a status differs from the one before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Change {
    /// Not at all.
    Same,
    /// Only the wording of conditions: their reasons are the same, and the nodes that they name.
    Wording,
    /// A condition has another reason or names other nodes, or a list or a figure is another one. While views converge
    /// that is so several times a second.
    Details,
    /// Another state, another status of a condition, or another answer to a request: a person should see it at once.
    News,
}

/// How much `new` differs from `old`. When each was looked at does not count: see [`is_renewed`].
pub fn change(new: &RedisClusterStatus, old: &RedisClusterStatus) -> Change {
    let old = &RedisClusterStatus {
        last_observed: new.last_observed.clone(),
        ..old.clone()
    };
    if new == old {
        return Change::Same;
    }
    let states = |s: &RedisClusterStatus| -> Vec<(String, ConditionStatus, Option<String>)> {
        let all = s.conditions.iter();
        // Whoever asked for something waits for just this text.
        let answered = |c: &Condition| c.kind == ANSWER && c.reason != UNDER_WAY;
        let answer = |c: &Condition| answered(c).then(|| c.message.clone());
        all.map(|c| (c.kind.clone(), c.status, answer(c))).collect()
    };
    if new.state != old.state
        || new.observed_generation != old.observed_generation
        || states(new) != states(old)
    {
        return Change::News;
    }
    let about = |s: &RedisClusterStatus| -> Vec<(String, BTreeSet<String>)> {
        let all = s.conditions.iter();
        all.map(|c| (c.reason.clone(), nodes_in(&c.message)))
            .collect()
    };
    let others = RedisClusterStatus {
        conditions: old.conditions.clone(),
        message: old.message.clone(),
        ..new.clone()
    };
    if about(new) == about(old) && others == *old {
        Change::Wording
    } else {
        Change::Details
    }
}

/// How long the time of the last look is left as it is, in seconds.
const OBSERVED_EVERY_S: i64 = 60;

/// Whether the time of the last look is to be written anew, though nothing else differs.
pub fn is_renewed(new: &RedisClusterStatus, old: &RedisClusterStatus) -> bool {
    let looked = |status: &RedisClusterStatus| {
        let time = status.last_observed.as_ref()?.parse::<Timestamp>();
        time.ok().map(Timestamp::as_second)
    };
    match (looked(new), looked(old)) {
        (Some(new), Some(old)) => new.saturating_sub(old) >= OBSERVED_EVERY_S,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// The nodes that a message names: pods and Kubernetes nodes (`redis-3`), and nodes without a pod by their short ids.
fn nodes_in(message: &str) -> BTreeSet<String> {
    const SHORT_ID: usize = 8;
    let words = message.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let is_node = |word: &&str| {
        let number = word.rsplit_once('-').map(|(_, number)| number);
        let numbered = number.is_some_and(|n| n.parse::<u32>().is_ok());
        let is_id = word.len() == SHORT_ID && word.chars().all(|c| c.is_ascii_hexdigit());
        is_id || (numbered && word.starts_with(|c: char| c.is_ascii_alphabetic()))
    };
    words.filter(is_node).map(str::to_owned).collect()
}

/// The verdict on redundancy, where pods or fields lack what that does not see.
fn less_than_declared(about: About<'_>, degraded: Verdict) -> Verdict {
    let unready = |p: &PodNote| p.trouble == PodTrouble::Unready;
    if degraded.holds {
        degraded
    } else if about.pods.iter().any(unready) {
        Verdict::new(true, POD_NOT_READY, "not every pod is ready")
    } else if about.not_applied.is_some_and(|lacks| !lacks.is_empty()) {
        degraded.but_not_applied()
    } else {
        degraded
    }
}

fn conditions(about: About<'_>, verdicts: [(&str, Verdict); 3]) -> Vec<Condition> {
    let answer = about.answer.map(|answer| {
        let done = answer.state == AnswerState::Done;
        let text = answer.text.replace(TARGET, about.target);
        let verdict = Verdict::new(done, answer.reason, text);
        (ANSWER, verdict)
    });
    let passwords = (!about.passwords_not_applied.is_empty()).then(|| {
        let text = about.passwords_not_applied.join("; ");
        (
            PASSWORDS_APPLIED,
            Verdict::new(false, PASSWORD_CHANGED, text),
        )
    });
    let applied = about.not_applied;
    let applied = applied.map(|lacks| (UP_TO_DATE, up_to_date(lacks, about.namespace)));
    // What was answered last is told until something else is asked for, and what was lacking until it is looked at.
    let before = |kind: &str| {
        let mut all = about.before?.conditions.iter();
        all.find(|c| c.kind == kind)
    };
    let kept = [
        before(UP_TO_DATE).filter(|_| about.not_applied.is_none()),
        before(ANSWER).filter(|_| about.answer.is_none()),
    ];
    verdicts
        .into_iter()
        .chain(passwords)
        .chain(applied)
        .chain(answer)
        .map(|(kind, verdict)| {
            let unknown = verdict.reason == CREDENTIALS_REJECTED && kind != PROGRESSING;
            let status = match verdict.holds {
                _ if unknown => ConditionStatus::Unknown,
                true => ConditionStatus::True,
                false => ConditionStatus::False,
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
                message: cut(verdict.text(), MESSAGE_MAX),
                last_transition_time: since,
                observed_generation: Some(about.generation),
            }
        })
        .chain(kept.into_iter().flatten().cloned())
        .collect()
}

/// The text of the condition that tells the worst: that slots are not served, that a person is needed, that something is
/// missing, what is being done; and what is no harm yet, such as how primaries are placed or what is only declared, before
/// that all is well.
fn why(conditions: &[Condition]) -> Option<String> {
    let of = |kind: &str| conditions.iter().find(|c| c.kind == kind);
    let (ready, progressing, degraded) = (of(READY)?, of(PROGRESSING)?, of(DEGRADED)?);
    let holds = |c: &Condition| c.status == ConditionStatus::True;
    let pauses = progressing.reason == reasons::MOVES_PAUSED.word;
    let idle = progressing.reason == IDLE;
    let worst = if !holds(ready) {
        ready
    } else if !holds(progressing) && !idle && !pauses {
        progressing
    } else if holds(degraded) {
        degraded
    } else if !idle {
        progressing
    } else if !matches!(degraded.reason.as_str(), AS_DECLARED | EVERY_REPLICA_THERE) {
        degraded
    } else {
        let not_so = |kind: &&str| of(kind).is_some_and(|c| c.status == ConditionStatus::False);
        let kind = [PASSWORDS_APPLIED, UP_TO_DATE].into_iter().find(not_so);
        kind.and_then(of).unwrap_or(ready)
    };
    Some(worst.message.clone())
}

/// What the members that were reached run; nothing where none was.
fn versions(o: &Observed) -> Option<String> {
    let views = o.members().values().filter_map(|m| o.view_of(m.id));
    let found: BTreeSet<String> = views.map(version).collect();
    let found: Vec<String> = found.into_iter().collect();
    (!found.is_empty()).then(|| found.join(", "))
}

fn version(view: &NodeView) -> String {
    format!("{} {}", view.server.engine, view.server.version)
}

/// RFC 3339 in whole seconds, as Kubernetes writes times.
fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
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
        StateWord::Unknown => "Unknown",
    }
}

fn slots_served(o: &Observed) -> u32 {
    let heard = o.voters().filter(|m| m.source == Source::Itself);
    heard.map(|m| u32::from(m.slots.count())).sum()
}

fn shards(o: &Observed) -> Vec<ShardStatus> {
    let mut primaries: Vec<&Member> = o.voters().collect();
    primaries.sort_by_key(|m| m.slots.ranges().first().copied());
    let one = |primary: &Member| {
        let mut replicas: Vec<&Member> = o.replicas_of(primary.id).collect();
        replicas.sort_by(|a, b| a.server.cmp(&b.server).then(a.id.cmp(&b.id)));
        ShardStatus {
            slots: primary.slots.listed(),
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
        version: o.view_of(m.id).map(version),
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
