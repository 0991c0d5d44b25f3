//! Progress of long work, on standard error: a line that changes on a terminal, a line for each change elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use shardwright_planner::Action;
use shardwright_runtime::{MoveProgress, Moving, Report, Total};
use shardwright_topology::Observed;

use crate::handover::Answer;
use crate::moves::seconds;
use crate::report::named;
use crate::requests::Answers;
use crate::status::bytes;

/// How often slots that move are told of, where lines stay.
const LINE_EVERY: Duration = Duration::from_secs(2);
/// How often slots that move are told of to another run, which shows them as it likes.
const SENT_EVERY: Duration = Duration::from_millis(100);
/// How often what is still waited for is said again, where lines stay.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Tells what a keeper does while it works.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    /// Where it is told instead, when another run asked for what is done.
    elsewhere: Option<Answers>,
    last: String,
    moving: Moving,
    /// When slots that move were told of last.
    told: Option<Instant>,
    /// What was waited for, and when that was said last.
    waits: BTreeMap<String, Instant>,
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
        Self::told_by(bar, None, moved)
    }

    /// The same, told where another run asked.
    pub(crate) fn elsewhere(moved: Total, answers: Answers) -> Self {
        Self::told_by(None, Some(answers), moved)
    }

    fn told_by(bar: Option<ProgressBar>, elsewhere: Option<Answers>, moved: Total) -> Self {
        Self {
            bar,
            elsewhere,
            last: String::new(),
            moving: Moving::new(moved),
            told: None,
            waits: BTreeMap::new(),
        }
    }

    /// Tells of one pass: how far the move of slots is, else the steps taken, else what is waited for.
    pub(crate) fn pass(&mut self, report: &Report) {
        let far = self.moving.pass(report);
        if let Some(far) = far.filter(|_| self.moving.has_begun()) {
            return self.moves(&far);
        }
        let now = match (report.plan.steps.as_slice(), report.plan.waiting.as_slice()) {
            ([], []) => return,
            ([], [first, rest @ ..]) => {
                let wait = named(&first.to_string(), &report.observed);
                if !self.is_news(&wait) {
                    return;
                }
                format!("waiting: {wait}{}", more(rest.len()))
            }
            ([first, rest @ ..], _) => format!(
                "{}{}",
                named(&first.to_string(), &report.observed),
                more(rest.len())
            ),
        };
        self.say(&now);
    }

    /// Whether a wait is to be said: always where the line changes in place, else if it was not said lately.
    fn is_news(&mut self, wait: &str) -> bool {
        let lately = |at: &Instant| at.elapsed() < AGAIN_AFTER;
        if self.bar.is_none() && self.waits.get(wait).is_some_and(lately) {
            return false;
        }
        self.waits.insert(wait.to_owned(), Instant::now());
        true
    }

    /// Tells how far slots have moved: of a keeper here, or of an operator.
    pub(crate) fn moves(&mut self, far: &MoveProgress) {
        if self.elsewhere.is_some() {
            let every = self.told.is_none_or(|at| at.elapsed() >= SENT_EVERY);
            if every || far.slots_left == 0 || far.paused {
                self.told = Some(Instant::now());
                self.send(Answer::Moves((*far).into()));
            }
            return;
        }
        let line = line(far);
        let (done, of) = (far.slots_moved, far.slots_moved + far.slots_left);
        let Some(bar) = &self.bar else {
            let due = self.told.is_none_or(|at| at.elapsed() >= LINE_EVERY);
            if due || done == of || far.paused {
                self.told = Some(Instant::now());
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
        let line = text.to_owned();
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None if self.elsewhere.is_some() => self.send(Answer::Now { line }),
            None => crate::printer::chatter(text),
        }
    }

    fn send(&self, answer: Answer) {
        if let Some(answers) = &self.elsewhere {
            // A reader that is gone is no failure of ours.
            drop(answers.send(answer));
        }
    }

    /// Tells something that stays.
    pub(crate) fn keep(&mut self, text: &str) {
        let line = text.to_owned();
        match &self.bar {
            Some(bar) => bar.println(line),
            None if self.elsewhere.is_some() => self.send(Answer::Keep { line }),
            None => crate::printer::chatter(text),
        }
    }

    /// Takes the line away; what moved is told, and stays.
    pub(crate) fn done(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.moving.has_begun() {
            let Total { slots, keys, .. } = self.moving.moved();
            let took = self.moving.took();
            let (s, rate) = (took.as_secs_f64(), rate(per_s(keys, took)));
            let line = format!("moved {slots} slots, {keys} keys in {s:.1} s ({rate})");
            match &self.elsewhere {
                None => crate::printer::chatter(&line),
                Some(_) => self.send(Answer::Say { line }),
            }
        }
    }
}

/// How far slots have moved, in a line.
pub(crate) fn line(far: &MoveProgress) -> String {
    let (done, of) = (far.slots_moved, far.slots_moved + far.slots_left);
    let moved = format!("moved {done} of {of} slots, {} keys", far.keys_moved);
    if far.paused {
        return format!("paused: {moved}");
    }
    let speeds = [
        far.keys_per_s.map(rate),
        far.bytes_per_s.map(|n| format!("{}/s", bytes(n))),
    ];
    let speeds: Vec<String> = speeds.into_iter().flatten().collect();
    let speeds = if speeds.is_empty() {
        String::new()
    } else {
        format!(" ({})", speeds.join(", "))
    };
    let left = far
        .eta_s
        .filter(|s| *s > 0)
        .map_or_else(String::new, |s| format!(", about {} left", seconds(s)));
    format!("{moved}{speeds}{left}")
}

fn per_s(count: u64, took: Duration) -> u64 {
    let per_s = u128::from(count) * 1_000 / took.as_millis().max(1);
    u64::try_from(per_s).unwrap_or(u64::MAX)
}

/// So many keys in a second.
fn rate(per_s: u64) -> String {
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

/// Whether a step makes another node the primary of slots without the one that was handing them over.
pub(crate) fn promotes(action: &Action) -> bool {
    matches!(
        action,
        Action::Failover { .. } | Action::Takeover { .. } | Action::TakeBack { .. }
    )
}

/// What a promotion costs, once it was done: said even where nobody watches the line.
pub(crate) fn promotions(report: &Report, o: &Observed) -> Vec<String> {
    report
        .outcomes
        .iter()
        .filter(|outcome| outcome.result.is_ok() && promotes(&outcome.step.action))
        .map(|outcome| named(&outcome.step.to_string(), o))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_is_told_with_its_speed() {
        let far = MoveProgress {
            slots_moved: 1_024,
            slots_left: 3_072,
            keys_moved: 96_000,
            keys_per_s: Some(48_000),
            bytes_per_s: Some(5 << 20),
            eta_s: Some(6),
            paused: false,
        };
        assert_eq!(
            line(&far),
            "moved 1024 of 4096 slots, 96000 keys (48 k keys/s, 5.0M/s), about 6 s left"
        );
        let by_the_engine = MoveProgress {
            bytes_per_s: None,
            ..far
        };
        assert_eq!(
            line(&by_the_engine),
            "moved 1024 of 4096 slots, 96000 keys (48 k keys/s), about 6 s left"
        );
        let paused = MoveProgress {
            paused: true,
            ..far
        };
        assert_eq!(
            line(&paused),
            "paused: moved 1024 of 4096 slots, 96000 keys"
        );
        assert_eq!(rate(48), "48 keys/s");
    }
}
