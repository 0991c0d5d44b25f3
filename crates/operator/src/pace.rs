//! How long to rest between passes, and after errors. Pure: what changed and a throw of dice in, a time out.

use std::time::Duration;

/// The first rest while something is under way: gossip brings news within tens of milliseconds.
const BUSY_FIRST: Duration = Duration::from_millis(30);
/// The longest rest while something is under way that no watch and no held connection tells of.
const BUSY_MAX: Duration = Duration::from_secs(1);
/// The rest while all is well, or nothing more happens by itself. Watches and held connections wake earlier.
const IDLE: Duration = Duration::from_secs(5);

/// The rests of one cluster.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// What the last pass came to, and how long was rested after it.
    last: Option<(String, Duration)>,
}

impl Pace {
    /// The rest after a pass that came to `what`. The same again and again is looked at less and less often.
    pub(crate) fn rest(&mut self, at_rest: bool, what: String) -> Duration {
        let before = self.last.take().filter(|(last, _)| *last == what);
        if at_rest {
            return IDLE;
        }
        let rest = before.map_or(BUSY_FIRST, |(_, rest)| (rest * 3 / 2).min(BUSY_MAX));
        self.last = Some((what, rest));
        rest
    }
}

/// The first rest after an error.
const ERROR_FIRST: Duration = Duration::from_millis(500);
/// The longest.
const ERROR_MAX: Duration = Duration::from_secs(30);

/// The rests after errors: each about twice the last, so that a server in trouble is not kept in it.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    next: Option<Duration>,
}

impl Backoff {
    /// The rest after one more error: between three quarters and all of its time, by the dice, so that many clusters
    /// do not come back at once.
    pub(crate) fn failed(&mut self, dice: u8) -> Duration {
        let full = self.next.unwrap_or(ERROR_FIRST);
        self.next = Some((full * 2).min(ERROR_MAX));
        full * (768 + u32::from(dice)) / 1_024
    }

    /// It went well.
    pub(crate) fn succeeded(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_followed_closely_and_a_standstill_is_not() {
        let mut pace = Pace::default();
        let first = pace.rest(false, "a".to_owned());
        assert_eq!(first, BUSY_FIRST);
        let mut last = first;
        for _ in 0..20 {
            last = pace.rest(false, "a".to_owned());
        }
        assert_eq!(last, BUSY_MAX);
        assert_eq!(pace.rest(false, "b".to_owned()), BUSY_FIRST);
        assert_eq!(pace.rest(true, "b".to_owned()), IDLE);
        assert_eq!(pace.rest(false, "b".to_owned()), BUSY_FIRST);
    }

    #[test]
    fn errors_are_repeated_ever_less_often_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let first = backoff.failed(u8::MAX);
        assert!(first < ERROR_FIRST && first >= ERROR_FIRST * 3 / 4);
        for dice in 0..50 {
            assert!(backoff.failed(dice) <= ERROR_MAX);
        }
        assert!(backoff.failed(0) >= ERROR_MAX * 3 / 4);
        backoff.succeeded();
        assert_eq!(backoff.failed(u8::MAX), first);
    }
}
