//! One cluster: validate, apply, pass, tell; then rest until something may have changed.
//!
//! Level-triggered: what woke it does not matter, all is looked at. Nothing is kept between passes that decides
//! anything; what is kept spares writes and repetitions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use shardwright_engine::Access;
use shardwright_manifest::{Accepted, Cluster, Problems, RedisClusterStatus, ShapeStatus};
use shardwright_planner::{Desired, Waiting};
use shardwright_runtime::{Keeper, MoveProgress, Moving, Report, Total};
use shardwright_runtime_kubernetes::wish::{ANSWER, Asked, UNREADABLE};
use shardwright_runtime_kubernetes::{
    Applier, ClusterObject, FileWritten, NotApplied, ObjectKey, Pods, Wake, World, not_applied,
    objects, outside,
};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::admin::Health;
use crate::error::{PassError, chain};
use crate::events::{self, Note, Publisher};
use crate::incidents::Incidents;
use crate::metrics::{Metrics, Share};
use crate::pace::{Backoff, Pace};
use crate::pods::notes;
use crate::reason::reason;
use crate::status::{
    About, Answer, AnswerState, Change, change, news, of_error, of_invalid, of_pass, of_paused,
};
use crate::tell::{Telling, Told};
use crate::wishes::Asking;

mod apply;
mod evictions;
mod refusals;

use evictions::EvictionGate;
use refusals::Refusals;

/// Written on the object, it is the same as `spec.paused: true`.
const PAUSED_ANNOTATION: &str = "shardwright.dev/paused";
/// For how long nothing more must happen by itself before a person is told by an event.
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// How long an object is left alone that is paused or can't be used. A change of it wakes at once.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// What all clusters share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// How many passes may be made at a time.
    pub(crate) permits: Semaphore,
    /// Where events go.
    pub(crate) publisher: Publisher,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// How this process is.
    pub(crate) health: Arc<Health>,
    /// The namespace of its pod, if it runs in one.
    pub(crate) own_namespace: Option<String>,
}

/// Keeps one cluster until its object is gone or `stop` says so.
pub(crate) async fn tend(
    shared: Arc<Shared>,
    world: World,
    key: ObjectKey,
    mut stop: watch::Receiver<bool>,
) {
    let mut wake = world.wake(&key);
    let mut one: Option<One<'_>> = None;
    tracing::info!("managed from now on");
    while !*stop.borrow() {
        let object = world.object(&key).filter(|o| !o.leaving);
        let Some(object) = object else { break };
        // An object of the same name that was made anew is another cluster.
        let mut this = match one.take() {
            Some(this) if this.uid == object.uid => this,
            Some(_) | None => One::new(&shared, &world, &object),
        };
        let rest = {
            let Ok(_permit) = shared.permits.acquire().await else {
                break;
            };
            let _under_way = shared.health.begin();
            // In a box of its own: at rest a cluster then holds none of what a round needs.
            Box::pin(this.round(&object)).await
        };
        tokio::select! {
            biased;
            // An error means that whoever stops us is gone.
            _ = stop.wait_for(|stop| *stop) => break,
            () = this.rest(&mut wake, rest) => {}
        }
        one = Some(this);
    }
    tracing::info!("no longer managed");
}

/// What is kept of one cluster between its passes.
struct One<'a> {
    shared: &'a Shared,
    world: &'a World,
    uid: String,
    /// The object that was read last, and what it asks for.
    read: Option<(Arc<ClusterObject>, Result<Accepted, Problems>)>,
    applier: Applier,
    keeper: Option<Kept>,
    told: Told,
    pace: Pace,
    backoff: Backoff,
    /// Errors are not repeated before this.
    not_before: Option<Instant>,
    trouble: Option<(&'static str, String)>,
    share: Share<'a>,
    /// Whether pods may be evicted.
    evictions: EvictionGate,
    /// When the disruption budget may be tried again that could not be written, whatever becomes of the other objects.
    budget_not_before: Option<Instant>,
    stuck: Option<(Instant, Vec<Waiting>)>,
    /// What was seen of shards, to tell what happens to them.
    incidents: Incidents,
    /// Why pods are not there, while some are not.
    refusals: Option<Refusals>,
    /// What a person asked for and was not answered yet.
    asking: Option<Asking>,
    /// How far slots have moved, of the move that is under way.
    moving: Moving,
    /// What is wrong with the annotation about moves, as it was told last.
    moves_warned: Option<String>,
    /// The generation whose warnings were told.
    warned: Option<i64>,
    /// What can't be had, as it was told last.
    apply_warnings: Vec<String>,
    /// Those of them that say that a field is declared and not so.
    unmet: Vec<NotApplied>,
    /// The changed passwords that servers do not get, as they were told last.
    passwords_not_applied: Vec<String>,
    /// When the files of the servers were written last.
    files: Vec<FileWritten>,
    /// Its namespace is being deleted, and the object with it: that does not end otherwise.
    namespace_ends: bool,
}

