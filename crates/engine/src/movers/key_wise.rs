//! Slots move key by key: opened, emptied and given to the target, some at a time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use shardwright_topology::{Slot, SlotSet};

use super::bursts::{Batch, Feed};
use super::ends::{self, Finished};
use super::room::Room;
use super::traffic::Traffic;
use super::{Bounds, Burst, End, MoveError, Moved, Outcome, Pace, Pair};
use crate::{Endpoint, Error, Migrate, Migrated};

/// How many slots are open at the same time at most.
const WINDOW_SLOTS: usize = 64;
/// How many while it is not known whether clients are there.
const FIRST_SLOTS: usize = 8;
/// How many keys the slots that are open at the same time hold, unless it is one slot.
const WINDOW_KEYS: u64 = 20_000;
/// How many keys of begun slots are still moved after a stop, and for how long: a second's work, unless many share the
/// processors. More stay open.
const COMPLETE_KEYS: u64 = 20_000;
const COMPLETE_LIMIT: Duration = Duration::from_secs(10);
/// How often a move that failed for a passing reason is repeated, each time after a longer pause.
const TRIES: u32 = 4;
const TRY_PAUSE: Duration = Duration::from_millis(100);
/// The runtime's timer is no finer than a millisecond: shorter pauses are a thread's.
const SLEEP_MIN: Duration = Duration::from_millis(2);
/// How often in a long pause it is asked whether it may end: a person who wants an end does not notice this.
const CUT_EVERY: Duration = Duration::from_millis(20);
/// After so many rounds in which the keys of a slot did not become none, something else writes them.
const ROUNDS_MAX: u32 = 10;
/// After so many bursts in which no key moved, the source lists keys that it does not have.
const IDLE_BURSTS_MAX: u32 = 50;

/// Moves the slots key by key with `MIGRATE`, some slots at a time, in their order.
///
/// Every slot must be the source's, closed, and empty at the target, which is looked at before
/// it is opened: [`MoveError::NotClean`]. A slot that someone left half moved is not for this.
///
/// `stop` is asked between bursts. After it, and after an error, slots that no key has left are
/// closed again, and after a stop begun ones are completed, unless very many keys are left.
/// [`Outcome::left_open`] names those that are left. `progress` is told after each burst and each time
/// that slots were given to the target.
///
/// A replaced value is the target's older copy of the same key: it is replaced only where this
/// call opened the slot with no key at the target, and the source has been the same process and
/// has had the slot open since.
///
/// Dropping the future leaves slots open, as the end of this process would.
pub async fn key_wise<P, S, F>(
    pair: &Pair<'_>,
    slots: &SlotSet,
    pace: &mut P,
    stop: &S,
    progress: &mut F,
) -> Outcome
where
    P: Pace,
    S: Fn() -> bool,
    F: FnMut(&Moved),
{
    let mut run = Run {
        pair,
        pace,
        stop,
        progress,
        out: Outcome::begin(),
        last: None,
        idle_bursts: 0,
        emptied: Vec::new(),
        traffic: Traffic::default(),
        alone: true,
        room: Room::new(pair.keeps_limit),
        bounds: None,
    };
    let all: Vec<Slot> = slots.slots().collect();
    let mut rest = all.as_slice();
    let mut ahead = None;
    while !rest.is_empty() {
        if stop() {
            run.out.end = End::Stopped;
            break;
        }
        match run.some(rest, ahead.take()).await {
            Ok(Some(done)) => {
                rest = &rest[done.slots..];
                ahead = done.ahead;
            }
            Ok(None) => {
                run.out.end = End::Stopped;
                break;
            }
            Err(error) => {
                run.out.end = End::Failed(error);
                break;
            }
        }
    }
    let emptied = std::mem::take(&mut run.emptied);
    if let Err(error) = run.finish(&emptied).await
        && !matches!(run.out.end, End::Failed(_))
    {
        run.out.end = End::Failed(error);
    }
    run.out
}

struct Run<'r, P, S, F> {
    pair: &'r Pair<'r>,
    pace: &'r mut P,
    stop: &'r S,
    progress: &'r mut F,
    out: Outcome,
    last: Option<Burst>,
    idle_bursts: u32,
    /// Slots whose keys are all at the target, and that are not given to it yet.
    emptied: Vec<Slot>,
    traffic: Traffic,
    /// Whether clients are there, as far as is known: [`Allowance::alone`](super::Allowance::alone).
    alone: bool,
    room: Room,
    /// Asked before the first slot is opened.
    bounds: Option<Bounds>,
}

