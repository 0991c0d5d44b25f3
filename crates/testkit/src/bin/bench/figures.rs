//! Figures of several runs.

use std::time::Duration;

/// Runs of one kind.
pub(crate) struct Series<R> {
    pub(crate) engine: String,
    pub(crate) what: String,
    pub(crate) runs: Vec<R>,
}

/// The median; the mean of the middle two where the count is even.
pub(crate) fn median(times: &[Duration]) -> Option<Duration> {
    let sorted = sorted(times);
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get((sorted.len() - 1) / 2)?;
    Some((*upper + *lower) / 2)
}

/// The smallest value that 95 of 100 runs do not exceed (nearest rank).
pub(crate) fn p95(times: &[Duration]) -> Option<Duration> {
    quantile(times, 950)
}

/// The smallest value that so many of 1000 do not exceed (nearest rank).
pub(crate) fn quantile(times: &[Duration], per_mille: usize) -> Option<Duration> {
    let sorted = sorted(times);
    let rank = (sorted.len() * per_mille).div_ceil(1000);
    sorted.get(rank.checked_sub(1)?).copied()
}

fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted
}

/// In milliseconds; a dash for what was not measured.
pub(crate) fn ms(time: Option<Duration>) -> String {
    time.map_or_else(
        || "-".to_owned(),
        |time| format!("{:.0} ms", time.as_secs_f64() * 1000.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_definition() {
        let times: Vec<_> = (1..=30).rev().map(Duration::from_millis).collect();
        assert_eq!(p95(&times), Some(Duration::from_millis(29)));
        assert_eq!(quantile(&times, 500), Some(Duration::from_millis(15)));
        assert_eq!(quantile(&times, 999), Some(Duration::from_millis(30)));
        assert_eq!(median(&times), Some(Duration::from_micros(15_500)));
        assert_eq!(median(&times[..1]), Some(Duration::from_millis(30)));
        assert_eq!((median(&[]), p95(&[])), (None, None));
    }
}
