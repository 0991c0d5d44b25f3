//! The figures side by side, and the goals.

use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, Table};

use super::client::Felt;
use super::ways::Way;
use super::{Run, Series};
use crate::figures::{median, ms};

/// Key by key, in silence, on an engine that has no move of its own.
const CLI_RATIO: f64 = 4.0;
const PIPELINED_RATIO: f64 = 2.5;
/// The engine's own move, beside sending it by hand.
const BY_HAND_RATIO: f64 = 0.9;
/// What a client may wait beyond the pause that was allowed.
const BEYOND_PAUSE: Duration = Duration::from_millis(2);

impl Series {
    /// The median of something over all runs.
    pub(super) fn median(&self, of: impl Fn(&Run) -> Option<Duration>) -> Option<Duration> {
        let all: Vec<Duration> = self.runs.iter().filter_map(of).collect();
        median(&all)
    }

    fn felt(&self, of: impl Fn(&Felt) -> Option<Duration>) -> Option<Duration> {
        self.median(|run| of(&run.felt.as_ref()?.1))
    }

    fn calm(&self, of: impl Fn(&Felt) -> Option<Duration>) -> Option<Duration> {
        self.median(|run| of(&run.felt.as_ref()?.0))
    }

    pub(super) fn p999(&self) -> Option<Duration> {
        self.felt(|felt| felt.p999)
    }

    pub(super) fn keys_per_s(&self) -> Option<f64> {
        self.per_s(|run| run.keys)
    }

    pub(super) fn mb_per_s(&self) -> Option<f64> {
        Some(self.per_s(|run| run.bytes)? / 1e6)
    }

    #[expect(clippy::cast_precision_loss, reason = "a speed")]
    fn per_s(&self, of: impl Fn(&Run) -> u64) -> Option<f64> {
        let took = self.median(|run| Some(run.took))?;
        Some(of(self.runs.first()?) as f64 / took.as_secs_f64())
    }

    fn errors(&self) -> Option<u64> {
        let felt = self.runs.iter().filter_map(|run| run.felt.as_ref());
        let sums = felt.map(|(_, moving)| moving.errors.values().sum::<u64>());
        sums.reduce(|a, b| a + b)
    }

    fn redirects(&self) -> Option<u64> {
        let felt = self.runs.iter().filter_map(|run| run.felt.as_ref());
        felt.map(|(_, moving)| moving.redirects)
            .reduce(|a, b| a + b)
    }
}

/// The run of another way under the same circumstances.
fn beside<'a>(all: &'a [Series], series: &Series, way: Way) -> Option<&'a Series> {
    all.iter().find(|other| {
        other.way == way
            && other.engine == series.engine
            && other.data.name == series.data.name
            && other.loaded == series.loaded
    })
}

/// How many times faster than another way.
fn ratio(all: &[Series], series: &Series, way: Way) -> Option<f64> {
    let other = beside(all, series, way)?.median(|run| Some(run.took))?;
    let took = series.median(|run| Some(run.took))?;
    Some(other.as_secs_f64() / took.as_secs_f64())
}

