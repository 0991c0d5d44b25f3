//! Slots move as a whole, by the engine's own doing.

use std::collections::BTreeSet;
use std::time::Duration;

use shardwright_topology::{Slot, SlotSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::room::Room;
use super::traffic::Traffic;
use super::{End, MoveError, Moved, Outcome, Pair, ends};
use crate::{Error, MigrationState, SlotMigration, Way};

/// How many slots one job moves at most: at its end they change their owner together, and a stop
/// or a failure loses what the job has done.
const JOB_SLOTS: usize = 2048;
/// Between the two first looks, by which it is seen whether clients are there.
const WATCHED: Duration = Duration::from_millis(20);
/// A look costs the source less than a tenth of a millisecond.
const POLL_EVERY: Duration = Duration::from_millis(10);
/// A job that ended at the source has ended at the target too within milliseconds.
const CONFIRM_MAX: Duration = Duration::from_secs(10);

/// Moves the slots by `CLUSTER MIGRATESLOTS` (Valkey 9 and later), up to two thousand at a time.
///
/// The source copies them in the background, and holds writes back only at the very end, the longer the
/// more keys the job moves. `job_keys` says how many those may be at most, unless it is one slot, by how
/// many commands a second clients send to the source. Slots are never open: each job moves all of its slots
/// or none. The source logs in at the target as its replication user (`masteruser`), which there needs the
/// right to `cluster|syncslots` and to write, and the target needs memory for what comes.
///
/// `stop` is asked before each job, and while it runs: then it cancels **every** move of slots that the
/// source takes part in. `progress` is told after each job, right before the next is begun; [`Moved::bytes`] stays 0.
///
/// Where the reply to the start of a job is lost, the job may be running: it ends by itself.
pub async fn native<K, S, F>(
    pair: &Pair<'_>,
    slots: &SlotSet,
    job_keys: &K,
    stop: &S,
    progress: &mut F,
) -> Outcome
where
    K: Fn(Option<u32>) -> u64,
    S: Fn() -> bool,
    F: FnMut(&Moved),
{
    let mut out = Outcome::begin();
    let all: Vec<Slot> = slots.slots().collect();
    let mut rest = all.as_slice();
    let mut traffic = match watch(pair).await {
        Ok(traffic) => traffic,
        Err(error) => {
            out.end = End::Failed(error.into());
            return out;
        }
    };
    while !rest.is_empty() {
        if stop() {
            out.end = End::Stopped;
            break;
        }
        match job(pair, rest, &mut traffic, job_keys, stop).await {
            Ok(Ended::Done { slots, keys }) => {
                let (done, after) = rest.split_at(slots);
                out.own(done);
                out.moved.keys += keys;
                rest = after;
                progress(&out.moved);
            }
            Ok(Ended::Cancelled) => {
                out.end = End::Stopped;
                break;
            }
            Err(error) => {
                out.end = End::Failed(error);
                break;
            }
        }
    }
    out
}

enum Ended {
    Done { slots: usize, keys: u64 },
    Cancelled,
}

/// Looks whether clients use the source. Not the target: the engine counts what a job brings there as theirs.
async fn watch(pair: &Pair<'_>) -> Result<Traffic, Error> {
    let mut traffic = Traffic::default();
    for pause in [Duration::ZERO, WATCHED] {
        tokio::time::sleep(pause).await;
        let served = ends::look(pair.source, &[]).await?.served;
        traffic.note(std::time::Instant::now(), [served; 2]);
    }
    Ok(traffic)
}

/// Moves the first of these slots.
async fn job<K, S>(
    pair: &Pair<'_>,
    rest: &[Slot],
    traffic: &mut Traffic,
    job_keys: &K,
    stop: &S,
) -> Result<Ended, MoveError>
where
    K: Fn(Option<u32>) -> u64,
    S: Fn() -> bool,
{
    let ahead = &rest[..rest.len().min(JOB_SLOTS)];
    let (source, _) = ends::look_at_clean(pair, ahead).await?;
    traffic.note(std::time::Instant::now(), [source.served; 2]);
    let most = job_keys(traffic.per_s());
    let mut keys = 0;
    let mut count = 0;
    for more in source.counts {
        if count > 0 && keys + more > most {
            break;
        }
        keys += more;
        count += 1;
    }
    let ahead = &ahead[..count];
    let mut room = Room::new(pair.keeps_limit);
    room.require(pair.target, 0, 0).await?;
    let slots: SlotSet = ahead.iter().copied().collect();
    let before = pair.source.slot_migrations().await?;
    let before: BTreeSet<String> = before.into_iter().map(|job| job.name).collect();
    pair.source.migrate_slots(&slots, pair.to).await?;
    let ours = |job: &SlotMigration| {
        job.way == Way::Export && job.slots == slots && !before.contains(&job.name)
    };
    let (job, full) = until_ended(pair, ours, stop, &mut room).await?;
    if is_targets(pair, ahead, job.as_ref()).await? {
        return Ok(Ended::Done { slots: count, keys });
    }
    if let Some(full) = full {
        return Err(full);
    }
    match job {
        Some(job) if job.state == MigrationState::Cancelled && stop() => Ok(Ended::Cancelled),
        Some(job) => Err(MoveError::Job {
            at: pair.source.endpoint().clone(),
            said: match job.state {
                MigrationState::Cancelled => "somebody cancelled the move".to_owned(),
                _ => job.message,
            },
        }),
        None => Err(MoveError::Job {
            at: pair.source.endpoint().clone(),
            said: "it knows nothing of the move any more".to_owned(),
        }),
    }
}

/// Watches the job until its end, as the source sees it: none where the source forgot it. One that the target has no
/// room for is cancelled; then it says why.
async fn until_ended<S: Fn() -> bool>(
    pair: &Pair<'_>,
    ours: impl Fn(&SlotMigration) -> bool,
    stop: &S,
    room: &mut Room,
) -> Result<(Option<SlotMigration>, Option<MoveError>), Error> {
    let mut tick = interval(POLL_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cancelled = false;
    let mut full = None;
    loop {
        tick.tick().await;
        if full.is_none() {
            full = match room.require(pair.target, 0, 0).await {
                // The job goes on whether or not the target answers this.
                Ok(()) | Err(MoveError::Node(_)) => None,
                Err(full) => Some(full),
            };
        }
        if !cancelled && (stop() || full.is_some()) {
            pair.source.cancel_slot_migrations().await?;
            cancelled = true;
        }
        let jobs = pair.source.slot_migrations().await?;
        match jobs.into_iter().find(|job| ours(job)) {
            Some(job) if matches!(job.state, MigrationState::Running(_)) => {}
            ended => return Ok((ended, full)),
        }
    }
}

/// Whether the target has taken the slots. It decides that alone at the end: a source that was
/// told to cancel just then says *cancelled* while the slots are the target's.
async fn is_targets(
    pair: &Pair<'_>,
    slots: &[Slot],
    job: Option<&SlotMigration>,
) -> Result<bool, Error> {
    let mut tick = interval(POLL_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    let succeeded = job.is_some_and(|job| job.state == MigrationState::Success);
    loop {
        tick.tick().await;
        let now = ends::look(pair.target, slots).await?;
        if slots.iter().all(|slot| now.owns(pair.to, *slot)) {
            return Ok(true);
        }
        let jobs = pair.target.slot_migrations().await?;
        let running = jobs.iter().any(|other| {
            job.is_some_and(|job| job.name == other.name)
                && matches!(other.state, MigrationState::Running(_))
        });
        if !(running || succeeded) || begun.elapsed() > CONFIRM_MAX {
            return Ok(false);
        }
    }
}
