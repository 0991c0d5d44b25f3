//! How much moves next: bursts that keep a server busy no longer than its clients may wait.

use std::time::Duration;

/// What moving slots may cost the clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// How long one burst may keep the source from its clients. 1 ms or more makes sense; what takes longer than that
    /// and is the least that a burst moves, or a single key, still has to move.
    pub pause_max: Duration,
    /// How many bytes of memory one source gives away in a second at most. `None`: as many as it can.
    pub bandwidth_bytes_max: Option<u64>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            pause_max: Duration::from_millis(10),
            bandwidth_bytes_max: None,
        }
    }
}

/// What the next burst may move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch {
    /// How many keys at most.
    pub keys_max: u32,
    /// How many bytes of memory at most. A key that is greater goes alone.
    pub bytes_max: u64,
    /// How long to leave the source alone before.
    pub rest: Duration,
    /// Whether clients are there, or may be: then nothing else is asked of the source and the target meanwhile.
    pub alone: bool,
}

/// How a burst went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Went {
    /// How many keys moved.
    pub keys: u64,
    /// How many bytes of memory they took.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// How long the source then needed to answer one question: short where no client waits.
    pub lag: Duration,
    /// How many commands a second clients send to the source or the target; none where that is not known.
    pub asked_per_s: Option<u32>,
}

/// Bounds on what one burst moves, whatever its speed. The first burst, of which nothing is known yet, moves the least.
///
/// What takes long for so little is the way to the target and back, or a processor that many share: each burst costs
/// that once more, so that ever smaller ones never end. (Two cores with 20 pods: bursts of two to ten keys took 100 ms.)
const KEYS_MIN: u32 = 32;
const KEYS_MAX: u32 = 8_192;
const BYTES_MIN: u64 = 64 * 1024;
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A burst aims at so much of what it may take, in percent: times vary.
const AIM_PERCENT: u32 = 70;
/// The same while clients are there: most of them then wait much less than they may have to.
const AIM_AMONG_CLIENTS_PERCENT: u32 = 25;
/// A server that is sent so many commands a second has clients: more than those who only look whether it lives.
const CLIENTS_PER_S: u32 = 20;
/// After a burst the source is its clients' for at most so much of the burst's time, in percent.
const REST_PERCENT: u32 = 50;
/// What of a question's time is the way to the source and back, at most.
const TRIP_MAX: Duration = Duration::from_micros(250);
/// A source that has nothing else to do answers a question within this, on a busy machine too.
const LAG_IDLE: Duration = Duration::from_micros(400);
/// How many times the lag beyond that the source is left alone: a server whose clients send again as soon as they are
/// answered shows about half a millisecond of it, and has its full rest by this.
const REST_PER_LAG: u32 = 8;

/// How many keys the engine's own move takes at once where nobody waits for it: some seconds' work, beside which the
/// tenth of a second that it takes to begin and to end is little.
const JOB_KEYS: u64 = 500_000;
/// How many for each millisecond of pause while clients are there. Valkey 9.1 held writes back for 27 ms at the end of
/// a job of 2 000 keys, for 54 ms after 10 000 and for 144 ms after 40 000.
const JOB_KEYS_PER_MS: u64 = 1_000;

/// How many keys one job of the engine's own may move, by how many commands a second clients send to the source.
///
/// Writes wait at the end of a job. The engine does not bound that, so that this is no promise: the fewer keys, the
/// shorter.
pub fn job_keys(asked_per_s: Option<u32>, budget: &Budget) -> u64 {
    if !has_clients(asked_per_s) {
        return JOB_KEYS;
    }
    let ms = u64::try_from(budget.pause_max.as_millis()).unwrap_or(u64::MAX);
    ms.max(1).saturating_mul(JOB_KEYS_PER_MS).min(JOB_KEYS)
}

/// Unknown is not none.
fn has_clients(asked_per_s: Option<u32>) -> bool {
    asked_per_s.is_none_or(|asked| asked >= CLIENTS_PER_S)
}

