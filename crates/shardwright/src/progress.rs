//! Progress of long work, on standard error: a line that changes on a terminal, a line for each change elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use shardwright_planner::Waiting;
use shardwright_runtime::{Report, Total};
use shardwright_topology::Observed;

use crate::moves::seconds;
use crate::report::named;

/// How often slots that move are told of, where lines stay.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Tells what a keeper does while it works.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last: String,
    moving: Moving,
}

/// What has moved, and since when.
#[derive(Debug)]
struct Moving {
    before: Total,
    /// The end of the last pass.
    passed: Instant,
    begun: Option<Instant>,
    ended: Instant,
    now: Total,
    told: Option<Instant>,
}

impl Moving {
    fn new(before: Total) -> Self {
        let now = Instant::now();
        Self {
            before,
            passed: now,
            begun: None,
            ended: now,
            now: before,
            told: None,
        }
    }

    /// Takes note of a pass, and says how far it is: slots moved, and of how many. None where none move.
    fn pass(&mut self, report: &Report) -> Option<(u64, u64)> {
        let now = Instant::now();
        let grown = report.moved.slots - self.now.slots;
        if grown > 0 || report.moved.keys > self.now.keys {
            self.begun.get_or_insert(self.passed);
            self.ended = now;
        }
        self.passed = now;
        self.now = report.moved;
        self.begun?;
        let left = report.plan.waiting.iter().find_map(|w| match w {
            Waiting::Moves { slots_left, .. } => Some(u64::from(*slots_left)),
            _ => None,
        })?;
        let done = self.slots();
        Some((done, done + left.saturating_sub(grown)))
    }

    fn slots(&self) -> u64 {
        self.now.slots - self.before.slots
    }

    fn keys(&self) -> u64 {
        self.now.keys - self.before.keys
    }

    fn took(&self) -> Duration {
        self.begun
            .map_or(Duration::ZERO, |begun| self.ended - begun)
    }

    fn line(&self, done: u64, of: u64) -> String {
        let left = (u128::from(of - done) * self.took().as_millis())
            .checked_div(u128::from(done))
            .map(|ms| u64::try_from(ms.div_ceil(1_000)).unwrap_or(u64::MAX));
        let left = left
            .filter(|s| *s > 0)
            .map_or_else(String::new, |s| format!(", {} left", seconds(s)));
        let (keys, rate) = (self.keys(), rate(self.keys(), self.took()));
        format!("moved {done} of {of} slots, {keys} keys ({rate}){left}")
    }
}

impl Progress {
    /// Of a keeper that has moved so much already.
    pub(crate) fn new(moved: Total) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>3} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self {
            bar,
            last: String::new(),
            moving: Moving::new(moved),
        }
    }

    /// Tells of one pass: how far the move of slots is, else the steps taken, else what is waited for.
    pub(crate) fn pass(&mut self, report: &Report) {
        if let Some((done, of)) = self.moving.pass(report) {
            return self.moves(done, of);
        }
        let now = match (report.plan.steps.as_slice(), report.plan.waiting.as_slice()) {
            ([], []) => return,
            ([], [first, rest @ ..]) => {
                format!(
                    "waiting: {}{}",
                    named(&first.to_string(), &report.observed),
                    more(rest.len())
                )
            }
            ([first, rest @ ..], _) => format!(
                "{}{}",
                named(&first.to_string(), &report.observed),
                more(rest.len())
            ),
        };
        self.say(&now);
    }

    fn moves(&mut self, done: u64, of: u64) {
        let line = self.moving.line(done, of);
        let Some(bar) = &self.bar else {
            let due = self.moving.told.is_none_or(|at| at.elapsed() >= LINE_EVERY);
            if due || done == of {
                self.moving.told = Some(Instant::now());
                self.say(&line);
            }
            return;
        };
        if bar.length() != Some(of) {
            let wide = ProgressStyle::with_template("{spinner} {elapsed:>3} {bar:24} {msg}");
            if let Ok(style) = wide {
                bar.set_style(style);
            }
            bar.set_length(of);
        }
        bar.set_position(done);
        self.say(&line);
    }

    /// Tells something, if it is news.
    pub(crate) fn say(&mut self, text: &str) {
        if text == self.last {
            return;
        }
        text.clone_into(&mut self.last);
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => crate::printer::chatter(text),
        }
    }

    /// Tells something that stays.
    pub(crate) fn keep(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => crate::printer::chatter(text),
        }
    }

    /// Takes the line away; what moved is told, and stays.
    pub(crate) fn done(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        if self.moving.begun.is_some() {
            let (slots, keys) = (self.moving.slots(), self.moving.keys());
            let took = self.moving.took();
            let (s, rate) = (took.as_secs_f64(), rate(keys, took));
            crate::printer::chatter(&format!(
                "moved {slots} slots, {keys} keys in {s:.1} s ({rate})"
            ));
        }
    }
}

/// So many keys in this time, by the second.
fn rate(keys: u64, took: Duration) -> String {
    let ms = took.as_millis().max(1);
    let per_s = u128::from(keys) * 1_000 / ms;
    if per_s < 10_000 {
        format!("{per_s} keys/s")
    } else {
        format!("{} k keys/s", per_s / 1_000)
    }
}

fn more(count: usize) -> String {
    if count == 0 {
        String::new()
    } else {
        format!(" (and {count} more)")
    }
}

/// What a promotion costs, once it was done: said even where nobody watches the line.
pub(crate) fn promotions(report: &Report, o: &Observed) -> Vec<String> {
    report
        .outcomes
        .iter()
        .filter(|outcome| outcome.result.is_ok())
        .filter(|outcome| {
            matches!(
                outcome.step.action,
                shardwright_planner::Action::Failover { .. }
                    | shardwright_planner::Action::Takeover { .. }
            )
        })
        .map(|outcome| named(&outcome.step.to_string(), o))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_is_told_with_its_speed() {
        let mut moving = Moving::new(Total::default());
        let begun = moving.passed;
        moving.begun = Some(begun);
        moving.ended = begun + Duration::from_secs(2);
        moving.now = Total {
            slots: 1_024,
            keys: 96_000,
            bytes: 0,
        };
        assert_eq!(
            moving.line(1_024, 4_096),
            "moved 1024 of 4096 slots, 96000 keys (48 k keys/s), 6 s left"
        );
        assert_eq!(rate(96, Duration::from_secs(2)), "48 keys/s");
    }
}
