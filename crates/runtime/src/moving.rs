//! Moving slots: a step's share of it, by the engine's own move where it has one, else key by key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Plain, PoisonError};
use std::time::{Duration, Instant};

use shardwright_engine::movers::{
    Allowance, Burst, End, MoveError, Moved, Outcome, Pace, Pair, key_wise, native,
};
use shardwright_engine::{Client, Endpoint, Feature};
use shardwright_planner::evidence::LiveAt;
use shardwright_planner::{Batch, Budget, Went, job_keys, next_batch};
use shardwright_topology::{NodeId, Observed, SlotSet};
use tokio::sync::{Mutex, RwLock};

use crate::Links;
use crate::execute::{StepError, client_of, place_of};

/// How long one step moves keys before the cluster is looked at again.
const SHARE: Duration = Duration::from_secs(2);
/// How often a step that waits is asked whether it is to stop.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// A source rests no longer than that for what one step moved, so that any number gives a time.
const REST_MAX: Duration = Duration::from_secs(24 * 3_600);

/// What all moves of a keeper share.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    budget: Plain<Budget>,
    /// Something happened: the moves stop soon, so that it is looked at.
    hurried: AtomicBool,
    /// Nothing more is to be moved.
    halted: AtomicBool,
    /// A person agreed that receivers may exceed their memory limits.
    force_memory: AtomicBool,
    finishing: Mutex<()>,
    /// By which the moves to one target take turns.
    turns: Plain<BTreeMap<NodeId, Arc<RwLock<()>>>>,
    /// Sources whose own move was refused: they are served key by key.
    not_native: Plain<BTreeSet<NodeId>>,
    /// Until when sources rest for what they gave, where a bandwidth is given.
    rests_until: Plain<BTreeMap<NodeId, Instant>>,
    total: Plain<Total>,
}

/// How much was moved by a keeper since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Slots that changed their owner.
    pub slots: u64,
    /// Keys that went with them.
    pub keys: u64,
    /// The memory that they took at their source, in bytes; without what the engine moved by itself.
    pub bytes: u64,
    /// The keys of which that is not known, for the engine moved them by itself or does not tell the sizes of keys.
    pub keys_unmeasured: u64,
}

impl Total {
    /// What came since then.
    #[must_use]
    pub fn since(self, then: Self) -> Self {
        Self {
            slots: self.slots.saturating_sub(then.slots),
            keys: self.keys.saturating_sub(then.keys),
            bytes: self.bytes.saturating_sub(then.bytes),
            keys_unmeasured: self.keys_unmeasured.saturating_sub(then.keys_unmeasured),
        }
    }
}

impl Moves {
    /// Begins a new batch of steps, in which a person agreed that receivers may exceed their memory limits, or did not.
    pub(crate) fn begin(&self, force_memory: bool) {
        self.force_memory.store(force_memory, Ordering::Relaxed);
        self.hurried.store(false, Ordering::Relaxed);
    }

    /// Has the moves that are under way stop soon.
    pub(crate) fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    /// Has all moves stop soon, those under way and those to come; or lets them go on again.
    pub(crate) fn halt(&self, halted: bool) {
        self.halted.store(halted, Ordering::Relaxed);
    }

    fn is_to_stop(&self) -> bool {
        self.hurried.load(Ordering::Relaxed) || self.halted.load(Ordering::Relaxed)
    }

    /// What moving slots may cost the clients from now on.
    pub(crate) fn set_budget(&self, budget: Budget) {
        *lock(&self.budget) = budget;
    }

    /// What moving slots may cost the clients.
    pub(crate) fn budget(&self) -> Budget {
        *lock(&self.budget)
    }

    /// What was moved so far.
    pub(crate) fn total(&self) -> Total {
        *lock(&self.total)
    }

    /// Whether a receiver has a memory limit that is kept.
    pub(crate) fn keeps_limit(&self, o: &Observed, to: NodeId) -> bool {
        let limit = o.view_of(to).and_then(|v| v.server.maxmemory_bytes);
        limit != Some(0) && !self.force_memory.load(Ordering::Relaxed)
    }

    /// Moves a step's slots, or as many of them as its share of time allows. What is left is planned again.
    pub(crate) async fn step(
        &self,
        links: &Links,
        o: &Observed,
        from: NodeId,
        to: &LiveAt,
        slots: &SlotSet,
    ) -> Result<(), StepError> {
        if !self.has_rested(from).await {
            return Ok(());
        }
        // Connections of their own: others are not to wait behind keys.
        let source = apart(links, o, from).await?;
        let reader = apart(links, o, from).await?;
        let probe = apart(links, o, from).await?;
        let target = apart(links, o, to.node()).await?;
        let mut others = Vec::new();
        for member in o.voters().filter(|m| m.id != from && m.id != to.node()) {
            others.push(client_of(links, o, member.id).await?);
        }
        let target_at = Endpoint::from(to.address());
        let turns = Arc::clone(lock(&self.turns).entry(to.node()).or_default());
        let pair = Pair {
            source: &source,
            reader: &reader,
            probe: &probe,
            from,
            target: &target,
            to: to.node(),
            target_is: o.view_of(to.node()).map(|v| v.server.engine),
            target_at: &target_at,
            credentials: links.access().accepted(),
            others: &others,
            keeps_limit: self.keeps_limit(o, to.node()),
            finishing: &self.finishing,
            turns: &turns,
        };
        let can = source.capabilities().await?;
        let by_engine = can.has(Feature::MigrateSlots) && !lock(&self.not_native).contains(&from);
        let outcome = if by_engine {
            self.natively(&pair, slots).await
        } else {
            self.key_wise(&pair, slots).await
        };
        self.count(&outcome.moved, by_engine);
        for error in &outcome.untold {
            tracing::warn!(%error, "a primary was not told of slots that moved; gossip tells it");
        }
        match outcome.end {
            End::Done | End::Stopped => Ok(()),
            End::Failed(MoveError::Node(error)) => Err(StepError::Server(error)),
            End::Failed(error) => Err(StepError::Move(error)),
        }
    }