/// A keeper, and what it was made with.
struct Kept {
    keeper: Keeper<Pods>,
    cluster: Cluster,
    access: Access,
}

impl<'a> One<'a> {
    fn new(shared: &'a Shared, world: &'a World, object: &ClusterObject) -> Self {
        Self {
            shared,
            world,
            uid: object.uid.clone(),
            read: None,
            applier: Applier::new(
                world.clone(),
                object.key.clone(),
                shared.own_namespace.clone(),
            ),
            keeper: None,
            told: Told::default(),
            pace: Pace::default(),
            backoff: Backoff::default(),
            not_before: None,
            trouble: None,
            share: Share::new(&shared.metrics),
            evictions: EvictionGate::default(),
            budget_not_before: None,
            stuck: None,
            incidents: Incidents::default(),
            refusals: None,
            asking: None,
            moving: Moving::new(Total::default()),
            moves_warned: None,
            warned: None,
            apply_warnings: Vec::new(),
            unmet: Vec::new(),
            passwords_not_applied: Vec::new(),
            files: Vec::new(),
            namespace_ends: false,
        }
    }

    /// One round; how long to rest after it unless something wakes.
    async fn round(&mut self, object: &Arc<ClusterObject>) -> Duration {
        if self.namespace_ends {
            self.keeper = None;
            return LEFT_ALONE;
        }
        match self.accepted(object) {
            Ok(accepted) if is_paused(&accepted.cluster) => {
                // Hands off: not even a connection is held.
                self.keeper = None;
                self.incidents = Incidents::default();
                let status = |about: About<'_>| of_paused(about);
                self.say(object, status, LEFT_ALONE).await
            }
            Ok(accepted) => Box::pin(self.keep(object, accepted)).await,
            Err(problems) => self.refuse(object, &problems).await,
        }
    }

    /// What the object asks for. It is read once for each change of it: a pass after a primary's death has no time for it.
    fn accepted(&mut self, object: &Arc<ClusterObject>) -> Result<Accepted, Problems> {
        if let Some((read, accepted)) = &self.read
            && read == object
        {
            return accepted.clone();
        }
        let accepted = object.accepted();
        self.read = Some((Arc::clone(object), accepted.clone()));
        accepted
    }

