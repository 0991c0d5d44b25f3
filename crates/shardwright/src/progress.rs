//! Progress of long work, on standard error: a line that changes on a terminal, a line for each change elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use shardwright_runtime::Report;
use shardwright_topology::Observed;

use crate::report::named;

/// Tells what a keeper does while it works.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    pub(crate) fn new() -> Self {
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
        }
    }

    /// Tells of one pass: the steps taken, else what is waited for.
    pub(crate) fn pass(&mut self, report: &Report) {
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

    pub(crate) fn done(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
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