    /// By the engine's own move. Where it is refused, as to a user without the rights for it, key by key from now on.
    async fn natively(&self, pair: &Pair<'_>, slots: &SlotSet) -> Outcome {
        let begun = Instant::now();
        // A job that runs is left to end: only between two of them is the share of time looked at.
        let ended_one = AtomicBool::new(false);
        let stop = || {
            let between = ended_one.swap(false, Ordering::Relaxed);
            self.is_to_stop() || (between && begun.elapsed() >= SHARE)
        };
        let mut progress = |_: &Moved| ended_one.store(true, Ordering::Relaxed);
        let budget = self.budget();
        let job_keys = |asked_per_s| job_keys(asked_per_s, &budget);
        let outcome = native(pair, slots, &job_keys, &stop, &mut progress).await;
        if let End::Failed(MoveError::Job { at, said }) = &outcome.end {
            tracing::warn!(%at, said, "the engine's own move of slots failed; it goes on key by key");
            lock(&self.not_native).insert(pair.from);
        }
        outcome
    }

    async fn key_wise(&self, pair: &Pair<'_>, slots: &SlotSet) -> Outcome {
        let begun = Instant::now();
        let stop = || self.is_to_stop() || begun.elapsed() >= SHARE;
        let mut pace = Pacer {
            moves: self,
            budget: self.budget(),
            batch: None,
        };
        let outcome = key_wise(pair, slots, &mut pace, &stop, &mut |_: &Moved| {}).await;
        if let Some(limit) = pace.budget.bandwidth_bytes_max {
            let until = begun + due(outcome.moved.bytes, limit);
            lock(&self.rests_until).insert(pair.from, until);
        }
        outcome
    }

    /// Waits until a source has given no more than it may in a second, by what its last step moved. False where it is to
    /// stop before, or its share of time is over: then the wait goes on with the next step.
    async fn has_rested(&self, source: NodeId) -> bool {
        let begun = Instant::now();
        loop {
            let until = lock(&self.rests_until).get(&source).copied();
            let left = until.map_or(Duration::ZERO, |until| {
                until.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return true;
            }
            if self.is_to_stop() || begun.elapsed() >= SHARE {
                return false;
            }
            tokio::time::sleep(left.min(ASK_EVERY)).await;
        }
    }

    fn count(&self, moved: &Moved, by_engine: bool) {
        let (slots, keys) = (moved.slots.count(), moved.keys);
        tracing::debug!(slots, keys, by_engine, "slots have moved");
        let mut total = lock(&self.total);
        total.keys_unmeasured += if by_engine {
            keys
        } else {
            moved.keys_unmeasured
        };
        total.slots += u64::from(moved.slots.count());
        total.keys += moved.keys;
        total.bytes += moved.bytes;
    }
}

/// How fast a source gives its keys away.
struct Pacer<'a> {
    moves: &'a Moves,
    budget: Budget,
    batch: Option<Batch>,
}

impl Pace for Pacer<'_> {
    fn next(&mut self, last: Option<&Burst>) -> Allowance {
        let last = self.batch.zip(last.map(went));
        let next = next_batch(last, &self.budget);
        self.batch = Some(next);
        Allowance {
            keys: next.keys_max,
            bytes: next.bytes_max,
            pause: next.rest,
            alone: next.alone,
        }
    }

    fn is_urgent(&self) -> bool {
        self.moves.is_to_stop()
    }
}

/// How long so many bytes take where only so many may go in a second.
fn due(bytes: u64, per_second: u64) -> Duration {
    let us = u128::from(bytes) * 1_000_000 / u128::from(per_second.max(1));
    Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX)).min(REST_MAX)
}

/// Whether a move failed in a way that another try can't mend.
pub(crate) fn will_not_pass(error: &MoveError) -> bool {
    match error {
        MoveError::Node(error) => error.retry() == shardwright_engine::Retry::Never,
        MoveError::BothSides { .. }
        | MoveError::TargetFull { .. }
        | MoveError::NoRoom { .. }
        | MoveError::Evicts { .. }
        | MoveError::TooGreat { .. }
        | MoveError::Denied { .. }
        | MoveError::Refused { .. }
        | MoveError::SeveralDatabases { .. }
        | MoveError::Stuck { .. } => true,
        // The next look sees what is there, and who knows whom; a failed job is not tried again.
        MoveError::NotOwner { .. }
        | MoveError::NotClean { .. }
        | MoveError::Stranger { .. }
        | MoveError::Job { .. } => false,
    }
}

fn went(burst: &Burst) -> Went {
    Went {
        keys: burst.keys,
        bytes: burst.bytes,
        took: burst.took,
        lag: burst.lag,
        asked_per_s: burst.asked_per_s,
    }
}

async fn apart(links: &Links, o: &Observed, node: NodeId) -> Result<Client, StepError> {
    let (_, address) = place_of(o, node)?;
    Ok(links.apart(address, 0).await?)
}

/// A number or a set is whole whatever panicked while it was held.
fn lock<T>(what: &Plain<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