/// Prints all figures and what they say of the goals.
pub(super) fn print(all: &[Series], rate: u64) {
    println!("\nfrom three shards to four; medians; MB of names and values");
    println!("{}", speeds(all));
    if all.iter().any(|series| series.loaded) {
        println!("\na client of {rate} requests/s beside it, latency since each was due, in ms");
        println!("{}", latencies(all));
    }
    println!("\ngoals");
    for line in goals(all) {
        println!("{line}");
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(
        header
            .iter()
            .enumerate()
            .map(|(at, name)| cell(at, (*name).to_owned())),
    );
    table
}

/// Names to the left, figures to the right.
fn cell(at: usize, text: String) -> Cell {
    let side = if at < 4 {
        CellAlignment::Left
    } else {
        CellAlignment::Right
    };
    Cell::new(text).set_alignment(side)
}

fn add(table: &mut Table, words: Vec<String>) {
    table.add_row(
        words
            .into_iter()
            .enumerate()
            .map(|(at, text)| cell(at, text)),
    );
}

fn speeds(all: &[Series]) -> Table {
    let mut table = table(&[
        "engine",
        "data",
        "beside",
        "way",
        "runs",
        "took",
        "keys/s",
        "MB/s",
        "first slot",
        "x redis-cli",
        "x pipelined",
        "x by hand",
    ]);
    for series in all {
        let times = |way| ratio(all, series, way).map_or("-".to_owned(), |r| format!("{r:.2}"));
        let mut words = names(series);
        words.extend([
            series.runs.len().to_string(),
            ms(series.median(|run| Some(run.took))),
            number(series.keys_per_s(), 0),
            number(series.mb_per_s(), 1),
            ms(series.median(|run| run.first)),
            times(Way::Cli),
            times(Way::CliPipelined),
            times(Way::ByHand),
        ]);
        add(&mut table, words);
    }
    table
}

fn latencies(all: &[Series]) -> Table {
    let mut table = table(&[
        "engine",
        "data",
        "beside",
        "way",
        "calm p50",
        "p99",
        "p99.9",
        "max",
        "moving p50",
        "p99",
        "p99.9",
        "max",
        "redirects",
        "errors",
    ]);
    for series in all.iter().filter(|series| series.loaded) {
        let mut words = names(series);
        let parts: [fn(&Felt) -> Option<Duration>; 4] = [
            |felt| felt.p50,
            |felt| felt.p99,
            |felt| felt.p999,
            |felt| felt.max,
        ];
        words.extend(parts.map(|part| fine(series.calm(part))));
        words.extend(parts.map(|part| fine(series.felt(part))));
        let count = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
        words.extend([count(series.redirects()), count(series.errors())]);
        add(&mut table, words);
    }
    table
}

fn names(series: &Series) -> Vec<String> {
    let beside = if series.loaded { "client" } else { "-" };
    vec![
        series.engine.clone(),
        series.data.title(),
        beside.to_owned(),
        series.way.name(),
    ]
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

/// Milliseconds with two digits.
fn fine(time: Option<Duration>) -> String {
    number(time.map(|time| time.as_secs_f64() * 1000.0), 2)
}

fn goals(all: &[Series]) -> Vec<String> {
    let mut lines = Vec::new();
    for series in all.iter().filter(|series| series.way.is_ours()) {
        let mut goal = |what: String, met: bool| {
            let verdict = if met { "met" } else { "NOT MET" };
            let who = names(series).join(", ");
            lines.push(format!("{verdict:<8} {who}: {what}"));
        };
        let mut times = |way: Way, wanted: f64, name: &str| {
            if let Some(ratio) = ratio(all, series, way) {
                let what = format!("{ratio:.2} times {name}, wanted {wanted}");
                goal(what, ratio >= wanted);
            }
        };
        let of_many = series.data.zset_mb == 0;
        if !series.loaded && of_many && series.way.is_key_wise() {
            times(Way::Cli, CLI_RATIO, "redis-cli");
            times(
                Way::CliPipelined,
                PIPELINED_RATIO,
                "redis-cli, pipeline 200",
            );
        }
        if !series.loaded && series.way == Way::Native {
            times(Way::ByHand, BY_HAND_RATIO, "by hand");
        }
        // One key that is greater than a pause allows still has to move.
        if let (true, Some(pause)) = (of_many, series.way.max_pause()) {
            if let (Some(calm), Some(now)) = (series.calm(|f| f.p999), series.p999()) {
                let most = calm + pause + BEYOND_PAUSE;
                let what = format!(
                    "client's p99.9 {} ms, wanted {}",
                    fine(Some(now)),
                    fine(Some(most))
                );
                goal(what, now <= most);
            }
            if let (1, Some(calm), Some(now)) = (
                pause.as_millis(),
                series.calm(|f| f.p99),
                series.felt(|f| f.p99),
            ) {
                let what = format!(
                    "client's p99 {} ms, wanted {}",
                    fine(Some(now)),
                    fine(Some(calm * 2))
                );
                goal(what, now <= calm * 2);
            }
        }
        if let Some(errors) = series.errors() {
            goal(
                format!("{errors} errors beyond redirections, wanted 0"),
                errors == 0,
            );
        }
    }
    lines
}