/// What came of a window.
struct Done {
    /// How many slots were moved.
    slots: usize,
    /// What was read of the next ones meanwhile.
    ahead: Option<Ahead>,
}

/// The slots that come next, and keys of theirs. They are not open yet: what clients write there
/// until then is found at the end, when the keys are counted.
struct Ahead {
    slots: Vec<Slot>,
    feed: Feed,
}

impl Ahead {
    async fn read(pair: &Pair<'_>, rest: &[Slot], alone: bool) -> Result<Option<Self>, Error> {
        let slots = &rest[..rest.len().min(WINDOW_SLOTS)];
        let counts = pair.reader.count_keys_of(slots).await?;
        let count = fitting(&counts);
        let slots = slots[..count].to_vec();
        let mut feed = Feed::new(slots.iter().copied().zip(counts));
        feed.fill(pair, pair.reader, alone).await?;
        Ok((!slots.is_empty()).then_some(Self { slots, feed }))
    }
}

/// How many slots of so many keys go together.
fn fitting(counts: &[u64]) -> usize {
    let mut keys = 0;
    let fit = counts.iter().take_while(|count| {
        keys += **count;
        keys <= WINDOW_KEYS
    });
    fit.count().max(1).min(counts.len())
}

/// Slots that are open at the same time.
struct Window {
    slots: Vec<Slot>,
    counts: Vec<u64>,
    /// The source's process when they were opened.
    run_id: String,
    /// Slots that were closed and opened again: of their keys nothing is proved.
    reopened: BTreeSet<Slot>,
}

impl Window {
    fn feed(&self) -> Feed {
        Feed::new(self.slots.iter().copied().zip(self.counts.iter().copied()))
    }
}

/// What may be done about a move of keys that failed.
enum Trouble {
    /// The target has one of the keys.
    Busy,
    /// It may work a little later.
    Passing,
    /// It will not.
    Fatal(MoveError),
}

