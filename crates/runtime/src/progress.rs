//! How far a move of slots is, and how fast it goes.

use std::time::{Duration, Instant};

use crate::{Report, Total};

/// What has moved since a move of slots began, and since when.
#[derive(Debug)]
pub struct Moving {
    before: Total,
    now: Total,
    /// The end of the last pass.
    passed: Instant,
    begun: Option<Instant>,
    ended: Instant,
    /// From when on the speed is measured, and what had moved then: a pause begins it anew.
    measured: Option<(Instant, Total)>,
}

/// How far a move of slots is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MoveProgress {
    /// Slots that have changed their owner.
    pub slots_moved: u64,
    /// Slots that have to yet.
    pub slots_left: u64,
    /// Keys that went with them.
    pub keys_moved: u64,
    /// Keys in a second; unknown before any has moved.
    pub keys_per_s: Option<u64>,
    /// Bytes of memory in a second; unknown before anything has moved, and where the engine moves slots by itself.
    pub bytes_per_s: Option<u64>,
    /// The time until the end at this speed, in seconds, rounded up; unknown before anything has moved and while it is
    /// paused.
    pub eta_s: Option<u64>,
    /// Whether a person paused it.
    pub paused: bool,
}

impl Moving {
    /// Of a keeper that has moved so much already.
    pub fn new(before: Total) -> Self {
        let now = Instant::now();
        Self {
            before,
            now: before,
            passed: now,
            begun: None,
            ended: now,
            measured: None,
        }
    }

    /// Takes note of a pass, and says how far it is. None where nothing is to move.
    pub fn pass(&mut self, report: &Report) -> Option<MoveProgress> {
        self.pass_at(report, Instant::now())
    }

    fn pass_at(&mut self, report: &Report, at: Instant) -> Option<MoveProgress> {
        let grown = report.moved.slots.saturating_sub(self.now.slots);
        if grown > 0 || report.moved.keys > self.now.keys {
            self.begun.get_or_insert(self.passed);
            self.measured.get_or_insert((self.passed, self.now));
            self.ended = at;
        }
        self.passed = at;
        self.now = report.moved;
        let paused = report.plan.is_paused();
        if paused {
            self.measured = None;
        }
        let (left, _) = report.plan.moves()?;
        // The plan is from before what this pass moved.
        Some(self.progress(u64::from(left).saturating_sub(grown), paused))
    }

    fn progress(&self, slots_left: u64, paused: bool) -> MoveProgress {
        let since = self.measured.map(|(at, then)| {
            let ms = self.ended.saturating_duration_since(at).as_millis().max(1);
            (ms, self.now.since(then))
        });
        let per_s = |count: u64, ms: u128| big(u128::from(count) * 1_000 / ms);
        let eta_s = since
            .and_then(|(ms, moved)| (u128::from(slots_left) * ms).checked_div(moved.slots.into()));
        let moved = self.moved();
        MoveProgress {
            slots_moved: moved.slots,
            slots_left,
            keys_moved: moved.keys,
            keys_per_s: since.map(|(ms, moved)| per_s(moved.keys, ms)),
            bytes_per_s: since
                .filter(|(_, moved)| moved.keys_unmeasured == 0)
                .map(|(ms, moved)| per_s(moved.bytes, ms)),
            eta_s: eta_s.map(|ms| big(ms.div_ceil(1_000))),
            paused,
        }
    }

    /// Whether anything has moved.
    pub fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// What the keeper had moved in all when it was noted last.
    pub fn total(&self) -> Total {
        self.now
    }

    /// What has moved.
    pub fn moved(&self) -> Total {
        self.now.since(self.before)
    }

    /// From the first to the last thing that moved.
    pub fn took(&self) -> Duration {
        self.begun
            .map_or(Duration::ZERO, |begun| self.ended - begun)
    }
}

fn big(n: u128) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use shardwright_planner::safety::NoMove;
    use shardwright_planner::{Plan, Waiting};
    use shardwright_topology::{Observed, Timestamp};

    use super::*;

    fn report(left: u32, why: &[NoMove], moved: Total) -> Report {
        let why = why.to_vec();
        let waiting = vec![Waiting::Moves {
            slots_left: left,
            why,
        }];
        Report {
            observed: Observed::new(Timestamp(0), None, Vec::new()),
            plan: Plan {
                steps: Vec::new(),
                waiting,
            },
            violations: Vec::new(),
            outcomes: Vec::new(),
            moved,
        }
    }

    fn total(slots: u64, keys: u64, bytes: u64) -> Total {
        Total {
            slots,
            keys,
            bytes,
            ..Total::default()
        }
    }

    #[test]
    fn what_moved_is_told_with_its_speed() {
        let mut moving = Moving::new(total(100, 0, 0));
        let begun = moving.passed;
        let at = |s| begun + Duration::from_secs(s);
        let first = moving.pass_at(&report(4_096, &[], total(100, 0, 0)), at(0));
        let nothing_yet = MoveProgress {
            slots_left: 4_096,
            ..MoveProgress::default()
        };
        assert_eq!(first, Some(nothing_yet));
        let moved = total(1_124, 96_000, 40_000_000);
        let second = moving.pass_at(&report(4_096, &[], moved), at(2));
        let told = MoveProgress {
            slots_moved: 1_024,
            slots_left: 3_072,
            keys_moved: 96_000,
            keys_per_s: Some(48_000),
            bytes_per_s: Some(20_000_000),
            eta_s: Some(6),
            paused: false,
        };
        assert_eq!(second, Some(told));
        assert_eq!(moving.took(), Duration::from_secs(2));
    }

    #[test]
    fn a_pause_counts_for_no_speed() {
        let mut moving = Moving::new(Total::default());
        let begun = moving.passed;
        let at = |s| begun + Duration::from_secs(s);
        moving.pass_at(&report(300, &[], total(100, 1_000, 0)), at(1));
        let paused = report(200, &[NoMove::Paused], total(100, 1_000, 0));
        let told = moving.pass_at(&paused, at(2)).expect("slots are left");
        assert!(told.paused);
        assert_eq!(
            (told.slots_left, told.eta_s, told.keys_per_s),
            (200, None, None)
        );
        moving.pass_at(&paused, at(1_000));
        let resumed = report(200, &[], total(200, 2_000, 0));
        let told = moving.pass_at(&resumed, at(1_001)).expect("slots are left");
        assert_eq!((told.slots_left, told.eta_s), (100, Some(1)));
    }

    #[test]
    fn what_the_engine_moves_by_itself_has_no_size() {
        let mut moving = Moving::new(Total::default());
        let moved = Total {
            keys_unmeasured: 500,
            ..total(100, 1_000, 7_000)
        };
        let at = moving.passed + Duration::from_secs(1);
        let told = moving.pass_at(&report(100, &[], moved), at);
        assert_eq!(told.and_then(|t| t.bytes_per_s), None);
        assert!(moving.pass_at(&report(0, &[], moved), at).is_some());
    }
}