/// The next burst, after the last one and how it went; the first for `None`.
///
/// It is as much as the last burst's speed moves in the time allowed, at most twice and at least a quarter of what the
/// last was allowed.
pub fn next_batch(last: Option<(Batch, Went)>, budget: &Budget) -> Batch {
    let Some((allowed, went)) = last else {
        return Batch {
            keys_max: KEYS_MIN,
            bytes_max: BYTES_MIN,
            rest: Duration::ZERO,
            alone: true,
        };
    };
    let alone = has_clients(went.asked_per_s);
    let percent = if alone {
        AIM_AMONG_CLIENTS_PERCENT
    } else {
        AIM_PERCENT
    };
    let aim = budget.pause_max * percent / 100;
    // The way to the source and back keeps nobody else from it.
    let kept = went.took.saturating_sub(went.lag.min(TRIP_MAX));
    let took_us = u64::try_from(kept.as_micros()).unwrap_or(u64::MAX).max(1);
    let aim_us = u64::try_from(aim.as_micros()).unwrap_or(u64::MAX).max(1);
    // What this speed would move in the time that is aimed at.
    let reach = |moved: u64| {
        let moved = u128::from(moved) * u128::from(aim_us) / u128::from(took_us);
        u64::try_from(moved).unwrap_or(u64::MAX)
    };
    let within = |reach: u64, allowed: u64| reach.clamp(allowed / 4, allowed.saturating_mul(2));
    let keys = within(reach(went.keys), u64::from(allowed.keys_max))
        .clamp(KEYS_MIN.into(), KEYS_MAX.into());
    let bytes = within(reach(went.bytes), allowed.bytes_max).clamp(BYTES_MIN, BYTES_MAX);
    Batch {
        keys_max: u32::try_from(keys).unwrap_or(KEYS_MAX),
        bytes_max: bytes,
        rest: rest(&went, budget),
        alone,
    }
}