/// What an error reply to `MIGRATE` means: it may be the source's own word, or the target's.
fn trouble(target: &Endpoint, error: &Error) -> Trouble {
    const PREFIX: &str = "Target instance replied with error: ";
    let Error::Server { code, message, .. } = error else {
        return Trouble::Fatal(error.clone().into());
    };
    let target = target.clone();
    let Some(said) = message.strip_prefix(PREFIX).map(str::to_owned) else {
        return match code.as_str() {
            "IOERR" => Trouble::Passing,
            _ => Trouble::Fatal(error.clone().into()),
        };
    };
    match said.split(' ').next() {
        Some("BUSYKEY") => Trouble::Busy,
        Some("LOADING" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY") => Trouble::Passing,
        Some("OOM") => Trouble::Fatal(MoveError::TargetFull { target, said }),
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => {
            Trouble::Fatal(MoveError::Denied { target, said })
        }
        _ => Trouble::Fatal(MoveError::Refused { target, said }),
    }
}

/// Why keys did not go, of a `MIGRATE` to this target that failed.
pub fn why_not_moved(target: &Endpoint, error: Error) -> MoveError {
    match trouble(target, &error) {
        Trouble::Fatal(why) => why,
        Trouble::Busy | Trouble::Passing => MoveError::Node(error),
    }
}

/// Leaves the source alone for so long, or until `cut` says that it has been long enough.
async fn leave_alone(pause: Duration, cut: impl Fn() -> bool) {
    let mut left = pause;
    while left >= SLEEP_MIN && !cut() {
        let part = left.min(CUT_EVERY);
        tokio::time::sleep(part).await;
        left -= part;
    }
    if left.is_zero() || left >= SLEEP_MIN {
        return;
    }
    let slept = tokio::task::spawn_blocking(move || std::thread::sleep(left));
    slept.await.expect("a thread that sleeps does not panic");
}

impl<P, S, F> Run<'_, P, S, F>
where
    P: Pace,
    S: Fn() -> bool,
    F: FnMut(&Moved),
{
    /// Moves the first of these slots. Nothing is returned where it was stopped.
    async fn some(
        &mut self,
        rest: &[Slot],
        ahead: Option<Ahead>,
    ) -> Result<Option<Done>, MoveError> {
        let (mut window, feed) = self.open(rest, ahead).await?;
        let slots = window.slots.len();
        let (pair, alone) = (self.pair, self.alone);
        let emptied = std::mem::take(&mut self.emptied);
        let (ended, ahead, given) = tokio::join!(
            self.empty(&mut window, feed, None),
            Ahead::read(pair, &rest[slots..], alone),
            ends::finish(pair, &emptied, alone),
        );
        let given = self.note(&emptied, given);
        match given.and(ended) {
            Ok(true) => {
                self.emptied = window.slots;
                // What could not be read ahead is read later, or fails then.
                let ahead = ahead.ok().flatten();
                Ok(Some(Done { slots, ahead }))
            }
            Ok(false) => {
                self.wind_up(window, true).await?;
                Ok(None)
            }
            Err(first) => {
                // What could not be closed is in the outcome; the first error says why.
                self.wind_up(window, false).await.err();
                Err(first)
            }
        }
    }

    /// Opens the slots that were read ahead, or as many of these as go together.
    async fn open(
        &mut self,
        rest: &[Slot],
        ahead: Option<Ahead>,
    ) -> Result<(Window, Feed), MoveError> {
        let most = match self.traffic.per_s() {
            None => FIRST_SLOTS,
            Some(_) => WINDOW_SLOTS,
        };
        let next = &rest[..rest.len().min(most)];
        let next = ahead.as_ref().map_or(next, |ahead| &ahead.slots);
        ends::must_have_one_database(self.pair.source).await?;
        let (source, target) = ends::look_at_clean(self.pair, next).await?;
        self.traffic
            .note(Instant::now(), [source.served, target.served]);
        let (count, feed) = match ahead {
            Some(ahead) => (ahead.slots.len(), Some(ahead.feed)),
            None => (fitting(&source.counts), None),
        };
        let window = Window {
            slots: rest[..count].to_vec(),
            counts: source.counts[..count].to_vec(),
            run_id: source.run_id,
            reopened: BTreeSet::new(),
        };
        let mut feed = feed.unwrap_or_else(|| window.feed());
        // What can be known before is a reason not to open them.
        feed.fill(self.pair, self.pair.source, self.alone).await?;
        self.refuse_great(&feed).await?;
        let opened = match ends::open(self.pair, &window.slots).await {
            // From here on the source takes no new key of these slots, in whatever database.
            Ok(()) => ends::must_have_one_database(self.pair.source).await,
            Err(error) => Err(error),
        };
        if let Err(error) = opened {
            if !matches!(ends::close(self.pair, &window.slots).await, Ok(held) if held.is_empty()) {
                self.out.leave_open(&window.slots);
            }
            return Err(error);
        }
        Ok((window, feed))
    }

    /// Refuses keys that would keep the source from everyone for too long.
    async fn refuse_great(&mut self, feed: &Feed) -> Result<(), MoveError> {
        let bounds = match self.bounds {
            Some(bounds) => bounds,
            None => *self.bounds.insert(self.pair.bounds().await?),
        };
        feed.refuse_great(self.pair, &bounds).await
    }

    /// Moves keys until the source has none of these slots. False where it was to end before: by this time, or where
    /// none is given when it is stopped.
    async fn empty(
        &mut self,
        window: &mut Window,
        mut feed: Feed,
        until: Option<Instant>,
    ) -> Result<bool, MoveError> {
        let stop = self.stop;
        let ends = || until.map_or_else(stop, |until| Instant::now() >= until);
        for _ in 0..ROUNDS_MAX {
            while feed.fill(self.pair, self.pair.source, self.alone).await? {
                self.refuse_great(&feed).await?;
                if ends() {
                    return Ok(false);
                }
                let allowance = self.pace.next(self.last.as_ref());
                self.alone = allowance.alone;
                if !allowance.pause.is_zero() {
                    let pace = &*self.pace;
                    leave_alone(allowance.pause, || pace.is_urgent() || ends()).await;
                    if ends() {
                        return Ok(false);
                    }
                }
                self.burst(window, &feed.take(&allowance)).await?;
            }
            window.counts = self.pair.source.count_keys_of(&window.slots).await?;
            if window.counts.iter().all(|keys| *keys == 0) {
                self.room.require(self.pair.target, 0, 0).await?;
                return Ok(true);
            }
            feed = window.feed();
        }
        Err(self.stuck(window))
    }

    fn stuck(&self, window: &Window) -> MoveError {
        let held = window.slots.iter().zip(&window.counts);
        let most = held.max_by_key(|(_, keys)| **keys);
        let (slot, keys) = most.map_or((window.slots[0], 0), |(slot, keys)| (*slot, *keys));
        MoveError::Stuck {
            slot,
            keys,
            at: self.pair.source.endpoint().clone(),
        }
    }

    /// Moves these keys in one round trip.
    async fn burst(&mut self, window: &Window, batches: &[Batch]) -> Result<(), MoveError> {
        let bytes = batches.iter().map(|batch| batch.bytes).sum();
        let sizes = batches.iter().map(|batch| batch.greatest);
        let greatest = sizes.max().unwrap_or(0);
        self.room.require(self.pair.target, bytes, greatest).await?;
        let orders: Vec<_> = batches.iter().map(|b| b.order(self.pair, false)).collect();
        let turn = ends::turn(self.pair, self.alone).await;
        let begun = Instant::now();
        let replies = self.pair.source.migrate_all(&orders).await?;
        let took = begun.elapsed();
        // Whoever waited meanwhile is served before this, and so before the next burst.
        self.pair.probe.ping().await?;
        drop(turn);
        self.last = Some(Burst {
            keys: batches.iter().map(Batch::count).sum(),
            bytes: batches.iter().map(|batch| batch.bytes).sum(),
            took,
            lag: begun.elapsed().saturating_sub(took),
            asked_per_s: self.traffic.per_s(),
        });
        let before = self.out.moved.keys;
        let mut failed = Vec::new();
        for (batch, reply) in batches.iter().zip(replies) {
            match reply {
                Ok(Migrated::Moved) => self.count(batch),
                Ok(Migrated::NoKeys) => {}
                Err(error) => failed.push((batch, error)),
            }
        }
        for (batch, error) in failed {
            self.again(window, batch, error).await?;
        }
        self.idle_bursts += 1;
        if self.out.moved.keys > before {
            self.idle_bursts = 0;
        }
        if self.idle_bursts > IDLE_BURSTS_MAX {
            return Err(self.stuck(window));
        }
        (self.progress)(&self.out.moved);
        Ok(())
    }

    fn count(&mut self, batch: &Batch) {
        self.out.moved.keys += batch.count();
        if batch.told {
            self.out.moved.bytes += batch.bytes;
        } else {
            self.out.moved.keys_unmeasured += batch.count();
        }
    }

    /// Repeats what failed, where that can help and is safe.
    async fn again(
        &mut self,
        window: &Window,
        batch: &Batch,
        mut error: Error,
    ) -> Result<(), MoveError> {
        for attempt in 1..=TRIES {
            let replace = match self.trouble(&error) {
                Trouble::Fatal(why) => return Err(why),
                Trouble::Busy if self.is_newest(window, batch.slot).await? => true,
                Trouble::Busy => return self.one_by_one(batch).await,
                Trouble::Passing => {
                    tokio::time::sleep(TRY_PAUSE * attempt).await;
                    // A target that does not answer us must not block the source again.
                    self.pair.target.ping().await?;
                    false
                }
            };
            let order = batch.order(self.pair, replace);
            match self.pair.source.migrate(&order).await {
                Ok(Migrated::Moved) => {
                    self.count(batch);
                    return Ok(());
                }
                Ok(Migrated::NoKeys) => return Ok(()),
                // A target that was silent may still take in what it was sent, after whatever is
                // done next: an order to replace must not come so late.
                Err(late) if replace && matches!(self.trouble(&late), Trouble::Passing) => {
                    return Err(late.into());
                }
                Err(next) => error = next,
            }
        }
        Err(error.into())
    }

    /// Moves each key of a batch by itself: one that is at both ends keeps only itself from moving.
    async fn one_by_one(&mut self, batch: &Batch) -> Result<(), MoveError> {
        let orders: Vec<_> = batch
            .keys
            .chunks(1)
            .map(|keys| Migrate {
                keys,
                ..batch.order(self.pair, false)
            })
            .collect();
        let mut keys = Vec::new();
        for (key, reply) in batch
            .keys
            .iter()
            .zip(self.pair.source.migrate_all(&orders).await?)
        {
            match reply {
                // One that is no longer there went by the first command, which sent all that could go.
                Ok(Migrated::Moved | Migrated::NoKeys) => self.out.moved.keys += 1,
                Err(error) if error.is_busy_key() => {
                    keys.push(String::from_utf8_lossy(key).into_owned());
                }
                Err(error) => return Err(error.into()),
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
        let slot = batch.slot;
        Err(MoveError::BothSides { slot, keys })
    }

    /// Whether what the source holds of a slot is at least as new as what the target holds: the
    /// slot was opened by us while the target held nothing, and the source has been the same
    /// process and has had it open since. So it served each key until it was moved.
    async fn is_newest(&self, window: &Window, slot: Slot) -> Result<bool, Error> {
        let now = ends::look(self.pair.source, &[slot]).await?;
        Ok(!window.reopened.contains(&slot)
            && now.run_id == window.run_id
            && now.owns(self.pair.from, slot)
            && now.gives(slot, self.pair.to))
    }

    fn trouble(&self, error: &Error) -> Trouble {
        trouble(self.pair.target.endpoint(), error)
    }

    /// Gives emptied slots to the target.
    async fn finish(&mut self, slots: &[Slot]) -> Result<(), MoveError> {
        let finished = ends::finish(self.pair, slots, self.alone).await;
        self.note(slots, finished)
    }

    /// Keeps what came of giving these slots to the target.
    fn note(
        &mut self,
        slots: &[Slot],
        finished: Result<Finished, (Finished, Error)>,
    ) -> Result<(), MoveError> {
        if slots.is_empty() {
            return Ok(());
        }
        let (finished, error) = match finished {
            Ok(mut finished) => {
                let failed = finished.failed.take();
                (finished, failed)
            }
            Err((finished, error)) => (finished, Some(error)),
        };
        self.out.own(&finished.slots);
        self.out.untold.extend(finished.untold);
        (self.progress)(&self.out.moved);
        match error {
            None => Ok(()),
            Some(error) => {
                let mut left = slots.to_vec();
                left.retain(|slot| !finished.slots.contains(slot));
                self.out.leave_open(&left);
                Err(error.into())
            }
        }
    }

    /// Brings the slots of a window to a clean end: those that the target has nothing of are
    /// closed, those that the source has nothing of are given to the target, and the others are
    /// completed, if asked to and if that is soon done. The rest is noted as left open.
    async fn wind_up(&mut self, mut window: Window, complete: bool) -> Result<(), MoveError> {
        let all = window.slots.clone();
        let ended = self.try_wind_up(&mut window, complete).await;
        if ended.is_err() {
            // Of what is not known to be closed or given, nothing is known.
            let given = &self.out.moved.slots;
            let left: Vec<Slot> = all.into_iter().filter(|s| !given.contains(*s)).collect();
            self.out.leave_open(&left);
        }
        ended
    }

    async fn try_wind_up(&mut self, window: &mut Window, complete: bool) -> Result<(), MoveError> {
        let pair = self.pair;
        let (here, there) = tokio::join!(
            pair.source.count_keys_of(&window.slots),
            pair.target.count_keys_of(&window.slots)
        );
        let (mut idle, mut done) = (Vec::new(), Vec::new());
        let (mut half, mut left) = (Vec::new(), 0);
        for ((slot, here), there) in window.slots.iter().zip(here?).zip(there?) {
            match (here, there) {
                (_, 0) => idle.push(*slot),
                (0, _) => done.push(*slot),
                (keys, _) => {
                    half.push(*slot);
                    left += keys;
                }
            }
        }
        let reopened = ends::close(pair, &idle).await?;
        window.reopened.extend(&reopened);
        half.extend(reopened);
        if complete && left <= COMPLETE_KEYS && !half.is_empty() {
            window.slots.clone_from(&half);
            window.counts = pair.source.count_keys_of(&half).await?;
            let feed = window.feed();
            let until = Instant::now() + COMPLETE_LIMIT;
            if self.empty(window, feed, Some(until)).await? {
                done.append(&mut half);
            }
        }
        self.out.leave_open(&half);
        self.finish(&done).await
    }
}