    /// A manifest that can't be used: nothing of it is applied. What runs is kept as it was wanted before, if that is
    /// known.
    async fn refuse(&mut self, object: &ClusterObject, problems: &Problems) -> Duration {
        let status = |about: About<'_>| of_invalid(about, problems.all());
        let before = self.told.now(object);
        let rest = self.say(object, status, LEFT_ALONE).await;
        let now = self.told.now(object);
        let news = match (&now, &before) {
            (Some(now), Some(before)) => change(now, before) == Change::News,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if news {
            self.tell(object, [events::of_invalid(problems)]);
        }
        if self.keeper.is_none() {
            return rest;
        }
        match self.pass(object, None).await {
            Ok(report) => {
                let rest = rest.min(self.pace_after(report.as_ref()));
                match &report {
                    Some(report) => rest.min(self.follow_budget(object, report, false).await),
                    None => rest,
                }
            }
            Err(error) => self.failed(object, &error),
        }
    }

    /// Whether what failed may be tried again.
    fn is_due(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    async fn keep(&mut self, object: &ClusterObject, accepted: Accepted) -> Duration {
        let Accepted { cluster, warnings } = accepted;
        if self.warned != Some(object.generation) {
            self.tell(object, events::of_warnings(&warnings));
            self.warned = Some(object.generation);
        }
        let unreadable = object.moves_unreadable();
        if unreadable != self.moves_warned {
            let note = unreadable.as_ref();
            self.tell(object, note.map(|text| events::of_error(UNREADABLE, text)));
            self.moves_warned = unreadable;
        }
        let mut applied = None;
        if self.is_due() {
            match Box::pin(self.apply(object, &cluster)).await {
                Ok(again) => applied = Some(again),
                Err(error) => {
                    let wait = self.failed(object, &error);
                    self.not_before = Some(Instant::now() + wait);
                }
            }
        }
        // What runs is healed also while its objects can't be applied.
        let (mut asking, report) = match Box::pin(self.pass_as_asked(object)).await {
            Ok(passed) => passed,
            Err(error) => {
                let wait = self.failed(object, &error);
                return self.say_trouble(object, wait).await;
            }
        };
        let Some(report) = report else {
            let left = self.left();
            return self.say_trouble(object, left).await;
        };
        let again = self.follow_budget(object, &report, applied.is_some());
        let again = again.await.min(applied.unwrap_or(LEFT_ALONE));
        if self.trouble.is_none() {
            self.backoff.succeeded();
            self.not_before = None;
        }
        let mut pods = notes(&self.world.pods(&object.key), report.observed.at);
        pods.extend(Box::pin(self.refusals(object, &report)).await);
        let lacks = self.not_applied(object, &cluster);
        let far = self.far(&report);
        let trouble = self.trouble.clone();
        let passwords = self.passwords_not_applied.clone();
        self.tell_stuck(object, &report);
        let stuck = self.stuck.as_ref();
        let stuck = stuck.is_some_and(|(since, _)| since.elapsed() >= STUCK_AFTER);
        let answer = asking.as_mut().map(|asking| asking.answer(&report, stuck));
        let image = objects::image(&cluster);
        let status = |about: About<'_>| {
            let trouble = trouble
                .as_ref()
                .map(|(label, text)| (*label, text.as_str()));
            let about = About {
                idle: stuck,
                image: Some(&image),
                trouble,
                pods: &pods,
                answer: answer.as_ref(),
                shape: shape_of(&cluster),
                moves: far.as_ref(),
                passwords_not_applied: &passwords,
                not_applied: Some(&lacks),
                ..about
            };
            of_pass(about, &report.plan, &report.observed)
        };
        let rest = self.pace_after(Some(&report)).min(self.left()).min(again);
        let rest = self.say(object, status, rest).await;
        self.asking = asking;
        match answer {
            Some(answer) => self.take_off(object, &answer, rest).await,
            None => rest,
        }
    }

    /// One pass, for what a person asked for on the object as well, if there is something.
    async fn pass_as_asked(
        &mut self,
        object: &ClusterObject,
    ) -> Result<(Option<Asking>, Option<Report>), PassError> {
        let Some(asked) = Asked::first(object) else {
            return Ok((None, self.pass(object, None).await?));
        };
        let Some(kept) = &mut self.keeper else {
            return Ok((None, None));
        };
        let last = self.asking.take().filter(|last| *last.asked() == asked);
        let mut asking = last.unwrap_or_else(|| Asking::new(asked));
        let observed = kept.keeper.observe().await?;
        let desired = asking.desired(kept.cluster.desired(), &observed, Timestamp::now());
        let report = self.pass(object, Some(desired)).await?;
        Ok((Some(asking), report))
    }

    /// Takes a request off the object once its answer stands in the status; until when to rest then.
    async fn take_off(
        &mut self,
        object: &ClusterObject,
        answer: &Answer,
        rest: Duration,
    ) -> Duration {
        let status = self.told.now(object);
        let mut said = status.iter().flat_map(|s| &s.conditions);
        let told = said.any(|c| c.kind == ANSWER && is_said(&answer.text, &c.message));
        if answer.state == AnswerState::UnderWay || !told {
            return rest;
        }
        let Some(asking) = self.asking.take() else {
            return rest;
        };
        let client = self.world.client();
        match outside::take_off(client, &object.key, asking.asked()).await {
            Ok(true) => {
                self.tell(object, events::of_answer(answer));
                rest
            }
            // It was taken off before, and the watch has not shown that yet.
            Ok(false) => rest,
            Err(error) => {
                let error = PassError::from(error);
                tracing::warn!(error = chain(&error), "not done");
                self.shared.metrics.failed(error.label());
                rest.min(self.backoff.failed(dice()))
            }
        }
    }

    /// One pass of the keeper, if there is one yet: to what the manifest says, unless more is asked for.
    async fn pass(
        &mut self,
        object: &ClusterObject,
        desired: Option<Desired>,
    ) -> Result<Option<Report>, PassError> {
        let Some(kept) = &mut self.keeper else {
            return Ok(None);
        };
        let declared = || kept.cluster.desired();
        let mut desired = desired.unwrap_or_else(declared);
        desired.moves_paused = object.moves_paused();
        kept.keeper.set_desired(desired);
        let begun = Instant::now();
        let report = kept.keeper.pass().await?;
        if kept.keeper.runtime_mut().mirror_records().await? {
            self.shared.metrics.wrote("record");
        }
        self.shared.metrics.passed(begun.elapsed(), &report);
        let incidents = self.incidents.pass(&report);
        events::log(&incidents);
        self.tell(object, incidents);
        self.tell(object, events::of_pass(&report));
        Ok(Some(report))
    }

    /// What is declared, and is not so in what runs.
    fn not_applied(&self, object: &ClusterObject, cluster: &Cluster) -> Vec<NotApplied> {
        let (set, pods) = (self.world.set(&object.key), self.world.pods(&object.key));
        let mut lacks = not_applied(cluster, set.as_deref(), &pods, &self.files);
        lacks.extend(self.unmet.iter().cloned());
        lacks
    }

    /// How far slots have moved. What is there when nothing more is to move, is where the next move begins.
    fn far(&mut self, report: &Report) -> Option<MoveProgress> {
        // A keeper that was made anew has moved nothing yet.
        if report.moved.slots < self.moving.total().slots {
            self.moving = Moving::new(Total::default());
        }
        let far = self.moving.pass(report);
        if far.is_none() && report.plan.is_settled() {
            self.moving = Moving::new(report.moved);
        }
        far.filter(|far| far.slots_left > 0 || far.slots_moved > 0)
    }

    fn pace_after(&mut self, report: Option<&Report>) -> Duration {
        let Some(report) = report else {
            return LEFT_ALONE;
        };
        let plan = &report.plan;
        let at_rest = plan.is_settled() || plan.is_stuck();
        let steps = plan.steps.iter().map(ToString::to_string);
        let waits = plan.waiting.iter().map(crate::reason::stable_text);
        let what: Vec<String> = steps.chain(waits).collect();
        self.pace.rest(at_rest, what.join("\n"))
    }

    /// Tells a person by an event what only a person can end, once that has lasted.
    fn tell_stuck(&mut self, object: &ClusterObject, report: &Report) {
        if !report.plan.is_stuck() {
            self.stuck = None;
            return;
        }
        let (since, told) = self
            .stuck
            .get_or_insert_with(|| (Instant::now(), Vec::new()));
        if since.elapsed() >= STUCK_AFTER && *told != report.plan.waiting {
            let notes = events::of_waiting(&report.plan.waiting, told, &report.observed);
            told.clone_from(&report.plan.waiting);
            events::log(&notes);
            self.shared.publisher.tell(&object.reference(), notes);
        }
    }

    /// Notes an error; how long to wait before it is tried again.
    fn failed(&mut self, object: &ClusterObject, error: &PassError) -> Duration {
        if error.namespace_ends() {
            if !self.namespace_ends {
                tracing::info!("its namespace is being deleted: nothing more is done");
            }
            self.namespace_ends = true;
            return LEFT_ALONE;
        }
        let text = chain(error);
        let label = error.label();
        tracing::warn!(error = text, "not done");
        self.shared.metrics.failed(label);
        if self.trouble.as_ref().is_none_or(|(_, old)| *old != text) {
            self.tell(object, [events::of_error(label, &text)]);
        }
        self.trouble = Some((label, text));
        self.backoff.failed(dice())
    }

    async fn say_trouble(&mut self, object: &ClusterObject, rest: Duration) -> Duration {
        let (label, text) = match &self.trouble {
            Some((label, text)) => (*label, text.clone()),
            None => return rest,
        };
        let status = |about: About<'_>| of_error(about, label, &text);
        self.say(object, status, rest).await
    }

    /// Writes the status if it differs; a shorter rest if it has to be written a moment later.
    async fn say(
        &mut self,
        object: &ClusterObject,
        status: impl FnOnce(About<'_>) -> RedisClusterStatus,
        rest: Duration,
    ) -> Duration {
        let before = self.told.now(object);
        let target = format!("k8s:{}", object.key);
        let new = status(About {
            namespace: &object.key.namespace,
            target: &target,
            generation: object.generation,
            before: before.as_ref(),
            now: Timestamp::now(),
            idle: false,
            trouble: None,
            image: None,
            pods: &[],
            answer: None,
            shape: ShapeStatus::default(),
            moves: None,
            shaped_by: object.shards_by.as_deref(),
            passwords_not_applied: &[],
            not_applied: None,
        });
        self.count(&new);
        let lines = news(before.as_ref(), &new);
        match self.told.tell(self.world, object, new).await {
            Ok(Telling::Same) => rest,
            Ok(Telling::Written) => {
                for line in lines {
                    tracing::info!("{line}");
                }
                self.shared.metrics.wrote("status");
                rest
            }
            Ok(Telling::Later(soon)) => rest.min(soon),
            Err(error) => {
                // It is no trouble of the cluster, and a status could not tell it.
                let error_text = chain(&error);
                tracing::warn!(error = error_text, "the status was not written");
                self.shared.metrics.failed(error.label());
                rest.min(self.backoff.failed(dice()))
            }
        }
    }

    fn count(&mut self, status: &RedisClusterStatus) {
        let waiting = self.stuck.as_ref().map(|(_, waiting)| waiting);
        let reasons: BTreeSet<&'static str> = waiting.into_iter().flatten().map(reason).collect();
        self.share
            .set(status.state.map(crate::status::word), reasons);
    }

    fn tell(&self, object: &ClusterObject, notes: impl IntoIterator<Item = Note>) {
        let reference = object.reference();
        self.shared.publisher.tell(&reference, notes);
    }

    /// How long until what failed is tried again; for ever if nothing did.
    fn left(&self) -> Duration {
        let at = self.not_before;
        at.map_or(LEFT_ALONE, |at| {
            at.saturating_duration_since(Instant::now())
        })
    }

    /// Ends at the next hint, or after this time at the latest.
    async fn rest(&self, wake: &mut Wake, longest: Duration) {
        let hint = async {
            match &self.keeper {
                Some(kept) => {
                    tokio::select! {
                        () = kept.keeper.links().woken() => {}
                        () = wake.woken() => {}
                    }
                }
                None => wake.woken().await,
            }
        };
        // Whether a hint came or the time ran out: all is looked at.
        drop(timeout(longest, hint).await);
    }
}

/// Whether a message says this text, of which it may hold the beginning only.
fn is_said(text: &str, message: &str) -> bool {
    text == message
        || message
            .strip_suffix('…')
            .is_some_and(|head| text.starts_with(head))
}

fn shape_of(cluster: &Cluster) -> ShapeStatus {
    ShapeStatus {
        shards: cluster.shards(),
        replicas_per_shard: cluster.replicas_per_shard(),
    }
}

fn is_paused(cluster: &Cluster) -> bool {
    let annotation = cluster.annotations().get(PAUSED_ANNOTATION);
    cluster.kubernetes().paused || annotation.is_some_and(|value| value == "true")
}

fn unique() -> Result<u128, PassError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| PassError::Random(e.to_string()))?;
    Ok(u128::from_be_bytes(bytes))
}

/// A throw. Without randomness all wait equally long, which is no harm.
fn dice() -> u8 {
    let mut byte = [128];
    if let Err(error) = getrandom::fill(&mut byte) {
        tracing::debug!(%error, "no random byte");
    }
    byte[0]
}