/// Whoever waited during the burst has been served when the next is asked for. So an idle source needs no rest; the more
/// there was to serve, the longer it is.
fn rest(went: &Went, budget: &Budget) -> Duration {
    let most = went.took.min(budget.pause_max) * REST_PERCENT / 100;
    let turn = most.min(went.lag.saturating_sub(LAG_IDLE) * REST_PER_LAG);
    let Some(per_second) = budget.bandwidth_bytes_max else {
        return turn;
    };
    let due_us = u128::from(went.bytes) * 1_000_000 / u128::from(per_second.max(1));
    let due = Duration::from_micros(u64::try_from(due_us).unwrap_or(u64::MAX));
    turn.max(due.saturating_sub(went.took))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn budget(pause_ms: u32) -> Budget {
        Budget {
            pause_max: MS * pause_ms,
            bandwidth_bytes_max: None,
        }
    }

    /// Bursts against a source of this speed; the longest, and the last.
    fn play(budget: &Budget, us_per_key: u64, bytes_per_key: u64) -> (Duration, Batch) {
        let (mut last, mut longest) = (None, Duration::ZERO);
        for _ in 0..50 {
            let batch = next_batch(last, budget);
            let keys = u64::from(batch.keys_max)
                .min(batch.bytes_max / bytes_per_key)
                .max(1);
            let took = Duration::from_micros(keys * us_per_key);
            longest = longest.max(took);
            let went = Went {
                keys,
                bytes: keys * bytes_per_key,
                took,
                lag: Duration::ZERO,
                asked_per_s: Some(0),
            };
            last = Some((batch, went));
        }
        (longest, last.expect("it was played").0)
    }

    #[test]
    fn bursts_grow_to_the_time_allowed_and_not_beyond() {
        for (pause_ms, us, bytes) in [(10, 14, 150), (10, 60, 10_000), (5, 14, 150), (1, 14, 150)] {
            let (longest, last) = play(&budget(pause_ms), us, bytes);
            assert!(longest <= MS * pause_ms, "{pause_ms} {us}: {longest:?}");
            let keys = u64::from(last.keys_max).min(last.bytes_max / bytes).max(1);
            let took = Duration::from_micros(keys * us);
            assert!(took >= MS * pause_ms / 2, "{pause_ms} {us}: {took:?}");
        }
    }

    #[test]
    fn a_slow_burst_makes_the_next_smaller() {
        let allowed = Batch {
            keys_max: 1_000,
            bytes_max: 1 << 20,
            rest: Duration::ZERO,
            alone: false,
        };
        let went = Went {
            keys: 1_000,
            bytes: 1 << 20,
            took: MS * 20,
            lag: Duration::ZERO,
            asked_per_s: Some(0),
        };
        let next = next_batch(Some((allowed, went)), &budget(10));
        assert_eq!((next.keys_max, next.bytes_max), (350, 367_001));
        // However slow, by no more than to a quarter: one outlier says little.
        let went = Went {
            took: MS * 500,
            ..went
        };
        assert_eq!(next_batch(Some((allowed, went)), &budget(10)).keys_max, 250);
    }

    /// Such a burst takes as long whatever it moves.
    #[test]
    fn a_burst_that_waits_for_others_is_not_made_ever_smaller() {
        let budget = budget(10);
        let mut batch = next_batch(None, &budget);
        for _ in 0..20 {
            let went = Went {
                keys: batch.keys_max.into(),
                bytes: 3_000,
                took: MS * 100,
                lag: MS * 100,
                asked_per_s: Some(1_000),
            };
            batch = next_batch(Some((batch, went)), &budget);
        }
        assert_eq!((batch.keys_max, batch.bytes_max), (32, 65_536));
    }

    #[test]
    fn bandwidth_is_kept_by_resting() {
        let budget = Budget {
            bandwidth_bytes_max: Some(1_000_000),
            ..budget(10)
        };
        let allowed = next_batch(None, &budget);
        let went = Went {
            keys: 10,
            bytes: 100_000,
            took: MS * 4,
            lag: Duration::ZERO,
            asked_per_s: Some(0),
        };
        assert_eq!(next_batch(Some((allowed, went)), &budget).rest, MS * 96);
    }

    #[test]
    fn a_source_rests_the_longer_the_more_its_clients_ask() {
        let allowed = next_batch(None, &budget(10));
        let rest = |lag| {
            let went = Went {
                keys: 500,
                bytes: 100_000,
                took: MS * 8,
                lag,
                asked_per_s: Some(0),
            };
            next_batch(Some((allowed, went)), &budget(10)).rest
        };
        assert_eq!(rest(LAG_IDLE), Duration::ZERO);
        assert_eq!(rest(LAG_IDLE + MS / 4), MS * 2);
        assert_eq!(rest(MS * 3), MS * 4, "at most half of the burst");
    }

    #[test]
    fn among_clients_bursts_are_short_and_alone() {
        let allowed = Batch {
            keys_max: 400,
            bytes_max: 1 << 20,
            rest: Duration::ZERO,
            alone: false,
        };
        let next = |asked_per_s, lag| {
            let went = Went {
                keys: 400,
                bytes: 100_000,
                took: MS * 10,
                lag,
                asked_per_s,
            };
            let next = next_batch(Some((allowed, went)), &budget(10));
            (next.keys_max, next.alone)
        };
        assert_eq!(next(Some(0), Duration::ZERO), (280, false));
        assert_eq!(next(Some(CLIENTS_PER_S), Duration::ZERO), (100, true));
        assert_eq!(
            next(None, Duration::ZERO),
            (100, true),
            "unknown is not none"
        );
        let trip = next(Some(0), TRIP_MAX).0;
        assert_eq!(trip, 287, "the way there and back keeps nobody waiting");
        assert_eq!(next(Some(0), MS * 3).0, trip, "nor is it ever longer");
    }

    #[test]
    fn jobs_among_clients_are_small() {
        assert_eq!(job_keys(Some(0), &budget(1)), JOB_KEYS);
        assert_eq!(job_keys(Some(CLIENTS_PER_S), &budget(10)), 10_000);
        assert_eq!(job_keys(None, &budget(5)), 5_000);
        assert_eq!(job_keys(None, &budget(100_000)), JOB_KEYS);
    }
}
